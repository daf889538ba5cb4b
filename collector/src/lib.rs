//! The collector: one binary that reads a Linux host, watches its kernel, and pushes what it finds.
//!
//! The modules are its rooms, in the order in which data flows; ARCHITECTURE.md describes them.

pub mod batch_log;
pub mod encode;
pub mod model;
pub mod sources;
pub mod sys;
