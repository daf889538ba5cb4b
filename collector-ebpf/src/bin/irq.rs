//! The interrupt probe: how long the handlers of soft and hard interrupts take, and how long soft ones wait for theirs.
//!
//! Kernel interface: the tracepoints `softirq_raise`, `softirq_entry`, `softirq_exit`, `irq_handler_entry` and
//! `irq_handler_exit`. All they give are numbers: no offsets are needed.
//!
//! Cost: some 60 ns each, five for a packet's interrupt. That is why the probe is off by default.
//!
//! Each CPU counts in a bank of its own: soft interrupts do not interrupt each other there, nor do hard ones.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel_side {
    use aya_ebpf::bindings::BPF_F_MMAPABLE;
    use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
    use aya_ebpf::macros::map;
    use aya_ebpf::maps::Array;
    use collector_ebpf::irq::{HARD, HostBank, SOFT_PLACES};
    use collector_ebpf::kernel::{Arguments, Read, count_time, masked};
    use collector_ebpf::{object, programs};

    /// What each CPU counts. User space sets the number of CPUs.
    #[map]
    static HOST: Array<HostBank> = Array::with_max_entries(1, BPF_F_MMAPABLE);

    /// This CPU's bank, and the time.
    #[inline(always)]
    fn host() -> Option<(&'static mut HostBank, u64)> {
        // SAFETY: helpers without conditions; the map's memory lives as long as the program, and holds but numbers.
        unsafe {
            let bank = HOST.get_ptr_mut(bpf_get_smp_processor_id())?;
            Some((&mut *bank, bpf_ktime_get_ns()))
        }
    }

    #[inline(always)]
    fn place<C: Arguments>(context: &C) -> usize {
        masked::<{ SOFT_PLACES as i32 - 1 }>(context.argument::<u32>(0) as usize)
    }

    fn raise<R: Read, C: Arguments>(context: &C) {
        let Some((bank, now)) = host() else { return };
        let soft = &mut bank.soft[place(context)];
        // It may be raised again before it runs: it waits since the first time.
        if soft.raised == 0 {
            soft.raised = now;
        }
    }

    fn enter<R: Read, C: Arguments>(context: &C) {
        let Some((bank, now)) = host() else { return };
        let soft = &mut bank.soft[place(context)];
        let raised = core::mem::replace(&mut soft.raised, 0);
        soft.entered = now;
        if raised != 0 {
            count_time(&mut soft.latency, now.saturating_sub(raised));
        }
    }

    fn exit<R: Read, C: Arguments>(context: &C) {
        let Some((bank, now)) = host() else { return };
        let soft = &mut bank.soft[place(context)];
        let entered = core::mem::replace(&mut soft.entered, 0);
        if entered != 0 {
            count_time(&mut soft.duration, now.saturating_sub(entered));
        }
    }

    fn hard_enter<R: Read, C: Arguments>(_context: &C) {
        if let Some((bank, now)) = host() {
            bank.hard_entered = now;
        }
    }

    fn hard_exit<R: Read, C: Arguments>(context: &C) {
        let Some((bank, now)) = host() else { return };
        let entered = core::mem::replace(&mut bank.hard_entered, 0);
        if entered == 0 {
            return;
        }
        let took = now.saturating_sub(entered);
        count_time(&mut bank.hard_duration, took);
        let number = context.argument::<u32>(0) as usize;
        if number >= HARD {
            bank.hard_overflow += 1;
            return;
        }
        let count = &mut bank.hard[masked::<{ HARD as i32 - 1 }>(number)];
        count.runs += 1;
        count.ns += took;
    }

    programs! {
        "softirq_raise" => soft_raise, raw_soft_raise: raise;
        "softirq_entry" => soft_entry, raw_soft_entry: enter;
        "softirq_exit" => soft_exit, raw_soft_exit: exit;
        "irq_handler_entry" => hard_entry, raw_hard_entry: hard_enter;
        "irq_handler_exit" => hard_end, raw_hard_end: hard_exit;
    }

    object!();
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
