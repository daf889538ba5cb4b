//! The process probe: forks, execs and exits, how processes ended and how long they lived; for the host and by cgroup.
//!
//! Kernel interface: the tracepoints `sched_process_fork`, `sched_process_exec` and `sched_process_exit`.
//!
//! Cost: some 150 ns each. A process is counted once, when its last thread ends where the kernel says which that is
//! (6.16), else when its first thread does.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel_side {
    use aya_ebpf::bindings::BPF_F_MMAPABLE;
    use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
    use aya_ebpf::macros::map;
    use aya_ebpf::maps::Array;
    use collector_ebpf::cgroups::{CgroupSet, CgroupSlot, MIN_SETS, cgroup_set};
    use collector_ebpf::kernel::{Arguments, Object, Read, add, count_time, masked, slot_of};
    use collector_ebpf::process::{
        EXECS, EXITED_BADLY, EXITED_WELL, FORKS, HostBank, KILLED, SHORT_LIVED, SHORT_LIVED_NS, THREADS,
    };
    use collector_ebpf::{constants, object, programs, task_cgroup};

    #[map]
    static HOST: Array<HostBank> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    /// Rows of sets of cgroup slots.
    #[map]
    static CGROUPS: Array<CgroupSet> = Array::with_max_entries(MIN_SETS, BPF_F_MMAPABLE);

    constants! {
        /// Offsets within `struct task_struct`.
        TASK_PID,
        TASK_TGID,
        TASK_EXIT_CODE,
        TASK_START,
        TASK_LEADER,
        /// Whether the tracepoint says that the last thread of a process ends.
        SAYS_LAST,
        /// Sets of cgroup slots in a row, a power of two.
        CGROUP_SETS,
        /// One less than the rows, which are a power of two.
        ROW_MASK,
    }
    task_cgroup!();

    /// This CPU's row.
    #[inline(always)]
    fn host() -> Option<(u32, &'static mut HostBank)> {
        // SAFETY: a helper without conditions; the map's memory lives as long as the program, and holds but numbers.
        let row = unsafe { bpf_get_smp_processor_id() } & ROW_MASK.load();
        HOST.get_ptr_mut(row).map(|bank| (row, unsafe { &mut *bank }))
    }

    /// The slot of the task's cgroup.
    #[inline(always)]
    fn slot<R: Read>(row: u32, bank: &mut HostBank, task: Object) -> Option<&'static mut CgroupSlot> {
        let id = task_cgroup::<R>(task);
        if id == 0 {
            return None;
        }
        let set = CGROUPS.get_ptr_mut(cgroup_set(row, CGROUP_SETS.load(), id))?;
        // SAFETY: as in `host`.
        let (slot, _) = slot_of(unsafe { &mut *set }, id);
        if slot.is_none() {
            add(&mut bank.cgroup_slots, 1);
        }
        slot
    }

    #[inline(always)]
    fn is_leader<R: Read>(task: Object) -> bool {
        // SAFETY: members of `task_struct`.
        let (pid, tgid): (u32, u32) =
            unsafe { (R::member(task, TASK_PID.load()), R::member(task, TASK_TGID.load())) };
        pid == tgid
    }

    fn fork<R: Read, C: Arguments>(context: &C) {
        let child: Object = context.argument(1);
        let Some((row, bank)) = host() else { return };
        let process = is_leader::<R>(child);
        add(if process { &mut bank.forks } else { &mut bank.threads }, 1);
        if let Some(slot) = slot::<R>(row, bank, child) {
            add(if process { &mut slot.counts[FORKS] } else { &mut slot.counts[THREADS] }, 1);
        }
    }

    fn exec<R: Read, C: Arguments>(context: &C) {
        let task: Object = context.argument(0);
        let Some((row, bank)) = host() else { return };
        add(&mut bank.execs, 1);
        if let Some(slot) = slot::<R>(row, bank, task) {
            add(&mut slot.counts[EXECS], 1);
        }
    }

    /// How long the process of a task has lived.
    #[inline(always)]
    fn lifetime<R: Read>(task: Object) -> u64 {
        // SAFETY: members of `task_struct`; the helper has no conditions.
        unsafe {
            let leader: Object = R::member(task, TASK_LEADER.load());
            bpf_ktime_get_ns().saturating_sub(R::member(leader, TASK_START.load()))
        }
    }

    fn exit<R: Read, C: Arguments>(context: &C) {
        let task: Object = context.argument(0);
        let ends = if SAYS_LAST.load() != 0 { context.argument::<u8>(1) != 0 } else { is_leader::<R>(task) };
        if !ends {
            return;
        }
        let Some((row, bank)) = host() else { return };
        // SAFETY: a member of `task_struct`.
        let code: u32 = unsafe { R::member(task, TASK_EXIT_CODE.load()) };
        let signal = masked::<0x7f>(code as usize);
        let status = masked::<0xff>((code >> 8) as usize);
        add(if signal == 0 { &mut bank.codes[status] } else { &mut bank.signals[signal] }, 1);
        let lifetime = lifetime::<R>(task);
        count_time(&mut bank.lifetime, lifetime);
        if let Some(slot) = slot::<R>(row, bank, task) {
            let outcome = match (signal, status) {
                (0, 0) => EXITED_WELL,
                (0, _) => EXITED_BADLY,
                _ => KILLED,
            };
            add(&mut slot.counts[masked::<7>(outcome).min(KILLED)], 1);
            if lifetime < SHORT_LIVED_NS {
                add(&mut slot.counts[SHORT_LIVED], 1);
            }
        }
    }

    programs! {
        "sched_process_fork" => process_fork, raw_proc_fork: fork;
        "sched_process_exec" => process_exec, raw_proc_exec: exec;
        "sched_process_exit" => process_exit, raw_proc_exit: exit;
    }

    object!();
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
