//! Where samples come from. A source knows nothing of sinks.

pub mod ebpf;
pub mod host;
pub mod scrape;
