//! What the run-queue probe must know of the running kernel: offsets of members, and which methods they allow.

use collector_ebpf::runqueue::CgroupSource;

use crate::sources::ebpf::btf::{Btf, BtfError, TypeId};
use crate::sources::ebpf::load::ProbeError;

/// Offsets by the name of the constant that takes them.
pub(super) type Constants = Vec<(&'static str, u32)>;

/// Every constant of the object that is an offset: one that this kernel lacks is 0, and never used.
const OFFSETS: &[&str] = &[
    "TASK_PID",
    "TASK_STATE",
    "TASK_RUN_DELAY",
    "TASK_PCOUNT",
    "TASK_LAST_QUEUED",
    "TASK_CFS_RQ",
    "TASK_CGROUPS",
    "TASK_GROUP",
    "CFS_RQ_RQ",
    "RQ_CLOCK",
    "CSS_SET_CGROUP",
    "CGROUP_NODE",
    "NODE_ID",
    "GROUP_CGROUP",
];

/// The kernel as the probe sees it.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) constants: Constants,
    /// Why method Q can't be used, if it can't.
    pub(super) accounted: Result<(), BtfError>,
    pub(super) unified: Result<(), BtfError>,
    pub(super) scheduler: Result<(), BtfError>,
}

impl Layout {
    /// Looks everything up.
    ///
    /// # Errors
    /// When even method B has not what it needs: a tracepoint that gives tasks, their pid and state.
    pub(super) fn new(btf: &Btf<'_>) -> Result<Self, ProbeError> {
        let task = btf.structure("task_struct")?;
        check_tracepoints(btf, task)?;
        let mut find = Finder { btf, constants: OFFSETS.iter().map(|&name| (name, 0)).collect() };
        find.member(task, "pid", 4, "TASK_PID")?;
        // It was renamed in 5.14.
        if find.member(task, "__state", 4, "TASK_STATE").is_err() {
            find.member(task, "state", 4, "TASK_STATE")?;
        }
        let accounted = find.accounted(task);
        let unified = find.unified(task);
        let scheduler = find.scheduler(task);
        Ok(Layout { constants: find.constants, accounted, unified, scheduler })
    }

    pub(super) fn allows(&self, source: CgroupSource) -> Result<(), &BtfError> {
        match source {
            CgroupSource::None => Ok(()),
            CgroupSource::Unified => self.unified.as_ref().copied(),
            CgroupSource::Scheduler => self.scheduler.as_ref().copied(),
        }
    }
}

/// `sched_switch(preempt, prev, next, ..)`, `sched_wakeup(task, ..)`: what comes after may differ.
fn check_tracepoints(btf: &Btf<'_>, task: TypeId) -> Result<(), ProbeError> {
    for (tracepoint, tasks) in [("sched_switch", 1..3), ("sched_wakeup", 0..1), ("sched_wakeup_new", 0..1)] {
        let arguments = btf.tracepoint(tracepoint)?;
        let gives_tasks = arguments
            .get(tasks)
            .is_some_and(|tasks| tasks.iter().all(|&argument| btf.pointee(argument) == Some(task)));
        if !gives_tasks {
            return Err(ProbeError::NotSupported(format!(
                "a tracepoint {tracepoint} with the known arguments"
            )));
        }
    }
    Ok(())
}

struct Finder<'a> {
    btf: &'a Btf<'a>,
    constants: Constants,
}

impl Finder<'_> {
    /// Finds a member of at least `size` bytes, and keeps its offset for `constant`. Returns its type.
    fn member(
        &mut self,
        structure: TypeId,
        path: &str,
        size: u32,
        constant: &'static str,
    ) -> Result<TypeId, BtfError> {
        let member = self.btf.member(structure, path)?;
        if self.btf.size(member.type_id).is_none_or(|actual| actual < size) {
            return Err(BtfError::NoMember(self.btf.name(structure), format!("{path} of {size} bytes")));
        }
        let entry = self.constants.iter_mut().find(|(name, _)| *name == constant);
        entry.expect("every constant is in the table").1 = member.offset;
        Ok(member.type_id)
    }

    /// Finds a member that points to a struct. Returns that struct.
    fn pointer(&mut self, structure: TypeId, path: &str, constant: &'static str) -> Result<TypeId, BtfError> {
        let pointer = self.member(structure, path, 8, constant)?;
        self.btf.pointee(pointer).ok_or_else(|| BtfError::NoMember(self.btf.name(structure), path.to_owned()))
    }

    /// The kernel's own account of waiting (CONFIG_SCHED_INFO), and the clock of the run queue, which every task can
    /// reach where groups are scheduled (CONFIG_FAIR_GROUP_SCHED).
    fn accounted(&mut self, task: TypeId) -> Result<(), BtfError> {
        self.member(task, "sched_info.run_delay", 8, "TASK_RUN_DELAY")?;
        self.member(task, "sched_info.pcount", 8, "TASK_PCOUNT")?;
        self.member(task, "sched_info.last_queued", 8, "TASK_LAST_QUEUED")?;
        let queue = self.pointer(task, "se.cfs_rq", "TASK_CFS_RQ")?;
        let cpu_queue = self.pointer(queue, "rq", "CFS_RQ_RQ")?;
        self.member(cpu_queue, "clock", 8, "RQ_CLOCK").map(drop)
    }

    fn unified(&mut self, task: TypeId) -> Result<(), BtfError> {
        let set = self.pointer(task, "cgroups", "TASK_CGROUPS")?;
        let cgroup = self.pointer(set, "dfl_cgrp", "CSS_SET_CGROUP")?;
        self.node(cgroup)
    }

    fn scheduler(&mut self, task: TypeId) -> Result<(), BtfError> {
        let group = self.pointer(task, "sched_task_group", "TASK_GROUP")?;
        let cgroup = self.pointer(group, "css.cgroup", "GROUP_CGROUP")?;
        self.node(cgroup)
    }

    fn node(&mut self, cgroup: TypeId) -> Result<(), BtfError> {
        let node = self.pointer(cgroup, "kn", "CGROUP_NODE")?;
        self.member(node, "id", 8, "NODE_ID").map(drop)
    }
}
