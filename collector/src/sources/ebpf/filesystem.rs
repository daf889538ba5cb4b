//! The probe of file systems: how long reads, writes and fsyncs take, what they move and how they fail, by the type of the
//! file system.
//!
//! Kernel interface: the start and the end of `vfs_read`, `vfs_write` and of the system calls fsync(2) and fdatasync(2)
//! (fentry, fexit), which a kernel that is locked down refuses. Cost: in the kernel some 250 ns for both, a tick some
//! microseconds and no system call.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use collector_ebpf::filesystem::{
    FSYNC, HostBank, NAME, OPERATIONS, OperationBank, TYPES, TypeBank, TypeSlot,
};
use collector_ebpf::scale::TimeHistogram;

use super::counts::{self, Histogram};
use super::ground::{Ground, Hook};
use super::kernel_map::KernelMap;
use super::load::{Attach, ProbeError, RunningProgram, Way};
use super::{Probe, Running};
use crate::model::{Family, Recorder};
use crate::sys::text;

static LATENCY: Family = Family::histogram(
    "collector_filesystem_operation_seconds",
    "Time that a read, a write or an fsync of a file took, by the type of its file system.",
    &["type", "operation"],
);
static BYTES: Family = Family::counter(
    "collector_filesystem_operation_bytes_total",
    "Bytes that were read from files or written to them, by the type of their file system.",
    &["type", "operation"],
);
static ERRORS: Family = Family::counter(
    "collector_filesystem_operation_errors_total",
    "Operations on files that gave an error, by the type of their file system.",
    &["type", "operation"],
);

pub(super) static PROBE: Probe = Probe {
    name: "filesystem",
    about: "latency of reads, writes and fsyncs by type of file system",
    default_on: false,
    hooks: &[HOOKS, SYNCS],
    needs: "fentry (no lockdown), file, inode, super_block",
    families: &[&LATENCY, &BYTES, &ERRORS],
    start: |ground| Ok(Box::new(Filesystem::start(ground)?)),
};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../collector-ebpf/prebuilt/filesystem.o");

const HOOKS: &[Hook] = &[
    Hook::new("vfs_read", "fs_read_enter", "fs_read_enter"),
    Hook::new("vfs_read", "fs_read_exit", "fs_read_exit"),
    Hook::new("vfs_write", "fs_write_enter", "fs_write_enter"),
    Hook::new("vfs_write", "fs_write_exit", "fs_write_exit"),
];
/// What the table of system calls points to; the rest on their way the compiler may have made a part of something else.
const SYNCS: &[Hook] = if cfg!(target_arch = "aarch64") {
    &[
        Hook::new("__arm64_sys_fsync", "fs_fsync_enter", "fs_fsync_enter"),
        Hook::new("__arm64_sys_fsync", "fs_fsync_exit", "fs_fsync_exit"),
        Hook::new("__arm64_sys_fdatasync", "fs_fsync_enter", "fs_fsync_enter"),
        Hook::new("__arm64_sys_fdatasync", "fs_fsync_exit", "fs_fsync_exit"),
    ]
} else {
    &[
        Hook::new("__x64_sys_fsync", "fs_fsync_enter", "fs_fsync_enter"),
        Hook::new("__x64_sys_fsync", "fs_fsync_exit", "fs_fsync_exit"),
        Hook::new("__x64_sys_fdatasync", "fs_fsync_enter", "fs_fsync_enter"),
        Hook::new("__x64_sys_fdatasync", "fs_fsync_exit", "fs_fsync_exit"),
    ]
};

/// The register that holds the first argument of a system call; `regs` is an array of all.
const FIRST_ARGUMENT: &str = if cfg!(target_arch = "aarch64") { "regs" } else { "di" };

struct Filesystem {
    host: KernelMap,
    types: Types,
    times: Histogram,
    programs: Vec<RunningProgram>,
}

/// The types that have been met, and what was counted for them.
struct Types {
    slots: KernelMap,
    banks: KernelMap,
    /// In the order of their places.
    names: [Option<String>; TYPES],
}

