//! How far the lanes of an endpoint have acknowledged: one small file each, two slots written in turn.
//!
//! A slot is a count of writes, two [`Standing`]s with the number at which the second takes over from the first, and a
//! checksum: 1,076 bytes. There is a second one only while an endpoint sends the newest first: the first is its
//! backlog then. A torn write spoils the slot that it was meant for, and the other one still holds the places before
//! it, so that at worst the last requests are sent again. One write for each acknowledgement, not synced.
//!
//! Older files are read too: two slots of 524 bytes, places of lanes alone, and before that two of 20, one place. They
//! keep a slot until the first of the new ones is whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::LogError;

/// Lanes of an endpoint. The number is part of the format: a source must find its lane again after a restart.
pub const LANES: usize = 64;

/// For each lane, the number below which everything of it is settled.
pub type Places = [u64; LANES];

/// Numbers of a standing, and bytes of a slot.
const NUMBERS: usize = LANES + 2;
const SLOT: usize = 8 + 8 + 2 * NUMBERS * 8 + 4;
/// A slot of places alone, and one of the time before lanes.
const PLACES_SLOT: usize = 8 + LANES * 8 + 4;
const OLD_SLOT: usize = 20;
const SUFFIX: &str = ".position";
/// What a sender keeps beside the places, without the point, and how much of it is read.
const BESIDE: &str = "accord";
const MAX_BESIDE: u64 = 4096;
/// Longer names are cut, and told apart by a checksum.
const MAX_NAME: usize = 100;

/// What is settled and what is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub places: Places,
    /// How far was read: everything before is settled, but for `unsettled` samples at or behind the places of their
    /// lanes. So what can't be found there any more is known by its number.
    pub fetched: u64,
    pub unsettled: u64,
}

impl Standing {
    /// Everything before `place` is settled.
    pub fn at(place: u64) -> Self {
        Standing { places: [place; LANES], fetched: place, unsettled: 0 }
    }

    fn least(&self) -> u64 {
        self.places.iter().copied().min().unwrap_or(0)
    }

    fn numbers(&self) -> impl Iterator<Item = u64> {
        self.places.into_iter().chain([self.fetched, self.unsettled])
    }
}

/// Which standing of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// All there is, or the backlog of one that sends the newest first.
    First,
    Second,
}

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
    standings: [Standing; 2],
    /// Where the second one takes over; [`u64::MAX`] while there is only the first.
    split: u64,
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
        let fresh = Found { writes: 0, slot: 1, standings: [Standing::at(start); 2], split: u64::MAX };
        let Found { writes, slot, mut standings, split } = found.unwrap_or(fresh);
        for standing in &mut standings {
            standing.places = standing.places.map(|place| place.min(end));
            standing.fetched = standing.fetched.min(end);
        }
        let next = AtomicU64::new(standings[0].least());
        let state = Arc::new(Acknowledged { name: name.into(), next });
        let mut position = Position { path, file, writes, slot: 1 - slot, standings, split, state };
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
        &self.standings[0].places
    }

    pub fn standing(&self, part: Part) -> &Standing {
        &self.standings[part as usize]
    }

    /// Where the second standing takes over, if there is one.
    pub fn split(&self) -> Option<u64> {
        (self.split != u64::MAX).then_some(self.split)
    }

    /// From number `at` on there is a second standing, of which nothing is settled.
    ///
    /// # Errors
    /// As [`Position::acknowledge`].
    pub fn split_at(&mut self, at: u64) -> Result<(), LogError> {
        self.standings[1] = Standing::at(at);
        self.split = at;
        self.write()
    }

    /// The first standing has reached the second, which is the only one from now on.
    ///
    /// # Errors
    /// As [`Position::acknowledge`].
    pub fn unite(&mut self) -> Result<(), LogError> {
        self.standings[0] = self.standings[1];
        self.split = u64::MAX;
        self.state.next.store(self.standings[0].least(), Ordering::Relaxed);
        self.write()
    }

    /// Acknowledges every batch up to and with `sequence`. A number that was acknowledged before changes nothing.
    ///
    /// # Errors
    /// When the file can't be written. The position counts all the same while the process lives.
    pub fn acknowledge(&mut self, sequence: u64) -> Result<(), LogError> {
        self.settle(Part::First, &Standing::at(sequence.saturating_add(1)))
    }

    /// Acknowledges for each lane everything below its place. A place below that of before changes nothing.
    ///
    /// # Errors
    /// As [`Position::acknowledge`].
    pub fn settle(&mut self, part: Part, standing: &Standing) -> Result<(), LogError> {
        let known = &mut self.standings[part as usize];
        let mut moved = false;
        for (known, &place) in known.places.iter_mut().zip(&standing.places) {
            moved |= place > *known;
            *known = place.max(*known);
        }
        if !moved {
            return Ok(());
        }
        (known.fetched, known.unsettled) = (standing.fetched, standing.unsettled);
        self.state.next.store(self.standings[0].least(), Ordering::Relaxed);
        self.write()
    }

    /// What was kept beside the places, as far as it can be read.
    pub(super) fn beside(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(self.path.with_extension(BESIDE)).ok()?;
        file.take(MAX_BESIDE).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Keeps this beside the places. A write that is torn is for the reader to find out.
    pub(super) fn keep_beside(&self, bytes: &[u8]) -> Result<(), LogError> {
        let path = self.path.with_extension(BESIDE);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o640).open(&path);
        file.and_then(|mut file| file.write_all(bytes)).map_err(|error| LogError::io(&path, error))
    }

    fn write(&mut self) -> Result<(), LogError> {
        let writes = self.writes + 1;
        let mut slot = [0; SLOT];
        let (numbers, checksum) = slot.split_at_mut(SLOT - 4);
        let all = [writes, self.split].into_iter().chain(self.standings.iter().flat_map(Standing::numbers));
        for (bytes, number) in numbers.chunks_exact_mut(8).zip(all) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        checksum.copy_from_slice(&crc32fast::hash(numbers).to_le_bytes());
        let at = (self.slot * SLOT) as u64;
        self.file.write_all_at(&slot, at).map_err(|error| LogError::io(&self.path, error))?;
        (self.writes, self.slot) = (writes, 1 - self.slot);
        Ok(())
    }
}

