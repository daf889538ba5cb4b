//! Slab caches of the kernel, from /proc/slabinfo 2.1 (slabinfo(5)): a line a cache. Cost a tick: one read a page.
//! The file is root's alone.

use super::error::Faults;
use super::{CollectError, Collector, Filter, Flag, FlagDefault, Registration, SetupError, Tick, tables};
use crate::model::{Family, Recorder};
use crate::sys::file::{KeptFile, ReadError};
use crate::sys::text;

const INCLUDE_FLAG: &str = "collector.slabinfo.slabs-include";
const EXCLUDE_FLAG: &str = "collector.slabinfo.slabs-exclude";

macro_rules! columns {
    ($($name:literal, $help:literal;)*) => {
        /// The columns after the name, in their order.
        static COLUMNS: [((), Family); 5] =
            [$(((), Family::gauge(concat!("node_slabinfo_", $name), $help, &["slab"]))),*];
    };
}

columns! {
    "active_objects", "Objects of a slab cache that are in use.";
    "objects", "Objects of a slab cache, in use or not.";
    "object_size_bytes", "Size of an object of a slab cache in bytes.";
    "objects_per_slab", "Objects in a slab of a slab cache.";
    "pages_per_slab", "Pages of a slab of a slab cache.";
}

static FAMILIES: [&Family; 5] = tables::families(&COLUMNS);

pub(super) static COLLECTOR: Registration = Registration {
    name: "slabinfo",
    default_enabled: false,
    flags: &[
        Flag::new(INCLUDE_FLAG, FlagDefault::Text(".*"), "Pattern of the slab caches to take."),
        Flag::new(EXCLUDE_FLAG, FlagDefault::Text(""), "Pattern of the slab caches to leave out."),
    ],
    families: &FAMILIES,
    new: |setup| {
        let filter = Filter::new(setup.flags.text(INCLUDE_FLAG), setup.flags.text(EXCLUDE_FLAG));
        Ok(Box::new(Slabinfo {
            file: KeptFile::records(setup.paths.proc("slabinfo"), LONGEST_LINE),
            filter: filter.map_err(SetupError::of("slabinfo"))?,
        }))
    },
};

/// A name, words between, and 11 numbers.
const LONGEST_LINE: usize = 512;

struct Slabinfo {
    file: KeptFile,
    filter: Filter,
}

impl Collector for Slabinfo {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let text = self.file.read(&mut tick.buffer).map_err(no_slabinfo)?;
        let mut faults = Faults::default();
        for (number, line) in text::ended_lines(text).enumerate() {
            if line.starts_with(b"slabinfo -") || line.starts_with(b"# name") {
                continue;
            }
            let Some((name, numbers)) = parse_line(line) else {
                let expected = "expected a name and five whole numbers, then tunables and slabdata";
                faults.note(|| CollectError::malformed(self.file.path(), number + 1, expected));
                continue;
            };
            if self.filter.ignores(name) {
                continue;
            }
            for ((_, family), number) in COLUMNS.iter().zip(numbers) {
                out.put(family, &[name], number as f64);
            }
        }
        faults.finish()
    }
}

/// Says what is needed where the file may not be read.
fn no_slabinfo(error: ReadError) -> CollectError {
    if error.source.kind() == std::io::ErrorKind::PermissionDenied {
        return CollectError::Other(format!("{error}: needs root or CAP_DAC_READ_SEARCH"));
    }
    CollectError::Read(error)
}

/// `dentry 704 864 256 32 2 : tunables 0 0 0 : slabdata 27 27 0`.
fn parse_line(line: &[u8]) -> Option<(&str, [u64; 5])> {
    let end = line.iter().position(|&b| b == b' ')?;
    let (name, mut rest) = line.split_at(end);
    let mut numbers = [0; 5];
    for number in &mut numbers {
        *number = text::take_u64(&mut rest)?;
    }
    // The words that end the numbers prove that the line is of the version that is known.
    let mut words = text::words(rest);
    let is_known = words.next() == Some(b":") && words.next() == Some(b"tunables");
    is_known.then_some((text::as_str(name)?, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_five_numbers() {
        let line =
            b"tw_sock_TCP          704    864    256   32    2 : tunables    0    0    0 : slabdata 27 27 0";
        assert_eq!(parse_line(line), Some(("tw_sock_TCP", [704, 864, 256, 32, 2])));
        for wrong in
            ["dentry", "dentry 1 2 3 4 : tunables", "dentry 1 2 3 4 5", "dentry 1 2 3 4 x : tunables"]
        {
            assert_eq!(parse_line(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_that_may_not_be_read_says_what_is_needed() {
        let source = std::io::Error::from_raw_os_error(libc::EACCES);
        let path: &std::path::Path = "/proc/slabinfo".as_ref();
        let error = no_slabinfo(ReadError { path: path.into(), source }).to_string();
        assert!(error.starts_with("/proc/slabinfo: Permission denied"), "{error}");
        assert!(error.ends_with("needs root or CAP_DAC_READ_SEARCH"), "{error}");
    }
}
