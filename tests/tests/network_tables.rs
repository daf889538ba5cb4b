//! Routes, queueing disciplines, drivers and TCP sockets of a network namespace, as they were set up there.

mod render;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use collector::model::SeriesTable;
use collector::sources::host::{FlagValues, HostReader, Paths, Selection};
use collector_tests::netns::{in_network_namespace, run};
use collector_tests::skip::program_or_skip;
use render::Exposition;

fn tick(collector: &str) -> Exposition {
    let table = Arc::new(SeriesTable::default());
    let enabled = |name: &str, _| name == collector;
    let flags = FlagValues::default();
    let mut reader = HostReader::new(&Paths::default(), &flags, enabled, &[], &table).unwrap();
    let mut exposition = Exposition::new();
    reader.run(&Selection::All, 0, Default::default, |batch| render::add(&batch, &table, &mut exposition));
    assert_eq!(
        exposition["node_scrape_collector_success"].1.values().copied().collect::<Vec<_>>(),
        [1.0],
        "{collector}"
    );
    exposition
}

fn set_up() {
    for command in [
        "link set lo up",
        "link add left type veth peer name right",
        "link add near type veth peer name far",
        "link set left up",
        "link set right up",
        "link set near up",
        "link set far up",
        "addr add 192.0.2.1/24 dev left",
        "addr add 198.51.100.1/25 dev near",
    ] {
        run("ip", command);
    }
}

#[test]
fn routes_are_as_they_were_made() {
    in_network_namespace("routes_are_as_they_were_made", |_| {
        set_up();
        for command in [
            "route add default via 192.0.2.254 dev left metric 100",
            "route add 203.0.113.0/24 proto bird src 192.0.2.1 \
             nexthop via 192.0.2.7 dev left weight 3 nexthop via 198.51.100.7 dev near weight 1",
            "route add blackhole 10.0.0.0/8",
            "route add 10.1.2.3/32 dev left table 77 proto 99",
            "-6 route add 2001:db8:7::/48 dev near metric 7 proto static",
        ] {
            run("ip", command);
        }
        let said = tick("network_route");
        let infos: Vec<&str> = said["node_network_route_info"].1.keys().map(String::as_str).collect();
        let expected =
            |device: &str, dest: &str, gw: &str, priority: &str, proto: &str, src: &str, weight: &str| {
                let series = format!(
                    "node_network_route_info{{dest=\"{dest}\",device=\"{device}\",gw=\"{gw}\",\
                 priority=\"{priority}\",proto=\"{proto}\",src=\"{src}\",weight=\"{weight}\"}}"
                );
                assert!(infos.contains(&series.as_str()), "{series} is not among {infos:#?}");
            };
        expected("left", "default", "192.0.2.254", "100", "boot", "", "");
        expected("left", "192.0.2.0/24", "", "0", "kernel", "192.0.2.1", "");
        expected("near", "198.51.100.0/25", "", "0", "kernel", "198.51.100.1", "");
        expected("left", "203.0.113.0/24", "192.0.2.7", "0", "bird", "192.0.2.1", "3");
        expected("near", "203.0.113.0/24", "198.51.100.7", "0", "bird", "192.0.2.1", "1");
        expected("left", "10.1.2.3/32", "", "0", "unknown", "", "");
        expected("near", "2001:db8:7::/48", "", "7", "static", "", "");
        assert!(!infos.iter().any(|series| series.contains("10.0.0.0/8")), "a blackhole leads nowhere");
        let by_device = &said["node_network_routes"].1;
        let ipv4 = |device: &str| {
            let series = format!("device=\"{device}\"");
            infos.iter().filter(|info| info.contains(&series)).count() as f64
        };
        for device in ["left", "near"] {
            let count = by_device[&format!("node_network_routes{{device=\"{device}\"}}")];
            assert_eq!(count, ipv4(device), "{device}");
        }
    });
}

#[test]
fn queueing_disciplines_count_what_is_sent() {
    in_network_namespace("queueing_disciplines_count_what_is_sent", |_| {
        set_up();
        run("tc", "qdisc add dev left root handle 1: tbf rate 1gbit burst 1mb latency 1s");
        run("tc", "qdisc add dev near root handle 1: htb default 1");
        run("tc", "class add dev near parent 1: classid 1:1 htb rate 100mbit");
        run("tc", "qdisc add dev near parent 1:1 handle 10: pfifo limit 7");
        let socket = std::net::UdpSocket::bind("192.0.2.1:0").unwrap();
        run("ip", "neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev left");
        let before = tick("qdisc");
        for _ in 0..10 {
            socket.send_to(&[0; 1000], "192.0.2.9:9").unwrap();
        }
        let after = tick("qdisc");
        let of = |said: &Exposition, family: &str, device: &str, kind: &str| {
            said[family].1[&format!("{family}{{device=\"{device}\",kind=\"{kind}\"}}")]
        };
        let grown = |family| of(&after, family, "left", "tbf") - of(&before, family, "left", "tbf");
        assert!(grown("node_qdisc_packets_total") >= 10.0);
        assert!(grown("node_qdisc_bytes_total") >= 10.0 * 1042.0);
        assert_eq!(of(&after, "node_qdisc_drops_total", "near", "htb"), 0.0);
        let all: Vec<&String> = after["node_qdisc_backlog"].1.keys().collect();
        assert!(!all.iter().any(|series| series.contains("pfifo")), "only roots: {all:?}");
    });
}

