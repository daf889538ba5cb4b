//! From batches to bytes. Every encoder appends to the caller's buffer.

pub mod exposition;
pub mod number;
