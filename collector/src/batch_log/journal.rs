//! The log as the daemon uses it: a writing side that survives a full disk, and a reading side for each endpoint.
//!
//! While the log can't be written, memory alone holds what is not sent. Each batch is tried, so that the log goes
//! on by itself when there is room again; what it missed is missed only by an endpoint that lags that far.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{BatchLog, Count, Limits, LogError, Missing, Part, Position, Reader, Standing};
use crate::model::{Batch, Numbered, SeriesTable, Slabs};
use crate::self_metrics::Counters;
use crate::sys::clock;

/// Attempts to read the same place before it is given up.
const MAX_READ_FAILURES: u32 = 10;
/// Slabs of one endpoint that are used again.
const MAX_SLABS: usize = 1024;

/// The writing side, for the aggregator.
pub struct Journal {
    log: BatchLog,
    failing: bool,
}

impl Journal {
    /// Opens the log in `folder`, with a number for every sample.
    ///
    /// # Errors
    /// As [`BatchLog::open`].
    pub fn open(
        folder: &Path,
        max_bytes: u64,
        max_age: Duration,
        table: &Arc<SeriesTable>,
    ) -> Result<Self, LogError> {
        let max_age_ms = i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX);
        let limits = Limits { max_bytes, max_age_ms, count: Count::Samples, ..Limits::default() };
        Ok(Journal { log: BatchLog::open(folder, limits, table.clone())?, failing: false })
    }

    /// The number that the next batch gets.
    pub fn next(&self) -> u64 {
        self.log.next()
    }

    /// Packs the batch that has the number `sequence`; it is written with others, at the latest by
    /// [`Journal::commit`]. A failure is logged when it begins, and counted.
    pub fn append(&mut self, sequence: u64, batch: &Batch, counters: &Counters) {
        if let Err(error) = self.log.stage(sequence, batch) {
            self.failed(&error, counters);
        }
    }

    /// Writes what was appended.
    pub fn commit(&mut self, counters: &Counters) {
        match self.log.commit() {
            Ok(true) if self.failing => {
                self.failing = false;
                counters.log_failing.set(0);
                log::info!("the batch log is written again");
            }
            Ok(_) => {}
            Err(error) => self.failed(&error, counters),
        }
    }

    fn failed(&mut self, error: &LogError, counters: &Counters) {
        counters.log_write_errors.add(1);
        counters.log_failing.set(1);
        if !self.failing {
            log::error!(err:% = error; "the batch log can't be written: memory alone holds what is not sent");
        }
        self.failing = true;
    }

    /// Removes what every endpoint has and what the caps no longer allow, and shows how the log is.
    pub fn maintain(&mut self, counters: &Counters) {
        self.log.enforce(clock::now_ms());
        let stats = self.log.stats();
        counters.log_bytes.set(stats.bytes);
        counters.log_segments.set(stats.segments as u64);
        counters.log_corrupt_records.set(stats.corrupt);
        counters.log_dropped_by_size.set(stats.dropped_size);
        counters.log_dropped_by_age.set(stats.dropped_age);
    }

    /// The reading side of the endpoint `name`, at the place that it had acknowledged.
    ///
    /// # Errors
    /// When the file of its place can't be read or made.
    pub fn backlog(&self, name: &str) -> Result<Backlog, LogError> {
        let position = self.log.position(name)?;
        let reader = self.log.reader(position.next());
        Ok(Backlog::new(reader, Arc::new(Mutex::new(position)), Part::First))
    }

    /// Only these endpoints hold back what they have not acknowledged.
    pub fn keep_endpoints(&self, names: &[&str]) {
        if let Err(error) = self.log.keep_endpoints(names, clock::now_ms()) {
            log::warn!(err:% = error; "the place of an old endpoint can't be removed");
        }
    }
}

/// The reading side of one endpoint, or of one part of what it has to send.
pub struct Backlog {
    reader: Reader,
    position: Arc<Mutex<Position>>,
    part: Part,
    failures: u32,
    /// Whether what was asked for last could not be read, again and again.
    gave_up: bool,
    complained: bool,
    slabs: Slabs,
}

