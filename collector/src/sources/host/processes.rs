//! Processes and threads by state, from /proc/PID/stat and /proc/PID/task/TID/stat (proc_pid_stat(5)).
//!
//! Cost a tick: three system calls a process; for one with more than one thread four more, and three for each of its
//! threads but the first. No memory: every file is read from the folder that stays open into the same room.
//!
//! What vanishes meanwhile is passed over, as are processes that hidepid=2 hides. With hidepid=1 there is an error:
//! the counts would be too low. A state that was seen once stays, with 0: most come and go from tick to tick.

use std::io;

use super::error::Faults;
use super::number_file::read_u64;
use super::pids::{self, Pids, Process, STAT_BYTES, SubPath, is_gone, is_number};
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
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
                pids: Pids::new(&setup.paths.procfs),
                has_tasks: setup.paths.proc("self/task").exists(),
                stat: Box::new([0; STAT_BYTES]),
            },
            limits: [(&MAX_THREADS, sysctl("threads-max")), (&MAX_PIDS, sysctl("pid_max"))],
            states: States::default(),
            thread_states: States::default(),
        }))
    },
};

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
            threads = threads.saturating_add(stat.threads);
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
    pids: Pids,
    /// A copy of /proc may be without them.
    has_tasks: bool,
    stat: Box<[u8; STAT_BYTES]>,
}

const EXPECTED: &str = "expected `number (name) state` and numbers";

impl Walk {
    /// Calls `each` for every process, and `each_thread` with the state of every thread.
    fn run(
        &mut self,
        tick: &mut Tick,
        mut each: impl FnMut(Stat),
        mut each_thread: impl FnMut(u8),
    ) -> Result<(), CollectError> {
        let Walk { pids, has_tasks, stat: room } = self;
        pids.each(&mut tick.buffer, |process| {
            let Some(line) = process.read(b"/stat", &mut room[..])? else { return Ok(()) };
            let stat = parse_stat(line).ok_or_else(|| process.malformed(b"/stat", EXPECTED))?;
            each(stat);
            if !*has_tasks {
                return Ok(());
            }
            each_thread(stat.state);
            if stat.threads > 1 {
                put_threads(process, (&mut tick.scratch, room), &mut each_thread)?;
            }
            Ok(())
        })
    }
}

/// The threads of a process but the first, which is the process itself.
fn put_threads(
    process: &Process<'_>,
    (entries, room): (&mut Vec<u8>, &mut [u8; STAT_BYTES]),
    each_thread: &mut impl FnMut(u8),
) -> Result<(), CollectError> {
    let path = SubPath::new(&[process.pid, b"/task"]);
    let fail = |source: io::Error| -> Result<(), CollectError> {
        if is_gone(&source) {
            return Ok(());
        }
        Err(path.error(process.root, source))
    };
    let tasks = match process.folder.folder_in(path.as_c_str()) {
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
        for task in batch.filter(|task| task.name != process.pid && is_number(task.name)) {
            let path = SubPath::new(&[task.name, b"/stat"]);
            let Some(line) = pids::read_in(&tasks, &path, room, process.root)? else { continue };
            let stat = parse_stat(line);
            let malformed = || CollectError::malformed(&process.root.join(path.as_str()), 1, EXPECTED);
            each_thread(stat.ok_or_else(malformed)?.state);
        }
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
}
