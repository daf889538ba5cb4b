//! Appends batches, begins segments, and drops the oldest where the log would grow beyond its limits.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use hashbrown::HashMap;

use super::definition::{encode_content, encode_definition, encode_list, encode_owner, pack_content};
use super::files::{self, Window};
use super::numbers::encode_number;
use super::pack::State;
use super::position::{self, Position};
use super::record::{self, Kind, OPENING};
use super::shared::{Extent, Segment, Shared, Stats};
use super::{DEFINE_EVERY, KEY_EVERY, Limits, LogError, Reader};
use crate::model::{Batch, SeriesList, SeriesTable, Shape};

/// Shapes of a segment beyond which those that no longer live are forgotten.
const SWEEP_SHAPES: usize = 64;

/// Bytes of packed contents that are kept for the next segment; what goes beyond is spelled out again.
const MAX_PACKED: usize = 64 << 20;

/// Bytes of records that are written together at the most.
const MAX_STAGED: usize = 256 << 10;

/// The content of a list, packed: segments repeat it, and to spell it out costs a hundred times its writing.
struct Packed {
    list: Weak<SeriesList>,
    content: Box<[u8]>,
}

/// A list that has come in the active segment.
struct KnownList {
    number: u32,
    /// Batches of any of its shapes since it was written.
    uses: u32,
    list: Weak<SeriesList>,
}

/// A shape that has come in the active segment.
struct Known {
    number: u32,
    shape: Weak<Shape>,
    state: State,
    /// Batches since it was defined, and since one stood alone.
    defined: u32,
    key: u32,
    /// Whether what is on the disk agrees with `state`.
    sound: bool,
    last: u64,
}

/// What the buffer holds.
#[derive(Clone, Copy, Default)]
struct Staged {
    /// The number behind the last batch; 0 where there is none.
    next: u64,
    newest_ms: i64,
}

/// The segment that is written to.
struct Active {
    first: u64,
    file: File,
    path: PathBuf,
    bytes: u64,
}

/// The log, for the thread that appends. Dropping it releases the folder.
pub struct BatchLog {
    limits: Limits,
    shared: Arc<Shared>,
    active: Option<Active>,
    known: HashMap<u64, Known>,
    lists: HashMap<u64, KnownList>,
    next_number: u32,
    next_list: u32,
    freed: Vec<u32>,
    sweep_at: usize,
    content: Vec<u8>,
    packed: HashMap<u64, Packed>,
    packed_bytes: usize,
    /// Records that are not written yet.
    buffer: Vec<u8>,
    staged: Staged,
    _lock: File,
}

impl BatchLog {
    /// Opens the log in `folder`, which is made if need be. What a killed process left half written is cut off.
    ///
    /// # Errors
    /// [`LogError::Locked`] where another process has the folder; else what the file system says.
    pub fn open(folder: &Path, limits: Limits, table: Arc<SeriesTable>) -> Result<Self, LogError> {
        let lock = files::lock_folder(folder)?;
        let mut extent = Extent { next: position::largest(folder)?.max(1), ..Extent::default() };
        let listed = files::list_segments(folder)?;
        for (number, segment) in listed.iter().enumerate() {
            let mut bytes = segment.bytes;
            extent.next = extent.next.max(segment.first);
            if number + 1 == listed.len() {
                let path = files::segment_path(folder, segment.first);
                let fail = |error| LogError::io(&path, error);
                let end = files::find_end(&path, segment.first, segment.bytes).map_err(fail)?;
                let Some((last, samples)) = end.last else {
                    std::fs::remove_file(&path).map_err(fail)?;
                    break;
                };
                if end.bytes < segment.bytes {
                    log::warn!(
                        "{}: cut off {} bytes that were not written whole",
                        path.display(),
                        segment.bytes - end.bytes
                    );
                    let file = OpenOptions::new().write(true).open(&path).map_err(fail)?;
                    file.set_len(end.bytes).map_err(fail)?;
                }
                bytes = end.bytes;
                extent.next = extent.next.max(last + limits.count.width(samples));
            }
            extent.segments.insert(segment.first, Segment { bytes, newest_ms: segment.newest_ms });
        }
        let shared = Arc::new(Shared::new(folder.to_owned(), table, extent, limits.count));
        Ok(BatchLog {
            limits,
            shared,
            active: None,
            known: HashMap::new(),
            lists: HashMap::new(),
            next_number: 0,
            next_list: 0,
            freed: Vec::new(),
            sweep_at: SWEEP_SHAPES,
            content: Vec::new(),
            packed: HashMap::new(),
            packed_bytes: 0,
            buffer: Vec::new(),
            staged: Staged::default(),
            _lock: lock,
        })
    }

