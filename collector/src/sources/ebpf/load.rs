//! Brings a probe's programs into the kernel with aya, and keeps only what must live: the links, and the mapped arrays.
//!
//! Kernel interface: bpf(2). Needs CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8), and only while it loads.
//! Every failure is a [`ProbeError`] with a word for the label `reason` and a sentence for the log.

use std::collections::HashMap;
use std::error::Error;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use aya::maps::{Map, MapData, RingBuf};
use aya_obj::{EbpfSectionKind, Object};
use collector_ebpf::maps::WHOLE;

use super::btf::{BtfError, TypeId};
use super::kernel_map::KernelMap;
use super::settle::{self, Data};
use crate::sys::bpf::{self, NewMap, NewProgram};
use crate::sys::file::{ReadError, read_once};
use crate::sys::identity;
use crate::sys::privileges::Capabilities;
use crate::sys::text;

/// Why a probe does not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error("this process lacks {0}: run it as root, or grant it with `setcap` or AmbientCapabilities=")]
    NotPermitted(String),
    #[error("nobody may trace functions here: the kernel is locked down")]
    LockedDown,
    #[error("the kernel's type description can't be read ({0}): the kernel needs CONFIG_DEBUG_INFO_BTF")]
    NoBtf(#[from] ReadError),
    #[error("{0}")]
    Btf(#[from] BtfError),
    /// The kernel lacks what every method of the probe stands on.
    #[error("the kernel lacks {0}")]
    NotSupported(String),
    #[error("the object is damaged or does not fit: {0}")]
    Object(String),
    /// The verifier, or the kernel's choice of program types, said no.
    #[error("the kernel refused {what}: {why}")]
    Rejected { what: String, why: String },
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
}

impl ProbeError {
    /// A word for the label `reason`.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            ProbeError::NotPermitted(_) | ProbeError::LockedDown => "not_permitted",
            ProbeError::NoBtf(_) => "no_btf",
            ProbeError::Btf(_) => "kernel_layout",
            ProbeError::NotSupported(_) => "not_supported",
            ProbeError::Object(_) => "bad_object",
            ProbeError::Rejected { .. } => "rejected",
            ProbeError::Io { .. } => "io",
        }
    }

    /// How loud it is said: what nobody on this host can change is no cause for alarm.
    pub(super) fn level(&self) -> log::Level {
        match self {
            ProbeError::LockedDown => log::Level::Info,
            _ => log::Level::Warn,
        }
    }
}

/// How a program comes to what it watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `tp_btf`: the tracepoint of that type, with plain loads.
    Typed(TypeId),
    /// `raw_tp`: a helper for each load.
    Raw,
    /// `fentry`, at the start of the function of that number, and `fexit`, at its end.
    Entry(TypeId),
    Exit(TypeId),
    /// What the sockets of a cgroup receive and send.
    Ingress,
    Egress,
}

/// A program of the object, and to what it goes: a tracepoint, or a function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attach {
    pub(super) program: &'static str,
    pub(super) target: &'static str,
    pub(super) way: Way,
}

impl Way {
    /// `enum bpf_prog_type`, and `enum bpf_attach_type`.
    fn kinds(self) -> (u32, u32) {
        const RAW_TRACEPOINT: u32 = 17;
        const TRACING: u32 = 26;
        const CGROUP_SKB: u32 = 8;
        match self {
            Way::Typed(_) => (TRACING, 23),
            Way::Entry(_) => (TRACING, 24),
            Way::Exit(_) => (TRACING, 25),
            Way::Raw => (RAW_TRACEPOINT, 0),
            Way::Ingress => (CGROUP_SKB, 0),
            Way::Egress => (CGROUP_SKB, 1),
        }
    }

    fn type_id(self) -> TypeId {
        match self {
            Way::Typed(id) | Way::Entry(id) | Way::Exit(id) => id,
            Way::Raw | Way::Ingress | Way::Egress => 0,
        }
    }
}

/// What is loaded and how.
pub(super) struct Plan<'a> {
    pub(super) object: &'a [u8],
    pub(super) constants: &'a [(&'static str, u32)],
    pub(super) map_sizes: &'a [(&'static str, u32)],
    pub(super) programs: &'a [Attach],
    /// Lets the programs write messages to the log.
    pub(super) messages: bool,
}

/// A program in the kernel: runs until it is dropped.
pub(super) struct RunningProgram {
    pub(super) name: &'static str,
    /// `/proc/self/fdinfo/<fd>`: there the kernel tells how often it ran, and for how long.
    pub(super) fdinfo: PathBuf,
    _program: OwnedFd,
    _link: OwnedFd,
}

