//! The run-queue probe: how its maps are laid out, and the buckets of its histogram.
//!
//! All maps are arrays that user space maps into its memory. Each CPU writes to a bank of its own, aligned to
//! cache lines, so that counting needs neither an atomic instruction nor a line that another CPU holds.
//!
//! The buckets of the histogram are cut at the bounds of a native histogram of schema 3 *and* at the bounds of
//! the classic histogram, so that both forms come out of the same counts without error: a wait is a whole number
//! of nanoseconds, and `wait <= bound` is the same as `wait <= floor(bound)`.

/// Schema of the native histogram: 2^3 = 8 buckets an octave.
pub const SCHEMA: i8 = 3;
const BUCKETS_PER_OCTAVE: i32 = 8;

/// Waits up to 2^-20 s (953 ns) are in the zero bucket of the native histogram.
pub const ZERO_THRESHOLD_LOG2: i32 = -20;
/// Waits above 2^6 s are in one overflow bucket.
pub const HIGHEST_LOG2: i32 = 6;

/// Index of the first bucket above the zero bucket, and of the last below the overflow bucket.
pub const NATIVE_FIRST: i32 = ZERO_THRESHOLD_LOG2 * BUCKETS_PER_OCTAVE + 1;
pub const NATIVE_LAST: i32 = HIGHEST_LOG2 * BUCKETS_PER_OCTAVE;

const NANOSECONDS: u128 = 1_000_000_000;

/// Upper bounds of the classic buckets, in ns, and as they stand in `le`, in seconds.
pub const CLASSIC: [(u64, &str); 22] = [
    (1_000, "1e-06"),
    (2_500, "2.5e-06"),
    (5_000, "5e-06"),
    (10_000, "1e-05"),
    (25_000, "2.5e-05"),
    (50_000, "5e-05"),
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
];

/// Counters that a bank has room for; more than the buckets in use.
pub const BUCKET_CAPACITY: usize = 248;

/// How many bounds there are; bucket number `BOUNDS` is the overflow.
pub const BOUNDS: usize = count_bounds();

/// Upper bound of each bucket in ns, the rest filled with the largest number, so that any byte is an index.
pub static UPPER_NS: [u64; 256] = upper_bounds();

/// For each cell of [`cell`], the bucket in which its smallest wait lies.
pub static FIRST_BUCKET: [u8; CELLS] = first_buckets();

/// A cell is a sixteenth of an octave of nanoseconds.
pub const CELLS: usize = 64 << CELL_BITS;
const CELL_BITS: u32 = 4;

const _: () = assert!(BOUNDS < BUCKET_CAPACITY, "a bank holds every bucket and the overflow");
const _: () = assert!(most_bounds_in_a_cell() <= 2, "bucket() steps over two bounds at most");
const _: () = assert!(size_of::<HostBank>() == 2048 && align_of::<HostBank>() == 64);
const _: () = assert!(size_of::<CgroupSlot>() == 64 && size_of::<CgroupSet>() == 512);

/// Which cell a wait lies in: the position of its highest bit, and the four bits after it.
#[inline(always)]
pub const fn cell(wait_ns: u64) -> usize {
    let wait = wait_ns | 1;
    let zeros = wait.leading_zeros();
    let exponent = 63 - zeros as usize;
    let fraction = ((wait << zeros) << 1) >> (64 - CELL_BITS);
    (exponent << CELL_BITS) | fraction as usize
}

/// The bucket of a wait. No branch: one look at each of the two tables, and two compares.
#[inline(always)]
pub fn bucket(wait_ns: u64) -> usize {
    #[cfg(target_arch = "bpf")]
    let cell = crate::kernel::masked::<{ CELLS as i32 - 1 }>(cell(wait_ns)) & (CELLS - 1);
    #[cfg(not(target_arch = "bpf"))]
    let cell = cell(wait_ns) & (CELLS - 1);
    let first = FIRST_BUCKET[cell] as usize;
    let second = first + (wait_ns > UPPER_NS[first]) as usize;
    second + (wait_ns > UPPER_NS[second & 0xff]) as usize
}

/// Index of the native bucket in which a bucket lies, `None` for the zero bucket.
pub const fn native_index(bucket: usize) -> Option<i32> {
    if bucket == 0 {
        return None;
    }
    let mut index = NATIVE_FIRST;
    while index <= NATIVE_LAST && native_upper_ns(index) < UPPER_NS[bucket] {
        index += 1;
    }
    Some(index)
}

/// Index into [`CLASSIC`] of the smallest bound that is not below a bucket, `CLASSIC.len()` for +Inf.
pub const fn classic_index(bucket: usize) -> usize {
    let mut index = 0;
    while index < CLASSIC.len() && CLASSIC[index].0 < UPPER_NS[bucket] {
        index += 1;
    }
    index
}

