//! Caches and tables of the network, from /proc/net/stat: a file each, with names in its first line and then
//! hexadecimal numbers, a line a CPU. Cost a tick: the folder is listed, and one read a file.

use std::path::Path;

use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Dynamic, Family, Kind, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::kept_entries::KeptEntries;
use crate::sys::text;

static COLUMNS: Family = Family::counter(
    "node_lnstat_*_total",
    "A column of a file of /proc/net/stat, by file and CPU.",
    &["subsystem", "cpu"],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "lnstat",
    default_enabled: false,
    flags: &[],
    families: &[&COLUMNS],
    new: |setup| {
        let files = KeptEntries::new(&setup.paths.proc("net/stat"), MOST_FILES);
        Ok(Box::new(Lnstat { files }))
    },
};

/// Kernels have some ten of them.
const MOST_FILES: usize = 64;
/// No file has as many columns.
const MOST_COLUMNS: usize = 64;
/// 20 columns of at most 16 digits.
const LONGEST_LINE: usize = 512;

struct Lnstat {
    files: KeptEntries<KeptFile>,
}

impl Collector for Lnstat {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        let listed = self.files.refresh(|_, _| true, |path| KeptFile::records(path, LONGEST_LINE));
        let left_out = listed.map_err(CollectError::absent_is_no_data)?;
        for (name, file) in self.files.iter_mut() {
            match file.read(&mut tick.buffer) {
                Ok(text) => put_file(name, file.path(), text, out, &mut faults),
                Err(error) => faults.note(|| error.into()),
            }
        }
        if left_out > 0 {
            faults.note(|| CollectError::Other(format!("more than {MOST_FILES} files in /proc/net/stat")));
        }
        faults.finish()
    }
}

fn put_file(name: &str, path: &Path, text: &[u8], out: &mut Recorder, faults: &mut Faults) {
    let mut lines = text::ended_lines(text);
    let mut columns = [""; MOST_COLUMNS];
    let mut count = 0;
    for word in text::words(lines.next().unwrap_or_default()) {
        match (columns.get_mut(count), text::as_str(word).filter(|word| text::is_name(word))) {
            (Some(slot), Some(column)) => *slot = column,
            _ => return faults.note(|| CollectError::malformed(path, 1, "expected names of columns")),
        }
        count += 1;
    }
    for (cpu, line) in lines.enumerate() {
        if put_cpu(name, &columns[..count], cpu, line, out).is_none() {
            let expected = "expected a hexadecimal number for each column";
            faults.note(|| CollectError::malformed(path, cpu + 2, expected));
        }
    }
}

/// Lines have no number of their CPU: they come in the order of CPUs.
fn put_cpu(name: &str, columns: &[&str], cpu: usize, line: &[u8], out: &mut Recorder) -> Option<()> {
    let words = text::words(line);
    if words.clone().count() != columns.len() {
        return None;
    }
    let cpu = text::Decimal::new(cpu as u64);
    for (column, word) in columns.iter().zip(words) {
        let sample = Dynamic {
            name: &["node_lnstat_", column, "_total"],
            suffix: "",
            help: &["Column ", column, " of the files of /proc/net/stat."],
            kind: Kind::Counter,
            labels: &[("subsystem", name), ("cpu", cpu.as_str())],
        };
        out.put_dynamic(&sample, text::parse_hex(word)? as f64);
    }
    Some(())
}
