//! How far the lanes of an endpoint have acknowledged: one small file each, two slots written in turn.
//!
//! A slot is a count of writes, for each lane the number of the first sample that is not acknowledged, and a
//! checksum: 524 bytes. A torn write spoils the slot that it was meant for, and the other one still holds the
//! places before it, so that at worst the last requests are sent again. One write for each acknowledgement, not
//! synced. Files of the time before lanes (two slots of 20 bytes, one place) are read too, and keep their last
//! slot until the first of the new ones is whole.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::LogError;

/// Lanes of an endpoint. The number is part of the format: a source must find its lane again after a restart.
pub const LANES: usize = 64;

/// For each lane, the number below which everything of it is settled.
pub type Places = [u64; LANES];

const SLOT: usize = 8 + LANES * 8 + 4;
/// A slot of the time before lanes.
const OLD_SLOT: usize = 20;
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

/// The acknowledged places of one endpoint.
#[derive(Debug)]
pub struct Position {
    path: PathBuf,
    file: File,
    writes: u64,
    /// The slot that is written next.
    slot: usize,
    places: Places,
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
        let found = read_slots(&file).map_err(fail)?;
        let is_new = found.is_none();
        let Found { writes, slot, places } =
            found.unwrap_or(Found { writes: 0, slot: 1, places: [start; LANES] });
        let places = places.map(|place| place.min(end));
        let state = Arc::new(Acknowledged { name: name.into(), next: AtomicU64::new(least(&places)) });
        let mut position = Position { path, file, writes, slot: 1 - slot, places, state };
        if is_new {
            position.write()?;
        }
        Ok(position)
    }

    pub(super) fn state(&self) -> &Arc<Acknowledged> {
        &self.state
    }

    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// The first number that some lane has not acknowledged: where to open the reader.
    pub fn next(&self) -> u64 {
        self.state.next()
    }

    /// The place of each lane.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Acknowledges every batch up to and with `sequence`. A number that was acknowledged before changes nothing.
    ///
    /// # Errors
    /// When the file can't be written. The position counts all the same while the process lives.
    pub fn acknowledge(&mut self, sequence: u64) -> Result<(), LogError> {
        self.acknowledge_lanes(&[sequence.saturating_add(1); LANES])
    }

    /// Acknowledges for each lane everything below its place. A place below that of before changes nothing.
    ///
    /// # Errors
    /// As [`Position::acknowledge`].
    pub fn acknowledge_lanes(&mut self, places: &Places) -> Result<(), LogError> {
        let mut moved = false;
        for (known, &place) in self.places.iter_mut().zip(places) {
            moved |= place > *known;
            *known = place.max(*known);
        }
        if !moved {
            return Ok(());
        }
        self.state.next.store(least(&self.places), Ordering::Relaxed);
        self.write()
    }

    fn write(&mut self) -> Result<(), LogError> {
        let writes = self.writes + 1;
        let mut slot = [0; SLOT];
        let (numbers, checksum) = slot.split_at_mut(SLOT - 4);
        for (bytes, number) in numbers.chunks_exact_mut(8).zip(std::iter::once(writes).chain(self.places)) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        checksum.copy_from_slice(&crc32fast::hash(numbers).to_le_bytes());
        let at = (self.slot * SLOT) as u64;
        self.file.write_all_at(&slot, at).map_err(|error| LogError::io(&self.path, error))?;
        (self.writes, self.slot) = (writes, 1 - self.slot);
        Ok(())
    }
}

fn least(places: &Places) -> u64 {
    places.iter().copied().min().unwrap_or(0)
}

/// A sound slot.
struct Found {
    writes: u64,
    /// Which of the two it is; for one of the old form 0, so that the next write spares it.
    slot: usize,
    places: Places,
}

