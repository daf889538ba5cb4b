//! Memory statistics of each NUMA node, from /sys/devices/system/node/node*/{meminfo,numastat}. Cost a tick: a
//! listing, and two reads for each node.

use std::path::Path;

use super::devices::{Devices, number_after};
use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick, meminfo};
use crate::model::{Dynamic, Family, Kind, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

static FIELDS: Family = Family::gauge(
    "node_memory_numa_*",
    "A field of a NUMA node's meminfo, in bytes where it is a size.",
    &["node"],
);
static COUNTS: Family =
    Family::counter("node_memory_numa_*_total", "A field of a NUMA node's numastat, in pages.", &["node"]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "meminfo_numa",
    default_enabled: false,
    flags: &[],
    families: &[&FIELDS, &COUNTS],
    new: |setup| Ok(Box::new(Nodes { nodes: Devices::new(setup.paths.sys("devices/system/node")) })),
};

struct Nodes {
    nodes: Devices<Node>,
}

struct Node {
    number: String,
    meminfo: KeptFile,
    numastat: KeptFile,
}

impl Collector for Nodes {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        for node in self.nodes.refresh_if_any(Node::new)? {
            if let Err(error) = node.put(tick, out, &mut faults) {
                faults.note(|| error);
            }
        }
        faults.finish()
    }
}

impl Node {
    fn new(name: &str, folder: &Path) -> Option<Self> {
        Some(Node {
            number: number_after(name, "node")?.to_owned(),
            meminfo: KeptFile::whole(folder.join("meminfo")),
            numastat: KeptFile::whole(folder.join("numastat")),
        })
    }

    fn put(&mut self, tick: &mut Tick, out: &mut Recorder, faults: &mut Faults) -> Result<(), CollectError> {
        let Node { number, meminfo: file, numastat } = self;
        for (line_number, line) in text::ended_lines(file.read(&mut tick.buffer)?).enumerate() {
            let Some(field) = parse_meminfo(line, number) else {
                let expected = "expected `Node N Name: number [kB]`";
                faults.note(|| CollectError::malformed(file.path(), line_number + 1, expected));
                continue;
            };
            put(field.name, Kind::Gauge, number, field.value, out);
        }
        for (line_number, line) in text::ended_lines(numastat.read(&mut tick.buffer)?).enumerate() {
            let Some((name, count)) = parse_numastat(line) else {
                let expected = "expected a name and a number";
                faults.note(|| CollectError::malformed(numastat.path(), line_number + 1, expected));
                continue;
            };
            put([name, "_total", ""], Kind::Counter, number, count, out);
        }
        Ok(())
    }
}

fn put([first, second, third]: [&str; 3], kind: Kind, node: &str, value: f64, out: &mut Recorder) {
    let sample = Dynamic {
        name: &["node_memory_numa_", first, second, third],
        suffix: "",
        help: &["Field ", first, second, third, " of a NUMA node."],
        kind,
        labels: &[("node", node)],
    };
    out.put_dynamic(&sample, value);
}

/// `Node 0 MemTotal:   16042172 kB`.
fn parse_meminfo<'l>(line: &'l [u8], node: &str) -> Option<meminfo::Field<'l>> {
    let rest = line.strip_prefix(b"Node ")?.strip_prefix(node.as_bytes())?.strip_prefix(b" ")?;
    meminfo::parse_line(rest)
}

fn parse_numastat(line: &[u8]) -> Option<(&str, f64)> {
    let mut words = text::words(line);
    let name = text::as_str(words.next()?).filter(|name| text::is_name(name))?;
    let count = text::parse_u64(words.next()?)?;
    words.next().is_none().then_some((name, count as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_files() {
        let field = parse_meminfo(b"Node 1 Active(anon):    2048 kB", "1").unwrap();
        assert_eq!((field.name, field.value), (["Active", "_", "anon"], 2_097_152.0));
        assert!(parse_meminfo(b"Node 1 MemFree:    2048 kB", "0").is_none());
        assert!(parse_meminfo(b"Node 1 MemFree:", "1").is_none());
        assert_eq!(parse_numastat(b"numa_hit 7"), Some(("numa_hit", 7.0)));
        assert_eq!((parse_numastat(b"numa_hit"), parse_numastat(b"numa_hit 7 8")), (None, None));
    }
}
