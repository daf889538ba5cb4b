//! Inputs that the benchmarks share.

pub mod ingest;
pub mod outage;
pub mod page;
pub mod recorded;
mod request;
