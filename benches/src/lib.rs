//! Inputs that the benchmarks share.

pub mod ingest;
pub mod page;
