//! Statistics of bcachefs file systems, from /sys/fs/bcachefs/UUID. Cost a tick: a listing, a read for each of
//! some hundred counters, five more for each file system, and seven for each of its devices.

mod parse;

use std::path::Path;

use parse::human;

use super::devices::{
    Devices, Label, Normal, Numbers, families, number_after, read_labels, rows, sanitize, unsigned,
};
use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Dynamic, Family, Kind, Recorder};
use crate::sys::sysfs::Attribute;

const UUID: &[&str] = &["uuid"];
const DEVICE: &[&str] = &["uuid", "device"];

static INFO: Family = Family::gauge("node_bcachefs_info", "A bcachefs file system; always 1.", UUID);
static COUNTER: Family = Family::counter(
    "node_bcachefs_*_total",
    "A counter of the file system, since it was made; sizes are in bytes.",
    UUID,
);
static COMPRESSED: Family = Family::gauge(
    "node_bcachefs_compression_compressed_bytes",
    "Size of compressed data as it is stored, in bytes.",
    &["uuid", "algorithm"],
);
static UNCOMPRESSED: Family = Family::gauge(
    "node_bcachefs_compression_uncompressed_bytes",
    "Size of compressed data before it was compressed, in bytes.",
    &["uuid", "algorithm"],
);
static ERRORS: Family = Family::counter(
    "node_bcachefs_errors_total",
    "Errors found in the file system.",
    &["uuid", "error_type"],
);
static WRITES: Family =
    Family::counter("node_bcachefs_btree_writes_total", "Writes of nodes of the trees.", &["uuid", "type"]);
static WRITE_SIZE: Family = Family::gauge(
    "node_bcachefs_btree_write_average_size_bytes",
    "Average size of writes of nodes of the trees, in bytes.",
    &["uuid", "type"],
);
static DEVICE_INFO: Family = Family::gauge(
    "node_bcachefs_device_info",
    "A device of a file system, its label, and the states that it can be in, the present one in brackets; always 1.",
    &["uuid", "device", "label", "state"],
);
static IO_DONE: Family = Family::counter(
    "node_bcachefs_device_io_done_bytes_total",
    "Bytes read from and written to a device, by what they are for.",
    &["uuid", "device", "operation", "data_type"],
);
static IO_ERRORS: Family = Family::counter(
    "node_bcachefs_device_io_errors_total",
    "Errors of a device since the file system was made.",
    &["uuid", "device", "type"],
);

rows! { SYSTEM UUID;
    gauge "btree_cache_size" "node_bcachefs_btree_cache_size_bytes" human, "Memory that caches the trees, in bytes.";
}
rows! { DEVICE_NUMBERS DEVICE;
    gauge "bucket_size" "node_bcachefs_device_bucket_size_bytes" human, "Size of a device's buckets, in bytes.";
    gauge "nbuckets" "node_bcachefs_device_buckets" unsigned, "Buckets of a device.";
    gauge "durability" "node_bcachefs_device_durability" unsigned, "As how many copies data on a device counts.";
}

pub(super) static COLLECTOR: Registration = Registration {
    name: "bcachefs",
    default_enabled: true,
    flags: &[],
    families: &families::<14>(
        &[SYSTEM, DEVICE_NUMBERS],
        &[
            &INFO,
            &COUNTER,
            &COMPRESSED,
            &UNCOMPRESSED,
            &ERRORS,
            &WRITES,
            &WRITE_SIZE,
            &DEVICE_INFO,
            &IO_DONE,
            &IO_ERRORS,
        ],
    ),
    new: |setup| Ok(Box::new(Bcachefs { systems: Devices::new(setup.paths.sys("fs/bcachefs")) })),
};

struct Bcachefs {
    systems: Devices<System>,
}

struct System {
    uuid: String,
    numbers: Numbers,
    compression: Attribute,
    errors: Attribute,
    writes: Attribute,
    counters: Devices<Counter>,
    devices: Devices<Device>,
}

struct Counter {
    name: String,
    file: Attribute,
}

struct Device {
    name: String,
    /// label, state
    labels: [Label; 2],
    numbers: Numbers,
    done: Attribute,
    errors: Attribute,
}

impl Collector for Bcachefs {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let systems = self.systems.refresh(System::new)?;
        if systems.is_empty() {
            return Err(CollectError::NoData("no bcachefs is mounted".into()));
        }
        let mut faults = Faults::default();
        for system in systems {
            system.put(tick, out, &mut faults);
        }
        faults.finish()
    }
}

impl System {
    fn new(uuid: &str, folder: &Path) -> Option<Self> {
        let [compression, errors, writes] = ["compression_stats", "errors", "btree_write_stats"]
            .map(|file| Attribute::new(folder.join(file)));
        folder.is_dir().then(|| System {
            uuid: uuid.to_owned(),
            numbers: Numbers::new(SYSTEM, folder),
            compression,
            errors,
            writes,
            counters: Devices::new(folder.join("counters")),
            devices: Devices::new(folder),
        })
    }

