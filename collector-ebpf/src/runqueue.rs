//! The run-queue probe: how its maps are laid out, and the buckets of its histogram.
//!
//! All maps are arrays that user space maps into its memory. Each CPU writes to a bank of its own, aligned to
//! cache lines, so that counting needs neither an atomic instruction nor a line that another CPU holds.

use crate::scale::{CLASSIC_TIMES, Spec, Tables};

/// Eight buckets an octave, from 2^-20 s (953 ns) to 2^6 s.
pub const WAIT: Spec =
    Spec { schema: 3, zero_log2: -20, highest_log2: 6, unit: 1_000_000_000, classic: &CLASSIC_TIMES };
pub static WAIT_TABLES: Tables = Tables::new(&WAIT);

/// Counters that a bank has room for; more than the buckets in use.
pub const BUCKET_CAPACITY: usize = 248;

const _: () = assert!(WAIT.bounds() < BUCKET_CAPACITY, "a bank holds every bucket and the overflow");
const _: () = assert!(size_of::<HostBank>() == 2048 && align_of::<HostBank>() == 64);

/// What one CPU counts for the whole host. One element of the map `HOST` for each CPU.
#[repr(C, align(64))]
pub struct HostBank {
    /// Sum of all waits.
    pub wait_ns: u64,
    /// Switches away from a task that went to sleep, and from one that could have gone on.
    pub voluntary: u64,
    pub involuntary: u64,
    /// Events whose cgroup found no slot in its set.
    pub cgroup_overflow: u64,
    /// Waits that may lack a part, because another task had taken the task's slot.
    pub task_overflow: u64,
    /// Waits that a clock had going backwards; counted as 0.
    pub clock_backwards: u64,
    pub reserved: [u64; 2],
    pub buckets: [u64; BUCKET_CAPACITY],
}

/// What is counted for a cgroup: places in `CgroupSlot::counts`.
pub const WAIT_NS: usize = 0;
/// How many times a task of the cgroup got a CPU.
pub const WAITS: usize = 1;
pub const VOLUNTARY: usize = 2;
pub const INVOLUNTARY: usize = 3;

/// How many low bits of a pid choose its slot in `TASKS`, at least and at most.
pub const MIN_TASK_BITS: u32 = 14;
pub const MAX_TASK_BITS: u32 = 17;
/// The kernel's own limit of pids is 2^22.
pub const PID_BITS: u32 = 22;

/// A task's value in `TASKS`: a tag in the highest byte, a number of ns in the rest (it wraps after two years).
pub const TASK_VALUE_MASK: u64 = (1 << 56) - 1;

const _: () = assert!(PID_BITS - MIN_TASK_BITS <= 8);

/// The slot of a pid. Neighbours lie on different cache lines, because they often run on different CPUs.
#[inline(always)]
pub const fn task_slot(pid: u32, bits: u32) -> u32 {
    pid.wrapping_mul(0x9e37_79b1) & ((1 << bits) - 1)
}

/// What tells apart the pids that share a slot.
#[inline(always)]
pub const fn task_tag(pid: u32, bits: u32) -> u64 {
    ((pid >> bits) as u64) << 56
}

#[cfg(test)]
#[path = "runqueue_tests.rs"]
mod tests;
