//! The process probe: forks, execs and exits, how processes ended and how long they lived; for the host and by cgroup.
//!
//! Kernel interface: the tracepoints `sched_process_fork`, `sched_process_exec` and `sched_process_exit`. Cost: in the
//! kernel some 150 ns each, a tick some microseconds and no system call.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use collector_ebpf::process::{self as shared, HostBank};

use super::cgroup_slots::{CgroupSlots, Counts};
use super::counts::{self, Histogram};
use super::ground::{Ground, Hook, InRows};
use super::kernel_map::KernelMap;
use super::load::{ProbeError, RunningProgram};
use super::{Probe, Running};
use crate::model::{Family, Recorder};
use crate::sys::text::Decimal;

static FORKS: Family = Family::counter(
    "collector_process_forks_total",
    "Tasks that were made: processes, and threads of them.",
    &["kind"],
);
static EXECS: Family =
    Family::counter("collector_process_execs_total", "Programs that were started in a process.", &[]);
static EXITS: Family = Family::counter(
    "collector_process_exits_total",
    "Processes that ended by themselves, by the code that they gave.",
    &["code"],
);
static KILLED: Family = Family::counter(
    "collector_process_killed_total",
    "Processes that a signal ended, by its number.",
    &["signal"],
);
static LIFETIME: Family = Family::histogram(
    "collector_process_lifetime_seconds",
    "Time from the start of a process to its end.",
    &[],
);
static CGROUP_FORKS: Family = Family::counter(
    "collector_cgroup_process_forks_total",
    "Tasks that were made in the cgroup: processes, and threads of them.",
    &["cgroup", "kind"],
);
static CGROUP_EXECS: Family = Family::counter(
    "collector_cgroup_process_execs_total",
    "Programs that were started in the cgroup.",
    &["cgroup"],
);
static CGROUP_EXITS: Family = Family::counter(
    "collector_cgroup_process_exits_total",
    "Processes of the cgroup that ended: with code 0 (success), with another (failure), or by a signal.",
    &["cgroup", "outcome"],
);
static CGROUP_SHORT_LIVED: Family = Family::counter(
    "collector_cgroup_process_short_lived_total",
    "Processes of the cgroup that ended within a second of their start.",
    &["cgroup"],
);

pub(super) static PROBE: Probe = Probe {
    name: "process",
    about: "forks, execs, exits and lifetimes of processes",
    default_on: true,
    hooks: &[HOOKS],
    needs: "task_struct, cgroup",
    families: &[
        &FORKS,
        &EXECS,
        &EXITS,
        &KILLED,
        &LIFETIME,
        &CGROUP_FORKS,
        &CGROUP_EXECS,
        &CGROUP_EXITS,
        &CGROUP_SHORT_LIVED,
    ],
    start: |ground| Ok(Box::new(Process::start(ground)?)),
};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../collector-ebpf/prebuilt/process.o");

const HOOKS: &[Hook] = &[
    Hook::new("sched_process_fork", "process_fork", "raw_proc_fork"),
    Hook::new("sched_process_exec", "process_exec", "raw_proc_exec"),
    Hook::new("sched_process_exit", "process_exit", "raw_proc_exit"),
];

struct Process {
    host: KernelMap,
    lifetimes: Histogram,
    cgroups: Option<CgroupSlots>,
    programs: Vec<RunningProgram>,
}

impl Process {
    fn start(ground: &mut Ground<'_>) -> Result<Self, ProbeError> {
        let source = ground.task_source().0;
        let mut find = ground.finder()?;
        let task = find.btf.structure("task_struct")?;
        find.tracepoint("sched_process_fork", &[(0, task), (1, task)])?;
        find.tracepoint("sched_process_exec", &[(0, task)])?;
        let exit = find.tracepoint("sched_process_exit", &[(0, task)])?;
        // Since 6.16 it says whether the task is the last of its process.
        let says_last = exit.get(1).is_some_and(|&flag| find.btf.size(flag) == Some(1));
        find.set("SAYS_LAST", u32::from(says_last));
        find.member(task, "pid", 4, "TASK_PID")?;
        find.member(task, "tgid", 4, "TASK_TGID")?;
        find.member(task, "exit_code", 4, "TASK_EXIT_CODE")?;
        find.member(task, "start_time", 8, "TASK_START")?;
        find.pointer(task, "group_leader", "TASK_LEADER")?;
        let found = find.task_cgroup(task, source);
        let constants = find.constants;
        let (_, cgroups) = ground.task_cgroups(PROBE.name, |_| found);
        let InRows { loaded, rows, cgroups } =
            ground.load_in_rows(OBJECT, constants, &[("HOST", 1)], cgroups.as_ref(), HOOKS)?;
        Ok(Process {
            host: loaded.map::<HostBank>("HOST", rows)?,
            lifetimes: Histogram::new(&counts::TIMES),
            cgroups,
            programs: loaded.attach()?,
        })
    }

    /// Gives a counter of each number that there was.
    fn numbered(&self, family: &'static Family, at: usize, numbers: usize, out: &mut Recorder) {
        for number in 0..numbers {
            let rows = counts::rows(&self.host);
            let count: u64 = rows.map(|row| row[at / 8 + number].load(Ordering::Relaxed)).sum();
            if count > 0 {
                out.put(family, &[Decimal::new(number as u64).as_str()], counts::number(count));
            }
        }
    }
}

impl Running for Process {
    fn programs(&self) -> &[RunningProgram] {
        &self.programs
    }

    fn cgroups(&mut self) -> Option<&mut CgroupSlots> {
        self.cgroups.as_mut()
    }

    fn read(&mut self, out: &mut Recorder) {
        out.put(&FORKS, &["process"], counts::sum(&self.host, offset_of!(HostBank, forks)));
        out.put(&FORKS, &["thread"], counts::sum(&self.host, offset_of!(HostBank, threads)));
        out.put(&EXECS, &[], counts::sum(&self.host, offset_of!(HostBank, execs)));
        self.numbered(&EXITS, offset_of!(HostBank, codes), 256, out);
        self.numbered(&KILLED, offset_of!(HostBank, signals), 128, out);
        let at = offset_of!(HostBank, lifetime);
        out.histogram(&LIFETIME, &[], &self.lifetimes.read(counts::rows(&self.host), at, at + 8));
        let Some(cgroups) = &self.cgroups else { return };
        let number = |counts: &Counts, of: usize| counts::number(counts[of]);
        for (path, counts) in cgroups.named() {
            out.put(&CGROUP_FORKS, &[path, "process"], number(counts, shared::FORKS));
            out.put(&CGROUP_FORKS, &[path, "thread"], number(counts, shared::THREADS));
        }
        cgroups.put(&CGROUP_EXECS, |counts| number(counts, shared::EXECS), out);
        for (path, counts) in cgroups.named() {
            out.put(&CGROUP_EXITS, &[path, "success"], number(counts, shared::EXITED_WELL));
            out.put(&CGROUP_EXITS, &[path, "failure"], number(counts, shared::EXITED_BADLY));
            out.put(&CGROUP_EXITS, &[path, "signal"], number(counts, shared::KILLED));
        }
        cgroups.put(&CGROUP_SHORT_LIVED, |counts| number(counts, shared::SHORT_LIVED), out);
    }

    fn lost(&self, lose: &mut dyn FnMut(&'static str, f64)) {
        lose("cgroup_slots", counts::sum(&self.host, offset_of!(HostBank, cgroup_slots)));
    }
}
