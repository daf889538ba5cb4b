//! Classic histograms made native ones with custom buckets, as `convert_classic_histograms_to_nhcb` asks for.

use super::metric::Classic;
use super::times::Times;
use crate::model::{Batch, CUSTOM_BUCKETS, NO_SAMPLE, NativeHistogram, SeriesId, Span};

/// One classic bucket: its upper bound and the count up to there.
pub(super) type Cumulative = (f64, f64);

/// Fills `native` with the buckets, which are sorted by bound; `None` where they make no histogram: counts that
/// fall, are negative, or do not end at the whole count.
pub(super) fn convert(
    buckets: impl Iterator<Item = Cumulative> + Clone,
    count: Option<f64>,
    sum: f64,
    native: &mut NativeHistogram,
) -> Option<()> {
    native.clear();
    native.schema = CUSTOM_BUCKETS;
    native.sum = sum;
    let last = buckets.clone().last();
    let count = count.or(last.map(|last| last.1)).filter(|count| *count >= 0.0)?;
    let infinite = last.is_some_and(|last| last.0 == f64::INFINITY);
    let all = buckets.chain((!infinite).then_some((f64::INFINITY, count)));
    let is_whole = |count: f64| count.fract() == 0.0 && count < 9.2e18;
    native.float = !(is_whole(count) && all.clone().all(|(_, count)| is_whole(count)));
    let mut before = 0.0;
    for (bound, cumulative) in all {
        if bound.is_nan() || cumulative.is_nan() || cumulative < before {
            return None;
        }
        let own = cumulative - before;
        native.buckets.push(if native.float { own.to_bits() } else { cumulative as u64 - before as u64 });
        if bound != f64::INFINITY {
            native.bounds.push(bound);
        }
        before = cumulative;
    }
    if before != count {
        return None;
    }
    native.count = if native.float { count.to_bits() } else { count as u64 };
    native.spans.push(Span { offset: 0, length: native.buckets.len() as u32 });
    Some(())
}

/// Appends the native histogram of `classic`; one that has no sample where the parts do not fit together.
pub(super) fn push(classic: &Classic, id: SeriesId, batch: &mut Batch, times: &mut Times) {
    let mut native = std::mem::take(&mut times.native);
    let aside = &times.aside;
    let read = |from: super::metric::From| from.value(batch, aside);
    let (mut time, mut none) = (None, false);
    let mut note = |from: Option<super::metric::From>| {
        let noted = from.map(read);
        time = noted.and_then(|noted| noted.time).or(time);
        none |= time == Some(NO_SAMPLE);
        noted.map(|noted| noted.value)
    };
    classic.buckets.iter().for_each(|&(_, from)| _ = note(Some(from)));
    let (sum, count) = (note(classic.sum).unwrap_or(0.0), note(classic.count));
    let buckets = classic.buckets.iter().map(|&(bound, from)| (bound, read(from).value));
    let fits = convert(buckets, count, sum, &mut native).is_some() && !none;
    batch.push_histogram().clone_from(&native);
    times.native = native;
    if !fits {
        batch.time_last_histogram(NO_SAMPLE);
    } else if let Some(time) = time {
        let time = times.stamp(id, time);
        batch.time_last_histogram(time);
    }
}
