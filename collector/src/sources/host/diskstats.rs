//! I/O of block devices, from /proc/diskstats (Documentation/admin-guide/iostats.rst), and what udev and sysfs
//! know of each device. Cost a tick: one read, and one `stat` of udev's folder: the facts of a device are read
//! once, and again when udev has written anything or another device has its name.

mod udev;

use std::path::PathBuf;

use udev::{Facts, Udev};

use super::error::Faults;
use super::{CollectError, Collector, Filter, Flag, FlagDefault, Registration, SetupError, Tick};
use crate::model::{Family, Kind, Recorder};
use crate::sys::file::{KeptFile, read_once};
use crate::sys::text;

const EXCLUDE_FLAG: &str = "collector.diskstats.device-exclude";
const INCLUDE_FLAG: &str = "collector.diskstats.device-include";
const OLD_EXCLUDE_FLAG: &str = "collector.diskstats.ignored-devices";
const DEFAULT_EXCLUDE: &str = r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$";

const DEVICE: &[&str] = &["device"];
/// The kernel's sector, whatever that of the device.
const SECTOR: f64 = 512.0;
/// By multiplication, so that the last digits are as in node_exporter.
const MILLISECOND: f64 = 1.0 / 1000.0;

static INFO: Family = Family::gauge(
    "node_disk_info",
    "What is known of a block device; always 1.",
    &["device", "major", "minor", "path", "wwn", "model", "serial", "revision", "rotational"],
);

macro_rules! columns {
    ($($kind:ident $name:literal * $factor:expr, $help:literal;)*) => {
        /// The columns after the name of the device, in their order, and what one of each is worth.
        static COLUMNS: &[(Family, f64)] =
            &[$((Family::new(Kind::$kind, concat!("node_disk_", $name), $help, DEVICE), $factor)),*];
    };
}

columns! {
    Counter "reads_completed_total" * 1.0, "Reads that were completed.";
    Counter "reads_merged_total" * 1.0, "Reads that were merged into others.";
    Counter "read_bytes_total" * SECTOR, "Bytes that were read.";
    Counter "read_time_seconds_total" * MILLISECOND, "Time that all reads took in sum.";
    Counter "writes_completed_total" * 1.0, "Writes that were completed.";
    Counter "writes_merged_total" * 1.0, "Writes that were merged into others.";
    Counter "written_bytes_total" * SECTOR, "Bytes that were written.";
    Counter "write_time_seconds_total" * MILLISECOND, "Time that all writes took in sum.";
    Gauge "io_now" * 1.0, "Requests under way.";
    Counter "io_time_seconds_total" * MILLISECOND, "Time in which some request was under way.";
    Counter "io_time_weighted_seconds_total" * MILLISECOND, "Time that requests were under way in sum.";
    Counter "discards_completed_total" * 1.0, "Discards that were completed.";
    Counter "discards_merged_total" * 1.0, "Discards that were merged into others.";
    Counter "discarded_sectors_total" * 1.0, "Sectors of 512 bytes that were discarded.";
    Counter "discard_time_seconds_total" * MILLISECOND, "Time that all discards took in sum.";
    Counter "flush_requests_total" * 1.0, "Flushes that were completed.";
    Counter "flush_requests_time_seconds_total" * MILLISECOND, "Time that all flushes took in sum.";
}

pub(super) static COLLECTOR: Registration = Registration {
    name: "diskstats",
    default_enabled: true,
    flags: &[
        Flag::new(
            EXCLUDE_FLAG,
            FlagDefault::Text(DEFAULT_EXCLUDE),
            "Pattern of the devices to leave out (not with device-include).",
        ),
        Flag::new(
            INCLUDE_FLAG,
            FlagDefault::Text(""),
            "Pattern of the devices to take (not with device-exclude).",
        ),
        Flag::alias(OLD_EXCLUDE_FLAG, EXCLUDE_FLAG),
    ],
    families: FAMILIES,
    new: |setup| {
        let include = (INCLUDE_FLAG, "");
        let filter = Filter::from_flags(setup.flags, include, (EXCLUDE_FLAG, OLD_EXCLUDE_FLAG));
        Ok(Box::new(Diskstats {
            file: KeptFile::records(setup.paths.proc("diskstats"), LONGEST_LINE),
            filter: filter.map_err(SetupError::of("diskstats"))?,
            udev: Udev::new(&setup.paths.udev_data),
            sysfs: setup.paths.sys("block"),
            devices: Vec::new(),
        }))
    },
};

/// Every family, [`COLUMNS`] among them.
static FAMILIES: &[&Family] = &{
    let mut families = [&INFO; 23];
    let mut column = 0;
    while column < COLUMNS.len() {
        families[column + 1] = &COLUMNS[column].0;
        column += 1;
    }
    families[18] = &udev::FILESYSTEM;
    families[19] = &udev::DEVICE_MAPPER;
    families[20] = &udev::ATA[0].1;
    families[21] = &udev::ATA[1].1;
    families[22] = &udev::ATA[2].1;
    families
};

