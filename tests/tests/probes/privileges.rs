//! The capabilities that suffice for each probe, and none at all once they count.

use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use collector::sources::ebpf::{EbpfOptions, PROBES};
use collector::sys::privileges::Capabilities;
use collector_tests::cgroup::rerun;
use collector_tests::probe::{Probe, alone, traces_functions};
use collector_tests::skip::{root_or_skip, skip};

/// What the loads below are counted by.
const COUNTS: &[&str] = &[
    "collector_process_forks_total",
    "collector_context_switches_total",
    "collector_cgroup_context_switches_total",
    "collector_network_drops_total",
    "collector_tcp_connect_failures_total",
];

/// Processes, a packet for nobody, a connection that is refused.
fn do_a_little() {
    for _ in 0..5 {
        assert!(Command::new("/bin/true").status().unwrap().success());
    }
    let closed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().send_to(b"x", closed).unwrap();
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    TcpStream::connect(closed).unwrap_err();
}

/// Not a test of its own: the child of [`said_with`]. It says of each probe whether it runs; then gives up all that it may,
/// and says by how much the counts have grown before and after.
#[test]
#[ignore = "run by other tests, in a child process"]
fn start_and_count() {
    let probes = PROBES.iter().map(|probe| probe.name.to_owned()).collect();
    let mut probe = Probe::start(&EbpfOptions { probes, ..EbpfOptions::default() });
    for own in PROBES {
        let failure = probe.reader.failures().find(|(name, ..)| *name == own.name);
        let state = failure.map_or("runs".to_owned(), |(_, reason, text)| format!("{reason}: {text}"));
        println!("\nSAID {} {state}", own.name);
    }
    let wanted: Vec<_> = COUNTS.iter().map(|name| (*name, vec![])).collect();
    for state in ["before", "after"] {
        let before = probe.before(&wanted);
        do_a_little();
        let grown = probe.grown(&before);
        let all = grown.iter().all(|by| *by > 0.0);
        println!("\nSAID {state} {} {grown:?}", if all { "counts" } else { "lacks" });
        assert_eq!(Capabilities::NONE.keep_only().unwrap(), Capabilities::NONE);
    }
}

/// What the child says as a user without a name, with these capabilities alone.
fn said_with(capabilities: &str) -> Vec<String> {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // Up to 5.10 maps count against it, as a unit's LimitMEMLOCK= says; later it is of no matter whether this succeeds.
    // SAFETY: the kernel reads the structure.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) };
    let sets = [format!("--inh-caps=-all,{capabilities}"), format!("--ambient-caps=-all,{capabilities}")];
    let user = ["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"];
    let output = rerun("privileges::start_and_count", &[&user[..], &[&sets[0], &sets[1]]].concat());
    let lines: Vec<_> =
        output.lines().filter_map(|line| line.strip_prefix("SAID ")).map(str::to_owned).collect();
    assert_eq!(lines.len(), PROBES.len() + 2, "the child said: {output}");
    lines
}

/// What the child said of one.
fn of<'a>(lines: &'a [String], what: &str) -> &'a str {
    lines.iter().find_map(|line| line.strip_prefix(what)?.strip_prefix(' ')).unwrap()
}

#[test]
fn the_documented_capabilities_suffice_for_each_probe_and_none_once_it_counts() {
    let test = "the_documented_capabilities_suffice_for_each_probe_and_none_once_it_counts";
    let _alone = alone();
    if !root_or_skip(test) {
        return;
    }
    let lines = said_with("+bpf,+perfmon");
    if let Some(why) =
        ["no_btf", "not_supported"].iter().find(|why| of(&lines, "runqueue").starts_with(**why))
    {
        return skip(test, why);
    }
    for probe in PROBES {
        let state = of(&lines, probe.name);
        match probe.name {
            "network" => {
                assert!(state.starts_with("not_permitted: ") && state.contains("CAP_NET_ADMIN"), "{state}");
            }
            _ if traces_functions(probe) && state.contains("locked down") => {}
            name => assert_eq!(state, "runs", "{name}"),
        }
    }
    for state in ["before", "after"] {
        assert!(of(&lines, state).starts_with("counts"), "{state}: {}", of(&lines, state));
    }
    let more = said_with("+bpf,+perfmon,+net_admin");
    assert_eq!(of(&more, "network"), "runs");
    for (capability, missing) in [("+bpf", "CAP_PERFMON"), ("+perfmon", "CAP_BPF")] {
        let less = said_with(capability);
        assert!(
            PROBES.iter().all(|probe| of(&less, probe.name).starts_with("not_permitted: ")
                && of(&less, probe.name).contains(missing)),
            "{capability}: {less:?}"
        );
    }
}
