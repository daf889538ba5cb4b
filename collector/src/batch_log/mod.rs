//! The batch log: what was collected, on disk before it is sent, so that neither a dead endpoint nor `kill -9`
//! loses it.
//!
//! One log serves every endpoint. [`BatchLog::append`] is called by the one thread that aggregates; each endpoint
//! has a [`Reader`] and a [`Position`] of its own. A folder holds:
//!
//! - `lock`, which one process holds.
//! - `<sequence number of the first batch>.batches`: segments. Each stands alone: it opens with its format, and
//!   every shape that it uses is defined in it. Records carry a mark, a length, a sequence number and a checksum
//!   (`record.rs`). A batch is packed against the one before it of the same shape in the same segment
//!   (`pack.rs`); at least every [`KEY_EVERY`]th stands alone, and at least before every [`DEFINE_EVERY`]th its
//!   shape is defined anew, and at least before every [`DEFINE_EVERY`]th of all its shapes the list of their series
//!   (`definition.rs`).
//! - `<endpoint>.position`: the acknowledged place of each of its lanes (`position.rs`).
//! - `<endpoint>.accord`: what its sender has learnt of it; what that says is the sender's affair.
//!
//! A record that is damaged costs itself and, at most, what was packed against it: the batches of its shape up to
//! the next that stands alone, or, if it was a definition of which no copy is known, up to the next one.
//! Both are counted. Appends are one write each and not synced: a crash of the process loses nothing that was
//! appended, a crash of the machine what its kernel had not yet written.
//!
//! Cost: one write per batch, 1 to 3 bytes a sample, no allocation in the steady state. Opening reads the last
//! segment, whatever the size of the log; opening a reader reads one segment up to its position.

mod definition;
mod error;
mod files;
mod journal;
mod numbers;
mod pack;
mod pack_exemplars;
mod pack_histogram;
mod position;
mod reader;
mod record;
mod shared;
mod writer;

pub use error::LogError;
pub use journal::{Backlog, Journal};
pub use position::{LANES, Part, Places, Position, Standing};
pub use reader::{Missing, Reader};
pub use shared::Stats;
pub use writer::BatchLog;

/// Batches of one shape after which one stands alone.
pub const KEY_EVERY: u32 = 32;
/// Batches of one shape after which the shape is defined anew, and of all shapes of one list after which the list is.
pub const DEFINE_EVERY: u32 = 512;
/// The largest record, and so the largest batch.
pub const MAX_RECORD: usize = (16 << 20) - 1;

/// What the numbers of batches count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Count {
    /// The batches before: they rise by one.
    #[default]
    Batches,
    /// The samples before, floats and histograms: the difference of two numbers is what lies between them.
    Samples,
}

impl Count {
    /// How far the number behind a batch of so many samples is from its own.
    fn width(self, samples: u64) -> u64 {
        match self {
            Count::Batches => 1,
            Count::Samples => samples.max(1),
        }
    }
}

/// What the log may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of all segments together. Beyond them the oldest segment goes, sent or not.
    pub max_bytes: u64,
    /// Milliseconds after which a segment goes whose newest batch is older, sent or not.
    pub max_age_ms: i64,
    /// Bytes after which a new segment is begun; at most a quarter of `max_bytes` counts.
    pub segment_bytes: u64,
    /// It must be the same for all the life of a folder.
    pub count: Count,
}

impl Default for Limits {
    /// 512 MiB, 48 hours, 8 MiB, batches.
    fn default() -> Self {
        Limits {
            max_bytes: 512 << 20,
            max_age_ms: 48 * 3_600_000,
            segment_bytes: 8 << 20,
            count: Count::Batches,
        }
    }
}
