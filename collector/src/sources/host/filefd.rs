//! Open file descriptions of the whole system, from /proc/sys/fs/file-nr (proc_sys_fs(5)).
//! Cost a tick: one small read.

use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

static ALLOCATED: Family = Family::gauge("node_filefd_allocated", "Files that are open on this host.", &[]);
static MAXIMUM: Family = Family::gauge("node_filefd_maximum", "Files that may be open on this host.", &[]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "filefd",
    default_enabled: true,
    flags: &[],
    families: &[&ALLOCATED, &MAXIMUM],
    new: |setup| Ok(Box::new(Filefd { file: KeptFile::whole(setup.paths.proc("sys/fs/file-nr")) })),
};

struct Filefd {
    file: KeptFile,
}

impl Collector for Filefd {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let (allocated, maximum) = parse_file_nr(self.file.read(&mut tick.buffer)?)
            .ok_or_else(|| CollectError::malformed(self.file.path(), 1, "expected three whole numbers"))?;
        out.put(&ALLOCATED, &[], allocated);
        out.put(&MAXIMUM, &[], maximum);
        Ok(())
    }
}

/// The first and the third number; the second has been 0 since Linux 2.6.
fn parse_file_nr(text: &[u8]) -> Option<(f64, f64)> {
    let mut numbers = text::words(text).map(text::parse_u64);
    let (allocated, _, maximum) = (numbers.next()??, numbers.next()??, numbers.next()??);
    Some((allocated as f64, maximum as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_numbers_or_nothing() {
        assert_eq!(parse_file_nr(b"1024\t0\t1631329\n"), Some((1024.0, 1_631_329.0)));
        assert_eq!(parse_file_nr(b"1024\t0\n"), None);
        assert_eq!(parse_file_nr(b"1024\t0\t-1\n"), None);
    }
}
