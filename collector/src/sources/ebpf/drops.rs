//! The probe of dropped packets: how many the kernel threw away, by protocol and by the reason that it gives.
//!
//! Kernel interface: the tracepoint `kfree_skb`; the names of its reasons are those of `enum skb_drop_reason`, read from
//! the kernel's BTF once. Cost: nothing but for a dropped packet. Kernels before 5.17 give no reason: all have the empty one.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use collector_ebpf::drops::{HostBank, PROTOCOLS, REASONS};

use super::counts;
use super::ground::{Ground, Hook};
use super::kernel_map::KernelMap;
use super::load::{ProbeError, RunningProgram};
use super::{Probe, Running};
use crate::model::{Family, Recorder};

static DROPS: Family = Family::counter(
    "collector_network_drops_total",
    "Packets that the kernel threw away, by the protocol of the packet and by the kernel's name for the reason.",
    &["protocol", "reason"],
);

pub(super) static PROBE: Probe = Probe {
    name: "drops",
    about: "packets that the kernel dropped, by its reason",
    default_on: true,
    hooks: &[HOOKS],
    needs: "sk_buff.protocol, enum skb_drop_reason (5.17)",
    families: &[&DROPS],
    start: |ground| Ok(Box::new(Drops::start(ground)?)),
};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../collector-ebpf/prebuilt/drops.o");

const HOOKS: &[Hook] = &[Hook::new("kfree_skb", "packet_drop", "raw_packet_drop")];

/// What the names of reasons begin with.
const PREFIX: &str = "SKB_DROP_REASON_";
/// The reason of all that have a number above those that are counted one by one.
const OTHER: &str = "OTHER";

struct Drops {
    host: KernelMap,
    /// By number; those without a name are not known by this kernel.
    reasons: Vec<String>,
    programs: Vec<RunningProgram>,
}

impl Drops {
    fn start(ground: &mut Ground<'_>) -> Result<Self, ProbeError> {
        let mut find = ground.finder()?;
        let packet = find.btf.structure("sk_buff")?;
        let arguments = find.tracepoint("kfree_skb", &[(0, packet)])?;
        find.member(packet, "protocol", 2, "SKB_PROTOCOL")?;
        let mut reasons = vec![String::new(); REASONS];
        let gives_reason = arguments.get(2).is_some_and(|&reason| find.btf.name(reason) == "skb_drop_reason");
        if gives_reason {
            for (number, name) in find.btf.enumerators("skb_drop_reason")? {
                if let Some(reason) = reasons.get_mut(number as usize) {
                    *reason = name.strip_prefix(PREFIX).unwrap_or(&name).to_owned();
                }
            }
            reasons[REASONS - 1] = OTHER.to_owned();
        }
        find.set("HAS_REASON", u32::from(gives_reason));
        let rows = ground.rows();
        find.set("ROW_MASK", rows as u32 - 1);
        let loaded = ground.load(OBJECT, &find.constants, &[("HOST", rows)], HOOKS)?;
        let host = loaded.map::<HostBank>("HOST", rows)?;
        Ok(Drops { host, reasons, programs: loaded.attach()? })
    }
}

impl Running for Drops {
    fn programs(&self) -> &[RunningProgram] {
        &self.programs
    }

    fn read(&mut self, out: &mut Recorder) {
        for (number, protocol) in PROTOCOLS.iter().enumerate() {
            let first = offset_of!(HostBank, drops) / 8 + number * REASONS;
            for (reason, name) in self.reasons.iter().enumerate() {
                let rows = counts::rows(&self.host);
                let count: u64 = rows.map(|row| row[first + reason].load(Ordering::Relaxed)).sum();
                if count > 0 {
                    out.put(&DROPS, &[protocol, name], counts::number(count));
                }
            }
        }
    }

    fn lost(&self, _: &mut dyn FnMut(&'static str, f64)) {}
}
