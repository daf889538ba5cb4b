//! The TCP probe: how long connects take and how many fail, changes of state, round-trip times when connections close,
//! retransmits and resets; for the host and by cgroup.
//!
//! Kernel interface: the tracepoints `inet_sock_set_state`, `tcp_retransmit_skb`, `tcp_send_reset`, `tcp_receive_reset`.
//! Cost: in the kernel some 200 ns for each of a connection's changes of state, a tick some microseconds. Sockets belong to
//! cgroups of version 2 alone. Accept queues that overflow are the probe `listen`.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use collector_ebpf::tcp::{self as shared, FAMILIES, HostBank, STATES};

use super::cgroup_slots::{CgroupSlots, Counts};
use super::counts::{self, Histogram};
use super::ground::{Ground, Hook, InRows};
use super::kernel_map::KernelMap;
use super::layout::Finder;
use super::load::{ProbeError, RunningProgram};
use super::{Probe, Running};
use crate::model::{Family, Recorder};

static CONNECT: Family = Family::histogram(
    "collector_tcp_connect_seconds",
    "Time from the first SYN of a connection that this host asked for until it was established.",
    &[],
);
static FAILURES: Family = Family::counter(
    "collector_tcp_connect_failures_total",
    "Connections that this host asked for and that did not come about.",
    &["family"],
);
static SRTT: Family = Family::histogram(
    "collector_tcp_smoothed_rtt_seconds",
    "Smoothed round-trip time of connections, taken when they close.",
    &[],
);
static CHANGES: Family =
    Family::counter("collector_tcp_state_changes_total", "Changes of the state of sockets.", &["from", "to"]);
static RETRANSMITS: Family =
    Family::counter("collector_tcp_retransmits_total", "Segments that were sent once more.", &["family"]);
static RESETS: Family =
    Family::counter("collector_tcp_resets_total", "Resets that were sent, and received.", &["direction"]);
static CGROUP_CONNECTIONS: Family = Family::counter(
    "collector_cgroup_tcp_connections_total",
    "Connections of the cgroup: that it asked for (connected), that failed, and that came to it (accepted).",
    &["cgroup", "kind"],
);
static CGROUP_CONNECT_TIME: Family = Family::counter(
    "collector_cgroup_tcp_connect_seconds_total",
    "Time that the cgroup's connects took, summed over those that succeeded.",
    &["cgroup"],
);
static CGROUP_RETRANSMITS: Family = Family::counter(
    "collector_cgroup_tcp_retransmits_total",
    "Segments that were sent once more for the cgroup.",
    &["cgroup"],
);
static CGROUP_RESETS: Family = Family::counter(
    "collector_cgroup_tcp_resets_total",
    "Resets that were sent, and received, by sockets of the cgroup.",
    &["cgroup", "direction"],
);

pub(super) static PROBE: Probe = Probe {
    name: "tcp",
    about: "TCP connects, round-trip times, retransmits, resets, changes of state",
    default_on: true,
    hooks: &[HOOKS],
    needs: "sock, tcp_sock.srtt_us, sock_cgroup_data, cgroup",
    families: &[
        &CONNECT,
        &FAILURES,
        &SRTT,
        &CHANGES,
        &RETRANSMITS,
        &RESETS,
        &CGROUP_CONNECTIONS,
        &CGROUP_CONNECT_TIME,
        &CGROUP_RETRANSMITS,
        &CGROUP_RESETS,
    ],
    start: |ground| Ok(Box::new(Tcp::start(ground)?)),
};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../collector-ebpf/prebuilt/tcp.o");

const HOOKS: &[Hook] = &[
    Hook::new("inet_sock_set_state", "tcp_set_state", "raw_tcp_state"),
    Hook::new("tcp_retransmit_skb", "tcp_retransmit", "raw_tcp_retrans"),
    Hook::new("tcp_send_reset", "tcp_reset_sent", "raw_tcp_rst_out"),
    Hook::new("tcp_receive_reset", "tcp_reset_recv", "raw_tcp_rst_in"),
];

struct Tcp {
    host: KernelMap,
    times: Histogram,
    cgroups: Option<CgroupSlots>,
    programs: Vec<RunningProgram>,
}

