//! Folders of procfs and sysfs, and what is kept of their entries from tick to tick.
//!
//! Cost of a listing: three system calls for up to some thousand names, and no memory while the names stay.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::file::ReadError;
use super::folder::Folder;
use super::text;

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
}
