//! Reads this host: its collectors, its kernel probes and our own counters; on a thread with a clock for what is
//! pushed, on demand, as a task, for what is scraped.
//!
//! One at a time: a hundred scrapers cost one reader's locks in the kernel. A scrape is a task and not a message to
//! a thread, because each switch between threads costs it as much as five small files of procfs.

mod claims;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use tokio::sync::Mutex;

use self::claims::Claims;
use crate::limits::READER_REQUESTS;
use crate::model::{Batch, Family, Recorder, SeriesTable, Source};
use crate::ring;
use crate::self_metrics::{Counters, SelfReader};
use crate::sources::ebpf::EbpfReader;
use crate::sources::host::{HostReader, Selection};
use crate::sys::clock;

static UP: Family = Family::gauge("up", "Whether the host was read: always 1 where it is sent.", &[]);
static SCRAPE_DURATION: Family =
    Family::gauge("scrape_duration_seconds", "Time that the whole tick took.", &[]);
static SCRAPED: Family = Family::gauge("scrape_samples_scraped", "Samples of the tick.", &[]);
static AFTER_RELABEL: Family =
    Family::gauge("scrape_samples_post_metric_relabeling", "Samples of the tick that were kept.", &[]);
static ADDED: Family =
    Family::gauge("scrape_series_added", "Series of the tick that the one before it lacked.", &[]);

/// What every pushed target has beside its own series, as Prometheus gives them to what it scrapes.
pub static PUSHED_FAMILIES: &[&Family] = &[&UP, &SCRAPE_DURATION, &SCRAPED, &AFTER_RELABEL, &ADDED];

/// A sample's time is that of the schedule while the tick begins this little after it, so that equal intervals
/// stay equal (Prometheus has the same tolerance).
const SCHEDULE_TOLERANCE_MS: i64 = 2;

/// What the clock is told.
enum Command {
    /// Pushes at this interval from now on, with these target labels; `None` stops it.
    Push(Option<PushSchedule>),
    Stop,
}

/// How the host is pushed.
#[derive(Clone, Debug, PartialEq)]
pub struct PushSchedule {
    pub interval: Duration,
    pub labels: Vec<(String, String)>,
    /// Of all that is pushed: with `labels` they say where in the interval this host has its place.
    pub external_labels: Vec<(String, String)>,
}

impl PushSchedule {
    /// A number that follows from the labels (FNV-1a).
    fn place(&self) -> u64 {
        let texts = self.labels.iter().chain(&self.external_labels).flat_map(|(name, value)| [name, value]);
        let bytes = texts.flat_map(|text| text.bytes().chain([0xff]));
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    }
}

/// Which collectors a scrape asks for, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    #[default]
    All,
    Only(Vec<String>),
    Without(Vec<String>),
}

/// What [`Reader::gather`] gives. Give the batches back through the ring when they are rendered.
#[derive(Default)]
pub struct Gathered {
    pub batches: Vec<Batch>,
    /// Samples left out because their series had come before.
    pub duplicates: u64,
}

/// The way to the reader for those who want a page.
#[derive(Clone)]
pub struct Reader {
    local: Arc<Mutex<LocalReader>>,
    /// Scrapes under way and waiting.
    asked: Arc<AtomicUsize>,
}

impl Reader {
    /// Reads the selected collectors now, and answers before the deadline with what has ended by then: `None` where
    /// too many wait already. Once begun it goes on to its end, whether anybody waits for it or not.
    pub async fn gather(&self, wanted: Wanted, deadline: Duration) -> Option<Gathered> {
        let under_way = UnderWay(self.asked.clone());
        if under_way.0.fetch_add(1, Ordering::Relaxed) >= READER_REQUESTS {
            return None;
        }
        let local = self.local.clone();
        let task = tokio::spawn(async move {
            let _under_way = under_way;
            local.lock().await.gather(&wanted, deadline).await
        });
        task.await.ok()
    }

    /// Takes over probes that have been loaded. Blocks the thread while the host is read.
    pub fn set_probes(&self, mut probes: Box<EbpfReader>) {
        let mut local = self.local.blocking_lock();
        // The labels may have changed while they were being loaded.
        probes.set_labels(&local.labels);
        local.probes = Some(probes);
    }
}

/// Counts a scrape while it lives.
struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The thread that keeps the clock, and the way to it.
pub struct Clock {
    commands: Sender<Command>,
    thread: std::thread::JoinHandle<()>,
}