/// The messages of the kernel side.
pub(super) type Messages = aya_log::EbpfLogger<&'static dyn log::Log>;

/// What the kernel side says now and then.
pub(super) type Ring = RingBuf<MapData>;

/// An object whose programs are loaded but not attached.
pub(super) struct Loaded {
    maps: Vec<(String, OwnedFd)>,
    programs: Vec<(Attach, OwnedFd)>,
}

/// Loads the programs of `plan` and creates their maps.
///
/// It takes aya's reader of objects, but not its loader, which reads all of the kernel's BTF for each object: for
/// relocations that ours do not have, and into 30 MiB.
///
/// # Errors
/// Every [`ProbeError`] but those about the kernel's layout.
pub(super) fn load(plan: &Plan<'_>) -> Result<Loaded, ProbeError> {
    let damaged = |error: &dyn Error| ProbeError::Object(chain(error));
    let mut object = Object::parse(plan.object).map_err(|error| damaged(&error))?;
    object.patch_map_data(globals(plan)).map_err(|error| damaged(&error))?;
    let mut maps = Vec::new();
    for (name, mut map) in std::mem::take(&mut object.maps) {
        if let Some(&(_, size)) = plan.map_sizes.iter().find(|(own, _)| *own == name) {
            map.set_max_entries(size);
        }
        if !plan.messages && name == MESSAGES {
            map.set_max_entries(SILENT_LOG_BYTES);
        }
        if map.map_flags() & WHOLE != 0 {
            let size = map.value_size().checked_mul(map.max_entries());
            map.set_value_size(size.ok_or_else(|| ProbeError::NotSupported("so many CPUs".to_owned()))?);
            map.set_max_entries(1);
        }
        let fd = create_map(&name, &map)?;
        maps.push((name, map, fd));
    }
    let sections = object.functions.keys().map(|&(section, _)| section).collect();
    let places = maps.iter().map(|(name, map, fd)| (name.as_str(), fd.as_raw_fd(), map));
    object.relocate_maps(places, &sections).map_err(|error| damaged(&error))?;
    reach_by_address(&mut object, &maps);
    object.relocate_calls(&sections).map_err(|error| damaged(&error))?;
    let constants: Vec<Data<'_>> = maps
        .iter()
        .filter(|(_, map, _)| map.section_kind() == EbpfSectionKind::Rodata)
        .map(|(_, map, fd)| (fd.as_raw_fd(), map.data()))
        .collect();
    let load = |attach: &Attach| Ok((*attach, load_one(&object, &constants, attach)?));
    let programs = plan.programs.iter().map(load).collect::<Result<_, ProbeError>>()?;
    Ok(Loaded { maps: maps.into_iter().map(|(name, _, fd)| (name, fd)).collect(), programs })
}

/// Lets programs have the address of an array's value where they name a map that is [`WHOLE`].
fn reach_by_address(object: &mut Object, maps: &[(String, aya_obj::Map, OwnedFd)]) {
    const LOAD_ADDRESS: u8 = 0x18;
    const MAP: u8 = 1;
    const VALUE: u8 = 2;
    let whole: Vec<i32> = maps
        .iter()
        .filter(|(_, map, _)| map.map_flags() & WHOLE != 0)
        .map(|(.., fd)| fd.as_raw_fd())
        .collect();
    for instruction in object.functions.values_mut().flat_map(|function| &mut function.instructions) {
        // The second half of the instruction has the place within the value: 0.
        if instruction.code == LOAD_ADDRESS
            && instruction.src_reg() == MAP
            && whole.contains(&instruction.imm)
        {
            instruction.set_src_reg(VALUE);
        }
    }
}

/// The ring of the kernel side's messages.
const MESSAGES: &str = "AYA_LOGS";
/// Bytes of it when nothing is written to it: a page, the least that the kernel takes.
const SILENT_LOG_BYTES: u32 = 4096;

/// What is written into the object's read-only data, each with whether the object must have it.
fn globals<'a>(plan: &'a Plan<'_>) -> HashMap<&'a str, (&'a [u8], bool)> {
    let level: &[u8] = if plan.messages { &[4] } else { &[0] };
    let constants = plan.constants.iter().map(|(name, value)| (*name, (bytes_of(value), true)));
    // Only the object of the run queue has messages.
    constants.chain([(aya_log::LEVEL, (level, false))]).collect()
}

