//! Every attribute of every interface from its file, as node_exporter reads them.
//! Cost a tick: four system calls, and three for each of the 22 files of an interface.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::CollectError;
use super::super::error::Faults;
use super::super::filter::Filter;
use super::{ATTRIBUTE_SIZE, FILES, View, parse_number};
use crate::sys::file::{ReadError, read_attribute};
use crate::sys::folder::Folder;
use crate::sys::text;

/// The words, in the order of [`Sysfs::texts`].
const TEXTS: [&str; 5] = ["address", "broadcast", "duplex", "operstate", "ifalias"];

pub(super) struct Sysfs {
    folder: Arc<Path>,
    /// The path of the attribute at hand.
    path: AttributePath,
    texts: [[u8; ATTRIBUTE_SIZE]; TEXTS.len()],
}

impl Sysfs {
    pub(super) fn new(folder: PathBuf) -> Self {
        let path = AttributePath::new(&folder);
        Sysfs { folder: folder.into(), path, texts: [[0; ATTRIBUTE_SIZE]; TEXTS.len()] }
    }

    /// Reads the interfaces and gives each to `put`.
    pub(super) fn put(
        &mut self,
        buffer: &mut Vec<u8>,
        filter: &mut Filter,
        faults: &mut Faults,
        put: &mut impl FnMut(&View<'_>),
    ) -> Result<(), CollectError> {
        let path = self.folder.clone();
        let fail = |source| ReadError { path: path.clone(), source };
        let folder = Folder::open(&self.folder).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => CollectError::Absent(fail(error)),
            _ => CollectError::Read(fail(error)),
        })?;
        loop {
            let entries = folder.next_entries(buffer).map_err(|error| CollectError::Read(fail(error)))?;
            if entries.is_end() {
                return Ok(());
            }
            // A file such as bonding_masters is no interface.
            for entry in entries.filter(|entry| entry.may_be_folder) {
                let device = String::from_utf8_lossy(entry.name);
                if filter.ignores(&device) {
                    continue;
                }
                if let Err(error) = self.put_interface(entry.name, &device, put)
                    && error.raw_os_error() != Some(libc::ENODEV)
                {
                    let path = self.path.as_path().into();
                    faults.note(|| CollectError::Read(ReadError { path, source: error }));
                }
            }
        }
    }

    fn put_interface(
        &mut self,
        name: &[u8],
        device: &str,
        put: &mut impl FnMut(&View<'_>),
    ) -> io::Result<()> {
        let Sysfs { path, texts, .. } = self;
        let mut view = View { device, ..View::default() };
        let mut buffer = [0; ATTRIBUTE_SIZE];
        for (number, (file, _)) in view.numbers.iter_mut().zip(&FILES) {
            *number = path.read(name, file, &mut buffer)?.and_then(parse_number);
        }
        let mut said: [Cow<'_, str>; TEXTS.len()] = Default::default();
        for ((said, file), text) in said.iter_mut().zip(TEXTS).zip(texts) {
            *said = trimmed(path.read(name, file, text)?.unwrap_or_default());
        }
        let [address, broadcast, duplex, operstate, alias] = &said;
        put(&View { address, broadcast, duplex, operstate, alias, ..view });
        Ok(())
    }
}

/// Text without the white space at both ends, also that which is not ASCII. Its words are kept as they are.
pub(super) fn trimmed(text: &[u8]) -> Cow<'_, str> {
    match String::from_utf8_lossy(text) {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

/// `FOLDER/INTERFACE/ATTRIBUTE`, in memory that is used again.
pub(super) struct AttributePath {
    path: Vec<u8>,
    folder_length: usize,
}

impl AttributePath {
    pub(super) fn new(folder: &Path) -> Self {
        let mut path = folder.as_os_str().as_encoded_bytes().to_vec();
        path.push(b'/');
        AttributePath { folder_length: path.len(), path }
    }

    pub(super) fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    /// Reads an attribute; `None` where the interface has no such thing or does not know it now.
    ///
    /// # Errors
    /// Any other: ENODEV where the interface is gone.
    pub(super) fn read<'b>(
        &mut self,
        interface: &[u8],
        attribute: &str,
        buffer: &'b mut [u8],
    ) -> io::Result<Option<&'b [u8]>> {
        self.path.truncate(self.folder_length);
        for part in [interface, b"/", attribute.as_bytes()] {
            self.path.extend_from_slice(part);
        }
        match read_attribute(self.as_path(), buffer) {
            Ok(text) => Ok(Some(text::trim(text))),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT | libc::EACCES | libc::EPERM | libc::EOPNOTSUPP | libc::EINVAL) => Ok(None),
                _ => Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_goes_and_odd_bytes_are_replaced() {
        assert_eq!(trimmed("\u{a0} a  b\u{2003}\n".as_bytes()), "a  b");
        assert_eq!(trimmed(b" \xffx \n"), "\u{fffd}x");
        assert_eq!(trimmed(b"\n"), "");
    }

    #[test]
    fn what_an_interface_lacks_is_told_from_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("eth0")).unwrap();
        std::fs::write(folder.path().join("eth0/mtu"), "1500\n").unwrap();
        let mut path = AttributePath::new(folder.path());
        let mut buffer = [0; ATTRIBUTE_SIZE];
        assert_eq!(path.read(b"eth0", "mtu", &mut buffer).unwrap(), Some(&b"1500"[..]));
        assert_eq!(path.read(b"eth0", "speed", &mut buffer).unwrap(), None);
        assert!(path.read(b"eth0", "", &mut buffer).is_err(), "a folder is no attribute");
    }
}
