//! What the writer, the readers and the positions of one log know together.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hashbrown::HashMap;

use super::Count;
use super::position::Acknowledged;
use crate::model::{SeriesList, SeriesTable, Shape};

/// Lists and shapes that are remembered by their content; when there are more, the dead ones are forgotten.
const SWEEP: usize = 256;

/// A segment as the log knows it. Its key is the sequence number of its first batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// How far it is written, whole records only.
    pub bytes: u64,
    pub newest_ms: i64,
}

/// How far the log goes.
#[derive(Default)]
pub(super) struct Extent {
    pub segments: BTreeMap<u64, Segment>,
    /// The number that the next batch gets.
    pub next: u64,
}

impl Extent {
    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }
}

/// What lives, by a hash of its content and the length of that.
struct Memory<T> {
    by_content: HashMap<(u64, usize), Weak<T>>,
    sweep_at: usize,
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Memory { by_content: HashMap::new(), sweep_at: SWEEP }
    }
}

impl<T> Memory<T> {
    fn get(&self, key: (u64, usize)) -> Option<Arc<T>> {
        self.by_content.get(&key)?.upgrade()
    }

    fn insert(&mut self, key: (u64, usize), value: &Arc<T>) {
        if self.by_content.len() >= self.sweep_at {
            self.by_content.retain(|_, value| value.strong_count() > 0);
            self.sweep_at = SWEEP.max(self.by_content.len() * 2);
        }
        self.by_content.insert(key, Arc::downgrade(value));
    }
}

#[derive(Default)]
pub(super) struct Counters {
    pub dropped_size: AtomicU64,
    pub dropped_age: AtomicU64,
    pub corrupt: AtomicU64,
    pub lost: AtomicU64,
    pub write_errors: AtomicU64,
}

/// Counts since the log was opened, and what it takes now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Samples that some endpoint had not acknowledged when their segment went: for `log_size` and `log_age`.
    pub dropped_size: u64,
    pub dropped_age: u64,
    /// Places where a record should be and is not, each counted by every reader that meets it.
    pub corrupt: u64,
    /// What readers could not give, in what the numbers count: damaged, or packed against what is damaged.
    pub lost: u64,
    /// Writes that failed, of one batch or several.
    pub write_errors: u64,
    pub segments: usize,
    pub bytes: u64,
}

pub(super) struct Shared {
    pub folder: PathBuf,
    pub table: Arc<SeriesTable>,
    pub count: Count,
    pub counters: Counters,
    extent: Mutex<Extent>,
    lists: Mutex<Memory<SeriesList>>,
    shapes: Mutex<Memory<Shape>>,
    endpoints: Mutex<Vec<Arc<Acknowledged>>>,
    hasher: RandomState,
    /// The first batch of the oldest segment: readers of what went before it move on.
    pub oldest: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(folder: PathBuf, table: Arc<SeriesTable>, extent: Extent, count: Count) -> Self {
        let oldest = extent.segments.keys().next().copied().unwrap_or(extent.next);
        Shared {
            folder,
            table,
            count,
            counters: Counters::default(),
            extent: Mutex::new(extent),
            lists: Mutex::default(),
            shapes: Mutex::default(),
            endpoints: Mutex::default(),
            hasher: RandomState::new(),
            oldest: AtomicU64::new(oldest),
        }
    }

    pub(super) fn extent(&self) -> MutexGuard<'_, Extent> {
        locked(&self.extent)
    }

    pub(super) fn endpoints(&self) -> MutexGuard<'_, Vec<Arc<Acknowledged>>> {
        locked(&self.endpoints)
    }

    /// The first batch that some endpoint has yet to acknowledge; the next one where there is no endpoint.
    pub(super) fn needed(&self) -> u64 {
        let next = self.extent().next;
        self.endpoints().iter().map(|endpoint| endpoint.next()).min().unwrap_or(next)
    }

    pub(super) fn count_write_error(&self) {
        self.counters.write_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// The living list of that content.
    pub(super) fn known_list(&self, content: &[u8]) -> Option<Arc<SeriesList>> {
        locked(&self.lists).get((self.hasher.hash_one(content), content.len()))
    }

    /// Remembers that `list` has that content.
    pub(super) fn remember_list(&self, content: &[u8], list: &Arc<SeriesList>) {
        locked(&self.lists).insert((self.hasher.hash_one(content), content.len()), list);
    }

    /// The living shape of that list whose owner is spelled so.
    pub(super) fn known_shape(&self, list: &SeriesList, owner: &[u8]) -> Option<Arc<Shape>> {
        locked(&self.shapes).get((self.hasher.hash_one((list.id(), owner)), owner.len()))
    }

    /// Remembers that the owner of `shape` is spelled so.
    pub(super) fn remember_shape(&self, owner: &[u8], shape: &Arc<Shape>) {
        let key = (self.hasher.hash_one((shape.list().id(), owner)), owner.len());
        locked(&self.shapes).insert(key, shape);
    }

    pub(super) fn stats(&self) -> Stats {
        let (segments, bytes) = {
            let extent = self.extent();
            (extent.segments.len(), extent.bytes())
        };
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            dropped_size: count(&self.counters.dropped_size),
            dropped_age: count(&self.counters.dropped_age),
            corrupt: count(&self.counters.corrupt),
            lost: count(&self.counters.lost),
            write_errors: count(&self.counters.write_errors),
            segments,
            bytes,
        }
    }
}
