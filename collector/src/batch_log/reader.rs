//! Gives an endpoint its batches, in order, from any position to the committed end, also while more are written.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;

use super::LogError;
use super::definition::{parse_content, parse_definition, parse_list, parse_owner, unpack_content};
use super::files::{Window, segment_path};
use super::numbers::Input;
use super::pack::State;
use super::record::{self, Kind};
use super::shared::Shared;
use crate::model::{Batch, SeriesList, Shape};

/// A read buffer larger than this is given back when a segment ends.
const MAX_KEPT_BUFFER: usize = 1 << 20;

/// A shape as its segment defines it, and its last batch.
struct Known {
    /// The number of its list, and its owner as it was spelled.
    list: u64,
    owner: Box<[u8]>,
    /// Made when its first batch comes: its list may be known only then.
    shape: Option<Arc<Shape>>,
    state: State,
    /// The batch that `state` is, 0 for none.
    last: u64,
}

/// What the records of a segment have defined so far.
#[derive(Default)]
struct Definitions {
    lists: HashMap<u64, Arc<SeriesList>>,
    shapes: HashMap<u64, Known>,
}

/// The segment that is read.
struct Open {
    first: u64,
    window: Window,
    known: Definitions,
    /// How far it was committed when that was last asked.
    limit: u64,
}

/// Reads the log for one endpoint.
pub struct Reader {
    shared: Arc<Shared>,
    open: Option<Open>,
    /// The batch that comes next, if it can be read.
    next: u64,
    lost: u64,
    missing: Missing,
    /// Whether something between the last batch and this place is damaged.
    damage: bool,
    memory: Vec<u8>,
}

/// Why numbers are missing. What is in neither was never written.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Their records are damaged, or packed against damaged ones.
    pub damaged: u64,
    /// They went with their segment.
    pub dropped: u64,
}

/// What a record led to.
enum Step {
    /// The number of the batch, and how far that behind it is.
    Gave(u64, u64),
    /// Came before the position, or is no batch.
    Passed,
    /// Is a batch that is of no use without a record that is damaged.
    Lost(u64, u64),
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, sequence: u64) -> Self {
        Reader {
            shared,
            open: None,
            next: sequence.max(1),
            lost: 0,
            missing: Missing::default(),
            damage: false,
            memory: Vec::new(),
        }
    }

    /// One that reads the same log from `sequence` on.
    pub fn another(&self, sequence: u64) -> Reader {
        Reader::new(self.shared.clone(), sequence)
    }

    /// The batch that [`Reader::read`] would give next, were it there and sound.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Goes on with batch `sequence`, wherever the reader was.
    pub fn seek(&mut self, sequence: u64) {
        if sequence < self.next {
            self.close();
        }
        self.next = sequence;
    }

    /// Why numbers are missing that were passed over since this was asked last.
    pub fn take_missing(&mut self) -> Missing {
        std::mem::take(&mut self.missing)
    }

    /// What this reader could not give because of damage, in what the numbers count.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether all that is committed has been read.
    pub fn at_end(&self) -> bool {
        self.next >= self.shared.extent().next
    }

    /// Fills `batch` with the next one that can be read and gives its number; `None` at the committed end.
    ///
    /// Batches that are damaged, or went with their segment, are passed over: the number says how many. Where the
    /// position is within a batch, all of the batch is given.
    ///
    /// # Errors
    /// When a segment can't be read. The next call tries again at the same place.
    pub fn read(&mut self, batch: &mut Batch) -> Result<Option<u64>, LogError> {
        loop {
            if !self.open_segment()? {
                return Ok(None);
            }
            let open = self.open.as_mut().expect("opened above");
            let fail = |error| LogError::io(&segment_path(&self.shared.folder, open.first), error);
            let (found, skipped) = open.window.next_record(open.limit).map_err(fail)?;
            self.damage |= skipped > 0;
            self.shared.counters.corrupt.fetch_add(u64::from(skipped > 0), Ordering::Relaxed);
            match found {
                Some(length) => {
                    let step = open.take(length, self.next, batch, &self.shared);
                    open.window.at += length as u64;
                    match step {
                        Step::Gave(sequence, width) => {
                            self.pass(sequence + width, width);
                            self.damage = false;
                            return Ok(Some(sequence));
                        }
                        Step::Lost(sequence, width) => {
                            self.damage = true;
                            self.pass(sequence + width, 0);
                        }
                        Step::Passed => {}
                    }
                }
                None if !self.go_on() => return Ok(None),
                None => {}
            }
        }
    }

    /// Moves the position to `next`; of what lies between so much was given, the rest is lost.
    fn pass(&mut self, next: u64, given: u64) {
        let lost = next.saturating_sub(self.next + given);
        self.lost += lost;
        self.missing.damaged += if self.damage { lost } else { 0 };
        self.shared.counters.lost.fetch_add(lost, Ordering::Relaxed);
        self.next = self.next.max(next);
    }

    /// Sees to it that the segment of the position is open; `false` where there is none yet.
    fn open_segment(&mut self) -> Result<bool, LogError> {
        // Segments that were dropped are counted as dropped, and not given although they may still be open.
        let oldest = self.shared.oldest.load(Ordering::Acquire);
        self.missing.dropped += oldest.saturating_sub(self.next);
        self.next = self.next.max(oldest);
        if self.open.as_ref().is_some_and(|open| open.first >= oldest) {
            return Ok(true);
        }
        self.close();
        let found = {
            let extent = self.shared.extent();
            let below = extent.segments.range(..=self.next).next_back();
            below.or_else(|| extent.segments.iter().next()).map(|(&first, segment)| (first, segment.bytes))
        };
        let Some((first, limit)) = found else { return Ok(false) };
        let path = segment_path(&self.shared.folder, first);
        let memory = std::mem::take(&mut self.memory);
        let window = Window::open(&path, memory).map_err(|error| LogError::io(&path, error))?;
        self.open = Some(Open { first, window, known: Definitions::default(), limit });
        Ok(true)
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.memory = open.window.bytes;
            if self.memory.capacity() > MAX_KEPT_BUFFER {
                self.memory = Vec::new();
            }
        }
    }

    /// At the end of what was known of the segment: whether there is more, in it or after it.
    fn go_on(&mut self) -> bool {
        let Some(open) = &mut self.open else { return false };
        let (committed, following) = {
            let extent = self.shared.extent();
            let following = extent.segments.range(open.first + 1..).next().map(|(&first, _)| first);
            (extent.segments.get(&open.first).map_or(0, |segment| segment.bytes), following)
        };
        if committed > open.limit {
            open.limit = committed;
            return true;
        }
        let Some(following) = following else { return false };
        // What was not read of this segment, and should be in it, is damaged.
        self.pass(following, 0);
        self.close();
        true
    }
}

