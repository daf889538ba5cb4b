//! The TCP probe: how its maps are laid out.

use crate::scale::TimeHistogram;

/// States of a connection by the kernel's numbers (`enum` in net/tcp_states.h), as `ss` and /proc name them. 0 is none.
pub const STATES: [&str; 16] = [
    "",
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
    "new_syn_recv",
    "bound_inactive",
    "",
    "",
];
pub const ESTABLISHED: usize = 1;
pub const SYN_SENT: usize = 2;
pub const SYN_RECV: usize = 3;
pub const CLOSE: usize = 7;

/// Address families that are told apart: IPv4, then IPv6.
pub const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];

/// What is counted for the host: an element of the map `HOST` for each row.
#[repr(C, align(64))]
pub struct HostBank {
    pub retransmits: [u64; 2],
    pub resets_sent: u64,
    pub resets_received: u64,
    /// Connections that were asked for and did not come about.
    pub failures: [u64; 2],
    /// Connections whose beginning nobody has kept.
    pub connect_slots: u64,
    pub cgroup_slots: u64,
    pub reserved: [u64; 8],
    /// From the first SYN to the established connection.
    pub connect: TimeHistogram,
    /// Smoothed round-trip time of a connection when it closes.
    pub srtt: TimeHistogram,
    /// By the state before, then by the one after.
    pub changes: [[u64; 16]; 16],
}

/// When a socket began to connect: an element of `STARTED`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Started {
    pub socket: u64,
    pub ns: u64,
}

/// Bits of a hash that choose a socket's place in `STARTED`.
pub const STARTED_BITS: u32 = 13;

/// The place of a socket.
#[inline(always)]
pub const fn started_place(socket: u64) -> u32 {
    ((socket >> 5).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - STARTED_BITS)) as u32
}

/// What is counted for a cgroup: places in `CgroupSlot::counts`.
pub const CONNECTED: usize = 0;
pub const FAILED: usize = 1;
pub const ACCEPTED: usize = 2;
pub const RETRANSMITS: usize = 3;
pub const RESETS_SENT: usize = 4;
pub const RESETS_RECEIVED: usize = 5;
pub const CONNECT_NS: usize = 6;
