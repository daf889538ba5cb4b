//! The probe of system calls: how long they take and how they fail, by class; for the host and by cgroup.
//!
//! Kernel interface: the tracepoints `sys_enter` and `sys_exit`. Cost: in the kernel some 200 ns a call, of which half is
//! that there are programs at all; a tick some microseconds and no system call.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use collector_ebpf::scale::TimeHistogram;
use collector_ebpf::syscalls::{
    self as shared, CLASSES, ClassTable, ERRORS, FILE, HostBank, IPC, LOCK, MEMORY, NETWORK, NUMBERS, POLL,
    PROCESS, READ, SYNC, TIME, TIMED, WRITE,
};

use super::cgroup_slots::CgroupSlots;
use super::counts::{self, Histogram};
use super::ground::{Ground, Hook};
use super::kernel_map::KernelMap;
use super::load::{ProbeError, RunningProgram};
use super::{Probe, Running};
use crate::model::{Family, Recorder};

static LATENCY: Family = Family::histogram(
    "collector_syscall_duration_seconds",
    "Time from the start of a system call to its end, with what it waited for, by the class of the call.",
    &["class"],
);
static ERRORS_SEEN: Family = Family::counter(
    "collector_syscall_errors_total",
    "System calls that gave an error, by the class of the call and the name of the error.",
    &["class", "error"],
);
static CGROUP_CALLS: Family =
    Family::counter("collector_cgroup_syscalls_total", "System calls of the cgroup's tasks.", &["cgroup"]);
static CGROUP_ERRORS: Family = Family::counter(
    "collector_cgroup_syscall_errors_total",
    "System calls of the cgroup's tasks that gave an error.",
    &["cgroup"],
);
static CGROUP_TIME: Family = Family::counter(
    "collector_cgroup_syscall_seconds_total",
    "Time that the cgroup's tasks were in system calls of a class that moves data or looks at files.",
    &["cgroup", "class"],
);

pub(super) static PROBE: Probe = Probe {
    name: "syscalls",
    about: "latency and errors of system calls by class",
    default_on: false,
    hooks: &[HOOKS],
    needs: "task_struct, cgroup",
    families: &[&LATENCY, &ERRORS_SEEN, &CGROUP_CALLS, &CGROUP_ERRORS, &CGROUP_TIME],
    start: |ground| Ok(Box::new(Syscalls::start(ground)?)),
};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../collector-ebpf/prebuilt/syscalls.o");

const HOOKS: &[Hook] = &[
    Hook::new("sys_enter", "syscall_enter", "raw_sys_enter"),
    Hook::new("sys_exit", "syscall_exit", "raw_sys_exit"),
];

