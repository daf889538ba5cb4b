//! statfs(2) that never hangs its caller: a mount whose server is gone costs one thread and one deadline.
//!
//! Types of file systems that answer from memory are asked directly, without a thread. All others go to a
//! helper thread that stays; while it hangs in the kernel, its mount is passed over, and the other mounts go to
//! another helper. A helper that comes back serves on, or ends where enough others wait.
//! Cost: two switches of threads a round, whatever the number of mounts.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Helper threads at one time; with so many mounts that hang, further ones time out unasked.
pub const MAX_HELPERS: usize = 256;
const HELPER_STACK: usize = 64 << 10;
/// A round that takes longer gets one helper more, and another each time this has passed again.
const PATIENCE: Duration = Duration::from_millis(50);

/// What statfs(2) says, in its own units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    pub block_size: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
}

/// Asks the kernel now, on this thread. Cost: one system call, no allocation.
///
/// # Errors
/// Those of statfs(2).
pub fn read_space(path: &CStr) -> io::Result<Space> {
    let mut facts = MaybeUninit::<libc::statfs64>::zeroed();
    // SAFETY: the path ends with NUL, and the pointer is to a whole `statfs64`; both outlive the call.
    if unsafe { libc::statfs64(path.as_ptr(), facts.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, then filled by the call, which did not fail.
    let facts = unsafe { facts.assume_init() };
    Ok(Space {
        block_size: facts.f_bsize as u64,
        blocks: facts.f_blocks,
        blocks_free: facts.f_bfree,
        blocks_available: facts.f_bavail,
        files: facts.f_files,
        files_free: facts.f_ffree,
    })
}

/// How a question about one mount stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Asked,
    /// A helper is in the kernel with it.
    Running,
    Done(Result<Space, i32>),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The error number of statfs(2).
    Refused(i32),
    /// Not within the deadline of this round, or not since an earlier one.
    TimedOut,
}

/// A mount that may hang.
struct Mount {
    path: CString,
    state: Mutex<State>,
}

impl Mount {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A mount that may hang, as its owner holds it.
pub struct Guarded(Arc<Mount>);

impl Guarded {
    pub fn new(path: CString) -> Self {
        Guarded(Arc::new(Mount { path, state: Mutex::new(State::Idle) }))
    }

    pub fn path(&self) -> &CStr {
        &self.0.path
    }

    /// The answer of the round that [`Helpers::ask`] has just ended.
    pub fn answer(&self) -> Result<Space, NoAnswer> {
        match *self.0.state() {
            State::Done(Ok(space)) => Ok(space),
            State::Done(Err(number)) => Err(NoAnswer::Refused(number)),
            State::Idle | State::Asked | State::Running => Err(NoAnswer::TimedOut),
        }
    }
}

#[derive(Default)]
struct Desk {
    /// Mounts that wait for a helper: at most those asked about in this round.
    waiting: Vec<Arc<Mount>>,
    /// Helpers that are alive, and those of them that wait for work.
    helpers: usize,
    idle: usize,
    /// Counts the rounds, so that an answer to an old one is not taken for one to this.
    round: u64,
    /// Mounts of this round that have not answered.
    outstanding: usize,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    desk: Mutex<Desk>,
    work: Condvar,
    answered: Condvar,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The helper threads. None is started before a mount needs one.
pub struct Helpers {
    shared: Arc<Shared>,
    /// Helpers that stay between rounds, and that share the work of a slow one.
    stay: usize,
    /// [`MAX_HELPERS`], but for tests.
    limit: usize,
    read: fn(&CStr) -> io::Result<Space>,
}

impl Helpers {
    /// `stay` is how many helpers are kept between rounds: at least 1.
    pub fn new(stay: usize) -> Self {
        Self::with_reader(stay, MAX_HELPERS, read_space)
    }

    /// As [`Helpers::new`], with another limit and another function in the place of statfs(2): for tests.
    fn with_reader(stay: usize, limit: usize, read: fn(&CStr) -> io::Result<Space>) -> Self {
        Helpers { shared: Arc::default(), stay: stay.max(1), limit, read }
    }

    /// How many helper threads there are now.
    pub fn count(&self) -> usize {
        self.shared.desk().helpers
    }

    /// Asks about all `mounts` and waits until all have answered, or `deadline` has passed. Those that hang
    /// since an earlier round are not asked again.
    pub fn ask<'m>(&self, mounts: impl Iterator<Item = &'m Guarded>, deadline: Duration) {
        let end = Instant::now() + deadline;
        let mut desk = self.shared.desk();
        desk.waiting.clear();
        for Guarded(mount) in mounts {
            let mut state = mount.state();
            if *state != State::Running {
                *state = State::Asked;
                desk.waiting.push(mount.clone());
            }
        }
        desk.round += 1;
        desk.outstanding = desk.waiting.len();
        while desk.outstanding > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let stuck = !desk.waiting.is_empty() && !self.engage(&mut desk);
            let before = desk.outstanding;
            let wait =
                self.shared.answered.wait_timeout_while(desk, left.min(PATIENCE), |d| d.outstanding > 0);
            desk = wait.unwrap_or_else(PoisonError::into_inner).0;
            if stuck && desk.outstanding == before {
                // Every helper hangs, and there can't be another: to wait longer would help nobody.
                break;
            }
        }
        desk.waiting.clear();
    }

    /// Puts one helper more to work: one that waits, or a new one. False if there can be none.
    fn engage(&self, desk: &mut Desk) -> bool {
        if desk.idle > 0 {
            self.shared.work.notify_one();
            return true;
        }
        if desk.helpers >= self.limit {
            return false;
        }
        let (shared, read, stay) = (self.shared.clone(), self.read, self.stay);
        let thread = std::thread::Builder::new().name("statfs".into()).stack_size(HELPER_STACK);
        match thread.spawn(move || help(&shared, read, stay)) {
            Ok(_) => {
                desk.helpers += 1;
                true
            }
            Err(error) => {
                log::error!(err = error.to_string().as_str(); "can't start a helper for statfs");
                false
            }
        }
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.shared.desk().closed = true;
        self.shared.work.notify_all();
    }
}

/// A helper's life: takes mounts from the desk until it is closed, or until enough others wait there.
fn help(shared: &Shared, read: fn(&CStr) -> io::Result<Space>, stay: usize) {
    let mut desk = shared.desk();
    while !desk.closed {
        let Some(mount) = desk.waiting.pop() else {
            if desk.idle >= stay {
                break;
            }
            desk.idle += 1;
            desk = shared.work.wait(desk).unwrap_or_else(PoisonError::into_inner);
            desk.idle -= 1;
            continue;
        };
        *mount.state() = State::Running;
        let round = desk.round;
        drop(desk);
        let answer = read(&mount.path).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO));
        desk = shared.desk();
        *mount.state() = State::Done(answer);
        if round == desk.round {
            desk.outstanding -= 1;
            if desk.outstanding == 0 {
                shared.answered.notify_one();
            }
        }
    }
    desk.helpers -= 1;
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
