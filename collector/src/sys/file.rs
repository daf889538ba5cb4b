//! Kernel files that stay open: `pread` from offset 0 into a buffer that the caller owns and uses again.
//!
//! Cost: one system call where a short read proves the end (see [`KeptFile::whole`] and [`KeptFile::records`]),
//! else two: only a read of 0 bytes ends a file of which the kernel shows one page of records a time.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::uevent::{self, Seen};

/// No kernel file that we read is larger: a reader stops there with an error that names the file.
pub const MAX_KERNEL_FILE: usize = 64 << 20;
const FIRST_READ: usize = 4096;
/// The kernel fills at least a page with records before it ends a read early.
const RECORD_PAGE: usize = 4096;
/// A file whose time stamp is younger may still change without a new time stamp: the kernel's clock is coarse.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// A file that could not be read: says which, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct ReadError {
    /// Shared with the reader, so that a file which is absent tick after tick costs no memory.
    pub path: Arc<Path>,
    pub source: io::Error,
}

/// A file that is opened at its first read and then kept open.
#[derive(Debug)]
pub struct KeptFile {
    path: Arc<Path>,
    file: Option<File>,
    /// A read that leaves room and gives fewer bytes than this has reached the end of the file.
    ends_below: usize,
    /// That it was not there.
    absent: Seen,
}

impl KeptFile {
    /// A file of which nothing is known: its end is proved by a read of 0 bytes.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        KeptFile { path: path.into().into(), file: None, ends_below: 0, absent: Seen::default() }
    }

    /// A file that the kernel makes in one piece (`single_open`, sysfs attributes, sysctls): a read that leaves
    /// room in the buffer has all of it.
    pub fn whole(path: impl Into<PathBuf>) -> Self {
        KeptFile { path: path.into().into(), file: None, ends_below: usize::MAX, absent: Seen::default() }
    }

    /// A file made of records (`seq_file`) of at most `longest` bytes each: the kernel ends a read early only
    /// when the next record does not fit into a page, so a shorter read has all of it.
    pub fn records(path: impl Into<PathBuf>, longest: usize) -> Self {
        KeptFile { ends_below: RECORD_PAGE.saturating_sub(longest), ..KeptFile::new(path) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the descriptor back: the next read opens the file again.
    pub fn close(&mut self) {
        self.file = None;
    }

    /// Reads the whole file as it is now into `buffer`, which is emptied first.
    ///
    /// A descriptor that fails is closed and the path opened once more, so that a file that was replaced, or a
    /// device that went and came back, is found again. One that is absent is looked for again when a device or a module
    /// came (see [`uevent`]).
    ///
    /// # Errors
    /// With the path, when the file can't be opened or read, or is larger than [`MAX_KERNEL_FILE`].
    pub fn read<'b>(&mut self, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], ReadError> {
        if let Some(file) = &self.file {
            if read_from_start(file, buffer, self.ends_below).is_ok() {
                return Ok(buffer);
            }
            self.file = None;
        }
        let fail = |source| ReadError { path: self.path.clone(), source };
        if self.absent.holds() {
            return Err(fail(io::Error::from_raw_os_error(libc::ENOENT)));
        }
        let changes = uevent::changes();
        let file = File::open(&self.path).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                self.absent.note_absent(&self.path, changes);
            }
            fail(error)
        })?;
        self.absent.forget();
        read_from_start(&file, buffer, self.ends_below).map_err(fail)?;
        self.file = Some(file);
        Ok(buffer)
    }
}

/// Opens, reads and closes: for files that are read once, or rarely.
///
/// # Errors
/// As [`KeptFile::read`].
pub fn read_once<'b>(path: &Path, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], ReadError> {
    let fail = |source| ReadError { path: path.into(), source };
    let file = File::open(path).map_err(fail)?;
    read_from_start(&file, buffer, 0).map_err(fail)?;
    Ok(buffer)
}

/// Opens a small attribute, reads it once and closes it: three system calls, no allocation for a path below 384
/// bytes. What is beyond the buffer is left out.
///
/// # Errors
/// When it can't be opened or read.
pub fn read_attribute<'b>(path: &Path, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let got = File::open(path)?.read(buffer)?;
    Ok(&buffer[..got])
}