fn bytes_of(value: &u32) -> &[u8] {
    // SAFETY: every byte of a number is initialised, and may be read as one.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<u32>()) }
}

fn create_map(name: &str, map: &aya_obj::Map) -> Result<OwnedFd, ProbeError> {
    const RING: u32 = 27;
    let mut max_entries = map.max_entries();
    if map.map_type() == RING {
        // A ring is whole pages, and pages differ.
        let page = u32::try_from(identity::page_size()).unwrap_or(0);
        max_entries = max_entries.max(page).checked_next_power_of_two().unwrap_or(max_entries);
    }
    let new = NewMap {
        kind: map.map_type(),
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries,
        flags: map.map_flags() & !WHOLE,
        name,
    };
    let fd = bpf::create_map(&new).map_err(|error| map_error(name, &error))?;
    if !map.data().is_empty() && map.section_kind() != EbpfSectionKind::Bss {
        bpf::fill_map(fd.as_fd(), map.data()).map_err(|error| map_error(name, &error))?;
    }
    if map.section_kind() == EbpfSectionKind::Rodata {
        bpf::freeze_map(fd.as_fd()).map_err(|error| map_error(name, &error))?;
    }
    Ok(fd)
}

fn load_one(object: &Object, constants: &[Data<'_>], attach: &Attach) -> Result<OwnedFd, ProbeError> {
    let found = object.programs.get(attach.program).ok_or_else(|| absent(attach.program))?;
    let function = object.functions.get(&found.function_key()).ok_or_else(|| absent(attach.program))?;
    let mut instructions = function.instructions.clone();
    settle::settle(&mut instructions, constants);
    let (kind, attach_type) = attach.way.kinds();
    let new = NewProgram {
        kind,
        attach_type,
        type_id: attach.way.type_id(),
        instructions: &instructions,
        license: &found.license,
        name: attach.program,
    };
    // Only after a refusal is the verifier asked for its reasons: it writes a lot.
    let error = match bpf::load_program(&new, &mut []) {
        Ok(fd) => return Ok(fd),
        Err(error) => error,
    };
    let mut log = vec![0; FIRST_LOG];
    while let Err(again) = bpf::load_program(&new, &mut log)
        && again.raw_os_error() == Some(libc::ENOSPC)
        && log.len() < LARGEST_LOG
    {
        log = vec![0; log.len() * 4];
    }
    let said = log.split(|&byte| byte == 0).next().unwrap_or_default();
    Err(program_error(attach, &error, &text::lossy(said)))
}

/// Bytes for what a verifier says: at first, and at most.
const FIRST_LOG: usize = 64 << 10;
const LARGEST_LOG: usize = 16 << 20;

impl Loaded {
    fn fd(&self, name: &str) -> Result<BorrowedFd<'_>, ProbeError> {
        let found = self.maps.iter().find(|(own, _)| own == name);
        found.map(|(_, fd)| fd.as_fd()).ok_or_else(|| absent(name))
    }

    /// Whether the kernel types what the programs are given.
    pub(super) fn is_typed(&self) -> bool {
        self.programs.iter().all(|(attach, _)| matches!(attach.way, Way::Typed(_)))
    }

    /// Maps an array of `elements`, each with the layout of `T`.
    ///
    /// # Errors
    /// When the object has no such array, or the kernel does not map it.
    pub(super) fn map<T>(&self, name: &str, elements: usize) -> Result<KernelMap, ProbeError> {
        KernelMap::new::<T>(self.fd(name)?, elements)
            .map_err(|source| ProbeError::Io { what: "mapping an array of the probe", source })
    }

    /// Takes the ring buffer of that name.
    ///
    /// # Errors
    /// When the object has none.
    pub(super) fn ring(&mut self, name: &str) -> Result<Ring, ProbeError> {
        let kept = self.fd(name)?.try_clone_to_owned();
        let fd = kept.map_err(|source| ProbeError::Io { what: "keeping a map's descriptor", source })?;
        let rejected = |error: &dyn Error| ProbeError::Rejected { what: name.to_owned(), why: chain(error) };
        let map = MapData::from_fd(fd).map_err(|error| rejected(&error))?;
        RingBuf::try_from(Map::RingBuf(map)).map_err(|error| rejected(&error))
    }

    /// The messages of the kernel side, if the plan asked for them. Finding their ring needs CAP_SYS_ADMIN.
    pub(super) fn messages(&self) -> Option<Messages> {
        let (_, fd) = self.programs.first()?;
        let mut buffer = Vec::new();
        let info = read_once(&fdinfo(fd), &mut buffer).ok()?;
        let line = text::lines(info).find_map(|line| line.strip_prefix(b"prog_id:"))?;
        let id = u32::try_from(text::parse_u64(text::trim(line))?).ok()?;
        aya_log::EbpfLogger::init_from_id(id).ok()
    }

    /// Attaches the programs, and drops everything that is not needed while they run. `cgroup` is that to which those go
    /// that watch one.
    ///
    /// # Errors
    /// When the kernel does not attach one; those attached before it are detached.
    pub(super) fn attach_to(self, cgroup: Option<BorrowedFd<'_>>) -> Result<Vec<RunningProgram>, ProbeError> {
        self.programs.into_iter().map(|(attach, fd)| attach_one(attach, fd, cgroup)).collect()
    }

    /// As [`Loaded::attach_to`], without a cgroup.
    ///
    /// # Errors
    /// Likewise.
    pub(super) fn attach(self) -> Result<Vec<RunningProgram>, ProbeError> {
        self.attach_to(None)
    }
}

