//! Free blocks of memory by size, from /proc/buddyinfo (proc_buddyinfo(5)): a line a zone.
//! Cost a tick: one read.

use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

static BLOCKS: Family =
    Family::gauge("node_buddyinfo_blocks", "Free blocks of 2^size pages each.", &["node", "zone", "size"]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "buddyinfo",
    default_enabled: false,
    flags: &[],
    families: &[&BLOCKS],
    new: |setup| {
        Ok(Box::new(Buddyinfo { file: KeptFile::records(setup.paths.proc("buddyinfo"), LONGEST_NODE) }))
    },
};

/// The lines of a node: six zones, each with names and eleven numbers.
const LONGEST_NODE: usize = 2048;

struct Buddyinfo {
    file: KeptFile,
}

impl Collector for Buddyinfo {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let text = self.file.read(&mut tick.buffer)?;
        let mut faults = Faults::default();
        for (number, line) in text::ended_lines(text).enumerate() {
            if put_zone(line, out).is_none() {
                let expected = "expected `Node 0, zone Name` and whole numbers";
                faults.note(|| CollectError::malformed(self.file.path(), number + 1, expected));
            }
        }
        faults.finish()
    }
}

/// `Node 0, zone   Normal   4381   1093 ...`
fn put_zone(line: &[u8], out: &mut Recorder) -> Option<()> {
    let (node, zone, counts) = text::parse_node_zone(line)?;
    if counts.clone().next().is_none() || counts.clone().any(|count| text::parse_u64(count).is_none()) {
        return None;
    }
    for (size, count) in counts.enumerate() {
        let size = text::Decimal::new(size as u64);
        out.put(&BLOCKS, &[node, zone, size.as_str()], text::parse_u64(count)? as f64);
    }
    Some(())
}
