//! sysfs, and folders like it: listings that stay open, and attributes that are read by kept descriptors.
//!
//! A listing costs nothing while no device came or went (see [`super::uevent`]), else two system calls (`lseek`,
//! `getdents64`) while its entries are as they were; the numbers of the entries' inodes are compared too, so that a
//! device which went and came back under its old name counts as another one. An attribute costs one `pread`; one that
//! is absent is looked for again now and then only.
//! Whoever keeps attributes of a device makes them anew when the listing has changed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::file::{ReadError, read_from_start};
use super::folder::{Folder, LARGEST_ENTRY, entries};
use super::uevent::{self, Seen};

/// Attributes whose descriptors are kept at one time; further ones are opened and closed at each read. The
/// limit of the process takes precedence: half of it is left to others.
pub const MAX_KEPT: usize = 16_384;
/// Reads of an absent attribute between two attempts to open it.
pub const LOOK_AGAIN: u8 = 60;
/// A folder with longer entries in sum can't be listed.
pub const MAX_LISTING: usize = 4 << 20;
const FIRST_LISTING: usize = 4096;
const SYSFS_MAGIC: u64 = 0x6265_6572;

/// Descriptors that are kept by all attributes.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// A folder that is opened once, and what was in it when it was last looked at.
#[derive(Debug)]
pub struct Listing {
    path: Arc<Path>,
    folder: Option<Folder>,
    /// sysfs fills the buffer as far as it goes; other file systems may stop at the end of a block.
    ends_early: bool,
    /// As the kernel gave it.
    raw: Vec<u8>,
    before: Vec<u8>,
    names: Vec<String>,
    is_known: bool,
    /// What the last look gave: the names as they are, or that there is no such folder.
    seen: Seen,
}

impl Listing {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Listing {
            path: path.into().into(),
            folder: None,
            ends_early: true,
            raw: Vec::new(),
            before: Vec::new(),
            names: Vec::new(),
            is_known: false,
            seen: Seen::default(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the entries, in order. Those that are not UTF-8 are left out: the kernel makes none.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Looks again. Whether anything is other than last time; the first time it always is.
    ///
    /// # Errors
    /// With the path, when the folder can't be read; then it has no names.
    pub fn refresh(&mut self) -> Result<bool, ReadError> {
        if self.seen.holds() {
            let absent = || io::Error::from_raw_os_error(libc::ENOENT);
            return if self.is_known {
                Ok(false)
            } else {
                Err(ReadError { path: self.path.clone(), source: absent() })
            };
        }
        let changes = uevent::changes();
        self.seen.forget();
        std::mem::swap(&mut self.raw, &mut self.before);
        if let Err(source) = self.list() {
            if source.kind() == io::ErrorKind::NotFound {
                self.seen.note_absent(&self.path, changes);
            }
            self.folder = None;
            self.raw.clear();
            self.names.clear();
            self.is_known = false;
            return Err(ReadError { path: self.path.clone(), source });
        }
        self.seen.note_listed(&self.path, changes);
        // Not the bytes: those between a name and the next entry are not written by the kernel.
        let facts = |raw| entries(raw).map(|entry| (entry.inode, entry.name));
        if self.is_known && facts(&self.raw).eq(facts(&self.before)) {
            return Ok(false);
        }
        self.names.clear();
        self.names.extend(
            entries(&self.raw).filter_map(|entry| Some(std::str::from_utf8(entry.name).ok()?.to_owned())),
        );
        self.names.sort_unstable();
        self.is_known = true;
        // Room for the next look, which may come when nothing else needs memory.
        self.before.clear();
        self.before.reserve(self.raw.capacity());
        Ok(true)
    }

    fn list(&mut self) -> io::Result<()> {
        if let Some(folder) = &mut self.folder {
            if read_entries(folder, self.ends_early, &mut self.raw).is_ok()
                && entries(&self.raw).next().is_some()
            {
                return Ok(());
            }
            // A folder that was removed shows no entries: another may stand in its place.
            self.folder = None;
        }
        let folder = self.folder.insert(Folder::open(&self.path)?);
        self.ends_early = folder.file_system().ok() != Some(SYSFS_MAGIC);
        read_entries(folder, self.ends_early, &mut self.raw)?;
        if entries(&self.raw).next().is_none() {
            self.folder = None;
        }
        Ok(())
    }
}

fn read_entries(folder: &mut Folder, ends_early: bool, raw: &mut Vec<u8>) -> io::Result<()> {
    raw.clear();
    folder.rewind()?;
    loop {
        let filled = raw.len();
        if raw.capacity() - filled < LARGEST_ENTRY {
            if filled >= MAX_LISTING {
                return Err(io::Error::other(format!("a listing larger than {MAX_LISTING} bytes")));
            }
            raw.reserve(filled.max(FIRST_LISTING));
        }
        let room = raw.capacity() - filled;
        let n = folder.append_entries(raw)?;
        if n == 0 || (!ends_early && room - n >= LARGEST_ENTRY) {
            return Ok(());
        }
    }
}

/// A small file that the kernel makes in one piece, and that a device may lack.
#[derive(Debug)]
pub struct Attribute {
    path: Arc<Path>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// To be opened at the next read.
    Closed,
    /// Not there; to be looked for again after so many reads.
    Absent(u8),
    Open(File),
}

impl Attribute {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Attribute { path: path.into().into(), state: State::Closed }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says now, without white space at its ends; `None` where it is absent.
    ///
    /// # Errors
    /// With the path, when it can't be opened or read: see [`Refusal`].
    pub fn read<'b>(&mut self, buffer: &'b mut Vec<u8>) -> Result<Option<&'b [u8]>, ReadError> {
        Ok(self.fill(buffer)?.then_some(buffer.trim_ascii()))
    }

