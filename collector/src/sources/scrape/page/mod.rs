//! Pages: from the bytes that a target sent to batches.
//!
//! A page repeats itself: the reader keeps what stood at each position, and a sample that comes again costs one
//! compare and the reading of its value.

use std::time::Duration;

/// What a page was written in, by its `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `text/plain`, version 0.0.4 or 1.0.0.
    Text,
    OpenMetrics,
    Protobuf,
}

/// What a scrape comes to, besides its batches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Samples on the page.
    pub scraped: usize,
    /// Samples that metric relabelling left.
    pub kept: usize,
    /// Series that the last scrape lacked.
    pub added: usize,
    pub duration: Duration,
}
