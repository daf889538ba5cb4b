//! The headline benchmark: what it costs to scrape many targets and to send on what they say, here and in the
//! agents that do the same.
//!
//! The peer runs on one core. On another, [`exposer`] is every target, and [`sink`] receives by remote write
//! and checks each sample: its value, its order, that none is missing. Absolute figures drift with the machine by a third
//! between hours; ratios of peers that ran in turn do not.

pub mod exposer;
pub mod load;
pub mod peer;
pub mod sink;
pub mod values;

/// Where the peer runs, and where the tools do.
pub const PEER_CORE: usize = 0;
pub const TOOL_CORE: usize = 1;
