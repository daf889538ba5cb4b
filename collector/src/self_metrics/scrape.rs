//! What is counted of scrapes, as Prometheus names it where it has a name for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Cell, Window};
use crate::model::{Family, Recorder};

macro_rules! scrape_families {
    ($($name:ident = $kind:ident $metric:literal $help:literal [$($label:literal),*];)*) => {
        $(static $name: Family = Family::$kind($metric, $help, &[$($label),*]);)*
        pub(super) static FAMILIES: &[&Family] = &[$(&$name),*];
    };
}

scrape_families! {
    SCRAPES = counter "collector_scrapes_total" "Scrapes that were made, whatever became of them." [];
    FAILED = counter "collector_scrapes_failed_total" "Scrapes that gave no page, or one that could not be taken." [];
    SKIPPED = counter "collector_scrapes_skipped_total" "Scrapes left out because the one before them took longer than the interval." [];
    SAMPLE_LIMIT = counter "prometheus_target_scrapes_exceeded_sample_limit_total" "Scrapes refused because the page had more samples than sample_limit allows." [];
    BODY_LIMIT = counter "prometheus_target_scrapes_exceeded_body_size_limit_total" "Scrapes refused because the body was longer than body_size_limit allows." [];
    WAITED = counter "collector_scrapes_waited_total" "Scrapes that waited because as many as may be were under way." [];
    DUPLICATE_TIMES = counter "prometheus_target_scrapes_sample_duplicate_timestamp_total" "Samples left out because their series stood on the page before." [];
    OUT_OF_ORDER = counter "prometheus_target_scrapes_sample_out_of_order_total" "Samples left out because their own time was not newer than the last of their series." [];
    OUT_OF_BOUNDS = counter "prometheus_target_scrapes_sample_out_of_bounds_total" "Samples left out because their own time lay more than ten minutes ahead." [];
    EXEMPLARS_OUT_OF_ORDER = counter "prometheus_target_scrapes_exemplar_out_of_order_total" "Exemplars left out because they were older than the last of their series." [];
    EXEMPLARS_LEFT_OUT = counter "collector_scrape_exemplars_left_out_total" "Exemplars left out because they were longer than OpenMetrics allows, or too many on one page." [];
    SERIES_LIMITED = counter "collector_scrape_samples_limited_total" "Samples left out because their target had as many series as series_limit allows." [];
    LABEL_LIMIT = counter "prometheus_target_scrape_pool_exceeded_label_limits_total" "Scrapes refused because a series was beyond a limit of labels." [];
    BUCKET_LIMIT = counter "prometheus_target_scrapes_exceeded_native_histogram_bucket_limit_total" "Scrapes refused because a native histogram had more buckets than native_histogram_bucket_limit allows." [];
    POOLS = gauge "prometheus_target_scrape_pools_total" "Jobs." [];
    INTERVAL = summary "prometheus_target_interval_length_seconds" "Time between the beginnings of a target's scrapes, by the interval that is asked for." ["interval"];
    SYNC = summary "prometheus_target_sync_length_seconds" "Time that it took to give a job its targets." ["scrape_job"];
    TARGETS = gauge "prometheus_target_scrape_pool_targets" "Targets that are scraped, by job." ["scrape_job"];
    TARGET_LIMIT = gauge "prometheus_target_scrape_pool_target_limit" "Targets that a job may have; 0 for any number." ["scrape_job"];
    TARGET_LIMIT_EXCEEDED = counter "prometheus_target_scrape_pool_exceeded_target_limit_total" "Times that a job had more targets than target_limit allows." [];
    SYNCS = counter "prometheus_target_scrape_pool_sync_total" "Times that a job was given its targets." ["scrape_job"];
}