impl Backlog {
    fn new(reader: Reader, position: Arc<Mutex<Position>>, part: Part) -> Self {
        Backlog {
            reader,
            position,
            part,
            failures: 0,
            gave_up: false,
            complained: false,
            slabs: Slabs::default(),
        }
    }

    /// Only the task of the endpoint takes the lock.
    fn position(&self) -> MutexGuard<'_, Position> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is settled of this part.
    pub fn standing(&self) -> Standing {
        *self.position().standing(self.part)
    }

    /// The number where the second part takes over, and the second part, if there is one.
    pub fn second(&self) -> Option<(u64, Backlog)> {
        let (at, from) = {
            let position = self.position();
            (position.split()?, position.standing(Part::Second).fetched)
        };
        Some((at, Backlog::new(self.reader.another(from), self.position.clone(), Part::Second)))
    }

    /// Makes what comes from number `at` on a part of its own.
    pub fn split_at(&mut self, at: u64) -> Backlog {
        let result = self.position().split_at(at);
        self.say(result);
        Backlog::new(self.reader.another(at), self.position.clone(), Part::Second)
    }

    /// Makes this, the second part, the only one: the first is settled.
    pub fn unite(&mut self) {
        let result = self.position().unite();
        self.part = Part::First;
        self.say(result);
    }

    /// Why numbers are missing from what was fetched since this was asked last.
    pub fn take_missing(&mut self) -> Missing {
        let missing = self.reader.take_missing();
        let damaged = if std::mem::take(&mut self.gave_up) { u64::MAX } else { missing.damaged };
        Missing { damaged, ..missing }
    }

    /// Appends batches from number `from` on, but none from `until` on, within `max_samples` or at least one.
    /// `false` when the log has none of them; where it can't be read for the moment, `true` without any.
    pub fn fetch(&mut self, from: u64, until: u64, max_samples: usize, out: &mut Vec<Numbered>) -> bool {
        self.reader.seek(from);
        let (before, mut samples) = (out.len(), 0);
        while samples < max_samples && self.reader.position() < until {
            let mut slab = self.slabs.take();
            let batch = Arc::get_mut(&mut slab).expect("a slab at hand has one owner");
            match self.reader.read(batch) {
                Ok(Some(sequence)) if sequence < until => {
                    self.failures = 0;
                    samples += slab.samples();
                    self.slabs.remember(slab.clone(), MAX_SLABS);
                    out.push(Numbered { sequence, batch: slab });
                }
                Ok(_) => break,
                Err(error) => {
                    self.failures += 1;
                    log::warn!(err:% = error, attempt = self.failures; "the batch log can't be read");
                    self.gave_up = self.failures >= MAX_READ_FAILURES;
                    return !self.gave_up;
                }
            }
        }
        out.len() > before
    }

    /// Of each lane everything below its place is settled.
    pub fn settle(&mut self, standing: &Standing) {
        let result = self.position().settle(self.part, standing);
        self.say(result);
    }

    /// What the sender has kept of its endpoint, in this life or in one before.
    pub fn kept(&self) -> Option<Vec<u8>> {
        self.position().beside()
    }

    /// Keeps this of the endpoint, in place of what was.
    pub fn keep(&mut self, bytes: &[u8]) {
        let result = self.position().keep_beside(bytes);
        if let Err(error) = result {
            log::debug!(err:% = error; "what was learnt of an endpoint can't be kept over a restart");
        }
    }

    /// Says once that the place can't be written.
    fn say(&mut self, result: Result<(), LogError>) {
        match result {
            Ok(()) => self.complained = false,
            Err(error) if !self.complained => {
                self.complained = true;
                log::warn!(err:% = error;
                    "a place in the batch log can't be written: after a restart some samples will be sent again");
            }
            Err(_) => {}
        }
    }
}
