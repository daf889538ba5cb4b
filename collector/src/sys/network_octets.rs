//! Bytes that this process' network namespace has received and sent, shared by two readers of one file: the kernel
//! takes longer for /proc/net/netstat than for any other file of a tick.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the last reader of the file found, until it is taken.
#[derive(Default)]
pub struct NetworkOctets {
    received: AtomicU64,
    sent: AtomicU64,
    is_fresh: AtomicBool,
}

impl NetworkOctets {
    /// Leaves what was read.
    pub fn put(&self, received: u64, sent: u64) {
        self.received.store(received, Ordering::Relaxed);
        self.sent.store(sent, Ordering::Relaxed);
        self.is_fresh.store(true, Ordering::Release);
    }

    /// Bytes received and sent, if they were read since the last call.
    pub fn take(&self) -> Option<(u64, u64)> {
        let is_fresh = self.is_fresh.swap(false, Ordering::Acquire);
        is_fresh.then(|| (self.received.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_taken_once() {
        let octets = NetworkOctets::default();
        assert_eq!(octets.take(), None);
        octets.put(1, 2);
        assert_eq!(octets.take(), Some((1, 2)));
        assert_eq!(octets.take(), None);
    }
}
