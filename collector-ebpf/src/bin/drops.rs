//! The probe of dropped packets: how many the kernel threw away, by protocol and by the reason that it gives.
//!
//! Kernel interface: the tracepoint `kfree_skb`, whose third argument is the reason (since 5.17).
//!
//! Cost: some 100 ns a dropped packet, nothing for the others. It refuses what the kernel has used up and only then freed.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel_side {
    use aya_ebpf::bindings::BPF_F_MMAPABLE;
    use aya_ebpf::helpers::bpf_get_smp_processor_id;
    use aya_ebpf::macros::map;
    use aya_ebpf::maps::Array;
    use collector_ebpf::drops::{HostBank, REASONS};
    use collector_ebpf::kernel::{Arguments, Object, Read, add, masked};
    use collector_ebpf::{constants, object, programs};

    #[map]
    static HOST: Array<HostBank> = Array::with_max_entries(1, BPF_F_MMAPABLE);

    constants! {
        /// Offset within `struct sk_buff`.
        SKB_PROTOCOL,
        /// Whether the tracepoint gives a reason.
        HAS_REASON,
        /// One less than the rows, which are a power of two.
        ROW_MASK,
    }

    // As the packet has them: the high byte first.
    const IPV4: u16 = 0x0800u16.to_be();
    const IPV6: u16 = 0x86ddu16.to_be();

    fn drop_packet<R: Read, C: Arguments>(context: &C) {
        let packet: Object = context.argument(0);
        let reason = if HAS_REASON.load() != 0 { context.argument::<u32>(2) as usize } else { 0 };
        // SAFETY: a helper without conditions.
        let row = unsafe { bpf_get_smp_processor_id() } & ROW_MASK.load();
        let Some(bank) = HOST.get_ptr_mut(row) else { return };
        // SAFETY: a member of `sk_buff`.
        let protocol: u16 = unsafe { R::member(packet, SKB_PROTOCOL.load()) };
        let protocol = match protocol {
            IPV4 => 0,
            IPV6 => 1,
            _ => 2,
        };
        let reason = if reason < REASONS { reason } else { REASONS - 1 };
        let index = masked::<1023>(protocol * REASONS + reason);
        // SAFETY: the map's memory lives as long as the program, and holds nothing but numbers.
        let drops = unsafe { (*bank).drops.as_flattened_mut() };
        if index < drops.len() {
            add(&mut drops[index], 1);
        }
    }

    programs! {
        "kfree_skb" => packet_drop, raw_packet_drop: drop_packet;
    }

    object!();
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
