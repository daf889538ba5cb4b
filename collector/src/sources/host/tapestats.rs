//! Tape drives, from /sys/class/scsi_tape/st*/stats. Cost a tick: a listing, and ten reads for each drive.

use std::path::Path;

use super::devices::{Devices, Normal, Numbers, families, number_after, rows, unsigned};
use super::error::Faults;
use super::{CollectError, Collector, Filter, Flag, FlagDefault, Registration, SetupError, Tick};
use crate::model::Recorder;

const IGNORED_FLAG: &str = "collector.tapestats.ignored-devices";

rows! { NUMBERS &["device"];
    gauge "in_flight" "node_tape_io_now" unsigned, "Requests that the drive works on now.";
    counter "io_ns" "node_tape_io_time_seconds_total" nanoseconds, "Time spent on requests of all kinds, in seconds; those that move the tape too.";
    counter "other_cnt" "node_tape_io_others_total" unsigned, "Requests other than reads and writes.";
    counter "read_byte_cnt" "node_tape_read_bytes_total" unsigned, "Bytes read from the tape.";
    counter "read_cnt" "node_tape_reads_completed_total" unsigned, "Reads that were asked for.";
    counter "read_ns" "node_tape_read_time_seconds_total" nanoseconds, "Time spent on reads, in seconds.";
    counter "resid_cnt" "node_tape_residual_total" unsigned, "Reads and writes of which a part was left over.";
    counter "write_byte_cnt" "node_tape_written_bytes_total" unsigned, "Bytes written to the tape.";
    counter "write_cnt" "node_tape_writes_completed_total" unsigned, "Writes that were asked for.";
    counter "write_ns" "node_tape_write_time_seconds_total" nanoseconds, "Time spent on writes, in seconds.";
}

pub(super) static COLLECTOR: Registration = Registration {
    name: "tapestats",
    default_enabled: true,
    flags: &[Flag::new(IGNORED_FLAG, FlagDefault::Text("^$"), "Pattern of the tape drives to leave out.")],
    families: &families::<10>(&[NUMBERS], &[]),
    new: |setup| {
        let filter = Filter::new("", setup.flags.text(IGNORED_FLAG)).map_err(SetupError::of("tapestats"))?;
        Ok(Box::new(Tapes { devices: Devices::new(setup.paths.sys("class/scsi_tape")), filter }))
    },
};

struct Tapes {
    devices: Devices<Tape>,
    filter: Filter,
}

struct Tape {
    name: String,
    numbers: Numbers,
}

impl Collector for Tapes {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        let filter = &mut self.filter;
        for tape in self.devices.refresh(|name, folder| Tape::new(name, folder, filter))? {
            tape.numbers.put(&[&tape.name], &Normal::NEVER, tick, out, &mut faults);
        }
        faults.finish()
    }
}

impl Tape {
    /// `st0`, but none of the other doors to the same drive: `nst0`, `st0a`.
    fn new(name: &str, folder: &Path, filter: &mut Filter) -> Option<Self> {
        let is_drive = number_after(name, "st").is_some();
        (is_drive && !filter.ignores(name))
            .then(|| Tape { name: name.to_owned(), numbers: Numbers::new(NUMBERS, &folder.join("stats")) })
    }
}

fn nanoseconds(word: &[u8]) -> Option<f64> {
    unsigned(word).map(|number| number * 0.000_000_001)
}
