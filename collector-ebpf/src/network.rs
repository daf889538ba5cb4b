//! The network probe: how its maps are laid out.

/// What is counted for the host: an element of the map `HOST` for each row.
#[repr(C, align(64))]
pub struct HostBank {
    /// Packets whose cgroup found no slot in its set.
    pub cgroup_slots: u64,
    pub reserved: [u64; 7],
}

/// Which way packets go.
pub const DIRECTIONS: [&str; 2] = ["receive", "transmit"];
pub const RECEIVE: usize = 0;
pub const TRANSMIT: usize = 1;

/// What is counted for a cgroup: places in `CgroupSlot::counts`, by the direction.
#[inline(always)]
pub const fn bytes_of(direction: usize) -> usize {
    2 * direction
}

/// Likewise.
#[inline(always)]
pub const fn packets_of(direction: usize) -> usize {
    2 * direction + 1
}
