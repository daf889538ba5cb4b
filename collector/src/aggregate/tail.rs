//! The newest batches, in memory: from here the endpoints that keep up take what they send.
//!
//! The number of a batch is the count of samples that came before it since the log was begun, here and in the
//! batch log. So the distance of two numbers is what lies between them: what an endpoint has still to send, or
//! what was lost. What falls out at the old end is still in the log; an endpoint that finds its place gone goes
//! there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::limits::{TAIL_BATCHES, TAIL_SAMPLES};
use crate::model::{Batch, Numbered, Slabs};

struct Inner {
    entries: VecDeque<Numbered>,
    /// The number that the next batch will have.
    next: u64,
    /// From here on nobody sees anything yet.
    published: u64,
    samples: usize,
    /// Those of batches that have left the window, to be used again once no endpoint holds them.
    spare: Slabs,
}

/// The window, shared by the aggregator and the endpoints.
pub struct Tail {
    inner: Mutex<Inner>,
    newest: watch::Sender<u64>,
}

/// What [`Tail::fetch`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Batches were appended, in order, from the number that was asked for.
    Some,
    /// There is nothing newer yet.
    UpToDate,
    /// The window begins only at this number: what is older must come from the log.
    BeginsAt(u64),
}

impl Tail {
    /// A window whose first batch will have the number `next`.
    pub fn new(next: u64) -> Self {
        let inner =
            Inner { entries: VecDeque::new(), next, published: next, samples: 0, spare: Slabs::default() };
        Tail { inner: Mutex::new(inner), newest: watch::Sender::new(next) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a copy of `batch`, which must not be empty, into the window under the next number, which it
    /// returns; the oldest batches make room. It is seen after [`Tail::publish`]. Allocates nothing once the window
    /// has gone round.
    pub fn push(&self, batch: &Batch) -> u64 {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let mut slab = inner.spare.take();
        let copy = Arc::get_mut(&mut slab).expect("a free slab has one owner");
        copy.copy_from(batch);
        let sequence = inner.next;
        let samples = batch.samples();
        inner.next += samples as u64;
        inner.samples += samples;
        inner.entries.push_back(Numbered { sequence, batch: slab });
        while inner.samples > TAIL_SAMPLES || inner.entries.len() > TAIL_BATCHES {
            inner.evict();
        }
        sequence
    }

    /// Shows the endpoints what was pushed; wakes nobody where that is nothing.
    pub fn publish(&self) {
        let mut guard = self.lock();
        if guard.published < guard.next {
            guard.published = guard.next;
            self.newest.send_replace(guard.next);
        }
    }

    /// Lets go of what no endpoint needs: the batches below the number `before`.
    pub fn release(&self, before: u64) {
        let mut guard = self.lock();
        while guard.entries.front().is_some_and(|entry| entry.sequence < before) {
            guard.evict();
        }
    }

    /// Appends to `out` the batches from number `from` on, the first of them whole where `from` is within it: at
    /// least one, then as many as stay within `max_samples`.
    pub fn fetch(&self, from: u64, max_samples: usize, out: &mut Vec<Numbered>) -> Fetched {
        let guard = self.lock();
        if from >= guard.published {
            return Fetched::UpToDate;
        }
        let first = guard.entries.front().map_or(guard.next, |entry| entry.sequence).min(guard.published);
        if from < first {
            return Fetched::BeginsAt(first);
        }
        let mut samples = 0;
        let start = guard.entries.partition_point(|entry| entry.end() <= from);
        for (n, entry) in guard.entries.range(start..).enumerate() {
            samples += entry.batch.samples();
            if (samples > max_samples && n > 0) || entry.sequence >= guard.published {
                break;
            }
            out.push(entry.clone());
        }
        Fetched::Some
    }

    /// Makes `sequence` the next number, if nothing has been numbered yet.
    pub fn begin_at(&self, sequence: u64) {
        let mut guard = self.lock();
        if guard.entries.is_empty() && guard.next < sequence {
            (guard.next, guard.published) = (sequence, sequence);
        }
    }

    /// Numbers what is here anew, so that it begins at `sequence` at the least: behind what a log holds that was found
    /// late. Nobody may be reading.
    pub fn move_behind(&self, sequence: u64) {
        let mut guard = self.lock();
        let first = guard.entries.front().map_or(guard.next, |entry| entry.sequence);
        let by = sequence.saturating_sub(first);
        guard.entries.iter_mut().for_each(|entry| entry.sequence += by);
        guard.next += by;
        guard.published += by;
        self.newest.send_replace(guard.published);
    }

    /// The number that the next batch will have.
    pub fn next(&self) -> u64 {
        self.lock().next
    }

    /// Is told the number of the next batch each time one comes.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}

impl Inner {
    fn evict(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.samples -= entry.batch.samples();
            self.spare.remember(entry.batch, TAIL_BATCHES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(samples: usize) -> Batch {
        let mut batch = Batch::default();
        batch.values.resize(samples, 1.0);
        batch
    }

    fn numbers(tail: &Tail, from: u64, max: usize) -> (Fetched, Vec<u64>) {
        let mut out = Vec::new();
        let fetched = tail.fetch(from, max, &mut out);
        (fetched, out.iter().map(|n| n.sequence).collect())
    }

    #[test]
    fn batches_come_out_in_order_and_in_portions() {
        let tail = Tail::new(7);
        for _ in 0..4 {
            tail.push(&batch(10));
            tail.publish();
        }
        tail.push(&batch(10));
        assert_eq!(numbers(&tail, 37, 25), (Fetched::Some, vec![37]), "what is not published is not seen");
        assert_eq!(numbers(&tail, 47, 25), (Fetched::UpToDate, vec![]));
        let mut newest = tail.subscribe();
        tail.publish();
        assert!(newest.has_changed().unwrap());
        newest.mark_unchanged();
        tail.publish();
        assert!(!newest.has_changed().unwrap(), "nothing came");
        assert_eq!(numbers(&tail, 7, 25), (Fetched::Some, vec![7, 17]));
        assert_eq!(numbers(&tail, 27, 5), (Fetched::Some, vec![27]), "one that is too large goes alone");
        tail.release(27);
        assert_eq!(numbers(&tail, 7, 25), (Fetched::BeginsAt(27), vec![]));
        assert_eq!(tail.next(), 57);
    }

    #[test]
    fn what_is_there_moves_behind_a_log_that_was_found_late() {
        let tail = Tail::new(0);
        tail.push(&batch(10));
        tail.push(&batch(10));
        tail.publish();
        tail.release(10);
        tail.move_behind(500);
        assert_eq!((numbers(&tail, 500, 99), tail.next()), ((Fetched::Some, vec![500]), 510));
        tail.move_behind(20);
        assert_eq!(tail.next(), 510, "it is behind that");
    }

    #[test]
    fn the_window_is_bounded_and_its_slabs_are_used_again() {
        let tail = Tail::new(0);
        let half = TAIL_SAMPLES / 2;
        let mut held = Vec::new();
        tail.push(&batch(half));
        tail.publish();
        tail.fetch(0, 1, &mut held);
        for _ in 0..5 {
            tail.push(&batch(half));
        }
        tail.publish();
        assert_eq!(numbers(&tail, 0, 1).0, Fetched::BeginsAt(4 * half as u64));
        assert_eq!(held[0].batch.values.len(), half, "a slab in use is left alone");
        assert!(tail.lock().spare.len() <= 3);
    }
}
