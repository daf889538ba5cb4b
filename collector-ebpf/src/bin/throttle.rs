//! The probe of CPU throttling: how long the run queue of a cgroup on a CPU was held back because the cgroup had used up
//! its CPU time (`cpu.max`), each time; for the host and by cgroup.
//!
//! Kernel interface: `unthrottle_cfs_rq`, at its start and at its end (fentry, fexit), which is given the run queue. The
//! kernel itself keeps since when it is throttled (`throttled_clock`), on the clock of the CPU's run queue; the function sets
//! that clock, and adds the difference to `throttled_usec` of cpu.stat. So what is summed here is what is added there.
//! `throttle_cfs_rq` is not looked at: it is not everywhere a function of its own.
//!
//! Cost: two short programs each time a run queue is let go, and nothing where nobody has such a limit.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel_side {
    use aya_ebpf::bindings::BPF_F_MMAPABLE;
    use aya_ebpf::helpers::bpf_get_smp_processor_id;
    use aya_ebpf::macros::{fentry, fexit, map};
    use aya_ebpf::maps::Array;
    use aya_ebpf::programs::{FEntryContext, FExitContext};
    use collector_ebpf::cgroups::{CgroupSet, MIN_SETS, cgroup_set};
    use collector_ebpf::kernel::{Direct, Object, Read, add, count_time, slot_of};
    use collector_ebpf::throttle::{HostBank, NS, TIMES};
    use collector_ebpf::{constants, object};

    #[map]
    static HOST: Array<HostBank> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    /// Rows of sets of cgroup slots.
    #[map]
    static CGROUPS: Array<CgroupSet> = Array::with_max_entries(MIN_SETS, BPF_F_MMAPABLE);
    /// For each CPU, since when the run queue is throttled that it is letting go.
    #[map]
    static SINCE: Array<u64> = Array::with_max_entries(1, 0);

    constants! {
        /// Offsets within `cfs_rq`.
        QUEUE_SINCE,
        QUEUE_RQ,
        QUEUE_GROUP,
        /// Offset within `rq`.
        RQ_CLOCK,
        /// Offsets on the way from a `task_group` to the number of its cgroup.
        GROUP_CGROUP,
        CGROUP_NODE,
        NODE_ID,
        /// 1 where the kernel clears `throttled_clock` when it lets go (since 6.6), and may refuse to let go (since 6.18).
        IS_CLEARED,
        /// 0 where cgroups are not told apart.
        BY_CGROUP,
        /// Sets of cgroup slots in a row, a power of two.
        CGROUP_SETS,
        /// One less than the rows, which are a power of two.
        ROW_MASK,
    }

    /// This CPU, and its place in `SINCE`. Nobody else writes there between the two programs: interrupts are off.
    #[inline(always)]
    fn since() -> Option<(u32, &'static mut u64)> {
        // SAFETY: a helper without conditions; the map's memory lives as long as the program, and holds but numbers.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        SINCE.get_ptr_mut(cpu).map(|since| (cpu, unsafe { &mut *since }))
    }

    #[inline(always)]
    fn count(cpu: u32, queue: Object, ns: u64) {
        let row = cpu & ROW_MASK.load();
        // SAFETY: as in `since`.
        let Some(bank) = HOST.get_ptr_mut(row).map(|bank| unsafe { &mut *bank }) else { return };
        count_time(&mut bank.throttled, ns);
        if BY_CGROUP.load() == 0 {
            return;
        }
        // SAFETY: each member holds a pointer to the object that the next line reads from.
        let id: u64 = unsafe {
            let group: Object = Direct::member(queue, QUEUE_GROUP.load());
            let cgroup: Object = Direct::member(group, GROUP_CGROUP.load());
            let node: Object = Direct::member(cgroup, CGROUP_NODE.load());
            Direct::member(node, NODE_ID.load())
        };
        // A cgroup that is being removed lets go of its run queues when it has no number any more.
        if id == 0 {
            return;
        }
        let Some(set) = CGROUPS.get_ptr_mut(cgroup_set(row, CGROUP_SETS.load(), id)) else { return };
        // SAFETY: as in `since`.
        let (Some(slot), _) = slot_of(unsafe { &mut *set }, id) else {
            return add(&mut bank.cgroup_slots, 1);
        };
        add(&mut slot.counts[TIMES], 1);
        add(&mut slot.counts[NS], ns);
    }

    #[fentry(function = "unthrottle_cfs_rq")]
    fn throttle_ends(context: FEntryContext) -> i32 {
        if let Some((_, since)) = since() {
            // SAFETY: a member of `cfs_rq`.
            *since = unsafe { Direct::member(context.arg(0), QUEUE_SINCE.load()) };
        }
        0
    }

    #[fexit(function = "unthrottle_cfs_rq")]
    fn throttle_ended(context: FExitContext) -> i32 {
        let queue: Object = context.arg(0);
        let Some((cpu, since)) = since() else { return 0 };
        let since = core::mem::take(since);
        // SAFETY: members of `cfs_rq` and of `rq`.
        let (now, left): (u64, u64) = unsafe {
            let rq: Object = Direct::member(queue, QUEUE_RQ.load());
            (Direct::member(rq, RQ_CLOCK.load()), Direct::member(queue, QUEUE_SINCE.load()))
        };
        // Nobody waited there; or it was not let go.
        if since == 0 || (IS_CLEARED.load() != 0 && left != 0) {
            return 0;
        }
        count(cpu, queue, now.saturating_sub(since));
        0
    }

    object!();
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
