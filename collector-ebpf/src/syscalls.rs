//! The probe of system calls: how its maps are laid out.

use crate::scale::TimeHistogram;

/// Kinds of system calls. Those of the first ones are timed by cgroup too.
pub const CLASSES: [&str; 12] =
    ["other", "read", "write", "sync", "file", "network", "poll", "lock", "memory", "process", "time", "ipc"];
pub const OTHER: u8 = 0;
pub const READ: u8 = 1;
pub const WRITE: u8 = 2;
pub const SYNC: u8 = 3;
pub const FILE: u8 = 4;
pub const NETWORK: u8 = 5;
pub const POLL: u8 = 6;
pub const LOCK: u8 = 7;
pub const MEMORY: u8 = 8;
pub const PROCESS: u8 = 9;
pub const TIME: u8 = 10;
pub const IPC: u8 = 11;

/// The first and the last class that is timed by cgroup.
pub const TIMED: (u8, u8) = (READ, NETWORK);

/// Numbers of system calls that the table of classes has room for: a power of two.
pub const NUMBERS: usize = 512;
/// Numbers of errors that are told apart, from 1 on; what the kernel uses among its own is above.
pub const ERRORS: usize = 136;

/// The class of each system call, by its number on this architecture. The only element of the map `CLASS_OF`.
#[repr(C, align(8))]
pub struct ClassTable {
    pub classes: [u8; NUMBERS],
}

/// What is counted for the host: an element of the map `HOST` for each row.
#[repr(C, align(64))]
pub struct HostBank {
    pub cgroup_slots: u64,
    /// Calls whose beginning another task's has taken the place of.
    pub task_slots: u64,
    pub reserved: [u64; 6],
    pub latency: [TimeHistogram; CLASSES.len()],
    pub errors: [[u64; ERRORS]; CLASSES.len()],
}

/// A call that has not ended: an element of `ENTERED`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Entered {
    /// Pid in the low half, the number of the call and one in the high one; 0 is none.
    pub call: u64,
    pub ns: u64,
}

/// What is counted for a cgroup: places in `CgroupSlot::counts`.
pub const CALLS: usize = 0;
pub const FAILED: usize = 1;

/// The place of the time of a class that is timed by cgroup.
#[inline(always)]
pub const fn time_of(class: u8) -> usize {
    (class - TIMED.0) as usize + 2
}

const _: () = assert!(time_of(TIMED.1) < crate::cgroups::COUNTS);
