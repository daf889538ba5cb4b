//! The processes in /proc, whose folder stays open. Cost of a walk: three system calls for every some thousand of them,
//! and three for each file that is read of a process. No memory.

use std::ffi::CStr;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::CollectError;
use crate::sys::file::ReadError;
use crate::sys::folder::Folder;

/// Room for a line of /proc/PID/stat: 52 numbers of up to 20 digits, and a name of up to 64 bytes.
pub(super) const STAT_BYTES: usize = 2048;

/// The folder.
pub(super) struct Pids {
    path: Arc<Path>,
    folder: Option<Folder>,
}

impl Pids {
    pub(super) fn new(procfs: &Path) -> Self {
        Pids { path: procfs.into(), folder: None }
    }

    /// Calls `each` for every process.
    pub(super) fn each(
        &mut self,
        buffer: &mut Vec<u8>,
        mut each: impl FnMut(&Process<'_>) -> Result<(), CollectError>,
    ) -> Result<(), CollectError> {
        let fail = |source| ReadError { path: self.path.clone(), source };
        let folder = match &mut self.folder {
            Some(folder) => {
                folder.rewind().map_err(fail)?;
                folder
            }
            none => none.insert(Folder::open(&self.path).map_err(fail)?),
        };
        loop {
            let batch = folder.next_entries(buffer).map_err(fail)?;
            if batch.is_end() {
                return Ok(());
            }
            for entry in batch.filter(|entry| is_number(entry.name)) {
                each(&Process { folder, root: &self.path, pid: entry.name })?;
            }
        }
    }
}

/// One of them, as it was listed.
pub(super) struct Process<'a> {
    pub(super) folder: &'a Folder,
    pub(super) root: &'a Path,
    pub(super) pid: &'a [u8],
}

impl Process<'_> {
    /// Reads a file of it, which is named with its slash, as far as the room goes. `None` if the process has gone.
    pub(super) fn read<'b>(&self, file: &[u8], room: &'b mut [u8]) -> Result<Option<&'b [u8]>, CollectError> {
        read_in(self.folder, &SubPath::new(&[self.pid, file]), room, self.root)
    }

    /// The error for a file of it that makes no sense.
    pub(super) fn malformed(&self, file: &[u8], what: &'static str) -> CollectError {
        let path = self.root.join(SubPath::new(&[self.pid, file]).as_str());
        CollectError::malformed(&path, 1, what)
    }
}

/// Reads a file below `folder`; `None` if the process or thread is gone.
pub(super) fn read_in<'b>(
    folder: &Folder,
    path: &SubPath,
    room: &'b mut [u8],
    root: &Path,
) -> Result<Option<&'b [u8]>, CollectError> {
    match folder.read_in(path.as_c_str(), room) {
        Ok(length) => Ok(Some(&room[..length])),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(path.error(root, error)),
    }
}

pub(super) fn is_number(name: &[u8]) -> bool {
    name.first().is_some_and(u8::is_ascii_digit)
}

/// It went between being listed and being read.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// A path below /proc, on the stack.
pub(super) struct SubPath {
    bytes: [u8; SubPath::ROOM],
}

impl SubPath {
    /// A number of ten digits, a slash, and the name of a file.
    const ROOM: usize = 32;

    /// What does not fit is cut off; no number of a process is that long.
    pub(super) fn new(pieces: &[&[u8]]) -> Self {
        let mut bytes = [0; SubPath::ROOM];
        let joined = pieces.iter().flat_map(|piece| piece.iter());
        bytes[..SubPath::ROOM - 1].iter_mut().zip(joined).for_each(|(to, from)| *to = *from);
        SubPath { bytes }
    }

    pub(super) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }

    pub(super) fn as_str(&self) -> &str {
        self.as_c_str().to_str().unwrap_or_default()
    }

    pub(super) fn error(&self, root: &Path, source: io::Error) -> CollectError {
        let denied = matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES));
        let error = ReadError { path: root.join(self.as_str()).into(), source };
        if denied {
            let needed = "needs root or CAP_SYS_PTRACE where /proc is mounted with hidepid";
            return CollectError::Other(format!("{error}: {needed}"));
        }
        CollectError::Read(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_is_needed() {
        let path = SubPath::new(&[b"4194304", b"/task"]);
        assert_eq!(path.as_str(), "4194304/task");
        let error = path.error(Path::new("/proc"), io::Error::from_raw_os_error(libc::EPERM)).to_string();
        assert!(error.starts_with("/proc/4194304/task: ") && error.contains("hidepid"), "{error}");
        assert_eq!(SubPath::new(&[&[b'9'; 100]]).as_str().len(), SubPath::ROOM - 1);
    }
}
