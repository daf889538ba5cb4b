//! The run-queue probe: how long tasks were runnable before they ran, and how often they were switched, for the host
//! and for each cgroup.
//!
//! Kernel interface: the tracepoints `sched_switch`, `sched_wakeup`, `sched_wakeup_new`; /proc/sys/kernel/pid_max and
//! /proc/self/mountinfo once. Cost: in the kernel some 60 ns a switch beyond that of an empty program, a tick some
//! microseconds and no system call. See docs/ebpf.md for the methods, their errors and their limits.

mod cgroups;
mod counts;
mod layout;

use std::mem::offset_of;
use std::path::{Path, PathBuf};

use collector_ebpf::runqueue as shared;
use collector_ebpf::runqueue::{CgroupSet, CgroupSource, HostBank};

use self::cgroups::Cgroups;
use self::counts::HostCounts;
use self::layout::Layout;
use super::btf::Btf;
use super::cgroup_names::{self, Hierarchies};
use super::load::{self, Attach, Messages, Plan, ProbeError, RunningProgram};
use super::{Attachment, CgroupChoice, EbpfOptions, Method};
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
static INFO: Family = Family::gauge(
    "collector_runqueue_probe_info",
    "How the run-queue probe measures on this kernel: always 1.",
    &["method", "attach", "cgroups"],
);
static LOST: Family = Family::counter(
    "collector_ebpf_lost_total",
    "Events that a probe could not count in full, by probe and by the limit that they met.",
    &["probe", "limit"],
);

/// The families of this probe.
pub(super) static FAMILIES: &[&Family] =
    &[&LATENCY, &SWITCHES, &CGROUP_WAIT, &CGROUP_WAITS, &CGROUP_SWITCHES, &INFO, &LOST];

/// The name of the probe: file, label, and object.
pub(super) const NAME: &str = "runqueue";

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../collector-ebpf/prebuilt/runqueue.o");

const ACCOUNTED: &[Attach] = &[Attach { program: "switch_q", tracepoint: "sched_switch" }];
const ACCOUNTED_RAW: &[Attach] = &[Attach { program: "raw_switch_q", tracepoint: "sched_switch" }];
const STAMPED: &[Attach] = &[
    Attach { program: "wakeup_b", tracepoint: "sched_wakeup" },
    Attach { program: "wakeup_new_b", tracepoint: "sched_wakeup_new" },
    Attach { program: "switch_b", tracepoint: "sched_switch" },
];
const STAMPED_RAW: &[Attach] = &[
    Attach { program: "raw_wakeup_b", tracepoint: "sched_wakeup" },
    Attach { program: "raw_wakeup_new_b", tracepoint: "sched_wakeup_new" },
    Attach { program: "raw_switch_b", tracepoint: "sched_switch" },
];
const EMPTY: &[Attach] = &[Attach { program: "switch_empty", tracepoint: "sched_switch" }];

/// Slots for each cgroup that is there when the probe starts: room for more, and few sets that are full by chance.
const SLOTS_PER_CGROUP: usize = 4;

/// Bytes of all CPUs' slots: they are mapped, and count as this process's memory once they have been read.
const MAX_SLOT_BYTES: usize = 8 << 20;

/// One way to run the probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    method: Method,
    typed: bool,
}

impl Way {
    fn programs(self) -> &'static [Attach] {
        match (self.method, self.typed) {
            (Method::Empty, _) => EMPTY,
            (Method::Stamped, true) => STAMPED,
            (Method::Stamped, false) => STAMPED_RAW,
            (_, true) => ACCOUNTED,
            (_, false) => ACCOUNTED_RAW,
        }
    }

    fn labels(self) -> [&'static str; 2] {
        let method = match self.method {
            Method::Stamped => "timestamps",
            Method::Empty => "none",
            Method::Auto | Method::Accounted => "sched_info",
        };
        [method, if self.typed { "tp_btf" } else { "raw_tp" }]
    }
}

/// The probe in the kernel.
pub(super) struct Runqueue {
    way: Way,
    source: CgroupSource,
    host: HostCounts,
    cgroups: Option<Cgroups>,
    messages: Option<Messages>,
    programs: Vec<RunningProgram>,
}

/// What does not depend on the way.
struct Ground {
    layout: Layout,
    cpus: usize,
    task_bits: u32,
    source: CgroupSource,
    mount: Option<PathBuf>,
    sets: u32,
}

