//! The aggregator: takes batches out of the ring, marks series that ended, numbers what is left, writes it to
//! the batch log, and shows it to the sinks.

mod aggregator;
mod staleness;
mod tail;

pub use aggregator::{Aggregator, SharedJournal};
pub use staleness::Staleness;
pub use tail::{Fetched, Tail};