/// Which calls are of a class; what is not named is `other`. Architectures without a call have none of its number.
#[rustfmt::skip]
const CALLS: &[(u8, &[libc::c_long])] = &[
    (READ, &[libc::SYS_read, libc::SYS_pread64, libc::SYS_readv, libc::SYS_preadv, libc::SYS_preadv2, libc::SYS_readahead]),
    (WRITE, &[
        libc::SYS_write, libc::SYS_pwrite64, libc::SYS_writev, libc::SYS_pwritev, libc::SYS_pwritev2, libc::SYS_sendfile,
        libc::SYS_splice, libc::SYS_tee, libc::SYS_vmsplice, libc::SYS_copy_file_range,
    ]),
    (SYNC, &[libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_sync, libc::SYS_syncfs, libc::SYS_sync_file_range, libc::SYS_msync]),
    (FILE, &[
        libc::SYS_openat, libc::SYS_openat2, libc::SYS_close, libc::SYS_close_range, libc::SYS_fstat, libc::SYS_newfstatat,
        libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_lseek, libc::SYS_faccessat, libc::SYS_faccessat2,
        libc::SYS_getdents64, libc::SYS_mkdirat, libc::SYS_mknodat, libc::SYS_unlinkat, libc::SYS_renameat,
        libc::SYS_renameat2, libc::SYS_linkat, libc::SYS_symlinkat, libc::SYS_readlinkat, libc::SYS_truncate,
        libc::SYS_ftruncate, libc::SYS_fallocate, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown,
        libc::SYS_fchownat, libc::SYS_fcntl, libc::SYS_flock, libc::SYS_dup, libc::SYS_dup3, libc::SYS_pipe2,
        libc::SYS_getcwd, libc::SYS_chdir, libc::SYS_fchdir, libc::SYS_ioctl, libc::SYS_utimensat, libc::SYS_getxattr,
        libc::SYS_lgetxattr, libc::SYS_fgetxattr, libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr,
        libc::SYS_listxattr, libc::SYS_llistxattr, libc::SYS_flistxattr, libc::SYS_fadvise64, libc::SYS_umask,
        libc::SYS_memfd_create, libc::SYS_inotify_add_watch, libc::SYS_inotify_rm_watch,
    ]),
    (NETWORK, &[
        libc::SYS_socket, libc::SYS_socketpair, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4,
        libc::SYS_connect, libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_sendto, libc::SYS_recvfrom,
        libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_sendmmsg, libc::SYS_recvmmsg, libc::SYS_shutdown,
        libc::SYS_setsockopt, libc::SYS_getsockopt,
    ]),
    (POLL, &[
        libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_epoll_ctl,
        libc::SYS_epoll_create1, libc::SYS_io_uring_enter, libc::SYS_io_getevents, libc::SYS_io_submit,
    ]),
    (LOCK, &[libc::SYS_futex, libc::SYS_futex_waitv, libc::SYS_set_robust_list, libc::SYS_get_robust_list]),
    (MEMORY, &[
        libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mprotect, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_brk,
        libc::SYS_mlock, libc::SYS_mlock2, libc::SYS_munlock, libc::SYS_mlockall, libc::SYS_munlockall, libc::SYS_mincore,
        libc::SYS_mbind, libc::SYS_set_mempolicy, libc::SYS_get_mempolicy, libc::SYS_membarrier,
    ]),
    (PROCESS, &[
        libc::SYS_clone, libc::SYS_clone3, libc::SYS_execve, libc::SYS_execveat, libc::SYS_wait4, libc::SYS_waitid,
        libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill, libc::SYS_getpid, libc::SYS_getppid, libc::SYS_gettid,
        libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_rt_sigtimedwait,
        libc::SYS_sigaltstack, libc::SYS_prctl, libc::SYS_setpgid, libc::SYS_setsid, libc::SYS_sched_yield,
        libc::SYS_sched_setaffinity, libc::SYS_sched_getaffinity, libc::SYS_prlimit64, libc::SYS_getrusage,
        libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_rseq, libc::SYS_set_tid_address,
    ]),
    (TIME, &[
        libc::SYS_nanosleep, libc::SYS_clock_nanosleep, libc::SYS_clock_gettime, libc::SYS_gettimeofday,
        libc::SYS_timer_create, libc::SYS_timer_settime, libc::SYS_timerfd_create, libc::SYS_timerfd_settime,
        libc::SYS_setitimer, libc::SYS_getitimer, libc::SYS_times,
    ]),
    (IPC, &[
        libc::SYS_shmget, libc::SYS_shmat, libc::SYS_shmdt, libc::SYS_shmctl, libc::SYS_semget, libc::SYS_semop,
        libc::SYS_semctl, libc::SYS_semtimedop, libc::SYS_msgget, libc::SYS_msgsnd, libc::SYS_msgrcv, libc::SYS_msgctl,
        libc::SYS_mq_open, libc::SYS_mq_timedsend, libc::SYS_mq_timedreceive, libc::SYS_eventfd2, libc::SYS_signalfd4,
    ]),
];

/// The calls that younger architectures have no more.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLD_CALLS: &[(u8, &[libc::c_long])] = &[
    (FILE, &[
        libc::SYS_open, libc::SYS_creat, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_getdents, libc::SYS_mkdir,
        libc::SYS_rmdir, libc::SYS_mknod, libc::SYS_unlink, libc::SYS_rename, libc::SYS_link, libc::SYS_symlink,
        libc::SYS_readlink, libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_dup2, libc::SYS_pipe,
    ]),
    (POLL, &[libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait, libc::SYS_epoll_create]),
    (PROCESS, &[libc::SYS_fork, libc::SYS_vfork, libc::SYS_arch_prctl, libc::SYS_pause]),
    (TIME, &[libc::SYS_time, libc::SYS_alarm]),
    (IPC, &[libc::SYS_eventfd, libc::SYS_signalfd]),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[(u8, &[libc::c_long])] = &[];

