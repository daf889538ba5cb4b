//! The probe of out-of-memory kills: each is a line in the log, and counted for its victim's cgroup, which may be gone.
//!
//! Kernel interface: the tracepoint `mark_victim`, which gives the task since 6.8; before that `sched_process_exit`. The
//! path of the cgroup is taken by the kernel side, at the kill; it comes through a ring buffer that is shared memory: a
//! tick without a kill reads one word. Cost: nothing but for a kill.

use std::mem::offset_of;

use collector_ebpf::oom::{HostBank, Kill, LEVELS, NAME};

use super::counts;
use super::ground::{Ground, Hook};
use super::kernel_map::KernelMap;
use super::load::{ProbeError, Ring, RunningProgram};
use super::{Probe, Running};
use crate::model::{Family, Recorder};
use crate::sys::text;

static KILLS: Family = Family::counter(
    "collector_oom_kills_total",
    "Processes that were killed because memory ran out, on the host or in a memory cgroup.",
    &[],
);
static CGROUP_KILLS: Family = Family::counter(
    "collector_cgroup_oom_kills_total",
    "The same by the victim's cgroup, which is kept after it has gone.",
    &["cgroup"],
);

pub(super) static PROBE: Probe = Probe {
    name: "oom",
    about: "out-of-memory kills with the victim's cgroup",
    default_on: true,
    hooks: &[VICTIM, EXIT],
    needs: "task_struct, cgroup, kernfs_node",
    families: &[&KILLS, &CGROUP_KILLS],
    start: |ground| Ok(Box::new(Oom::start(ground)?)),
};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../collector-ebpf/prebuilt/oom.o");

const VICTIM: &[Hook] = &[Hook::new("mark_victim", "oom_victim", "raw_oom_victim")];
const EXIT: &[Hook] = &[Hook::new("sched_process_exit", "oom_exit", "raw_oom_exit")];

/// Cgroups whose kills are kept: the oldest yields.
const MAX_CGROUPS: usize = 256;

struct Oom {
    host: KernelMap,
    ring: Ring,
    cgroups: Vec<(String, u64)>,
    programs: Vec<RunningProgram>,
}

impl Oom {
    fn start(ground: &mut Ground<'_>) -> Result<Self, ProbeError> {
        let source = ground.task_source().0;
        let mut find = ground.finder()?;
        let task = find.btf.structure("task_struct")?;
        let hooks = if find.tracepoint("mark_victim", &[(0, task)]).is_ok() { VICTIM } else { EXIT };
        find.tracepoint("sched_process_exit", &[(0, task)])?;
        find.member(task, "pid", 4, "TASK_PID")?;
        find.member(task, "tgid", 4, "TASK_TGID")?;
        let comm = find.btf.member(task, "comm")?.offset;
        find.set("TASK_COMM", comm);
        let signal = find.pointer(task, "signal", "TASK_SIGNAL")?;
        find.member(signal, "oom_mm", 8, "SIGNAL_VICTIM")?;
        let found = find.task_cgroup(task, source).and_then(|()| {
            let node = find.btf.structure("kernfs_node")?;
            // It was renamed in 6.15.
            if find.member(node, "__parent", 8, "NODE_PARENT").is_err() {
                find.member(node, "parent", 8, "NODE_PARENT")?;
            }
            find.member(node, "name", 8, "NODE_NAME").map(drop)
        });
        let mut constants = find.constants;
        let (source, _) = ground.task_cgroups(PROBE.name, |_| found);
        constants.push(("CGROUP_SOURCE", source as u32));
        let mut loaded = ground.load(OBJECT, &constants, &[], hooks)?;
        Ok(Oom {
            host: loaded.map::<HostBank>("HOST", 1)?,
            ring: loaded.ring("KILLS")?,
            cgroups: Vec::new(),
            programs: loaded.attach()?,
        })
    }

    /// Takes what the kernel side has said since the last tick.
    fn take_kills(&mut self) {
        while let Some(item) = self.ring.next() {
            let Some(kill) = parse_kill(&item) else { continue };
            drop(item);
            log::warn!(pid = kill.pid, comm = kill.comm.as_str(), cgroup = kill.cgroup.as_str(); "killed for lack of memory");
            if let Some((_, kills)) = self.cgroups.iter_mut().find(|(path, _)| *path == kill.cgroup) {
                *kills += 1;
                continue;
            }
            if self.cgroups.len() == MAX_CGROUPS {
                self.cgroups.remove(0);
            }
            self.cgroups.push((kill.cgroup, 1));
        }
    }
}

#[derive(Debug, PartialEq)]
struct Victim {
    pid: u32,
    comm: String,
    /// Its path; where it lies deeper than the kernel side looks, it begins with dots.
    cgroup: String,
}

/// What the ring buffer holds of a kill: a [`Kill`].
fn parse_kill(bytes: &[u8]) -> Option<Victim> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let name = |bytes: &[u8]| text::lossy(bytes.split(|&b| b == 0).next().unwrap_or_default());
    let comm = bytes.get(offset_of!(Kill, comm)..)?.get(..16)?;
    let levels = (word(offset_of!(Kill, levels))? as usize).min(LEVELS);
    let names = bytes.get(offset_of!(Kill, path)..)?.get(..LEVELS * NAME)?;
    let mut cgroup = String::new();
    if levels == LEVELS {
        cgroup.push_str("/...");
    }
    for level in names.chunks(NAME).take(levels).rev() {
        cgroup.push('/');
        cgroup.push_str(&name(level));
    }
    if cgroup.is_empty() {
        cgroup.push('/');
    }
    Some(Victim { pid: word(offset_of!(Kill, pid))?, comm: name(comm), cgroup })
}

impl Running for Oom {
    fn programs(&self) -> &[RunningProgram] {
        &self.programs
    }

    fn read(&mut self, out: &mut Recorder) {
        self.take_kills();
        out.put(&KILLS, &[], counts::sum(&self.host, offset_of!(HostBank, kills)));
        for (path, kills) in &self.cgroups {
            out.put(&CGROUP_KILLS, &[path], counts::number(*kills));
        }
    }

    fn lost(&self, lose: &mut dyn FnMut(&'static str, f64)) {
        lose("kills_a_second", counts::sum(&self.host, offset_of!(HostBank, unsaid)));
        lose("ring_buffer", counts::sum(&self.host, offset_of!(HostBank, full)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kill(levels: &[&str]) -> Vec<u8> {
        let mut bytes = vec![0; size_of::<Kill>()];
        bytes[..4].copy_from_slice(&7u32.to_ne_bytes());
        bytes[4..8].copy_from_slice(&u32::try_from(levels.len()).unwrap().to_ne_bytes());
        bytes[offset_of!(Kill, comm)..][..4].copy_from_slice(b"java");
        for (number, level) in levels.iter().enumerate() {
            bytes[offset_of!(Kill, path) + number * NAME..][..level.len()].copy_from_slice(level.as_bytes());
        }
        bytes
    }

    #[test]
    fn a_kill_names_its_cgroup_from_the_root() {
        let victim = |cgroup: &str| Some(Victim { pid: 7, comm: "java".into(), cgroup: cgroup.into() });
        assert_eq!(parse_kill(&kill(&["c1", "pod", "kube"])), victim("/kube/pod/c1"));
        assert_eq!(parse_kill(&kill(&[])), victim("/"));
        assert_eq!(parse_kill(&kill(&["f", "e", "d", "c", "b", "a"])), victim("/.../a/b/c/d/e/f"));
        assert_eq!(parse_kill(&kill(&["c1"])[..200]), None);
    }
}
