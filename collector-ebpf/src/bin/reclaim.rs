//! The probe of memory stalls: how long tasks are held up because memory must be reclaimed, or compacted, before they get
//! theirs; for the host and by cgroup.
//!
//! Kernel interface: the tracepoints `mm_vmscan_direct_reclaim_begin` and `_end`, `mm_vmscan_memcg_reclaim_begin` and
//! `_end`, `mm_compaction_begin` and `_end`. Of their arguments, which kernels order differently, none is looked at: the
//! task is the one that runs.
//!
//! Cost: nothing but under pressure. It refuses what kernel threads do in the background: nobody waits for that.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel_side {
    use aya_ebpf::bindings::BPF_F_MMAPABLE;
    use aya_ebpf::helpers::generated::bpf_get_current_task;
    use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_ns};
    use aya_ebpf::macros::map;
    use aya_ebpf::maps::Array;
    use collector_ebpf::cgroups::{CgroupSet, MIN_SETS, cgroup_set};
    use collector_ebpf::kernel::{Arguments, Object, Probed, Read, add, count_time, slot_of};
    use collector_ebpf::reclaim::{
        COMPACTION, DIRECT, HostBank, KINDS, MEMCG, STARTED_BITS, Started, stalls_of, started_place,
    };
    use collector_ebpf::{constants, object, programs, task_cgroup};

    #[map]
    static HOST: Array<HostBank> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    /// Rows of sets of cgroup slots.
    #[map]
    static CGROUPS: Array<CgroupSet> = Array::with_max_entries(MIN_SETS, BPF_F_MMAPABLE);
    #[map]
    static STARTED: Array<Started> = Array::with_max_entries((KINDS.len() as u32) << STARTED_BITS, 0);

    constants! {
        /// Offset within `struct task_struct`.
        TASK_FLAGS,
        /// Sets of cgroup slots in a row, a power of two.
        CGROUP_SETS,
        /// One less than the rows, which are a power of two.
        ROW_MASK,
    }
    task_cgroup!();

    const PF_KTHREAD: u32 = 0x0020_0000;

    /// The task that runs, unless it is one of the kernel's own; and its pid.
    #[inline(always)]
    fn task() -> Option<(Object, u32)> {
        // SAFETY: helpers without conditions; the pointer is a number to the verifier, so that it is followed with checks.
        unsafe {
            let task = bpf_get_current_task() as Object;
            let flags: u32 = Probed::member(task, TASK_FLAGS.load());
            (flags & PF_KTHREAD == 0).then(|| (task, bpf_get_current_pid_tgid() as u32))
        }
    }

    #[inline(always)]
    fn begin(kind: usize) {
        let Some((task, pid)) = task() else { return };
        if let Some(slot) = STARTED.get_ptr_mut(started_place(kind, pid)) {
            // SAFETY: the map's memory lives as long as the program; a place that another task takes at this moment is
            // lost to this one. The helper has no conditions.
            unsafe { *slot = Started { task: task as u64, ns: bpf_ktime_get_ns() } };
        }
    }

    #[inline(always)]
    fn end(kind: usize) {
        let Some((task, pid)) = task() else { return };
        // SAFETY: helpers without conditions; the maps' memory lives as long as the program, and holds but numbers.
        let (now, row) = unsafe { (bpf_ktime_get_ns(), bpf_get_smp_processor_id() & ROW_MASK.load()) };
        let Some(bank) = HOST.get_ptr_mut(row).map(|bank| unsafe { &mut *bank }) else { return };
        let Some(slot) = STARTED.get_ptr_mut(started_place(kind, pid)).map(|slot| unsafe { &mut *slot })
        else {
            return;
        };
        if slot.task != task as u64 || slot.ns == 0 {
            return add(&mut bank.task_slots, 1);
        }
        let stalled = now.saturating_sub(slot.ns);
        slot.ns = 0;
        count_time(&mut bank.stalls[kind], stalled);
        let id = task_cgroup::<Probed>(task);
        if id == 0 {
            return;
        }
        let Some(set) = CGROUPS.get_ptr_mut(cgroup_set(row, CGROUP_SETS.load(), id)) else { return };
        // SAFETY: as above.
        let (Some(slot), _) = slot_of(unsafe { &mut *set }, id) else {
            return add(&mut bank.cgroup_slots, 1);
        };
        add(&mut slot.counts[stalls_of(kind)], 1);
        add(&mut slot.counts[stalls_of(kind) + 1], stalled);
    }

    fn direct_begin<R: Read, C: Arguments>(_: &C) {
        begin(DIRECT);
    }

    fn direct_end<R: Read, C: Arguments>(_: &C) {
        end(DIRECT);
    }

    fn memcg_begin<R: Read, C: Arguments>(_: &C) {
        begin(MEMCG);
    }

    fn memcg_end<R: Read, C: Arguments>(_: &C) {
        end(MEMCG);
    }

    fn compaction_begin<R: Read, C: Arguments>(_: &C) {
        begin(COMPACTION);
    }

    fn compaction_end<R: Read, C: Arguments>(_: &C) {
        end(COMPACTION);
    }

    programs! {
        "mm_vmscan_direct_reclaim_begin" => reclaim_begin, raw_recl_begin: direct_begin;
        "mm_vmscan_direct_reclaim_end" => reclaim_end, raw_recl_end: direct_end;
        "mm_vmscan_memcg_reclaim_begin" => memcg_recl_begin, raw_memcg_begin: memcg_begin;
        "mm_vmscan_memcg_reclaim_end" => memcg_recl_end, raw_memcg_end: memcg_end;
        "mm_compaction_begin" => compact_begin, raw_comp_begin: compaction_begin;
        "mm_compaction_end" => compact_end, raw_comp_end: compaction_end;
    }

    object!();
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