    /// The acknowledged position of the endpoint `name`: where it stood, or for a new one the end of the log.
    /// From now on the log keeps what this endpoint has not acknowledged, until [`BatchLog::keep_endpoints`].
    ///
    /// # Errors
    /// When its file can't be read or made.
    pub fn position(&self, name: &str) -> Result<Position, LogError> {
        let end = self.next();
        let position = Position::open(&self.shared.folder, name, end, end)?;
        let mut endpoints = self.shared.endpoints();
        endpoints.retain(|endpoint| endpoint.name != name);
        endpoints.push(position.state().clone());
        Ok(position)
    }

    /// From now on only these endpoints count. Positions of others stay on the disk for the log's greatest age,
    /// in case they come back, but hold no segment.
    ///
    /// # Errors
    /// When the file of a position that is too old can't be removed.
    pub fn keep_endpoints(&self, names: &[&str], now_ms: i64) -> Result<(), LogError> {
        self.shared.endpoints().retain(|endpoint| names.contains(&endpoint.name.as_str()));
        position::remove_forgotten(&self.shared.folder, names, now_ms.saturating_sub(self.limits.max_age_ms))
    }

    /// A reader that begins with batch `sequence`, or with the oldest that there is.
    pub fn reader(&self, sequence: u64) -> Reader {
        Reader::new(self.shared.clone(), sequence)
    }

    /// The number that the next batch gets. Numbers begin with 1 and rise as [`Limits::count`] says.
    pub fn next(&self) -> u64 {
        self.shared.extent().next
    }

    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Writes a batch behind the others, and gives its number. Ask for the positions of all endpoints before the
    /// first append: where there is none, the log keeps only the segment that is written to.
    ///
    /// # Errors
    /// When it could not be written: then nothing of it is in the log, and the caller keeps it and tries again.
    /// [`LogError::TooLarge`] alone will not pass.
    ///
    /// # Panics
    /// If the batch has no shape, or another number of values than that.
    pub fn append(&mut self, batch: &Batch) -> Result<u64, LogError> {
        self.append_at(self.next(), batch)
    }

    /// The same with a number of the caller's, which must not be below [`BatchLog::next`]. Numbers that are left
    /// out are those of batches that could not be written; readers count them as lost.
    ///
    /// # Errors
    /// As [`BatchLog::append`].
    ///
    /// # Panics
    /// As [`BatchLog::append`].
    pub fn append_at(&mut self, sequence: u64, batch: &Batch) -> Result<u64, LogError> {
        let sequence = self.stage(sequence, batch)?;
        self.commit()?;
        Ok(sequence)
    }

    /// Packs a batch as [`BatchLog::append_at`] does, but leaves it to [`BatchLog::commit`] to write it, together with
    /// others: a system call costs as much as the packing of a hundred samples. Readers see it only then. Where much
    /// has come together, it is written now.
    ///
    /// # Errors
    /// As [`BatchLog::commit`]: then the batch is not in the log, and none of those that were staged before it.
    /// [`LogError::TooLarge`] is about this one alone.
    ///
    /// # Panics
    /// As [`BatchLog::append`].
    pub fn stage(&mut self, sequence: u64, batch: &Batch) -> Result<u64, LogError> {
        let sequence = sequence.max(self.next()).max(self.staged.next);
        let segment_bytes = self.limits.segment_bytes.min(self.limits.max_bytes / 4);
        let staged = self.buffer.len();
        let full = |active: &Active| active.bytes + staged as u64 >= segment_bytes;
        if staged >= MAX_STAGED || self.active.as_ref().is_some_and(full) {
            self.commit()?;
        }
        if self.active.as_ref().is_some_and(|active| active.bytes >= segment_bytes) {
            self.active = None;
            self.enforce(batch.time_ms);
        }
        if self.active.is_none() {
            self.begin_segment(sequence).inspect_err(|_| self.shared.count_write_error())?;
        }
        let staged = self.buffer.len();
        if let Err(error) = self.encode_records(batch, sequence) {
            self.buffer.truncate(staged);
            self.shared.count_write_error();
            return Err(error);
        }
        let known = self.known.get_mut(&batch.shape().id()).expect("defined above");
        (known.sound, known.last) = (true, sequence);
        (known.defined, known.key) = (known.defined + 1, known.key + 1);
        self.lists.get_mut(&batch.shape().list().id()).expect("defined above").uses += 1;
        let next = sequence + self.limits.count.width(batch.samples() as u64);
        self.staged = Staged { next, newest_ms: batch.time_ms };
        Ok(sequence)
    }

