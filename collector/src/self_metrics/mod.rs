//! The collector's own counters, and the source that turns them into samples.
//!
//! `process_*` come from procfs (proc_pid_stat(5)), `promhttp_*` from the server, and
//! `prometheus_remote_storage_*` are named as Prometheus names them, so that its mixin's alerts work.

mod discovery;
mod endpoint;
mod process;
mod scrape;
mod window;

pub use discovery::{DiscoveryStats, JobStats, ProviderStats};
pub use endpoint::{DropReason, EndpointStats};
pub use scrape::{PoolStats, Room, ScrapeStats};
pub use window::Window;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::{Batch, Dynamic, Family, Recorder, SeriesTable, Source};
use crate::ring;
use crate::sys::clock;
use crate::sys::network_octets::NetworkOctets;

static NODE_EXPORTER_BUILD: Family = Family::gauge(
    "node_exporter_build_info",
    "A constant 1, for dashboards that count exporters by it.",
    &["goarch", "goos", "version"],
);
static BUILD: Family = Family::gauge("collector_build_info", "A constant 1; says what runs.", &["version"]);
static HTTP_ERRORS: Family = Family::counter(
    "promhttp_metric_handler_errors_total",
    "Faults while a page of metrics was gathered or encoded.",
    &["cause"],
);
static HTTP_IN_FLIGHT: Family =
    Family::gauge("promhttp_metric_handler_requests_in_flight", "Scrapes that are being answered.", &[]);
static HTTP_REQUESTS: Family =
    Family::counter("promhttp_metric_handler_requests_total", "Scrapes answered, by HTTP status.", &["code"]);
static RING_BATCHES: Family = Family::counter(
    "collector_ring_dropped_batches_total",
    "Batches dropped because the aggregator did not keep up.",
    &[],
);
static RING_SAMPLES: Family = Family::counter(
    "collector_ring_dropped_samples_total",
    "Samples of the batches dropped because the aggregator did not keep up.",
    &[],
);
static SERIES: Family = Family::gauge("collector_series", "Series in the series table.", &[]);
static SKIPPED: Family = Family::counter(
    "collector_ticks_skipped_total",
    "Ticks left out because the one before them took longer than the interval.",
    &[],
);
static DUPLICATES: Family = Family::counter(
    "collector_duplicate_samples_total",
    "Samples left out of what is pushed because another source had given the same series before.",
    &[],
);
static RELOAD_OK: Family = Family::gauge(
    "collector_config_last_reload_successful",
    "Whether the last reading of the configuration succeeded.",
    &[],
);
static RELOAD_TIME: Family = Family::gauge(
    "collector_config_last_reload_success_timestamp_seconds",
    "When the configuration was last read with success, in seconds since 1970.",
    &[],
);
static HIGHEST: Family = Family::gauge(
    "prometheus_remote_storage_highest_timestamp_in_seconds",
    "Time of the newest sample that was taken for remote storage, in seconds since 1970.",
    &[],
);
static SAMPLES_IN: Family =
    Family::counter("prometheus_remote_storage_samples_in_total", "Samples taken for remote storage.", &[]);
static LOG_BYTES: Family = Family::gauge("collector_batch_log_bytes", "Size of the batch log on disk.", &[]);
static LOG_SEGMENTS: Family =
    Family::gauge("collector_batch_log_segments", "Segments of the batch log.", &[]);
static LOG_ERRORS: Family = Family::counter(
    "collector_batch_log_write_errors_total",
    "Failed attempts to write a batch to the batch log.",
    &[],
);
static LOG_HEALTHY: Family = Family::gauge(
    "collector_batch_log_healthy",
    "Whether the last write to the batch log succeeded; 0 means that memory alone holds what is not sent.",
    &[],
);
static LOG_CORRUPT: Family = Family::counter(
    "collector_batch_log_corrupt_records_total",
    "Records of the batch log that were left out because they were damaged.",
    &[],
);
static LOG_DROPPED: Family = Family::counter(
    "collector_batch_log_dropped_samples_total",
    "Samples dropped with the oldest part of the batch log before every endpoint had them.",
    &["reason"],
);

