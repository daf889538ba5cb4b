//! The run-queue probe: how its maps are laid out, and the buckets of its histogram.
//!
//! All maps are arrays that user space maps into its memory. Each CPU writes to a bank of its own, aligned to
//! cache lines, so that counting needs neither an atomic instruction nor a line that another CPU holds.

use crate::scale::{CLASSIC_TIMES, Spec, TIME_BUCKETS, Tables};

/// Eight buckets an octave, from 2^-20 s (953 ns) to 2^6 s.
pub const WAIT: Spec =
    Spec { schema: 3, zero_log2: -20, highest_log2: 6, unit: 1_000_000_000, classic: &CLASSIC_TIMES };
pub static WAIT_TABLES: Tables = Tables::new(&WAIT);

/// Counters that a bank has room for; more than the buckets in use.
pub const BUCKET_CAPACITY: usize = 248;

const _: () = assert!(WAIT.bounds() < BUCKET_CAPACITY, "a bank holds every bucket and the overflow");
const _: () = assert!(size_of::<HostBank>() == 5120 && align_of::<HostBank>() == 64);

/// What one CPU counts for the whole host. One element of the map `HOST` for each CPU.
#[repr(C, align(64))]
pub struct HostBank {
    // One cache line, of what nearly every switch adds to.
    /// Sums of the times in `buckets`, `on_cpu` and `asleep`.
    pub wait_ns: u64,
    pub on_cpu_ns: u64,
    pub asleep_ns: [u64; SLEEPS.len()],
    /// Switches away from a task that went to sleep, and from one that could have gone on.
    pub voluntary: u64,
    pub involuntary: u64,
    /// How often a task got a CPU other than that on which it ran last.
    pub migrations: u64,
    /// Events whose cgroup found no slot in its set.
    pub cgroup_overflow: u64,
    /// Waits, by [`WAIT`].
    pub buckets: [u64; BUCKET_CAPACITY],
    /// From when a task gets the CPU until it leaves it, by `scale::TIME`.
    pub on_cpu: [u64; TIME_BUCKETS],
    /// From when a task goes to sleep until it is runnable again, likewise: by the number of the state, less one.
    pub asleep: [[u64; TIME_BUCKETS]; SLEEPS.len()],
    /// Waits that may lack a part, because another task had taken the task's slot.
    pub task_overflow: u64,
    /// Waits that a clock had going backwards; counted as 0.
    pub clock_backwards: u64,
    pub reserved: u64,
}

/// What one CPU remembers from a switch to the next. One element of the map `CPUS` for each CPU.
#[repr(C, align(64))]
pub struct LastSwitch {
    /// When, on the clock of the method; 0 is never.
    pub at: u64,
    /// A number for the group of the task that got the CPU, and that of the slot in which it is counted. So when the task leaves
    /// it, neither needs to be looked for.
    pub group: u64,
    pub slot: u64,
}

/// How tasks sleep: so that a signal may wake them, or not.
pub const SLEEPS: [&str; 2] = ["interruptible", "uninterruptible"];

/// What is kept of a task while it does not run. One element of the map `TASKS`.
#[repr(C, align(32))]
pub struct TaskSlot {
    /// `run_delay` when the task left its CPU (Q), or when it became runnable (B), tagged. 0 is unknown.
    pub wait: u64,
    /// When it left its CPU.
    pub left_ns: u64,
    /// Tagged, and put together by [`left`]: on which CPU, and how it sleeps. 0 is unknown.
    pub left: u64,
    pub reserved: u64,
}

/// How a task left its CPU: `sleep` is the number in [`SLEEPS`] and one, 0 for a task that did not go to sleep, 3 for one
/// that ends.
#[inline(always)]
pub const fn left(cpu: u32, sleep: u64) -> u64 {
    // A bit above the tag, so that CPU 0 is not "unknown".
    (cpu as u64) << 16 | sleep << 9 | 1 << TAG_BITS
}

/// CPU and sleep of what [`left`] has put together.
#[inline(always)]
pub const fn left_parts(word: u64) -> (u64, u64) {
    (word >> 16, word >> 9 & 3)
}

/// What is counted for a cgroup: places in `CgroupSlot::counts`.
pub const WAIT_NS: usize = 0;
/// How many times a task of the cgroup got a CPU.
pub const WAITS: usize = 1;
pub const VOLUNTARY: usize = 2;
pub const INVOLUNTARY: usize = 3;
/// Time on a CPU.
pub const ON_CPU_NS: usize = 4;
/// Time asleep where no signal wakes.
pub const BLOCKED_NS: usize = 5;
pub const MIGRATIONS: usize = 6;

/// How many low bits of a pid choose its slot in `TASKS`, at least and at most.
pub const MIN_TASK_BITS: u32 = 14;
pub const MAX_TASK_BITS: u32 = 16;
/// The kernel's own limit of pids is 2^22.
pub const PID_BITS: u32 = 22;

/// A word of a [`TaskSlot`]: a tag in the lowest byte, a number of ns in the rest (it wraps after two years).
pub const TAG_BITS: u32 = 8;
pub const TAG_MASK: u64 = (1 << TAG_BITS) - 1;

const _: () = assert!(PID_BITS - MIN_TASK_BITS <= TAG_BITS);

/// The slot of a pid. Neighbours lie on different cache lines, because they often run on different CPUs.
#[inline(always)]
pub const fn task_slot(pid: u32, bits: u32) -> u32 {
    task_slot_within(pid, (1 << bits) - 1)
}

/// The same, by the mask that the bits make.
#[inline(always)]
pub const fn task_slot_within(pid: u32, mask: u32) -> u32 {
    pid.wrapping_mul(0x9e37_79b1) & mask
}

/// What tells apart the pids that share a slot: with more slots than the fewest, more than it takes.
#[inline(always)]
pub const fn task_tag(pid: u32) -> u64 {
    (pid >> MIN_TASK_BITS) as u64 & TAG_MASK
}

#[cfg(test)]
#[path = "runqueue_tests.rs"]
mod tests;
