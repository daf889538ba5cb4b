//! What is read of a group, and what it says: a table of files, and a parser for each kind of them.

use std::path::PathBuf;

use hashbrown::HashMap;

use crate::model::{Family, Recorder};
use crate::sys::text;

pub(super) static CPU: Family = Family::counter(
    "node_cgroup_unit_cpu_seconds_total",
    "CPU time of a unit, in seconds, in user mode and in the kernel.",
    &["unit", "mode"],
);
pub(super) static THROTTLED: Family = Family::counter(
    "node_cgroup_unit_cpu_throttled_seconds_total",
    "Time for which a unit had to wait because its CPU quota was used up, in seconds.",
    &["unit"],
);
pub(super) static MEMORY: Family = Family::gauge(
    "node_cgroup_unit_memory_bytes",
    "Memory of a unit in bytes, the page cache that it filled included.",
    &["unit"],
);
pub(super) static MEMORY_LIMIT: Family = Family::gauge(
    "node_cgroup_unit_memory_limit_bytes",
    "Memory that a unit may have, in bytes; absent where it is not limited.",
    &["unit"],
);
pub(super) static FAULTS: Family = Family::counter(
    "node_cgroup_unit_page_faults_total",
    "Page faults of a unit, those that had to wait for a disk included.",
    &["unit"],
);
pub(super) static MAJOR_FAULTS: Family = Family::counter(
    "node_cgroup_unit_major_page_faults_total",
    "Page faults of a unit that had to wait for a disk.",
    &["unit"],
);
pub(super) static TASKS: Family =
    Family::gauge("node_cgroup_unit_tasks", "Processes and threads of a unit.", &["unit"]);
pub(super) static READ_BYTES: Family = Family::counter(
    "node_cgroup_unit_io_read_bytes_total",
    "Bytes that a unit read from a block device; what lies on another device counts for both.",
    &["unit", "device"],
);
pub(super) static WRITTEN_BYTES: Family = Family::counter(
    "node_cgroup_unit_io_written_bytes_total",
    "Bytes that a unit wrote to a block device; what lies on another device counts for both.",
    &["unit", "device"],
);
pub(super) static READS: Family = Family::counter(
    "node_cgroup_unit_io_reads_total",
    "Reads of a unit from a block device.",
    &["unit", "device"],
);
pub(super) static WRITES: Family = Family::counter(
    "node_cgroup_unit_io_writes_total",
    "Writes of a unit to a block device.",
    &["unit", "device"],
);

/// USER_HZ, which is 100 on every architecture that has Prometheus exporters.
const TICKS_PER_SECOND: f64 = 100.0;
const MICRO: f64 = 1e6;
const NANO: f64 = 1e9;
/// v1 says that there is no limit by one beyond all memory: 2^63 less a page.
const UNLIMITED_FROM: u64 = 1 << 62;
/// Devices whose names are remembered; above it they are looked up anew.
const MOST_DEVICES: usize = 1024;

/// A file of a group.
#[derive(Clone, Copy)]
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) content: Content,
}