/// Lines in the log of targets that fail and come back, each minute.
const SCRAPE_LOG_LINES: u64 = 100;
/// Sources of prom_scraper's targets that are told apart.
const MAX_SOURCES: usize = 10_000;
/// Intervals that are told apart.
const MAX_INTERVALS: usize = 64;
/// Those of Prometheus.
const QUANTILES: &super::Quantiles =
    &[("0.01", 0.01), ("0.05", 0.05), ("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99)];

/// As Go writes a duration, which is how Prometheus names intervals: `15s`, `1m0s`, `500ms`.
fn go_duration(span: Duration) -> String {
    if span < Duration::from_secs(1) {
        return format!("{}ms", span.as_secs_f64() * 1000.0);
    }
    let (minutes, seconds) = (span.as_secs() / 60, (span.as_millis() % 60_000) as f64 / 1000.0);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// The counters of all scrapes.
#[derive(Debug, Default)]
pub struct ScrapeStats {
    pub scrapes: Cell,
    pub failed: Cell,
    pub skipped: Cell,
    pub sample_limit: Cell,
    pub body_size_limit: Cell,
    pub waited: Cell,
    pub duplicates: Cell,
    pub out_of_order: Cell,
    pub out_of_bounds: Cell,
    pub exemplars_out_of_order: Cell,
    pub exemplars_left_out: Cell,
    pub series_limited: Cell,
    pub label_limit: Cell,
    pub bucket_limit: Cell,
    /// Failed scrapes of prom_scraper's targets, by their source.
    failed_sources: Mutex<BTreeMap<String, u64>>,
    /// Lines of the log.
    pub lines: Lines,
    intervals: Mutex<Vec<(Duration, String, Arc<Window>)>>,
    pools: Mutex<Vec<Arc<PoolStats>>>,
}

/// The counters of one job.
#[derive(Debug, Default)]
pub struct PoolStats {
    job: String,
    pub targets: Cell,
    pub target_limit: Cell,
    pub target_limit_exceeded: Cell,
    pub syncs: Cell,
    /// How long it took to set the targets.
    pub sync_length: Window,
}

/// Whether a line of the log finds room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Some,
    /// It does not, and nobody has said so in this minute.
    Last,
    None,
}

/// So many lines a minute.
#[derive(Debug, Default)]
pub struct Lines(Mutex<(i64, u64)>);

impl Lines {
    pub fn take(&self, minute: i64) -> Room {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 != minute {
            *state = (minute, 0);
        }
        state.1 += 1;
        match state.1.cmp(&(SCRAPE_LOG_LINES + 1)) {
            std::cmp::Ordering::Less => Room::Some,
            std::cmp::Ordering::Equal => Room::Last,
            std::cmp::Ordering::Greater => Room::None,
        }
    }
}

impl PoolStats {
    pub fn new(job: &str) -> Self {
        PoolStats { job: job.to_owned(), ..PoolStats::default() }
    }
}

impl ScrapeStats {
    /// Shows these jobs from now on, and no others.
    pub fn set_pools(&self, pools: Vec<Arc<PoolStats>>) {
        *self.pools.lock().unwrap_or_else(PoisonError::into_inner) = pools;
    }

    /// Counts a failed scrape of a target that prom_scraper's files name.
    pub fn failed_source(&self, source: &str) {
        let mut sources = self.failed_sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(source) {
            *count += 1;
        } else if sources.len() < MAX_SOURCES {
            sources.insert(source.to_owned(), 1);
        }
    }

    /// Sources with how often their scrapes failed.
    pub fn failed_sources(&self) -> Vec<(String, u64)> {
        let sources = self.failed_sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.iter().map(|(source, count)| (source.clone(), *count)).collect()
    }

    /// Where lengths of this interval are observed; `None` where there are as many intervals as are told apart.
    pub fn interval(&self, interval: Duration) -> Option<Arc<Window>> {
        let mut intervals = self.intervals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, window)) = intervals.iter().find(|(known, ..)| *known == interval) {
            return Some(window.clone());
        }
        // Those that nobody holds any more make room.
        if intervals.len() >= MAX_INTERVALS {
            intervals.retain(|(_, _, window)| Arc::strong_count(window) > 1);
        }
        if intervals.len() >= MAX_INTERVALS {
            return None;
        }
        let window = Arc::<Window>::default();
        intervals.push((interval, go_duration(interval), window.clone()));
        intervals.sort_by_key(|(known, ..)| *known);
        Some(window)
    }

    /// Nothing while no job is configured.
    pub(super) fn put(&self, out: &mut Recorder, sorted: &mut Vec<u64>) {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if pools.is_empty() {
            return;
        }
        for (family, cell) in [
            (&SCRAPES, &self.scrapes),
            (&FAILED, &self.failed),
            (&SKIPPED, &self.skipped),
            (&SAMPLE_LIMIT, &self.sample_limit),
            (&BODY_LIMIT, &self.body_size_limit),
            (&WAITED, &self.waited),
            (&DUPLICATE_TIMES, &self.duplicates),
            (&OUT_OF_ORDER, &self.out_of_order),
            (&OUT_OF_BOUNDS, &self.out_of_bounds),
            (&EXEMPLARS_OUT_OF_ORDER, &self.exemplars_out_of_order),
            (&EXEMPLARS_LEFT_OUT, &self.exemplars_left_out),
            (&SERIES_LIMITED, &self.series_limited),
            (&LABEL_LIMIT, &self.label_limit),
            (&BUCKET_LIMIT, &self.bucket_limit),
        ] {
            out.put(family, &[], cell.float());
        }
        out.put(
            &TARGET_LIMIT_EXCEEDED,
            &[],
            pools.iter().map(|pool| pool.target_limit_exceeded.float()).sum(),
        );
        out.put(&POOLS, &[], pools.len() as f64);
        let intervals = self.intervals.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, text, window) in intervals.iter() {
            super::put_summary(&INTERVAL, &[text], QUANTILES, window, sorted, out);
        }
        for pool in pools.iter() {
            super::put_summary(&SYNC, &[&pool.job], QUANTILES, &pool.sync_length, sorted, out);
            out.put(&TARGETS, &[&pool.job], pool.targets.float());
            out.put(&TARGET_LIMIT, &[&pool.job], pool.target_limit.float());
            out.put(&SYNCS, &[&pool.job], pool.syncs.float());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_named_as_go_names_them() {
        let texts =
            [500, 1500, 15_000, 60_000, 90_000, 3_600_000].map(|ms| go_duration(Duration::from_millis(ms)));
        assert_eq!(texts, ["500ms", "1.5s", "15s", "1m0s", "1m30s", "1h0m0s"]);
    }

    #[test]
    fn only_so_many_intervals_are_told_apart() {
        let stats = ScrapeStats::default();
        let held: Vec<_> =
            (0..MAX_INTERVALS as u64).map(|n| stats.interval(Duration::from_secs(n))).collect();
        assert!(held.iter().all(Option::is_some) && stats.interval(Duration::from_secs(999)).is_none());
        assert!(Arc::ptr_eq(&stats.interval(Duration::from_secs(3)).unwrap(), held[3].as_ref().unwrap()));
        drop(held);
        assert!(stats.interval(Duration::from_secs(999)).is_some());
    }
}
