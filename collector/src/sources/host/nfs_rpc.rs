//! What /proc/net/rpc/nfs and nfsd have in common: lines of a key and whole numbers, some of which count the
//! procedures of a version of the protocol.

use super::error::Faults;
use super::{CollectError, Collector, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

/// The procedures of version 2 (RFC 1094), in the order of their numbers.
pub(super) const V2: [&str; 18] = [
    "Null", "GetAttr", "SetAttr", "Root", "Lookup", "ReadLink", "Read", "WrCache", "Write", "Create",
    "Remove", "Rename", "Link", "SymLink", "MkDir", "RmDir", "ReadDir", "FsStat",
];
/// The procedures of version 3 (RFC 1813).
pub(super) const V3: [&str; 22] = [
    "Null",
    "GetAttr",
    "SetAttr",
    "Lookup",
    "Access",
    "ReadLink",
    "Read",
    "Write",
    "Create",
    "MkDir",
    "SymLink",
    "MkNod",
    "Remove",
    "RmDir",
    "Rename",
    "Link",
    "ReadDir",
    "ReadDirPlus",
    "FsStat",
    "FsInfo",
    "PathConf",
    "Commit",
];

/// No kernel has as many procedures.
const MOST: usize = 256;

/// The family of each number of a line, in their order; `None` for those that are left out.
pub(super) type Columns = &'static [Option<(&'static Family, &'static [&'static str])>];

/// The collector of such a file.
pub(super) struct RpcFile {
    pub(super) file: KeptFile,
    /// Gives what a line says; `None` where it is not as it should be.
    pub(super) put_line: fn(&[u8], &mut Recorder) -> Option<()>,
}

impl Collector for RpcFile {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let text = self.file.read(&mut tick.buffer).map_err(CollectError::absent_is_no_data)?;
        let mut faults = Faults::default();
        for (number, line) in text::ended_lines(text).enumerate() {
            if (self.put_line)(line, out).is_none() {
                let expected = "expected a key and as many whole numbers as it has";
                faults.note(|| CollectError::malformed(self.file.path(), number + 1, expected));
            }
        }
        faults.finish()
    }
}

/// Gives the numbers of a line after its key, which may have more of them.
pub(super) fn put_columns(columns: Columns, mut line: &[u8], out: &mut Recorder) -> Option<()> {
    let mut check = line;
    for _ in columns {
        text::take_u64(&mut check)?;
    }
    for column in columns {
        let number = text::take_u64(&mut line)?;
        if let Some((family, labels)) = column {
            out.put(family, labels, number as f64);
        }
    }
    Some(())
}

/// Gives the counts of a line after its key: how many there are, and then one for each procedure. A procedure whose
/// name is empty is left out, one that this kernel does not know counts as 0 if at least `fewest` are there.
pub(super) fn put_procedures(
    family: &'static Family,
    version: &str,
    (procedures, fewest): (&[&str], usize),
    mut line: &[u8],
    out: &mut Recorder,
) -> Option<()> {
    let count = usize::try_from(text::take_u64(&mut line)?).ok().filter(|count| *count <= MOST)?;
    let mut numbers = [0; MOST];
    for number in &mut numbers[..count] {
        *number = text::take_u64(&mut line)?;
    }
    if count < fewest || !text::trim(line).is_empty() {
        return None;
    }
    for (procedure, number) in procedures.iter().zip(numbers).filter(|(name, _)| !name.is_empty()) {
        out.put(family, &[procedure, version], number as f64);
    }
    Some(())
}