/// The families of this source, for the reference.
pub static FAMILIES: &[&Family] = &[
    &NODE_EXPORTER_BUILD,
    &BUILD,
    &HTTP_ERRORS,
    &HTTP_IN_FLIGHT,
    &HTTP_REQUESTS,
    &RING_BATCHES,
    &RING_SAMPLES,
    &SERIES,
    &SKIPPED,
    &DUPLICATES,
    &RELOAD_OK,
    &RELOAD_TIME,
    &HIGHEST,
    &SAMPLES_IN,
    &LOG_BYTES,
    &LOG_SEGMENTS,
    &LOG_ERRORS,
    &LOG_HEALTHY,
    &LOG_CORRUPT,
    &LOG_DROPPED,
];

/// Every family of this room.
pub fn families() -> impl Iterator<Item = &'static Family> {
    FAMILIES
        .iter()
        .chain(process::FAMILIES)
        .chain(endpoint::FAMILIES)
        .chain(scrape::FAMILIES)
        .chain(discovery::FAMILIES)
        .copied()
}

/// A counter or gauge of whole numbers that any thread may change.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }

    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub fn raise_to(&self, n: u64) {
        self.0.fetch_max(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts above 2^53 lose precision in every protocol")]
    fn float(&self) -> f64 {
        self.get() as f64
    }
}

/// What the rooms count. One for the process.
#[derive(Debug, Default)]
pub struct Counters {
    pub http_gather_errors: Cell,
    pub http_encode_errors: Cell,
    pub http_in_flight: Cell,
    pub http_ok: Cell,
    pub http_error: Cell,
    pub http_unavailable: Cell,
    pub ticks_skipped: Cell,
    pub duplicate_samples: Cell,
    pub reload_failed: Cell,
    pub reload_success_seconds: Cell,
    pub samples_in: Cell,
    pub highest_timestamp_ms: Cell,
    /// The number that the next batch will have.
    pub newest_number: Cell,
    pub log_bytes: Cell,
    pub log_segments: Cell,
    pub log_write_errors: Cell,
    pub log_failing: Cell,
    pub log_corrupt_records: Cell,
    pub log_dropped_by_size: Cell,
    pub log_dropped_by_age: Cell,
    /// 1 while there is a batch log.
    pub log_open: Cell,
    pub scrape: ScrapeStats,
    pub discovery: Arc<DiscoveryStats>,
    endpoints: Mutex<Vec<Arc<EndpointStats>>>,
}

impl Counters {
    /// Shows these endpoints from now on, and no others.
    pub fn set_endpoints(&self, endpoints: Vec<Arc<EndpointStats>>) {
        *self.endpoints.lock().unwrap_or_else(PoisonError::into_inner) = endpoints;
    }

    /// The place that every endpoint has reached; `None` without endpoints.
    pub fn least_acknowledged(&self) -> Option<u64> {
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.iter().map(|endpoint| endpoint.acknowledged.get()).min()
    }

    pub fn reload_succeeded(&self) {
        self.reload_failed.set(0);
        self.reload_success_seconds.set(u64::try_from(clock::now_ms() / 1000).unwrap_or(0));
    }
}

/// The machine, by the name that Go's programs have for it.
const GOARCH: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    std::env::consts::ARCH
};

/// Reads the counters as a source of samples.
pub struct SelfReader {
    counters: Arc<Counters>,
    ring: ring::Sender,
    table: Arc<SeriesTable>,
    recorder: Recorder,
    process: process::Process,
    cumulative: Vec<u64>,
    sorted: Vec<u64>,
}

impl SelfReader {
    pub fn new(
        counters: Arc<Counters>,
        ring: ring::Sender,
        table: Arc<SeriesTable>,
        labels: &[(String, String)],
        network_octets: &Arc<NetworkOctets>,
    ) -> Self {
        let source = Arc::new(Source { name: "self".into(), labels: labels.to_vec() });
        let mut recorder = Recorder::new(source, table.clone());
        // What the network namespace counts began before us.
        recorder.set_start(clock::now_ms(), |family| !family.starts_with("process_network_"));
        let process = process::Process::new(network_octets.clone());
        SelfReader { counters, ring, table, recorder, process, cumulative: Vec::new(), sorted: Vec::new() }
    }

    /// Pushes under other target labels from the next tick on.
    pub fn set_labels(&mut self, labels: &[(String, String)]) {
        self.recorder.set_source(Arc::new(Source { name: "self".into(), labels: labels.to_vec() }));
    }

