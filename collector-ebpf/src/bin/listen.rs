//! The probe of accept queues: connections that meet a listening socket whose queue is full, for the host and by the
//! socket's cgroup. What it counts is what the kernel counts as `ListenOverflows`, of all network namespaces.
//!
//! Kernel interface: the start (fentry) of `tcp_conn_request`, which is given a SYN, and of `tcp_v4_syn_recv_sock` and
//! `tcp_v6_syn_recv_sock`, which make the connection at the end of its handshake. Each of them looks at the queue by itself:
//! the programs ask what the function is about to ask.
//!
//! Cost: some loads a SYN and a handshake. It refuses what other protocols count under the same name (DCCP, SMC).
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel_side {
    use aya_ebpf::bindings::BPF_F_MMAPABLE;
    use aya_ebpf::helpers::bpf_get_smp_processor_id;
    use aya_ebpf::macros::{fentry, map};
    use aya_ebpf::maps::Array;
    use aya_ebpf::programs::FEntryContext;
    use collector_ebpf::cgroups::{CgroupSet, MIN_SETS, cgroup_set};
    use collector_ebpf::kernel::{Direct, Object, Probed, Read, add, slot_of};
    use collector_ebpf::listen::{HANDSHAKE, HostBank, OVERFLOWS, SYN};
    use collector_ebpf::{constants, object, socket_cgroup};

    #[map]
    static HOST: Array<HostBank> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    /// Rows of sets of cgroup slots.
    #[map]
    static CGROUPS: Array<CgroupSet> = Array::with_max_entries(MIN_SETS, BPF_F_MMAPABLE);

    constants! {
        /// Offsets within `struct sock`.
        SOCK_QUEUED,
        SOCK_QUEUE_LIMIT,
        SOCK_NET,
        /// Offset within `struct net`.
        NET_COOKIES,
        /// Offset of how many handshakes are under way, within `inet_connection_sock`.
        SOCK_REQUESTS,
        /// Offset within `sk_buff`.
        PACKET_PROTOCOL,
        /// Offset within `sk_buff` of the sequence number that a SYN for a connection in TIME_WAIT is given; 0 where the
        /// kernel keeps it elsewhere.
        PACKET_TIME_WAIT,
        /// Sets of cgroup slots in a row, a power of two.
        CGROUP_SETS,
        /// One less than the rows, which are a power of two.
        ROW_MASK,
    }
    socket_cgroup!();

    /// `ETH_P_IP`, as it stands in a packet.
    const IPV4: u16 = 0x0800_u16.to_be();

    /// Whether the queue of a listening socket is full, as `sk_acceptq_is_full` has it.
    #[inline(always)]
    fn is_full(socket: Object) -> bool {
        // SAFETY: members of `sock`.
        unsafe {
            let queued: u32 = Direct::member(socket, SOCK_QUEUED.load());
            queued > Direct::member(socket, SOCK_QUEUE_LIMIT.load())
        }
    }

    /// Whether the kernel throws a SYN away before it looks at the queue: without cookies, when too many handshakes are under
    /// way, unless the connection was known before.
    #[inline(always)]
    fn is_thrown_away(socket: Object, packet: Object) -> bool {
        // SAFETY: members of `net`, of `sock` and of what begins with one, and of `sk_buff`.
        unsafe {
            let net: Object = Direct::member(socket, SOCK_NET.load());
            let cookies: u8 = Direct::member(net, NET_COOKIES.load());
            if cookies != 0 {
                return false;
            }
            // The verifier knows a `sock`, and not what it is the beginning of.
            let requests: u32 = Probed::member(socket, SOCK_REQUESTS.load());
            let known: u32 = match PACKET_TIME_WAIT.load() {
                0 => 0,
                offset => Probed::member(packet, offset),
            };
            // Kernels before 2025 throw away one sooner.
            known == 0 && requests > Direct::member(socket, SOCK_QUEUE_LIMIT.load())
        }
    }

    #[inline(always)]
    fn count(stage: usize, socket: Object) {
        // SAFETY: a helper without conditions; the maps' memory lives as long as the program, and holds but numbers.
        let row = unsafe { bpf_get_smp_processor_id() } & ROW_MASK.load();
        let Some(bank) = HOST.get_ptr_mut(row).map(|bank| unsafe { &mut *bank }) else { return };
        add(&mut bank.overflows[stage], 1);
        let id = socket_cgroup::<Direct>(socket);
        if id == 0 {
            return;
        }
        let Some(set) = CGROUPS.get_ptr_mut(cgroup_set(row, CGROUP_SETS.load(), id)) else { return };
        // SAFETY: as above.
        let (Some(slot), _) = slot_of(unsafe { &mut *set }, id) else {
            return add(&mut bank.cgroup_slots, 1);
        };
        add(&mut slot.counts[OVERFLOWS], 1);
    }

    #[fentry(function = "tcp_conn_request")]
    fn listen_syn(context: FEntryContext) -> i32 {
        let (socket, packet): (Object, Object) = (context.arg(2), context.arg(3));
        if is_full(socket) && !is_thrown_away(socket, packet) {
            count(SYN, socket);
        }
        0
    }

    #[fentry(function = "tcp_v4_syn_recv_sock")]
    fn listen_done(context: FEntryContext) -> i32 {
        let socket: Object = context.arg(0);
        if is_full(socket) {
            count(HANDSHAKE, socket);
        }
        0
    }

    #[fentry(function = "tcp_v6_syn_recv_sock")]
    fn listen_done_v6(context: FEntryContext) -> i32 {
        let (socket, packet): (Object, Object) = (context.arg(0), context.arg(1));
        // What comes over IPv4 is handed on to the function above.
        // SAFETY: a member of `sk_buff`.
        if is_full(socket) && unsafe { Direct::member::<u16>(packet, PACKET_PROTOCOL.load()) } != IPV4 {
            count(HANDSHAKE, socket);
        }
        0
    }

    object!();
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
