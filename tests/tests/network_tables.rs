//! Routes and queueing disciplines of a network namespace, as they were set up there.

mod render;

use std::sync::Arc;

use collector::model::SeriesTable;
use collector::sources::host::{FlagValues, HostReader, Paths, Selection};
use collector_tests::netns::{in_network_namespace, run};
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
