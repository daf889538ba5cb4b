//! Folders of procfs and sysfs that stay open and are listed tick after tick: `getdents64` from the start, into
//! memory that is used again.
//!
//! Cost of a listing: three system calls for up to some thousand names, and no memory while the names stay.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use super::file::ReadError;
use super::text;

/// Room for the entries that one call gives.
const ENTRY_BYTES: usize = 32 << 10;
/// Where a `struct linux_dirent64` has its length, its type and its name.
const LENGTH_AT: usize = 16;
const TYPE_AT: usize = 18;
const NAME_AT: usize = 19;

/// An open folder.
#[derive(Debug)]
pub struct Folder(File);

impl Folder {
    /// # Errors
    /// As open(2).
    pub fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path).map(Folder)
    }

    /// Opens a folder that is named from this one.
    ///
    /// # Errors
    /// As openat(2).
    pub fn folder_in(&self, path: &CStr) -> io::Result<Folder> {
        self.open_in(path, libc::O_DIRECTORY).map(Folder)
    }

    /// Opens a file that is named from this folder, fills `buffer` from it as far as one read goes, and closes
    /// it. Returns how many bytes came.
    ///
    /// # Errors
    /// As openat(2) and read(2).
    pub fn read_in(&self, path: &CStr, buffer: &mut [u8]) -> io::Result<usize> {
        self.open_in(path, 0)?.read(buffer)
    }

    fn open_in(&self, path: &CStr, flags: i32) -> io::Result<File> {
        let flags = flags | libc::O_RDONLY | libc::O_CLOEXEC;
        // SAFETY: the path ends with a zero, and the descriptor is open as long as `self` lives.
        let fd = unsafe { libc::openat(self.0.as_raw_fd(), path.as_ptr(), flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given this descriptor to nobody else.
        Ok(unsafe { File::from_raw_fd(fd) })
    }

    /// Begins the list anew.
    ///
    /// # Errors
    /// As lseek(2).
    pub fn rewind(&mut self) -> io::Result<()> {
        self.0.rewind()
    }

    /// The next entries of the list, none at its end.
    ///
    /// # Errors
    /// As getdents64(2).
    pub fn next_entries<'b>(&self, buffer: &'b mut Vec<u8>) -> io::Result<Entries<'b>> {
        buffer.clear();
        buffer.reserve(ENTRY_BYTES);
        let room = buffer.spare_capacity_mut();
        // SAFETY: pointer and length are those of the spare room, which nobody else uses meanwhile.
        let n =
            unsafe { libc::syscall(libc::SYS_getdents64, self.0.as_raw_fd(), room.as_mut_ptr(), room.len()) };
        let Ok(n) = usize::try_from(n) else { return Err(io::Error::last_os_error()) };
        // SAFETY: the kernel has written `n` bytes, and no more than there was room for.
        unsafe { buffer.set_len(n) };
        Ok(Entries { rest: buffer })
    }
}

/// What one call gave of a list, without `.` and `..`.
#[derive(Debug)]
pub struct Entries<'b> {
    rest: &'b [u8],
}

/// A name in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'b> {
    pub name: &'b [u8],
    /// Whether it may be a folder or a link to one: the others are files for sure.
    pub may_be_folder: bool,
}

impl Entries<'_> {
    /// Whether the list has ended.
    pub fn is_end(&self) -> bool {
        self.rest.is_empty()
    }
}

impl<'b> Iterator for Entries<'b> {
    type Item = Entry<'b>;

    fn next(&mut self) -> Option<Entry<'b>> {
        loop {
            let length = self.rest.get(LENGTH_AT..LENGTH_AT + 2)?;
            let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
            let (entry, rest) = self.rest.split_at_checked(length.max(NAME_AT))?;
            self.rest = rest;
            let name = entry[NAME_AT..].split(|&b| b == 0).next().unwrap_or_default();
            if name != b"." && name != b".." {
                let may_be_folder = matches!(entry[TYPE_AT], libc::DT_DIR | libc::DT_LNK | libc::DT_UNKNOWN);
                return Some(Entry { name, may_be_folder });
            }
        }
    }
}

/// A folder, and what is kept of each of its entries that matter, in the order of the list.
#[derive(Debug)]
pub struct KeptEntries<T> {
    path: Arc<Path>,
    folder: Option<Folder>,
    buffer: Vec<u8>,
    entries: Vec<(String, T)>,
    most: usize,
}

