//! The probe of accept queues: how its maps are laid out.

/// Where a connection met a full queue: when it was asked for, or at the end of its handshake.
pub const STAGES: [&str; 2] = ["syn", "handshake"];
pub const SYN: usize = 0;
pub const HANDSHAKE: usize = 1;

/// What is counted for the host: an element of the map `HOST` for each row.
#[repr(C, align(64))]
pub struct HostBank {
    pub overflows: [u64; STAGES.len()],
    pub cgroup_slots: u64,
    pub reserved: [u64; 5],
}

/// What is counted for a cgroup: a place in `CgroupSlot::counts`.
pub const OVERFLOWS: usize = 0;
