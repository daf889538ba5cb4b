//! Native histograms of a protobuf page: read, checked, and held against the limit of buckets.

use super::error::{Fault, Flaw};
use super::proto::{Field, cut_short, fields, unzigzag};
use crate::model::{CUSTOM_BUCKETS, MAX_BUCKETS, NORMAL_NAN, NativeHistogram, Span, indexed};

/// Schemas of exponential buckets.
const SCHEMAS: std::ops::RangeInclusive<i64> = -4..=8;

/// One classic bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    pub bound: f64,
    pub count: f64,
    pub exemplar: Option<Place>,
}

/// Where in the histogram's message a part of it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    start: u32,
    end: u32,
}

impl Place {
    fn new(part: &[u8], whole: &[u8]) -> Option<Self> {
        let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
        let end = u32::try_from(start + part.len()).ok()?;
        Some(Place { start: start as u32, end })
    }

    pub(super) fn of(self, whole: &[u8]) -> Option<&[u8]> {
        whole.get(self.start as usize..self.end as usize)
    }
}

/// A `Histogram` message.
#[derive(Default)]
pub(super) struct Parsed {
    pub native: NativeHistogram,
    /// Classic buckets, in the order of the page.
    pub buckets: Vec<Bucket>,
    pub count: f64,
    pub sum: f64,
    pub has_native: bool,
    /// When the counting began, 0 where that is not said.
    pub start: i64,
    /// The exemplars of the native form.
    pub exemplars: Vec<Place>,
}

impl Parsed {
    /// Reads a message into the buffers that are there.
    #[expect(clippy::cast_precision_loss, reason = "counts above 2^53 lose precision in every protocol")]
    pub(super) fn parse(&mut self, bytes: &[u8]) -> Result<(), Flaw> {
        let Parsed { native, buckets, exemplars, start, .. } = self;
        native.clear();
        buckets.clear();
        exemplars.clear();
        *start = 0;
        let (mut count, mut zero) = ((0, 0f64), (0, 0f64));
        let (mut deltas, mut schema, mut floats) = (false, 0, false);
        fields(bytes, |number, field| {
            match number {
                1 => count.0 = field.number()?,
                2 => native.sum = normal(field.double()?),
                3 => buckets.push(parse_bucket(field.message()?, bytes)?),
                4 => count.1 = field.double()?,
                5 => schema = unzigzag(field.number()?),
                6 => native.zero_threshold = field.double()?,
                7 => zero.0 = field.number()?,
                8 => zero.1 = field.double()?,
                9 => native.negative_spans.push(parse_span(field)?),
                10 => push_deltas(field, &mut native.negative_buckets, &mut deltas)?,
                11 => push_floats(field, &mut native.negative_buckets, &mut floats)?,
                12 => native.spans.push(parse_span(field)?),
                13 => push_deltas(field, &mut native.buckets, &mut deltas)?,
                14 => push_floats(field, &mut native.buckets, &mut floats)?,
                15 => *start = parse_time(field.message()?)?,
                16 => exemplars.extend(Place::new(field.message()?, bytes)),
                _ => {}
            }
            Ok(())
        })?;
        // Without exemplars of its own the native form has those of the buckets.
        if exemplars.is_empty() {
            exemplars.extend(buckets.iter().filter_map(|bucket| bucket.exemplar));
        }
        let float = floats || count.1 > 0.0 || zero.1 > 0.0;
        if float && deltas {
            return Err(Flaw::syntax("a histogram whose counts are both whole numbers and doubles"));
        }
        native.float = float;
        (native.count, native.zero_count) =
            if float { (count.1.to_bits(), zero.1.to_bits()) } else { (count.0, zero.0) };
        self.count = if float { count.1 } else { count.0 as f64 };
        self.sum = native.sum;
        self.has_native = !native.spans.is_empty()
            || !native.negative_spans.is_empty()
            || native.zero_threshold > 0.0
            || zero.0 > 0
            || zero.1 > 0.0;
        if self.has_native {
            if !SCHEMAS.contains(&schema) {
                return Err(Flaw::syntax(format!("{schema} is no schema of a native histogram")));
            }
            native.schema = schema as i8;
            check(native)?;
        }
        Ok(())
    }