impl Tcp {
    fn start(ground: &mut Ground<'_>) -> Result<Self, ProbeError> {
        let mut find = ground.finder()?;
        let socket = look_up(&mut find)?;
        let form = find.socket_cgroup(socket);
        let mut constants = find.constants;
        let cgroups = ground.socket_cgroups(PROBE.name, form, &mut constants);
        let InRows { loaded, rows, cgroups } =
            ground.load_in_rows(OBJECT, constants, &[("HOST", 1)], cgroups.as_ref(), HOOKS)?;
        Ok(Tcp {
            host: loaded.map::<HostBank>("HOST", rows)?,
            times: Histogram::new(&counts::TIMES),
            cgroups,
            programs: loaded.attach()?,
        })
    }

    fn read_changes(&self, out: &mut Recorder) {
        for (from, old) in STATES.iter().enumerate() {
            for (to, new) in STATES.iter().enumerate() {
                let at = offset_of!(HostBank, changes) / 8 + from * STATES.len() + to;
                let rows = counts::rows(&self.host);
                let count: u64 = rows.map(|row| row[at].load(Ordering::Relaxed)).sum();
                if count > 0 {
                    out.put(&CHANGES, &[old, new], counts::number(count));
                }
            }
        }
    }
}

/// Finds what the probe needs. Returns the struct of a socket.
fn look_up(find: &mut Finder<'_>) -> Result<u32, ProbeError> {
    let socket = find.btf.structure("sock")?;
    for hook in HOOKS {
        find.tracepoint(hook.tracepoint, &[(0, socket)])?;
    }
    find.member(socket, "__sk_common.skc_family", 2, "SOCK_FAMILY")?;
    find.member(socket, "sk_protocol", 2, "SOCK_PROTOCOL")?;
    let tcp = find.btf.structure("tcp_sock")?;
    find.member(tcp, "srtt_us", 4, "TCP_SRTT")?;
    Ok(socket)
}

impl Running for Tcp {
    fn programs(&self) -> &[RunningProgram] {
        &self.programs
    }

    fn cgroups(&mut self) -> Option<&mut CgroupSlots> {
        self.cgroups.as_mut()
    }

    fn read(&mut self, out: &mut Recorder) {
        for (family, at) in [(&CONNECT, offset_of!(HostBank, connect)), (&SRTT, offset_of!(HostBank, srtt))] {
            out.histogram(family, &[], &self.times.read(counts::rows(&self.host), at, at + 8));
        }
        for (family, at) in
            [(&FAILURES, offset_of!(HostBank, failures)), (&RETRANSMITS, offset_of!(HostBank, retransmits))]
        {
            for (number, name) in FAMILIES.iter().enumerate() {
                out.put(family, &[name], counts::sum(&self.host, at + number * 8));
            }
        }
        out.put(&RESETS, &["sent"], counts::sum(&self.host, offset_of!(HostBank, resets_sent)));
        out.put(&RESETS, &["received"], counts::sum(&self.host, offset_of!(HostBank, resets_received)));
        self.read_changes(out);
        let Some(cgroups) = &self.cgroups else { return };
        let number = |counts: &Counts, of: usize| counts::number(counts[of]);
        for (path, counts) in cgroups.named() {
            out.put(&CGROUP_CONNECTIONS, &[path, "connected"], number(counts, shared::CONNECTED));
            out.put(&CGROUP_CONNECTIONS, &[path, "failed"], number(counts, shared::FAILED));
            out.put(&CGROUP_CONNECTIONS, &[path, "accepted"], number(counts, shared::ACCEPTED));
        }
        for (path, counts) in cgroups.named() {
            out.put(&CGROUP_CONNECT_TIME, &[path], counts::seconds(counts[shared::CONNECT_NS]));
        }
        for (path, counts) in cgroups.named() {
            out.put(&CGROUP_RETRANSMITS, &[path], number(counts, shared::RETRANSMITS));
        }
        for (path, counts) in cgroups.named() {
            out.put(&CGROUP_RESETS, &[path, "sent"], number(counts, shared::RESETS_SENT));
            out.put(&CGROUP_RESETS, &[path, "received"], number(counts, shared::RESETS_RECEIVED));
        }
    }

    fn lost(&self, lose: &mut dyn FnMut(&'static str, f64)) {
        lose("cgroup_slots", counts::sum(&self.host, offset_of!(HostBank, cgroup_slots)));
        lose("connect_slots", counts::sum(&self.host, offset_of!(HostBank, connect_slots)));
    }
}