    /// One batch with all counters as they are now.
    pub fn read(&mut self, slab: Batch, time_ms: i64) -> Batch {
        let (counters, out) = (&self.counters, &mut self.recorder);
        out.begin(slab, time_ms);
        let version = env!("CARGO_PKG_VERSION");
        out.put(&BUILD, &[version], 1.0);
        out.put(&NODE_EXPORTER_BUILD, &[GOARCH, "linux", version], 1.0);
        self.process.read(out);
        out.put(&HTTP_ERRORS, &["encoding"], counters.http_encode_errors.float());
        out.put(&HTTP_ERRORS, &["gathering"], counters.http_gather_errors.float());
        out.put(&HTTP_IN_FLIGHT, &[], counters.http_in_flight.float());
        for (code, count) in
            [("200", &counters.http_ok), ("500", &counters.http_error), ("503", &counters.http_unavailable)]
        {
            out.put(&HTTP_REQUESTS, &[code], count.float());
        }
        out.put(&SERIES, &[], whole(self.table.len()));
        out.put(&SKIPPED, &[], counters.ticks_skipped.float());
        out.put(&DUPLICATES, &[], counters.duplicate_samples.float());
        out.put(&RELOAD_OK, &[], 1.0 - counters.reload_failed.float());
        out.put(&RELOAD_TIME, &[], counters.reload_success_seconds.float());
        let (batches, samples) = self.ring.dropped();
        #[expect(clippy::cast_precision_loss, reason = "as above")]
        {
            out.put(&RING_BATCHES, &[], batches as f64);
            out.put(&RING_SAMPLES, &[], samples as f64);
        }
        counters.scrape.put(out, &mut self.sorted);
        counters.discovery.put(out, &mut self.sorted);
        if counters.log_open.get() == 1 {
            put_log(counters, out);
        }
        let endpoints = counters.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if !endpoints.is_empty() {
            out.put(&HIGHEST, &[], counters.highest_timestamp_ms.float() / 1000.0);
            out.put(&SAMPLES_IN, &[], counters.samples_in.float());
        }
        for endpoint in endpoints.iter() {
            let newest = (counters.newest_number.get(), counters.highest_timestamp_ms.get());
            endpoint.put(newest, out, &mut self.cumulative);
        }
        drop(endpoints);
        out.finish()
    }
}

/// The quantiles of a summary, as they stand in the label and as numbers.
type Quantiles = [(&'static str, f64)];

/// All samples of a summary; `sorted` is scratch.
fn put_summary(
    family: &'static Family,
    labels: &[&str],
    quantiles: &Quantiles,
    window: &Window,
    sorted: &mut Vec<u64>,
    out: &mut Recorder,
) {
    const MOST: usize = 4;
    let mut all = [("", ""); MOST];
    for ((name, value), slot) in family.labels.iter().zip(labels).zip(&mut all) {
        *slot = (name, value);
    }
    let count = labels.len().min(MOST - 1);
    let (name, help, kind) = (&[family.name], &[family.help], family.kind);
    window.sorted(sorted);
    for (text, number) in quantiles {
        all[count] = ("quantile", text);
        let sample = Dynamic { name, suffix: "", help, kind, labels: &all[..=count] };
        out.put_dynamic(&sample, window::quantile(sorted, *number));
    }
    for (suffix, value) in [("_sum", window.sum()), ("_count", window.count())] {
        out.put_dynamic(&Dynamic { name, suffix, help, kind, labels: &all[..count] }, value);
    }
}

fn put_log(counters: &Counters, out: &mut Recorder) {
    out.put(&LOG_BYTES, &[], counters.log_bytes.float());
    out.put(&LOG_SEGMENTS, &[], counters.log_segments.float());
    out.put(&LOG_ERRORS, &[], counters.log_write_errors.float());
    out.put(&LOG_HEALTHY, &[], 1.0 - counters.log_failing.float());
    out.put(&LOG_CORRUPT, &[], counters.log_corrupt_records.float());
    out.put(&LOG_DROPPED, &["log_age"], counters.log_dropped_by_age.float());
    out.put(&LOG_DROPPED, &["log_size"], counters.log_dropped_by_size.float());
}

#[expect(clippy::cast_precision_loss, reason = "sizes stay far below 2^53")]
fn whole(n: usize) -> f64 {
    n as f64
}
