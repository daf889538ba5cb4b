//! TCP sockets by state, and what waits in their queues, by sock_diag(7). Off by default.
//! Cost a tick: two system calls, and one for every 270 sockets (`sys/tcp_sockets.rs`); memory does not grow
//! with them.

use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::tcp_sockets::{STATES, TcpSockets};

static CONNECTIONS: Family = Family::gauge(
    "node_tcp_connection_states",
    "TCP sockets in a state; for rx_queued_bytes and tx_queued_bytes, bytes received but not read, and not yet acknowledged. Of sockets that listen these are the connections that wait and may wait.",
    &["state"],
);

/// By the number of the state.
const NAMES: [&str; STATES] = [
    "unknown",
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
];

pub(super) static COLLECTOR: Registration = Registration {
    name: "tcpstat",
    default_enabled: false,
    flags: &[],
    families: &[&CONNECTIONS],
    new: |_| Ok(Box::new(Tcpstat(TcpSockets::default()))),
};

struct Tcpstat(TcpSockets);

impl Collector for Tcpstat {
    /// As in node_exporter, a state without sockets is not there, and without any socket nothing is.
    fn update(&mut self, _: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let counts =
            self.0.count().map_err(|error| CollectError::call("sock_diag dump of TCP sockets", &error))?;
        for (name, count) in NAMES.into_iter().zip(counts.states).filter(|(_, count)| *count > 0) {
            out.put(&CONNECTIONS, &[name], count as f64);
        }
        if counts.states.iter().any(|&count| count > 0) {
            out.put(&CONNECTIONS, &["rx_queued_bytes"], counts.receive_queued as f64);
            out.put(&CONNECTIONS, &["tx_queued_bytes"], counts.send_queued as f64);
        }
        Ok(())
    }
}
