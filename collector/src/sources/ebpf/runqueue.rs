//! The run-queue probe: how long tasks were runnable before they ran, how long they ran and slept, and how often they were
//! switched and moved to another CPU, for the host and for each cgroup.
//!
//! Kernel interface: the tracepoints `sched_switch`, `sched_wakeup`, `sched_wakeup_new`; /proc/sys/kernel/pid_max and
//! /proc/self/mountinfo once. Cost: in the kernel some 30 ns a switch beyond that of an empty program, a tick some
//! microseconds and no system call. See docs/ebpf.md for the methods, their errors and their limits.

use std::mem::offset_of;

use collector_ebpf::cgroups::CgroupSource;
use collector_ebpf::runqueue as shared;
use collector_ebpf::runqueue::HostBank;
use collector_ebpf::scale::TIME_BUCKETS;

use super::btf::BtfError;
use super::cgroup_slots::{CgroupSlots, Counts};
use super::counts::{self, Histogram};
use super::ground::{self, Ground, Hook};
use super::kernel_map::KernelMap;
use super::layout::Finder;
use super::load::{Messages, ProbeError, RunningProgram};
use super::{Method, Probe, Running};
use crate::model::{Family, Recorder};
use crate::sys::file::read_once;
use crate::sys::text;

static LATENCY: Family = Family::histogram(
    "collector_runqueue_latency_seconds",
    "Time that tasks were runnable before they got a CPU.",
    &[],
);
static SWITCHES: Family = Family::counter(
    "collector_context_switches_total",
    "Switches away from a task: voluntary when it went to sleep, involuntary when it could have gone on.",
    &["kind"],
);
static CGROUP_WAIT: Family = Family::counter(
    "collector_cgroup_runqueue_wait_seconds_total",
    "Time that the cgroup's own tasks were runnable before they got a CPU.",
    &["cgroup"],
);
static CGROUP_WAITS: Family = Family::counter(
    "collector_cgroup_runqueue_waits_total",
    "How often one of the cgroup's own tasks got a CPU.",
    &["cgroup"],
);
static CGROUP_SWITCHES: Family = Family::counter(
    "collector_cgroup_context_switches_total",
    "Switches away from one of the cgroup's own tasks, by kind as for the host.",
    &["cgroup", "kind"],
);
static ON_CPU: Family = Family::histogram(
    "collector_task_on_cpu_seconds",
    "Time that tasks had a CPU, from getting it until they left it.",
    &[],
);
static SLEEP: Family = Family::histogram(
    "collector_task_sleep_seconds",
    "Time that tasks slept, from leaving the CPU until they were runnable again: woken by signals too (interruptible) or not (uninterruptible: they wait for a disk, a lock).",
    &["state"],
);
static MIGRATIONS: Family = Family::counter(
    "collector_task_migrations_total",
    "How often a task got another CPU than that on which it ran last.",
    &[],
);
static CGROUP_ON_CPU: Family = Family::counter(
    "collector_cgroup_task_on_cpu_seconds_total",
    "Time that the cgroup's own tasks had a CPU, up to their last switch.",
    &["cgroup"],
);
static CGROUP_BLOCKED: Family = Family::counter(
    "collector_cgroup_task_blocked_seconds_total",
    "Time that the cgroup's own tasks slept uninterruptibly: waiting for a disk, a lock.",
    &["cgroup"],
);
static CGROUP_MIGRATIONS: Family = Family::counter(
    "collector_cgroup_task_migrations_total",
    "How often one of the cgroup's own tasks got another CPU than that on which it ran last.",
    &["cgroup"],
);
static INFO: Family = Family::gauge(
    "collector_runqueue_probe_info",
    "How the run-queue probe measures on this kernel: always 1.",
    &["method", "attach", "cgroups"],
);
/// What runs, and what it needs.
pub(super) static PROBE: Probe = Probe {
    name: "runqueue",
    about: "run-queue latency, context switches, time on and off the CPU",
    default_on: true,
    hooks: &[ACCOUNTED, STAMPED],
    needs: "task_struct, sched_info (or wakeup tracepoints), cgroup",
    families: &[
        &LATENCY,
        &SWITCHES,
        &ON_CPU,
        &SLEEP,
        &MIGRATIONS,
        &CGROUP_WAIT,
        &CGROUP_WAITS,
        &CGROUP_SWITCHES,
        &CGROUP_ON_CPU,
        &CGROUP_BLOCKED,
        &CGROUP_MIGRATIONS,
        &INFO,
    ],
    start: |ground| Ok(Box::new(Runqueue::start(ground)?)),
};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../collector-ebpf/prebuilt/runqueue.o");

const ACCOUNTED: &[Hook] = &[Hook::new("sched_switch", "switch_q", "raw_switch_q")];
const STAMPED: &[Hook] = &[
    Hook::new("sched_wakeup", "wakeup_b", "raw_wakeup_b"),
    Hook::new("sched_wakeup_new", "wakeup_new_b", "raw_wakeup_new_b"),
    Hook::new("sched_switch", "switch_b", "raw_switch_b"),
];
const EMPTY: &[Hook] = &[Hook::new("sched_switch", "switch_empty", "switch_empty")];

