//! The probe of CPU throttling: how long the run queue of a cgroup on a CPU was held back each time because the cgroup had
//! used up its CPU time (`cpu.max`), for the host and by cgroup.
//!
//! Kernel interface: the start and the end of `unthrottle_cfs_rq` (fentry, fexit), which a kernel that is locked down
//! refuses. Cost: nothing where nobody has such a limit; a tick some microseconds. The totals are those of cpu.stat
//! (`throttled_usec`), as they are added up there: when a run queue is let go.

use std::mem::offset_of;

use collector_ebpf::throttle::{HostBank, NS, TIMES};

use super::btf::BtfError;
use super::cgroup_slots::CgroupSlots;
use super::counts::{self, Histogram};
use super::ground::{CgroupGround, Ground, Hook, told_why};
use super::kernel_map::KernelMap;
use super::layout::Finder;
use super::load::{Attach, ProbeError, RunningProgram, Way};
use super::{CgroupChoice, Probe, Running};
use crate::model::{Family, Recorder};

static THROTTLED: Family = Family::histogram(
    "collector_cpu_throttle_seconds",
    "Time that the run queue of a cgroup on a CPU was held back, each time, because the cgroup had used up its CPU time.",
    &[],
);
static CGROUP_TIMES: Family = Family::counter(
    "collector_cgroup_cpu_throttles_total",
    "How often a run queue of the cgroup was held back: on each CPU for itself.",
    &["cgroup"],
);
static CGROUP_TIME: Family = Family::counter(
    "collector_cgroup_cpu_throttle_seconds_total",
    "Time that run queues of the cgroup were held back, summed over the CPUs.",
    &["cgroup"],
);

pub(super) static PROBE: Probe = Probe {
    name: "throttle",
    about: "how long cgroups are held back by their CPU limit",
    default_on: true,
    hooks: &[HOOKS],
    needs: "fentry (no lockdown), cfs_rq (CONFIG_CFS_BANDWIDTH), rq, task_group",
    families: &[&THROTTLED, &CGROUP_TIMES, &CGROUP_TIME],
    start: |ground| Ok(Box::new(Throttle::start(ground)?)),
};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../collector-ebpf/prebuilt/throttle.o");

const FUNCTION: &str = "unthrottle_cfs_rq";
const HOOKS: &[Hook] = &[
    Hook::new(FUNCTION, "throttle_ends", "throttle_ends"),
    Hook::new(FUNCTION, "throttle_ended", "throttle_ended"),
];

struct Throttle {
    host: KernelMap,
    times: Histogram,
    cgroups: Option<CgroupSlots>,
    programs: Vec<RunningProgram>,
}

impl Throttle {
    fn start(ground: &mut Ground<'_>) -> Result<Self, ProbeError> {
        let mut find = ground.finder()?;
        if find.btf.function(FUNCTION).is_err() {
            return Err(ProbeError::NotSupported("limits of CPU time (CONFIG_CFS_BANDWIDTH)".to_owned()));
        }
        let function = ground.function(&find, FUNCTION)?;
        let attach = |(hook, way): (&Hook, Way)| Attach { program: hook.typed, target: hook.tracepoint, way };
        let programs: Vec<_> =
            HOOKS.iter().zip([Way::Entry(function), Way::Exit(function)]).map(attach).collect();
        let queue = find.btf.structure("cfs_rq")?;
        find.member(queue, "throttled_clock", 8, "QUEUE_SINCE")?;
        let run_queue = find.pointer(queue, "rq", "QUEUE_RQ")?;
        find.member(run_queue, "clock", 8, "RQ_CLOCK")?;
        // It came together with that.
        let is_cleared = find.btf.member(queue, "throttled_clock_self").is_ok();
        find.set("IS_CLEARED", u32::from(is_cleared));
        let found = look_up_cgroup(&mut find, queue);
        let mut constants = find.constants;
        let cgroups = cgroups(ground, found);
        constants.push(("BY_CGROUP", u32::from(cgroups.is_some())));
        let cpus = ground.cpus;
        let mut plan = ground.in_rows(constants, &[("HOST", 1)], cgroups.as_ref());
        plan.sizes.push(("SINCE", cpus));
        let loaded = ground.load_all(OBJECT, &plan.constants, &plan.sizes, &programs)?;
        Ok(Throttle {
            host: loaded.map::<HostBank>("HOST", plan.rows)?,
            times: Histogram::new(&counts::TIMES),
            cgroups: cgroups.map(|cgroups| cgroups.slots(&loaded, plan.sets)).transpose()?,
            programs: loaded.attach()?,
        })
    }
}

/// Finds the way from a run queue to its cgroup.
fn look_up_cgroup(find: &mut Finder<'_>, queue: u32) -> Result<(), BtfError> {
    let group = find.pointer(queue, "tg", "QUEUE_GROUP")?;
    let cgroup = find.pointer(group, "css.cgroup", "GROUP_CGROUP")?;
    find.node(cgroup)?;
    Ok(())
}

/// Limits are those of the scheduler's groups: of the hierarchy of `cpu`, of whatever version.
fn cgroups(ground: &mut Ground<'_>, found: Result<(), BtfError>) -> Option<CgroupGround> {
    let mounts = &ground.hierarchies;
    match (found, mounts.cpu.clone().or_else(|| mounts.unified.clone())) {
        _ if ground.options.cgroups == CgroupChoice::Off => None,
        (Err(missing), _) => told_why(PROBE.name, &missing.to_string()),
        (Ok(()), None) => told_why(PROBE.name, "no such cgroup hierarchy is mounted"),
        (Ok(()), Some(mount)) => Some(ground.cgroups_under(&mount)),
    }
}

impl Running for Throttle {
    fn programs(&self) -> &[RunningProgram] {
        &self.programs
    }

    fn cgroups(&mut self) -> Option<&mut CgroupSlots> {
        self.cgroups.as_mut()
    }

    fn read(&mut self, out: &mut Recorder) {
        let at = offset_of!(HostBank, throttled);
        out.histogram(&THROTTLED, &[], &self.times.read(counts::rows(&self.host), at, at + 8));
        let Some(cgroups) = &self.cgroups else { return };
        for (path, counts) in cgroups.named() {
            out.put(&CGROUP_TIMES, &[path], counts::number(counts[TIMES]));
        }
        for (path, counts) in cgroups.named() {
            out.put(&CGROUP_TIME, &[path], counts::seconds(counts[NS]));
        }
    }

    fn lost(&self, lose: &mut dyn FnMut(&'static str, f64)) {
        lose("cgroup_slots", counts::sum(&self.host, offset_of!(HostBank, cgroup_slots)));
    }
}
