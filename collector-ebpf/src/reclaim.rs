//! The probe of memory stalls: how its maps are laid out.

use crate::scale::TimeHistogram;

/// For what a task waits: memory that the host lacks, memory that its cgroup may not have, or memory in one piece.
pub const KINDS: [&str; 3] = ["direct", "memcg", "compaction"];
pub const DIRECT: usize = 0;
pub const MEMCG: usize = 1;
pub const COMPACTION: usize = 2;

/// What is counted for the host: an element of the map `HOST` for each row.
#[repr(C, align(64))]
pub struct HostBank {
    pub cgroup_slots: u64,
    /// Stalls whose beginning nobody has kept.
    pub task_slots: u64,
    pub reserved: [u64; 6],
    pub stalls: [TimeHistogram; KINDS.len()],
}

/// When a task began to stall: an element of `STARTED`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Started {
    pub task: u64,
    pub ns: u64,
}

/// Bits of a pid that choose its place in `STARTED`, for each kind.
pub const STARTED_BITS: u32 = 11;

/// The place of a task.
#[inline(always)]
pub const fn started_place(kind: usize, pid: u32) -> u32 {
    (kind as u32) << STARTED_BITS | (pid.wrapping_mul(0x9e37_79b1) >> (32 - STARTED_BITS))
}

/// What is counted for a cgroup: the stalls of a kind are at twice its number in `CgroupSlot::counts`, their ns behind.
#[inline(always)]
pub const fn stalls_of(kind: usize) -> usize {
    2 * kind
}
