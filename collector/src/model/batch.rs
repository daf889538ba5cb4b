//! A batch: what one source said at one time. It is a slab that travels in a circle and is used again.

use std::sync::Arc;

use super::exemplar::{Exemplars, Of};
use super::histogram::NativeHistogram;
use super::shape::Shape;

/// The time of a value that is not to be sent: its source repeats a sample that it gave before.
pub const NO_SAMPLE: i64 = i64::MIN;

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
    /// Empty where all have the time of the batch; else the time of each value, or [`NO_SAMPLE`].
    pub times: Vec<i64>,
    /// The same for the histograms.
    pub histogram_times: Vec<i64>,
    /// Settled before the batch goes out.
    pub exemplars: Exemplars,
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

    /// Whether all samples have the time of the batch.
    pub fn one_time(&self) -> bool {
        self.times.is_empty() && self.histogram_times.is_empty()
    }

    /// The time of a value.
    pub fn time(&self, index: usize) -> i64 {
        self.times.get(index).copied().unwrap_or(self.time_ms)
    }

    /// The time of a histogram.
    pub fn histogram_time(&self, index: usize) -> i64 {
        self.histogram_times.get(index).copied().unwrap_or(self.time_ms)
    }

    /// Adds a value with a time of its own.
    pub fn push_timed(&mut self, value: f64, time_ms: i64) {
        self.times.resize(self.values.len(), self.time_ms);
        self.values.push(value);
        self.times.push(time_ms);
    }

    /// Gives the histogram that was pushed last a time of its own.
    pub fn time_last_histogram(&mut self, time_ms: i64) {
        self.histogram_times.resize(self.used.saturating_sub(1), self.time_ms);
        self.histogram_times.push(time_ms);
    }

    /// Where some values have times of their own, gives the rest the time of the batch.
    pub fn fill_times(&mut self) {
        if !self.times.is_empty() {
            self.times.resize(self.values.len(), self.time_ms);
        }
        if !self.histogram_times.is_empty() {
            self.histogram_times.resize(self.used, self.time_ms);
        }
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
        self.times.clear();
        self.histogram_times.clear();
        self.exemplars.clear();
        self.used = 0;
    }

    /// Makes this slab a copy of `other` without allocating, once its buffers have grown.
    pub fn copy_from(&mut self, other: &Batch) {
        self.clear();
        self.shape.clone_from(&other.shape);
        self.time_ms = other.time_ms;
        self.values.extend_from_slice(&other.values);
        self.times.extend_from_slice(&other.times);
        self.histogram_times.extend_from_slice(&other.histogram_times);
        self.exemplars.copy_from(&other.exemplars);
        for histogram in other.histograms() {
            self.push_histogram().clone_from(histogram);
        }
    }
}

impl Batch {
    /// Makes this slab a part of `other`, of these floats and these histograms, under a shape of just those.
    pub fn copy_part(
        &mut self,
        other: &Batch,
        shape: Arc<Shape>,
        floats: std::ops::Range<usize>,
        histograms: std::ops::Range<usize>,
    ) {
        self.clear();
        self.shape = Some(shape);
        self.time_ms = other.time_ms;
        self.values.extend_from_slice(&other.values[floats.clone()]);
        self.times.extend_from_slice(other.times.get(floats.clone()).unwrap_or_default());
        if !other.exemplars.is_empty() {
            let within = |range: &std::ops::Range<usize>, at: u32| {
                range.contains(&(at as usize)).then(|| at - range.start as u32)
            };
            self.exemplars.copy_from(&other.exemplars);
            self.exemplars.rename(|of| match of {
                Of::Float(at) => within(&floats, at).map(Of::Float),
                Of::Histogram(at) => within(&histograms, at).map(Of::Histogram),
            });
        }
        let times = other.histogram_times.get(histograms.clone()).unwrap_or_default();
        self.histogram_times.extend_from_slice(times);
        for histogram in &other.histograms()[histograms] {
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
