//! Memory statistics, from /proc/meminfo (proc_meminfo(5)). Cost a tick: one read.
//!
//! Every line of the file is given, also those that node_exporter left out since 1.9.

use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Dynamic, Family, Kind, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

static FIELDS: Family = Family::gauge("node_memory_*", "A field of /proc/meminfo.", &[]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "meminfo",
    default_enabled: true,
    flags: &[],
    families: &[&FIELDS],
    new: |setup| Ok(Box::new(Meminfo { file: KeptFile::whole(setup.paths.proc("meminfo")) })),
};

struct Meminfo {
    file: KeptFile,
}

impl Collector for Meminfo {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let file = &mut self.file;
        let mut faults = Faults::default();
        for (number, line) in text::ended_lines(file.read(&mut tick.buffer)?).enumerate() {
            let Some(field) = parse_line(line) else {
                faults.note(|| {
                    CollectError::malformed(file.path(), number + 1, "expected `Name: number [kB]`")
                });
                continue;
            };
            let [name, joint, part] = field.name;
            let suffix = if field.in_bytes { "_bytes" } else { "" };
            let sample = Dynamic {
                name: &["node_memory_", name, joint, part, suffix],
                suffix: "",
                help: &["Field ", name, joint, part, " of /proc/meminfo."],
                kind: Kind::Gauge,
                labels: &[],
            };
            out.put_dynamic(&sample, field.value);
        }
        faults.finish()
    }
}

pub(super) struct Field<'a> {
    /// In pieces: `Active`, `_`, `anon` for `Active(anon)`.
    pub(super) name: [&'a str; 3],
    pub(super) value: f64,
    in_bytes: bool,
}

/// One line: `MemTotal:   16042172 kB`, or `HugePages_Total:   0`.
pub(super) fn parse_line(line: &[u8]) -> Option<Field<'_>> {
    let mut words = text::words(line);
    let name = metric_name(text::as_str(words.next()?)?.strip_suffix(':')?)?;
    #[expect(clippy::cast_precision_loss, reason = "a double is what the protocol has")]
    let number = text::parse_u64(words.next()?)? as f64;
    let in_bytes = words.next().is_some();
    Some(Field { name, value: if in_bytes { number * 1024.0 } else { number }, in_bytes })
}

/// `None` where it can't be part of a metric's name.
fn metric_name(field: &str) -> Option<[&str; 3]> {
    let [name, joint, part] = match field.split_once('(') {
        Some((name, part)) => [name, "_", part.trim_end_matches(')')],
        None => [field, "", ""],
    };
    (text::is_name(name) && (joint.is_empty() || text::is_name(part))).then_some([name, joint, part])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilobytes_become_bytes_and_brackets_go() {
        let field = parse_line(b"Active(anon):    2068484 kB").unwrap();
        let name = field.name.concat();
        assert_eq!((name.as_str(), field.value, field.in_bytes), ("Active_anon", 2_118_127_616.0, true));
        assert!(!parse_line(b"HugePages_Total:       0").unwrap().in_bytes);
        for cut in ["MemTotal", "MemTotal:", "MemTotal: x kB", "Mem.Total: 1 kB", "Active(: 1"] {
            assert!(parse_line(cut.as_bytes()).is_none(), "{cut}");
        }
    }
}