    fn put(&mut self, tick: &mut Tick, out: &mut Recorder, faults: &mut Faults) {
        let uuid = self.uuid.as_str();
        out.put(&INFO, &[uuid], 1.0);
        self.numbers.put(&[uuid], &Normal::NEVER, tick, out, faults);
        read_lines(&mut self.compression, tick, faults, |number, line| {
            let Some(row) = parse::table_row(line).filter(|_| number > 0) else { return Some(()) };
            let (compressed, uncompressed) = (human(row.second)?, human(row.third)?);
            out.put(&COMPRESSED, &[uuid, row.name], compressed);
            out.put(&UNCOMPRESSED, &[uuid, row.name], uncompressed);
            Some(())
        });
        read_lines(&mut self.errors, tick, faults, |_, line| {
            let Some((name, count)) = parse::name_and_word(line) else { return Some(()) };
            out.put(&ERRORS, &[uuid, name], unsigned(count)?);
            Some(())
        });
        read_lines(&mut self.writes, tick, faults, |number, line| {
            let Some(row) = parse::table_row(line).filter(|_| number > 0) else { return Some(()) };
            let (writes, size) = (unsigned(row.second)?, human(row.third)?);
            out.put(&WRITES, &[uuid, row.name], writes);
            out.put(&WRITE_SIZE, &[uuid, row.name], size);
            Some(())
        });
        match self.counters.refresh_seldom(Counter::new) {
            Ok(counters) => counters.iter_mut().for_each(|counter| counter.put(uuid, tick, out, faults)),
            Err(error) => faults.note(|| error),
        }
        match self.devices.refresh_seldom(Device::new) {
            Ok(devices) => devices.iter_mut().for_each(|device| device.put(uuid, tick, out, faults)),
            Err(error) => faults.note(|| error),
        }
    }
}

impl Counter {
    #[expect(clippy::unnecessary_wraps, reason = "as Devices::refresh calls it")]
    fn new(name: &str, path: &Path) -> Option<Self> {
        Some(Counter { name: sanitize(name), file: Attribute::new(path) })
    }

    fn put(&mut self, uuid: &str, tick: &mut Tick, out: &mut Recorder, faults: &mut Faults) {
        let text = match self.file.read(&mut tick.buffer) {
            Ok(Some(text)) => text,
            Ok(None) => return,
            Err(error) => return faults.note(|| error.into()),
        };
        let Some(count) = parse::counter(text) else {
            let expected = "expected `since filesystem creation: number`";
            return faults.note(|| CollectError::malformed(self.file.path(), 1, expected));
        };
        let sample = Dynamic {
            name: &["node_bcachefs_", &self.name, "_total"],
            suffix: "",
            help: &["Counter ", &self.name, " of a bcachefs file system, since it was made."],
            kind: Kind::Counter,
            labels: &[("uuid", uuid)],
        };
        out.put_dynamic(&sample, count);
    }
}

impl Device {
    fn new(name: &str, folder: &Path) -> Option<Self> {
        let [done, errors] = ["io_done", "io_errors"].map(|file| Attribute::new(folder.join(file)));
        Some(Device {
            name: number_after(name, "dev-")?.to_owned(),
            labels: ["label", "state"].map(|file| Label::changing(folder.join(file))),
            numbers: Numbers::new(DEVICE_NUMBERS, folder),
            done,
            errors,
        })
    }

    fn put(&mut self, uuid: &str, tick: &mut Tick, out: &mut Recorder, faults: &mut Faults) {
        let name = self.name.as_str();
        if read_labels(&mut self.labels, &Normal::NEVER, tick, faults) {
            let [label, state] = self.labels.each_ref().map(Label::text);
            out.put(&DEVICE_INFO, &[uuid, name, label, state], 1.0);
        }
        self.numbers.put(&[uuid, name], &Normal::NEVER, tick, out, faults);
        let mut operation = "";
        read_lines(&mut self.done, tick, faults, |_, line| {
            match line.trim_ascii() {
                b"read:" => operation = "read",
                b"write:" => operation = "write",
                line => {
                    let Some((kind, bytes)) = parse::name_and_value(line).filter(|_| !operation.is_empty())
                    else {
                        return Some(());
                    };
                    out.put(&IO_DONE, &[uuid, name, operation, kind], unsigned(bytes)?);
                }
            }
            Some(())
        });
        let mut is_since_creation = false;
        read_lines(&mut self.errors, tick, faults, |_, line| {
            if line.starts_with(b"IO errors since ") {
                is_since_creation = line.starts_with(b"IO errors since filesystem creation");
            } else if let Some((kind, count)) = parse::name_and_value(line).filter(|_| is_since_creation) {
                out.put(&IO_ERRORS, &[uuid, name, kind], unsigned(count)?);
            }
            Some(())
        });
    }
}

/// Reads a file that may be absent; `take` gets each line and says `None` to one that is not as it should be.
fn read_lines(
    file: &mut Attribute,
    tick: &mut Tick,
    faults: &mut Faults,
    mut take: impl FnMut(usize, &[u8]) -> Option<()>,
) {
    let text = match file.read_line(&mut tick.buffer) {
        Ok(text) => text.unwrap_or_default(),
        Err(error) => return faults.note(|| error.into()),
    };
    for (number, line) in crate::sys::text::lines(text).enumerate() {
        if take(number, line).is_none() {
            faults.note(|| CollectError::malformed(file.path(), number + 1, "expected a number"));
        }
    }
}