/// A name and 20 numbers.
const LONGEST_LINE: usize = 512;

struct Diskstats {
    file: KeptFile,
    filter: Filter,
    udev: Udev,
    /// /sys/block.
    sysfs: PathBuf,
    /// In the order of the file, without those left out.
    devices: Vec<Device>,
}

/// A device and what stays the same of it.
struct Device {
    name: String,
    major: u64,
    minor: u64,
    facts: Facts,
    /// As a binary number, for that is what node_exporter prints.
    rotational: String,
}

impl Collector for Diskstats {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        if self.udev.has_changed() {
            self.devices.clear();
        }
        let text = self.file.read(&mut tick.buffer)?;
        let mut faults = Faults::default();
        let mut count = 0;
        for (number, line) in text::ended_lines(text).enumerate() {
            let Some((major, minor, name)) = parse_device(line) else {
                let expected = "expected major and minor number, name, and numbers";
                faults.note(|| CollectError::malformed(self.file.path(), number + 1, expected));
                continue;
            };
            if self.filter.ignores(name) {
                continue;
            }
            let is_same =
                |device: &Device| device.name == name && (device.major, device.minor) == (major, minor);
            if !self.devices.get(count).is_some_and(is_same) {
                let device = match self.devices[count.min(self.devices.len())..].iter().position(is_same) {
                    Some(later) => self.devices.remove(count + later),
                    None => {
                        Device::read(name, (major, minor), &mut self.udev, &self.sysfs, &mut tick.scratch)
                    }
                };
                self.devices.insert(count, device);
            }
            if self.devices[count].put(line, out).is_none() {
                let expected = "expected whole numbers after the name";
                faults.note(|| CollectError::malformed(self.file.path(), number + 1, expected));
            }
            count += 1;
        }
        self.devices.truncate(count);
        faults.finish()
    }
}

fn parse_device(line: &[u8]) -> Option<(u64, u64, &str)> {
    let mut words = text::words(line);
    Some((text::parse_u64(words.next()?)?, text::parse_u64(words.next()?)?, text::as_str(words.next()?)?))
}

impl Device {
    fn read(
        name: &str,
        (major, minor): (u64, u64),
        udev: &mut Udev,
        sysfs: &std::path::Path,
        buffer: &mut Vec<u8>,
    ) -> Self {
        // sysfs writes a `!` where the name has a slash.
        let rotational = sysfs.join(name.replace('/', "!")).join("queue/rotational");
        let rotational =
            read_once(&rotational, buffer).ok().and_then(|text| text::parse_u64(text::trim(text)));
        Device {
            name: name.to_owned(),
            major,
            minor,
            facts: udev.read(major, minor, buffer),
            rotational: format!("{:b}", rotational.unwrap_or(0)),
        }
    }

    /// Gives the facts, and the columns of its line up to one that is no number.
    fn put(&self, line: &[u8], out: &mut Recorder) -> Option<()> {
        let facts = &self.facts;
        let (major, minor) = (text::Decimal::new(self.major), text::Decimal::new(self.minor));
        let known =
            [&facts.path, &facts.wwn, &facts.model, &facts.serial, &facts.revision].map(String::as_str);
        let [path, wwn, model, serial, revision] = known;
        let (major, minor) = (major.as_str(), minor.as_str());
        out.put(
            &INFO,
            &[&self.name, major, minor, path, wwn, model, serial, revision, &self.rotational],
            1.0,
        );
        facts.put(&self.name, out);
        let mut columns = COLUMNS.iter().zip(text::words(line).skip(3));
        columns.try_for_each(|((family, factor), word)| {
            out.put(family, &[&self.name], text::parse_u64(word)? as f64 * factor);
            Some(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_its_device() {
        assert_eq!(parse_device(b" 259       0 nvme0n1 47114 4"), Some((259, 0, "nvme0n1")));
        for wrong in ["259 0", "x 0 sda 1", "", "259"] {
            assert_eq!(parse_device(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn partitions_are_left_out_by_default() {
        let mut filter = Filter::new("", DEFAULT_EXCLUDE).unwrap();
        for (name, ignored) in [
            ("sda", false),
            ("sda1", true),
            ("xvda1", true),
            ("nvme0n1", false),
            ("nvme0n1p2", true),
            ("ram0", true),
            ("zram0", true),
            ("loop12", true),
            ("dm-0", false),
            ("mmcblk0p1", false),
        ] {
            assert_eq!(filter.ignores(name), ignored, "{name}");
        }
    }

    #[test]
    fn the_table_names_every_family() {
        let names: std::collections::HashSet<_> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
    }
}
