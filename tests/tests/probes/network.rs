//! Connections of known number and fate over loopback, and packets that the kernel must drop.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use collector_tests::cgroup::{Cgroup, Hierarchy, shell_in};
use collector_tests::probe::{Probe, alone};
use collector_tests::skip::{program_or_skip, skip};

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
pub(crate) fn snmp(protocol: &str, counter: &str) -> f64 {
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

/// What loopback does to packets, until it is dropped.
struct Netem(std::path::PathBuf);

impl Netem {
    fn start_or_skip(test: &str, what: &[&str]) -> Option<Self> {
        let netem = Netem(program_or_skip(test, &["tc"])?);
        let output = netem.tc("add").args(["netem"]).args(what).output().unwrap();
        if !output.status.success() {
            skip(test, &format!("netem: {}", String::from_utf8_lossy(&output.stderr).trim()));
            return None;
        }
        Some(netem)
    }

    fn tc(&self, what: &str) -> Command {
        let mut command = Command::new(&self.0);
        command.args(["qdisc", what, "dev", "lo", "root"]);
        command
    }
}

impl Drop for Netem {
    fn drop(&mut self) {
        let _ = self.tc("del").output();
    }
}

/// Connections over which a byte goes there and back.
fn there_and_back(connections: usize) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for _ in 0..connections {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(&byte).unwrap();
        }
    });
    for _ in 0..connections {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    server.join().unwrap();
}

#[test]
#[ignore = "run in a guest by `cargo xtask vm`"]
fn connects_and_round_trips_take_the_delay_of_netem() {
    const CONNECTIONS: usize = 20;
    let test = "connects_and_round_trips_take_the_delay_of_netem";
    let _alone = alone();
    let Some(mut probe) = Probe::named_or_skip(test, "tcp") else { return };
    let Some(_netem) = Netem::start_or_skip(test, &["delay", "60ms"]) else { return };
    let (connect, rtt) = ("collector_tcp_connect_seconds", "collector_tcp_smoothed_rtt_seconds");
    let names = [connect, rtt].map(|name| [format!("{name}_bucket"), format!("{name}_count")]);
    let wanted: Vec<_> = names
        .iter()
        .flat_map(|[bucket, count]| {
            let at = |le| (bucket.as_str(), vec![("le", le)]);
            [at("0.1"), at("0.25"), (count.as_str(), vec![])]
        })
        .collect();
    let before = probe.before(&wanted);
    there_and_back(CONNECTIONS);
    // The last packets of the last connection are on their way.
    std::thread::sleep(Duration::from_millis(400));
    let grown = probe.grown(&before);
    eprintln!("{test}: {grown:?}");
    // A packet waits 60 ms each way, and the emulated machine is late now and then.
    let number = CONNECTIONS as f64;
    assert!(grown[0] == 0.0 && grown[1] >= 0.8 * number && grown[2] == number, "connects: {grown:?}");
    assert!(
        grown[3] == 0.0 && grown[4] >= 1.5 * number && grown[5] >= 1.9 * number,
        "round trips: {grown:?}"
    );
}

#[test]
#[ignore = "run in a guest by `cargo xtask vm`"]
fn retransmits_are_those_of_netem() {
    const STREAM: usize = 6_000_000;
    let test = "retransmits_are_those_of_netem";
    let _alone = alone();
    let Some(mut probe) = Probe::named_or_skip(test, "tcp") else { return };
    let Some(_netem) = Netem::start_or_skip(test, &["delay", "2ms", "loss", "8%"]) else { return };
    let before = probe.before(&[("collector_tcp_retransmits_total", vec![("family", "ipv4")])]);
    let kernel = snmp("Tcp", "RetransSegs");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let sender = std::thread::spawn(move || stream.write_all(&vec![1; STREAM]).unwrap());
    assert_eq!(listener.accept().unwrap().0.read_to_end(&mut Vec::new()).unwrap(), STREAM);
    sender.join().unwrap();
    let (grown, kernel) = (probe.grown(&before), snmp("Tcp", "RetransSegs") - kernel);
    eprintln!("{test}: {grown:?}, the kernel {kernel}");
    // What the kernel sends again in one piece it counts by its segments.
    assert!(kernel > 0.0 && grown[0] > 0.0 && grown[0] <= kernel, "{grown:?}, the kernel {kernel}");
}
