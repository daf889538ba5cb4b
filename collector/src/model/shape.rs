//! A shape: the ordered list of series that a source sends, tick after tick.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::series::{SeriesId, SeriesTable};

/// Whose batches these are, and the labels that every one of its series carries when it leaves this host.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// `host/cpu`, `ebpf/runqueue`: for logs and for the lane.
    pub name: String,
    /// `job`, `instance` and the like. /metrics does not show them.
    pub labels: Vec<(String, String)>,
}

/// Which protocols want a float series.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Form {
    /// All of them.
    Always = 0,
    /// Those that do not take the native histogram of which it is a part.
    ClassicOnly = 1,
}

/// The ordered series of a source. Two shapes are the same if and only if their `id` is.
pub struct Shape {
    id: u64,
    pub source: Arc<Source>,
    table: Arc<SeriesTable>,
    floats: Box<[(SeriesId, Form)]>,
    histograms: Box<[SeriesId]>,
}

impl Shape {
    /// Takes over one use of each series, which it gives back when it is dropped.
    pub fn new(
        source: Arc<Source>,
        table: Arc<SeriesTable>,
        floats: Vec<(SeriesId, Form)>,
        histograms: Vec<SeriesId>,
    ) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Shape { id, source, table, floats: floats.into(), histograms: histograms.into() })
    }

    /// Unique while the process lives.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The series of the float values, in the order of [`super::Batch::values`].
    pub fn floats(&self) -> &[(SeriesId, Form)] {
        &self.floats
    }

    /// The series of the native histograms, in the order of [`super::Batch::histograms`].
    pub fn histograms(&self) -> &[SeriesId] {
        &self.histograms
    }

    pub fn table(&self) -> &Arc<SeriesTable> {
        &self.table
    }
}

impl Drop for Shape {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        for id in self.floats.iter().map(|&(id, _)| id).chain(self.histograms.iter().copied()) {
            table.release(id);
        }
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shape {} of {} ({} series)", self.id, self.source.name, self.floats.len())
    }
}
