//! Runs the collectors, each within the deadline of the tick, and adds what every one of them gets for nothing:
//! how long it took and whether it succeeded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::crew::Crew;
use super::{COLLECTORS, CollectError, Collector, FlagValues, Paths, Setup, SetupError, Tick};
use crate::model::{Batch, Family, Recorder, SeriesTable, Source};
use crate::sys::network_octets::NetworkOctets;

static DURATION: Family = Family::gauge(
    "node_scrape_collector_duration_seconds",
    "Time that a collector took to read what it gives.",
    &["collector"],
);
static SUCCESS: Family = Family::gauge(
    "node_scrape_collector_success",
    "Whether a collector read all that it should: 1 if so, 0 if not.",
    &["collector"],
);

/// The families that the runner itself gives.
pub static OUTCOME_FAMILIES: &[&Family] = &[&DURATION, &SUCCESS];

/// Which collectors a tick asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Selection {
    #[default]
    All,
    /// Indexes into [`HostReader::names`].
    Some(Vec<usize>),
}

impl Selection {
    fn has(&self, index: usize) -> bool {
        match self {
            Selection::All => true,
            Selection::Some(wanted) => wanted.contains(&index),
        }
    }
}

/// How long a tick takes at the most, unless it is asked to end sooner.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// A collector that is ready, with all that it needs to run on another thread.
pub(super) struct Running {
    /// Where it stands in the table.
    index: usize,
    collector: Box<dyn Collector>,
    recorder: Recorder,
    /// The tick that it runs for, as its [`Crew`] counts them.
    pub(super) tick: u64,
    /// How long its last run took, and how it ended. `None` while it has not run.
    outcome: Option<(Duration, Result<(), CollectError>)>,
}

/// A collector's place in the table.
struct Slot {
    name: &'static str,
    /// Absent while it hangs.
    running: Option<Box<Running>>,
    /// Since when it runs.
    started: Instant,
    /// The last error, so that the log says each once and not every tick.
    last_error: Option<CollectError>,
}

/// Every collector that is switched on.
pub struct HostReader {
    slots: Vec<Slot>,
    crew: Crew,
    deadline: Duration,
    labels: Vec<(String, String)>,
    outcome: Recorder,
    outcomes: Vec<(usize, f64, bool)>,
    /// Collectors on their way back into their slots.
    #[expect(clippy::vec_box, reason = "they come and go as they are, in their boxes")]
    returned: Vec<Box<Running>>,
    duplicates: u64,
    network_octets: Arc<NetworkOctets>,
}

