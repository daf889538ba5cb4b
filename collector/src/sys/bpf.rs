//! What the kernel probes need of bpf(2): maps, programs, and what attaches them. Each call is one system call, made while
//! the probes are loaded and never after.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya_obj::generated::bpf_insn;

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const MAP_FREEZE: libc::c_long = 22;
const LINK_CREATE: libc::c_long = 28;

/// Bytes of a name that the kernel keeps, and a zero.
const NAME: usize = 16;

/// `struct bpf_attr` as each command takes it. What a kernel knows beyond it is zero.
#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map: u32,
    numa_node: u32,
    name: [u8; NAME],
}

#[repr(C)]
struct MapUpdate {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; NAME],
    interface: u32,
    expected_attach_type: u32,
    btf: u32,
    function_info_size: u32,
    function_info: u64,
    function_info_count: u32,
    line_info_size: u32,
    line_info: u64,
    line_info_count: u32,
    attach_type_id: u32,
    attach_program: u32,
    padding: u32,
}

#[repr(C)]
struct RawTracepointOpen {
    name: u64,
    program: u32,
    padding: u32,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

const _: () = assert!(size_of::<MapCreate>() == 44 && size_of::<ProgLoad>() == 120);

/// # Errors
/// As bpf(2).
fn call<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are those of the command, as large as is said, and what they point to outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>() as libc::c_uint)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// As [`call`], for what gives a descriptor; the kernel makes all of these close-on-exec.
fn open<T>(command: libc::c_long, attributes: &mut T) -> io::Result<OwnedFd> {
    let number = i32::try_from(call(command, attributes)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made the descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// As [`open`], for what locks memory: up to 5.10 the kernel counts it against a limit of the process, which is lifted when
/// it is met and may be.
fn open_locking<T>(command: libc::c_long, attributes: &mut T) -> io::Result<OwnedFd> {
    let error = match open(command, attributes) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => error,
        result => return result,
    };
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the kernel reads the structure.
    let lifted = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) };
    if lifted == 0 { open(command, attributes) } else { Err(error) }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn name(text: &str) -> [u8; NAME] {
    let mut name = [0; NAME];
    let kept = text.len().min(NAME - 1);
    name[..kept].copy_from_slice(&text.as_bytes()[..kept]);
    name
}

/// A map to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewMap<'a> {
    /// `enum bpf_map_type`
    pub kind: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
    pub name: &'a str,
}

/// # Errors
/// As `BPF_MAP_CREATE`: EPERM without the right to it, or where memory may not be locked (before 5.11); ENOMEM; E2BIG.
pub fn create_map(new: &NewMap<'_>) -> io::Result<OwnedFd> {
    // A kernel refuses names with other characters than these.
    let plain: String =
        new.name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.')).collect();
    open_locking(
        MAP_CREATE,
        &mut MapCreate {
            kind: new.kind,
            key_size: new.key_size,
            value_size: new.value_size,
            max_entries: new.max_entries,
            flags: new.flags,
            inner_map: 0,
            numa_node: 0,
            name: name(&plain),
        },
    )
}

/// Writes the one element of an array, which holds `value.len()` bytes.
///
/// # Errors
/// As `BPF_MAP_UPDATE_ELEM`.
pub fn fill_map(map: BorrowedFd<'_>, value: &[u8]) -> io::Result<()> {
    let key = 0u32;
    let mut attributes = MapUpdate {
        map: raw(map),
        padding: 0,
        key: std::ptr::from_ref(&key) as u64,
        value: value.as_ptr() as u64,
        flags: 0,
    };
    call(MAP_UPDATE_ELEM, &mut attributes).map(drop)
}

/// Lets nobody write to the map from user space any more: then the verifier takes what it holds for constants.
///
/// # Errors
/// As `BPF_MAP_FREEZE`.
pub fn freeze_map(map: BorrowedFd<'_>) -> io::Result<()> {
    call(MAP_FREEZE, &mut raw(map)).map(drop)
}

/// A program to be loaded.
#[derive(Clone, Copy)]
pub struct NewProgram<'a> {
    /// `enum bpf_prog_type`
    pub kind: u32,
    /// `enum bpf_attach_type`
    pub attach_type: u32,
    /// For what is attached by its type: the number of that type in the kernel's BTF.
    pub type_id: u32,
    pub instructions: &'a [bpf_insn],
    pub license: &'a CStr,
    pub name: &'a str,
}

/// Loads a program; where the verifier refuses it, `log` takes what it says.
///
/// # Errors
/// As `BPF_PROG_LOAD`.
pub fn load_program(new: &NewProgram<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    let count = u32::try_from(new.instructions.len()).map_err(io::Error::other)?;
    open_locking(
        PROG_LOAD,
        &mut ProgLoad {
            kind: new.kind,
            instruction_count: count,
            instructions: new.instructions.as_ptr() as u64,
            license: new.license.as_ptr() as u64,
            log_level: u32::from(!log.is_empty()),
            log_size: u32::try_from(log.len()).map_err(io::Error::other)?,
            log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
            name: name(new.name),
            expected_attach_type: new.attach_type,
            attach_type_id: new.type_id,
            ..ProgLoad::default()
        },
    )
}

/// Attaches a program to a tracepoint: by its name, or, where the program has been loaded for one, without. It is detached
/// when what is returned is closed.
///
/// # Errors
/// As `BPF_RAW_TRACEPOINT_OPEN`: ENOENT where there is no such tracepoint.
pub fn attach_tracepoint(program: BorrowedFd<'_>, tracepoint: Option<&CStr>) -> io::Result<OwnedFd> {
    let name = tracepoint.map_or(0, |name| name.as_ptr() as u64);
    open(RAW_TRACEPOINT_OPEN, &mut RawTracepointOpen { name, program: raw(program), padding: 0 })
}

/// Attaches a program to a cgroup, beside what others have attached. It is detached when what is returned is closed.
///
/// # Errors
/// As `BPF_LINK_CREATE`: EPERM where another program there lets no other beside it.
pub fn attach_cgroup(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    open(LINK_CREATE, &mut LinkCreate { program: raw(program), target: raw(cgroup), attach_type, flags: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_to_what_the_kernel_keeps() {
        assert_eq!(&name("HOST"), b"HOST\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(&name("sixteen_or_more_bytes"), b"sixteen_or_more\0");
    }

    #[test]
    fn a_map_that_no_kernel_has_is_an_error() {
        let new = NewMap { kind: u32::MAX, key_size: 4, value_size: 8, max_entries: 1, flags: 0, name: "X" };
        let error = create_map(&new).unwrap_err().raw_os_error();
        assert!(matches!(error, Some(libc::EINVAL | libc::EPERM | libc::ENOSYS | libc::E2BIG)), "{error:?}");
    }
}
