//! The TCP probe: how long connects take and how many fail, changes of state, round-trip times when connections close,
//! retransmits and resets; for the host and by cgroup.
//!
//! Kernel interface: the tracepoints `inet_sock_set_state`, `tcp_retransmit_skb`, `tcp_send_reset` and
//! `tcp_receive_reset`. No packet is looked at: what it costs, it costs a connection, a retransmit or a reset.
//!
//! It refuses other protocols that share the tracepoint, and resets for which there is no socket in the cgroups' counts.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel_side {
    use aya_ebpf::bindings::BPF_F_MMAPABLE;
    use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
    use aya_ebpf::macros::map;
    use aya_ebpf::maps::Array;
    use collector_ebpf::cgroups::{CgroupSet, MIN_SETS, cgroup_set};
    use collector_ebpf::kernel::{Arguments, Object, Probed, Read, add, count_time, masked, slot_of};
    use collector_ebpf::tcp::{
        ACCEPTED, CLOSE, CONNECT_NS, CONNECTED, ESTABLISHED, FAILED, HostBank, RESETS_RECEIVED, RESETS_SENT,
        RETRANSMITS, STARTED_BITS, SYN_RECV, SYN_SENT, Started, started_place,
    };
    use collector_ebpf::{constants, object, programs, socket_cgroup};

    #[map]
    static HOST: Array<HostBank> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    /// Rows of sets of cgroup slots.
    #[map]
    static CGROUPS: Array<CgroupSet> = Array::with_max_entries(MIN_SETS, BPF_F_MMAPABLE);
    #[map]
    static STARTED: Array<Started> = Array::with_max_entries(1 << STARTED_BITS, 0);

    constants! {
        /// Offsets within `struct sock` and `tcp_sock`.
        SOCK_FAMILY,
        SOCK_PROTOCOL,
        TCP_SRTT,
        /// Sets of cgroup slots in a row, a power of two.
        CGROUP_SETS,
        /// One less than the rows, which are a power of two.
        ROW_MASK,
    }

    socket_cgroup!();

    const AF_INET6: u16 = 10;
    const IPPROTO_TCP: u16 = 6;

    /// This CPU's row.
    #[inline(always)]
    fn host() -> Option<(u32, &'static mut HostBank)> {
        // SAFETY: a helper without conditions; the map's memory lives as long as the program, and holds but numbers.
        let row = unsafe { bpf_get_smp_processor_id() } & ROW_MASK.load();
        HOST.get_ptr_mut(row).map(|bank| (row, unsafe { &mut *bank }))
    }

    /// Counts `by` in a counter of the socket's cgroup.
    #[inline(always)]
    fn count_for_cgroup<R: Read>(row: u32, bank: &mut HostBank, socket: Object, counters: &[(usize, u64)]) {
        let id = socket_cgroup::<R>(socket);
        if id == 0 {
            return;
        }
        let Some(set) = CGROUPS.get_ptr_mut(cgroup_set(row, CGROUP_SETS.load(), id)) else { return };
        // SAFETY: as in `host`.
        let (Some(slot), _) = slot_of(unsafe { &mut *set }, id) else {
            return add(&mut bank.cgroup_slots, 1);
        };
        for &(counter, by) in counters {
            add(&mut slot.counts[counter], by);
        }
    }

    /// Index of the socket's address family.
    #[inline(always)]
    fn family<R: Read>(socket: Object) -> usize {
        // SAFETY: a member of `sock`.
        usize::from(unsafe { R::member::<u16>(socket, SOCK_FAMILY.load()) } == AF_INET6)
    }

    fn change<R: Read, C: Arguments>(context: &C) {
        let socket: Object = context.argument(0);
        let from = masked::<15>(context.argument::<u32>(1) as usize);
        let to = masked::<15>(context.argument::<u32>(2) as usize);
        // SAFETY: a member of `sock`.
        if unsafe { R::member::<u16>(socket, SOCK_PROTOCOL.load()) } != IPPROTO_TCP {
            return;
        }
        let Some((row, bank)) = host() else { return };
        add(&mut bank.changes[from][to], 1);
        if to == SYN_SENT {
            if let Some((number, slot)) = place_of::<R>(socket) {
                // SAFETY: as in `host`, and a helper without conditions; a place that another socket takes at this moment is
                // lost to this one.
                unsafe { *slot = Started { socket: number, ns: bpf_ktime_get_ns() } };
            }
        } else if from == SYN_SENT {
            if to == ESTABLISHED {
                // SAFETY: a helper without conditions.
                let now = unsafe { bpf_ktime_get_ns() };
                let waited = now.saturating_sub(started::<R>(socket));
                if waited == now {
                    add(&mut bank.connect_slots, 1);
                } else {
                    count_time(&mut bank.connect, waited);
                    count_for_cgroup::<R>(row, bank, socket, &[(CONNECTED, 1), (CONNECT_NS, waited)]);
                }
            } else {
                add(&mut bank.failures[family::<R>(socket)], 1);
                count_for_cgroup::<R>(row, bank, socket, &[(FAILED, 1)]);
            }
        } else if from == SYN_RECV && to == ESTABLISHED {
            count_for_cgroup::<R>(row, bank, socket, &[(ACCEPTED, 1)]);
        }
        if to == CLOSE {
            // SAFETY: a `tcp_sock` begins with its `sock`. The verifier knows the latter, so that this is checked.
            let srtt: u32 = unsafe { Probed::member(socket, TCP_SRTT.load()) };
            // In eighths of a microsecond; 0 where none was measured.
            if srtt != 0 {
                count_time(&mut bank.srtt, u64::from(srtt) * 125);
            }
        }
    }

    /// The number of a socket, and the place where its beginning is kept.
    #[inline(always)]
    fn place_of<R: Read>(socket: Object) -> Option<(u64, *mut Started)> {
        let number = R::number(socket, STARTED.get_ptr(0)?.cast());
        Some((number, STARTED.get_ptr_mut(started_place(number))?))
    }

    /// When the socket began to connect, 0 where nobody knows.
    #[inline(always)]
    fn started<R: Read>(socket: Object) -> u64 {
        match place_of::<R>(socket) {
            // SAFETY: as in `host`.
            Some((number, slot)) if unsafe { (*slot).socket } == number => unsafe { (*slot).ns },
            _ => 0,
        }
    }

    fn retransmit<R: Read, C: Arguments>(context: &C) {
        let socket: Object = context.argument(0);
        let Some((row, bank)) = host() else { return };
        add(&mut bank.retransmits[family::<R>(socket)], 1);
        count_for_cgroup::<R>(row, bank, socket, &[(RETRANSMITS, 1)]);
    }

    fn send_reset<R: Read, C: Arguments>(context: &C) {
        let socket: Object = context.argument(0);
        let Some((row, bank)) = host() else { return };
        add(&mut bank.resets_sent, 1);
        // There is no socket where a packet came for a port that nobody has.
        if socket.is_null() {
            return;
        }
        count_for_cgroup::<R>(row, bank, socket, &[(RESETS_SENT, 1)]);
    }

    fn receive_reset<R: Read, C: Arguments>(context: &C) {
        let socket: Object = context.argument(0);
        let Some((row, bank)) = host() else { return };
        add(&mut bank.resets_received, 1);
        count_for_cgroup::<R>(row, bank, socket, &[(RESETS_RECEIVED, 1)]);
    }

    programs! {
        "inet_sock_set_state" => tcp_set_state, raw_tcp_state: change;
        "tcp_retransmit_skb" => tcp_retransmit, raw_tcp_retrans: retransmit;
        "tcp_send_reset" => tcp_reset_sent, raw_tcp_rst_out: send_reset;
        "tcp_receive_reset" => tcp_reset_recv, raw_tcp_rst_in: receive_reset;
    }

    object!();
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