#[test]
fn drivers_say_what_the_program_ethtool_prints() {
    let name = "drivers_say_what_the_program_ethtool_prints";
    if program_or_skip(name, &["ethtool"]).is_none() {
        return;
    }
    in_network_namespace(name, |_| {
        run("ip", "link add left type veth peer name right");
        run("ip", "link set left up");
        let said = tick("ethtool");
        let infos: Vec<&String> = said["node_ethtool_info"].1.keys().collect();
        assert!(infos.iter().any(|info| info.contains("device=\"left\",driver=\"veth\"")), "{infos:?}");
        let printed = std::process::Command::new("ethtool").args(["-S", "left"]).output().unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        let mut compared = 0;
        for line in printed.lines().skip(1) {
            let (name, value) = line.trim().rsplit_once(": ").unwrap();
            let words = name.split('_').map(|word| match word {
                "rx" => "received",
                "tx" => "transmitted",
                _ => word,
            });
            let name = words.collect::<Vec<_>>().join("_");
            let (_, samples) = &said[&format!("node_ethtool_{name}")];
            let series = format!("node_ethtool_{name}{{device=\"left\"}}");
            assert_eq!(samples[&series], value.parse::<f64>().unwrap(), "{name}");
            compared += 1;
        }
        assert!(compared >= 2, "{printed}");
        assert_eq!(said["node_network_autonegotiate"].1["node_network_autonegotiate{device=\"left\"}"], 0.0);
    });
}

/// State and queues of every TCP socket, as /proc shows them to this thread.
fn sockets_of_proc() -> std::collections::BTreeMap<String, f64> {
    const STATES: [&str; 12] = [
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
    ];
    let mut counts = std::collections::BTreeMap::new();
    let mut add = |state: &str, value: u64| {
        *counts.entry(format!("node_tcp_connection_states{{state=\"{state}\"}}")).or_insert(0.0) +=
            value as f64;
    };
    for file in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        for line in std::fs::read_to_string(file).unwrap_or_default().lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let state = STATES[usize::from_str_radix(words[3], 16).unwrap()];
            let (sent, received) = words[4].split_once(':').unwrap();
            let number = |text| u64::from_str_radix(text, 16).unwrap();
            add(state, 1);
            // What waits to be accepted is counted there, and the room for it is not.
            add("rx_queued_bytes", number(received));
            add("tx_queued_bytes", if state == "listen" { 0 } else { number(sent) });
        }
    }
    counts
}

#[test]
fn tcp_sockets_are_counted_by_state() {
    in_network_namespace("tcp_sockets_are_counted_by_state", |_| {
        run("ip", "link set lo up");
        assert!(!tick("tcpstat").contains_key("node_tcp_connection_states"), "there is no socket");
        let listeners = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("[::1]:0").unwrap()];
        let mut kept = Vec::new();
        for n in 0..600 {
            let listener = &listeners[n % 2];
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            match n % 6 {
                // Unread on the other side.
                0 | 1 => server.write_all(&[7; 100]).unwrap(),
                // Half closed: one side in FIN_WAIT2, the other in CLOSE_WAIT.
                2 | 3 => client.shutdown(std::net::Shutdown::Write).unwrap(),
                // Closed: TIME_WAIT on the side that began.
                _ => {
                    drop(server);
                    let _ = client.read(&mut [0]);
                    continue;
                }
            }
            kept.push((client, server));
        }
        let waiting = TcpStream::connect(listeners[0].local_addr().unwrap()).unwrap();
        let (said, proc) = loop {
            let before = sockets_of_proc();
            let said = tick("tcpstat").remove("node_tcp_connection_states").unwrap().1;
            if sockets_of_proc() == before {
                break (said, before);
            }
        };
        let of = |state: &str| said[&format!("node_tcp_connection_states{{state=\"{state}\"}}")];
        assert_eq!(of("established"), 402.0);
        assert_eq!((of("fin_wait2"), of("close_wait"), of("listen")), (200.0, 200.0, 2.0));
        assert!(of("time_wait") > 0.0);
        assert_eq!(of("rx_queued_bytes"), 200.0 * 100.0 + 200.0 + 1.0, "data, ends, and one not accepted");
        // Of a socket that listens the kernel says how many connections may wait.
        let queues = of("tx_queued_bytes") - proc["node_tcp_connection_states{state=\"tx_queued_bytes\"}"];
        assert!(queues > 0.0, "{queues}");
        for (series, value) in proc.iter().filter(|(series, _)| !series.contains("tx_queued")) {
            assert_eq!(said.get(series), Some(value), "{series}");
        }
        assert_eq!(said.len(), proc.len());
        drop((waiting, kept));
    });
}