    /// Writes what was staged; whether that was anything.
    ///
    /// # Errors
    /// When it could not be written: then nothing of it is in the log.
    pub fn commit(&mut self) -> Result<bool, LogError> {
        let staged = std::mem::take(&mut self.staged);
        let Some(active) = self.active.as_mut().filter(|_| staged.next > 0) else { return Ok(false) };
        let written = active.file.write_all_at(&self.buffer, active.bytes);
        let bytes = self.buffer.len() as u64;
        self.buffer.clear();
        if let Err(error) = written {
            // What was written in part is cut off, or written over by the next batches.
            if let Err(error) = active.file.set_len(active.bytes) {
                log::debug!("{}: could not cut off a partly written batch: {error}", active.path.display());
            }
            let error = LogError::io(&active.path, error);
            self.shared.count_write_error();
            self.doubt();
            return Err(error);
        }
        active.bytes += bytes;
        let segment = Segment { bytes: active.bytes, newest_ms: staged.newest_ms };
        let over = {
            let mut extent = self.shared.extent();
            extent.segments.insert(active.first, segment);
            extent.next = staged.next;
            extent.segments.len() > 1 && extent.bytes() > self.limits.max_bytes
        };
        if over {
            self.enforce(staged.newest_ms);
        }
        Ok(true)
    }

    /// After a write that failed it is not known what of it readers would have needed: all is said again.
    fn doubt(&mut self) {
        self.known.values_mut().for_each(|known| (known.sound, known.defined) = (false, 0));
        self.lists.values_mut().for_each(|list| list.uses = 0);
    }

    fn encode_records(&mut self, batch: &Batch, sequence: u64) -> Result<(), LogError> {
        self.encode_list_if_due(batch.shape().list(), sequence)?;
        self.encode_definition_if_due(batch.shape(), sequence)?;
        self.encode_batch(batch, sequence)
    }

