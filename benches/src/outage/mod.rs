//! The outage: what a day without the endpoint leaves on the disk, and how fast it is sent when the endpoint is back.
//!
//! All of it is the collector's own code, from the ring to the socket; only the hosts, whose clock is made, and the
//! receiver, which counts, are made for it. The sender is alone on one core and the receiver on another.

pub mod hosts;
pub mod receiver;

/// Tells one sample from another, and adds up in any order.
pub fn fingerprint(value: u64, time: u64) -> u64 {
    let mixed = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ time;
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}
