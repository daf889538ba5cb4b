//! What is counted for each remote-write endpoint.

use super::Cell;
use crate::model::{Family, HistogramSnapshot, Recorder};

macro_rules! endpoint_families {
    ($($name:ident = $kind:ident $metric:literal $help:literal [$($label:literal),*];)*) => {
        $(static $name: Family = Family::$kind(
            concat!("prometheus_remote_storage_", $metric), $help, &["remote_name", "url", $($label),*],
        );)*
        pub(super) static FAMILIES: &[&Family] = &[$(&$name),*];
    };
}

endpoint_families! {
    SAMPLES = counter "samples_total" "Samples sent, whatever became of them." [];
    HISTOGRAMS = counter "histograms_total" "Native histograms sent, whatever became of them." [];
    EXEMPLARS = counter "exemplars_total" "Exemplars sent, whatever became of them." [];
    METADATA = counter "metadata_total" "Families whose metadata was sent in requests of its own." [];
    METADATA_FAILED = counter "metadata_failed_total" "Families whose metadata the endpoint refused, or could not be told in time." [];
    METADATA_RETRIED = counter "metadata_retried_total" "Families whose metadata was sent again after a fault that may pass." [];
    FAILED = counter "samples_failed_total" "Samples that the endpoint refused for good." [];
    RETRIED = counter "samples_retried_total" "Samples sent again after a fault that may pass." [];
    HISTOGRAMS_FAILED = counter "histograms_failed_total" "Native histograms that the endpoint refused for good." [];
    HISTOGRAMS_RETRIED = counter "histograms_retried_total" "Native histograms sent again after a fault that may pass." [];
    EXEMPLARS_FAILED = counter "exemplars_failed_total" "Exemplars that the endpoint refused for good." [];
    EXEMPLARS_RETRIED = counter "exemplars_retried_total" "Exemplars sent again after a fault that may pass." [];
    DROPPED = counter "samples_dropped_total" "Samples that were not sent, by reason." ["reason"];
    PENDING = gauge "samples_pending" "Samples that wait to be sent, in memory or in the batch log." [];
    BYTES = counter "bytes_total" "Compressed bytes of requests sent." [];
    REQUESTS = counter "requests_total" "Requests answered, by HTTP status; 0 where none came." ["code"];
    DURATION = histogram "sent_batch_duration_seconds" "Time from sending a request to its answer." [];
    SENT = gauge "queue_highest_sent_timestamp_seconds" "Time of the newest sample acknowledged, in seconds since 1970." [];
    QUEUED = gauge "queue_highest_timestamp_seconds" "Time of the newest sample that was queued, in seconds since 1970." [];
    BATCH = gauge "max_samples_per_send" "Samples in one request at the most." [];
    SHARDS = gauge "shards" "Requests that may be under way at once by now." [];
    SHARDS_DESIRED = gauge "shards_desired" "Requests at once that the load asks for: above the most, the endpoint falls behind." [];
    SHARDS_MAX = gauge "shards_max" "Requests under way at once at the most." [];
    SHARDS_MIN = gauge "shards_min" "Requests that may be under way at once at the least." [];
    CAPACITY = gauge "shard_capacity" "The configured capacity; what waits is in the batch log." [];
}

/// Why samples were not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Pushed out of memory while the batch log could not be written.
    MemoryFull,
    /// Pushed out of the batch log by its caps.
    LogFull,
    /// Older than `sample_age_limit`.
    TooOld,
    /// Lost to a damaged record of the batch log.
    Corrupt,
    /// Native histograms with custom buckets, which 1.0 has no form for.
    CustomBuckets,
}

const REASONS: [(DropReason, &str); 5] = [
    (DropReason::Corrupt, "corrupt"),
    (DropReason::LogFull, "log_full"),
    (DropReason::MemoryFull, "memory_full"),
    (DropReason::CustomBuckets, "nhcb_in_rw1_not_supported"),
    (DropReason::TooOld, "too_old"),
];

/// Upper bounds of the answer times: Go's default ones and four more, as Prometheus has them.
const BOUNDS: [&str; 15] =
    ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "25", "60", "120", "300"];
const BOUND_MICROS: [u64; 15] = [
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
];

/// Statuses counted apart; the rest are counted in their hundreds.
const CODES: [&str; 7] = ["0", "2xx", "3xx", "400", "429", "4xx", "5xx"];