impl Filesystem {
    fn start(ground: &mut Ground<'_>) -> Result<Self, ProbeError> {
        let mut find = ground.finder()?;
        let file = find.btf.structure("file")?;
        let inode = find.pointer(file, "f_inode", "FILE_INODE")?;
        let root = find.pointer(inode, "i_sb", "INODE_SUPER")?;
        let kind = find.pointer(root, "s_type", "SUPER_TYPE")?;
        find.member(kind, "name", 8, "TYPE_NAME")?;
        let task = find.btf.structure("task_struct")?;
        let files = find.pointer(task, "files", "TASK_FILES")?;
        let table = find.pointer(files, "fdt", "FILES_TABLE")?;
        find.member(table, "fd", 8, "TABLE_FILES")?;
        find.member(table, "max_fds", 4, "TABLE_SIZE")?;
        let registers = find.btf.structure("pt_regs")?;
        find.member(registers, FIRST_ARGUMENT, 8, "REGISTERS_FIRST")?;
        let attach = |(number, hook): (usize, &Hook)| {
            let function = ground.function(&find, hook.tracepoint)?;
            let way = if number % 2 == 0 { Way::Entry(function) } else { Way::Exit(function) };
            Ok(Attach { program: hook.typed, target: hook.tracepoint, way })
        };
        let programs =
            HOOKS.iter().chain(SYNCS).enumerate().map(attach).collect::<Result<Vec<_>, ProbeError>>()?;
        let (rows, task_bits) = (ground.rows(), ground.task_bits());
        find.set("TASK_BITS", task_bits);
        find.set("ROW_MASK", rows as u32 - 1);
        let sizes = [("HOST", rows), ("BANKS", rows * TYPES), ("STARTED", OPERATIONS.len() << task_bits)];
        let loaded = ground.load_all(OBJECT, &find.constants, &sizes, &programs)?;
        Ok(Filesystem {
            host: loaded.map::<HostBank>("HOST", rows)?,
            types: Types {
                slots: loaded.map::<TypeSlot>("TYPES", TYPES)?,
                banks: loaded.map::<TypeBank>("BANKS", rows * TYPES)?,
                names: [const { None }; TYPES],
            },
            times: Histogram::new(&counts::TIMES),
            programs: loaded.attach()?,
        })
    }
}

impl Types {
    /// Learns the names of the types that are new.
    fn learn(&mut self) {
        for (place, known) in self.names.iter_mut().enumerate() {
            let slot = self.slots.element(place);
            if known.is_some() || slot[offset_of!(TypeSlot, number) / 8].load(Ordering::Acquire) == 0 {
                continue;
            }
            let mut name = [0; NAME];
            for (word, bytes) in
                slot[offset_of!(TypeSlot, name) / 8..].iter().zip(name.as_chunks_mut::<8>().0)
            {
                *bytes = word.load(Ordering::Relaxed).to_ne_bytes();
            }
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            // One that is being written at this moment has none yet.
            *known = (!name.is_empty()).then(|| text::lossy(name));
        }
    }

    /// The elements of the places that have this name: two, where two CPUs met a type at the same instant.
    fn rows_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [std::sync::atomic::AtomicU64]> {
        let is_named = move |element: &usize| self.names[element % TYPES].as_deref() == Some(name);
        (0..self.banks.elements()).filter(is_named).map(|element| self.banks.element(element))
    }

    /// The names, each once.
    fn known(&self) -> impl Iterator<Item = &str> {
        let first =
            |place: usize, name: &str| !self.names[..place].iter().flatten().any(|other| other == name);
        let known = self.names.iter().enumerate().filter_map(|(place, name)| Some((place, name.as_deref()?)));
        known.filter(move |&(place, name)| first(place, name)).map(|(_, name)| name)
    }

    fn read_counts(&self, out: &mut Recorder) {
        for name in self.known() {
            for (number, operation) in OPERATIONS.iter().enumerate() {
                let sum = |member: usize| {
                    let at = (number * size_of::<OperationBank>() + member) / 8;
                    let counts = self.rows_of(name).map(|row| row[at].load(Ordering::Relaxed));
                    counts::number(counts.sum())
                };
                if number != FSYNC {
                    out.put(&BYTES, &[name, operation], sum(offset_of!(OperationBank, bytes)));
                }
                out.put(&ERRORS, &[name, operation], sum(offset_of!(OperationBank, errors)));
            }
        }
    }
}

impl Running for Filesystem {
    fn programs(&self) -> &[RunningProgram] {
        &self.programs
    }

    fn read(&mut self, out: &mut Recorder) {
        let Filesystem { types, times, .. } = self;
        types.learn();
        for name in types.known() {
            for (number, operation) in OPERATIONS.iter().enumerate() {
                let at = number * size_of::<OperationBank>() + offset_of!(OperationBank, latency);
                let buckets = at + offset_of!(TimeHistogram, buckets);
                out.histogram(&LATENCY, &[name, operation], &times.read(types.rows_of(name), at, buckets));
            }
        }
        types.read_counts(out);
    }

    fn lost(&self, lose: &mut dyn FnMut(&'static str, f64)) {
        lose("type_slots", counts::sum(&self.host, offset_of!(HostBank, type_slots)));
        lose("task_slots", counts::sum(&self.host, offset_of!(HostBank, task_slots)));
    }
}