/// The largest whole number of ns not above 2^(index/8) seconds.
pub const fn native_upper_ns(index: i32) -> u64 {
    // 2^(1/2), 2^(1/4) and 2^(1/8) with 63 bits after the point; a test proves every floor with whole numbers.
    const HALF: u128 = (2u128 << 126).isqrt();
    const QUARTER: u128 = (HALF << 63).isqrt();
    const EIGHTH: u128 = (QUARTER << 63).isqrt();
    let part = index.rem_euclid(BUCKETS_PER_OCTAVE);
    let mut fraction = 1u128 << 63;
    if part & 4 != 0 {
        fraction = (fraction * HALF) >> 63;
    }
    if part & 2 != 0 {
        fraction = (fraction * QUARTER) >> 63;
    }
    if part & 1 != 0 {
        fraction = (fraction * EIGHTH) >> 63;
    }
    let shift = 63 - index.div_euclid(BUCKETS_PER_OCTAVE);
    ((fraction * NANOSECONDS) >> shift) as u64
}

/// The smallest bound above `below`.
const fn next_bound(below: u64) -> Option<u64> {
    let mut best = u64::MAX;
    let mut index = NATIVE_FIRST - 1;
    while index <= NATIVE_LAST {
        let bound = native_upper_ns(index);
        if bound > below && bound < best {
            best = bound;
        }
        index += 1;
    }
    let mut classic = 0;
    while classic < CLASSIC.len() {
        if CLASSIC[classic].0 > below && CLASSIC[classic].0 < best {
            best = CLASSIC[classic].0;
        }
        classic += 1;
    }
    if best == u64::MAX { None } else { Some(best) }
}

const fn upper_bounds() -> [u64; 256] {
    let mut bounds = [u64::MAX; 256];
    let (mut used, mut last) = (0, 0);
    while let Some(bound) = next_bound(last) {
        bounds[used] = bound;
        last = bound;
        used += 1;
    }
    bounds
}

const fn count_bounds() -> usize {
    let bounds = upper_bounds();
    let mut used = 0;
    while bounds[used] != u64::MAX {
        used += 1;
    }
    used
}

/// The smallest wait of a cell.
const fn cell_start(cell: usize) -> u64 {
    let exponent = cell >> CELL_BITS;
    let mantissa = (1u128 << CELL_BITS) | (cell as u128 & ((1 << CELL_BITS) - 1));
    let start = (mantissa << exponent) >> CELL_BITS;
    // Below 16 ns the cells are finer than a nanosecond: those that no wait falls into begin where they would.
    start as u64
}

const fn first_buckets() -> [u8; CELLS] {
    let bounds = upper_bounds();
    let mut table = [0; CELLS];
    let (mut cell, mut bucket) = (0, 0);
    while cell < CELLS {
        while bounds[bucket] < cell_start(cell) {
            bucket += 1;
        }
        table[cell] = bucket as u8;
        cell += 1;
    }
    table
}

const fn most_bounds_in_a_cell() -> usize {
    let table = first_buckets();
    let (mut most, mut cell) = (0, 1);
    while cell < CELLS {
        let bounds = (table[cell] - table[cell - 1]) as usize;
        most = if bounds > most { bounds } else { most };
        cell += 1;
    }
    most
}

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

/// What one CPU counts for one cgroup. A slot is free while `id` is 0.
///
/// The kernel side takes a slot by writing `id`; user space gives it back by clearing the counters, then `id`.
#[repr(C, align(64))]
pub struct CgroupSlot {
    /// The kernel's number of the cgroup: the inode of its directory.
    pub id: u64,
    pub wait_ns: u64,
    /// How many times a task of the cgroup got a CPU.
    pub waits: u64,
    pub voluntary: u64,
    pub involuntary: u64,
    pub reserved: [u64; 3],
}

/// Slots of the cgroups that share a hash. One element of the map `CGROUPS`.
#[repr(C, align(64))]
pub struct CgroupSet {
    pub slots: [CgroupSlot; WAYS],
}

/// Slots in a set.
pub const WAYS: usize = 8;
/// Sets of one CPU: a power of two, chosen at load time between these.
pub const MIN_SETS: u32 = 32;
pub const MAX_SETS: u32 = 512;

/// Where the sets of a CPU begin in `CGROUPS`, and which of them takes the cgroup of that number.
#[inline(always)]
pub const fn cgroup_set(cpu: u32, sets: u32, id: u64) -> u32 {
    let hash = (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u32;
    cpu * sets + (hash & (sets - 1))
}

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

#[cfg(test)]
#[path = "runqueue_tests.rs"]
mod tests;
