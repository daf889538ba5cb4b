//! A batch: what one source said at one time. It is a slab that travels in a circle and is used again.

use std::sync::Arc;

use super::histogram::NativeHistogram;
use super::shape::Shape;

/// One tick of one source.
///
/// `values[i]` belongs to `shape.floats()[i]`, `histograms()[i]` to `shape.histograms()[i]`.
#[derive(Default)]
pub struct Batch {
    /// `None` only in a slab that waits to be used.
    pub shape: Option<Arc<Shape>>,
    /// Milliseconds since 1970-01-01 UTC.
    pub time_ms: i64,
    pub values: Vec<f64>,
    slots: Vec<NativeHistogram>,
    used: usize,
}

impl Batch {
    /// The shape of a batch that is under way.
    ///
    /// # Panics
    /// In a slab that has not been filled.
    pub fn shape(&self) -> &Arc<Shape> {
        self.shape.as_ref().expect("a batch under way has a shape")
    }

    /// Float values and native histograms.
    pub fn samples(&self) -> usize {
        self.values.len() + self.used
    }

    pub fn histograms(&self) -> &[NativeHistogram] {
        &self.slots[..self.used]
    }

    /// The next histogram of this batch, to be filled: an old one with its buffers, emptied.
    pub fn push_histogram(&mut self) -> &mut NativeHistogram {
        if self.used == self.slots.len() {
            self.slots.push(NativeHistogram::default());
        }
        self.used += 1;
        let slot = &mut self.slots[self.used - 1];
        slot.clear();
        slot
    }

    /// Empties the slab and keeps its memory.
    pub fn clear(&mut self) {
        self.shape = None;
        self.time_ms = 0;
        self.values.clear();
        self.used = 0;
    }

    /// Makes this slab a copy of `other` without allocating, once its buffers have grown.
    pub fn copy_from(&mut self, other: &Batch) {
        self.clear();
        self.shape.clone_from(&other.shape);
        self.time_ms = other.time_ms;
        self.values.extend_from_slice(&other.values);
        for histogram in other.histograms() {
            self.push_histogram().clone_from(histogram);
        }
    }
}

/// A batch and its place in the order of all samples.
#[derive(Clone)]
pub struct Numbered {
    /// Samples before it.
    pub sequence: u64,
    pub batch: Arc<Batch>,
}

impl Numbered {
    /// The number of what follows it.
    pub fn end(&self) -> u64 {
        self.sequence + self.batch.samples() as u64
    }
}

impl std::borrow::Borrow<Batch> for Numbered {
    fn borrow(&self) -> &Batch {
        &self.batch
    }
}
