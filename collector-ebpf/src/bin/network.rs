//! The network probe: bytes and packets by the cgroup of the socket that receives or sends them.
//!
//! Kernel interface: `cgroup_skb` programs at the root of the hierarchy of version 2, which the kernel runs for each packet
//! of every cgroup below, whatever its network namespace. They let every packet pass.
//!
//! Cost: some 50 ns a packet; that is why the probe is off by default. A packet that the kernel has put together of several
//! (GSO, GRO) is one here in bytes, and as many as it stands for in packets. It refuses packets without a socket: what is
//! forwarded.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel_side {
    use aya_ebpf::bindings::BPF_F_MMAPABLE;
    use aya_ebpf::helpers::bpf_get_smp_processor_id;
    use aya_ebpf::helpers::generated::bpf_skb_cgroup_id;
    use aya_ebpf::macros::{cgroup_skb, map};
    use aya_ebpf::maps::Array;
    use aya_ebpf::programs::SkBuffContext;
    use collector_ebpf::cgroups::{CgroupSet, MIN_SETS, cgroup_set};
    use collector_ebpf::kernel::{add, slot_of};
    use collector_ebpf::network::{HostBank, RECEIVE, TRANSMIT, bytes_of, packets_of};
    use collector_ebpf::{constants, object};

    #[map]
    static HOST: Array<HostBank> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    /// Rows of sets of cgroup slots.
    #[map]
    static CGROUPS: Array<CgroupSet> = Array::with_max_entries(MIN_SETS, BPF_F_MMAPABLE);

    constants! {
        /// Sets of cgroup slots in a row, a power of two.
        CGROUP_SETS,
        /// One less than the rows, which are a power of two.
        ROW_MASK,
    }

    #[inline(always)]
    fn count(context: &SkBuffContext, direction: usize) {
        let packet = context.skb.skb;
        // SAFETY: helpers without conditions, and members of the packet that the kernel gives; the maps' memory lives as long
        // as the program, and holds but numbers.
        unsafe {
            let id = bpf_skb_cgroup_id(packet);
            let row = bpf_get_smp_processor_id() & ROW_MASK.load();
            if id == 0 {
                return;
            }
            let Some(set) = CGROUPS.get_ptr_mut(cgroup_set(row, CGROUP_SETS.load(), id)) else { return };
            let (Some(slot), _) = slot_of(&mut *set, id) else {
                if let Some(bank) = HOST.get_ptr_mut(row) {
                    add(&mut (*bank).cgroup_slots, 1);
                }
                return;
            };
            let packets = u64::from((*packet).gso_segs).max(1);
            add(&mut slot.counts[bytes_of(direction)], u64::from((*packet).len));
            add(&mut slot.counts[packets_of(direction)], packets);
        }
    }

    #[cgroup_skb(ingress)]
    fn net_receive(context: SkBuffContext) -> i32 {
        count(&context, RECEIVE);
        1
    }

    #[cgroup_skb(egress)]
    fn net_transmit(context: SkBuffContext) -> i32 {
        count(&context, TRANSMIT);
        1
    }

    object!();
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