/// The names of the kernel's errors (include/uapi/asm-generic/errno.h); numbers where there is none.
#[rustfmt::skip]
const ERROR_NAMES: [&str; 134] = [
    "0", "EPERM", "ENOENT", "ESRCH", "EINTR", "EIO", "ENXIO", "E2BIG", "ENOEXEC", "EBADF", "ECHILD",
    "EAGAIN", "ENOMEM", "EACCES", "EFAULT", "ENOTBLK", "EBUSY", "EEXIST", "EXDEV", "ENODEV", "ENOTDIR",
    "EISDIR", "EINVAL", "ENFILE", "EMFILE", "ENOTTY", "ETXTBSY", "EFBIG", "ENOSPC", "ESPIPE", "EROFS",
    "EMLINK", "EPIPE", "EDOM", "ERANGE", "EDEADLK", "ENAMETOOLONG", "ENOLCK", "ENOSYS", "ENOTEMPTY",
    "ELOOP", "41", "ENOMSG", "EIDRM", "ECHRNG", "EL2NSYNC", "EL3HLT", "EL3RST", "ELNRNG", "EUNATCH",
    "ENOCSI", "EL2HLT", "EBADE", "EBADR", "EXFULL", "ENOANO", "EBADRQC", "EBADSLT", "58", "EBFONT",
    "ENOSTR", "ENODATA", "ETIME", "ENOSR", "ENONET", "ENOPKG", "EREMOTE", "ENOLINK", "EADV", "ESRMNT",
    "ECOMM", "EPROTO", "EMULTIHOP", "EDOTDOT", "EBADMSG", "EOVERFLOW", "ENOTUNIQ", "EBADFD", "EREMCHG",
    "ELIBACC", "ELIBBAD", "ELIBSCN", "ELIBMAX", "ELIBEXEC", "EILSEQ", "ERESTART", "ESTRPIPE", "EUSERS",
    "ENOTSOCK", "EDESTADDRREQ", "EMSGSIZE", "EPROTOTYPE", "ENOPROTOOPT", "EPROTONOSUPPORT",
    "ESOCKTNOSUPPORT", "EOPNOTSUPP", "EPFNOSUPPORT", "EAFNOSUPPORT", "EADDRINUSE", "EADDRNOTAVAIL",
    "ENETDOWN", "ENETUNREACH", "ENETRESET", "ECONNABORTED", "ECONNRESET", "ENOBUFS", "EISCONN",
    "ENOTCONN", "ESHUTDOWN", "ETOOMANYREFS", "ETIMEDOUT", "ECONNREFUSED", "EHOSTDOWN", "EHOSTUNREACH",
    "EALREADY", "EINPROGRESS", "ESTALE", "EUCLEAN", "ENOTNAM", "ENAVAIL", "EISNAM", "EREMOTEIO",
    "EDQUOT", "ENOMEDIUM", "EMEDIUMTYPE", "ECANCELED", "ENOKEY", "EKEYEXPIRED", "EKEYREVOKED",
    "EKEYREJECTED", "EOWNERDEAD", "ENOTRECOVERABLE", "ERFKILL", "EHWPOISON",
];

fn class_table() -> [u8; NUMBERS] {
    let mut table = [shared::OTHER; NUMBERS];
    for (class, calls) in CALLS.iter().chain(OLD_CALLS) {
        for &number in *calls {
            if let Some(place) = usize::try_from(number).ok().and_then(|number| table.get_mut(number)) {
                *place = *class;
            }
        }
    }
    table
}

struct Syscalls {
    host: KernelMap,
    times: Histogram,
    cgroups: Option<CgroupSlots>,
    programs: Vec<RunningProgram>,
}

