//! Brings a probe's programs into the kernel with aya, and keeps only what must live: the links, and the mapped arrays.
//!
//! Kernel interface: bpf(2). Needs CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8), and only while it loads.
//! Every failure is a [`ProbeError`] with a word for the label `reason` and a sentence for the log.

use std::error::Error;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use aya::maps::{Map, MapData, RingBuf};
use aya::programs::raw_trace_point::RawTracePointLink;
use aya::programs::tp_btf::BtfTracePointLink;
use aya::programs::{BtfTracePoint, Program, ProgramError, ProgramFd, RawTracePoint};
use aya::{Btf as AyaBtf, Ebpf, EbpfError, EbpfLoader, Endianness, VerifierLogLevel};

use super::btf::BtfError;
use super::kernel_map::KernelMap;
use crate::sys::file::ReadError;
use crate::sys::text;

/// Why a probe does not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error("this process lacks {0}: run it as root, or grant it with `setcap` or AmbientCapabilities=")]
    NotPermitted(String),
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
            ProbeError::NotPermitted(_) => "not_permitted",
            ProbeError::NoBtf(_) => "no_btf",
            ProbeError::Btf(_) => "kernel_layout",
            ProbeError::NotSupported(_) => "not_supported",
            ProbeError::Object(_) => "bad_object",
            ProbeError::Rejected { .. } => "rejected",
            ProbeError::Io { .. } => "io",
        }
    }
}

/// A program of the object, and the tracepoint to which it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attach {
    pub(super) program: &'static str,
    pub(super) tracepoint: &'static str,
}

/// What is loaded and how.
pub(super) struct Plan<'a> {
    pub(super) object: &'a [u8],
    pub(super) constants: &'a [(&'static str, u32)],
    pub(super) map_sizes: &'a [(&'static str, u32)],
    pub(super) programs: &'a [Attach],
    /// The kernel's BTF when the programs are `tp_btf`, `None` when they are `raw_tp`.
    pub(super) typed: Option<&'a AyaBtf>,
    /// Lets the programs write messages to the log.
    pub(super) messages: bool,
}

enum Link {
    Typed { _link: BtfTracePointLink },
    Raw { _link: RawTracePointLink },
}

/// A program in the kernel: runs until it is dropped.
pub(super) struct RunningProgram {
    pub(super) name: &'static str,
    /// `/proc/self/fdinfo/<fd>`: there the kernel tells how often it ran, and for how long.
    pub(super) fdinfo: PathBuf,
    _fd: ProgramFd,
    _link: Link,
}

/// The messages of the kernel side.
pub(super) type Messages = aya_log::EbpfLogger<&'static dyn log::Log>;

/// What the kernel side says now and then.
pub(super) type Ring = RingBuf<MapData>;

/// An object whose programs are loaded but not attached.
pub(super) struct Loaded {
    ebpf: Ebpf,
}

/// Loads the programs of `plan` and creates their maps.
///
/// # Errors
/// Every [`ProbeError`] but those about the kernel's layout.
pub(super) fn load(plan: &Plan<'_>) -> Result<Loaded, ProbeError> {
    let mut loader = EbpfLoader::new_without_btf();
    for (name, value) in plan.constants {
        loader.override_global(name, value, true);
    }
    let level: &u8 = if plan.messages { &4 } else { &0 };
    // Only the object of the run queue has messages.
    loader.override_global(aya_log::LEVEL, level, false);
    for &(name, size) in plan.map_sizes {
        loader.map_max_entries(name, size);
    }
    if !plan.messages {
        loader.map_max_entries("AYA_LOGS", SILENT_LOG_BYTES);
    }
    // Only after a refusal does aya ask again, with a buffer for the verifier's reasons.
    loader.verifier_log_level(VerifierLogLevel::DEBUG);
    let mut ebpf = loader.load(plan.object).map_err(|error| ebpf_error(&error))?;
    for attach in plan.programs {
        let program = ebpf.program_mut(attach.program).ok_or_else(|| absent(attach.program))?;
        load_one(program, attach.tracepoint, plan.typed)
            .map_err(|error| program_error(attach.program, &error))?;
    }
    Ok(Loaded { ebpf })
}

/// The kernel's BTF as aya wants it for `tp_btf`.
///
/// # Errors
/// When aya can't make sense of it.
pub(super) fn typed(bytes: &[u8]) -> Result<AyaBtf, ProbeError> {
    AyaBtf::parse(bytes, Endianness::default()).map_err(|error| ProbeError::Object(chain(&error)))
}

/// Bytes of the message ring when nothing is written to it: a page, the least that the kernel takes.
const SILENT_LOG_BYTES: u32 = 4096;

trait WithoutBtf {
    fn new_without_btf() -> Self;
}

impl WithoutBtf for EbpfLoader<'_> {
    /// `EbpfLoader::new` reads all of the kernel's BTF, for relocations that our objects do not have.
    fn new_without_btf() -> Self {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        loader
    }
}

