//! Kernel files that stay open: `pread` from offset 0 into a buffer that the caller owns and uses again.
//!
//! Cost: one system call for a file smaller than the buffer (procfs and sysfs end a file with a short read, but
//! only a read of 0 bytes proves it; so a read that leaves room in the buffer is followed by one more).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// No kernel file that we read is larger: a reader stops there with an error that names the file.
pub const MAX_KERNEL_FILE: usize = 64 << 20;
const FIRST_READ: usize = 4096;

/// A file that could not be read: says which, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct ReadError {
    pub path: PathBuf,
    pub source: io::Error,
}

/// A file that is opened at its first read and then kept open.
#[derive(Debug)]
pub struct KeptFile {
    path: PathBuf,
    file: Option<File>,
}

impl KeptFile {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        KeptFile { path: path.into(), file: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the whole file as it is now into `buffer`, which is emptied first.
    ///
    /// A descriptor that fails is closed and the path opened once more, so that a file that was replaced, or a
    /// device that went and came back, is found again.
    ///
    /// # Errors
    /// With the path, when the file can't be opened or read, or is larger than [`MAX_KERNEL_FILE`].
    pub fn read<'b>(&mut self, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], ReadError> {
        if let Some(file) = &self.file {
            if read_from_start(file, buffer).is_ok() {
                return Ok(buffer);
            }
            self.file = None;
        }
        let fail = |source| ReadError { path: self.path.clone(), source };
        let file = File::open(&self.path).map_err(fail)?;
        read_from_start(&file, buffer).map_err(fail)?;
        self.file = Some(file);
        Ok(buffer)
    }
}

/// Opens, reads and closes: for files that are read once, or rarely.
///
/// # Errors
/// As [`KeptFile::read`].
pub fn read_once<'b>(path: &Path, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], ReadError> {
    let fail = |source| ReadError { path: path.to_owned(), source };
    let file = File::open(path).map_err(fail)?;
    read_from_start(&file, buffer).map_err(fail)?;
    Ok(buffer)
}

fn read_from_start(file: &File, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.resize(buffer.capacity().max(FIRST_READ), 0);
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            if filled >= MAX_KERNEL_FILE {
                return Err(io::Error::other(format!("larger than {MAX_KERNEL_FILE} bytes")));
            }
            buffer.resize(filled * 2, 0);
        }
        match file.read_at(&mut buffer[filled..], filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(())
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
    fn an_absent_file_is_named() {
        let error = KeptFile::new("/nowhere/stat").read(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/stat: No such file"), "{error}");
    }
}
