//! Native histograms as remote write carries them, and the snapshot from which both forms are made.

/// A run of consecutive buckets: `offset` empty buckets after the end of the run before it (or after index 0),
/// then `length` buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    pub offset: i32,
    pub length: u32,
}

/// No histogram has more buckets, spans or bounds.
pub const MAX_BUCKETS: usize = 1 << 16;

/// The schema of histograms whose bounds are listed.
pub const CUSTOM_BUCKETS: i8 = -53;

/// Whether counts may have fallen since the last histogram of the series. The numbers are those of remote write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum ResetHint {
    #[default]
    Unknown = 0,
    Yes = 1,
    No = 2,
    /// It is a gauge: they fall and rise.
    Gauge = 3,
}

impl ResetHint {
    /// The hint of that number, [`ResetHint::Unknown`] for one that is not known.
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => ResetHint::Yes,
            2 => ResetHint::No,
            3 => ResetHint::Gauge,
            _ => ResetHint::Unknown,
        }
    }
}

/// A native histogram.
///
/// Bucket `i` of schema `s` counts what lies in `(2^((i-1)/2^s), 2^(i/2^s)]`, in the unit of the family; with
/// [`CUSTOM_BUCKETS`], what lies between bounds `i - 1` and `i`. The negative buckets count what lies below 0.
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
    pub negative_spans: Vec<Span>,
    pub negative_buckets: Vec<u64>,
    /// Upper bounds of custom buckets, without `+Inf`.
    pub bounds: Vec<f64>,
    /// Whether `count`, `zero_count` and the buckets hold the bits of doubles.
    pub float: bool,
    pub reset_hint: ResetHint,
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
        self.negative_spans.clone_from(&other.negative_spans);
        self.negative_buckets.clone_from(&other.negative_buckets);
        self.bounds.clone_from(&other.bounds);
        self.float = other.float;
        self.reset_hint = other.reset_hint;
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
        self.negative_spans.clear();
        self.negative_buckets.clear();
        self.bounds.clear();
        self.float = false;
        self.reset_hint = ResetHint::Unknown;
    }

    /// Whether it has nothing but what histograms of integers above 0 have.
    pub fn is_simple(&self) -> bool {
        !self.float
            && self.negative_spans.is_empty()
            && self.negative_buckets.is_empty()
            && self.bounds.is_empty()
            && self.reset_hint == ResetHint::Unknown
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

/// The buckets of spans with their indexes, those left out passed over.
pub fn indexed<'a>(spans: &'a [Span], buckets: &'a [u64]) -> impl Iterator<Item = (i64, u64)> + 'a {
    let mut end = 0;
    let indexes = spans.iter().flat_map(move |span| {
        let first = end + i64::from(span.offset);
        end = first + i64::from(span.length);
        first..end
    });
    indexes.zip(buckets.iter().copied())
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