impl Runqueue {
    /// Loads and attaches the probe the best way that this kernel allows.
    pub(super) fn start(options: &EbpfOptions) -> Result<Self, ProbeError> {
        let mut file = Vec::new();
        read_once(&options.btf, &mut file)?;
        let layout = Layout::new(&Btf::parse(&file)?)?;
        let ground = Ground::new(options, layout)?;
        let ways = ways(options, &ground.layout)?;
        let mut first_error = None;
        for way in ways {
            match ground.start(options, way, way.typed.then_some(&file)) {
                Ok(probe) => return Ok(probe),
                Err(error @ ProbeError::Rejected { .. }) => {
                    let [method, attach] = way.labels();
                    log::debug!(probe = NAME, method, attach, err:% = error; "the kernel refused this way");
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(first_error.unwrap_or_else(|| ProbeError::NotSupported("every way to run the probe".to_owned())))
    }

    pub(super) fn programs(&self) -> &[RunningProgram] {
        &self.programs
    }

    /// Reads what was counted until now, and hands it to `out`.
    pub(super) fn read(&mut self, time_ms: i64, out: &mut Recorder) {
        if let Some(messages) = &mut self.messages {
            messages.flush();
        }
        let [method, attach] = self.way.labels();
        out.put(&INFO, &[method, attach, source_label(self.source)], 1.0);
        if self.way.method == Method::Empty {
            return;
        }
        self.host.read();
        out.histogram(&LATENCY, &[], &self.host.snapshot());
        out.put(&SWITCHES, &["voluntary"], self.host.sum(offset_of!(HostBank, voluntary)));
        out.put(&SWITCHES, &["involuntary"], self.host.sum(offset_of!(HostBank, involuntary)));
        for (limit, offset) in [
            ("cgroup_slots", offset_of!(HostBank, cgroup_overflow)),
            ("task_slots", offset_of!(HostBank, task_overflow)),
            ("clock", offset_of!(HostBank, clock_backwards)),
        ] {
            out.put(&LOST, &[NAME, limit], self.host.sum(offset));
        }
        out.put(&LOST, &[NAME, "longest_wait"], self.host.overflow());
        let Some(cgroups) = &mut self.cgroups else { return };
        cgroups.read(time_ms);
        for (path, counts) in cgroups.named() {
            out.put(&CGROUP_WAIT, &[path], counts::seconds(counts.wait_ns));
        }
        for (path, counts) in cgroups.named() {
            out.put(&CGROUP_WAITS, &[path], counts::number(counts.waits));
        }
        for (path, counts) in cgroups.named() {
            out.put(&CGROUP_SWITCHES, &[path, "voluntary"], counts::number(counts.voluntary));
            out.put(&CGROUP_SWITCHES, &[path, "involuntary"], counts::number(counts.involuntary));
        }
    }
}

impl Ground {
    fn new(options: &EbpfOptions, layout: Layout) -> Result<Self, ProbeError> {
        let cpus = aya::util::nr_cpus()
            .map_err(|(_, source)| ProbeError::Io { what: "counting the possible CPUs", source })?;
        let pid_max =
            read_number(&options.procfs.join("sys/kernel/pid_max")).unwrap_or(1 << shared::PID_BITS);
        let pid_bits = 64 - pid_max.saturating_sub(1).leading_zeros();
        let task_bits = pid_bits.clamp(shared::MIN_TASK_BITS, shared::MAX_TASK_BITS);
        let (source, mount) = cgroup_source(options, &layout);
        let mut present = 0;
        if let Some(mount) = &mount {
            // What can't be counted gets the smallest table; the walks of a tick will say what is wrong.
            let _ = cgroup_names::walk(mount, |_, _| present += 1);
        }
        let sets = sets(present, cpus);
        Ok(Ground { layout, cpus, task_bits, source, mount, sets })
    }

    fn start(&self, options: &EbpfOptions, way: Way, btf: Option<&Vec<u8>>) -> Result<Runqueue, ProbeError> {
        let mut constants = self.layout.constants.clone();
        constants.push(("CGROUP_SOURCE", self.source as u32));
        constants.push(("CGROUP_SETS", self.sets));
        constants.push(("TASK_BITS", self.task_bits));
        let cpus =
            u32::try_from(self.cpus).map_err(|_| ProbeError::NotSupported("so many CPUs".to_owned()))?;
        let plan = Plan {
            object: options.object.as_deref().unwrap_or(OBJECT),
            constants: &constants,
            map_sizes: &[("HOST", cpus), ("CGROUPS", cpus * self.sets), ("TASKS", 1 << self.task_bits)],
            programs: way.programs(),
            typed: btf.map(Vec::as_slice),
            messages: options.messages,
        };
        let mut loaded = load::load(&plan)?;
        let host = HostCounts::new(loaded.map::<HostBank>("HOST", self.cpus)?);
        let cgroups = match &self.mount {
            Some(mount) => {
                let map = loaded.map::<CgroupSet>("CGROUPS", self.cpus * self.sets as usize)?;
                Some(Cgroups::new(map, mount.clone()))
            }
            None => None,
        };
        let messages = if options.messages { loaded.messages() } else { None };
        let programs = loaded.attach(way.programs())?;
        Ok(Runqueue { way, source: self.source, host, cgroups, messages, programs })
    }
}

/// Sets of slots for each CPU: a power of two.
fn sets(cgroups: usize, cpus: usize) -> u32 {
    let wanted = (cgroups * SLOTS_PER_CGROUP / shared::WAYS).next_power_of_two();
    let room = MAX_SLOT_BYTES / (cpus * size_of::<CgroupSet>());
    let room = 1 << room.max(1).ilog2();
    u32::try_from(wanted.min(room)).unwrap_or(u32::MAX).clamp(shared::MIN_SETS, shared::MAX_SETS)
}

/// The ways that `options` leave and this kernel may allow, best first.
fn ways(options: &EbpfOptions, layout: &Layout) -> Result<Vec<Way>, ProbeError> {
    let mut methods = match options.method {
        Method::Auto => vec![Method::Accounted, Method::Stamped],
        method => vec![method],
    };
    let accounted = match &layout.accounted {
        Err(missing) => Err(missing.to_string()),
        Ok(()) if !keeps_account(&options.procfs) => {
            Err("delay accounting, which is switched off".to_owned())
        }
        Ok(()) => Ok(()),
    };
    if let Err(missing) = accounted {
        methods.retain(|&method| method != Method::Accounted);
        if methods.is_empty() {
            return Err(ProbeError::NotSupported(missing));
        }
        log::info!(probe = NAME, missing = missing.as_str(); "falling back to time stamps of wakeups");
    }
    // The kernel types a program's arguments by its own BTF, not by a file that someone brings along.
    let attachments: &[bool] = match options.attachment {
        Attachment::Auto if options.btf == Path::new(super::KERNEL_BTF) => &[true, false],
        Attachment::Auto | Attachment::Raw => &[false],
        Attachment::Typed => &[true],
    };
    let ways = methods.iter().flat_map(|&method| attachments.iter().map(move |&typed| Way { method, typed }));
    Ok(ways.collect())
}

/// Whether the kernel fills `sched_info`: up to 5.13 it does so only with delay accounting or schedstats. This thread
/// has run at least once, so that a count of 0 means no.
fn keeps_account(procfs: &Path) -> bool {
    let mut buffer = Vec::new();
    match read_once(&procfs.join("thread-self/schedstat"), &mut buffer) {
        Ok(text) => text::words(text).nth(2).and_then(text::parse_u64) != Some(0),
        Err(_) => true,
    }
}

/// From where to take cgroups, and where their names are.
///
/// Where the `cpu` controller is still on version 1, that hierarchy is the one that carries containers, and the one
/// by which the scheduler shares CPUs out; else it is version 2, down to the cgroup that the task is in, because the
/// `cpu` controller need not be switched on all the way down.
fn cgroup_source(options: &EbpfOptions, layout: &Layout) -> (CgroupSource, Option<PathBuf>) {
    let mut buffer = Vec::new();
    let mounts = match read_once(&options.procfs.join("self/mountinfo"), &mut buffer) {
        Ok(text) => Hierarchies::parse(text),
        Err(_) => Hierarchies::default(),
    };
    let wanted = match options.cgroups {
        CgroupChoice::Off => CgroupSource::None,
        CgroupChoice::Unified => CgroupSource::Unified,
        CgroupChoice::Scheduler => CgroupSource::Scheduler,
        CgroupChoice::Auto if mounts.cpu.is_some() => CgroupSource::Scheduler,
        CgroupChoice::Auto => CgroupSource::Unified,
    };
    let found = match wanted {
        CgroupSource::None => return (CgroupSource::None, None),
        CgroupSource::Unified => mounts.unified,
        CgroupSource::Scheduler => mounts.cpu.or(mounts.unified),
    };
    let problem = match layout.allows(wanted) {
        Err(missing) => missing.to_string(),
        Ok(()) => match options.cgroup_mount.clone().or(found) {
            Some(mount) => return (wanted, Some(mount)),
            None => "no such cgroup hierarchy is mounted".to_owned(),
        },
    };
    log::warn!(probe = NAME, err = problem.as_str(); "cgroups are not told apart");
    (CgroupSource::None, None)
}

fn source_label(source: CgroupSource) -> &'static str {
    match source {
        CgroupSource::None => "none",
        CgroupSource::Unified => "unified",
        CgroupSource::Scheduler => "cpu",
    }
}

fn read_number(path: &Path) -> Option<u64> {
    let mut buffer = Vec::new();
    text::parse_u64(text::trim(read_once(path, &mut buffer).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_grow_with_the_cgroups_up_to_the_room_that_there_is() {
        assert_eq!(sets(0, 2), shared::MIN_SETS);
        assert_eq!(sets(100, 2), 64);
        assert_eq!(sets(300, 64), 256);
        assert_eq!(sets(100_000, 2), shared::MAX_SETS);
        assert_eq!(sets(100_000, 128), 128);
        assert_eq!(sets(100_000, 8192), shared::MIN_SETS);
    }
}