impl Clock {
    /// Pushes at this interval from now on, with these target labels; `None` stops it.
    pub fn push(&self, schedule: Option<PushSchedule>) {
        if self.commands.send(Command::Push(schedule)).is_err() {
            log::error!("the reader thread is gone; nothing will be pushed");
        }
    }

    /// Ends the thread; a tick under way is finished first.
    pub fn stop(self) {
        // A thread that has ended already needs no message.
        let _ = self.commands.send(Command::Stop);
        if self.thread.join().is_err() {
            log::error!("the reader thread panicked");
        }
    }
}

/// All that is read of this host.
struct LocalReader {
    host: HostReader,
    own: Option<SelfReader>,
    probes: Option<Box<EbpfReader>>,
    ring: ring::Sender,
    labels: Vec<(String, String)>,
}

/// What the clock's thread has.
struct Ticker {
    local: Arc<Mutex<LocalReader>>,
    ring: ring::Sender,
    counters: Arc<Counters>,
    table: Arc<SeriesTable>,
    push: Option<Push>,
    deadline: Duration,
}

/// State of the clocked part.
struct Push {
    schedule: PushSchedule,
    target: Recorder,
    claims: Claims,
    next_ms: i64,
}

/// What is read and who is told. `labels` are those under which the parts were made.
pub struct Parts {
    pub host: HostReader,
    /// Absent when our own metrics are switched off.
    pub own: Option<SelfReader>,
    pub ring: ring::Sender,
    pub counters: Arc<Counters>,
    pub table: Arc<SeriesTable>,
    pub labels: Vec<(String, String)>,
    /// How long a tick of the clock waits for its collectors.
    pub deadline: Duration,
}

/// Starts the clock's thread.
///
/// # Errors
/// When the system gives no thread.
pub fn start(parts: Parts) -> std::io::Result<(Reader, Clock)> {
    let (commands, receiver) = unbounded();
    let Parts { host, own, ring, counters, table, labels, deadline } = parts;
    let local = Arc::new(Mutex::new(LocalReader { host, own, probes: None, ring: ring.clone(), labels }));
    let mut ticker = Ticker { local: local.clone(), ring, counters, table, push: None, deadline };
    let thread = std::thread::Builder::new().name("reader".into()).spawn(move || ticker.run(&receiver))?;
    Ok((Reader { local, asked: Arc::default() }, Clock { commands, thread }))
}

impl LocalReader {
    async fn gather(&mut self, wanted: &Wanted, deadline: Duration) -> Gathered {
        let time_ms = clock::now_ms();
        self.host.set_deadline(deadline);
        let mut batches = Vec::with_capacity(self.host.names().len() + 3);
        let selection = self.selection(wanted);
        let ring = &self.ring;
        self.host.gather(&selection, time_ms, || ring.slab(), |batch| batches.push(batch)).await;
        if let Some(probes) = self.probes.as_mut().filter(|_| selection == Selection::All) {
            probes.read(time_ms, || ring.slab(), |batch| batches.push(batch));
        }
        if let Some(own) = &mut self.own {
            batches.push(own.read(ring.slab(), time_ms));
        }
        Gathered { batches, duplicates: self.host.duplicates() }
    }

    fn selection(&self, wanted: &Wanted) -> Selection {
        let keep: Box<dyn Fn(&str) -> bool> = match wanted {
            Wanted::All => return Selection::All,
            Wanted::Only(names) => Box::new(move |name| names.iter().any(|n| n == name)),
            Wanted::Without(names) => Box::new(move |name| !names.iter().any(|n| n == name)),
        };
        Selection::Some(
            self.host.names().enumerate().filter(|(_, name)| keep(name)).map(|(n, _)| n).collect(),
        )
    }

    fn relabel(&mut self, labels: &[(String, String)]) {
        if labels == self.labels {
            return;
        }
        self.labels = labels.to_vec();
        self.host.set_labels(labels);
        if let Some(own) = &mut self.own {
            own.set_labels(labels);
        }
        if let Some(probes) = &mut self.probes {
            probes.set_labels(labels);
        }
    }
}

