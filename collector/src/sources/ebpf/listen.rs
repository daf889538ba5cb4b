//! The probe of accept queues: connections that meet a listening socket whose queue is full, for the host and by the
//! socket's cgroup.
//!
//! Kernel interface: the start (fentry) of `tcp_conn_request`, `tcp_v4_syn_recv_sock` and `tcp_v6_syn_recv_sock`, which a
//! kernel that is locked down refuses. Cost: in the kernel some loads for each SYN and each handshake, a tick some
//! microseconds. What it counts is what /proc/net/netstat has as ListenOverflows, but for all network namespaces. Sockets
//! belong to cgroups of version 2 alone.

use std::mem::offset_of;

use collector_ebpf::listen::{HostBank, OVERFLOWS, STAGES};

use super::cgroup_slots::CgroupSlots;
use super::counts;
use super::ground::{Ground, Hook};
use super::kernel_map::KernelMap;
use super::layout::Finder;
use super::load::{Attach, ProbeError, RunningProgram, Way};
use super::{Probe, Running};
use crate::model::{Family, Recorder};

static OVERFLOWED: Family = Family::counter(
    "collector_tcp_accept_queue_overflows_total",
    "How often a connection met a full accept queue, in all network namespaces: when it was asked for (syn), or at the end of its handshake.",
    &["stage"],
);
static CGROUP_OVERFLOWED: Family = Family::counter(
    "collector_cgroup_tcp_accept_queue_overflows_total",
    "How often a connection met a full accept queue of a listening socket of the cgroup.",
    &["cgroup"],
);

pub(super) static PROBE: Probe = Probe {
    name: "listen",
    about: "connections that meet a full accept queue, by cgroup",
    default_on: true,
    hooks: &[HOOKS, HOOKS_V6],
    needs: "fentry (no lockdown), sock, net, inet_connection_sock, cgroup",
    families: &[&OVERFLOWED, &CGROUP_OVERFLOWED],
    start: |ground| Ok(Box::new(Listen::start(ground)?)),
};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../collector-ebpf/prebuilt/listen.o");

const HOOKS: &[Hook] = &[
    Hook::new("tcp_conn_request", "listen_syn", "listen_syn"),
    Hook::new("tcp_v4_syn_recv_sock", "listen_done", "listen_done"),
];
/// Where IPv6 is a part of the kernel, and neither left out nor a module.
const HOOKS_V6: &[Hook] = &[Hook::new("tcp_v6_syn_recv_sock", "listen_done_v6", "listen_done_v6")];

struct Listen {
    host: KernelMap,
    cgroups: Option<CgroupSlots>,
    programs: Vec<RunningProgram>,
}

impl Listen {
    fn start(ground: &mut Ground<'_>) -> Result<Self, ProbeError> {
        let mut find = ground.finder()?;
        let socket = look_up(&mut find)?;
        let attach = |hook: &Hook| {
            let way = Way::Entry(ground.function(&find, hook.tracepoint)?);
            Ok(Attach { program: hook.typed, target: hook.tracepoint, way })
        };
        let mut programs = HOOKS.iter().map(attach).collect::<Result<Vec<_>, ProbeError>>()?;
        programs.extend(HOOKS_V6.iter().filter_map(|hook| attach(hook).ok()));
        let form = find.socket_cgroup(socket);
        let mut constants = find.constants;
        let cgroups = ground.socket_cgroups(PROBE.name, form, &mut constants);
        let plan = ground.in_rows(constants, &[("HOST", 1)], cgroups.as_ref());
        let loaded = ground.load_all(OBJECT, &plan.constants, &plan.sizes, &programs)?;
        Ok(Listen {
            host: loaded.map::<HostBank>("HOST", plan.rows)?,
            cgroups: cgroups.map(|cgroups| cgroups.slots(&loaded, plan.sets)).transpose()?,
            programs: loaded.attach()?,
        })
    }
}

/// Finds what the programs look at, and returns the struct of a socket.
fn look_up(find: &mut Finder<'_>) -> Result<u32, ProbeError> {
    let socket = find.btf.structure("sock")?;
    find.member(socket, "sk_ack_backlog", 4, "SOCK_QUEUED")?;
    find.member(socket, "sk_max_ack_backlog", 4, "SOCK_QUEUE_LIMIT")?;
    let net = find.pointer(socket, "__sk_common.skc_net.net", "SOCK_NET")?;
    // A whole number of four bytes before it was one of one: in the first of them is what is asked for.
    find.member(net, "ipv4.sysctl_tcp_syncookies", 1, "NET_COOKIES")?;
    let listener = find.btf.structure("inet_connection_sock")?;
    find.member(listener, "icsk_accept_queue.qlen", 4, "SOCK_REQUESTS")?;
    let packet = find.btf.structure("sk_buff")?;
    find.member(packet, "protocol", 2, "PACKET_PROTOCOL")?;
    let own = find.btf.member(packet, "cb")?.offset;
    let known = find.btf.structure("tcp_skb_cb").and_then(|cb| find.btf.member(cb, "tcp_tw_isn"));
    find.set("PACKET_TIME_WAIT", known.map_or(0, |member| own + member.offset));
    Ok(socket)
}

impl Running for Listen {
    fn programs(&self) -> &[RunningProgram] {
        &self.programs
    }

    fn cgroups(&mut self) -> Option<&mut CgroupSlots> {
        self.cgroups.as_mut()
    }

    fn read(&mut self, out: &mut Recorder) {
        for (number, stage) in STAGES.iter().enumerate() {
            let at = offset_of!(HostBank, overflows) + number * 8;
            out.put(&OVERFLOWED, &[stage], counts::sum(&self.host, at));
        }
        let Some(cgroups) = &self.cgroups else { return };
        for (path, counts) in cgroups.named() {
            out.put(&CGROUP_OVERFLOWED, &[path], counts::number(counts[OVERFLOWS]));
        }
    }

    fn lost(&self, lose: &mut dyn FnMut(&'static str, f64)) {
        lose("cgroup_slots", counts::sum(&self.host, offset_of!(HostBank, cgroup_slots)));
    }
}