impl Open {
    /// Takes the record of `length` bytes at hand.
    fn take(&mut self, length: usize, next: u64, batch: &mut Batch, shared: &Shared) -> Step {
        let found = record::known(self.window.rest(), length);
        match found.kind {
            Kind::Definition => {
                self.known.define(found.payload);
                return Step::Passed;
            }
            Kind::List => {
                self.known.define_list(found.payload, shared);
                return Step::Passed;
            }
            Kind::Batch => {}
        }
        let sequence = record::sequence(self.first, found.sequence);
        let width = shared.count.width(record::samples(found.payload));
        let mut input = Input(found.payload);
        let mut take = || {
            let (known, shape) = self.known.find(input.number()?, shared)?;
            let back = input.number()?;
            input.number()?;
            if back == 0 {
                known.state.reset(shape.floats().len(), shape.histograms().len());
            } else if known.last == 0 || known.last + back != sequence {
                known.last = 0;
                return None;
            }
            batch.clear();
            known.last = 0;
            known.state.decode(&mut input, batch)?;
            known.last = sequence;
            batch.shape = Some(shape);
            Some(())
        };
        match take() {
            Some(()) if sequence + width > next => Step::Gave(sequence, width),
            Some(()) => Step::Passed,
            None => Step::Lost(sequence, width),
        }
    }
}

impl Definitions {
    /// Takes in a list; `None` where it makes no sense, though its checksum is right.
    fn define_list(&mut self, payload: &[u8], shared: &Shared) -> Option<()> {
        let (number, packed) = parse_list(payload)?;
        if self.lists.contains_key(&number) {
            return Some(());
        }
        let content = unpack_content(packed)?;
        let list = match shared.known_list(&content) {
            Some(list) => list,
            None => {
                let list = parse_content(&content, &shared.table)?;
                shared.remember_list(&content, &list);
                list
            }
        };
        self.lists.insert(number, list);
        Some(())
    }

    /// Takes in a shape; `None` where it makes no sense.
    fn define(&mut self, payload: &[u8]) -> Option<()> {
        let definition = parse_definition(payload)?;
        for freed in definition.freed {
            self.shapes.remove(&freed);
        }
        self.shapes.entry(definition.number).or_insert_with(|| Known {
            list: definition.list,
            owner: definition.owner.into(),
            shape: None,
            state: State::default(),
            last: 0,
        });
        Some(())
    }

    /// The shape of that number; `None` while a part of it is not known.
    fn find(&mut self, number: u64, shared: &Shared) -> Option<(&mut Known, Arc<Shape>)> {
        let known = self.shapes.get_mut(&number)?;
        if let Some(shape) = &known.shape {
            let shape = shape.clone();
            return Some((known, shape));
        }
        let list = self.lists.get(&known.list)?;
        let shape = match shared.known_shape(list, &known.owner) {
            Some(shape) => shape,
            None => {
                let shape = parse_owner(&known.owner, list)?;
                shared.remember_shape(&known.owner, &shape);
                shape
            }
        };
        known.shape = Some(shape.clone());
        Some((known, shape))
    }
}
