//! What a probe counts for each cgroup, and where: sets of slots, which cgroups with the same hash share.
//!
//! A map has rows of sets. A CPU writes to the row of its number; where there are fewer rows than CPUs, several write to
//! one, with atomic instructions. Two CPUs that take slots at the same instant may give a cgroup two of them, which user
//! space adds up, or one of them to two cgroups, of which the later stays: then one event is counted for the wrong one.

/// Counters in a slot; each probe says which is what.
pub const COUNTS: usize = 7;

/// A slot is free while `id` is 0.
///
/// The kernel side takes it by writing `id`; user space gives it back by clearing the counters, then `id`.
#[repr(C, align(64))]
pub struct CgroupSlot {
    /// The kernel's number of the cgroup: the inode of its directory. It is not given out twice.
    pub id: u64,
    pub counts: [u64; COUNTS],
}

/// Slots of the cgroups that share a hash. One element of the map `CGROUPS`.
#[repr(C, align(64))]
pub struct CgroupSet {
    pub slots: [CgroupSlot; WAYS],
}

/// Slots in a set.
pub const WAYS: usize = 8;
/// Sets of one row: a power of two, chosen at load time between these; fewer where many rows would take too much memory.
pub const MIN_SETS: u32 = 32;
pub const MAX_SETS: u32 = 512;

const _: () = assert!(size_of::<CgroupSlot>() == 64 && size_of::<CgroupSet>() == 512);

/// Where the sets of a row begin in `CGROUPS`, and which of them takes the cgroup of that number.
#[inline(always)]
pub const fn cgroup_set(row: u32, sets: u32, id: u64) -> u32 {
    let hash = (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u32;
    row * sets + (hash & (sets - 1))
}

/// From where the kernel side takes the cgroup of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum CgroupSource {
    /// Cgroups are not told apart.
    None = 0,
    /// The cgroup of version 2 that the task is in: `task->cgroups->dfl_cgrp`.
    Unified = 1,
    /// The group that the scheduler queues the task in: `task->sched_task_group`, of the `cpu` hierarchy.
    Scheduler = 2,
}
