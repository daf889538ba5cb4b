//! The run-queue probe: how long tasks wait for a CPU, how long they have it and how long they sleep, how often they are
//! switched and go to another CPU; for the host and by cgroup.
//!
//! Kernel interface: the tracepoint `sched_switch`, and for method B also `sched_wakeup` and `sched_wakeup_new`.
//! Method Q takes the wait from the kernel's own `sched_info`, method B from time stamps of its own. Each program is
//! there twice: as `tp_btf` with plain loads, and as `raw_tp` for a kernel that can't type its arguments.
//!
//! Cost: some 30 ns a switch beyond that of an empty program. It refuses pid 0, the idle task, which every CPU has.
//!
//! No program races with itself: the scheduler holds the CPU, with interrupts off, while a switch is traced. So
//! what is counted by CPU is counted without atomic instructions.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel_side {
    use aya_ebpf::bindings::BPF_F_MMAPABLE;
    use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
    use aya_ebpf::macros::{btf_tracepoint, map};
    use aya_ebpf::programs::BtfTracePointContext;
    use aya_ebpf::{EbpfContext, Global};
    use aya_log_ebpf::debug;
    use collector_ebpf::cgroups::{CgroupSet, CgroupSlot, WAYS, cgroup_set};
    use collector_ebpf::kernel::{Arguments, Object, Read, Whole, apart, masked, way_of};
    use collector_ebpf::runqueue::{
        BLOCKED_NS, BUCKET_CAPACITY, HostBank, INVOLUNTARY, LastSwitch, MIGRATIONS, ON_CPU_NS, SLEEPS,
        TAG_BITS, TAG_MASK, TaskSlot, VOLUNTARY, WAIT_NS, WAIT_TABLES, WAITS, left, left_parts,
        task_slot_within, task_tag,
    };
    use collector_ebpf::scale::{TIME_BUCKETS, TIME_TABLES};
    use collector_ebpf::{constants, object, programs, task_cgroup};

    /// What each CPU counts, and what it remembers. User space sets the number of CPUs.
    #[map]
    static HOST: Whole<HostBank> = Whole::new(BPF_F_MMAPABLE);
    #[map]
    static CPUS: Whole<LastSwitch> = Whole::new(0);
    /// Sets of cgroup slots, a row of them for each CPU. User space sets their number.
    #[map]
    static CGROUPS: Whole<CgroupSet> = Whole::new(BPF_F_MMAPABLE);
    /// By pid.
    #[map]
    static TASKS: Whole<TaskSlot> = Whole::new(0);

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
        /// Elements of `HOST` and `CPUS`.
        CPU_COUNT,
        /// Sets of cgroup slots for each CPU, a power of two.
        CGROUP_SETS,
        /// One less than the elements of `TASKS`, which are a power of two.
        TASK_MASK,
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
        fn slot(&self) -> &'static mut TaskSlot {
            // SAFETY: the mask keeps it within the map. Only the CPU that has the task writes its slot, and where two pids
            // share one a torn count is told apart by its tag.
            unsafe { TASKS.element(task_slot_within(self.pid, TASK_MASK.load()) as usize) }
        }

        #[inline(always)]
        fn tagged(&self, value: u64) -> u64 {
            // One more than the value, so that 0 stays "unknown".
            (value + 1) << TAG_BITS | task_tag(self.pid)
        }
    }

    /// Where a task of a cgroup is counted: a number for what says which cgroup that is, and that of a slot of `CGROUPS`.
    #[derive(Clone, Copy)]
    struct Account {
        group: u64,
        slot: u64,
    }

    /// What no slot has for its number.
    const NO_SLOT: u64 = u64::MAX;
    const NO_ACCOUNT: Account = Account { group: 0, slot: NO_SLOT };

    /// This CPU, its bank, and what it remembers.
    struct Cpu {
        number: u32,
        bank: &'static mut HostBank,
        last: &'static mut LastSwitch,
    }

    impl Cpu {
        #[inline(always)]
        fn this() -> Option<Self> {
            // SAFETY: a helper without conditions.
            let number = unsafe { bpf_get_smp_processor_id() };
            if number >= CPU_COUNT.load() {
                return None;
            }
            // SAFETY: there are as many elements. No other program writes to those of this CPU, and this one is not
            // interrupted by itself.
            unsafe {
                let (bank, last) = (HOST.element(number as usize), CPUS.element(number as usize));
                Some(Cpu { number, bank, last })
            }
        }

        /// Where a task is counted, if not where `known` says for tasks of its group.
        #[inline(always)]
        fn account<R: Read, C: EbpfContext>(&mut self, context: &C, task: &Task, known: Account) -> Account {
            let object = task_group::<R>(task.object);
            if object.is_null() {
                return NO_ACCOUNT;
            }
            let group = R::number(object, core::ptr::from_ref(self.last).cast());
            if group == known.group {
                return known;
            }
            Account { group, slot: self.find(context, group_cgroup::<R>(object)) }
        }

        /// The number of a cgroup's slot, taken now if it has none yet.
        #[inline(always)]
        fn find<C: EbpfContext>(&mut self, context: &C, id: u64) -> u64 {
            if id == 0 {
                return NO_SLOT;
            }
            let number = cgroup_set(self.number, CGROUP_SETS.load(), id) as usize;
            // Every CPU has as many. But 5.10 forgets what it knew of the CPU's number when that goes over the stack.
            let place = apart(number);
            if place >= CPU_COUNT.load() as usize * CGROUP_SETS.load() as usize {
                return NO_SLOT;
            }
            // SAFETY: there are as many sets; as for the bank.
            let set = unsafe { CGROUPS.element(place) };
            let (way, taken) = way_of(set, id);
            if taken {
                debug!(context, "cgroup {} takes a slot on CPU {}", id, self.number);
            }
            if way == WAYS {
                self.bank.cgroup_overflow += 1;
                return NO_SLOT;
            }
            (number * WAYS + way) as u64
        }

        /// Counts that `task` leaves the CPU, at `clock`; `sleep` is as in [`left`].
        #[inline(always)]
        fn leave<R: Read, C: EbpfContext>(
            &mut self,
            context: &C,
            task: &Task,
            kept: &mut TaskSlot,
            sleep: Sleep,
            clock: u64,
        ) -> Account {
            let on_cpu = self.stint(clock);
            if TIMES.load() != 0 {
                kept.left_ns = clock;
                kept.left = task_tag(task.pid) | left(self.number, sleep.kind);
            }
            // It got the CPU at the last switch, and is where it was then, unless somebody has moved it meanwhile.
            let last = Account { group: self.last.group, slot: self.last.slot };
            let account = self.account::<R, C>(context, task, last);
            let slot = slot(account.slot);
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
            account
        }

        /// How long the task has had the CPU that leaves it at `clock`. Counted; 0 where that is not known.
        #[inline(always)]
        fn stint(&mut self, clock: u64) -> u64 {
            let since = self.last.at;
            if TIMES.load() == 0 || since == 0 {
                return 0;
            }
            let stint = self.since(clock, since);
            count(&mut self.bank.on_cpu, stint);
            self.bank.on_cpu_ns += stint;
            stint
        }

        /// Counts that `task` gets the CPU, at `clock`, after it waited so long. `left` is where the one before it is counted.
        #[inline(always)]
        fn arrive<R: Read, C: EbpfContext>(
            &mut self,
            context: &C,
            task: &Task,
            kept: &mut TaskSlot,
            wait_ns: u64,
            clock: u64,
            left: Account,
        ) -> Account {
            let number = WAIT_TABLES.bucket(wait_ns);
            if number < BUCKET_CAPACITY {
                self.bank.buckets[number] += 1;
            }
            self.bank.wait_ns += wait_ns;
            let (blocked, migrated) = self.return_of(task, kept, wait_ns, clock);
            let account = self.account::<R, C>(context, task, left);
            if let Some(slot) = slot(account.slot) {
                slot.counts[WAIT_NS] += wait_ns;
                slot.counts[WAITS] += 1;
                slot.counts[BLOCKED_NS] += blocked;
                slot.counts[MIGRATIONS] += migrated;
            }
            account
        }

        /// Counts how long a task has slept that gets the CPU at `clock`, and whether it ran on another one last. Returns how
        /// long it was blocked, and 1 if it migrated.
        #[inline(always)]
        fn return_of(&mut self, task: &Task, kept: &mut TaskSlot, wait_ns: u64, clock: u64) -> (u64, u64) {
            let word = kept.left;
            if TIMES.load() == 0 || word == 0 || word & TAG_MASK != task_tag(task.pid) {
                return (0, 0);
            }
            kept.left = 0;
            let (cpu, kind) = left_parts(word);
            if kind == GONE {
                return (0, 0);
            }
            let migrated = (cpu != u64::from(self.number)) as u64;
            self.bank.migrations += migrated;
            if kind == 0 {
                return (0, migrated);
            }
            let asleep = clock.wrapping_sub(kept.left_ns).wrapping_sub(wait_ns);
            // CPUs' clocks may differ a little, and waits are cut where the kernel's account is: a negative rest is none.
            let asleep = if asleep.cast_signed() < 0 { 0 } else { asleep };
            let which = masked::<1>((kind - 1) as usize);
            count(&mut self.bank.asleep[which], asleep);
            self.bank.asleep_ns[which] += asleep;
            (if kind == UNINTERRUPTIBLE { asleep } else { 0 }, migrated)
        }

        /// Keeps for the next switch when this one was, and where the task is counted that got the CPU. One that is not counted
        /// is in the group of no task: only while it has the CPU can its group not be another's.
        #[inline(always)]
        fn remember(&mut self, clock: u64, account: Account) {
            self.last.at = clock;
            self.last.group = account.group;
            self.last.slot = account.slot;
        }

        /// `later - earlier` on one clock.
        #[inline(always)]
        fn since(&mut self, later: u64, earlier: u64) -> u64 {
            let wait = later.wrapping_sub(earlier);
            if wait.cast_signed() < 0 {
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
            // Of two words with the same tag the difference has none.
            let grown = task.tagged(now).wrapping_sub(kept);
            if grown & TAG_MASK != 0 {
                self.bank.task_overflow += 1;
                return 0;
            }
            grown >> TAG_BITS
        }

        /// How long `task`, which gets the CPU now, has waited since it last had one: by the kernel's own account.
        #[inline(always)]
        fn accounted_wait<R: Read>(&mut self, task: &Task, kept: &TaskSlot, clock: u64) -> u64 {
            // SAFETY: members of `sched_info`.
            let (delay, runs, queued) = unsafe {
                let delay: u64 = task.read::<R, _>(&TASK_RUN_DELAY);
                let runs: u64 = task.read::<R, _>(&TASK_PCOUNT);
                let queued: u64 = task.read::<R, _>(&TASK_LAST_QUEUED);
                (delay, runs, queued)
            };
            // Migrations end a stretch of waiting early: the kernel has added those to `run_delay` already.
            let banked = if runs == 0 { delay } else { self.grown(task, kept.wait, delay) };
            let last = if queued == 0 { 0 } else { self.since(clock, queued) };
            banked + last
        }
    }

    /// The slot of that number.
    #[inline(always)]
    fn slot(number: u64) -> Option<&'static mut CgroupSlot> {
        let all = CPU_COUNT.load() as usize * CGROUP_SETS.load() as usize * WAYS;
        let place = apart(number as usize);
        // SAFETY: a set is its slots, and there are as many. As for the bank of a CPU.
        if place < all { Some(unsafe { CGROUPS.part(place) }) } else { None }
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
    fn count(buckets: &mut [u64; TIME_BUCKETS], ns: u64) {
        let bucket = TIME_TABLES.bucket(ns);
        if bucket < TIME_BUCKETS {
            buckets[bucket] += 1;
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
    fn switch_accounted<R: Read, C: Arguments + EbpfContext>(context: &C) {
        let preempted = context.argument::<u8>(0) != 0;
        let (prev, next) = (Task::new::<R>(context.argument(1)), Task::new::<R>(context.argument(2)));
        let Some(mut cpu) = Cpu::this() else { return };
        // Idle tasks have a queue too.
        let clock = queue_clock::<R>(&next);
        let (mut left, mut account) = (NO_ACCOUNT, NO_ACCOUNT);
        if prev.pid != 0 {
            let kept = prev.slot();
            // SAFETY: a member of `sched_info`.
            kept.wait = prev.tagged(unsafe { prev.read::<R, u64>(&TASK_RUN_DELAY) });
            left = cpu.leave::<R, C>(context, &prev, kept, Sleep::of::<R>(&prev, preempted), clock);
        }
        if next.pid != 0 {
            let kept = next.slot();
            let wait = cpu.accounted_wait::<R>(&next, kept, clock);
            account = cpu.arrive::<R, C>(context, &next, kept, wait, clock, left);
        }
        cpu.remember(clock, account);
    }

    /// Method B, at the switch.
    #[inline(always)]
    fn switch_stamped<R: Read, C: Arguments + EbpfContext>(context: &C) {
        let preempted = context.argument::<u8>(0) != 0;
        let (prev, next) = (Task::new::<R>(context.argument(1)), Task::new::<R>(context.argument(2)));
        let Some(mut cpu) = Cpu::this() else { return };
        // SAFETY: a helper without conditions.
        let now = unsafe { bpf_ktime_get_ns() };
        let (mut left, mut account) = (NO_ACCOUNT, NO_ACCOUNT);
        if prev.pid != 0 {
            let sleep = Sleep::of::<R>(&prev, preempted);
            let kept = prev.slot();
            kept.wait = if sleep.voluntary { 0 } else { prev.tagged(now) };
            left = cpu.leave::<R, C>(context, &prev, kept, sleep, now);
        }
        if next.pid != 0 {
            let kept = next.slot();
            let queued = core::mem::replace(&mut kept.wait, 0);
            // A task whose wakeup nobody saw did wait, but nobody knows how long: it is not counted.
            if queued != 0 {
                let wait = cpu.grown(&next, queued, now);
                account = cpu.arrive::<R, C>(context, &next, kept, wait, now, left);
            }
        }
        cpu.remember(now, account);
    }

    /// Method B, when a task becomes runnable.
    #[inline(always)]
    fn wakeup<R: Read, C: Arguments>(context: &C) {
        let task = Task::new::<R>(context.argument(0));
        let slot = task.slot();
        // A task that is queued already can be woken too, when it was preempted on its way to sleep: it waits since
        // then. What a running task has here is overwritten when it leaves its CPU.
        let waits = slot.wait != 0 && slot.wait & TAG_MASK == task_tag(task.pid);
        if task.pid != 0 && !waits {
            // SAFETY: a helper without conditions.
            slot.wait = task.tagged(unsafe { bpf_ktime_get_ns() });
        }
    }

    programs! {
        "sched_switch" => switch_q, raw_switch_q: switch_accounted;
        "sched_switch" => switch_b, raw_switch_b: switch_stamped;
        "sched_wakeup" => wakeup_b, raw_wakeup_b: wakeup;
        "sched_wakeup_new" => wakeup_new_b, raw_wakeup_new_b: wakeup;
    }

    /// Does nothing: with it one measures what the attachment alone costs.
    #[btf_tracepoint(function = "sched_switch")]
    fn switch_empty(_context: BtfTracePointContext) -> i32 {
        0
    }

    object!();
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
