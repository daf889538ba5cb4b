//! Buffers for bodies: few, used again, and bounded altogether.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A body is never longer than this, whatever `body_size_limit` says.
pub(super) const MAX_BODY: usize = 256 << 20;
/// All bodies that are being read at once; those below [`FREE`] are not counted.
const MAX_BODIES: usize = 512 << 20;
/// Bodies up to this size cost no bookkeeping.
const FREE: usize = 4 << 20;
/// Buffers that a thread keeps: while targets answer at once, one is enough.
const KEPT: usize = 4;

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of this thread, which gets it back.
pub(super) struct Buffer {
    pub bytes: Vec<u8>,
    counted: usize,
}

impl Buffer {
    pub(super) fn take() -> Self {
        let bytes = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        Buffer { bytes, counted: 0 }
    }

    /// Makes room for `more` bytes. `false` when all bodies together would grow too large.
    pub(super) fn reserve(&mut self, more: usize) -> bool {
        let wanted = self.bytes.len().saturating_add(more);
        if wanted > FREE && wanted > self.counted {
            let grown = wanted.next_power_of_two();
            let before = UNDER_WAY.fetch_add(grown - self.counted, Ordering::Relaxed);
            if before + grown - self.counted > MAX_BODIES {
                UNDER_WAY.fetch_sub(grown - self.counted, Ordering::Relaxed);
                return false;
            }
            self.counted = grown;
        }
        self.bytes.reserve(more);
        true
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(self.counted, Ordering::Relaxed);
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.capacity() > FREE {
            return;
        }
        bytes.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < KEPT {
                spare.push(bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_bounded_altogether_and_buffers_come_back() {
        let mut first = Buffer::take();
        assert!(first.reserve(1000));
        let address = first.bytes.as_ptr();
        drop(first);
        let mut again = Buffer::take();
        assert_eq!(again.bytes.as_ptr(), address);
        // Reserving touches no page of it.
        assert!(again.reserve(300 << 20));
        assert!(!Buffer::take().reserve(100 << 20), "the first one is counted as half a gibibyte");
        drop(again);
        assert!(Buffer::take().reserve(100 << 20));
    }
}
