//! Connections of known number and fate over loopback, and packets that the kernel must drop.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use collector_tests::cgroup::{Cgroup, Hierarchy, shell_in};
use collector_tests::probe::{Probe, alone};
use collector_tests::skip::skip;

use super::near;

const CONNECTED: usize = 100;
const REFUSED: usize = 40;
const RESET: usize = 30;
const STALLED: usize = 5;
/// Longer than the time after which a SYN is sent again, shorter than twice that.
const STALL: Duration = Duration::from_millis(1_600);

fn port(address: SocketAddr) -> String {
    address.port().to_string()
}

/// A port at which nobody listens.
fn closed_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// A listener that takes one connection and then no more.
fn full_listener() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // SAFETY: listen(2) on a socket that is listening already changes the length of its queue.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let address = listener.local_addr().unwrap();
    let mut fill = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        fill.push(stream);
    }
    (listener, fill)
}

/// Lets the worker run in the cgroup: it connects, is refused, resets, and stalls.
fn run_worker(cgroup: &Cgroup, open: SocketAddr, closed: SocketAddr, full: SocketAddr) {
    let this = std::env::current_exe().unwrap();
    let script = "exec \"$0\" --exact network::worker --ignored --nocapture >/dev/null";
    let mut command = shell_in(&[cgroup], script, &[this.to_str().unwrap()]);
    command.env("OPEN", port(open)).env("CLOSED", port(closed)).env("FULL", port(full));
    assert!(command.status().unwrap().success());
}