/// The counters of one endpoint.
#[derive(Debug, Default)]
pub struct EndpointStats {
    pub name: String,
    pub url: String,
    pub max_samples_per_send: Cell,
    pub samples: Cell,
    pub histograms: Cell,
    pub exemplars: Cell,
    pub failed: Cell,
    pub retried: Cell,
    pub histograms_failed: Cell,
    pub histograms_retried: Cell,
    pub exemplars_failed: Cell,
    pub exemplars_retried: Cell,
    pub metadata: Cell,
    pub metadata_failed: Cell,
    pub metadata_retried: Cell,
    pub shards: Cell,
    pub shards_desired: Cell,
    pub shards_max: Cell,
    pub shards_min: Cell,
    pub shard_capacity: Cell,
    pub bytes: Cell,
    pub highest_sent_ms: Cell,
    /// Everything before this number of the batch log is settled.
    pub acknowledged: Cell,
    /// Everything before this number was fetched, and of that so many samples are not settled.
    pub fetched: Cell,
    pub held: Cell,
    dropped: [Cell; REASONS.len()],
    codes: [Cell; CODES.len()],
    durations: [Cell; BOUNDS.len() + 1],
    duration_sum_micros: Cell,
}

impl EndpointStats {
    pub fn new(name: &str, url: &str) -> Self {
        EndpointStats { name: name.to_owned(), url: url.to_owned(), ..EndpointStats::default() }
    }

    pub fn dropped(&self, reason: DropReason) -> &Cell {
        let at = REASONS.iter().position(|(known, _)| *known == reason);
        &self.dropped[at.expect("every reason has its row")]
    }

    /// Counts an answer; `status` is 0 where none came.
    pub fn answered(&self, status: u16, after: std::time::Duration) {
        let code = match status {
            200..300 => 1,
            300..400 => 2,
            400 => 3,
            429 => 4,
            401..500 => 5,
            500.. => 6,
            _ => 0,
        };
        self.codes[code].add(1);
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUND_MICROS.iter().position(|&bound| micros <= bound).unwrap_or(BOUNDS.len());
        self.durations[bucket].add(1);
        self.duration_sum_micros.add(micros);
    }

    /// `newest` is the number that the next batch will have, `newest_ms` the time of the newest sample: to be in the
    /// batch log is to be queued.
    pub(super) fn put(&self, (newest, newest_ms): (u64, u64), out: &mut Recorder, cumulative: &mut Vec<u64>) {
        let labels = [self.name.as_str(), self.url.as_str()];
        for (family, cell) in [
            (&SAMPLES, &self.samples),
            (&HISTOGRAMS, &self.histograms),
            (&EXEMPLARS, &self.exemplars),
            (&FAILED, &self.failed),
            (&RETRIED, &self.retried),
            (&HISTOGRAMS_FAILED, &self.histograms_failed),
            (&HISTOGRAMS_RETRIED, &self.histograms_retried),
            (&EXEMPLARS_FAILED, &self.exemplars_failed),
            (&EXEMPLARS_RETRIED, &self.exemplars_retried),
            (&METADATA, &self.metadata),
            (&METADATA_FAILED, &self.metadata_failed),
            (&METADATA_RETRIED, &self.metadata_retried),
            (&SHARDS, &self.shards),
            (&SHARDS_DESIRED, &self.shards_desired),
            (&SHARDS_MAX, &self.shards_max),
            (&SHARDS_MIN, &self.shards_min),
            (&CAPACITY, &self.shard_capacity),
            (&BYTES, &self.bytes),
            (&BATCH, &self.max_samples_per_send),
        ] {
            out.put(family, &labels, cell.float());
        }
        let pending = newest.saturating_sub(self.fetched.get()) + self.held.get();
        #[expect(clippy::cast_precision_loss, reason = "what waits, and times, stay far below 2^53")]
        {
            out.put(&PENDING, &labels, pending as f64);
            out.put(&QUEUED, &labels, newest_ms as f64 / 1000.0);
        }
        for (cell, (_, reason)) in self.dropped.iter().zip(REASONS) {
            out.put(&DROPPED, &[labels[0], labels[1], reason], cell.float());
        }
        for (cell, code) in self.codes.iter().zip(CODES) {
            out.put(&REQUESTS, &[labels[0], labels[1], code], cell.float());
        }
        out.put(&SENT, &labels, self.highest_sent_ms.float() / 1000.0);
        cumulative.clear();
        let mut total = 0;
        for cell in &self.durations {
            total += cell.get();
            cumulative.push(total);
        }
        let sum = self.duration_sum_micros.float() / 1e6;
        let cumulative = &cumulative[..BOUNDS.len()];
        let snapshot = HistogramSnapshot { bounds: &BOUNDS, cumulative, count: total, sum, native: None };
        out.histogram(&DURATION, &labels, &snapshot);
    }
}
