//! The names in a folder, without an allocation for each: for folders that are listed every tick.
//! Cost: an open, a getdents64 for each 32 KiB of entries and one more, a close.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

const PIECE: usize = 32 << 10;
/// A folder with more than this in names is refused.
const MAX_FOLDER: usize = 16 << 20;
/// Before the name of a `struct linux_dirent64`: inode, offset, length, kind.
const HEADER: usize = 19;

/// Lists `path` into `buffer`, which is emptied first. "." and ".." are left out.
///
/// # Errors
/// When it can't be opened or read, or is too large.
pub fn read_folder<'b>(path: &Path, buffer: &'b mut Vec<u8>) -> io::Result<Entries<'b>> {
    let folder = File::open(path)?;
    buffer.clear();
    loop {
        let filled = buffer.len();
        if filled > MAX_FOLDER {
            return Err(io::Error::other(format!("a folder with more than {MAX_FOLDER} bytes of names")));
        }
        buffer.reserve(PIECE);
        let room = buffer.spare_capacity_mut();
        // SAFETY: the pointer and the length are those of the spare room, which nobody else uses meanwhile.
        let got =
            unsafe { libc::syscall(libc::SYS_getdents64, folder.as_raw_fd(), room.as_mut_ptr(), room.len()) };
        let Ok(got) = usize::try_from(got) else { return Err(io::Error::last_os_error()) };
        if got == 0 {
            return Ok(Entries { rest: buffer });
        }
        // SAFETY: the kernel has written `got` bytes from `filled` on, and no more than there was room for.
        unsafe { buffer.set_len(filled + got) };
    }
}

/// An entry of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub name: &'a [u8],
    /// Whether it is an ordinary file, not a folder or a link.
    pub is_file: bool,
}

/// What [`read_folder`] found.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let length = usize::from(u16::from_ne_bytes(*self.rest.get(16..)?.first_chunk()?));
            let record = self.rest.get(..length)?;
            self.rest = &self.rest[length..];
            let name = record.get(HEADER..)?.split(|&b| b == 0).next().unwrap_or_default();
            if name != b"." && name != b".." {
                return Some(Entry { name, is_file: record[18] == libc::DT_REG });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_of_a_large_folder_come() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..2000 {
            std::fs::write(folder.path().join(format!("file-with-a-name-{n}")), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        let mut buffer = Vec::new();
        let entries: Vec<_> = read_folder(folder.path(), &mut buffer).unwrap().collect();
        assert_eq!(entries.len(), 2001);
        assert!(entries.contains(&Entry { name: b"file-with-a-name-7", is_file: true }));
        assert!(entries.contains(&Entry { name: b"folder", is_file: false }));
        assert!(read_folder(Path::new("/nowhere"), &mut buffer).is_err());
    }

    #[test]
    fn records_cut_anywhere_end_the_list() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("one"), "").unwrap();
        let mut buffer = Vec::new();
        read_folder(folder.path(), &mut buffer).unwrap();
        for end in 0..buffer.len() {
            assert!(Entries { rest: &buffer[..end] }.count() <= 1);
        }
    }
}
