//! The probe of file systems: how its maps are laid out.

use crate::scale::TimeHistogram;

/// What is done to a file.
pub const OPERATIONS: [&str; 3] = ["read", "write", "fsync"];
pub const READ: usize = 0;
pub const WRITE: usize = 1;
pub const FSYNC: usize = 2;

/// Types of file systems that there is room for: a power of two.
pub const TYPES: usize = 32;
/// Places that a type may take, from that of its hash on.
pub const TRIES: usize = 8;
/// Bytes of a type's name, and a zero.
pub const NAME: usize = 24;

/// A type of file system: an element of the map `TYPES`.
#[repr(C)]
pub struct TypeSlot {
    /// Tells the type from others; 0 while the slot is free.
    pub number: u64,
    pub name: [u8; NAME],
}

/// What is counted for a type and an operation.
#[repr(C, align(64))]
pub struct OperationBank {
    pub bytes: u64,
    pub errors: u64,
    pub reserved: [u64; 6],
    pub latency: TimeHistogram,
}

/// What is counted for a type: an element of the map `BANKS` for each type in each row.
#[repr(C, align(64))]
pub struct TypeBank {
    pub operations: [OperationBank; OPERATIONS.len()],
}

/// What could not be counted: an element of the map `HOST` for each row.
#[repr(C, align(64))]
pub struct HostBank {
    pub type_slots: u64,
    /// Operations whose beginning another one's has taken the place of: another task's, or one within.
    pub task_slots: u64,
    pub reserved: [u64; 6],
}

/// An operation that has not ended: an element of `STARTED`, which has a stretch of them for each kind.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Started {
    /// One more than the pid; 0 is none.
    pub task: u64,
    pub ns: u64,
}

/// The place of a task that does an operation.
#[inline(always)]
pub const fn started_place(operation: usize, pid: u32, bits: u32) -> u32 {
    (operation as u32) << bits | crate::runqueue::task_slot(pid, bits)
}
