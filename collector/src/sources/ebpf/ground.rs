//! What the probes share while they start: the kernel's BTF, the number of CPUs, the cgroup hierarchies.
//!
//! Kernel interface: /sys/kernel/btf/vmlinux, /proc/self/mountinfo, once. It takes some 6 MiB while the probes are loaded,
//! for the kernel's BTF, and is dropped then.

use std::path::{Path, PathBuf};

use collector_ebpf::cgroups::{CgroupSet, CgroupSource, MAX_SETS, MIN_SETS, WAYS};
use collector_ebpf::runqueue;

use super::btf::{Btf, BtfError, TypeId};
use super::cgroup_names::{self, Hierarchies, Names};
use super::cgroup_slots::CgroupSlots;
use super::layout::{Constants, Finder};
use super::load::{self, Attach, Loaded, Plan, ProbeError, Way};
use super::{Attachment, CgroupChoice, EbpfOptions};
use crate::sys::file::read_once;
use crate::sys::text;

/// Rows of banks that CPUs share, at most: with more, memory would grow with the CPUs.
const MAX_ROWS: usize = 4;
/// CPUs that share a row while there are fewer rows than that.
const CPUS_A_ROW: usize = 8;
/// Slots for each cgroup that is there at the start: room for more, and few sets that are full by chance.
const SLOTS_PER_CGROUP: usize = 4;

/// A tracepoint of a probe, and its program as `tp_btf` and as `raw_tp`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hook {
    pub(super) tracepoint: &'static str,
    pub(super) typed: &'static str,
    pub(super) raw: &'static str,
}

impl Hook {
    pub(super) const fn new(tracepoint: &'static str, typed: &'static str, raw: &'static str) -> Self {
        Hook { tracepoint, typed, raw }
    }
}

/// The kernel and the host as the probes find them.
pub(super) struct Ground<'a> {
    pub(super) options: &'a EbpfOptions,
    btf: Result<Btf<'a>, BtfError>,
    /// Whether programs may be typed by the kernel's BTF.
    typed: bool,
    pub(super) cpus: usize,
    pub(super) hierarchies: Hierarchies,
    pub(super) names: Names,
}

/// An object that is loaded, and counts in rows.
pub(super) struct InRows {
    pub(super) loaded: Loaded,
    pub(super) rows: usize,
    pub(super) cgroups: Option<CgroupSlots>,
}

/// How the maps of an object are made that counts in rows.
pub(super) struct RowPlan {
    pub(super) constants: Constants,
    /// Elements of each map.
    pub(super) sizes: Vec<(&'static str, usize)>,
    pub(super) rows: usize,
    /// Sets of cgroup slots in all rows.
    pub(super) sets: usize,
}

/// Where a probe takes cgroups from.
pub(super) struct CgroupGround {
    /// Index of the hierarchy in `Names`.
    pub(super) hierarchy: usize,
    /// Cgroups that are there now.
    present: usize,
}

impl<'a> Ground<'a> {
    /// `file` is the text of the kernel's BTF, empty where it can't be read.
    ///
    /// # Errors
    /// When the system does not say how many CPUs it may have.
    pub(super) fn new(options: &'a EbpfOptions, file: &'a [u8]) -> Result<Self, ProbeError> {
        let cpus = aya::util::nr_cpus()
            .map_err(|(_, source)| ProbeError::Io { what: "counting the possible CPUs", source })?;
        let mut buffer = Vec::new();
        let hierarchies = match read_once(&options.procfs.join("self/mountinfo"), &mut buffer) {
            Ok(text) => Hierarchies::parse(text),
            Err(_) => Hierarchies::default(),
        };
        let btf = Btf::parse(file);
        // The kernel types a program's arguments by its own BTF, not by a file that someone brings along.
        let may_type = match options.attachment {
            Attachment::Auto => options.btf == Path::new(super::KERNEL_BTF),
            Attachment::Raw => false,
            Attachment::Typed => true,
        };
        let typed = may_type && btf.is_ok();
        Ok(Ground { options, btf, typed, cpus, hierarchies, names: Names::default() })
    }

    /// The kernel's types.
    ///
    /// # Errors
    /// When they can't be read, or not understood.
    pub(super) fn finder(&self) -> Result<Finder<'_>, ProbeError> {
        match &self.btf {
            Ok(btf) => Ok(Finder::new(btf)),
            Err(malformed) => {
                read_once(&self.options.btf, &mut Vec::new())?;
                Err(malformed.clone().into())
            }
        }
    }

    /// Rows of what CPUs share, a power of two.
    pub(super) fn rows(&self) -> usize {
        (self.cpus / CPUS_A_ROW).next_power_of_two().clamp(1, MAX_ROWS)
    }