    /// As [`Attribute::read`], but only the ends of lines at both ends are left away.
    ///
    /// # Errors
    /// As [`Attribute::read`].
    pub fn read_line<'b>(&mut self, buffer: &'b mut Vec<u8>) -> Result<Option<&'b [u8]>, ReadError> {
        if !self.fill(buffer)? {
            return Ok(None);
        }
        let start = buffer.iter().position(|&byte| byte != b'\n').unwrap_or(buffer.len());
        let end = buffer.iter().rposition(|&byte| byte != b'\n').map_or(start, |last| last + 1);
        Ok(Some(&buffer[start..end]))
    }

    /// Whether it is there, and so in `buffer`.
    fn fill(&mut self, buffer: &mut Vec<u8>) -> Result<bool, ReadError> {
        if let State::Absent(reads) = &mut self.state
            && *reads > 0
        {
            *reads -= 1;
            return Ok(false);
        }
        if let State::Open(file) = &self.state {
            match read_from_start(file, buffer, usize::MAX) {
                Ok(()) => return Ok(true),
                // So it is when the device is gone, and with some drivers while it is there.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => self.close(),
                Err(source) => return Err(self.fail(source)),
            }
        }
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                self.state = State::Absent(LOOK_AGAIN);
                return Ok(false);
            }
            Err(source) => return Err(self.fail(source)),
        };
        let result = read_from_start(&file, buffer, usize::MAX);
        self.state = State::Closed;
        if KEPT.fetch_add(1, Ordering::Relaxed) < most_kept() {
            self.state = State::Open(file);
        } else {
            KEPT.fetch_sub(1, Ordering::Relaxed);
        }
        match result {
            Ok(()) => Ok(true),
            Err(source) => Err(self.fail(source)),
        }
    }

    /// The error for one that should be there.
    pub fn absent(&self) -> ReadError {
        self.fail(io::Error::from_raw_os_error(libc::ENOENT))
    }

    fn fail(&self, source: io::Error) -> ReadError {
        ReadError { path: self.path.clone(), source }
    }

    /// Gives the descriptor back, until the next read.
    pub fn close(&mut self) {
        if let State::Open(_) = std::mem::replace(&mut self.state, State::Closed) {
            KEPT.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Attribute {
    fn drop(&mut self) {
        self.close();
    }
}

fn most_kept() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel fills the structure.
        let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
        let half = usize::try_from(limit.rlim_cur / 2).unwrap_or(MAX_KEPT);
        if result == 0 { half.min(MAX_KEPT) } else { 0 }
    })
}

/// What a driver answers instead of a value, as errors of the read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// EINVAL
    Invalid,
    /// ENODATA
    NoData,
    /// ENODEV
    NoDevice,
    /// EAGAIN
    NotNow,
    /// EBUSY
    Busy,
    /// EOPNOTSUPP
    Unsupported,
    /// EACCES, EPERM
    Denied,
    Other,
}