impl<T> KeptEntries<T> {
    /// At most `most` entries are kept.
    pub fn new(path: &Path, most: usize) -> Self {
        KeptEntries { path: path.into(), folder: None, buffer: Vec::new(), entries: Vec::new(), most }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lists the folder: keeps what it knows, calls `make` for what is new, and forgets what has gone. Entries
    /// that are not `wanted` or not UTF-8 are left out. Returns how many were one too many.
    ///
    /// # Errors
    /// When the folder can't be opened or listed; then nothing is kept.
    pub fn refresh(
        &mut self,
        wanted: impl Fn(&str, bool) -> bool,
        make: impl FnMut(&Path) -> T,
    ) -> Result<usize, ReadError> {
        let result = self.list(wanted, make);
        if result.is_err() || self.entries.is_empty() {
            // The folder may have been removed and made anew.
            self.folder = None;
        }
        result.map_err(|source| {
            self.entries.clear();
            ReadError { path: self.path.clone(), source }
        })
    }

    fn list(
        &mut self,
        wanted: impl Fn(&str, bool) -> bool,
        mut make: impl FnMut(&Path) -> T,
    ) -> io::Result<usize> {
        let folder = match &mut self.folder {
            Some(folder) => {
                folder.rewind()?;
                folder
            }
            none => none.insert(Folder::open(&self.path)?),
        };
        let (mut count, mut left_out) = (0, 0);
        loop {
            let batch = folder.next_entries(&mut self.buffer)?;
            if batch.is_end() {
                self.entries.truncate(count);
                return Ok(left_out);
            }
            for entry in batch {
                let Some(name) = text::as_str(entry.name).filter(|name| wanted(name, entry.may_be_folder))
                else {
                    continue;
                };
                if count == self.most {
                    left_out += 1;
                    continue;
                }
                if self.entries.get(count).is_none_or(|(known, _)| known != name) {
                    let later = self.entries[count..].iter().position(|(known, _)| known == name);
                    let entry = match later {
                        Some(later) => self.entries.remove(count + later),
                        None => (name.to_owned(), make(&self.path.join(name))),
                    };
                    self.entries.insert(count, entry);
                }
                count += 1;
            }
        }
    }

    /// Names and what is kept of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut T)> {
        self.entries.iter_mut().map(|(name, kept)| (name.as_str(), kept))
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(kept: &mut KeptEntries<usize>) -> Vec<String> {
        let mut names: Vec<String> = kept.iter_mut().map(|(name, _)| name.to_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn entries_come_go_and_keep_what_they_had() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("d")).unwrap();
        let mut made = 0;
        let mut kept = KeptEntries::new(folder.path(), 3);
        let mut refresh = |kept: &mut KeptEntries<usize>| {
            let make = |_: &Path| {
                made += 1;
                made
            };
            kept.refresh(|_, may_be_folder| !may_be_folder, make)
        };
        assert_eq!(refresh(&mut kept).unwrap(), 0);
        assert_eq!(names(&mut kept), ["a", "b", "c"]);
        let of_c = |kept: &mut KeptEntries<usize>| {
            kept.iter_mut().find(|(name, _)| *name == "c").map(|(_, made)| *made)
        };
        let before = of_c(&mut kept);
        std::fs::remove_file(folder.path().join("a")).unwrap();
        assert_eq!(refresh(&mut kept).unwrap(), 0);
        assert_eq!((names(&mut kept), of_c(&mut kept)), (vec!["b".to_owned(), "c".to_owned()], before));
        for name in ["x", "y"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(refresh(&mut kept).unwrap(), 1, "one more than are kept");
        assert_eq!(made, 4, "what was known was not made again");
    }

    #[test]
    fn a_folder_that_is_made_anew_is_found_again() {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("folder");
        let mut kept = KeptEntries::new(&path, 10);
        assert_eq!(kept.refresh(|_, _| true, |_| ()).unwrap_err().source.kind(), io::ErrorKind::NotFound);
        for name in ["a", "b"] {
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join(name), "").unwrap();
            kept.refresh(|_, _| true, |_| ()).unwrap();
            assert_eq!(kept.iter_mut().map(|(name, ())| name).collect::<Vec<_>>(), [name]);
            std::fs::remove_dir_all(&path).unwrap();
            let gone = kept.refresh(|_, _| true, |_| ());
            assert!(gone.is_err() || kept.is_empty(), "nothing is left");
        }
    }

    #[test]
    fn files_are_read_from_a_folder() {
        let proc = Folder::open(Path::new("/proc")).unwrap();
        let mut buffer = [0; 256];
        let read = proc.read_in(c"self/stat", &mut buffer).unwrap();
        assert!(buffer[..read].starts_with(std::process::id().to_string().as_bytes()));
        let mut entries = Vec::new();
        let tasks = proc.folder_in(c"self/task").unwrap();
        let tasks: Vec<Vec<u8>> =
            tasks.next_entries(&mut entries).unwrap().map(|entry| entry.name.to_vec()).collect();
        assert!(tasks.contains(&std::process::id().to_string().into_bytes()));
        assert!(proc.folder_in(c"self/stat").is_err(), "not a folder");
    }
}