impl HostReader {
    /// Makes the collectors that are switched on by `enabled`. `labels` are those of the target: job, instance.
    ///
    /// # Errors
    /// The first collector whose flags make no sense.
    pub fn new(
        paths: &Paths,
        flags: &FlagValues,
        enabled: impl Fn(&'static str, bool) -> bool,
        labels: &[(String, String)],
        table: &Arc<SeriesTable>,
    ) -> Result<Self, SetupError> {
        let mut flags = flags.clone();
        COLLECTORS.iter().flat_map(|registration| registration.flags).for_each(|flag| flags.declare(flag));
        let network_octets = Arc::default();
        let setup = Setup { paths, flags: &flags, network_octets: &network_octets };
        let mut collectors = Vec::new();
        for registration in COLLECTORS {
            if enabled(registration.name, registration.default_enabled) {
                collectors.push((registration.name, (registration.new)(&setup)?));
            }
        }
        let mut reader = Self::assemble(paths, collectors, labels, table);
        reader.network_octets = network_octets;
        Ok(reader)
    }

    fn assemble(
        paths: &Paths,
        collectors: Vec<(&'static str, Box<dyn Collector>)>,
        labels: &[(String, String)],
        table: &Arc<SeriesTable>,
    ) -> Self {
        let recorder = |name: &str| Recorder::new(source(name, labels), table.clone());
        let slot = |(index, (name, collector))| {
            let recorder = recorder(name);
            let running = Box::new(Running { index, collector, recorder, tick: 0, outcome: None });
            Slot { name, running: Some(running), started: Instant::now(), last_error: None }
        };
        HostReader {
            slots: collectors.into_iter().enumerate().map(slot).collect(),
            crew: Crew::new(paths),
            deadline: DEADLINE,
            labels: labels.to_vec(),
            outcome: recorder(OUTCOME),
            outcomes: Vec::new(),
            returned: Vec::new(),
            duplicates: 0,
            network_octets: Arc::default(),
        }
    }

    /// Where the collectors leave what this process' network namespace has received and sent.
    pub fn network_octets(&self) -> &Arc<NetworkOctets> {
        &self.network_octets
    }

    /// Pushes under other target labels from the next tick on.
    pub fn set_labels(&mut self, labels: &[(String, String)]) {
        self.labels = labels.to_vec();
        for slot in &mut self.slots {
            if let Some(running) = &mut slot.running {
                running.recorder.set_source(source(slot.name, labels));
            }
        }
        self.outcome.set_source(source(OUTCOME, labels));
    }

    /// How long further ticks may take; [`DEADLINE`] at first.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// The names of the collectors that are switched on, in the order of the table.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &'static str> + '_ {
        self.slots.iter().map(|slot| slot.name)
    }

    /// Samples dropped by the last tick because their series had come before in it.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Runs the selected collectors at `time_ms`; `slab` gives empty batches, `send` takes full ones, in the
    /// order of the table. A collector that does not end before the deadline is left out, now and until it has
    /// ended.
    pub fn run(
        &mut self,
        selection: &Selection,
        time_ms: i64,
        mut slab: impl FnMut() -> Batch,
        mut send: impl FnMut(Batch),
    ) {
        let tick = self.begin(selection, time_ms, &mut slab);
        while let Some(until) = self.crew.look_after() {
            self.crew.sleep(until);
        }
        self.conclude(tick, selection, slab(), time_ms, &mut send);
    }

    /// The same as a task: other tasks go on while the collectors run.
    pub async fn gather(
        &mut self,
        selection: &Selection,
        time_ms: i64,
        mut slab: impl FnMut() -> Batch,
        mut send: impl FnMut(Batch),
    ) {
        let tick = self.begin(selection, time_ms, &mut slab);
        while let Some(until) = self.crew.look_after() {
            self.crew.rest(until).await;
        }
        self.conclude(tick, selection, slab(), time_ms, &mut send);
    }

    fn begin(&mut self, selection: &Selection, time_ms: i64, slab: &mut impl FnMut() -> Batch) -> u64 {
        self.outcomes.clear();
        self.duplicates = 0;
        self.crew.take_back(|late| self.returned.push(late));
        self.put_back(None);
        let now = Instant::now();
        let wanted = self.slots.iter_mut().enumerate().filter(|(index, _)| selection.has(*index));
        let jobs = wanted.filter_map(|(_, slot)| {
            let mut running = slot.running.take()?;
            running.recorder.begin(slab(), time_ms);
            slot.started = now;
            Some(running)
        });
        self.crew.begin(jobs, now + self.deadline)
    }

    fn conclude(
        &mut self,
        tick: u64,
        selection: &Selection,
        slab: Batch,
        time_ms: i64,
        send: &mut impl FnMut(Batch),
    ) {
        self.crew.end(|running| self.returned.push(running));
        self.put_back(Some(tick));
        for index in (0..self.slots.len()).filter(|index| selection.has(*index)) {
            self.settle(index, send);
        }
        self.outcome.begin(slab, time_ms);
        for &(index, seconds, _) in &self.outcomes {
            self.outcome.put(&DURATION, &[self.slots[index].name], seconds);
        }
        for &(index, _, success) in &self.outcomes {
            self.outcome.put(&SUCCESS, &[self.slots[index].name], f64::from(u8::from(success)));
        }
        send(self.outcome.finish());
    }

    /// Takes the returned collectors back into their slots. Those that ran for another tick than `tick` are
    /// late: what they read is old, and the labels may have changed in the meantime.
    fn put_back(&mut self, tick: Option<u64>) {
        for mut running in self.returned.drain(..) {
            let slot = &mut self.slots[running.index];
            if Some(running.tick) != tick {
                let took = slot.started.elapsed().as_secs_f64();
                log::info!(collector = slot.name, duration_seconds = took; "collector ended after its deadline");
                running.outcome = None;
                running.recorder.set_source(source(slot.name, &self.labels));
            }
            slot.running = Some(running);
        }
    }

    /// Hands on what a collector gave, or notes that it gave nothing.
    fn settle(&mut self, index: usize, send: &mut impl FnMut(Batch)) {
        let slot = &mut self.slots[index];
        let ended = slot.running.as_mut().and_then(|running| Some((running.outcome.take()?, running)));
        let (seconds, error) = match ended {
            Some(((took, result), running)) => {
                self.duplicates += running.recorder.duplicates();
                send(running.recorder.finish());
                (took.as_secs_f64(), result.err())
            }
            None => (slot.started.elapsed().as_secs_f64(), Some(CollectError::Late)),
        };
        self.outcomes.push((index, seconds, error.is_none()));
        slot.report(error);
    }
}

/// The source whose batches hold the outcomes.
const OUTCOME: &str = "outcome";

fn source(name: &str, labels: &[(String, String)]) -> Arc<Source> {
    Arc::new(Source { name: format!("host/{name}"), labels: labels.to_vec() })
}

impl Running {
    /// Reads what the kernel says now. A collector that panics loses its tick, not the process.
    pub(super) fn update(&mut self, tick: &mut Tick) {
        let start = Instant::now();
        let Running { collector, recorder, .. } = self;
        let update = std::panic::AssertUnwindSafe(|| collector.update(tick, recorder));
        let result = std::panic::catch_unwind(update).unwrap_or_else(|panic| {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(CollectError::Other(format!("collector panicked: {message}")))
        });
        self.outcome = Some((start.elapsed(), result));
    }
}

impl Slot {
    fn report(&mut self, error: Option<CollectError>) {
        let Some(error) = error else {
            if self.last_error.take().is_some() {
                log::info!(collector = self.name; "collector succeeds again");
            }
            return;
        };
        if self.last_error.as_ref().is_some_and(|last| last.is_same(&error)) {
            return;
        }
        let text = error.to_string();
        if error.is_no_data() {
            log::debug!(collector = self.name, err = text.as_str(); "collector returned no data");
        } else {
            log::error!(collector = self.name, err = text.as_str(); "collector failed");
        }
        self.last_error = Some(error);
    }
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
