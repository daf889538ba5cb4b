//! The probe of system calls: how long they take and how they fail, by class; for the host and by cgroup.
//!
//! Kernel interface: the tracepoints `sys_enter` and `sys_exit`. A call begins and ends in the same task, but not on the same
//! CPU: its beginning is kept by pid.
//!
//! Cost: some 200 ns a call, of which half is that there are programs at all: that is why the probe is off by default. It
//! refuses calls that do not come back (exit), and can't tell the numbers of 32-bit programs from others.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel_side {
    use aya_ebpf::bindings::BPF_F_MMAPABLE;
    use aya_ebpf::helpers::generated::bpf_get_current_task;
    use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_ns};
    use aya_ebpf::macros::map;
    use aya_ebpf::maps::Array;
    use collector_ebpf::cgroups::{CgroupSet, MIN_SETS, cgroup_set};
    use collector_ebpf::kernel::{Arguments, Object, Probed, Read, add, count_time, masked, slot_of};
    use collector_ebpf::runqueue::task_slot;
    use collector_ebpf::syscalls::{
        CALLS, CLASSES, ClassTable, ERRORS, Entered, FAILED, HostBank, NUMBERS, TIMED, time_of,
    };
    use collector_ebpf::{constants, object, programs, task_cgroup};

    #[map]
    static HOST: Array<HostBank> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    /// Rows of sets of cgroup slots.
    #[map]
    static CGROUPS: Array<CgroupSet> = Array::with_max_entries(MIN_SETS, BPF_F_MMAPABLE);
    #[map]
    static CLASS_OF: Array<ClassTable> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    /// By pid.
    #[map]
    static ENTERED: Array<Entered> = Array::with_max_entries(1, 0);

    constants! {
        /// How many low bits of a pid choose its place in `ENTERED`.
        TASK_BITS,
        /// Sets of cgroup slots in a row, a power of two.
        CGROUP_SETS,
        /// One less than the rows, which are a power of two.
        ROW_MASK,
    }
    task_cgroup!();

    /// Where the call of the task that runs is kept, and its pid.
    #[inline(always)]
    fn entered() -> Option<(&'static mut Entered, u32)> {
        let pid = bpf_get_current_pid_tgid() as u32;
        // SAFETY: the map's memory lives as long as the program, and holds but numbers.
        ENTERED.get_ptr_mut(task_slot(pid, TASK_BITS.load())).map(|slot| (unsafe { &mut *slot }, pid))
    }

    fn enter<R: Read, C: Arguments>(context: &C) {
        let number: u64 = context.argument(1);
        let Some((slot, pid)) = entered() else { return };
        slot.call = (number + 1) << 32 | u64::from(pid);
        // SAFETY: a helper without conditions.
        slot.ns = unsafe { bpf_ktime_get_ns() };
    }

    #[inline(always)]
    fn class_of(number: usize) -> usize {
        let Some(table) = CLASS_OF.get_ptr(0) else { return 0 };
        let number = masked::<{ NUMBERS as i32 - 1 }>(number);
        // SAFETY: as in `entered`.
        unsafe { (*table).classes[number] as usize }
    }

    fn exit<R: Read, C: Arguments>(context: &C) {
        let result: i64 = context.argument(1);
        let Some((slot, pid)) = entered() else { return };
        let call = core::mem::replace(&mut slot.call, 0);
        // A child of fork comes back from a call that it has not made.
        if call == 0 {
            return;
        }
        // SAFETY: helpers without conditions; the maps' memory lives as long as the program, and holds but numbers.
        let (now, row) = unsafe { (bpf_ktime_get_ns(), bpf_get_smp_processor_id() & ROW_MASK.load()) };
        let Some(bank) = HOST.get_ptr_mut(row).map(|bank| unsafe { &mut *bank }) else { return };
        if call as u32 != pid {
            return add(&mut bank.task_slots, 1);
        }
        let took = now.saturating_sub(slot.ns);
        let class = class_of((call >> 32) as usize - 1);
        if class >= CLASSES.len() {
            return;
        }
        count_time(&mut bank.latency[class], took);
        // What tells the kernel to do the call again is no error.
        let error = result.wrapping_neg() as usize;
        let failed = error > 0 && error < ERRORS;
        if failed {
            add(&mut bank.errors[class][error], 1);
        }
        // SAFETY: a helper without conditions.
        let id = task_cgroup::<Probed>(unsafe { bpf_get_current_task() } as Object);
        if id == 0 {
            return;
        }
        let Some(set) = CGROUPS.get_ptr_mut(cgroup_set(row, CGROUP_SETS.load(), id)) else { return };
        // SAFETY: as above.
        let (Some(slot), _) = slot_of(unsafe { &mut *set }, id) else {
            return add(&mut bank.cgroup_slots, 1);
        };
        add(&mut slot.counts[CALLS], 1);
        if failed {
            add(&mut slot.counts[FAILED], 1);
        }
        if class >= TIMED.0 as usize && class <= TIMED.1 as usize {
            let place = masked::<7>(time_of(class as u8));
            if place < slot.counts.len() {
                add(&mut slot.counts[place], took);
            }
        }
    }

    programs! {
        "sys_enter" => syscall_enter, raw_sys_enter: enter;
        "sys_exit" => syscall_exit, raw_sys_exit: exit;
    }

    object!();
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
