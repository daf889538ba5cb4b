//! Memory errors that the memory controllers found, from /sys/devices/system/edac/mc. Cost a tick: a listing,
//! four reads for each controller, two for each row, and up to three for each channel of a row.

use std::path::Path;

use super::devices::{Devices, Label, Normal, Numbers, families, number_after, read_labels, rows, unsigned};
use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::Recorder;

rows! { CONTROLLER &["controller"];
    counter "ce_count" "node_edac_correctable_errors_total" unsigned, "Memory errors that were corrected.";
    counter "ue_count" "node_edac_uncorrectable_errors_total" unsigned, "Memory errors that could not be corrected.";
}

// The errors of a controller whose row is not known; then those of a row.
rows! { NO_ROW &["controller", "csrow"];
    counter "ce_noinfo_count" "node_edac_csrow_correctable_errors_total" unsigned, "Memory errors in a row (of chip selects) that were corrected.";
    counter "ue_noinfo_count" "node_edac_csrow_uncorrectable_errors_total" unsigned, "Memory errors in a row (of chip selects) that could not be corrected.";
}
rows! { ROW &["controller", "csrow"];
    counter "ce_count" "node_edac_csrow_correctable_errors_total" unsigned, "Memory errors in a row (of chip selects) that were corrected.";
    counter "ue_count" "node_edac_csrow_uncorrectable_errors_total" unsigned, "Memory errors in a row (of chip selects) that could not be corrected.";
}

// The files of a channel are named after it: these are what follows.
rows! { CHANNEL &["controller", "csrow", "channel", "dimm_label"];
    counter "_ce_count" "node_edac_channel_correctable_errors_total" unsigned, "Memory errors in a channel of a row that were corrected.";
    counter "_ue_count" "node_edac_channel_uncorrectable_errors_total" unsigned, "Memory errors in a channel of a row that could not be corrected.";
}

pub(super) static COLLECTOR: Registration = Registration {
    name: "edac",
    default_enabled: true,
    flags: &[],
    families: &families::<6>(&[CONTROLLER, ROW, CHANNEL], &[]),
    new: |setup| Ok(Box::new(Edac { controllers: Devices::new(setup.paths.sys("devices/system/edac/mc")) })),
};

struct Edac {
    controllers: Devices<Controller>,
}

struct Controller {
    number: String,
    own: Numbers,
    without_row: Numbers,
    rows: Devices<MemoryRow>,
}

struct MemoryRow {
    number: String,
    own: Numbers,
    channels: Devices<Channel>,
}

struct Channel {
    number: String,
    /// As the kernel says it, and as a label.
    raw_label: Label,
    known: String,
    label: String,
    numbers: Numbers,
}

impl Collector for Edac {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        for controller in self.controllers.refresh_if_any(Controller::new)? {
            if let Err(error) = controller.put(tick, out, &mut faults) {
                faults.note(|| error);
            }
        }
        faults.finish()
    }
}

impl Controller {
    fn new(name: &str, folder: &Path) -> Option<Self> {
        Some(Controller {
            number: number_after(name, "mc")?.to_owned(),
            own: Numbers::new(CONTROLLER, folder),
            without_row: Numbers::new(NO_ROW, folder),
            rows: Devices::new(folder),
        })
    }

    fn put(&mut self, tick: &mut Tick, out: &mut Recorder, faults: &mut Faults) -> Result<(), CollectError> {
        let Controller { number, own, without_row, rows } = self;
        own.put(&[number], &Normal::NEVER, tick, out, faults);
        without_row.put(&[number, "unknown"], &Normal::NEVER, tick, out, faults);
        for row in rows.refresh_seldom(MemoryRow::new)? {
            row.own.put(&[number, &row.number], &Normal::NEVER, tick, out, faults);
            for channel in row.channels.refresh_seldom(Channel::new)? {
                if channel.read_label(tick, faults) {
                    let labels = [number, &row.number, &channel.number, &channel.label].map(String::as_str);
                    channel.numbers.put(&labels, &Normal::NEVER, tick, out, faults);
                }
            }
        }
        Ok(())
    }
}

impl MemoryRow {
    fn new(name: &str, folder: &Path) -> Option<Self> {
        Some(MemoryRow {
            number: number_after(name, "csrow")?.to_owned(),
            own: Numbers::new(ROW, folder),
            channels: Devices::new(folder),
        })
    }
}

impl Channel {
    /// One for each file `ch0_ce_count`.
    fn new(name: &str, path: &Path) -> Option<Self> {
        let number = number_after(name.strip_suffix("_ce_count")?, "ch")?;
        let start = path.with_file_name(format!("ch{number}"));
        let with = |end: &str| format!("{}{end}", start.display());
        Some(Channel {
            number: number.to_owned(),
            raw_label: Label::changing(with("_dimm_label")),
            known: String::new(),
            label: dimm_label(""),
            numbers: Numbers::of(CHANNEL, |file| with(file).into()),
        })
    }

    /// Whether it could be read, or there is none.
    fn read_label(&mut self, tick: &mut Tick, faults: &mut Faults) -> bool {
        let is_read = read_labels([&mut self.raw_label], &Normal::NEVER, tick, faults);
        if self.raw_label.text() != self.known {
            self.raw_label.text().clone_into(&mut self.known);
            self.label = dimm_label(&self.known);
        }
        is_read
    }
}

/// `mc#0csrow#1channel#0` -> `mc0_csrow1_channel0`.
fn dimm_label(raw: &str) -> String {
    if raw.is_empty() {
        return "unknown".to_owned();
    }
    raw.replace('#', "").replace("csrow", "_csrow").replace("channel", "_channel")
}
