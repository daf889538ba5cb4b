//! The one thread that reads this host: its collectors, its kernel probes and our own counters; on a clock for
//! what is pushed, on demand for what is scraped.
//!
//! Only this thread touches procfs and sysfs, so a hundred scrapers cost one reader's locks in the kernel.

mod claims;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tokio::sync::oneshot;

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

/// What the thread is asked to do.
pub enum Request {
    /// Reads the selected collectors now, and answers before the deadline with what has ended by then.
    Gather(Wanted, Duration, oneshot::Sender<Gathered>),
    /// Takes over probes that have been loaded.
    Probes(Box<EbpfReader>),
    /// Pushes at this interval from now on, with these target labels; `None` stops it.
    Push(Option<PushSchedule>),
    Stop,
}

/// How the host is pushed.
#[derive(Clone, Debug, PartialEq)]
pub struct PushSchedule {
    pub interval: Duration,
    pub labels: Vec<(String, String)>,
}

/// Which collectors a scrape asks for, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    #[default]
    All,
    Only(Vec<String>),
    Without(Vec<String>),
}

/// The answer to [`Request::Gather`]. Give the batches back through the ring when they are rendered.
#[derive(Default)]
pub struct Gathered {
    pub batches: Vec<Batch>,
    /// Samples left out because their series had come before.
    pub duplicates: u64,
}

/// The thread and the way to it.
pub struct ReaderHandle {
    requests: Sender<Request>,
    thread: std::thread::JoinHandle<()>,
}

impl ReaderHandle {
    pub fn requests(&self) -> Sender<Request> {
        self.requests.clone()
    }

    /// Ends the thread; a tick under way is finished first.
    pub fn stop(self) {
        // A thread that has ended already needs no message.
        let _ = self.requests.send(Request::Stop);
        if self.thread.join().is_err() {
            log::error!("the reader thread panicked");
        }
    }
}

struct LocalReader {
    host: HostReader,
    own: Option<SelfReader>,
    probes: Option<Box<EbpfReader>>,
    ring: ring::Sender,
    counters: Arc<Counters>,
    table: Arc<SeriesTable>,
    labels: Vec<(String, String)>,
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

/// What the thread reads and whom it tells. `labels` are those under which the parts were made.
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

/// Starts the thread.
///
/// # Errors
/// When the system gives no thread.
pub fn start(parts: Parts) -> std::io::Result<ReaderHandle> {
    let (requests, receiver) = bounded(READER_REQUESTS);
    let Parts { host, own, ring, counters, table, labels, deadline } = parts;
    let mut reader =
        LocalReader { host, own, probes: None, ring, counters, table, labels, push: None, deadline };
    let thread = std::thread::Builder::new().name("reader".into()).spawn(move || reader.run(&receiver))?;
    Ok(ReaderHandle { requests, thread })
}

impl LocalReader {
    fn run(&mut self, requests: &Receiver<Request>) {
        loop {
            let request = match &self.push {
                Some(push) => {
                    let wait = u64::try_from(push.next_ms - clock::now_ms()).unwrap_or(0);
                    requests.recv_timeout(Duration::from_millis(wait))
                }
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match request {
                Ok(Request::Gather(wanted, deadline, reply)) => {
                    // Who has gone away in the meantime needs no answer.
                    let _ = reply.send(self.gather(&wanted, deadline));
                }
                Ok(Request::Probes(mut probes)) => {
                    // The labels may have changed while they were being loaded.
                    probes.set_labels(&self.labels);
                    self.probes = Some(probes);
                }
                Ok(Request::Push(schedule)) => self.set_schedule(schedule),
                Err(RecvTimeoutError::Timeout) => self.push_if_due(),
                Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn gather(&mut self, wanted: &Wanted, deadline: Duration) -> Gathered {
        let time_ms = clock::now_ms();
        self.host.set_deadline(deadline);
        let mut batches = Vec::with_capacity(self.host.names().len() + 3);
        let selection = self.selection(wanted);
        let ring = &self.ring;
        self.host.run(&selection, time_ms, || ring.slab(), |batch| batches.push(batch));
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

    fn set_schedule(&mut self, schedule: Option<PushSchedule>) {
        let Some(schedule) = schedule else {
            self.push = None;
            return;
        };
        if schedule.labels != self.labels {
            self.relabel(&schedule.labels);
        }
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

    fn relabel(&mut self, labels: &[(String, String)]) {
        self.labels = labels.to_vec();
        self.host.set_labels(labels);
        if let Some(own) = &mut self.own {
            own.set_labels(labels);
        }
        if let Some(probes) = &mut self.probes {
            probes.set_labels(labels);
        }
    }

    /// One tick of the clock, if its time has come.
    fn push_if_due(&mut self) {
        let Some(mut push) = self.push.take() else { return };
        let now = clock::now_ms();
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
        self.host.set_deadline(self.deadline);
        self.host.run(&Selection::All, time_ms, || ring.slab(), &mut send);
        if let Some(probes) = &mut self.probes {
            probes.read(time_ms, || ring.slab(), &mut send);
        }
        if let Some(own) = &mut self.own {
            send(own.read(ring.slab(), time_ms));
        }
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

    /// The first time after `now` that is a whole number of intervals since 1970.
    fn plan_next(&mut self, now: i64) {
        let interval = self.interval_ms();
        self.next_ms = (now / interval + 1) * interval;
    }
}
