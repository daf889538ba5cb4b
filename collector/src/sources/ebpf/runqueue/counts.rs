//! What the CPUs counted for the host, summed, and its histogram in both forms.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use collector_ebpf::runqueue::{
    BOUNDS, CLASSIC, HostBank, SCHEMA, ZERO_THRESHOLD_LOG2, classic_index, native_index,
};

use crate::model::{HistogramSnapshot, NativeHistogram};
use crate::sources::ebpf::kernel_map::KernelMap;

const BUCKETS: usize = BOUNDS + 1;
const FIRST_BUCKET: usize = offset_of!(HostBank, buckets) / 8;

/// Stands for the zero bucket in [`NATIVE`].
const ZERO: i32 = i32::MIN;

/// For each bucket of the kernel side, the native and the classic one in which it lies.
static NATIVE: [i32; BUCKETS] = {
    let mut table = [ZERO; BUCKETS];
    let mut bucket = 0;
    while bucket < BUCKETS {
        if let Some(index) = native_index(bucket) {
            table[bucket] = index;
        }
        bucket += 1;
    }
    table
};
static CLASSIC_OF: [usize; BUCKETS] = {
    let mut table = [0; BUCKETS];
    let mut bucket = 0;
    while bucket < BUCKETS {
        table[bucket] = classic_index(bucket);
        bucket += 1;
    }
    table
};
static LABELS: [&str; CLASSIC.len()] = {
    let mut labels = [""; CLASSIC.len()];
    let mut bound = 0;
    while bound < CLASSIC.len() {
        labels[bound] = CLASSIC[bound].1;
        bound += 1;
    }
    labels
};

/// The banks of all CPUs, and the histogram as it was at the last [`HostCounts::read`].
pub(super) struct HostCounts {
    map: KernelMap,
    buckets: [u64; BUCKETS],
    cumulative: [u64; CLASSIC.len()],
    native: NativeHistogram,
}

impl HostCounts {
    pub(super) fn new(map: KernelMap) -> Self {
        let native = NativeHistogram::default();
        HostCounts { map, buckets: [0; BUCKETS], cumulative: [0; CLASSIC.len()], native }
    }

    /// Sums the banks. A bucket may be ahead of the sum by a switch that happens meanwhile, never torn.
    pub(super) fn read(&mut self) {
        let sum = seconds(self.total(offset_of!(HostBank, wait_ns)));
        self.buckets.fill(0);
        for cpu in 0..self.map.elements() {
            let words = &self.map.element(cpu)[FIRST_BUCKET..];
            for (bucket, word) in self.buckets.iter_mut().zip(words) {
                *bucket += word.load(Ordering::Relaxed);
            }
        }
        fill_classic(&self.buckets, &mut self.cumulative);
        fill_native(&self.buckets, sum, &mut self.native);
    }

    pub(super) fn snapshot(&self) -> HistogramSnapshot<'_> {
        HistogramSnapshot {
            bounds: &LABELS,
            cumulative: &self.cumulative,
            count: self.native.count,
            sum: self.native.sum,
            native: Some(&self.native),
        }
    }

    /// Waits above the highest bound.
    pub(super) fn overflow(&self) -> f64 {
        number(self.buckets[BOUNDS])
    }

    /// The counter at that offset of a bank.
    pub(super) fn sum(&self, offset: usize) -> f64 {
        number(self.total(offset))
    }

    fn total(&self, offset: usize) -> u64 {
        let banks = 0..self.map.elements();
        banks.map(|cpu| self.map.element(cpu)[offset / 8].load(Ordering::Relaxed)).sum()
    }
}

fn fill_classic(buckets: &[u64; BUCKETS], cumulative: &mut [u64; CLASSIC.len()]) {
    cumulative.fill(0);
    for (&count, &bound) in buckets.iter().zip(&CLASSIC_OF) {
        // What lies above the last bound is in +Inf alone, which is the count.
        if let Some(sum) = cumulative.get_mut(bound) {
            *sum += count;
        }
    }
    for bound in 1..cumulative.len() {
        cumulative[bound] += cumulative[bound - 1];
    }
}

fn fill_native(buckets: &[u64; BUCKETS], sum: f64, native: &mut NativeHistogram) {
    native.clear();
    native.schema = SCHEMA;
    native.zero_threshold = f64::from(ZERO_THRESHOLD_LOG2).exp2();
    native.zero_count = buckets[0];
    native.count = buckets.iter().sum();
    native.sum = sum;
    let (mut end, mut bucket) = (0, 1);
    while bucket < BUCKETS {
        let index = NATIVE[bucket];
        let mut count = 0;
        while bucket < BUCKETS && NATIVE[bucket] == index {
            count += buckets[bucket];
            bucket += 1;
        }
        if count > 0 {
            native.push(index, count, &mut end);
        }
    }
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

    #[test]
    fn both_forms_hold_every_count() {
        let mut buckets = [0; BUCKETS];
        for wait in [0, 953, 954, 1_000, 1_001, 999_999_999, 1_000_000_000, 1_000_000_001, u64::MAX] {
            buckets[collector_ebpf::runqueue::bucket(wait)] += 1;
        }
        let mut cumulative = [0; CLASSIC.len()];
        fill_classic(&buckets, &mut cumulative);
        let at = |label: &str| cumulative[LABELS.iter().position(|&l| l == label).unwrap()];
        assert_eq!([at("1e-06"), at("2.5e-06"), at("0.5"), at("1"), at("2.5"), at("10")], [4, 5, 5, 7, 8, 8]);
        let mut native = NativeHistogram::default();
        fill_native(&buckets, 4.0, &mut native);
        assert_eq!((native.zero_count, native.count, native.sum), (2, 9, 4.0));
        assert_eq!(native.zero_threshold, 2f64.powi(-20));
        assert_eq!(native.buckets.iter().sum::<u64>() + native.zero_count, native.count);
        let mut index = 0;
        let mut seen = Vec::new();
        let mut counts = native.buckets.iter();
        for span in &native.spans {
            index += span.offset;
            for _ in 0..span.length {
                seen.push((index, *counts.next().unwrap()));
                index += 1;
            }
        }
        // 2^(-159/8) s is 1040 ns; 1 s ends bucket 0; what is longer than 64 s lies in the bucket after the last.
        assert_eq!(seen, [(-159, 3), (0, 2), (1, 1), (49, 1)]);
    }
}