fn attach_one(
    attach: Attach,
    program: OwnedFd,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<RunningProgram, ProbeError> {
    let link = match (attach.way, cgroup) {
        (Way::Typed(_) | Way::Entry(_) | Way::Exit(_), _) => bpf::attach_tracepoint(program.as_fd(), None),
        (Way::Raw, _) => {
            let name = CString::new(attach.target).map_err(|error| ProbeError::Object(error.to_string()))?;
            bpf::attach_tracepoint(program.as_fd(), Some(&name))
        }
        (Way::Ingress | Way::Egress, Some(cgroup)) => {
            bpf::attach_cgroup(program.as_fd(), cgroup, attach.way.kinds().1)
        }
        (Way::Ingress | Way::Egress, None) => return Err(absent("cgroup")),
    };
    let link = link.map_err(|error| program_error(&attach, &error, ""))?;
    let fdinfo = fdinfo(&program);
    Ok(RunningProgram { name: attach.program, fdinfo, _program: program, _link: link })
}

fn fdinfo(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))
}

fn absent(what: &str) -> ProbeError {
    ProbeError::Object(format!("it has no {what}"))
}

/// The capabilities that loading needs and `status`, the text of /proc/thread-self/status, does not show.
pub(super) fn missing_capabilities(status: &[u8]) -> Option<&'static str> {
    let line = text::lines(status).find_map(|line| line.strip_prefix(b"CapEff:"))?;
    let effective = Capabilities::of_bits(text::parse_hex(text::trim(line))?);
    let has = |capability| effective.has(capability);
    match (has(Capabilities::SYS_ADMIN), has(Capabilities::BPF), has(Capabilities::PERFMON)) {
        (true, ..) | (_, true, true) => None,
        (_, false, false) => Some("CAP_BPF and CAP_PERFMON"),
        (_, false, true) => Some("CAP_BPF"),
        (_, true, false) => Some("CAP_PERFMON"),
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    last_of(line)
}

/// The end of a message: that is where the verifier says what it objects to.
fn last_of(mut line: String) -> String {
    let mut start = line.len().saturating_sub(MAX_MESSAGE);
    while !line.is_char_boundary(start) {
        start += 1;
    }
    line.split_off(start)
}

/// Bytes of an error message that are kept: a verifier can say a lot.
const MAX_MESSAGE: usize = 2048;

fn map_error(name: &str, error: &io::Error) -> ProbeError {
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            ProbeError::NotPermitted(format!("the right to use bpf(2) (map {name}: {error})"))
        }
        _ => ProbeError::Rejected { what: format!("map {name}"), why: error.to_string() },
    }
}

/// `said` is what the verifier said, if it was that.
fn program_error(attach: &Attach, error: &io::Error, said: &str) -> ProbeError {
    let program = attach.program;
    if error.raw_os_error() != Some(libc::EPERM) {
        let why = last_of(format!("{error}: {}", said.trim_end()));
        return ProbeError::Rejected { what: format!("program {program}"), why };
    }
    match attach.way {
        Way::Typed(_) | Way::Raw => {
            ProbeError::NotPermitted(format!("the right to load {program} ({error})"))
        }
        Way::Entry(_) | Way::Exit(_) => ProbeError::LockedDown,
        Way::Ingress | Way::Egress => {
            ProbeError::NotPermitted(format!("CAP_NET_ADMIN, or the right to attach {program} ({error})"))
        }
    }
}