    fn begin_segment(&mut self, first: u64) -> Result<(), LogError> {
        let path = files::segment_path(&self.shared.folder, first);
        let fail = |error| LogError::io(&path, error);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o640).open(&path).map_err(fail)?;
        file.write_all_at(&OPENING, 0).map_err(fail)?;
        self.known.clear();
        self.lists.clear();
        self.freed.clear();
        (self.next_number, self.next_list) = (0, 0);
        self.active = Some(Active { first, file, path, bytes: OPENING.len() as u64 });
        Ok(())
    }

    /// Appends a definition to the buffer where the active segment has none of this shape, or none lately.
    fn encode_definition_if_due(&mut self, shape: &Arc<Shape>, sequence: u64) -> Result<(), LogError> {
        if self.known.get(&shape.id()).is_some_and(|known| known.defined > 0 && known.defined < DEFINE_EVERY)
        {
            return Ok(());
        }
        if self.known.len() >= self.sweep_at {
            let freed = &mut self.freed;
            self.known.retain(|_, known| {
                let lives = known.shape.strong_count() > 0;
                freed.extend((!lives).then_some(known.number));
                lives
            });
            self.sweep_at = SWEEP_SHAPES.max(self.known.len() * 2);
            self.lists.retain(|_, known| known.list.strong_count() > 0);
            self.forget_dead();
        }
        self.content.clear();
        encode_owner(shape, &mut self.content);
        self.shared.remember_shape(&self.content, shape);
        let list = self.lists.get(&shape.list().id()).expect("defined before").number;
        let next_number = &mut self.next_number;
        let known = self.known.entry(shape.id()).or_insert_with(|| {
            *next_number += 1;
            Known {
                number: *next_number,
                shape: Arc::downgrade(shape),
                state: State::default(),
                defined: 0,
                key: 0,
                sound: false,
                last: 0,
            }
        });
        (known.defined, known.sound) = (0, false);
        let start = record::begin(&mut self.buffer);
        // Should the write fail, readers keep those shapes until the segment ends.
        encode_definition(known.number, &self.freed, list, shape, &mut self.buffer);
        self.freed.clear();
        record::end(Kind::Definition, sequence, start, &mut self.buffer)
            .map_err(|bytes| LogError::TooLarge { bytes })
    }

    /// Appends a list to the buffer where the active segment has it not, or not lately.
    fn encode_list_if_due(&mut self, list: &Arc<SeriesList>, sequence: u64) -> Result<(), LogError> {
        let next_list = &mut self.next_list;
        let known = self.lists.entry(list.id()).or_insert_with(|| {
            *next_list += 1;
            KnownList { number: *next_list, uses: 0, list: Arc::downgrade(list) }
        });
        if known.uses > 0 && known.uses < DEFINE_EVERY {
            return Ok(());
        }
        known.uses = 0;
        let number = known.number;
        self.pack(list);
        let start = record::begin(&mut self.buffer);
        let packed = self.packed.get(&list.id()).expect("packed above");
        encode_list(number, &packed.content, &mut self.buffer);
        record::end(Kind::List, sequence, start, &mut self.buffer)
            .map_err(|bytes| LogError::TooLarge { bytes })
    }

    fn forget_dead(&mut self) {
        self.packed.retain(|_, packed| packed.list.strong_count() > 0);
        self.packed_bytes = self.packed.values().map(|packed| packed.content.len()).sum();
    }

    /// Makes sure that the packed content of the list is there.
    fn pack(&mut self, list: &Arc<SeriesList>) {
        if self.packed.contains_key(&list.id()) {
            return;
        }
        self.content.clear();
        encode_content(list, &mut self.content);
        self.shared.remember_list(&self.content, list);
        let content = pack_content(&self.content);
        if self.content.capacity() > MAX_STAGED {
            self.content = Vec::new();
        }
        self.packed_bytes += content.len();
        if self.packed_bytes > MAX_PACKED {
            self.forget_dead();
            self.packed_bytes += content.len();
            if self.packed_bytes > MAX_PACKED {
                self.packed.clear();
                self.packed_bytes = content.len();
            }
        }
        self.packed.insert(list.id(), Packed { list: Arc::downgrade(list), content });
    }

    fn encode_batch(&mut self, batch: &Batch, sequence: u64) -> Result<(), LogError> {
        let shape = batch.shape();
        let known = self.known.get_mut(&shape.id()).expect("its definition came before");
        if !known.sound || known.key >= KEY_EVERY {
            known.state.reset(shape.floats().len(), shape.histograms().len());
            (known.key, known.last) = (0, 0);
        }
        let start = record::begin(&mut self.buffer);
        encode_number(known.number.into(), &mut self.buffer);
        // 0 says that it stands alone; else how far back the batch is against which it is packed.
        let back = if known.last == 0 { 0 } else { sequence - known.last };
        encode_number(back, &mut self.buffer);
        encode_number(batch.samples() as u64, &mut self.buffer);
        known.sound = false;
        known.state.encode(batch, &mut self.buffer);
        record::end(Kind::Batch, sequence, start, &mut self.buffer)
            .map_err(|bytes| LogError::TooLarge { bytes })
    }

    /// Removes the segments that every endpoint has acknowledged, and those that the limits no longer allow.
    /// `now_ms` is what ages are measured from. The log also does so by itself when it begins a segment.
    pub fn enforce(&mut self, now_ms: i64) {
        let needed = self.shared.needed();
        loop {
            let (first, next_first, segment, bytes) = {
                let extent = self.shared.extent();
                let mut segments = extent.segments.iter();
                let Some((&first, &segment)) = segments.next() else { break };
                let is_active = self.active.as_ref().is_some_and(|active| active.first == first);
                if is_active {
                    break;
                }
                let next_first = segments.next().map_or(extent.next, |(&first, _)| first);
                (first, next_first, segment, extent.bytes())
            };
            let counters = &self.shared.counters;
            let counter = if next_first <= needed {
                None
            } else if bytes > self.limits.max_bytes {
                Some(&counters.dropped_size)
            } else if now_ms.saturating_sub(segment.newest_ms) > self.limits.max_age_ms {
                Some(&counters.dropped_age)
            } else {
                break;
            };
            if let Some(counter) = counter {
                let path = files::segment_path(&self.shared.folder, first);
                counter.fetch_add(count_samples(&path, first, segment.bytes, needed), Ordering::Relaxed);
            }
            self.remove_segment(first, next_first);
        }
    }

    fn remove_segment(&self, first: u64, next_first: u64) {
        let path = files::segment_path(&self.shared.folder, first);
        if let Err(error) = std::fs::remove_file(&path) {
            log::warn!("{}: could not remove a segment: {error}", path.display());
        }
        self.shared.extent().segments.remove(&first);
        self.shared.oldest.store(next_first, Ordering::Release);
    }
}

/// How many samples of a segment no endpoint before batch `needed` has: those from there on.
fn count_samples(path: &Path, first: u64, bytes: u64, needed: u64) -> u64 {
    let Ok(mut window) = Window::open(path, Vec::new()) else { return 0 };
    let mut samples = 0;
    while let Ok((Some(length), _)) = window.next_record(bytes) {
        let found = record::known(window.rest(), length);
        if found.kind == Kind::Batch && record::sequence(first, found.sequence) >= needed {
            samples += record::samples(found.payload);
        }
        window.at += length as u64;
    }
    samples
}
