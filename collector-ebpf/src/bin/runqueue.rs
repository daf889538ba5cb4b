//! The run-queue probe: how long tasks wait for a CPU, how long they have it and how long they sleep, how often they are
//! switched and go to another CPU; for the host and by cgroup.
//!
//! Kernel interface: the tracepoint `sched_switch`, and for method B also `sched_wakeup` and `sched_wakeup_new`.
//! Method Q takes the wait from the kernel's own `sched_info`, method B from time stamps of its own. Each program is
//! there twice: as `tp_btf` with plain loads, and as `raw_tp` for a kernel that can't type its arguments.
//!
//! Cost: some 60 ns a switch beyond that of an empty program. It refuses pid 0, the idle task, which every CPU has.
//!
//! No program races with itself: the scheduler holds the CPU, with interrupts off, while a switch is traced. So
//! what is counted by CPU is counted without atomic instructions.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel_side {
    use aya_ebpf::bindings::BPF_F_MMAPABLE;
    use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
    use aya_ebpf::macros::{btf_tracepoint, map, raw_tracepoint};
    use aya_ebpf::maps::Array;
    use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};
    use aya_ebpf::{EbpfContext, Global};
    use aya_log_ebpf::debug;
    use collector_ebpf::cgroups::{CgroupSet, CgroupSlot, MIN_SETS, cgroup_set};
    use collector_ebpf::kernel::{Direct, Object, Probed, Read, slot_of};
    use collector_ebpf::runqueue::{
        BLOCKED_NS, BUCKET_CAPACITY, HostBank, INVOLUNTARY, MIGRATIONS, ON_CPU_NS, SLEEPS, TASK_VALUE_MASK,
        TaskSlot, VOLUNTARY, WAIT_NS, WAIT_TABLES, WAITS, left, left_parts, task_slot, task_tag,
    };
    use collector_ebpf::scale::{TIME_TABLES, TimeHistogram};
    use collector_ebpf::{constants, task_cgroup};

    /// What each CPU counts. User space sets the number of CPUs.
    #[map]
    static HOST: Array<HostBank> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    /// Sets of cgroup slots, a row of them for each CPU. User space sets their number.
    #[map]
    static CGROUPS: Array<CgroupSet> = Array::with_max_entries(MIN_SETS, BPF_F_MMAPABLE);
    /// By pid.
    #[map]
    static TASKS: Array<TaskSlot> = Array::with_max_entries(1, 0);

    constants! {
        /// Offsets within `struct task_struct`.
        TASK_PID,
        TASK_STATE,
        TASK_RUN_DELAY,
        TASK_PCOUNT,
        TASK_LAST_QUEUED,
        TASK_CFS_RQ,
        /// Offsets within `cfs_rq` and `rq`.
        CFS_RQ_RQ,
        RQ_CLOCK,
        /// Sets of cgroup slots for each CPU, a power of two.
        CGROUP_SETS,
        /// How many low bits of a pid choose its slot.
        TASK_BITS,
        /// Whether time on a CPU, sleep and migrations are counted.
        TIMES,
    }

    task_cgroup!();

    /// A task that the tracepoint names.
    struct Task {
        object: Object,
        pid: u32,
    }

    impl Task {
        #[inline(always)]
        fn new<R: Read>(object: Object) -> Self {
            // SAFETY: the tracepoint gives a task; the offset is that of its pid.
            let pid = unsafe { R::member(object, TASK_PID.load()) };
            Task { object, pid }
        }

        /// # Safety
        /// `offset` is that of a member of this size in `task_struct`.
        #[inline(always)]
        unsafe fn read<R: Read, T: Copy>(&self, offset: &Global<u32>) -> T {
            // SAFETY: the caller's.
            unsafe { R::member(self.object, offset.load()) }
        }

        /// What is kept of the task while it does not run.
        #[inline(always)]
        fn slot(&self) -> Option<&'static mut TaskSlot> {
            // SAFETY: the map's memory lives as long as the program; only the CPU that has the task writes its slot,
            // and where two pids share one a torn count is told apart by its tag.
            TASKS.get_ptr_mut(task_slot(self.pid, TASK_BITS.load())).map(|slot| unsafe { &mut *slot })
        }

        #[inline(always)]
        fn tagged(&self, value: u64) -> u64 {
            // One more than the value, so that 0 stays "unknown".
            task_tag(self.pid, TASK_BITS.load()) | ((value + 1) & TASK_VALUE_MASK)
        }
    }

    /// This CPU's bank, and where it counts.
    struct Cpu {
        number: u32,
        bank: &'static mut HostBank,
    }

    impl Cpu {
        #[inline(always)]
        fn this() -> Option<Self> {
            // SAFETY: a helper without conditions.
            let number = unsafe { bpf_get_smp_processor_id() };
            // SAFETY: no other program writes to the bank of this CPU, and this one is not interrupted by itself.
            HOST.get_ptr_mut(number).map(|bank| Cpu { number, bank: unsafe { &mut *bank } })
        }

        /// The slot of a cgroup, taken now if it has none yet.
        #[inline(always)]
        fn cgroup<C: EbpfContext>(&mut self, context: &C, id: u64) -> Option<&'static mut CgroupSlot> {
            if id == 0 {
                return None;
            }
            let set = CGROUPS.get_ptr_mut(cgroup_set(self.number, CGROUP_SETS.load(), id))?;
            // SAFETY: as for the bank.
            let (slot, taken) = slot_of(unsafe { &mut *set }, id);
            if taken {
                debug!(context, "cgroup {} takes a slot on CPU {}", id, self.number);
            }
            if slot.is_some() {
                return slot;
            }
            self.bank.cgroup_overflow += 1;
            None
        }

        /// Counts that `task` leaves the CPU, at `clock`; `sleep` is as in [`left`].
        #[inline(always)]
        fn leave<R: Read, C: EbpfContext>(
            &mut self,
            context: &C,
            task: &Task,
            slot: Option<&mut TaskSlot>,
            sleep: Sleep,
            clock: u64,
        ) {
            let on_cpu = self.stint(clock);
            if let (true, Some(slot)) = (TIMES.load() != 0, slot) {
                slot.left_ns = clock;
                slot.left = task_tag(task.pid, TASK_BITS.load()) | left(self.number, sleep.kind);
            }
            let slot = self.cgroup(context, task_cgroup::<R>(task.object));
            if sleep.voluntary {
                self.bank.voluntary += 1;
            } else {
                self.bank.involuntary += 1;
            }
            if let Some(slot) = slot {
                if sleep.voluntary {
                    slot.counts[VOLUNTARY] += 1;
                } else {
                    slot.counts[INVOLUNTARY] += 1;
                }
                slot.counts[ON_CPU_NS] += on_cpu;
            }
        }

        /// How long the task has had the CPU that leaves it at `clock`. Counted; 0 where that is not known.
        #[inline(always)]
        fn stint(&mut self, clock: u64) -> u64 {
            let since = self.bank.switched;
            if TIMES.load() == 0 || since == 0 {
                return 0;
            }
            let stint = self.since(clock, since);
            count(&mut self.bank.on_cpu, stint);
            stint
        }

        /// Counts that `task` gets the CPU, at `clock`, after it waited so long.
        #[inline(always)]
        fn arrive<R: Read, C: EbpfContext>(&mut self, context: &C, task: &Task, wait_ns: u64, clock: u64) {
            let number = WAIT_TABLES.bucket(wait_ns);
            if number < BUCKET_CAPACITY {
                self.bank.buckets[number] += 1;
            }
            self.bank.wait_ns += wait_ns;
            let (blocked, migrated) = self.return_of(task, wait_ns, clock);
            if let Some(slot) = self.cgroup(context, task_cgroup::<R>(task.object)) {
                slot.counts[WAIT_NS] += wait_ns;
                slot.counts[WAITS] += 1;
                slot.counts[BLOCKED_NS] += blocked;
                slot.counts[MIGRATIONS] += migrated;
            }
        }

        /// Counts how long a task has slept that gets the CPU at `clock`, and whether it ran on another one last. Returns how
        /// long it was blocked, and 1 if it migrated.
        #[inline(always)]
        fn return_of(&mut self, task: &Task, wait_ns: u64, clock: u64) -> (u64, u64) {
            let Some(slot) = task.slot() else { return (0, 0) };
            let word = slot.left;
            if TIMES.load() == 0 || word == 0 || (word ^ task.tagged(0)) & !TASK_VALUE_MASK != 0 {
                return (0, 0);
            }
            slot.left = 0;
            let (cpu, kind) = left_parts(word);
            if kind == GONE {
                return (0, 0);
            }
            let migrated = (cpu != self.number) as u64;
            self.bank.migrations += migrated;
            let asleep = clock.wrapping_sub(slot.left_ns).wrapping_sub(wait_ns);
            // CPUs' clocks may differ a little, and waits are cut where the kernel's account is: a negative rest is none.
            let asleep = if asleep > TASK_VALUE_MASK { 0 } else { asleep };
            if kind == INTERRUPTIBLE {
                count(&mut self.bank.asleep[0], asleep);
            } else if kind == UNINTERRUPTIBLE {
                count(&mut self.bank.asleep[1], asleep);
                return (asleep, migrated);
            }
            (0, migrated)
        }

        /// `later - earlier` on one clock.
        #[inline(always)]
        fn since(&mut self, later: u64, earlier: u64) -> u64 {
            let wait = later.wrapping_sub(earlier);
            if wait > TASK_VALUE_MASK {
                self.bank.clock_backwards += 1;
                return 0;
            }
            wait
        }

        /// What has been added since `kept` was written; 0 where that is not known.
        #[inline(always)]
        fn grown(&mut self, task: &Task, kept: u64, now: u64) -> u64 {
            if kept == 0 {
                return 0;
            }
            let now = task.tagged(now);
            if (now ^ kept) & !TASK_VALUE_MASK != 0 {
                self.bank.task_overflow += 1;
                return 0;
            }
            now.wrapping_sub(kept) & TASK_VALUE_MASK
        }

        /// How long `task`, which gets the CPU now, has waited since it last had one: by the kernel's own account.
        #[inline(always)]
        fn accounted_wait<R: Read>(&mut self, task: &Task, clock: u64) -> u64 {
            // SAFETY: members of `sched_info`.
            let (delay, runs, queued) = unsafe {
                let delay: u64 = task.read::<R, _>(&TASK_RUN_DELAY);
                let runs: u64 = task.read::<R, _>(&TASK_PCOUNT);
                let queued: u64 = task.read::<R, _>(&TASK_LAST_QUEUED);
                (delay, runs, queued)
            };
            // Migrations end a stretch of waiting early: the kernel has added those to `run_delay` already.
            let banked = if runs == 0 {
                delay
            } else {
                let kept = task.slot().map_or(0, |slot| slot.wait);
                self.grown(task, kept, delay)
            };
            let last = if queued == 0 { 0 } else { self.since(clock, queued) };
            banked + last
        }
    }

    const INTERRUPTIBLE: u64 = 1;
    const UNINTERRUPTIBLE: u64 = 2;
    /// The task ends: its pid may go to another.
    const GONE: u64 = 3;
    const _: () = assert!(SLEEPS.len() == 2);

    /// How a task leaves its CPU.
    #[derive(Clone, Copy)]
    struct Sleep {
        /// It goes to sleep, or ends.
        voluntary: bool,
        /// As in [`left`].
        kind: u64,
    }

    impl Sleep {
        #[inline(always)]
        fn of<R: Read>(task: &Task, preempted: bool) -> Self {
            // Kernel threads that have nothing to do sleep without being woken by signals; that is not counted as being
            // blocked (TASK_NOLOAD).
            const IDLE: u32 = 0x400;
            const DEAD: u32 = 0x80;
            // SAFETY: the low half of the state, which is an int or a long.
            let state: u32 = if preempted { 0 } else { unsafe { task.read::<R, u32>(&TASK_STATE) } };
            let kind = match state {
                state if state & 1 != 0 => INTERRUPTIBLE,
                state if state & (2 | IDLE) == 2 => UNINTERRUPTIBLE,
                state if state & DEAD != 0 => GONE,
                _ => 0,
            };
            Sleep { voluntary: state != 0, kind }
        }
    }

    /// Counts in a histogram of this CPU.
    #[inline(always)]
    fn count(histogram: &mut TimeHistogram, ns: u64) {
        let bucket = TIME_TABLES.bucket(ns);
        if bucket < histogram.buckets.len() {
            histogram.buckets[bucket] += 1;
            histogram.sum_ns += ns;
        }
    }

    /// The clock of the run queue of this CPU, on which `task` is.
    #[inline(always)]
    fn queue_clock<R: Read>(task: &Task) -> u64 {
        // SAFETY: the chain of pointers to this CPU's `rq`.
        unsafe {
            let cfs_rq: Object = task.read::<R, _>(&TASK_CFS_RQ);
            let rq: Object = R::member(cfs_rq, CFS_RQ_RQ.load());
            R::member(rq, RQ_CLOCK.load())
        }
    }

    /// Method Q.
    #[inline(always)]
    fn switch_accounted<R: Read, C: EbpfContext>(context: &C, preempted: bool, prev: Object, next: Object) {
        let Some(mut cpu) = Cpu::this() else { return };
        let (prev, next) = (Task::new::<R>(prev), Task::new::<R>(next));
        // Idle tasks have a queue too.
        let clock = queue_clock::<R>(&next);
        if prev.pid != 0 {
            let mut slot = prev.slot();
            if let Some(slot) = &mut slot {
                // SAFETY: a member of `sched_info`.
                slot.wait = prev.tagged(unsafe { prev.read::<R, u64>(&TASK_RUN_DELAY) });
            }
            cpu.leave::<R, C>(context, &prev, slot, Sleep::of::<R>(&prev, preempted), clock);
        }
        if next.pid != 0 {
            let wait = cpu.accounted_wait::<R>(&next, clock);
            cpu.arrive::<R, C>(context, &next, wait, clock);
        }
        cpu.bank.switched = clock;
    }

    /// Method B, at the switch.
    #[inline(always)]
    fn switch_stamped<R: Read, C: EbpfContext>(context: &C, preempted: bool, prev: Object, next: Object) {
        let Some(mut cpu) = Cpu::this() else { return };
        // SAFETY: a helper without conditions.
        let now = unsafe { bpf_ktime_get_ns() };
        let (prev, next) = (Task::new::<R>(prev), Task::new::<R>(next));
        if prev.pid != 0 {
            let sleep = Sleep::of::<R>(&prev, preempted);
            let mut slot = prev.slot();
            if let Some(slot) = &mut slot {
                slot.wait = if sleep.voluntary { 0 } else { prev.tagged(now) };
            }
            cpu.leave::<R, C>(context, &prev, slot, sleep, now);
        }
        if next.pid != 0 {
            if let Some(slot) = next.slot() {
                let kept = core::mem::replace(&mut slot.wait, 0);
                // A task whose wakeup nobody saw did wait, but nobody knows how long: it is not counted.
                if kept != 0 {
                    let wait = cpu.grown(&next, kept, now);
                    cpu.arrive::<R, C>(context, &next, wait, now);
                }
            }
        }
        cpu.bank.switched = now;
    }

    /// Method B, when a task becomes runnable.
    #[inline(always)]
    fn wakeup<R: Read>(task: Object) {
        let task = Task::new::<R>(task);
        let Some(slot) = task.slot() else { return };
        // A task that is queued already can be woken too, when it was preempted on its way to sleep: it waits since
        // then. What a running task has here is overwritten when it leaves its CPU.
        let waits = slot.wait != 0 && (task.tagged(0) ^ slot.wait) & !TASK_VALUE_MASK == 0;
        if task.pid != 0 && !waits {
            // SAFETY: a helper without conditions.
            slot.wait = task.tagged(unsafe { bpf_ktime_get_ns() });
        }
    }

    #[btf_tracepoint(function = "sched_switch")]
    fn switch_q(context: BtfTracePointContext) -> i32 {
        switch_accounted::<Direct, _>(&context, context.arg::<u8>(0) != 0, context.arg(1), context.arg(2));
        0
    }

    #[btf_tracepoint(function = "sched_switch")]
    fn switch_b(context: BtfTracePointContext) -> i32 {
        switch_stamped::<Direct, _>(&context, context.arg::<u8>(0) != 0, context.arg(1), context.arg(2));
        0
    }

    #[btf_tracepoint(function = "sched_wakeup")]
    fn wakeup_b(context: BtfTracePointContext) -> i32 {
        wakeup::<Direct>(context.arg(0));
        0
    }

    #[btf_tracepoint(function = "sched_wakeup_new")]
    fn wakeup_new_b(context: BtfTracePointContext) -> i32 {
        wakeup::<Direct>(context.arg(0));
        0
    }

    /// Does nothing: with it one measures what the attachment alone costs.
    #[btf_tracepoint(function = "sched_switch")]
    fn switch_empty(_context: BtfTracePointContext) -> i32 {
        0
    }

    #[raw_tracepoint(tracepoint = "sched_switch")]
    fn raw_switch_q(context: RawTracePointContext) -> i32 {
        switch_accounted::<Probed, _>(&context, context.arg::<u8>(0) != 0, context.arg(1), context.arg(2));
        0
    }

    #[raw_tracepoint(tracepoint = "sched_switch")]
    fn raw_switch_b(context: RawTracePointContext) -> i32 {
        switch_stamped::<Probed, _>(&context, context.arg::<u8>(0) != 0, context.arg(1), context.arg(2));
        0
    }

    #[raw_tracepoint(tracepoint = "sched_wakeup")]
    fn raw_wakeup_b(context: RawTracePointContext) -> i32 {
        wakeup::<Probed>(context.arg(0));
        0
    }

    #[raw_tracepoint(tracepoint = "sched_wakeup_new")]
    fn raw_wakeup_new_b(context: RawTracePointContext) -> i32 {
        wakeup::<Probed>(context.arg(0));
        0
    }

    collector_ebpf::object!();
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
