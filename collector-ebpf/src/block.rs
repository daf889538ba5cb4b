//! The block I/O probe: how its maps are laid out.
//!
//! Devices have a table of numbers and, apart from it, a bank each, so that user space need not look at the banks of
//! devices that are not there. Rows of banks are shared by CPUs, and counted in with atomic instructions.

use crate::scale::{SizeHistogram, TimeHistogram};

/// Devices that are told apart; a power of two.
pub const DEVICES: usize = 64;
/// Places in the table of devices that are looked at for one.
pub const DEVICE_WAYS: usize = 8;

/// Operations that are told apart, in the order of [`DeviceBank::operations`].
pub const OPERATIONS: [&str; 4] = ["read", "write", "flush", "discard"];

/// The kernel's numbers of operations (`enum req_op`), and ours; all others are not counted.
#[inline(always)]
pub const fn operation(kernel: u32) -> usize {
    match kernel {
        0 => 0,
        // Writes, and appends to a zone.
        1 | 7 => 1,
        2 => 2,
        // Discards, secure erasure, zeroes written without data.
        3 | 5 | 9 => 3,
        _ => OPERATIONS.len(),
    }
}

/// The number by which a device is known, never 0: `makedev(major, minor)` and a bit above it.
#[inline(always)]
pub const fn device_id(major: u32, minor: u32) -> u64 {
    1 << 63 | (major as u64) << 32 | minor as u64
}

/// Where the search for a device begins.
#[inline(always)]
pub const fn device_place(id: u64) -> usize {
    (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
}

/// Which device has which bank: the only element of the map `DEVICES`. 0 is a free place.
#[repr(C, align(64))]
pub struct DeviceTable {
    pub ids: [u64; DEVICES],
}

/// What is counted of one operation on one device.
#[repr(C, align(64))]
pub struct OperationBank {
    pub errors: u64,
    pub reserved: [u64; 7],
    /// Bytes that were done, by request.
    pub size: SizeHistogram,
    /// From when the driver got the request until it was done.
    pub device: TimeHistogram,
    /// From when the request was made until the driver got it.
    pub queue: TimeHistogram,
}

/// Element `row * DEVICES + place` of the map `BANKS`.
#[repr(C, align(64))]
pub struct DeviceBank {
    pub operations: [OperationBank; OPERATIONS.len()],
}

/// What could not be counted: an element of the map `LOST` for each row.
#[repr(C, align(64))]
pub struct Lost {
    pub device_slots: u64,
    pub cgroup_slots: u64,
    /// Requests whose time of issue nobody has kept: their device time is not counted.
    pub request_slots: u64,
    pub reserved: [u64; 5],
}

/// When a request was given to its driver, where the kernel itself does not keep it: an element of `ISSUED`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Issued {
    pub request: u64,
    pub ns: u64,
}

/// Bits of a hash that choose a request's place in `ISSUED`.
pub const ISSUED_BITS: u32 = 13;

/// The place of a request.
#[inline(always)]
pub const fn issued_place(request: u64) -> u32 {
    // Requests lie in arrays, some hundred bytes apart.
    ((request >> 5).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - ISSUED_BITS)) as u32
}

/// What is counted for a cgroup: places in `CgroupSlot::counts`.
pub const READ_REQUESTS: usize = 0;
pub const WRITE_REQUESTS: usize = 1;
pub const OTHER_REQUESTS: usize = 2;
pub const READ_BYTES: usize = 3;
pub const WRITE_BYTES: usize = 4;
pub const DEVICE_NS: usize = 5;
pub const QUEUE_NS: usize = 6;

const _: () = assert!(size_of::<OperationBank>() == 64 + 256 + 2 * 1024);
