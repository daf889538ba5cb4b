//! Runs the collectors, one after the other on one thread, and adds what every one of them gets for nothing:
//! how long it took and whether it succeeded.

use std::sync::Arc;
use std::time::Instant;

use super::{COLLECTORS, CollectError, Collector, FlagValues, Paths, Setup, SetupError, Tick};
use crate::model::{Batch, Family, Recorder, SeriesTable, Source};

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

struct Running {
    name: &'static str,
    collector: Box<dyn Collector>,
    recorder: Recorder,
    /// The last error, so that the log says each once and not every tick.
    last_error: Option<CollectError>,
}

/// Every collector that is switched on.
pub struct HostReader {
    running: Vec<Running>,
    outcome: Recorder,
    tick: Tick,
    outcomes: Vec<(usize, f64, bool)>,
    duplicates: u64,
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
        let setup = Setup { paths, flags: &flags };
        let recorder = |name: &str| {
            let source = Arc::new(Source { name: format!("host/{name}"), labels: labels.to_vec() });
            Recorder::new(source, table.clone())
        };
        let mut running = Vec::new();
        for registration in COLLECTORS {
            if enabled(registration.name, registration.default_enabled) {
                running.push(Running {
                    name: registration.name,
                    collector: (registration.new)(&setup)?,
                    recorder: recorder(registration.name),
                    last_error: None,
                });
            }
        }
        let outcome = recorder("outcome");
        Ok(HostReader { running, outcome, tick: Tick::new(paths), outcomes: Vec::new(), duplicates: 0 })
    }

    /// Pushes under other target labels from the next tick on.
    pub fn set_labels(&mut self, labels: &[(String, String)]) {
        let source = |name: &str| Arc::new(Source { name: format!("host/{name}"), labels: labels.to_vec() });
        for running in &mut self.running {
            running.recorder.set_source(source(running.name));
        }
        self.outcome.set_source(source("outcome"));
    }

    /// The names of the collectors that are switched on, in the order of the table.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &'static str> + '_ {
        self.running.iter().map(|running| running.name)
    }

    /// Samples dropped by the last tick because their series had come before in it.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Runs the selected collectors at `time_ms`; `slab` gives empty batches, `send` takes full ones.
    pub fn run(
        &mut self,
        selection: &Selection,
        time_ms: i64,
        mut slab: impl FnMut() -> Batch,
        mut send: impl FnMut(Batch),
    ) {
        self.outcomes.clear();
        self.tick.next();
        self.duplicates = 0;
        for (index, running) in self.running.iter_mut().enumerate() {
            if matches!(selection, Selection::Some(wanted) if !wanted.contains(&index)) {
                continue;
            }
            let start = Instant::now();
            running.recorder.begin(slab(), time_ms);
            let result = update_caught(running, &mut self.tick);
            self.duplicates += running.recorder.duplicates();
            let success = result.is_ok();
            running.report(result.err());
            send(running.recorder.finish());
            self.outcomes.push((index, start.elapsed().as_secs_f64(), success));
        }
        self.outcome.begin(slab(), time_ms);
        for &(index, seconds, _) in &self.outcomes {
            self.outcome.put(&DURATION, &[self.running[index].name], seconds);
        }
        for &(index, _, success) in &self.outcomes {
            self.outcome.put(&SUCCESS, &[self.running[index].name], f64::from(u8::from(success)));
        }
        send(self.outcome.finish());
    }
}

/// A collector that panics loses its tick, not the process.
fn update_caught(running: &mut Running, tick: &mut Tick) -> Result<(), CollectError> {
    let Running { collector, recorder, .. } = running;
    let update = std::panic::AssertUnwindSafe(|| collector.update(tick, recorder));
    std::panic::catch_unwind(update).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(CollectError::Other(format!("collector panicked: {message}")))
    })
}

impl Running {
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
