//! The probe of out-of-memory kills: who was killed, and the path of its cgroup, which may be gone a moment later.
//!
//! Kernel interface: the tracepoint `mark_victim`, which gives the task since 6.8; before that `sched_process_exit`,
//! where a victim is known by the memory map that its signals keep (`signal->oom_mm`).
//!
//! Cost: some microseconds a kill; on older kernels two loads an exit. What user space learns goes through a ring
//! buffer, at most so many a second; the others are counted.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel_side {
    use aya_ebpf::bindings::BPF_F_MMAPABLE;
    use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel_str_bytes};
    use aya_ebpf::macros::map;
    use aya_ebpf::maps::{Array, RingBuf};
    use collector_ebpf::kernel::{Arguments, Object, Probed, Read, add};
    use collector_ebpf::oom::{HostBank, KILLS_A_SECOND, Kill, LEVELS, RING_BYTES};
    use collector_ebpf::{constants, object, programs, task_cgroup};

    #[map]
    static HOST: Array<HostBank> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    #[map]
    static KILLS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

    constants! {
        /// Offsets within `struct task_struct` and `signal_struct`.
        TASK_TGID,
        TASK_PID,
        TASK_COMM,
        TASK_SIGNAL,
        SIGNAL_VICTIM,
        /// Offsets within `kernfs_node`.
        NODE_PARENT,
        NODE_NAME,
    }
    task_cgroup!();

    const NANOSECONDS: u64 = 1_000_000_000;

    /// Whether another kill may be said in this second.
    #[inline(always)]
    fn may_say(bank: &mut HostBank) -> bool {
        // SAFETY: a helper without conditions.
        let second = unsafe { bpf_ktime_get_ns() } / NANOSECONDS;
        if bank.second != second {
            bank.second = second;
            bank.said = 0;
        }
        bank.said += 1;
        bank.said <= KILLS_A_SECOND
    }

    #[inline(always)]
    fn say<R: Read>(task: Object) {
        let Some(bank) = HOST.get_ptr_mut(0) else { return };
        // SAFETY: the map's memory lives as long as the program, and holds nothing but numbers.
        let bank = unsafe { &mut *bank };
        add(&mut bank.kills, 1);
        if !may_say(bank) {
            return add(&mut bank.unsaid, 1);
        }
        let Some(mut entry) = KILLS.reserve::<Kill>(0) else { return add(&mut bank.full, 1) };
        let kill = entry.as_mut_ptr();
        // SAFETY: every member is written before the entry is handed over, but for names beyond `levels`, which are
        // then written as empty; pointers are followed with checks.
        unsafe {
            (*kill).pid = R::member(task, TASK_TGID.load());
            (*kill).cgroup = task_cgroup::<R>(task);
            (*kill).comm = Probed::member(task, TASK_COMM.load());
            let mut node = task_node::<R>(task);
            let mut levels = 0;
            for level in 0..LEVELS {
                let name = &mut (*kill).path[level];
                name[0] = 0;
                if node.is_null() {
                    continue;
                }
                let parent: Object = Probed::member(node, NODE_PARENT.load());
                // The root has a name of its own, which is no part of a path.
                if !parent.is_null() {
                    let text: Object = Probed::member(node, NODE_NAME.load());
                    let _ = bpf_probe_read_kernel_str_bytes(text, name);
                    levels += 1;
                }
                node = parent;
            }
            (*kill).levels = levels;
        }
        entry.submit(0);
    }

    fn victim<R: Read, C: Arguments>(context: &C) {
        say::<R>(context.argument(0));
    }

    fn exit<R: Read, C: Arguments>(context: &C) {
        let task: Object = context.argument(0);
        // SAFETY: members of `task_struct` and `signal_struct`.
        unsafe {
            let (pid, tgid): (u32, u32) =
                (R::member(task, TASK_PID.load()), R::member(task, TASK_TGID.load()));
            let signal: Object = R::member(task, TASK_SIGNAL.load());
            let memory: u64 = R::member(signal, SIGNAL_VICTIM.load());
            if pid == tgid && memory != 0 {
                say::<R>(task);
            }
        }
    }

    programs! {
        "mark_victim" => oom_victim, raw_oom_victim: victim;
        "sched_process_exit" => oom_exit, raw_oom_exit: exit;
    }

    object!();
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