/// Not a test of its own: the child that is measured.
#[test]
#[ignore = "run by another test, in a child process"]
fn worker() {
    let address =
        |name: &str| SocketAddr::from((Ipv4Addr::LOCALHOST, std::env::var(name).unwrap().parse().unwrap()));
    for _ in 0..CONNECTED {
        let mut stream = TcpStream::connect(address("OPEN")).unwrap();
        stream.write_all(b"c").unwrap();
        // It ends when the other side has closed.
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    for _ in 0..RESET {
        let mut stream = TcpStream::connect(address("OPEN")).unwrap();
        stream.write_all(b"r").unwrap();
        stream.peek(&mut [0]).unwrap();
        // What has come is not read: the kernel answers with a reset.
    }
    for _ in 0..REFUSED {
        TcpStream::connect(address("CLOSED")).unwrap_err();
    }
    let stalled = (0..STALLED).map(|_| {
        let full = address("FULL");
        std::thread::spawn(move || TcpStream::connect_timeout(&full, STALL).unwrap_err())
    });
    stalled.collect::<Vec<_>>().into_iter().for_each(|thread| drop(thread.join().unwrap()));
}

/// Answers as the first byte of a connection says.
fn serve(listener: &TcpListener) {
    for _ in 0..CONNECTED + RESET {
        let (mut stream, _) = listener.accept().unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        if &byte == b"r" {
            stream.write_all(b"unread").unwrap();
            let _ = stream.read(&mut byte);
        }
    }
}

#[test]
fn connections_are_counted_by_their_fate() {
    let test = "connections_are_counted_by_their_fate";
    let _alone = alone();
    let Some(mut probe) = Probe::named_or_skip(test, "tcp") else { return };
    let Some(cgroup) = Cgroup::create_or_skip(test, Hierarchy::Unified) else { return };
    let before = probe.before(&[
        ("collector_tcp_connect_seconds_count", vec![]),
        ("collector_tcp_connect_seconds_sum", vec![]),
        ("collector_tcp_smoothed_rtt_seconds_count", vec![]),
        ("collector_tcp_connect_failures_total", vec![("family", "ipv4")]),
        ("collector_tcp_state_changes_total", vec![("from", "close"), ("to", "syn_sent")]),
        ("collector_tcp_resets_total", vec![("direction", "sent")]),
        ("collector_tcp_resets_total", vec![("direction", "received")]),
        ("collector_tcp_retransmits_total", vec![("family", "ipv4")]),
    ]);
    let open = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (closed, address) = (closed_port(), open.local_addr().unwrap());
    let (full, _fill) = full_listener();
    let server = std::thread::spawn(move || serve(&open));
    run_worker(&cgroup, address, closed, full.local_addr().unwrap());
    server.join().unwrap();
    let grown = probe.grown(&before);
    eprintln!("{test}: {grown:?}");
    let of = |name: &str, label: &str, value: &str| {
        let labels = [(label, value), ("cgroup", cgroup.path.as_str())];
        probe.value(&format!("collector_cgroup_tcp_{name}_total"), &labels)
    };
    let count = |number: usize| number as f64;
    assert_eq!(of("connections", "kind", "connected"), count(CONNECTED + RESET));
    assert_eq!(of("connections", "kind", "failed"), count(REFUSED + STALLED));
    assert_eq!(of("connections", "kind", "accepted"), 0.0, "the server is in another cgroup");
    assert_eq!(of("resets", "direction", "sent"), count(RESET));
    assert_eq!(of("resets", "direction", "received"), count(REFUSED));
    // One SYN more for each that stalls; on a busy machine something else may be sent twice.
    let again = of("retransmits", "cgroup", &cgroup.path);
    assert!(again >= count(STALLED) && again <= 2.0 * count(STALLED), "{again} retransmits");
    // The host has others too, but few in this time.
    let connects = count(CONNECTED + RESET + REFUSED + STALLED);
    assert!(grown[0] >= count(CONNECTED + RESET) && grown[4] >= connects, "{grown:?}");
    assert!(grown[2] >= 2.0 * count(CONNECTED), "both ends have a round-trip time: {grown:?}");
    assert!(grown[3] >= count(REFUSED + STALLED) && grown[7] >= count(STALLED), "{grown:?}");
    // Some kernels (5.10 is one) do not tell of resets for which there is no socket.
    assert!(grown[5] >= count(RESET) && grown[6] >= count(RESET + REFUSED), "{grown:?}");
    let mean = grown[1] / grown[0];
    assert!(mean > 0.0 && mean < 0.1, "{mean} s a connect over loopback");
    assert_eq!(probe.lost(), 0.0);
}

/// A counter of /proc/net/snmp.
fn snmp(protocol: &str, counter: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/net/snmp").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with(&format!("{protocol}:")));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let place = names.split(' ').position(|name| name == counter).unwrap();
    values.split(' ').nth(place).unwrap().parse().unwrap()
}

#[test]
fn drops_are_counted_by_the_kernels_reason() {
    let test = "drops_are_counted_by_the_kernels_reason";
    let _alone = alone();
    let Some(mut probe) = Probe::named_or_skip(test, "drops") else { return };
    let of = |reason| ("collector_network_drops_total", vec![("protocol", "ipv4"), ("reason", reason)]);
    let before = probe.before(&[
        of("SOCKET_RCVBUFF"),
        of("NO_SOCKET"),
        ("collector_network_drops_total", vec![("protocol", "ipv4")]),
        ("collector_network_drops_total", vec![("reason", "TCP_LISTEN_OVERFLOW")]),
    ]);
    let (full, nobody) = (snmp("Udp", "RcvbufErrors"), snmp("Udp", "NoPorts"));
    let (receiver, sender) = (
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
    );
    for _ in 0..2_000 {
        sender.send_to(&[0; 1_000], receiver.local_addr().unwrap()).unwrap();
    }
    let closed = { UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap() };
    for _ in 0..50 {
        sender.send_to(b"x", closed).unwrap();
    }
    receiver.set_nonblocking(true).unwrap();
    let received = std::iter::from_fn(|| receiver.recv(&mut [0; 2_000]).ok()).count();
    let dropped = (2_000 - received) as f64;
    let (full, nobody) = (snmp("Udp", "RcvbufErrors") - full, snmp("Udp", "NoPorts") - nobody);
    let grown = probe.grown(&before);
    eprintln!("{test}: {grown:?}, {dropped} not received, the kernel {full} and {nobody}");
    assert!(dropped > 1_000.0 && grown[2] >= dropped + 50.0, "{grown:?}");
    if probe.value("collector_network_drops_total", &[("reason", "")]) > 0.0 {
        return skip(test, "this kernel gives no reasons: only the number of drops was compared");
    }
    near("datagrams for a full socket", grown[0], dropped, 0.0);
    near("datagrams for nobody", grown[1], 50.0, 5.0);
    near("the kernel's own count of the former", full, dropped, 0.0);
    near("the kernel's own count of the latter", nobody, 50.0, 5.0);
}
