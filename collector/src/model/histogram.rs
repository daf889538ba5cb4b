//! Native histograms as remote write carries them, and the snapshot from which both forms are made.

/// A run of consecutive buckets: `offset` empty buckets after the end of the run before it (or after index 0),
/// then `length` buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    pub offset: i32,
    pub length: u32,
}

/// An integer native histogram with positive buckets (observations here are never negative).
///
/// Bucket `i` of schema `s` counts what lies in `(2^((i-1)/2^s), 2^(i/2^s)]`, in the unit of the family.
#[derive(PartialEq, Debug, Default)]
pub struct NativeHistogram {
    pub schema: i8,
    pub zero_threshold: f64,
    pub zero_count: u64,
    pub count: u64,
    pub sum: f64,
    pub spans: Vec<Span>,
    /// Absolute counts, one for each bucket of the spans.
    pub buckets: Vec<u64>,
}

impl Clone for NativeHistogram {
    fn clone(&self) -> Self {
        let mut copy = NativeHistogram::default();
        copy.clone_from(self);
        copy
    }

    /// Copies into the buffers that are there, so that a slab that goes round allocates nothing.
    fn clone_from(&mut self, other: &Self) {
        self.schema = other.schema;
        self.zero_threshold = other.zero_threshold;
        self.zero_count = other.zero_count;
        self.count = other.count;
        self.sum = other.sum;
        self.spans.clone_from(&other.spans);
        self.buckets.clone_from(&other.buckets);
    }
}

impl NativeHistogram {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.schema = 0;
        self.zero_threshold = 0.0;
        self.zero_count = 0;
        self.count = 0;
        self.sum = 0.0;
        self.spans.clear();
        self.buckets.clear();
    }

    /// Appends the bucket of that index; indexes must rise. Empty buckets may be left out.
    pub fn push(&mut self, index: i32, count: u64, end_of_last: &mut i32) {
        match self.spans.last_mut() {
            Some(span) if *end_of_last == index => span.length += 1,
            _ => self.spans.push(Span { offset: index - *end_of_last, length: 1 }),
        }
        *end_of_last = index + 1;
        self.buckets.push(count);
    }
}

/// A histogram at one moment in both forms: what [`super::Recorder::histogram`] takes.
pub struct HistogramSnapshot<'a> {
    /// Upper bounds of the classic buckets as they stand in `le`, without `+Inf`.
    pub bounds: &'a [&'static str],
    /// Cumulative count for each of `bounds`.
    pub cumulative: &'a [u64],
    pub count: u64,
    pub sum: f64,
    /// The native form, or `None` where there is none.
    pub native: Option<&'a NativeHistogram>,
}