/// What tells whether a file or folder was changed or replaced, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    pub size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Cost: one system call, no allocation for a path below 384 bytes.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn read(path: &Path) -> io::Result<Self> {
        let facts = std::fs::metadata(path)?;
        Ok(Stamp {
            device: facts.dev(),
            inode: facts.ino(),
            size: facts.size(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
        })
    }

    /// Whole seconds since 1970 of the last change of the content.
    pub fn modified_seconds(&self) -> i64 {
        self.modified.0
    }

    /// Whether an equal stamp later on means an equal content: not while the change is younger than the clock
    /// of the file system can tell apart.
    pub fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let newest = self.modified.max(self.changed).0;
        u64::try_from(newest).is_ok_and(|newest| newest + SETTLED_AFTER.as_secs() <= now.as_secs())
    }
}

/// Fills the spare room of `buffer` without clearing it first: for most files that would cost more than to parse.
pub(super) fn read_from_start(file: &File, buffer: &mut Vec<u8>, ends_below: usize) -> io::Result<()> {
    buffer.clear();
    loop {
        let filled = buffer.len();
        if filled == buffer.capacity() {
            if filled >= MAX_KERNEL_FILE {
                return Err(io::Error::other(format!("larger than {MAX_KERNEL_FILE} bytes")));
            }
            buffer.reserve(filled.max(FIRST_READ));
        }
        let room = buffer.spare_capacity_mut();
        // SAFETY: the pointer and the length are those of the spare room, which nobody else uses meanwhile.
        let n = unsafe {
            libc::pread64(file.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), filled as libc::off64_t)
        };
        let Ok(n) = usize::try_from(n) else {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        };
        let is_full = n == room.len();
        // SAFETY: the kernel has written `n` bytes from `filled` on, and no more than there was room for.
        unsafe { buffer.set_len(filled + n) };
        if n == 0 || (!is_full && n < ends_below) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_file_is_read_as_it_is_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stat");
        std::fs::write(&path, "one").unwrap();
        let mut kept = KeptFile::new(&path);
        let mut buffer = Vec::new();
        assert_eq!(kept.read(&mut buffer).unwrap(), b"one");
        std::fs::write(&path, "x".repeat(10_000)).unwrap();
        assert_eq!(kept.read(&mut buffer).unwrap().len(), 10_000);
        std::fs::write(&path, "").unwrap();
        assert_eq!(kept.read(&mut buffer).unwrap(), b"");
    }

    #[test]
    fn a_file_in_one_piece_may_still_outgrow_the_buffer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stat");
        std::fs::write(&path, "x".repeat(4096)).unwrap();
        let mut buffer = Vec::new();
        assert_eq!(KeptFile::whole(&path).read(&mut buffer).unwrap().len(), 4096);
        std::fs::write(&path, "x".repeat(70_000)).unwrap();
        assert_eq!(KeptFile::records(&path, 100).read(&mut Vec::new()).unwrap().len(), 70_000);
        assert_eq!(KeptFile::whole(&path).read(&mut buffer).unwrap().len(), 70_000);
    }

    #[test]
    fn an_attribute_is_cut_at_the_end_of_the_buffer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ifalias");
        std::fs::write(&path, "uplink\n").unwrap();
        assert_eq!(read_attribute(&path, &mut [0; 128]).unwrap(), b"uplink\n");
        assert_eq!(read_attribute(&path, &mut [0; 3]).unwrap(), b"upl");
        assert!(read_attribute(&folder.path().join("absent"), &mut [0; 3]).is_err());
    }

    #[test]
    fn a_stamp_tells_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.prom");
        std::fs::write(&path, "1").unwrap();
        let before = Stamp::read(&path).unwrap();
        assert!(!before.is_settled(), "just written");
        std::fs::write(&path, "12").unwrap();
        assert_ne!(Stamp::read(&path).unwrap(), before);
        assert!(
            Stamp::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))).unwrap().is_settled()
        );
    }

    #[test]
    fn an_absent_file_is_named() {
        let error = KeptFile::new("/nowhere/stat").read(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/stat: No such file"), "{error}");
    }
}
