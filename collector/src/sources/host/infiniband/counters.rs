//! The counters of an InfiniBand port, by their files.

use crate::sources::host::devices::{rows, unsigned};
use crate::sys::text;

rows! { pub(super) COUNTERS &["device", "port"];
    counter "link_downed" "node_infiniband_link_downed_total" unsigned, "Times that the link could not be recovered and went down.";
    counter "link_error_recovery" "node_infiniband_link_error_recovery_total" unsigned, "Times that the link was recovered from errors.";
    counter "multicast_rcv_packets" "node_infiniband_multicast_packets_received_total" unsigned, "Multicast packets received.";
    counter "multicast_xmit_packets" "node_infiniband_multicast_packets_transmitted_total" unsigned, "Multicast packets sent.";
    counter "port_rcv_constraint_errors" "node_infiniband_port_constraint_errors_received_total" unsigned, "Packets received that were dropped because of a constraint (partition, raw filter, version).";
    counter "port_xmit_constraint_errors" "node_infiniband_port_constraint_errors_transmitted_total" unsigned, "Packets not sent because of a constraint (partition, raw filter, version).";
    counter "port_rcv_data" "node_infiniband_port_data_received_bytes_total" lanes, "Bytes received on all virtual lanes.";
    counter "port_xmit_data" "node_infiniband_port_data_transmitted_bytes_total" lanes, "Bytes sent on all virtual lanes.";
    counter "port_rcv_discards" "node_infiniband_port_discards_received_total" unsigned, "Packets received that were dropped because the port was down or congested.";
    counter "port_xmit_discards" "node_infiniband_port_discards_transmitted_total" unsigned, "Packets not sent because the port was down or congested.";
    counter "port_rcv_errors" "node_infiniband_port_errors_received_total" unsigned, "Packets received with an error.";
    counter "port_rcv_packets" "node_infiniband_port_packets_received_total" unsigned, "Packets received on all virtual lanes.";
    counter "port_xmit_packets" "node_infiniband_port_packets_transmitted_total" unsigned, "Packets sent on all virtual lanes.";
    counter "port_xmit_wait" "node_infiniband_port_transmit_wait_total" unsigned, "Ticks of the port's clock in which data waited and none was sent.";
    counter "unicast_rcv_packets" "node_infiniband_unicast_packets_received_total" unsigned, "Unicast packets received.";
    counter "unicast_xmit_packets" "node_infiniband_unicast_packets_transmitted_total" unsigned, "Unicast packets sent.";
}

rows! { pub(super) EXTENDED &["device", "port"];
    counter "port_multicast_rcv_packets" "node_infiniband_legacy_multicast_packets_received_total" unsigned, "Multicast packets received, on kernels before 4.5.";
    counter "port_multicast_xmit_packets" "node_infiniband_legacy_multicast_packets_transmitted_total" unsigned, "Multicast packets sent, on kernels before 4.5.";
    counter "port_rcv_data_64" "node_infiniband_legacy_data_received_bytes_total" lanes, "Bytes received, on kernels before 4.5.";
    counter "port_rcv_packets_64" "node_infiniband_legacy_packets_received_total" unsigned, "Packets received, on kernels before 4.5.";
    counter "port_unicast_rcv_packets" "node_infiniband_legacy_unicast_packets_received_total" unsigned, "Unicast packets received, on kernels before 4.5.";
    counter "port_unicast_xmit_packets" "node_infiniband_legacy_unicast_packets_transmitted_total" unsigned, "Unicast packets sent, on kernels before 4.5.";
    counter "port_xmit_data_64" "node_infiniband_legacy_data_transmitted_bytes_total" lanes, "Bytes sent, on kernels before 4.5.";
    counter "port_xmit_packets_64" "node_infiniband_legacy_packets_transmitted_total" unsigned, "Packets sent, on kernels before 4.5.";
}

/// Counted in words of four bytes, one for each lane of a port of four.
fn lanes(word: &[u8]) -> Option<f64> {
    text::parse_u64(word).map(|words| words.wrapping_mul(4) as f64)
}
