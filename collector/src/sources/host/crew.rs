//! The threads that run the collectors: one at a time, and another as soon as a collector holds up the rest.
//!
//! A worker takes one collector after the other. When one has kept it for longer than [`PATIENCE`], a second
//! worker goes on with the rest, and the first stays with the slow one. A tick ends when all have ended, or at
//! its deadline; what has not ended by then keeps its thread, is left out of further ticks, and comes back when
//! it ends. So a collector that hangs costs one thread, whatever the number of ticks.
//! Cost: two switches of threads a tick.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::runner::Running;
use super::{Paths, Tick};

/// How long a collector may keep the others waiting.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);
/// Workers that wait beside the one that works: those that slow collectors made necessary.
pub(super) const SPARE: usize = 2;

/// Name of their threads.
pub(super) const WORKER: &str = "collect";

/// What coordinator and workers share.
struct Desk {
    /// Counts the ticks, so that a collector which ends late is known as such.
    tick: u64,
    deadline: Instant,
    waiting: VecDeque<Box<Running>>,
    #[expect(clippy::vec_box, reason = "they come and go as they are, in their boxes")]
    ended: Vec<Box<Running>>,
    /// Collectors of this tick that have not ended.
    outstanding: usize,
    /// The worker that takes what waits.
    in_charge: Option<u64>,
    /// Since when it has been with the collector at hand.
    busy_since: Option<Instant>,
    idle: Vec<u64>,
    /// Whether the coordinator sleeps, and must be woken as a thread.
    is_coordinator_asleep: bool,
    closed: bool,
}

struct Shared {
    desk: Mutex<Desk>,
    work: Condvar,
    all_ended: Condvar,
    /// The same for a coordinator that is a task.
    news: Notify,
    paths: Paths,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says to the coordinator that the last collector has ended.
    fn tell(&self, is_asleep: bool) {
        if is_asleep {
            self.all_ended.notify_one();
        } else {
            self.news.notify_one();
        }
    }
}

/// The workers. None is started before the first tick.
pub(super) struct Crew {
    shared: Arc<Shared>,
    /// Workers that were ever started: gives each its number.
    started: u64,
    /// Whether the workers know that there is work.
    is_called: bool,
    /// Used where the system gives no thread.
    own_tick: Option<Tick>,
}

impl Crew {
    pub(super) fn new(paths: &Paths) -> Self {
        let desk = Desk {
            tick: 0,
            deadline: Instant::now(),
            waiting: VecDeque::new(),
            ended: Vec::new(),
            outstanding: 0,
            in_charge: None,
            busy_since: None,
            idle: Vec::new(),
            is_coordinator_asleep: false,
            closed: false,
        };
        let (work, all_ended) = (Condvar::new(), Condvar::new());
        let news = Notify::new();
        let shared = Shared { desk: Mutex::new(desk), work, all_ended, news, paths: paths.clone() };
        Crew { shared: Arc::new(shared), started: 0, is_called: false, own_tick: None }
    }

    /// Gives back each collector that was late and has ended since.
    pub(super) fn take_back(&self, mut give: impl FnMut(Box<Running>)) {
        self.shared.desk().ended.drain(..).for_each(&mut give);
    }

    /// Begins a tick of these `jobs`, and returns its number, which they bear.
    pub(super) fn begin(&mut self, jobs: impl Iterator<Item = Box<Running>>, deadline: Instant) -> u64 {
        let desk = &mut *self.shared.desk();
        desk.tick += 1;
        desk.deadline = deadline;
        desk.waiting.extend(jobs);
        let tick = desk.tick;
        desk.waiting.iter_mut().for_each(|job| job.tick = tick);
        desk.outstanding = desk.waiting.len();
        self.is_called = false;
        tick
    }

    /// Sees to it that somebody works on what waits. To be called again when something has ended, at the latest at
    /// the time that it gives; `None` when the tick is over.
    pub(super) fn look_after(&mut self) -> Option<Instant> {
        let shared = self.shared.clone();
        let mut desk = shared.desk();
        loop {
            let now = Instant::now();
            if desk.outstanding == 0 || now >= desk.deadline {
                return None;
            }
            let mut wake = desk.deadline;
            if !desk.waiting.is_empty() {
                let patient_until = desk.busy_since.map(|since| since + PATIENCE);
                if desk.in_charge.is_none() || patient_until.is_some_and(|end| end <= now) {
                    if !self.put_in_charge(&mut desk) {
                        desk = self.run_here(&shared, desk);
                        continue;
                    }
                    self.is_called = false;
                }
                wake = wake.min(patient_until.filter(|end| *end > now).unwrap_or(now + PATIENCE));
            }
            if desk.busy_since.is_none() && !self.is_called {
                self.is_called = true;
                // Who wakes finds the desk free: else it would have to wait once more.
                drop(desk);
                shared.work.notify_all();
            }
            return Some(wake);
        }
    }

