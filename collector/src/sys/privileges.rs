//! What a thread may do: its capabilities (capabilities(7)), and the system calls that it may make (seccomp(2)).
//!
//! Both belong to a thread, and to those that it makes from then on: who gives something up for the whole process does so
//! before it makes others. Each call is one system call, made at the start and never after.

use std::io;

/// `_LINUX_CAPABILITY_VERSION_3`: sets of 64 bits, in two halves.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    /// 0 is the thread that calls.
    pid: libc::c_int,
}

/// `struct __user_cap_data_struct`: one half of each set.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// A set of capabilities, a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    pub const NONE: Self = Capabilities(0);
    pub const DAC_OVERRIDE: u32 = 1;
    pub const DAC_READ_SEARCH: u32 = 2;
    pub const NET_BIND_SERVICE: u32 = 10;
    pub const NET_ADMIN: u32 = 12;
    pub const SYS_PTRACE: u32 = 19;
    pub const SYS_ADMIN: u32 = 21;
    pub const PERFMON: u32 = 38;
    pub const BPF: u32 = 39;

    /// The set with these bits, as /proc/PID/status shows one.
    pub const fn of_bits(bits: u64) -> Self {
        Capabilities(bits)
    }

    /// The set with the capability of that number (linux/capability.h) as well.
    pub const fn with(self, number: u32) -> Self {
        Capabilities(self.0 | 1 << number)
    }

    pub const fn bits(self) -> u64 {
        self.0
    }

    pub fn has(self, number: u32) -> bool {
        self.0 >> number & 1 != 0
    }

    /// What this thread may use.
    ///
    /// # Errors
    /// As capget(2).
    pub fn permitted() -> io::Result<Self> {
        let (mut header, mut halves) = (Header { version: VERSION, pid: 0 }, [Half::default(); 2]);
        // SAFETY: the kernel writes two halves with this version, and both pointers outlive the call.
        let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Capabilities(u64::from(halves[1].permitted) << 32 | u64::from(halves[0].permitted)))
    }

    /// Gives up, for good, what this thread has and the set has not. Returns what is left, which is in effect from then on.
    ///
    /// # Errors
    /// As capset(2).
    pub fn keep_only(self) -> io::Result<Self> {
        let kept = self.0 & Self::permitted()?.0;
        let half = |bits: u64| {
            let bits = (bits & u64::from(u32::MAX)) as u32;
            // Nothing is inheritable: then nothing is ambient either.
            Half { effective: bits, permitted: bits, inheritable: 0 }
        };
        let (mut header, halves) = (Header { version: VERSION, pid: 0 }, [half(kept), half(kept >> 32)]);
        // SAFETY: the kernel reads two halves with this version, and both pointers outlive the call.
        let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(Capabilities(kept)) }
    }
}

/// Lets no program that this thread may start have more than it has itself.
///
/// # Errors
/// As prctl(2).
pub fn gain_no_more() -> io::Result<()> {
    // SAFETY: the call takes numbers alone.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// As `struct seccomp_data` names the machine; without one of them no filter is made.
#[cfg(target_arch = "x86_64")]
const MACHINE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const MACHINE: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const MACHINE: Option<u32> = None;

/// The calls of the 32-bit kind that a 64-bit x86 kernel may know have numbers from here on.
const OTHER_KIND: u32 = 0x4000_0000;

/// Classic BPF, as the filter of system calls is written in it.
fn filter(machine: u32, denied: &[libc::c_long]) -> Vec<libc::sock_filter> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    // The number of the machine, and that of the call, in `struct seccomp_data`.
    let mut steps = vec![step(LOAD, 0, 0, 4), step(EQUAL, 1, 0, machine), step(RETURN, 0, 0, refuse)];
    steps.extend([step(LOAD, 0, 0, 0), step(AT_LEAST, 0, 1, OTHER_KIND), step(RETURN, 0, 0, refuse)]);
    for number in denied.iter().filter_map(|&number| u32::try_from(number).ok()) {
        steps.extend([step(EQUAL, 0, 1, number), step(RETURN, 0, 0, refuse)]);
    }
    steps.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    steps
}

/// From now on these system calls give EPERM, and so do all of other machines than the one that this was built for. Returns
/// whether there is a filter for this machine. It needs [`gain_no_more`] first.
///
/// # Errors
/// As seccomp(2): EINVAL where the kernel has none.
pub fn deny_calls(denied: &[libc::c_long]) -> io::Result<bool> {
    const SET_FILTER: libc::c_uint = 1;
    /// Without it kernels before 5.16 slow the thread down, lest it looks at what it must not by speculation.
    const AS_FAST_AS_BEFORE: libc::c_uint = 1 << 2;
    let Some(machine) = MACHINE else { return Ok(false) };
    let mut steps = filter(machine, denied);
    let length = u16::try_from(steps.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: steps.as_mut_ptr() };
    // SAFETY: the kernel reads the program, whose steps outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, SET_FILTER, AS_FAST_AS_BEFORE, &raw const program) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of the filter for a call, as the kernel's interpreter would find it.
    fn run(steps: &[libc::sock_filter], machine: u32, number: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let step = steps[at];
            let jump = |is_so| usize::from(if is_so { step.jt } else { step.jf });
            at += 1 + match step.code {
                0x20 => {
                    loaded = if step.k == 4 { machine } else { number };
                    0
                }
                0x15 => jump(loaded == step.k),
                0x35 => jump(loaded >= step.k),
                0x06 => return step.k,
                code => panic!("code {code:#x}"),
            };
        }
    }

    #[test]
    fn what_is_denied_is_refused_and_the_rest_is_not() {
        let steps = filter(7, &[11, 12, 300]);
        let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
        for (number, result) in [(0, libc::SECCOMP_RET_ALLOW), (10, libc::SECCOMP_RET_ALLOW), (11, refused)] {
            assert_eq!(run(&steps, 7, number), result, "{number}");
        }
        assert_eq!([12, 300, OTHER_KIND].map(|number| run(&steps, 7, number)), [refused; 3]);
        assert_eq!(run(&steps, 7, 301), libc::SECCOMP_RET_ALLOW);
        assert_eq!(run(&steps, 8, 0), refused, "another machine");
    }

    #[test]
    fn a_thread_gives_up_for_itself_and_for_those_that_it_makes() {
        let given_up = || {
            assert_eq!(Capabilities::NONE.keep_only().unwrap(), Capabilities::NONE);
            gain_no_more().unwrap();
            if !deny_calls(&[libc::SYS_getppid]).unwrap() {
                return;
            }
            let made = std::thread::spawn(|| {
                // SAFETY: the call takes nothing.
                let result = unsafe { libc::syscall(libc::SYS_getppid) };
                (result, io::Error::last_os_error().raw_os_error(), Capabilities::permitted().unwrap())
            });
            assert_eq!(made.join().unwrap(), (-1, Some(libc::EPERM), Capabilities::NONE));
        };
        std::thread::spawn(given_up).join().unwrap();
        // SAFETY: the call takes nothing.
        assert!(unsafe { libc::syscall(libc::SYS_getppid) } > 0, "this thread has given up nothing");
    }
}
