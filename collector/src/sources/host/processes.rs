//! Processes and threads by state, from /proc/PID/stat and /proc/PID/task/TID/stat (proc_pid_stat(5)).
//!
//! Cost a tick: three system calls a process; for one with more than one thread four more, and three for each of its
//! threads but the first. No memory: every file is read from the folder that stays open into the same room.
//!
//! What vanishes meanwhile is passed over, as are processes that hidepid=2 hides. With hidepid=1 there is an error:
//! the counts would be too low. A state that was seen once stays, with 0: most come and go from tick to tick.

use std::ffi::CStr;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::error::Faults;
use super::number_file::read_u64;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::{KeptFile, ReadError};
use crate::sys::proc_list::Folder;
use crate::sys::text;

static THREADS: Family = Family::gauge("node_processes_threads", "Threads of all processes.", &[]);
static MAX_THREADS: Family =
    Family::gauge("node_processes_max_threads", "Threads that there may be (kernel.threads-max).", &[]);
static STATES: Family = Family::gauge(
    "node_processes_state",
    "Processes by state: R runs, S and D sleep, I idles, T and t are stopped, Z is dead but not waited for.",
    &["state"],
);
static THREAD_STATES: Family =
    Family::gauge("node_processes_threads_state", "Threads by state, as processes.", &["thread_state"]);
static PIDS: Family = Family::gauge("node_processes_pids", "Processes.", &[]);
static MAX_PIDS: Family =
    Family::gauge("node_processes_max_processes", "Process numbers that there may be (kernel.pid_max).", &[]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "processes",
    default_enabled: false,
    flags: &[],
    families: &[&MAX_PIDS, &MAX_THREADS, &PIDS, &STATES, &THREADS, &THREAD_STATES],
    new: |setup| {
        let sysctl = |name: &str| KeptFile::whole(setup.paths.proc("sys/kernel").join(name));
        Ok(Box::new(Processes {
            walk: Walk {
                path: setup.paths.procfs.as_path().into(),
                proc: None,
                has_tasks: setup.paths.proc("self/task").exists(),
                stat: Box::new([0; STAT_BYTES]),
            },
            limits: [(&MAX_THREADS, sysctl("threads-max")), (&MAX_PIDS, sysctl("pid_max"))],
            states: States::default(),
            thread_states: States::default(),
        }))
    },
};

/// 52 numbers of up to 20 digits, and a name of up to 64 bytes.
const STAT_BYTES: usize = 2048;

struct Processes {
    walk: Walk,
    limits: [(&'static Family, KeptFile); 2],
    states: States,
    thread_states: States,
}

/// Counts by state, which is an ASCII letter.
struct States {
    counts: [u64; 128],
    seen: [bool; 128],
}

impl Default for States {
    fn default() -> Self {
        States { counts: [0; 128], seen: [false; 128] }
    }
}

impl States {
    fn count(&mut self, state: u8) {
        self.counts[usize::from(state)] += 1;
        self.seen[usize::from(state)] = true;
    }

    fn put(&self, family: &'static Family, out: &mut Recorder) {
        for state in (0..128u8).filter(|state| self.seen[usize::from(*state)]) {
            let label = [state];
            let Some(label) = text::as_str(&label) else { continue };
            out.put(family, &[label], self.counts[usize::from(state)] as f64);
        }
    }
}

impl Collector for Processes {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let Processes { walk, limits, states, thread_states } = self;
        states.counts.fill(0);
        thread_states.counts.fill(0);
        let (mut pids, mut threads) = (0u64, 0u64);
        let each = |stat: Stat| {
            pids += 1;
            threads += stat.threads;
            states.count(stat.state);
        };
        walk.run(tick, each, |state| thread_states.count(state))?;
        out.put(&PIDS, &[], pids as f64);
        out.put(&THREADS, &[], threads as f64);
        states.put(&STATES, out);
        thread_states.put(&THREAD_STATES, out);
        let mut faults = Faults::default();
        for (family, file) in limits {
            match read_u64(file, &mut tick.buffer) {
                Ok(limit) => out.put(family, &[], limit as f64),
                Err(error) => faults.note(|| error),
            }
        }
        faults.finish()
    }
}

/// What is needed of a line `1 (systemd) S 0 1 ...`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    threads: u64,
}

/// Words from the state to the number of threads.
const THREADS_AFTER_STATE: usize = 16;

fn parse_stat(line: &[u8]) -> Option<Stat> {
    // The name may hold brackets and spaces: it ends with the last bracket.
    let name_end = line.iter().rposition(|&b| b == b')')?;
    let mut words = text::words(&line[name_end + 1..]);
    let &[state] = words.next()? else { return None };
    let threads = text::parse_u64(words.nth(THREADS_AFTER_STATE)?)?;
    // The word after it proves that the number is whole.
    words.next()?;
    state.is_ascii_alphabetic().then_some(Stat { state, threads })
}

struct Walk {
    path: Arc<Path>,
    proc: Option<Folder>,
    /// A copy of /proc may be without them.
    has_tasks: bool,
    stat: Box<[u8; STAT_BYTES]>,
}

