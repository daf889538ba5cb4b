//! How long something took: a count, a sum, and quantiles of the latest, as Prometheus' summaries have them.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Cell;

/// Observations from which quantiles are taken.
const LATEST: usize = 512;
/// What is older counts no more, as in Go's client.
const MAX_AGE_SECONDS: u32 = 600;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What was observed.
#[derive(Debug)]
pub struct Window {
    count: Cell,
    sum_micros: Cell,
    next: AtomicUsize,
    /// The second of the process, counted from 1, above its length in units of ten microseconds.
    latest: Box<[AtomicU64]>,
}

impl Default for Window {
    fn default() -> Self {
        let latest = (0..LATEST).map(|_| AtomicU64::new(0)).collect();
        Window { count: Cell::default(), sum_micros: Cell::default(), next: AtomicUsize::new(0), latest }
    }
}

impl Window {
    pub fn observe(&self, length: Duration) {
        let micros = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        self.count.add(1);
        self.sum_micros.add(micros);
        let at = self.next.fetch_add(1, Ordering::Relaxed) % LATEST;
        let second = START.elapsed().as_secs() as u32 + 1;
        let length = u32::try_from(micros / 10).unwrap_or(u32::MAX);
        self.latest[at].store(u64::from(second) << 32 | u64::from(length), Ordering::Relaxed);
    }

    pub fn count(&self) -> f64 {
        self.count.float()
    }

    /// In seconds.
    pub fn sum(&self) -> f64 {
        self.sum_micros.float() / 1e6
    }

    /// The lengths of the latest, sorted, for [`quantile`].
    pub(super) fn sorted(&self, out: &mut Vec<u64>) {
        let now = START.elapsed().as_secs() as u32 + 1;
        let recent = |entry: u64| entry != 0 && now - ((entry >> 32) as u32).min(now) <= MAX_AGE_SECONDS;
        out.clear();
        let entries = self.latest.iter().map(|entry| entry.load(Ordering::Relaxed));
        out.extend(entries.filter(|&entry| recent(entry)).map(|entry| entry & u64::from(u32::MAX)));
        out.sort_unstable();
    }
}

/// In seconds; NaN where nothing was observed.
pub(super) fn quantile(sorted: &[u64], quantile: f64) -> f64 {
    if sorted.is_empty() {
        return f64::NAN;
    }
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1] as f64 / 1e5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_latest() {
        let window = Window::default();
        let mut sorted = Vec::new();
        window.sorted(&mut sorted);
        assert!(quantile(&sorted, 0.5).is_nan());
        for n in 0..LATEST as u64 + 100 {
            window.observe(Duration::from_millis(if n < 100 { 1_000_000 } else { n - 99 }));
        }
        window.sorted(&mut sorted);
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|q| quantile(&sorted, q)), [0.001, 0.256, 0.507, 0.512]);
        assert_eq!(window.count(), 612.0);
        let sum = 100.0 * 1000.0 + (512.0 * 513.0) / 2000.0;
        assert!((window.sum() - sum).abs() < 1e-6);
    }
}
