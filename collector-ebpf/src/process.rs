//! The process probe: how its maps are laid out.

use crate::scale::TimeHistogram;

/// What is counted for the host: an element of the map `HOST` for each row.
#[repr(C, align(64))]
pub struct HostBank {
    pub forks: u64,
    pub threads: u64,
    pub execs: u64,
    pub cgroup_slots: u64,
    pub reserved: [u64; 4],
    /// Processes that ended by themselves, by what they gave to exit(3).
    pub codes: [u64; 256],
    /// Processes that a signal ended, by its number.
    pub signals: [u64; 128],
    /// From the start of a process to its end.
    pub lifetime: TimeHistogram,
}

/// A process that ends sooner is short-lived: no sampling every second sees all of them.
pub const SHORT_LIVED_NS: u64 = 1_000_000_000;

/// What is counted for a cgroup: places in `CgroupSlot::counts`.
pub const FORKS: usize = 0;
pub const EXECS: usize = 1;
pub const EXITED_WELL: usize = 2;
pub const EXITED_BADLY: usize = 3;
pub const KILLED: usize = 4;
pub const SHORT_LIVED: usize = 5;
pub const THREADS: usize = 6;
