//! The probe of memory stalls: how long tasks are held up because memory must be reclaimed, or compacted, before they get
//! theirs; for the host and by cgroup.
//!
//! Kernel interface: the tracepoints `mm_vmscan_direct_reclaim_*`, `mm_vmscan_memcg_reclaim_*` and `mm_compaction_*`, as
//! far as the kernel has them. Cost: nothing but under pressure; a tick some microseconds and no system call.

use std::mem::offset_of;

use collector_ebpf::reclaim::{self as shared, HostBank, KINDS};
use collector_ebpf::scale::TimeHistogram;

use super::cgroup_slots::CgroupSlots;
use super::counts::{self, Histogram};
use super::ground::{Ground, Hook, InRows};
use super::kernel_map::KernelMap;
use super::load::{ProbeError, RunningProgram};
use super::{Probe, Running};
use crate::model::{Family, Recorder};

static STALLS: Family = Family::histogram(
    "collector_memory_stall_seconds",
    "Time that tasks waited for memory: for the host to reclaim it (direct), for their cgroup (memcg), or in one piece (compaction).",
    &["kind"],
);
static CGROUP_STALLS: Family = Family::counter(
    "collector_cgroup_memory_stalls_total",
    "How often tasks of the cgroup waited for memory, by kind as for the host.",
    &["cgroup", "kind"],
);
static CGROUP_TIME: Family = Family::counter(
    "collector_cgroup_memory_stall_seconds_total",
    "Time that tasks of the cgroup waited for memory, by kind as for the host.",
    &["cgroup", "kind"],
);

pub(super) static PROBE: Probe = Probe {
    name: "reclaim",
    about: "stalls of tasks for memory: direct reclaim, of cgroups, compaction",
    default_on: true,
    hooks: &[DIRECT, MEMCG, COMPACTION],
    needs: "task_struct, cgroup",
    families: &[&STALLS, &CGROUP_STALLS, &CGROUP_TIME],
    start: |ground| Ok(Box::new(Reclaim::start(ground)?)),
};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../collector-ebpf/prebuilt/reclaim.o");

const DIRECT: &[Hook] = &[
    Hook::new("mm_vmscan_direct_reclaim_begin", "reclaim_begin", "raw_recl_begin"),
    Hook::new("mm_vmscan_direct_reclaim_end", "reclaim_end", "raw_recl_end"),
];
/// CONFIG_MEMCG
const MEMCG: &[Hook] = &[
    Hook::new("mm_vmscan_memcg_reclaim_begin", "memcg_recl_begin", "raw_memcg_begin"),
    Hook::new("mm_vmscan_memcg_reclaim_end", "memcg_recl_end", "raw_memcg_end"),
];
/// CONFIG_COMPACTION
const COMPACTION: &[Hook] = &[
    Hook::new("mm_compaction_begin", "compact_begin", "raw_comp_begin"),
    Hook::new("mm_compaction_end", "compact_end", "raw_comp_end"),
];

struct Reclaim {
    host: KernelMap,
    times: Histogram,
    cgroups: Option<CgroupSlots>,
    programs: Vec<RunningProgram>,
}

impl Reclaim {
    fn start(ground: &mut Ground<'_>) -> Result<Self, ProbeError> {
        let source = ground.task_source().0;
        let mut find = ground.finder()?;
        let task = find.btf.structure("task_struct")?;
        find.member(task, "flags", 4, "TASK_FLAGS")?;
        let mut hooks = DIRECT.to_vec();
        for pair in [MEMCG, COMPACTION] {
            if pair.iter().all(|hook| find.tracepoint(hook.tracepoint, &[]).is_ok()) {
                hooks.extend(pair);
            }
        }
        let found = find.task_cgroup(task, source);
        let constants = find.constants;
        let (_, cgroups) = ground.task_cgroups(PROBE.name, |_| found);
        let InRows { loaded, rows, cgroups } =
            ground.load_in_rows(OBJECT, constants, &[("HOST", 1)], cgroups.as_ref(), &hooks)?;
        Ok(Reclaim {
            host: loaded.map::<HostBank>("HOST", rows)?,
            times: Histogram::new(&counts::TIMES),
            cgroups,
            programs: loaded.attach()?,
        })
    }
}

impl Running for Reclaim {
    fn programs(&self) -> &[RunningProgram] {
        &self.programs
    }

    fn cgroups(&mut self) -> Option<&mut CgroupSlots> {
        self.cgroups.as_mut()
    }

    fn read(&mut self, out: &mut Recorder) {
        for (number, kind) in KINDS.iter().enumerate() {
            let at = offset_of!(HostBank, stalls) + number * size_of::<TimeHistogram>();
            out.histogram(&STALLS, &[kind], &self.times.read(counts::rows(&self.host), at, at + 8));
        }
        let Some(cgroups) = &self.cgroups else { return };
        for (path, counts) in cgroups.named() {
            for (number, kind) in KINDS.iter().enumerate() {
                out.put(&CGROUP_STALLS, &[path, kind], counts::number(counts[shared::stalls_of(number)]));
            }
        }
        for (path, counts) in cgroups.named() {
            for (number, kind) in KINDS.iter().enumerate() {
                out.put(&CGROUP_TIME, &[path, kind], counts::seconds(counts[shared::stalls_of(number) + 1]));
            }
        }
    }

    fn lost(&self, lose: &mut dyn FnMut(&'static str, f64)) {
        lose("cgroup_slots", counts::sum(&self.host, offset_of!(HostBank, cgroup_slots)));
        lose("task_slots", counts::sum(&self.host, offset_of!(HostBank, task_slots)));
    }
}