/// The newest of the slots that are sound.
fn read_slots(file: &File) -> io::Result<Option<Found>> {
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
    let number = |slot: &[u8], at: usize| {
        u64::from_le_bytes(slot[at * 8..at * 8 + 8].try_into().expect("eight bytes"))
    };
    let is_sound = |slot: &[u8]| {
        let (numbers, checksum) = slot.split_at(slot.len() - 4);
        crc32fast::hash(numbers).to_le_bytes() == checksum && numbers[..16] != [0; 16]
    };
    let slots = bytes.chunks_exact(SLOT).enumerate().filter(|(_, bytes)| is_sound(bytes));
    let slots = slots.map(|(slot, bytes)| {
        let places = std::array::from_fn(|lane| number(bytes, lane + 1));
        Found { writes: number(bytes, 0), slot, places }
    });
    // The old form has the place first, then the count of writes.
    let old = bytes[..2 * OLD_SLOT].chunks_exact(OLD_SLOT).filter(|bytes| is_sound(bytes));
    let old = old.map(|bytes| Found { writes: number(bytes, 1), slot: 0, places: [number(bytes, 0); LANES] });
    Ok(slots.chain(old).max_by_key(|found| found.writes))
}

/// The largest position of any file in the folder, so that numbers never begin anew while one of them lives.
pub(super) fn largest(folder: &Path) -> Result<u64, LogError> {
    let mut largest = 0;
    for path in list(folder)? {
        let slots = File::open(&path)
            .and_then(|file| read_slots(&file))
            .map_err(|error| LogError::io(&path, error))?;
        largest = largest.max(slots.and_then(|found| found.places.into_iter().max()).unwrap_or(0));
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
    fn a_torn_write_leaves_the_places_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut position = Position::open(folder.path(), "a", 1, 100).unwrap();
        (1..=20).for_each(|sequence| position.acknowledge(sequence).unwrap());
        position.acknowledge(7).unwrap();
        let mut ahead = *position.places();
        ahead[5] = 50;
        ahead[63] = 60;
        position.acknowledge_lanes(&ahead).unwrap();
        assert_eq!((position.next(), position.places()[5], position.places()[63]), (21, 50, 60));
        let path = folder.path().join("a.position");
        let bytes = std::fs::read(&path).unwrap();
        let newest = (1 - position.slot) * SLOT;
        for at in 0..bytes.len() {
            let mut torn = bytes.clone();
            torn[at] ^= 0x40;
            std::fs::write(&path, &torn).unwrap();
            let opened = Position::open(folder.path(), "a", 1, 100).unwrap();
            let is_spoilt = (newest..newest + SLOT).contains(&at);
            assert_eq!(
                (opened.next(), opened.places()[5]),
                (21, if is_spoilt { 21 } else { 50 }),
                "byte {at}"
            );
        }
        std::fs::write(&path, b"").unwrap();
        assert_eq!(Position::open(folder.path(), "a", 5, 100).unwrap().next(), 5);
        assert_eq!(largest(folder.path()).unwrap(), 5);
    }

    #[test]
    fn a_file_of_the_time_before_lanes_is_read_and_spared_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.position");
        let mut bytes = Vec::new();
        for (next, writes) in [(70u64, 8u64), (60, 7)] {
            let slot = [next.to_le_bytes(), writes.to_le_bytes()].concat();
            bytes.extend_from_slice(&slot);
            bytes.extend_from_slice(&crc32fast::hash(&slot).to_le_bytes());
        }
        std::fs::write(&path, &bytes).unwrap();
        let mut position = Position::open(folder.path(), "a", 1, 100).unwrap();
        assert_eq!((position.next(), position.places()), (70, &[70; LANES]));
        position.acknowledge(80).unwrap();
        assert_eq!(Position::open(folder.path(), "a", 1, 100).unwrap().next(), 81);
        let mut torn = std::fs::read(&path).unwrap();
        assert_eq!(torn[..40], bytes);
        *torn.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &torn).unwrap();
        assert_eq!(Position::open(folder.path(), "a", 1, 100).unwrap().next(), 70);
        position.acknowledge(90).unwrap();
        assert_eq!(Position::open(folder.path(), "a", 1, 100).unwrap().next(), 91);
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
