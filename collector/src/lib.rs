//! The collector: one binary that reads a Linux host, watches its kernel, and pushes what it finds.
//!
//! The modules are its rooms, in the order in which data flows; ARCHITECTURE.md describes them.

pub mod aggregate;
pub mod batch_log;
pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod encode;
pub mod limits;
pub mod logging;
pub mod model;
pub mod reader;
pub mod reference;
pub mod relabel;
pub mod ring;
pub mod self_metrics;
pub mod serve;
pub mod sinks;
pub mod sources;
pub mod sys;
