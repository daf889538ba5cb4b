//! The thread between the ring and the sinks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Staleness, Tail};
use crate::batch_log::Journal;
use crate::limits::TAIL_SAMPLES;
use crate::model::Batch;
use crate::ring::Receiver;
use crate::self_metrics::Counters;

/// How long the thread sleeps at the most when nothing comes.
const IDLE: Duration = Duration::from_secs(1);
/// How long batches gather once one has come. A process that is killed loses no more than came in this time.
const GATHER: Duration = Duration::from_millis(20);

/// Samples that are written and shown together at the most.
const TOGETHER: usize = TAIL_SAMPLES / 8;

/// The log's writing side; it appears when the first endpoint does.
pub type SharedJournal = Arc<Mutex<Option<Journal>>>;

/// Takes batches out of the ring until it is closed and empty.
pub struct Aggregator {
    ring: Receiver,
    tail: Arc<Tail>,
    journal: SharedJournal,
    counters: Arc<Counters>,
    staleness: Staleness,
    marker: Batch,
}

impl Aggregator {
    pub fn new(ring: Receiver, tail: Arc<Tail>, journal: SharedJournal, counters: Arc<Counters>) -> Self {
        Aggregator {
            ring,
            tail,
            journal,
            counters,
            staleness: Staleness::default(),
            marker: Batch::default(),
        }
    }

    /// Runs until the sources have closed the ring.
    pub fn run(mut self) {
        loop {
            let closed = self.ring.is_closed();
            self.drain();
            if closed {
                return;
            }
            self.ring.wait(IDLE);
            self.ring.gather(GATHER);
        }
    }

    /// Takes what is in the ring now.
    pub fn drain(&mut self) {
        let mut taken = 0;
        while let Some(batch) = self.ring.try_recv() {
            taken += batch.samples();
            self.take(batch);
            if taken >= TOGETHER {
                self.publish();
                taken = 0;
            }
        }
        self.publish();
        if let Some(acknowledged) = self.counters.least_acknowledged() {
            self.tail.release(acknowledged);
            if let Some(journal) = &mut *lock(&self.journal) {
                journal.maintain(&self.counters);
            }
        }
    }

    /// One batch from the ring: what it ends, then what it says.
    fn take(&mut self, batch: Batch) {
        let mut marker = std::mem::take(&mut self.marker);
        if self.staleness.observe(&batch, &mut marker) {
            self.append(&marker);
        }
        self.marker = marker;
        if batch.samples() > 0 {
            self.append(&batch);
        }
        self.ring.give_back(batch);
    }

    fn append(&mut self, batch: &Batch) {
        if let Some(journal) = &mut *lock(&self.journal) {
            journal.append(self.tail.next(), batch, &self.counters);
        }
        self.tail.push(batch);
        self.counters.samples_in.add(batch.samples() as u64);
        self.counters.highest_timestamp_ms.raise_to(batch.time_ms.try_into().unwrap_or(0));
    }

    /// First to the log, then to whom it may concern.
    fn publish(&mut self) {
        if let Some(journal) = &mut *lock(&self.journal) {
            journal.commit(&self.counters);
        }
        self.tail.publish();
        self.counters.newest_number.set(self.tail.next());
    }
}

/// Only a reload takes the lock besides, and only once.
fn lock(journal: &SharedJournal) -> std::sync::MutexGuard<'_, Option<Journal>> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}