/// Bytes of all CPUs' slots: they are mapped, and count as this process's memory once they have been read. They are one value
/// to the kernel, and 5.10 takes no larger one.
const MAX_SLOT_BYTES: usize = 4 << 20;

impl Method {
    fn hooks(self) -> &'static [Hook] {
        match self {
            Method::Empty => EMPTY,
            Method::Stamped => STAMPED,
            Method::Auto | Method::Accounted => ACCOUNTED,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Method::Stamped => "timestamps",
            Method::Empty => "none",
            Method::Auto | Method::Accounted => "sched_info",
        }
    }
}

/// The probe in the kernel.
struct Runqueue {
    method: Method,
    typed: bool,
    source: CgroupSource,
    host: KernelMap,
    waits: Histogram,
    /// Where time on a CPU, sleep and migrations are counted.
    times: Option<Histogram>,
    cgroups: Option<CgroupSlots>,
    messages: Option<Messages>,
    programs: Vec<RunningProgram>,
}

impl Runqueue {
    /// Loads and attaches the probe the best way that this kernel allows.
    fn start(ground: &mut Ground<'_>) -> Result<Self, ProbeError> {
        let mut find = ground.finder()?;
        let accounted = look_up(&mut find)?;
        let task = find.btf.structure("task_struct")?;
        let methods = methods(ground, accounted.err())?;
        let (mut constants, source) = (find.constants, ground.task_source().0);
        let mut way = ground.finder()?;
        let found = way.task_cgroup(task, source);
        constants.extend(way.constants);
        let (source, cgroups) = ground.task_cgroups(PROBE.name, |_| found);
        let sets = ground::sets(cgroups.as_ref(), ground.cpus, MAX_SLOT_BYTES);
        let task_bits = ground.task_bits();
        let cpus =
            u32::try_from(ground.cpus).map_err(|_| ProbeError::NotSupported("so many CPUs".to_owned()))?;
        constants.extend([
            ("CPU_COUNT", cpus),
            ("CGROUP_SETS", sets),
            ("TASK_MASK", (1 << task_bits) - 1),
            ("TIMES", u32::from(ground.options.times)),
        ]);
        let elements = ground.cpus * sets as usize;
        let tasks = 1 << task_bits;
        let sizes = [("HOST", ground.cpus), ("CPUS", ground.cpus), ("CGROUPS", elements), ("TASKS", tasks)];
        let mut first_error = None;
        for method in methods {
            let loaded = match ground.load(OBJECT, &constants, &sizes, method.hooks()) {
                Ok(loaded) => loaded,
                Err(error @ ProbeError::Rejected { .. }) => {
                    first_error.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let cgroups = cgroups.as_ref().map(|cgroups| cgroups.slots(&loaded, elements)).transpose()?;
            return Ok(Runqueue {
                method,
                typed: loaded.is_typed(),
                source,
                host: loaded.map::<HostBank>("HOST", ground.cpus)?,
                waits: Histogram::new(&counts::WAITS),
                times: ground.options.times.then(|| Histogram::new(&counts::TIMES)),
                cgroups,
                messages: if ground.options.messages { loaded.messages() } else { None },
                programs: loaded.attach()?,
            });
        }
        Err(first_error.unwrap_or_else(|| ProbeError::NotSupported("every way to run the probe".to_owned())))
    }
}

impl Runqueue {
    fn read_times(&mut self, out: &mut Recorder) {
        let Some(times) = &mut self.times else { return };
        let (sum, buckets) = (offset_of!(HostBank, on_cpu_ns), offset_of!(HostBank, on_cpu));
        out.histogram(&ON_CPU, &[], &times.read(counts::rows(&self.host), sum, buckets));
        for (number, state) in shared::SLEEPS.iter().enumerate() {
            let sum = offset_of!(HostBank, asleep_ns) + number * 8;
            let buckets = offset_of!(HostBank, asleep) + number * TIME_BUCKETS * 8;
            out.histogram(&SLEEP, &[state], &times.read(counts::rows(&self.host), sum, buckets));
        }
        out.put(&MIGRATIONS, &[], counts::sum(&self.host, offset_of!(HostBank, migrations)));
    }

    fn read_cgroups(&self, out: &mut Recorder) {
        let Some(cgroups) = &self.cgroups else { return };
        let seconds = |of: usize| move |counts: &Counts| counts::seconds(counts[of]);
        let number = |of: usize| move |counts: &Counts| counts::number(counts[of]);
        cgroups.put(&CGROUP_WAIT, seconds(shared::WAIT_NS), out);
        cgroups.put(&CGROUP_WAITS, number(shared::WAITS), out);
        for (path, counts) in cgroups.named() {
            out.put(&CGROUP_SWITCHES, &[path, "voluntary"], counts::number(counts[shared::VOLUNTARY]));
            out.put(&CGROUP_SWITCHES, &[path, "involuntary"], counts::number(counts[shared::INVOLUNTARY]));
        }
        if self.times.is_some() {
            cgroups.put(&CGROUP_ON_CPU, seconds(shared::ON_CPU_NS), out);
            cgroups.put(&CGROUP_BLOCKED, seconds(shared::BLOCKED_NS), out);
            cgroups.put(&CGROUP_MIGRATIONS, number(shared::MIGRATIONS), out);
        }
    }
}

impl Running for Runqueue {
    fn programs(&self) -> &[RunningProgram] {
        &self.programs
    }

    fn cgroups(&mut self) -> Option<&mut CgroupSlots> {
        self.cgroups.as_mut()
    }

    fn read(&mut self, out: &mut Recorder) {
        if let Some(messages) = &mut self.messages {
            messages.flush();
        }
        let attach = if self.typed { "tp_btf" } else { "raw_tp" };
        out.put(&INFO, &[self.method.label(), attach, source_label(self.source)], 1.0);
        if self.method == Method::Empty {
            return;
        }
        let (sum, buckets) = (offset_of!(HostBank, wait_ns), offset_of!(HostBank, buckets));
        out.histogram(&LATENCY, &[], &self.waits.read(counts::rows(&self.host), sum, buckets));
        out.put(&SWITCHES, &["voluntary"], counts::sum(&self.host, offset_of!(HostBank, voluntary)));
        out.put(&SWITCHES, &["involuntary"], counts::sum(&self.host, offset_of!(HostBank, involuntary)));
        self.read_times(out);
        self.read_cgroups(out);
    }

    fn lost(&self, lose: &mut dyn FnMut(&'static str, f64)) {
        if self.method == Method::Empty {
            return;
        }
        for (limit, offset) in [
            ("cgroup_slots", offset_of!(HostBank, cgroup_overflow)),
            ("task_slots", offset_of!(HostBank, task_overflow)),
            ("clock", offset_of!(HostBank, clock_backwards)),
        ] {
            lose(limit, counts::sum(&self.host, offset));
        }
        lose("longest_wait", self.waits.overflow());
    }
}

/// Finds what every method needs: tracepoints that give tasks, their pid and state. Returns whether the kernel has its
/// own account of waiting too.
fn look_up(find: &mut Finder<'_>) -> Result<Result<(), BtfError>, ProbeError> {
    let task = find.btf.structure("task_struct")?;
    find.tracepoint("sched_switch", &[(1, task), (2, task)])?;
    find.tracepoint("sched_wakeup", &[(0, task)])?;
    find.tracepoint("sched_wakeup_new", &[(0, task)])?;
    find.member(task, "pid", 4, "TASK_PID")?;
    // It was renamed in 5.14.
    if find.member(task, "__state", 4, "TASK_STATE").is_err() {
        find.member(task, "state", 4, "TASK_STATE")?;
    }
    // CONFIG_SCHED_INFO; and the clock of the run queue, which every task can reach where groups are scheduled
    // (CONFIG_FAIR_GROUP_SCHED).
    let mut accounted = || {
        find.member(task, "sched_info.run_delay", 8, "TASK_RUN_DELAY")?;
        find.member(task, "sched_info.pcount", 8, "TASK_PCOUNT")?;
        find.member(task, "sched_info.last_queued", 8, "TASK_LAST_QUEUED")?;
        let queue = find.pointer(task, "se.cfs_rq", "TASK_CFS_RQ")?;
        let cpu_queue = find.pointer(queue, "rq", "CFS_RQ_RQ")?;
        find.member(cpu_queue, "clock", 8, "RQ_CLOCK").map(drop)
    };
    Ok(accounted())
}

/// The methods that the options leave and this kernel may allow, best first.
fn methods(ground: &Ground<'_>, missing: Option<BtfError>) -> Result<Vec<Method>, ProbeError> {
    let mut methods = match ground.options.method {
        Method::Auto => vec![Method::Accounted, Method::Stamped],
        method => vec![method],
    };
    let missing = match missing {
        Some(missing) => missing.to_string(),
        None if !keeps_account(&ground.options.procfs) => {
            "delay accounting, which is switched off".to_owned()
        }
        None => return Ok(methods),
    };
    methods.retain(|&method| method != Method::Accounted);
    if methods.is_empty() {
        return Err(ProbeError::NotSupported(missing));
    }
    log::info!(probe = PROBE.name, missing = missing.as_str(); "falling back to time stamps of wakeups");
    Ok(methods)
}

/// Whether the kernel fills `sched_info`: up to 5.13 it does so only with delay accounting or schedstats. This thread
/// has run at least once, so that a count of 0 means no.
fn keeps_account(procfs: &std::path::Path) -> bool {
    let mut buffer = Vec::new();
    match read_once(&procfs.join("thread-self/schedstat"), &mut buffer) {
        Ok(text) => text::words(text).nth(2).and_then(text::parse_u64) != Some(0),
        Err(_) => true,
    }
}

fn source_label(source: CgroupSource) -> &'static str {
    match source {
        CgroupSource::None => "none",
        CgroupSource::Unified => "unified",
        CgroupSource::Scheduler => "cpu",
    }
}
