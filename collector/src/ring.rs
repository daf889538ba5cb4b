//! The lock-free hand-over of batches between the threads that read and the one that aggregates.
//!
//! A batch moves through a queue of full slabs and comes back, emptied, through a queue of free ones, so its
//! memory is used again and freed by nobody. When the full queue has no room, the new batch is dropped and
//! counted: a reader never waits for what is behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use crossbeam::sync::{Parker, Unparker};

use crate::model::Batch;

struct Shared {
    full: ArrayQueue<Batch>,
    free: ArrayQueue<Batch>,
    dropped_batches: AtomicU64,
    dropped_samples: AtomicU64,
    closed: AtomicBool,
    /// The aggregator lets batches gather: it need not be woken while there is room.
    gathers: AtomicBool,
    wake: Unparker,
}

/// The side of the sources; cloned for each of them.
#[derive(Clone)]
pub struct Sender {
    shared: Arc<Shared>,
}

/// The side of the aggregator.
pub struct Receiver {
    shared: Arc<Shared>,
    parker: Parker,
}

/// A ring for `capacity` batches under way.
pub fn ring(capacity: usize) -> (Sender, Receiver) {
    let parker = Parker::new();
    let shared = Arc::new(Shared {
        full: ArrayQueue::new(capacity),
        free: ArrayQueue::new(capacity),
        dropped_batches: AtomicU64::new(0),
        dropped_samples: AtomicU64::new(0),
        closed: AtomicBool::new(false),
        gathers: AtomicBool::new(false),
        wake: parker.unparker().clone(),
    });
    (Sender { shared: shared.clone() }, Receiver { shared, parker })
}

impl Sender {
    /// A slab to fill: one that came back, or a new one.
    pub fn slab(&self) -> Batch {
        self.shared.free.pop().unwrap_or_default()
    }

    /// Hands a full batch over. Call [`Sender::wake`] after the last one of a tick.
    pub fn send(&self, batch: Batch) {
        if let Err(batch) = self.shared.full.push(batch) {
            self.shared.dropped_batches.fetch_add(1, Ordering::Relaxed);
            self.shared.dropped_samples.fetch_add(batch.samples() as u64, Ordering::Relaxed);
            self.give_back(batch);
        }
    }

    /// Wakes the aggregator, unless it will come by itself before the ring is full.
    pub fn wake(&self) {
        let shared = &*self.shared;
        // Either this sees that nobody gathers any more, or the aggregator sees what was sent.
        fence(Ordering::SeqCst);
        if shared.full.len() * 2 >= shared.full.capacity() || !shared.gathers.load(Ordering::Relaxed) {
            shared.wake.unpark();
        }
    }

    /// Returns a slab that was taken and is not sent.
    pub fn give_back(&self, mut batch: Batch) {
        batch.clear();
        // With no room in the free queue the slab is simply dropped.
        let _ = self.shared.free.push(batch);
    }

    /// Lets the aggregator end once it has taken what is in the ring.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.wake.unpark();
    }

    /// Batches and samples dropped so far for want of room.
    pub fn dropped(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.shared.dropped_batches), read(&self.shared.dropped_samples))
    }

    /// Batches that wait for the aggregator.
    pub fn waiting(&self) -> usize {
        self.shared.full.len()
    }
}

impl Receiver {
    /// The next batch, if there is one.
    pub fn try_recv(&self) -> Option<Batch> {
        self.shared.full.pop()
    }

    /// Sleeps until a source wakes this thread, or `timeout` passes. May wake early.
    pub fn wait(&self, timeout: Duration) {
        self.parker.park_timeout(timeout);
    }

    /// Lets batches gather for that long, or until the ring is half full: to be woken for each costs more than to
    /// take it. May end early.
    pub fn gather(&self, time: Duration) {
        if self.shared.full.is_empty() || self.is_closed() {
            return;
        }
        self.shared.gathers.store(true, Ordering::Relaxed);
        self.parker.park_timeout(time);
        self.shared.gathers.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Whether the sources have ended. What they sent before may still be in the ring.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Sends a slab back to be used again.
    pub fn give_back(&self, mut batch: Batch) {
        batch.clear();
        let _ = self.shared.free.push(batch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_go_round() {
        let (sender, receiver) = ring(2);
        let mut slab = sender.slab();
        slab.values.extend([1.0; 1000]);
        let memory = slab.values.as_ptr();
        sender.send(slab);
        receiver.give_back(receiver.try_recv().unwrap());
        let again = sender.slab();
        assert_eq!((again.values.as_ptr(), again.values.len()), (memory, 0));
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let (sender, receiver) = ring(2);
        for n in 0..5 {
            let mut slab = sender.slab();
            slab.values.extend([f64::from(n); 10]);
            sender.send(slab);
        }
        assert_eq!(sender.dropped(), (3, 30));
        assert_eq!(receiver.try_recv().unwrap().values[0], 0.0);
        assert_eq!(receiver.try_recv().unwrap().values[0], 1.0);
        assert!(receiver.try_recv().is_none());
    }

    #[test]
    fn the_last_wake_before_sleep_is_not_lost() {
        let (sender, receiver) = ring(64);
        let producer = std::thread::spawn(move || {
            for n in 0..1000 {
                let mut slab = sender.slab();
                slab.time_ms = n;
                sender.send(slab);
                sender.wake();
                if n % 32 == 0 {
                    std::thread::yield_now();
                }
            }
            sender.close();
            sender.dropped().0
        });
        let (mut last, mut taken) = (-1, 0);
        loop {
            let closed = receiver.is_closed();
            while let Some(batch) = receiver.try_recv() {
                assert!(batch.time_ms > last, "order is kept");
                last = batch.time_ms;
                taken += 1;
                receiver.give_back(batch);
            }
            if closed {
                break;
            }
            receiver.wait(Duration::from_secs(60));
        }
        assert_eq!(producer.join().unwrap() + taken, 1000);
    }
}
