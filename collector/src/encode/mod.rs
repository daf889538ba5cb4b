//! What leaves the collector, byte by byte: encoders that append to a buffer that the caller owns.
//!
//! Remote write: [`Encoder`] turns batches into one complete, compressed request body. How it gets by without
//! searching for repeats is told in `plan.rs`. The page of /metrics: [`exposition`]. Nothing in here does I/O.

pub mod exposition;
mod gzip_plan;
mod histogram;
mod huffman;
mod labels;
mod layout;
mod metadata;
pub mod number;
mod plan;
mod plan_cache;
mod plan_chain;
mod plan_search;
mod protobuf;
mod remote_write;
mod remote_write_v1;
mod remote_write_v2;
mod snappy;

pub use labels::{Rewrite, WireLabels, legacy_name};
pub use metadata::{FamilyMetadata, encode_metadata};
pub use remote_write::{Encoded, Encoder, Options, Protocol};