/// What is in a file.
#[derive(Clone, Copy)]
pub(super) enum Content {
    /// `user_usec 12` and the like, a pair a line: those of these keys.
    Pairs(&'static [Pair]),
    /// A number, or `max` for none.
    Number(&'static Family),
    /// `8:0 rbytes=12 wbytes=3 rios=4 wios=5 dbytes=0 dios=0`.
    IoStat,
    /// `8:0 Read 12`, `8:0 Write 3`, others, and a total: what is read and what is written.
    Blkio([&'static Family; 2]),
}

const fn file(name: &'static str, content: Content) -> File {
    File { name, content }
}

static CPU_STAT: [Pair; 3] = [
    (b"user_usec", &CPU, Some("user"), MICRO),
    (b"system_usec", &CPU, Some("system"), MICRO),
    (b"throttled_usec", &THROTTLED, None, MICRO),
];
static CPU_STAT_V1: [Pair; 1] = [(b"throttled_time", &THROTTLED, None, NANO)];
static CPUACCT_STAT: [Pair; 2] =
    [(b"user", &CPU, Some("user"), TICKS_PER_SECOND), (b"system", &CPU, Some("system"), TICKS_PER_SECOND)];
static MEMORY_STAT: [Pair; 2] = [(b"pgfault", &FAULTS, None, 1.0), (b"pgmajfault", &MAJOR_FAULTS, None, 1.0)];
/// v1 has what a group itself does as well, under shorter names.
static MEMORY_STAT_V1: [Pair; 2] =
    [(b"total_pgfault", &FAULTS, None, 1.0), (b"total_pgmajfault", &MAJOR_FAULTS, None, 1.0)];

/// The files of cgroup v2, with the controller of v1 that stands for each.
pub(super) static V2: [(&str, File); 6] = [
    ("cpuacct", file("cpu.stat", Content::Pairs(&CPU_STAT))),
    ("memory", file("memory.current", Content::Number(&MEMORY))),
    ("memory", file("memory.max", Content::Number(&MEMORY_LIMIT))),
    ("memory", file("memory.stat", Content::Pairs(&MEMORY_STAT))),
    ("pids", file("pids.current", Content::Number(&TASKS))),
    ("blkio", file("io.stat", Content::IoStat)),
];

/// The controllers of cgroup v1, each with a hierarchy and files of its own.
pub(super) static V1: [(&str, &[File]); 5] = [
    ("cpu", &[file("cpu.stat", Content::Pairs(&CPU_STAT_V1))]),
    ("cpuacct", &[file("cpuacct.stat", Content::Pairs(&CPUACCT_STAT))]),
    (
        "memory",
        &[
            file("memory.usage_in_bytes", Content::Number(&MEMORY)),
            file("memory.limit_in_bytes", Content::Number(&MEMORY_LIMIT)),
            file("memory.stat", Content::Pairs(&MEMORY_STAT_V1)),
        ],
    ),
    ("pids", &[file("pids.current", Content::Number(&TASKS))]),
    (
        "blkio",
        &[
            file("blkio.throttle.io_service_bytes_recursive", Content::Blkio([&READ_BYTES, &WRITTEN_BYTES])),
            file("blkio.throttle.io_serviced_recursive", Content::Blkio([&READS, &WRITES])),
        ],
    ),
];

/// The line, from 1 on, and what was expected there.
type Fault = (usize, &'static str);

impl Content {
    /// Hands over what `text` says of that unit, up to the first line that makes no sense.
    pub(super) fn put(
        self,
        text: &[u8],
        unit: &str,
        devices: &mut Devices,
        out: &mut Recorder,
    ) -> Result<(), Fault> {
        match self {
            Content::Number(family) => {
                let limit = match text {
                    b"max" => return Ok(()),
                    number => text::parse_u64(number).ok_or((1, "expected a whole number or max"))?,
                };
                if limit < UNLIMITED_FROM {
                    out.put(family, &[unit], limit as f64);
                }
                Ok(())
            }
            Content::Pairs(pairs) => put_pairs(text, pairs, unit, out),
            Content::IoStat => each_line(text, |line| put_io(line, unit, devices, out)),
            Content::Blkio([reads, writes]) => each_line(text, |line| {
                let mut words = text::words(line);
                let (device, operation) = (words.next()?, words.next()?);
                if device == b"Total" {
                    return text::parse_u64(operation).map(|_| ());
                }
                let number = text::parse_u64(words.next()?)?;
                let family = match operation {
                    b"Read" => reads,
                    b"Write" => writes,
                    _ => return Some(()),
                };
                out.put(family, &[unit, devices.name(device)?], number as f64);
                Some(())
            }),
        }
    }
}

/// Calls `put` for each line that is not empty; it says `None` where the line makes no sense.
fn each_line(text: &[u8], mut put: impl FnMut(&[u8]) -> Option<()>) -> Result<(), Fault> {
    for (number, line) in text::lines(text).enumerate() {
        if !line.is_empty() {
            put(line).ok_or((number + 1, "expected a device and its numbers"))?;
        }
    }
    Ok(())
}

/// A key, its family, the mode of a CPU that it stands for, and what to divide by.
type Pair = (&'static [u8], &'static Family, Option<&'static str>, f64);

fn put_pairs(text: &[u8], pairs: &[Pair], unit: &str, out: &mut Recorder) -> Result<(), Fault> {
    for (number, line) in text::lines(text).enumerate() {
        let mut words = text::words(line);
        let pair = words.next().and_then(|key| pairs.iter().find(|pair| pair.0 == key));
        let Some((_, family, mode, scale)) = pair else { continue };
        let value = words.next().and_then(text::parse_u64).filter(|_| words.next().is_none());
        let value = value.ok_or((number + 1, "expected a key and a whole number"))? as f64 / scale;
        match mode {
            Some(mode) => out.put(family, &[unit, mode], value),
            None => out.put(family, &[unit], value),
        }
    }
    Ok(())
}

/// A line of io.stat. A device that has done nothing since it came may stand there alone.
fn put_io(line: &[u8], unit: &str, devices: &mut Devices, out: &mut Recorder) -> Option<()> {
    const KEYS: [(&[u8], &Family); 4] =
        [(b"rbytes", &READ_BYTES), (b"wbytes", &WRITTEN_BYTES), (b"rios", &READS), (b"wios", &WRITES)];
    let mut words = text::words(line);
    let device = devices.name(words.next()?)?;
    for word in words {
        let equals = word.iter().position(|&byte| byte == b'=')?;
        let Some((_, family)) = KEYS.iter().find(|(key, _)| *key == &word[..equals]) else { continue };
        out.put(family, &[unit, device], text::parse_u64(&word[equals + 1..])? as f64);
    }
    Some(())
}

/// The names of block devices by their numbers, such as `8:0`: looked up once, and kept while some unit uses them.
pub(super) struct Devices {
    folder: PathBuf,
    names: HashMap<String, Device>,
}

struct Device {
    name: String,
    is_used: bool,
}

impl Devices {
    pub(super) fn new(folder: PathBuf) -> Self {
        Devices { folder, names: HashMap::new() }
    }

    /// The number itself for one that has gone, `None` for what is no number.
    fn name(&mut self, number: &[u8]) -> Option<&str> {
        let number = text::as_str(number)?;
        let (major, minor) = number.split_once(':')?;
        if [major, minor].iter().any(|part| part.len() > 10 || text::parse_u64(part.as_bytes()).is_none()) {
            return None;
        }
        if !self.names.contains_key(number) {
            if self.names.len() == MOST_DEVICES {
                self.names.clear();
            }
            let link = std::fs::read_link(self.folder.join(number)).ok();
            let name = link.as_deref().and_then(|link| link.file_name()?.to_str()).unwrap_or(number);
            self.names.insert(number.to_owned(), Device { name: name.to_owned(), is_used: true });
        }
        let device = self.names.get_mut(number)?;
        device.is_used = true;
        Some(&device.name)
    }

    /// Ends a tick: forgets those that nobody named in it.
    pub(super) fn finish(&mut self) {
        self.names.retain(|_, device| std::mem::take(&mut device.is_used));
    }
}