    /// Sleeps until the last collector has ended, or to that time. May wake early.
    pub(super) fn sleep(&self, until: Instant) {
        let mut desk = self.shared.desk();
        if desk.outstanding > 0 {
            desk.is_coordinator_asleep = true;
            let left = until.saturating_duration_since(Instant::now());
            let wait = self.shared.all_ended.wait_timeout(desk, left);
            desk = wait.unwrap_or_else(PoisonError::into_inner).0;
            desk.is_coordinator_asleep = false;
        }
    }

    /// The same, without keeping the thread from other things.
    pub(super) async fn rest(&self, until: Instant) {
        // That the time has come says no more than that something has ended: who calls will look.
        let _ = tokio::time::timeout_at(until.into(), self.shared.news.notified()).await;
    }

    /// Ends the tick: gives back the collectors that have ended, and those that never got their turn.
    pub(super) fn end(&self, mut give: impl FnMut(Box<Running>)) {
        let mut desk = self.shared.desk();
        desk.ended.drain(..).for_each(&mut give);
        desk.waiting.drain(..).for_each(&mut give);
    }

    /// Puts a worker in charge that is free, or a new one. False where the system gives no thread.
    fn put_in_charge(&mut self, desk: &mut Desk) -> bool {
        let number = match desk.idle.pop() {
            Some(number) => number,
            None => {
                let number = self.started;
                let shared = self.shared.clone();
                let thread = std::thread::Builder::new().name(WORKER.into());
                if let Err(error) = thread.spawn(move || work(&shared, number)) {
                    log::error!(err = error.to_string().as_str(); "can't start a thread for the collectors");
                    return false;
                }
                self.started += 1;
                number
            }
        };
        desk.in_charge = Some(number);
        desk.busy_since = None;
        true
    }

    /// Runs the next collector on the caller's thread: without a deadline, but better than not at all.
    fn run_here<'d>(&mut self, shared: &'d Shared, mut desk: MutexGuard<'d, Desk>) -> MutexGuard<'d, Desk> {
        let Some(mut job) = desk.waiting.pop_front() else { return desk };
        let deadline = desk.deadline;
        drop(desk);
        let tick = self.own_tick.get_or_insert_with(|| Tick::new(&shared.paths));
        tick.next(deadline);
        job.update(tick);
        desk = shared.desk();
        desk.outstanding -= 1;
        desk.ended.push(job);
        desk
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.desk().closed = true;
        self.shared.work.notify_all();
    }
}

/// A worker's life: while it is in charge it takes what waits; else it waits, or ends where enough others do.
fn work(shared: &Shared, me: u64) {
    let mut tick = Tick::new(&shared.paths);
    let mut last_tick = 0;
    let mut desk = shared.desk();
    while !desk.closed {
        let is_in_charge = desk.in_charge == Some(me);
        let Some(mut job) = is_in_charge.then(|| desk.waiting.pop_front()).flatten() else {
            desk = shared.work.wait(desk).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        desk.busy_since = Some(Instant::now());
        let (number, deadline) = (desk.tick, desk.deadline);
        drop(desk);
        if number != last_tick {
            tick.next(deadline);
            last_tick = number;
        }
        job.update(&mut tick);
        desk = shared.desk();
        let is_late = job.tick != desk.tick;
        desk.ended.push(job);
        if !is_late {
            desk.outstanding -= 1;
        }
        let is_last = !is_late && desk.outstanding == 0;
        let is_asleep = desk.is_coordinator_asleep;
        if desk.in_charge == Some(me) {
            desk.busy_since = None;
            if is_last {
                drop(desk);
                shared.tell(is_asleep);
                desk = shared.desk();
            }
            continue;
        }
        if is_last {
            shared.tell(is_asleep);
        }
        if desk.idle.len() < SPARE {
            desk.idle.push(me);
        } else {
            return;
        }
    }
}
