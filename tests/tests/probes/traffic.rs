//! Datagrams and a stream of known size, by a worker in a cgroup of its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};

use collector_tests::cgroup::{Cgroup, Hierarchy, shell_in};
use collector_tests::probe::{Probe, alone};

use super::near;
use super::network::snmp;

const DATAGRAMS: usize = 500;
/// With the headers of UDP and IP.
const DATAGRAM: usize = 1_000 + 8 + 20;
const STREAM: usize = 4 << 20;

/// Not a test of its own: the child that is measured.
#[test]
#[ignore = "run by another test, in a child process"]
fn worker() {
    if std::env::var("LOAD").as_deref() == Ok("stream") {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        let sender = std::thread::spawn(move || stream.write_all(&vec![1; STREAM]).unwrap());
        assert_eq!(other.read_to_end(&mut Vec::new()).unwrap(), STREAM);
        return sender.join().unwrap();
    }
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for _ in 0..DATAGRAMS {
        socket.send_to(&[0; 1_000], socket.local_addr().unwrap()).unwrap();
        assert_eq!(socket.recv(&mut [0; 2_000]).unwrap(), 1_000);
    }
}

/// Bytes received, sent, packets received, sent, by a worker in a cgroup.
fn traffic(test: &str, load: &str) -> Option<[f64; 4]> {
    let mut probe = Probe::named_or_skip(test, "network")?;
    let cgroup = Cgroup::create_or_skip(test, Hierarchy::Unified)?;
    let this = std::env::current_exe().unwrap();
    let script = "exec \"$0\" --exact traffic::worker --ignored >/dev/null";
    let mut shell = shell_in(&[&cgroup], script, &[this.to_str().unwrap()]);
    assert!(shell.env("LOAD", load).status().unwrap().success());
    probe.tick();
    assert_eq!(probe.lost(), 0.0);
    let of = |what: &str, direction: &str| {
        let labels = [("cgroup", cgroup.path.as_str()), ("direction", direction)];
        probe.value(&format!("collector_cgroup_network_{what}_total"), &labels)
    };
    let found = [
        of("bytes", "receive"),
        of("bytes", "transmit"),
        of("packets", "receive"),
        of("packets", "transmit"),
    ];
    eprintln!("{test}: {found:?}");
    Some(found)
}

#[test]
fn datagrams_are_counted_to_the_last_byte() {
    let _alone = alone();
    let Some(found) = traffic("datagrams_are_counted_to_the_last_byte", "datagrams") else { return };
    let (bytes, packets) = ((DATAGRAMS * DATAGRAM) as f64, DATAGRAMS as f64);
    assert_eq!(found, [bytes, bytes, packets, packets]);
}

#[test]
fn a_stream_is_counted_with_its_headers() {
    /// What a segment holds over loopback, at the most.
    const SEGMENT: f64 = 65_483.0;
    let _alone = alone();
    let before = snmp("Tcp", "RetransSegs");
    let Some(found) = traffic("a_stream_is_counted_with_its_headers", "stream") else { return };
    // On a machine that is slow to acknowledge, what has come already may be sent again.
    let again = SEGMENT * (snmp("Tcp", "RetransSegs") - before);
    // Data and acknowledgements have an IP header and one of TCP with its time stamps.
    let (stream, header) = (STREAM as f64, 52.0);
    near("packets sent", found[3], found[2], 3.0);
    near("bytes received", found[0], stream + header * found[2] + again / 2.0, 300.0 + again / 2.0);
    // What is sent as one, and cut later, has one header.
    assert!(found[1] > stream && found[1] <= found[0] + 300.0, "{found:?}");
}