    /// Loads an object with the first kind of programs that the kernel takes.
    ///
    /// # Errors
    /// As [`load::load`].
    pub(super) fn load(
        &self,
        object: &[u8],
        constants: &Constants,
        map_sizes: &[(&'static str, usize)],
        hooks: &[Hook],
    ) -> Result<Loaded, ProbeError> {
        let forced = self.options.attachment == Attachment::Typed;
        let ways = self.typed.then_some(true).into_iter().chain((!forced).then_some(false));
        let mut first_error = None;
        for typed in ways {
            match self.load_all(object, constants, map_sizes, &self.attachments(hooks, typed)?) {
                Err(error @ ProbeError::Rejected { .. }) => {
                    let attach = if typed { "tp_btf" } else { "raw_tp" };
                    log::debug!(attach, err:% = error; "the kernel refused a probe's programs");
                    first_error.get_or_insert(error);
                }
                result => return result,
            }
        }
        Err(first_error.unwrap_or_else(|| ProbeError::NotSupported("typed arguments".to_owned())))
    }

    /// The number of a function to whose start or end programs go.
    ///
    /// # Errors
    /// When the kernel's BTF does not name it; and where the BTF is a file that someone brings along, whose numbers are not
    /// the kernel's.
    pub(super) fn function(&self, find: &Finder<'_>, name: &str) -> Result<TypeId, ProbeError> {
        if self.options.btf != Path::new(super::KERNEL_BTF) {
            return Err(ProbeError::NotSupported(
                "BTF of its own, without which functions can't be traced".to_owned(),
            ));
        }
        Ok(find.btf.function(name)?)
    }

    /// Which programs go to the tracepoints.
    fn attachments(&self, hooks: &[Hook], typed: bool) -> Result<Vec<Attach>, ProbeError> {
        let one = |hook: &Hook| {
            let way = match (&self.btf, typed) {
                (Ok(btf), true) => Way::Typed(btf.tracepoint_type(hook.tracepoint)?),
                _ => Way::Raw,
            };
            let program = if typed { hook.typed } else { hook.raw };
            Ok(Attach { program, target: hook.tracepoint, way })
        };
        hooks.iter().map(one).collect()
    }

    /// Loads an object with these programs.
    ///
    /// # Errors
    /// As [`load::load`].
    pub(super) fn load_all(
        &self,
        object: &[u8],
        constants: &Constants,
        map_sizes: &[(&'static str, usize)],
        programs: &[Attach],
    ) -> Result<Loaded, ProbeError> {
        let map_sizes = map_sizes
            .iter()
            .map(|&(name, size)| Some((name, u32::try_from(size).ok()?)))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| ProbeError::NotSupported("so many CPUs".to_owned()))?;
        load::load(&Plan {
            object: self.options.object.as_deref().unwrap_or(object),
            constants,
            map_sizes: &map_sizes,
            programs,
            messages: self.options.messages,
        })
    }

    /// Loads an object that counts in rows which CPUs share, for the host and for each cgroup that has a slot.
    /// `arrays` are those of the host, with their elements in one row.
    ///
    /// # Errors
    /// As [`load::load`], and when the slots can't be mapped.
    pub(super) fn load_in_rows(
        &self,
        object: &[u8],
        constants: Constants,
        arrays: &[(&'static str, usize)],
        cgroups: Option<&CgroupGround>,
        hooks: &[Hook],
    ) -> Result<InRows, ProbeError> {
        let plan = self.in_rows(constants, arrays, cgroups);
        let loaded = self.load(object, &plan.constants, &plan.sizes, hooks)?;
        let cgroups = cgroups.map(|cgroups| cgroups.slots(&loaded, plan.sets)).transpose()?;
        Ok(InRows { loaded, rows: plan.rows, cgroups })
    }

    /// How the maps of an object are made that counts in rows.
    pub(super) fn in_rows(
        &self,
        mut constants: Constants,
        arrays: &[(&'static str, usize)],
        cgroups: Option<&CgroupGround>,
    ) -> RowPlan {
        let rows = self.rows();
        let in_a_row = sets(cgroups, rows, MAX_SLOT_BYTES);
        constants.extend([("CGROUP_SETS", in_a_row), ("ROW_MASK", rows as u32 - 1)]);
        let sets = rows * in_a_row as usize;
        let arrays = arrays.iter().map(|&(name, in_a_row)| (name, rows * in_a_row));
        RowPlan { constants, sizes: arrays.chain([("CGROUPS", sets)]).collect(), rows, sets }
    }

    /// From which hierarchy the cgroups of tasks are taken, and where it is mounted.
    ///
    /// Where the `cpu` controller is still on version 1, that hierarchy is the one that carries containers, and the one
    /// by which the scheduler shares CPUs out; else it is version 2, down to the cgroup that the task is in, because the
    /// `cpu` controller need not be switched on all the way down.
    pub(super) fn task_source(&self) -> (CgroupSource, Option<PathBuf>) {
        let mounts = &self.hierarchies;
        let source = match self.options.cgroups {
            CgroupChoice::Off => CgroupSource::None,
            CgroupChoice::Unified => CgroupSource::Unified,
            CgroupChoice::Scheduler => CgroupSource::Scheduler,
            CgroupChoice::Auto if mounts.cpu.is_some() => CgroupSource::Scheduler,
            CgroupChoice::Auto => CgroupSource::Unified,
        };
        let found = match source {
            CgroupSource::None => return (source, None),
            CgroupSource::Unified => mounts.unified.clone(),
            CgroupSource::Scheduler => mounts.cpu.clone().or_else(|| mounts.unified.clone()),
        };
        (source, self.options.cgroup_mount.clone().or(found))
    }

    /// Finds how the cgroups of tasks are told apart. What stands in the way is said once, and costs the cgroups alone.
    pub(super) fn task_cgroups(
        &mut self,
        probe: &str,
        find: impl FnOnce(CgroupSource) -> Result<(), BtfError>,
    ) -> (CgroupSource, Option<CgroupGround>) {
        let (source, mount) = self.task_source();
        if source == CgroupSource::None {
            return (source, None);
        }
        match (find(source), mount) {
            (Ok(()), Some(mount)) => (source, Some(self.cgroups_under(&mount))),
            (Err(missing), _) => (CgroupSource::None, told_why(probe, &missing.to_string())),
            (_, None) => (CgroupSource::None, told_why(probe, "no such cgroup hierarchy is mounted")),
        }
    }

    /// Finds how the cgroups of sockets are told apart, which are of version 2. `form` is how a socket keeps its own.
    pub(super) fn socket_cgroups(
        &mut self,
        probe: &str,
        form: Result<u32, BtfError>,
        constants: &mut Constants,
    ) -> Option<CgroupGround> {
        match (form, self.hierarchies.unified.clone()) {
            _ if self.options.cgroups == CgroupChoice::Off => None,
            (_, None) => told_why(probe, "cgroup version 2 is not mounted"),
            (Err(missing), _) => told_why(probe, &missing.to_string()),
            (Ok(form), Some(mount)) => {
                constants.push(("SOCK_CGROUP_FORM", form));
                Some(self.cgroups_under(&mount))
            }
        }
    }

    /// The hierarchy that is mounted there.
    pub(super) fn cgroups_under(&mut self, mount: &Path) -> CgroupGround {
        let mut present = 0;
        // What can't be counted gets the smallest table; the walks of a tick will say what is wrong.
        let _ = cgroup_names::walk(mount, |_, _| present += 1);
        CgroupGround { hierarchy: self.names.hierarchy(mount), present }
    }

    /// How many low bits of a pid choose what is kept of a task.
    pub(super) fn task_bits(&self) -> u32 {
        let pid_max = self.number("sys/kernel/pid_max").unwrap_or(1 << runqueue::PID_BITS);
        let pid_bits = 64 - pid_max.saturating_sub(1).leading_zeros();
        pid_bits.clamp(runqueue::MIN_TASK_BITS, runqueue::MAX_TASK_BITS)
    }

    /// Reads a file of procfs that holds one number.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        let mut buffer = Vec::new();
        text::parse_u64(text::trim(read_once(&self.options.procfs.join(path), &mut buffer).ok()?))
    }
}

/// Says once why a probe does not tell cgroups apart.
pub(super) fn told_why(probe: &str, why: &str) -> Option<CgroupGround> {
    log::warn!(probe, err = why; "cgroups are not told apart");
    None
}

/// Bytes of the slots of a probe's cgroups, in all its rows: they are mapped, and count as this process's memory once
/// they have been read.
const MAX_SLOT_BYTES: usize = 1 << 20;

/// Sets of slots for each row: a power of two. Rather fewer than the fewest than more than there is room for.
pub(super) fn sets(ground: Option<&CgroupGround>, rows: usize, most_bytes: usize) -> u32 {
    let present = ground.map_or(0, |ground| ground.present);
    let wanted = (present * SLOTS_PER_CGROUP / WAYS).next_power_of_two();
    let room = most_bytes / (rows * size_of::<CgroupSet>());
    let room = 1 << room.max(1).ilog2();
    u32::try_from(wanted.max(MIN_SETS as usize).min(room)).map_or(MAX_SETS, |sets| sets.min(MAX_SETS))
}

impl CgroupGround {
    /// The slots that a loaded object has for it.
    ///
    /// # Errors
    /// When they can't be mapped.
    pub(super) fn slots(&self, loaded: &Loaded, elements: usize) -> Result<CgroupSlots, ProbeError> {
        Ok(CgroupSlots::new(loaded.map::<CgroupSet>("CGROUPS", elements)?, self.hierarchy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_grow_with_the_cgroups_up_to_the_room_that_there_is() {
        let sets = |present, rows| sets(Some(&CgroupGround { hierarchy: 0, present }), rows, 8 << 20);
        assert_eq!(sets(0, 2), MIN_SETS);
        assert_eq!(sets(100, 2), 64);
        assert_eq!(sets(300, 64), 256);
        assert_eq!(sets(100_000, 2), MAX_SETS);
        assert_eq!(sets(100_000, 128), 128);
        assert_eq!(sets(100_000, 8192), 2);
    }
}