impl Walk {
    /// Calls `each` for every process, and `each_thread` with the state of every thread.
    fn run(
        &mut self,
        tick: &mut Tick,
        mut each: impl FnMut(Stat),
        mut each_thread: impl FnMut(u8),
    ) -> Result<(), CollectError> {
        let fail = |source| ReadError { path: self.path.clone(), source };
        let proc = match &mut self.proc {
            Some(proc) => {
                proc.rewind().map_err(fail)?;
                proc
            }
            none => none.insert(Folder::open(&self.path).map_err(fail)?),
        };
        loop {
            let batch = proc.next_entries(&mut tick.buffer).map_err(fail)?;
            if batch.is_end() {
                return Ok(());
            }
            for entry in batch {
                if !is_number(entry.name) {
                    continue;
                }
                let path = SubPath::new(&[entry.name, b"/stat"]);
                let Some(stat) = read_stat(proc, &path, &mut self.stat, &self.path)? else { continue };
                each(stat);
                if !self.has_tasks {
                    continue;
                }
                each_thread(stat.state);
                if stat.threads > 1 {
                    let room = (&mut tick.scratch, &mut *self.stat);
                    put_threads(proc, entry.name, room, &self.path, &mut each_thread)?;
                }
            }
        }
    }
}

/// The threads of a process but the first, which is the process itself.
fn put_threads(
    proc: &Folder,
    pid: &[u8],
    (entries, stat): (&mut Vec<u8>, &mut [u8; STAT_BYTES]),
    root: &Path,
    each_thread: &mut impl FnMut(u8),
) -> Result<(), CollectError> {
    let path = SubPath::new(&[pid, b"/task"]);
    let fail = |source: io::Error| -> Result<(), CollectError> {
        if is_gone(&source) {
            return Ok(());
        }
        Err(path.error(root, source))
    };
    let tasks = match proc.folder_in(path.as_c_str()) {
        Ok(tasks) => tasks,
        Err(error) => return fail(error),
    };
    loop {
        let batch = match tasks.next_entries(entries) {
            Ok(batch) => batch,
            Err(error) => return fail(error),
        };
        if batch.is_end() {
            return Ok(());
        }
        for task in batch.filter(|task| task.name != pid && is_number(task.name)) {
            let path = SubPath::new(&[task.name, b"/stat"]);
            if let Some(stat) = read_stat(&tasks, &path, stat, root)? {
                each_thread(stat.state);
            }
        }
    }
}

/// `None` if the process or thread is gone.
fn read_stat(
    folder: &Folder,
    path: &SubPath,
    room: &mut [u8; STAT_BYTES],
    root: &Path,
) -> Result<Option<Stat>, CollectError> {
    match folder.read_in(path.as_c_str(), room) {
        Ok(length) => parse_stat(&room[..length]).map(Some).ok_or_else(|| {
            let path = root.join(path.as_str());
            CollectError::malformed(&path, 1, "expected `number (name) state` and numbers")
        }),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(path.error(root, error)),
    }
}

fn is_number(name: &[u8]) -> bool {
    name.first().is_some_and(u8::is_ascii_digit)
}

/// It went between being listed and being read.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// A path below /proc, on the stack.
struct SubPath {
    bytes: [u8; SubPath::ROOM],
}

impl SubPath {
    /// A number of ten digits, a slash, and the name of a file.
    const ROOM: usize = 32;

    /// What does not fit is cut off; no number of a process is that long.
    fn new(pieces: &[&[u8]]) -> Self {
        let mut bytes = [0; SubPath::ROOM];
        let joined = pieces.iter().flat_map(|piece| piece.iter());
        bytes[..SubPath::ROOM - 1].iter_mut().zip(joined).for_each(|(to, from)| *to = *from);
        SubPath { bytes }
    }

    fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }

    fn as_str(&self) -> &str {
        self.as_c_str().to_str().unwrap_or_default()
    }

    fn error(&self, root: &Path, source: io::Error) -> CollectError {
        let denied = matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES));
        let error = ReadError { path: root.join(self.as_str()).into(), source };
        if denied {
            let needed = "needs root or CAP_SYS_PTRACE where /proc is mounted with hidepid";
            return CollectError::Other(format!("{error}: {needed}"));
        }
        CollectError::Read(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let line = b"7 (a) S 9 (b)) D 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 12 0 26 0 0";
        assert_eq!(parse_stat(line), Some(Stat { state: b'D', threads: 12 }));
        let torn = b"7 (a) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1";
        assert_eq!(parse_stat(torn), None);
        assert_eq!(parse_stat(b"7 (a"), None);
        assert_eq!(parse_stat(b"7 (a) 1 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 12 0"), None);
    }

    #[test]
    fn errors_say_what_is_needed() {
        let path = SubPath::new(&[b"4194304", b"/task"]);
        assert_eq!(path.as_str(), "4194304/task");
        let error = path.error(Path::new("/proc"), io::Error::from_raw_os_error(libc::EPERM)).to_string();
        assert!(error.starts_with("/proc/4194304/task: ") && error.contains("hidepid"), "{error}");
        assert_eq!(SubPath::new(&[&[b'9'; 100]]).as_str().len(), SubPath::ROOM - 1);
    }
}
