//! What the probes must know of the running kernel: offsets of members, by the names of the constants that take them.

use collector_ebpf::cgroups::CgroupSource;

use super::btf::{Btf, BtfError, TypeId};
use super::load::ProbeError;

/// Offsets by the name of the constant that takes them. One that this kernel lacks is 0, and never used.
pub(super) type Constants = Vec<(&'static str, u32)>;

/// Looks up members, and keeps where they are.
pub(super) struct Finder<'a> {
    pub(super) btf: &'a Btf<'a>,
    pub(super) constants: Constants,
}

impl<'a> Finder<'a> {
    pub(super) fn new(btf: &'a Btf<'a>) -> Self {
        Finder { btf, constants: Constants::new() }
    }

    pub(super) fn set(&mut self, constant: &'static str, value: u32) {
        match self.constants.iter_mut().find(|(name, _)| *name == constant) {
            Some(known) => known.1 = value,
            None => self.constants.push((constant, value)),
        }
    }

    /// Finds a member of at least `size` bytes, and keeps its offset for `constant`. Returns its type.
    pub(super) fn member(
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
        self.set(constant, member.offset);
        Ok(member.type_id)
    }

    /// Finds a member that points to a struct. Returns that struct.
    pub(super) fn pointer(
        &mut self,
        structure: TypeId,
        path: &str,
        constant: &'static str,
    ) -> Result<TypeId, BtfError> {
        let pointer = self.member(structure, path, 8, constant)?;
        self.btf.pointee(pointer).ok_or_else(|| BtfError::NoMember(self.btf.name(structure), path.to_owned()))
    }

    /// The types of a tracepoint's arguments, of which those named point to these structs. What comes after may differ.
    ///
    /// # Errors
    /// When the kernel has no such tracepoint, or another argument there.
    pub(super) fn tracepoint(
        &self,
        name: &str,
        pointers: &[(usize, TypeId)],
    ) -> Result<Vec<TypeId>, ProbeError> {
        let arguments = self.btf.tracepoint(name)?;
        let is_known = pointers.iter().all(|&(argument, structure)| {
            arguments.get(argument).is_some_and(|&pointer| self.btf.pointee(pointer) == Some(structure))
        });
        if is_known {
            return Ok(arguments);
        }
        Err(ProbeError::NotSupported(format!("a tracepoint {name} with the known arguments")))
    }

    /// Finds the way from a task to the number of its cgroup.
    pub(super) fn task_cgroup(&mut self, task: TypeId, source: CgroupSource) -> Result<(), BtfError> {
        match source {
            CgroupSource::None => return Ok(()),
            CgroupSource::Unified => {
                let set = self.pointer(task, "cgroups", "TASK_CGROUPS")?;
                let cgroup = self.pointer(set, "dfl_cgrp", "CSS_SET_CGROUP")?;
                self.node(cgroup)?;
            }
            CgroupSource::Scheduler => {
                let group = self.pointer(task, "sched_task_group", "TASK_GROUP")?;
                let cgroup = self.pointer(group, "css.cgroup", "GROUP_CGROUP")?;
                self.node(cgroup)?;
            }
        }
        self.set("CGROUP_SOURCE", source as u32);
        Ok(())
    }

    /// Finds the way from a socket to its cgroup. Returns the form in which it is kept there.
    pub(super) fn socket_cgroup(&mut self, socket: TypeId) -> Result<u32, BtfError> {
        let cgroup = self.btf.structure("cgroup")?;
        self.node(cgroup)?;
        if self.pointer(socket, "sk_cgrp_data.cgroup", "SOCK_CGROUP").is_ok() {
            return Ok(1);
        }
        self.member(socket, "sk_cgrp_data.val", 8, "SOCK_CGROUP")?;
        Ok(2)
    }

    /// Finds the way from a cgroup to its number. Returns the struct of its node.
    pub(super) fn node(&mut self, cgroup: TypeId) -> Result<TypeId, BtfError> {
        let node = self.pointer(cgroup, "kn", "CGROUP_NODE")?;
        self.member(node, "id", 8, "NODE_ID")?;
        Ok(node)
    }
}
