//! How far an endpoint has acknowledged: one small file each, two slots written in turn.
//!
//! A slot is the number of the first batch that is not acknowledged, a count of writes, and a checksum: 20 bytes.
//! A torn write spoils the slot that it was meant for, and the other one still holds the position before it, so
//! that at worst the last request is sent again. One write of 20 bytes for each acknowledgement, not synced.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::LogError;

const SLOT: usize = 20;
const SUFFIX: &str = ".position";
/// Longer names are cut, and told apart by a checksum.
const MAX_NAME: usize = 100;

/// What the log knows of an endpoint.
#[derive(Debug)]
pub(super) struct Acknowledged {
    pub name: String,
    next: AtomicU64,
}

impl Acknowledged {
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }
}

/// The acknowledged position of one endpoint.
#[derive(Debug)]
pub struct Position {
    path: PathBuf,
    file: File,
    writes: u64,
    state: Arc<Acknowledged>,
}

impl Position {
    /// Opens the position of `name`; `start` is that of an endpoint that has none, `end` the largest there can be.
    pub(super) fn open(folder: &Path, name: &str, start: u64, end: u64) -> Result<Self, LogError> {
        let path = folder.join(file_name(name));
        let fail = |error| LogError::io(&path, error);
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(&path)
            .map_err(fail)?;
        let (writes, next) = read_slots(&file).map_err(fail)?.unwrap_or((0, start));
        let state = Arc::new(Acknowledged { name: name.into(), next: AtomicU64::new(next.min(end)) });
        let mut position = Position { path, file, writes, state };
        if writes == 0 {
            position.write(start)?;
        }
        Ok(position)
    }

    pub(super) fn state(&self) -> &Arc<Acknowledged> {
        &self.state
    }

    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// The first batch that is not acknowledged: where to open the reader.
    pub fn next(&self) -> u64 {
        self.state.next()
    }

    /// Acknowledges every batch up to and with `sequence`. A number that was acknowledged before changes nothing.
    ///
    /// # Errors
    /// When the file can't be written. The position counts all the same while the process lives.
    pub fn acknowledge(&mut self, sequence: u64) -> Result<(), LogError> {
        self.acknowledge_before(sequence.saturating_add(1))
    }

    /// Acknowledges everything below the number `next`.
    ///
    /// # Errors
    /// As [`Position::acknowledge`].
    pub fn acknowledge_before(&mut self, next: u64) -> Result<(), LogError> {
        if next <= self.next() {
            return Ok(());
        }
        self.state.next.store(next, Ordering::Relaxed);
        self.write(next)
    }

    fn write(&mut self, next: u64) -> Result<(), LogError> {
        let writes = self.writes + 1;
        let mut slot = [0; SLOT];
        slot[..8].copy_from_slice(&next.to_le_bytes());
        slot[8..16].copy_from_slice(&writes.to_le_bytes());
        let checksum = crc32fast::hash(&slot[..16]);
        slot[16..].copy_from_slice(&checksum.to_le_bytes());
        let at = (writes % 2) * SLOT as u64;
        self.file.write_all_at(&slot, at).map_err(|error| LogError::io(&self.path, error))?;
        self.writes = writes;
        Ok(())
    }
}

/// The newer of the two slots that are sound: its count of writes, and the position.
fn read_slots(file: &File) -> io::Result<Option<(u64, u64)>> {
    let mut bytes = [0; 2 * SLOT];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let sound = bytes.chunks_exact(SLOT).filter_map(|slot| {
        let number = |at: usize| u64::from_le_bytes(slot[at..at + 8].try_into().expect("eight bytes"));
        let checksum = u32::from_le_bytes(slot[16..].try_into().expect("four bytes"));
        (crc32fast::hash(&slot[..16]) == checksum && number(8) > 0).then(|| (number(8), number(0)))
    });
    Ok(sound.max())
}

/// The largest position of any file in the folder, so that numbers never begin anew while one of them lives.
pub(super) fn largest(folder: &Path) -> Result<u64, LogError> {
    let mut largest = 0;
    for path in list(folder)? {
        let slots = File::open(&path)
            .and_then(|file| read_slots(&file))
            .map_err(|error| LogError::io(&path, error))?;
        largest = largest.max(slots.map_or(0, |(_, next)| next));
    }
    Ok(largest)
}

/// Removes the positions of endpoints that are not among `names` and were not written to since `before_ms`.
pub(super) fn remove_forgotten(folder: &Path, names: &[&str], before_ms: i64) -> Result<(), LogError> {
    let kept: Vec<PathBuf> = names.iter().map(|name| folder.join(file_name(name))).collect();
    for path in list(folder)?.into_iter().filter(|path| !kept.contains(path)) {
        let written = path.metadata().and_then(|metadata| metadata.modified());
        let since = written.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        if since.is_some_and(|since| (since.as_millis() as i64) < before_ms) {
            std::fs::remove_file(&path).map_err(|error| LogError::io(&path, error))?;
        }
    }
    Ok(())
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, LogError> {
    let fail = |error| LogError::io(folder, error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(SUFFIX)) {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// A file name for any endpoint's name: letters, digits and `-_.` as they are, other bytes as `%xx`.
fn file_name(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => text.push(byte.into()),
            b'.' if !text.is_empty() => text.push('.'),
            _ => text.push_str(&format!("%{byte:02x}")),
        }
    }
    if text.len() > MAX_NAME {
        text.truncate(MAX_NAME);
        text.push_str(&format!("%%{:08x}", crc32fast::hash(name.as_bytes())));
    }
    text + SUFFIX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_write_leaves_the_position_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut position = Position::open(folder.path(), "a", 1, 100).unwrap();
        (1..=20).for_each(|sequence| position.acknowledge(sequence).unwrap());
        position.acknowledge(7).unwrap();
        assert_eq!(position.next(), 21);
        let path = folder.path().join("a.position");
        let bytes = std::fs::read(&path).unwrap();
        let newest = (position.writes % 2) as usize * SLOT;
        for at in 0..bytes.len() {
            let mut torn = bytes.clone();
            torn[at] ^= 0x40;
            std::fs::write(&path, &torn).unwrap();
            let expected = if (newest..newest + SLOT).contains(&at) { 20 } else { 21 };
            assert_eq!(Position::open(folder.path(), "a", 1, 100).unwrap().next(), expected, "byte {at}");
        }
        std::fs::write(&path, b"").unwrap();
        assert_eq!(Position::open(folder.path(), "a", 5, 100).unwrap().next(), 5);
        assert_eq!(largest(folder.path()).unwrap(), 5);
    }

    #[test]
    fn any_name_gives_a_file_of_its_own_in_the_folder() {
        let names =
            ["a", "a/b", "../a", "a%2fb", "https://x:1/y?z", &"n".repeat(300), &"n".repeat(301), "", ".."];
        let files: std::collections::HashSet<String> = names.iter().map(|name| file_name(name)).collect();
        assert_eq!(files.len(), names.len());
        assert!(files.iter().all(|file| !file.contains('/') && file.len() < 200));
    }
}