impl Ticker {
    fn run(&mut self, commands: &Receiver<Command>) {
        loop {
            let command = match &self.push {
                Some(push) => {
                    let wait = u64::try_from(push.next_ms - clock::now_ms()).unwrap_or(0);
                    commands.recv_timeout(Duration::from_millis(wait))
                }
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match command {
                Ok(Command::Push(schedule)) => self.set_schedule(schedule),
                Err(RecvTimeoutError::Timeout) => self.push_if_due(),
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn set_schedule(&mut self, schedule: Option<PushSchedule>) {
        let Some(schedule) = schedule else {
            self.push = None;
            return;
        };
        self.local.blocking_lock().relabel(&schedule.labels);
        let source = Arc::new(Source { name: "target".into(), labels: schedule.labels.clone() });
        let mut push = Push {
            target: Recorder::new(source, self.table.clone()),
            claims: Claims::default(),
            next_ms: 0,
            schedule,
        };
        push.plan_next(clock::now_ms());
        self.push = Some(push);
    }

    /// One tick of the clock, if its time has come.
    fn push_if_due(&mut self) {
        let Some(mut push) = self.push.take() else { return };
        let now = clock::now_ms();
        if push.next_ms - now > push.interval_ms() {
            // The clock was set back: it would be a long time until then.
            push.plan_next(now);
        }
        if now >= push.next_ms {
            let late = now - push.next_ms;
            let time_ms = if late <= SCHEDULE_TOLERANCE_MS { push.next_ms } else { now };
            self.tick(&mut push, time_ms);
            let after = clock::now_ms();
            push.plan_next(after.max(time_ms));
            let missed = (push.next_ms - time_ms) / push.interval_ms() - 1;
            self.counters.ticks_skipped.add(u64::try_from(missed).unwrap_or(0));
        }
        self.push = Some(push);
    }

    fn tick(&mut self, push: &mut Push, time_ms: i64) {
        let start = Instant::now();
        let ring = &self.ring;
        let (mut scraped, mut kept) = (0, 0);
        let claims = &mut push.claims;
        claims.begin_tick();
        let mut send = |batch: Batch| {
            scraped += batch.samples();
            let mut slab = ring.slab();
            if claims.reduce(&batch, &mut slab) {
                kept += slab.samples();
                ring.send(slab);
                ring.give_back(batch);
            } else {
                kept += batch.samples();
                ring.send(batch);
                ring.give_back(slab);
            }
        };
        let mut guard = self.local.blocking_lock();
        let local = &mut *guard;
        local.host.set_deadline(self.deadline);
        local.host.run(&Selection::All, time_ms, || ring.slab(), &mut send);
        if let Some(probes) = &mut local.probes {
            probes.read(time_ms, || ring.slab(), &mut send);
        }
        if let Some(own) = &mut local.own {
            send(own.read(ring.slab(), time_ms));
        }
        drop(guard);
        let added = push.claims.added;
        self.counters.duplicate_samples.add(push.claims.duplicates as u64);
        push.target.begin(ring.slab(), time_ms);
        push.target.put(&UP, &[], 1.0);
        push.target.put(&SCRAPE_DURATION, &[], start.elapsed().as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a tick has few samples")]
        for (family, count) in [(&SCRAPED, scraped), (&AFTER_RELABEL, kept), (&ADDED, added)] {
            push.target.put(family, &[], count as f64);
        }
        ring.send(push.target.finish());
        ring.wake();
    }
}

impl Push {
    fn interval_ms(&self) -> i64 {
        i64::try_from(self.schedule.interval.as_millis()).unwrap_or(i64::MAX / 4).max(1)
    }

    /// The first time after `now` that is this host's in an interval: the same one after a restart, another one for
    /// another host, so that a fleet does not push all at once.
    fn plan_next(&mut self, now: i64) {
        let interval = self.interval_ms();
        let offset = i64::try_from(self.schedule.place() % interval.unsigned_abs()).unwrap_or(0);
        self.next_ms = ((now - offset).div_euclid(interval) + 1) * interval + offset;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_push_at_places_of_their_own_and_keep_them() {
        let interval = Duration::from_secs(15);
        let next = |host: usize, now| {
            let labels = vec![("instance".to_owned(), format!("host-{host}"))];
            let schedule = PushSchedule { interval, labels, external_labels: Vec::new() };
            let source = Arc::new(Source { name: "target".into(), labels: Vec::new() });
            let target = Recorder::new(source, Arc::new(SeriesTable::default()));
            let mut push = Push { schedule, target, claims: Claims::default(), next_ms: 0 };
            push.plan_next(now);
            push.next_ms
        };
        let mut seconds = [0; 15];
        for host in 0..1500 {
            let first = next(host, 1_790_000_000_000);
            assert!((1..=15_000).contains(&(first - 1_790_000_000_000)));
            assert_eq!(next(host, first), first + 15_000);
            assert_eq!(next(host, first - 1), first);
            seconds[usize::try_from(first.rem_euclid(15_000) / 1000).unwrap()] += 1;
        }
        assert!(seconds.iter().all(|&hosts| (60..150).contains(&hosts)), "{seconds:?}");
    }
}
