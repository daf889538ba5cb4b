//! Every bound in one place. What is dropped at a bound is counted; the counter is named beside it.

/// Batches under way between the readers and the aggregator (`collector_ring_dropped_batches_total`).
pub const RING_BATCHES: usize = 4096;

/// Samples kept in memory for the endpoints that keep up, and for all while the batch log can't be written
/// (`prometheus_remote_storage_samples_dropped_total{reason="memory_full"}`).
pub const TAIL_SAMPLES: usize = 256 * 1024;

/// Batches kept in memory, whatever their size.
pub const TAIL_BATCHES: usize = 16 * 1024;

/// Samples of one endpoint in memory that wait behind requests under way, or one request of them where that is more:
/// more are fetched when these are sent.
pub const LANE_SAMPLES: usize = 128 * 1024;

/// The same in batches, whatever their size.
pub const LANE_BATCHES: usize = 4096;

/// A batch of more samples is cut by position in blocks of so many, each with a lane of its own. Places on the disk are
/// by these lanes: it must not change from one version to another.
pub const BLOCK_SAMPLES: usize = 10_000;

/// Threads that scrape, unless `--scrape.threads` says otherwise: no more than there are cores.
pub const SCRAPE_THREADS: usize = 4;

/// Scrapes of targets under way at once; more wait (`collector_scrapes_waited_total`), within their timeout.
pub const SCRAPES_UNDER_WAY: usize = 10_000;

/// Scrapes of this host under way and waiting for their turn to read it; one that finds no room is answered 503.
pub const READER_REQUESTS: usize = 256;

/// Requests to /metrics under way at once unless `--web.max-requests` says otherwise.
pub const MAX_REQUESTS: usize = 40;

/// Bytes of an error answer that are logged.
pub const MAX_ERROR_BODY: usize = 4096;

/// Connections to the HTTP server at once; more wait in the kernel's backlog.
pub const MAX_CONNECTIONS: usize = 512;

/// Requests under way at once over one HTTP/2 connection.
pub const MAX_HTTP2_STREAMS: u32 = 64;

/// Bytes of a request head that the HTTP server takes.
pub const MAX_REQUEST_HEAD: usize = 64 * 1024;

const _: () =
    assert!(TAIL_BATCHES >= RING_BATCHES, "the tail holds at least what the ring can deliver at once");