impl Syscalls {
    fn start(ground: &mut Ground<'_>) -> Result<Self, ProbeError> {
        let source = ground.task_source().0;
        let mut find = ground.finder()?;
        let task = find.btf.structure("task_struct")?;
        for hook in HOOKS {
            find.tracepoint(hook.tracepoint, &[])?;
        }
        let found = find.task_cgroup(task, source);
        let task_bits = ground.task_bits();
        find.set("TASK_BITS", task_bits);
        let constants = find.constants;
        let (_, cgroups) = ground.task_cgroups(PROBE.name, |_| found);
        let mut plan = ground.in_rows(constants, &[("HOST", 1)], cgroups.as_ref());
        plan.sizes.push(("ENTERED", 1 << task_bits));
        let loaded = ground.load(OBJECT, &plan.constants, &plan.sizes, HOOKS)?;
        let classes = loaded.map::<ClassTable>("CLASS_OF", 1)?;
        for (word, bytes) in classes.element(0).iter().zip(class_table().as_chunks::<8>().0) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        Ok(Syscalls {
            host: loaded.map::<HostBank>("HOST", plan.rows)?,
            times: Histogram::new(&counts::TIMES),
            cgroups: cgroups.map(|cgroups| cgroups.slots(&loaded, plan.sets)).transpose()?,
            programs: loaded.attach()?,
        })
    }

    fn read_errors(&self, out: &mut Recorder) {
        for (number, class) in CLASSES.iter().enumerate() {
            for (error, name) in ERROR_NAMES.iter().enumerate() {
                let at = offset_of!(HostBank, errors) + (number * ERRORS + error) * 8;
                let count = counts::total(&self.host, at);
                if count > 0 {
                    out.put(&ERRORS_SEEN, &[class, name], counts::number(count));
                }
            }
        }
    }
}

impl Running for Syscalls {
    fn programs(&self) -> &[RunningProgram] {
        &self.programs
    }

    fn cgroups(&mut self) -> Option<&mut CgroupSlots> {
        self.cgroups.as_mut()
    }

    fn read(&mut self, out: &mut Recorder) {
        for (number, class) in CLASSES.iter().enumerate() {
            let at = offset_of!(HostBank, latency) + number * size_of::<TimeHistogram>();
            out.histogram(&LATENCY, &[class], &self.times.read(counts::rows(&self.host), at, at + 8));
        }
        self.read_errors(out);
        let Some(cgroups) = &self.cgroups else { return };
        cgroups.put(&CGROUP_CALLS, |counts| counts::number(counts[shared::CALLS]), out);
        cgroups.put(&CGROUP_ERRORS, |counts| counts::number(counts[shared::FAILED]), out);
        for (path, counts) in cgroups.named() {
            for class in TIMED.0..=TIMED.1 {
                let seconds = counts::seconds(counts[shared::time_of(class)]);
                out.put(&CGROUP_TIME, &[path, CLASSES[usize::from(class)]], seconds);
            }
        }
    }

    fn lost(&self, lose: &mut dyn FnMut(&'static str, f64)) {
        lose("cgroup_slots", counts::sum(&self.host, offset_of!(HostBank, cgroup_slots)));
        lose("task_slots", counts::sum(&self.host, offset_of!(HostBank, task_slots)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_one_class() {
        let mut seen = Vec::new();
        for (class, calls) in CALLS.iter().chain(OLD_CALLS) {
            for &call in *calls {
                assert!((0..NUMBERS as libc::c_long).contains(&call), "{call}");
                assert!(!seen.contains(&call), "call {call} is in two classes");
                assert_eq!(class_table()[usize::try_from(call).unwrap()], *class);
                seen.push(call);
            }
        }
        assert!(CALLS.iter().all(|(class, _)| usize::from(*class) < CLASSES.len()));
    }

    #[test]
    fn errors_have_the_names_of_the_kernel() {
        let named = [(libc::ENOENT, "ENOENT"), (libc::ENOSPC, "ENOSPC"), (libc::EHWPOISON, "EHWPOISON")];
        for (number, name) in
            named.into_iter().chain([(libc::ECONNREFUSED, "ECONNREFUSED"), (libc::ESTALE, "ESTALE")])
        {
            assert_eq!(ERROR_NAMES[usize::try_from(number).unwrap()], name);
        }
        assert!(ERROR_NAMES.len() <= ERRORS);
    }
}
