//! The newest batches, in memory: from here the endpoints that keep up take what they send.
//!
//! Each batch has a sequence number, which is also its number in the batch log. What falls out at the old end
//! is still in the log; an endpoint that finds its place gone goes there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::limits::{TAIL_BATCHES, TAIL_SAMPLES};
use crate::model::Batch;

/// A batch and its place in the order of all batches.
#[derive(Clone)]
pub struct Numbered {
    pub sequence: u64,
    pub batch: Arc<Batch>,
}

struct Inner {
    entries: VecDeque<Numbered>,
    /// The number that the next batch will have.
    next: u64,
    samples: usize,
    /// Slabs whose batch has left the window, to be used again once no endpoint holds them.
    spare: Vec<Arc<Batch>>,
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
        let inner = Inner { entries: VecDeque::new(), next, samples: 0, spare: Vec::new() };
        Tail { inner: Mutex::new(inner), newest: watch::Sender::new(next) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a copy of `batch` into the window under the next number, which it returns; the oldest batches make
    /// room. Allocates nothing once the window has gone round.
    pub fn push(&self, batch: &Batch) -> u64 {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let mut slab = inner.free_slab();
        let copy = Arc::get_mut(&mut slab).expect("a free slab has one owner");
        copy.copy_from(batch);
        let sequence = inner.next;
        inner.next += 1;
        inner.samples += batch.values.len();
        inner.entries.push_back(Numbered { sequence, batch: slab });
        while inner.samples > TAIL_SAMPLES || inner.entries.len() > TAIL_BATCHES {
            inner.evict();
        }
        drop(guard);
        self.newest.send_replace(sequence + 1);
        sequence
    }

    /// Lets go of what no endpoint needs: the batches below the number `before`.
    pub fn release(&self, before: u64) {
        let mut guard = self.lock();
        while guard.entries.front().is_some_and(|entry| entry.sequence < before) {
            guard.evict();
        }
    }

    /// Appends to `out` the batches from number `from` on: at least one, then as many as stay within
    /// `max_samples`.
    pub fn fetch(&self, from: u64, max_samples: usize, out: &mut Vec<Numbered>) -> Fetched {
        let guard = self.lock();
        if from >= guard.next {
            return Fetched::UpToDate;
        }
        let first = guard.entries.front().map_or(guard.next, |entry| entry.sequence);
        if from < first {
            return Fetched::BeginsAt(first);
        }
        let mut samples = 0;
        let start = usize::try_from(from - first).expect("the window is small");
        for entry in guard.entries.range(start..) {
            samples += entry.batch.values.len();
            if samples > max_samples && entry.sequence != from {
                break;
            }
            out.push(entry.clone());
        }
        Fetched::Some
    }

    /// The number that the next batch will have.
    pub fn next(&self) -> u64 {
        self.lock().next
    }

    /// Samples in the window from number `from` on.
    pub fn samples_from(&self, from: u64) -> usize {
        let guard = self.lock();
        guard.entries.iter().rev().take_while(|e| e.sequence >= from).map(|e| e.batch.values.len()).sum()
    }

    /// Is told the number of the next batch each time one comes.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}

impl Inner {
    fn evict(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.samples -= entry.batch.values.len();
            self.spare.push(entry.batch);
        }
    }

    fn free_slab(&mut self) -> Arc<Batch> {
        match self.spare.iter().position(|slab| Arc::strong_count(slab) == 1) {
            Some(at) => self.spare.swap_remove(at),
            None => Arc::default(),
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
        }
        assert_eq!(numbers(&tail, 7, 25), (Fetched::Some, vec![7, 8]));
        assert_eq!(numbers(&tail, 9, 5), (Fetched::Some, vec![9]), "one that is too large goes alone");
        assert_eq!(numbers(&tail, 11, 25), (Fetched::UpToDate, vec![]));
        tail.release(9);
        assert_eq!(numbers(&tail, 7, 25), (Fetched::BeginsAt(9), vec![]));
        assert_eq!(tail.samples_from(10), 10);
    }

    #[test]
    fn the_window_is_bounded_and_its_slabs_are_used_again() {
        let tail = Tail::new(0);
        let half = TAIL_SAMPLES / 2;
        let mut held = Vec::new();
        tail.push(&batch(half));
        tail.fetch(0, 1, &mut held);
        for _ in 0..5 {
            tail.push(&batch(half));
        }
        assert_eq!(numbers(&tail, 0, 1).0, Fetched::BeginsAt(4));
        assert_eq!(held[0].batch.values.len(), half, "a slab in use is left alone");
        assert!(tail.lock().spare.len() <= 3);
    }
}
