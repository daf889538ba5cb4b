//! What the process gives up at its start, and the one thread that keeps it a while longer: the one that loads the kernel
//! probes.
//!
//! Threads have what the one that makes them has. So the loader is made first, waits for the configuration, and ends when
//! the probes run; the main thread gives up the rest before it makes any other.

use std::io;
use std::sync::mpsc::{Sender, channel};

use crate::cli::Options;
use crate::sources::host::COLLECTORS;
use crate::sys::privileges::{Capabilities, deny_calls, gain_no_more};

/// A capability (linux/capability.h) that is kept where the process has it.
struct Kept {
    number: u32,
    /// Those of which one must run; without any it is always kept.
    collectors: &'static [&'static str],
}

const NEEDED: &[Kept] = &[
    // The batch log, and files that are named later, may lie in folders of others.
    Kept { number: Capabilities::DAC_OVERRIDE, collectors: &[] },
    // Files that only root may read.
    Kept { number: Capabilities::DAC_READ_SEARCH, collectors: &[] },
    // A reload may name an address with a low port.
    Kept { number: Capabilities::NET_BIND_SERVICE, collectors: &[] },
    // What the kernel tells of devices and stations to those that may change it.
    Kept { number: Capabilities::NET_ADMIN, collectors: &["ethtool", "wifi"] },
    // Files in /proc of processes that may do more than this one.
    Kept { number: Capabilities::SYS_PTRACE, collectors: &[] },
    // Kernels before 5.8 have CAP_SYS_ADMIN for it.
    Kept { number: Capabilities::PERFMON, collectors: &["perf"] },
];

/// System calls that nothing here makes once the probes are loaded: they start programs, look into processes, load code
/// into the kernel, mount, change namespaces, the clock or the machine.
const DENIED: &[libc::c_long] = &[
    libc::SYS_bpf,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
];

/// What runs once on a thread that has kept everything.
type Job = Box<dyn FnOnce() + Send>;

/// The thread that loads the probes. It ends with its job, or without one when this is dropped.
pub(super) struct Loader(Sender<Job>);

impl Loader {
    /// # Errors
    /// When no thread can be made.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, receiver) = channel::<Job>();
        let wait = move || {
            if let Ok(job) = receiver.recv() {
                job();
            }
        };
        std::thread::Builder::new().name("ebpf-loader".into()).spawn(wait)?;
        Ok(Loader(sender))
    }

    pub(super) fn run(self, job: impl FnOnce() + Send + 'static) {
        // It waits for nothing else, and so it is there.
        let _ = self.0.send(Box::new(job));
    }
}

/// Gives up, for this thread and those that it makes from now on, what none of them needs. What can't be given up is said,
/// and is no reason not to run.
pub(super) fn give_up(options: &Options) {
    let runs = |name: &str| {
        let known = COLLECTORS.iter().find(|collector| collector.name == name);
        known.is_some_and(|collector| options.is_enabled(name, collector.default_enabled))
    };
    let result = gain_no_more().and_then(|()| {
        let kept = needed(Capabilities::permitted()?, runs).keep_only()?;
        let mut denied = DENIED.to_vec();
        if !runs("perf") {
            denied.push(libc::SYS_perf_event_open);
        }
        Ok((kept, deny_calls(&denied)))
    });
    match result {
        Ok((kept, filtered)) => {
            let filtered = filtered.map_or_else(|error| error.to_string(), |filtered| filtered.to_string());
            log::debug!(kept = format!("{:#x}", kept.bits()).as_str(), filtered = filtered.as_str(); "privileges given up");
        }
        Err(error) => {
            log::warn!(err = error.to_string().as_str(); "privileges could not be given up");
        }
    }
}

/// What is kept while these collectors run.
fn needed(permitted: Capabilities, runs: impl Fn(&str) -> bool) -> Capabilities {
    let wanted = |kept: &&Kept| kept.collectors.is_empty() || kept.collectors.iter().any(|name| runs(name));
    let all = NEEDED.iter().filter(wanted).fold(Capabilities::NONE, |all, kept| all.with(kept.number));
    let old_kernel = runs("perf") && !permitted.has(Capabilities::PERFMON);
    if old_kernel { all.with(Capabilities::SYS_ADMIN) } else { all }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;

    #[test]
    fn what_is_kept_depends_on_what_runs() {
        const ALWAYS: u64 = 1 << 1 | 1 << 2 | 1 << 10 | 1 << 19;
        let modern = Capabilities::NONE.with(PERFMON).with(SYS_ADMIN);
        assert_eq!(needed(modern, |_| false).bits(), ALWAYS);
        assert_eq!(needed(modern, |name| name == "wifi").bits(), ALWAYS | 1 << 12);
        assert_eq!(needed(modern, |name| name == "perf").bits(), ALWAYS | 1 << PERFMON);
        let old = Capabilities::NONE.with(SYS_ADMIN);
        assert_eq!(needed(old, |name| name == "perf").bits(), ALWAYS | 1 << PERFMON | 1 << SYS_ADMIN);
        let names = NEEDED.iter().flat_map(|kept| kept.collectors);
        for name in names.chain(&["perf"]) {
            assert!(COLLECTORS.iter().any(|collector| collector.name == *name), "{name}");
        }
    }

    #[test]
    fn a_loader_runs_its_job_or_ends_without_one() {
        let (sender, receiver) = channel();
        Loader::start().unwrap().run(move || sender.send(7).unwrap());
        assert_eq!(receiver.recv(), Ok(7));
        drop(Loader::start().unwrap());
    }
}
