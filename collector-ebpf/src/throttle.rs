//! The probe of CPU throttling: how its maps are laid out.

use crate::scale::TimeHistogram;

/// What is counted for the host: an element of the map `HOST` for each row.
#[repr(C, align(64))]
pub struct HostBank {
    pub cgroup_slots: u64,
    pub reserved: [u64; 7],
    pub throttled: TimeHistogram,
}

/// What is counted for a cgroup: places in `CgroupSlot::counts`.
pub const TIMES: usize = 0;
pub const NS: usize = 1;