fn load_one(program: &mut Program, tracepoint: &str, btf: Option<&AyaBtf>) -> Result<(), ProgramError> {
    match (program, btf) {
        (Program::BtfTracePoint(program), Some(btf)) => program.load(tracepoint, btf),
        (Program::RawTracePoint(program), None) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

impl Loaded {
    /// Maps an array of `elements`, each with the layout of `T`.
    ///
    /// # Errors
    /// When the object has no such array, or the kernel does not map it.
    pub(super) fn map<T>(&self, name: &str, elements: usize) -> Result<KernelMap, ProbeError> {
        match self.ebpf.map(name) {
            Some(Map::Array(data)) => KernelMap::new::<T>(data.fd().as_fd(), elements)
                .map_err(|source| ProbeError::Io { what: "mapping an array of the probe", source }),
            _ => Err(absent(name)),
        }
    }

    /// Takes the ring buffer of that name.
    ///
    /// # Errors
    /// When the object has none.
    pub(super) fn ring(&mut self, name: &str) -> Result<Ring, ProbeError> {
        let map = self.ebpf.take_map(name).ok_or_else(|| absent(name))?;
        RingBuf::try_from(map)
            .map_err(|error| ProbeError::Rejected { what: name.to_owned(), why: chain(&error) })
    }

    /// The messages of the kernel side, if the plan asked for them.
    pub(super) fn messages(&mut self) -> Option<Messages> {
        aya_log::EbpfLogger::init(&mut self.ebpf).ok()
    }

    /// Attaches the programs, and drops everything that is not needed while they run.
    ///
    /// # Errors
    /// When the kernel does not attach one; those attached before it are detached.
    pub(super) fn attach(mut self, programs: &[Attach]) -> Result<Vec<RunningProgram>, ProbeError> {
        programs.iter().map(|attach| attach_one(&mut self.ebpf, *attach)).collect()
    }
}

fn attach_one(ebpf: &mut Ebpf, attach: Attach) -> Result<RunningProgram, ProbeError> {
    let program = ebpf.program_mut(attach.program).ok_or_else(|| absent(attach.program))?;
    let fail = |error: ProgramError| program_error(attach.program, &error);
    let (fd, link) = match program {
        Program::BtfTracePoint(program) => (program.fd().map_err(fail)?.try_clone(), attach_typed(program)),
        Program::RawTracePoint(program) => {
            (program.fd().map_err(fail)?.try_clone(), attach_raw(program, attach.tracepoint))
        }
        _ => return Err(absent(attach.program)),
    };
    let fd = fd.map_err(|source| ProbeError::Io { what: "keeping a program's descriptor", source })?;
    let fdinfo = PathBuf::from(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()));
    Ok(RunningProgram { name: attach.program, fdinfo, _fd: fd, _link: link.map_err(fail)? })
}

fn attach_typed(program: &mut BtfTracePoint) -> Result<Link, ProgramError> {
    let link = program.attach()?;
    Ok(Link::Typed { _link: program.take_link(link)? })
}

fn attach_raw(program: &mut RawTracePoint, tracepoint: &str) -> Result<Link, ProgramError> {
    let link = program.attach(tracepoint)?;
    Ok(Link::Raw { _link: program.take_link(link)? })
}

fn absent(what: &str) -> ProbeError {
    ProbeError::Object(format!("it has no {what}"))
}

/// The capabilities that loading needs and `status`, the text of /proc/self/status, does not show.
pub(super) fn missing_capabilities(status: &[u8]) -> Option<&'static str> {
    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;
    let line = text::lines(status).find_map(|line| line.strip_prefix(b"CapEff:"))?;
    let effective = text::parse_hex(text::trim(line))?;
    let has = |capability: u32| effective >> capability & 1 != 0;
    match (has(SYS_ADMIN), has(BPF), has(PERFMON)) {
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
    // The verifier ends with what it objects to.
    let mut start = line.len().saturating_sub(MAX_MESSAGE);
    while !line.is_char_boundary(start) {
        start += 1;
    }
    line.split_off(start)
}

/// Bytes of an error message that are kept: a verifier can say a lot.
const MAX_MESSAGE: usize = 2048;

/// The number of the system's error among the causes.
fn os_error(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        cause = error.source();
    }
    None
}

fn ebpf_error(error: &EbpfError) -> ProbeError {
    match (error, os_error(error)) {
        (_, Some(libc::EPERM)) => {
            ProbeError::NotPermitted(format!("the right to use bpf(2) ({})", chain(error)))
        }
        (EbpfError::MapError(_), _) => ProbeError::Rejected { what: "a map".to_owned(), why: chain(error) },
        _ => ProbeError::Object(chain(error)),
    }
}

fn program_error(program: &str, error: &ProgramError) -> ProbeError {
    match os_error(error) {
        Some(libc::EPERM) => {
            ProbeError::NotPermitted(format!("the right to load {program} ({})", chain(error)))
        }
        _ => ProbeError::Rejected { what: format!("program {program}"), why: chain(error) },
    }
}
