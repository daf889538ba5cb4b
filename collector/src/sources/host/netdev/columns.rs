//! Which counters of an interface are given under which name: by netlink or /proc, and in the names of
//! /proc/net/dev or in the kernel's own.

use crate::model::Family;

/// A family, and the counters whose sum it gives.
pub(in super::super) struct Column {
    pub(in super::super) family: Family,
    pub(in super::super) of: &'static [usize],
}

macro_rules! columns {
    ($($constant:ident: $($name:literal = $of:expr, $help:literal;)*)*) => {
        $(pub(in super::super) static $constant: &[Column] = &[$(Column {
            family: Family::counter(concat!("node_network_", $name, "_total"), $help, &["device"]),
            of: &$of,
        }),*];)*
    };
}

// The numbers are positions in `struct rtnl_link_stats64` (linux/if_link.h).
columns! {
    LEGACY:
    "receive_packets" = [0], "Packets received.";
    "transmit_packets" = [1], "Packets sent.";
    "receive_bytes" = [2], "Bytes received.";
    "transmit_bytes" = [3], "Bytes sent.";
    "receive_errs" = [4], "Packets received with an error.";
    "transmit_errs" = [5], "Packets that could not be sent.";
    "receive_drop" = [6, 15], "Packets dropped on the way in, those that the device missed among them.";
    "transmit_drop" = [7], "Packets dropped on the way out.";
    "receive_multicast" = [8], "Multicast packets received.";
    "transmit_colls" = [9], "Collisions while sending.";
    "receive_frame" = [13, 10, 11, 12], "Packets received with a wrong frame, length, checksum, or an overrun.";
    "receive_fifo" = [14], "Packets lost because the device's queue was full.";
    "transmit_carrier" = [17, 16, 19, 20], "Packets not sent: no carrier, aborted, no heartbeat, or too late.";
    "transmit_fifo" = [18], "Packets not sent because the device's queue ran empty or over.";
    "receive_compressed" = [21], "Compressed packets received.";
    "transmit_compressed" = [22], "Compressed packets sent.";
    "receive_nohandler" = [23], "Packets received that no protocol wanted.";

    DETAILED:
    "receive_packets" = [0], "Packets received.";
    "transmit_packets" = [1], "Packets sent.";
    "receive_bytes" = [2], "Bytes received.";
    "transmit_bytes" = [3], "Bytes sent.";
    "receive_errors" = [4], "Packets received with an error.";
    "transmit_errors" = [5], "Packets that could not be sent.";
    "receive_dropped" = [6], "Packets dropped on the way in.";
    "transmit_dropped" = [7], "Packets dropped on the way out.";
    "multicast" = [8], "Multicast packets received.";
    "collisions" = [9], "Collisions while sending.";
    "receive_length_errors" = [10], "Packets received with a wrong length.";
    "receive_over_errors" = [11], "Packets received that overran a buffer.";
    "receive_crc_errors" = [12], "Packets received with a wrong checksum.";
    "receive_frame_errors" = [13], "Packets received with a wrong frame.";
    "receive_fifo_errors" = [14], "Packets lost because the device's queue was full.";
    "receive_missed_errors" = [15], "Packets that the device missed.";
    "transmit_aborted_errors" = [16], "Packets whose sending was aborted.";
    "transmit_carrier_errors" = [17], "Packets not sent for want of a carrier.";
    "transmit_fifo_errors" = [18], "Packets not sent because the device's queue ran empty or over.";
    "transmit_heartbeat_errors" = [19], "Packets sent without a heartbeat.";
    "transmit_window_errors" = [20], "Packets sent too late.";
    "receive_compressed" = [21], "Compressed packets received.";
    "transmit_compressed" = [22], "Compressed packets sent.";
    "receive_nohandler" = [23], "Packets received that no protocol wanted.";
}

/// Numbers in a line of /proc/net/dev.
pub(super) const PROC_COLUMNS: usize = 16;

// The numbers are columns of /proc/net/dev.
columns! {
    PROC_LEGACY:
    "receive_bytes" = [0], "Bytes received.";
    "receive_packets" = [1], "Packets received.";
    "receive_errs" = [2], "Packets received with an error.";
    "receive_drop" = [3], "Packets dropped on the way in, those that the device missed among them.";
    "receive_fifo" = [4], "Packets lost because the device's queue was full.";
    "receive_frame" = [5], "Packets received with a wrong frame, length, checksum, or an overrun.";
    "receive_compressed" = [6], "Compressed packets received.";
    "receive_multicast" = [7], "Multicast packets received.";
    "transmit_bytes" = [8], "Bytes sent.";
    "transmit_packets" = [9], "Packets sent.";
    "transmit_errs" = [10], "Packets that could not be sent.";
    "transmit_drop" = [11], "Packets dropped on the way out.";
    "transmit_fifo" = [12], "Packets not sent because the device's queue ran empty or over.";
    "transmit_colls" = [13], "Collisions while sending.";
    "transmit_carrier" = [14], "Packets not sent: no carrier, aborted, no heartbeat, or too late.";
    "transmit_compressed" = [15], "Compressed packets sent.";

    PROC_DETAILED:
    "receive_bytes" = [0], "Bytes received.";
    "receive_packets" = [1], "Packets received.";
    "receive_errors" = [2], "Packets received with an error.";
    "receive_dropped" = [3], "Packets dropped on the way in.";
    "receive_fifo" = [4], "Packets lost because the device's queue was full.";
    "receive_frame" = [5], "Packets received with a wrong frame, length, checksum, or an overrun.";
    "receive_compressed" = [6], "Compressed packets received.";
    "receive_multicast" = [7], "Multicast packets received.";
    "transmit_bytes" = [8], "Bytes sent.";
    "transmit_packets" = [9], "Packets sent.";
    "transmit_errors" = [10], "Packets that could not be sent.";
    "transmit_dropped" = [11], "Packets dropped on the way out.";
    "transmit_fifo" = [12], "Packets not sent because the device's queue ran empty or over.";
    "transmit_colls" = [13], "Collisions while sending.";
    "transmit_carrier" = [14], "Packets not sent: no carrier, aborted, no heartbeat, or too late.";
    "transmit_compressed" = [15], "Compressed packets sent.";
}

/// Every family, those of both names.
pub(super) static FAMILIES: &[&Family] = &{
    let mut families = [&super::addresses::INFO; 1 + 17 + 24];
    let mut n = 0;
    while n < 17 {
        families[1 + n] = &LEGACY[n].family;
        n += 1;
    }
    n = 0;
    while n < 24 {
        families[18 + n] = &DETAILED[n].family;
        n += 1;
    }
    families
};