/// A sound slot.
struct Found {
    writes: u64,
    /// Which of the two it is; for one of an old form 0, so that the next write spares the first of those.
    slot: usize,
    standings: [Standing; 2],
    split: u64,
}

impl Found {
    fn largest(&self) -> Option<u64> {
        self.standings.iter().flat_map(|standing| standing.places).max()
    }
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
    let slots = slots_of(&bytes, SLOT).map(|(slot, numbers)| {
        let standing = |from: usize| Standing {
            places: std::array::from_fn(|lane| numbers(from + lane)),
            fetched: numbers(from + LANES),
            unsettled: numbers(from + LANES + 1),
        };
        Found { writes: numbers(0), slot, standings: [standing(2), standing(2 + NUMBERS)], split: numbers(1) }
    });
    // The first that were not so: what was read beyond the least place is not known.
    let old = |writes, places: Places| {
        let least = places.iter().copied().min().unwrap_or(0);
        let standing = Standing { places, fetched: least, unsettled: 0 };
        Found { writes, slot: 0, standings: [standing; 2], split: u64::MAX }
    };
    let places = slots_of(&bytes, PLACES_SLOT);
    let places = places.map(|(_, numbers)| old(numbers(0), std::array::from_fn(|lane| numbers(lane + 1))));
    // The oldest form has the place first, then the count of writes.
    let single = slots_of(&bytes, OLD_SLOT).map(|(_, numbers)| old(numbers(1), [numbers(0); LANES]));
    Ok(slots.chain(places).chain(single).max_by_key(|found| found.writes))
}

/// Both slots of a form, where they are sound: which it is, and its numbers.
fn slots_of(bytes: &[u8], size: usize) -> impl Iterator<Item = (usize, impl Fn(usize) -> u64)> {
    let is_sound = |slot: &[u8]| {
        let (numbers, checksum) = slot.split_at(slot.len() - 4);
        crc32fast::hash(numbers).to_le_bytes() == checksum && numbers[..16] != [0; 16]
    };
    let slots = bytes.chunks_exact(size).take(2).enumerate().filter(move |(_, slot)| is_sound(slot));
    slots.map(|(number, slot)| {
        let at = |at: usize| u64::from_le_bytes(slot[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
        (number, at)
    })
}

/// The largest position of any file in the folder, so that numbers never begin anew while one of them lives.
pub(super) fn largest(folder: &Path) -> Result<u64, LogError> {
    let mut largest = 0;
    for path in list(folder)? {
        let slots = File::open(&path)
            .and_then(|file| read_slots(&file))
            .map_err(|error| LogError::io(&path, error))?;
        largest = largest.max(slots.and_then(|found| found.largest()).unwrap_or(0));
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
            // There need not be one.
            let _ = std::fs::remove_file(path.with_extension(BESIDE));
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
#[path = "position_tests.rs"]
mod tests;
