//! What CPUs counted in rows of a mapped array, summed, and histograms in both forms.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use collector_ebpf::runqueue::{WAIT, WAIT_TABLES};
use collector_ebpf::scale::{SIZE, SIZE_TABLES, Spec, TIME, TIME_TABLES};

use super::kernel_map::KernelMap;
use crate::model::{HistogramSnapshot, NativeHistogram};

/// How the buckets of a kind of histogram lie in its native and in its classic form.
pub(super) struct Form {
    spec: &'static Spec,
    /// For each bucket but the first, which is the zero bucket, the native one in which it lies.
    native: Vec<i32>,
    /// For each bucket, the classic one in which it lies; the number of the bounds stands for +Inf.
    classic: Vec<usize>,
    labels: Vec<&'static str>,
}

impl Form {
    /// `uppers` are the upper bounds of all buckets.
    fn new(spec: &'static Spec, uppers: &[u64]) -> Self {
        let uppers = &uppers[..=spec.bounds()];
        Form {
            spec,
            native: uppers.iter().map(|&upper| spec.native_index(upper)).collect(),
            classic: uppers.iter().map(|&upper| spec.classic_index(upper)).collect(),
            labels: spec.classic.iter().map(|(_, label)| *label).collect(),
        }
    }
}

/// Waits for a CPU.
pub(super) static WAITS: LazyLock<Form> = LazyLock::new(|| Form::new(&WAIT, &WAIT_TABLES.upper));
/// Times of the other probes.
pub(super) static TIMES: LazyLock<Form> = LazyLock::new(|| Form::new(&TIME, &TIME_TABLES.upper));
/// Sizes.
pub(super) static SIZES: LazyLock<Form> = LazyLock::new(|| Form::new(&SIZE, &SIZE_TABLES.upper));

/// A histogram of the kernel side, summed: memory that is used again at every tick, for one after the other.
pub(super) struct Histogram {
    form: &'static Form,
    buckets: Vec<u64>,
    cumulative: Vec<u64>,
    native: NativeHistogram,
}

impl Histogram {
    pub(super) fn new(form: &'static Form) -> Self {
        Histogram {
            form,
            buckets: vec![0; form.native.len()],
            cumulative: vec![0; form.labels.len()],
            native: NativeHistogram::default(),
        }
    }

    /// Sums the rows of a histogram, whose sum stands at byte `sum` of an element of `map` and whose buckets begin at
    /// byte `buckets`. A bucket may be ahead of the sum by what happens meanwhile, never torn.
    pub(super) fn read<'a>(
        &mut self,
        rows: impl Iterator<Item = &'a [AtomicU64]>,
        sum: usize,
        buckets: usize,
    ) -> HistogramSnapshot<'_> {
        self.buckets.fill(0);
        let mut total = 0;
        for row in rows {
            total += row[sum / 8].load(Ordering::Relaxed);
            for (bucket, word) in self.buckets.iter_mut().zip(&row[buckets / 8..]) {
                *bucket += word.load(Ordering::Relaxed);
            }
        }
        self.fill_classic();
        self.fill_native(number(total) / number(self.form.spec.unit));
        HistogramSnapshot {
            bounds: &self.form.labels,
            cumulative: &self.cumulative,
            count: self.native.count,
            sum: self.native.sum,
            native: Some(&self.native),
        }
    }

    /// What lies above the highest bound.
    pub(super) fn overflow(&self) -> f64 {
        self.buckets.last().map_or(0.0, |&count| number(count))
    }

    fn fill_classic(&mut self) {
        self.cumulative.fill(0);
        for (&count, &bound) in self.buckets.iter().zip(&self.form.classic) {
            // What lies above the last bound is in +Inf alone, which is the count.
            if let Some(sum) = self.cumulative.get_mut(bound) {
                *sum += count;
            }
        }
        for bound in 1..self.cumulative.len() {
            self.cumulative[bound] += self.cumulative[bound - 1];
        }
    }

    fn fill_native(&mut self, sum: f64) {
        let (native, buckets, of) = (&mut self.native, &self.buckets, &self.form.native);
        native.clear();
        native.schema = i8::try_from(self.form.spec.schema).unwrap_or_default();
        native.zero_threshold = f64::from(self.form.spec.zero_log2).exp2();
        native.zero_count = buckets[0];
        native.count = buckets.iter().sum();
        native.sum = sum;
        let (mut end, mut bucket) = (0, 1);
        while bucket < buckets.len() {
            let index = of[bucket];
            let mut count = 0;
            while bucket < buckets.len() && of[bucket] == index {
                count += buckets[bucket];
                bucket += 1;
            }
            if count > 0 {
                native.push(index, count, &mut end);
            }
        }
    }
}

