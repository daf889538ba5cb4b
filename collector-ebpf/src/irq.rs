//! The interrupt probe: how its map is laid out.

use crate::scale::TimeHistogram;

/// Soft interrupts by the kernel's numbers, as /proc/softirqs names them.
pub const SOFT: [&str; 10] =
    ["hi", "timer", "net_tx", "net_rx", "block", "irq_poll", "tasklet", "sched", "hrtimer", "rcu"];
/// Places for them; a power of two.
pub const SOFT_PLACES: usize = 16;
/// Hard interrupts with numbers below this are counted one by one; a power of two.
pub const HARD: usize = 256;

/// What is counted of a kind of soft interrupt.
#[repr(C, align(64))]
pub struct SoftBank {
    /// When it was raised and when its handler began, on this CPU; 0 for neither.
    pub raised: u64,
    pub entered: u64,
    pub reserved: [u64; 6],
    /// From when it was raised until its handler began.
    pub latency: TimeHistogram,
    /// From the beginning to the end of its handler.
    pub duration: TimeHistogram,
}

/// What is counted of a hard interrupt.
#[repr(C)]
pub struct HardCount {
    pub runs: u64,
    pub ns: u64,
}

/// An element of the map `HOST` for each CPU.
#[repr(C, align(64))]
pub struct HostBank {
    pub soft: [SoftBank; SOFT_PLACES],
    /// When the handler that runs began. Handlers of hard interrupts do not interrupt each other.
    pub hard_entered: u64,
    /// Interrupts whose number is too high.
    pub hard_overflow: u64,
    pub reserved: [u64; 6],
    /// From the beginning to the end of a handler of a hard interrupt.
    pub hard_duration: TimeHistogram,
    pub hard: [HardCount; HARD],
}