impl Refusal {
    pub fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EINVAL) => Refusal::Invalid,
            Some(libc::ENODATA) => Refusal::NoData,
            Some(libc::ENODEV) => Refusal::NoDevice,
            Some(libc::EAGAIN) => Refusal::NotNow,
            Some(libc::EBUSY) => Refusal::Busy,
            Some(libc::EOPNOTSUPP) => Refusal::Unsupported,
            Some(libc::EACCES | libc::EPERM) => Refusal::Denied,
            _ => Refusal::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_tells_what_changed() {
        let folder = tempfile::tempdir().unwrap();
        let class = folder.path().join("class");
        let mut listing = Listing::new(&class);
        assert!(listing.refresh().unwrap_err().to_string().contains("class: No such file"));
        std::fs::create_dir(&class).unwrap();
        assert!(listing.refresh().unwrap(), "empty, and new");
        assert!(!listing.refresh().unwrap());
        for name in ["sda", "nvme0n1"] {
            std::fs::create_dir(class.join(name)).unwrap();
        }
        assert!(listing.refresh().unwrap());
        assert_eq!(listing.names(), ["nvme0n1", "sda"]);
        assert!(!listing.refresh().unwrap());
        std::fs::create_dir(folder.path().join("other")).unwrap();
        std::fs::remove_dir(class.join("sda")).unwrap();
        std::fs::rename(folder.path().join("other"), class.join("sda")).unwrap();
        assert!(listing.refresh().unwrap(), "another folder of the same name");
        std::fs::remove_dir_all(&class).unwrap();
        assert!(listing.refresh().is_err());
        assert!(listing.names().is_empty());
        std::fs::create_dir_all(class.join("sdb")).unwrap();
        assert!(listing.refresh().unwrap());
        assert_eq!(listing.names(), ["sdb"]);
    }

    #[test]
    fn a_long_listing_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut names: Vec<String> = (0..2000).map(|n| format!("entry{n:0200}")).collect();
        for name in &names {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        names.sort_unstable();
        let mut listing = Listing::new(folder.path());
        listing.refresh().unwrap();
        assert_eq!(listing.names(), names);
        assert!(!listing.refresh().unwrap());
    }

    #[test]
    fn sysfs_itself_is_listed_as_others_list_it() {
        for class in ["/sys/class", "/sys/devices/system/cpu", "/sys/class/tty", "/sys/bus"] {
            let Ok(folder) = std::fs::read_dir(class) else { continue };
            let mut names: Vec<_> = folder.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort_unstable();
            let mut listing = Listing::new(class);
            listing.refresh().unwrap();
            assert_eq!(listing.names(), names, "{class}");
            assert!(!listing.refresh().unwrap());
        }
    }

    #[test]
    fn an_absent_attribute_is_looked_for_now_and_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("temp1_input");
        let mut attribute = Attribute::new(&path);
        let mut buffer = Vec::new();
        assert_eq!(attribute.read(&mut buffer).unwrap(), None);
        std::fs::write(&path, " 31000\n").unwrap();
        for _ in 0..LOOK_AGAIN {
            assert_eq!(attribute.read(&mut buffer).unwrap(), None);
        }
        assert_eq!(attribute.read(&mut buffer).unwrap(), Some(&b"31000"[..]));
        std::fs::write(&path, "5\n").unwrap();
        assert_eq!(attribute.read(&mut buffer).unwrap(), Some(&b"5"[..]));
        std::fs::write(&path, "\n CPU \n\n").unwrap();
        assert_eq!(attribute.read_line(&mut buffer).unwrap(), Some(&b" CPU "[..]));
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(attribute.read_line(&mut buffer).unwrap(), Some(&b""[..]));
    }

    #[test]
    fn descriptors_above_the_bound_are_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        std::fs::write(&path, "1").unwrap();
        let mut attributes: Vec<Attribute> = (0..most_kept() + 10).map(|_| Attribute::new(&path)).collect();
        let mut buffer = Vec::new();
        for attribute in &mut attributes {
            assert_eq!(attribute.read(&mut buffer).unwrap(), Some(&b"1"[..]));
        }
        assert!(
            attributes.iter().filter(|attribute| matches!(attribute.state, State::Open(_))).count()
                <= most_kept()
        );
        std::fs::write(&path, "2").unwrap();
        for attribute in &mut attributes {
            assert_eq!(attribute.read(&mut buffer).unwrap(), Some(&b"2"[..]));
        }
        attributes.truncate(1);
        let mut another = Attribute::new(&path);
        another.read(&mut buffer).unwrap();
        assert!(matches!(another.state, State::Open(_)), "there is room again");
    }

    #[test]
    fn an_error_is_told_by_what_the_driver_means() {
        let of = |number| Refusal::of(&io::Error::from_raw_os_error(number));
        assert_eq!(of(libc::ENODATA), Refusal::NoData);
        assert_eq!(of(libc::EPERM), Refusal::Denied);
        assert_eq!(of(libc::EIO), Refusal::Other);
        let folder = tempfile::tempdir().unwrap();
        let error = Attribute::new(folder.path()).read(&mut Vec::new()).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::IsADirectory);
    }
}