/// The sum over the rows of the counter at byte `offset` of an element.
pub(super) fn total(map: &KernelMap, offset: usize) -> u64 {
    (0..map.elements()).map(|row| map.element(row)[offset / 8].load(Ordering::Relaxed)).sum()
}

/// As [`total`], for a sample.
pub(super) fn sum(map: &KernelMap, offset: usize) -> f64 {
    number(total(map, offset))
}

/// Every row of a map.
pub(super) fn rows(map: &KernelMap) -> impl Iterator<Item = &[AtomicU64]> {
    (0..map.elements()).map(|row| map.element(row))
}

/// Nanoseconds in seconds.
pub(super) fn seconds(ns: u64) -> f64 {
    number(ns) / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "counts above 2^53 lose precision in every protocol")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(form: &'static Form, find: fn(u64) -> usize, values: &[u64]) -> Histogram {
        let mut row: Vec<AtomicU64> = (0..260).map(|_| AtomicU64::new(0)).collect();
        *row[0].get_mut() = values.iter().fold(0, |sum, &value| sum.wrapping_add(value));
        for &value in values {
            *row[1 + find(value)].get_mut() += 1;
        }
        let mut histogram = Histogram::new(form);
        histogram.read([row.as_slice()].into_iter(), 0, 8);
        histogram
    }

    fn indices(native: &NativeHistogram) -> Vec<(i64, u64)> {
        crate::model::indexed(&native.spans, &native.buckets).collect()
    }

    #[test]
    fn both_forms_hold_every_count() {
        let waits = [0, 953, 954, 1_000, 1_001, 999_999_999, 1_000_000_000, 1_000_000_001, 1 << 63];
        let histogram = counted(&WAITS, |value| WAIT_TABLES.bucket(value), &waits);
        let at =
            |label: &str| histogram.cumulative[WAITS.labels.iter().position(|&own| own == label).unwrap()];
        assert_eq!([at("1e-06"), at("2.5e-06"), at("0.5"), at("1"), at("2.5"), at("10")], [4, 5, 5, 7, 8, 8]);
        let native = &histogram.native;
        assert_eq!((native.zero_count, native.count, histogram.overflow()), (2, 9, 1.0));
        assert_eq!(native.zero_threshold, 2f64.powi(-20));
        assert_eq!(native.buckets.iter().sum::<u64>() + native.zero_count, native.count);
        // 2^(-159/8) s is 1040 ns; 1 s ends bucket 0; what is longer than 64 s lies in the bucket after the last.
        assert_eq!(indices(native), [(-159, 3), (0, 2), (1, 1), (49, 1)]);
    }

    #[test]
    fn sizes_are_shown_in_bytes() {
        let histogram = counted(&SIZES, |value| SIZE_TABLES.bucket(value), &[0, 512, 4096, 4097, 1 << 27]);
        assert_eq!(histogram.native.sum, 512.0 + 4096.0 + 4097.0 + f64::from(1 << 27));
        assert_eq!(histogram.cumulative, [2, 3, 4, 4, 4, 4, 4, 4, 4]);
        assert_eq!(indices(&histogram.native), [(9, 1), (12, 1), (13, 1), (27, 1)]);
    }
}
