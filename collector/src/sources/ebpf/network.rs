//! The network probe: bytes and packets by cgroup, those of containers that share the host's network, or one another's,
//! told apart as well.
//!
//! Kernel interface: `cgroup_skb` programs at the root of the cgroup hierarchy of version 2; it needs CAP_NET_ADMIN too.
//! Cost: in the kernel some 50 ns a packet, a tick some microseconds and no system call.

use std::fs::File;
use std::mem::offset_of;
use std::os::fd::AsFd;

use collector_ebpf::network::{self as shared, DIRECTIONS, HostBank};

use super::cgroup_slots::CgroupSlots;
use super::counts;
use super::ground::{Ground, Hook};
use super::kernel_map::KernelMap;
use super::layout::Constants;
use super::load::{Attach, ProbeError, RunningProgram, Way};
use super::{Probe, Running};
use crate::model::{Family, Recorder};

static BYTES: Family = Family::counter(
    "collector_cgroup_network_bytes_total",
    "Bytes of IP packets that sockets of the cgroup received or sent, with their IP headers.",
    &["cgroup", "direction"],
);
static PACKETS: Family = Family::counter(
    "collector_cgroup_network_packets_total",
    "IP packets that sockets of the cgroup received or sent.",
    &["cgroup", "direction"],
);

pub(super) static PROBE: Probe = Probe {
    name: "network",
    about: "bytes and packets by cgroup",
    default_on: false,
    hooks: &[HOOKS],
    needs: "cgroup version 2, CAP_NET_ADMIN",
    families: &[&BYTES, &PACKETS],
    start: |ground| Ok(Box::new(Network::start(ground)?)),
};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../collector-ebpf/prebuilt/network.o");

const HOOKS: &[Hook] = &[
    Hook::new("cgroup_skb/ingress", "net_receive", "net_receive"),
    Hook::new("cgroup_skb/egress", "net_transmit", "net_transmit"),
];

struct Network {
    host: KernelMap,
    cgroups: CgroupSlots,
    programs: Vec<RunningProgram>,
}

impl Network {
    fn start(ground: &mut Ground<'_>) -> Result<Self, ProbeError> {
        let mount = ground.hierarchies.unified.clone();
        let mount = mount.ok_or_else(|| ProbeError::NotSupported("a mounted cgroup version 2".to_owned()))?;
        let root = File::open(&mount)
            .map_err(|source| ProbeError::Io { what: "opening the root of the cgroups", source })?;
        let cgroups = ground.cgroups_under(&mount);
        let programs = HOOKS.iter().zip([Way::Ingress, Way::Egress]);
        let programs: Vec<_> = programs
            .map(|(hook, way)| Attach { program: hook.typed, target: hook.tracepoint, way })
            .collect();
        let plan = ground.in_rows(Constants::new(), &[("HOST", 1)], Some(&cgroups));
        let loaded = ground.load_all(OBJECT, &plan.constants, &plan.sizes, &programs)?;
        Ok(Network {
            host: loaded.map::<HostBank>("HOST", plan.rows)?,
            cgroups: cgroups.slots(&loaded, plan.sets)?,
            programs: loaded.attach_to(Some(root.as_fd()))?,
        })
    }
}

impl Running for Network {
    fn programs(&self) -> &[RunningProgram] {
        &self.programs
    }

    fn cgroups(&mut self) -> Option<&mut CgroupSlots> {
        Some(&mut self.cgroups)
    }

    fn read(&mut self, out: &mut Recorder) {
        for (family, of) in [(&BYTES, shared::bytes_of as fn(usize) -> usize), (&PACKETS, shared::packets_of)]
        {
            for (path, counts) in self.cgroups.named() {
                for (number, direction) in DIRECTIONS.iter().enumerate() {
                    out.put(family, &[path, direction], counts::number(counts[of(number)]));
                }
            }
        }
    }

    fn lost(&self, lose: &mut dyn FnMut(&'static str, f64)) {
        lose("cgroup_slots", counts::sum(&self.host, offset_of!(HostBank, cgroup_slots)));
    }
}