    /// Makes the native form of the classic one; whether that makes a histogram.
    pub(super) fn convert(&mut self) -> bool {
        let Parsed { native, buckets, count, sum, .. } = self;
        buckets.sort_by(|a, b| a.bound.total_cmp(&b.bound));
        buckets.dedup_by(|later, first| later.bound == first.bound);
        let all = buckets.iter().map(|bucket| (bucket.bound, bucket.count));
        super::classic::convert(all, Some(*count), *sum, native).is_some()
    }
}

/// A `google.protobuf.Timestamp`, in milliseconds since 1970.
pub(super) fn parse_time(bytes: &[u8]) -> Result<i64, Flaw> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    fields(bytes, |number, field| {
        match number {
            1 => seconds = field.number()? as i64,
            2 => nanos = field.number()? as i64,
            _ => {}
        }
        Ok(())
    })?;
    Ok(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000))
}

fn normal(value: f64) -> f64 {
    if value.is_nan() { NORMAL_NAN } else { value }
}

#[expect(clippy::cast_precision_loss, reason = "counts above 2^53 lose precision in every protocol")]
fn parse_bucket(bytes: &[u8], message: &[u8]) -> Result<Bucket, Flaw> {
    let mut bucket = Bucket { bound: 0.0, count: 0.0, exemplar: None };
    let mut whole = None;
    fields(bytes, |number, field| {
        match number {
            1 => whole = Some(field.number()? as f64),
            2 => bucket.bound = field.double()?,
            3 => bucket.exemplar = Place::new(field.message()?, message),
            4 => bucket.count = field.double()?,
            _ => {}
        }
        Ok(())
    })?;
    if bucket.count <= 0.0 {
        bucket.count = whole.unwrap_or(bucket.count);
    }
    Ok(bucket)
}

