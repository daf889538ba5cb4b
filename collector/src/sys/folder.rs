//! Folders that stay open and are listed tick after tick: `getdents64` from the start, into memory that is used
//! again.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Room for the entries that one call gives.
const ENTRY_BYTES: usize = 32 << 10;
/// Where a `struct linux_dirent64` has its length, its type and its name; the inode is its first field.
const LENGTH_AT: usize = 16;
const TYPE_AT: usize = 18;
const NAME_AT: usize = 19;
/// The largest entry: what is before its name, 255 bytes of name, and its end, aligned. Where less room is left, more
/// may follow.
pub(super) const LARGEST_ENTRY: usize = 24 + 256;

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
        self.append_entries(buffer)?;
        Ok(entries(buffer))
    }

    /// Appends the next entries, as the kernel gives them, to `raw`, as far as there is room for them. Returns how
    /// many bytes they have: none at the end of the list.
    ///
    /// # Errors
    /// As getdents64(2).
    pub(super) fn append_entries(&self, raw: &mut Vec<u8>) -> io::Result<usize> {
        let filled = raw.len();
        let room = raw.spare_capacity_mut();
        // SAFETY: pointer and length are those of the spare room, which nobody else uses meanwhile.
        let n =
            unsafe { libc::syscall(libc::SYS_getdents64, self.0.as_raw_fd(), room.as_mut_ptr(), room.len()) };
        let Ok(n) = usize::try_from(n) else { return Err(io::Error::last_os_error()) };
        // SAFETY: the kernel has written `n` bytes from `filled` on, and no more than there was room for.
        unsafe { raw.set_len(filled + n) };
        Ok(n)
    }

    /// The type of its file system, as statfs(2) has it.
    pub(super) fn file_system(&self) -> io::Result<u64> {
        let mut facts = MaybeUninit::<libc::statfs64>::zeroed();
        // SAFETY: the kernel fills the structure, which is as large as it expects.
        if unsafe { libc::fstatfs64(self.0.as_raw_fd(), facts.as_mut_ptr()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all of its fields are numbers, for which zeroes do as well.
        Ok(unsafe { facts.assume_init() }.f_type as u64)
    }
}

/// The entries in `raw`, which came from [`Folder::append_entries`].
pub(super) fn entries(raw: &[u8]) -> Entries<'_> {
    Entries { rest: raw }
}

/// What one call gave of a list, without `.` and `..`.
#[derive(Clone, Debug)]
pub struct Entries<'b> {
    rest: &'b [u8],
}

/// A name in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'b> {
    pub inode: u64,
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
            let inode = u64::from_ne_bytes(*entry.first_chunk()?);
            let name = entry[NAME_AT..].split(|&b| b == 0).next().unwrap_or_default();
            if name != b"." && name != b".." {
                let may_be_folder = matches!(entry[TYPE_AT], libc::DT_DIR | libc::DT_LNK | libc::DT_UNKNOWN);
                return Some(Entry { inode, name, may_be_folder });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
