//! Slabs that were given out, to be used again when they come back.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Batch;

/// How many are looked at for one that is back: they come back in about the order in which they went.
const LOOKED_AT: usize = 8;

/// Remembers slabs that others hold too. One of which nobody else holds a share is free.
#[derive(Default)]
pub struct Slabs {
    given: VecDeque<Arc<Batch>>,
}

impl Slabs {
    /// A slab that nobody else holds: one that came back, or a new one.
    pub fn take(&mut self) -> Arc<Batch> {
        let back = |slab: &Arc<Batch>| Arc::strong_count(slab) == 1;
        match self.given.iter().take(LOOKED_AT).position(back) {
            Some(at) => self.given.remove(at).unwrap_or_default(),
            None => Arc::default(),
        }
    }

    /// Remembers a slab that is given out; where there are more than `most`, the one that is out longest is
    /// forgotten: who holds it frees it.
    pub fn remember(&mut self, slab: Arc<Batch>, most: usize) {
        self.given.push_back(slab);
        if self.given.len() > most {
            self.given.pop_front();
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.given.len()
    }

    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_back_is_used_again_and_what_is_out_is_left_alone() {
        let mut slabs = Slabs::default();
        let held: Vec<_> = (0..3).map(|_| slabs.take()).collect();
        held.iter().for_each(|slab| slabs.remember(slab.clone(), 3));
        let address = Arc::as_ptr(&held[1]);
        let mut held = held;
        held.remove(1);
        assert_eq!(Arc::as_ptr(&slabs.take()), address);
        assert!(held.iter().all(|slab| Arc::as_ptr(slab) != Arc::as_ptr(&slabs.take())));
        (0..9).for_each(|_| slabs.remember(Arc::default(), 3));
        assert_eq!(slabs.len(), 3);
    }
}