fn parse_span(field: Field<'_>) -> Result<Span, Flaw> {
    let mut span = Span::default();
    fields(field.message()?, |number, field| {
        match number {
            1 => span.offset = i32::try_from(unzigzag(field.number()?)).map_err(|_| cut_short())?,
            2 => span.length = u32::try_from(field.number()?).map_err(|_| cut_short())?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(span)
}

/// Appends counts that stand as the difference to the one before.
fn push_deltas(field: Field<'_>, buckets: &mut Vec<u64>, any: &mut bool) -> Result<(), Flaw> {
    field.numbers(|number| {
        *any = true;
        let last = buckets.last().copied().unwrap_or(0);
        buckets.push(last.wrapping_add(unzigzag(number) as u64));
    })
}

fn push_floats(field: Field<'_>, buckets: &mut Vec<u64>, any: &mut bool) -> Result<(), Flaw> {
    field.doubles(|bits| {
        *any = true;
        buckets.push(bits);
    })
}

/// Whether spans and buckets fit, and the counts make sense.
fn check(native: &NativeHistogram) -> Result<(), Flaw> {
    let sides = [(&native.spans, &native.buckets), (&native.negative_spans, &native.negative_buckets)];
    let mut end = 0i64;
    for (spans, buckets) in sides {
        if spans.len().max(buckets.len()) > MAX_BUCKETS {
            let reason = format!("a native histogram of more than {MAX_BUCKETS} buckets");
            return Err(Flaw { fault: Fault::BucketLimit, reason });
        }
        let length: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
        if length != buckets.len() as u64 {
            return Err(Flaw::syntax(format!("spans of {length} buckets, but {} of them", buckets.len())));
        }
        end = 0;
        for (at, span) in spans.iter().enumerate() {
            if at > 0 && span.offset < 0 {
                return Err(Flaw::syntax("a span begins before the end of the one before it"));
            }
            end += i64::from(span.offset) + i64::from(span.length);
        }
        if i32::try_from(end).is_err() {
            return Err(Flaw::syntax("a span lies beyond all numbers"));
        }
    }
    debug_assert!(i32::try_from(end).is_ok());
    let counts = || native.buckets.iter().chain(&native.negative_buckets);
    if native.float {
        let negative = |&bits: &u64| f64::from_bits(bits) < 0.0;
        if counts().any(negative) || negative(&native.count) || negative(&native.zero_count) {
            return Err(Flaw::syntax("a count below 0"));
        }
        return Ok(());
    }
    let sum = counts().try_fold(native.zero_count, |sum, &count| sum.checked_add(count));
    match sum {
        Some(sum) if sum == native.count || (native.sum.is_nan() && sum < native.count) => Ok(()),
        _ => Err(Flaw::syntax(format!("a count of {}, which is not that of its buckets", native.count))),
    }
}

/// Merges buckets until the histogram keeps `limit` (0 for none) and its schema is at most `max_schema`.
pub(super) fn reduce(native: &mut NativeHistogram, limit: usize, max_schema: i8) -> Result<(), Flaw> {
    let buckets = |native: &NativeHistogram| native.buckets.len() + native.negative_buckets.len();
    while native.schema > max_schema || (limit > 0 && buckets(native) > limit) {
        if i64::from(native.schema) <= *SCHEMAS.start() || native.schema == CUSTOM_BUCKETS {
            let reason = format!(
                "a native histogram of {} buckets, native_histogram_bucket_limit is {limit}",
                buckets(native)
            );
            return Err(Flaw { fault: Fault::BucketLimit, reason });
        }
        native.schema -= 1;
        halve(&mut native.spans, &mut native.buckets, native.float);
        halve(&mut native.negative_spans, &mut native.negative_buckets, native.float);
    }
    Ok(())
}

/// Merges each two neighbours: bucket `i` goes to `i / 2`, rounded up.
fn halve(spans: &mut Vec<Span>, buckets: &mut Vec<u64>, float: bool) {
    let (mut merged, mut counts): (Vec<Span>, Vec<u64>) = (Vec::new(), Vec::new());
    let mut last = None;
    for (index, count) in indexed(spans, buckets) {
        let target = (index + 1) >> 1;
        match counts.last_mut() {
            Some(sum) if last == Some(target) => {
                *sum = if float {
                    (f64::from_bits(*sum) + f64::from_bits(count)).to_bits()
                } else {
                    *sum + count
                };
            }
            _ => {
                let gap = (target - last.map_or(0, |last: i64| last + 1)) as i32;
                match merged.last_mut() {
                    Some(span) if gap == 0 => span.length += 1,
                    _ => merged.push(Span { offset: gap, length: 1 }),
                }
                counts.push(count);
            }
        }
        last = Some(target);
    }
    (*spans, *buckets) = (merged, counts);
}

/// The finest schema whose buckets grow at least by that factor.
pub(super) fn max_schema(factor: f64) -> i8 {
    if factor <= 1.0 {
        return 8;
    }
    let floor = (-factor.log2().log2()).floor();
    floor.clamp(-4.0, 8.0) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_keeps_every_count() {
        let mut native = NativeHistogram { schema: 2, ..NativeHistogram::default() };
        let mut end = 0;
        for index in [-5, -4, -1, 0, 1, 2, 3, 9, 10, 11] {
            native.push(index, (index + 10) as u64, &mut end);
        }
        reduce(&mut native, 6, 8).unwrap();
        let seen: Vec<_> = indexed(&native.spans, &native.buckets).collect();
        // Schema 1: -2 holds -5 and -4, 0 holds -1 and 0, and so on.
        assert_eq!(native.schema, 1);
        assert_eq!(seen, [(-2, 11), (0, 19), (1, 23), (2, 13), (5, 39), (6, 21)]);
        assert!(reduce(&mut native, 1, 8).is_err());
        assert_eq!([1.0, 1.002, 1.1, 2.0, 4.0, 1e9].map(max_schema), [8, 8, 2, 0, -1, -4]);
    }
}
