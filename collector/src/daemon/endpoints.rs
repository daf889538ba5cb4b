//! The remote-write endpoints that run, and what a reload changes of them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::aggregate::{SharedJournal, Tail};
use crate::batch_log::{Journal, LogError};
use crate::cli::Options;
use crate::config::{Config, Endpoint};
use crate::model::SeriesTable;
use crate::self_metrics::{Counters, EndpointStats};
use crate::sinks::remote_write::{Accords, Command, Feed, Sender, SenderHandle};

/// How long a sender that a reload replaces may take to end its request.
const REPLACE_DEADLINE: Duration = Duration::from_secs(2);
/// Between two attempts to open a log that could not be opened at the start.
pub(super) const RETRY_LOG: Duration = Duration::from_secs(10);

struct Running {
    endpoint: Endpoint,
    external_labels: Vec<(String, String)>,
    handle: SenderHandle,
}

/// Every endpoint, and the log they share.
pub(super) struct Endpoints {
    running: Vec<Running>,
    accords: Accords,
    tail: Arc<Tail>,
    journal: SharedJournal,
    counters: Arc<Counters>,
    table: Arc<SeriesTable>,
    storage: PathBuf,
    max_bytes: u64,
    max_age: Duration,
}

impl Endpoints {
    pub(super) fn new(options: &Options, counters: &Arc<Counters>, table: &Arc<SeriesTable>) -> Self {
        Endpoints {
            running: Vec::new(),
            accords: Accords::default(),
            tail: Arc::new(Tail::new(0)),
            journal: Arc::new(Mutex::new(None)),
            counters: counters.clone(),
            table: table.clone(),
            storage: options.storage_path.clone(),
            max_bytes: options.storage_max_bytes,
            max_age: options.storage_max_age,
        }
    }

    pub(super) fn tail(&self) -> Arc<Tail> {
        self.tail.clone()
    }

    /// Where the aggregator writes, once there is a log.
    pub(super) fn journal(&self) -> SharedJournal {
        self.journal.clone()
    }

    /// Makes the endpoints those of `config`: what is unchanged goes on undisturbed.
    ///
    /// # Errors
    /// What is wrong with an endpoint, or with the log; then nothing was changed.
    pub(super) async fn apply(&mut self, config: &Config) -> Result<(), String> {
        let is_same = |running: &Running| {
            running.external_labels == config.external_labels && config.endpoints.contains(&running.endpoint)
        };
        let fresh: Vec<&Endpoint> = config
            .endpoints
            .iter()
            .filter(|endpoint| !self.running.iter().any(|r| is_same(r) && r.endpoint == **endpoint))
            .collect();
        let mut senders = Vec::new();
        for endpoint in fresh {
            let stats = Arc::new(EndpointStats::new(&endpoint.name, &endpoint.url));
            let sender =
                Sender::new(endpoint.clone(), config.external_labels.clone(), stats, &mut self.accords)
                    .map_err(|error| format!("remote_write {:?}: {error}", endpoint.name))?;
            senders.push((endpoint, sender));
        }
        if !senders.is_empty() {
            self.open_log()?;
        }
        let (kept, ended): (Vec<_>, Vec<_>) = self.running.drain(..).partition(is_same);
        self.running = kept;
        end(ended, Command::Quit, tokio::time::Instant::now() + REPLACE_DEADLINE).await;
        for (endpoint, sender) in senders {
            let feed = self.feed(&endpoint.name);
            self.running.push(Running {
                endpoint: endpoint.clone(),
                external_labels: config.external_labels.clone(),
                handle: sender.start(feed),
            });
        }
        if let Some(journal) = &*self.lock() {
            let names: Vec<&str> = config.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
            journal.keep_endpoints(&names);
        }
        self.accords.keep(&config.endpoints);
        self.counters
            .set_endpoints(self.running.iter().map(|running| running.handle.stats.clone()).collect());
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Journal>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the log when the first endpoint comes. One that can't be opened leaves memory and a warning; one
    /// that another process has is a fault.
    fn open_log(&self) -> Result<(), String> {
        let mut slot = self.lock();
        if slot.is_some() || self.is_memory_only() {
            return Ok(());
        }
        self.counters.log_open.set(1);
        match Journal::open(&self.storage, self.max_bytes, self.max_age, &self.table) {
            Ok(journal) => {
                self.tail.begin_at(journal.next());
                self.counters.newest_number.set(self.tail.next());
                self.counters.log_failing.set(0);
                *slot = Some(journal);
                Ok(())
            }
            Err(error @ LogError::Locked { .. }) => Err(error.to_string()),
            Err(error) => {
                self.counters.log_failing.set(1);
                log::error!(err:% = error; "no batch log: memory alone holds what is not sent");
                Ok(())
            }
        }
    }

    /// Whether no log is wanted.
    fn is_memory_only(&self) -> bool {
        self.storage.as_os_str().is_empty()
    }

    /// Whether there should be a log, and is none.
    pub(super) fn lacks_log(&self) -> bool {
        !self.is_memory_only() && !self.running.is_empty() && self.lock().is_none()
    }

    /// Tries again to open the log. Where that succeeds, the endpoints go on with what it holds for them, and then with
    /// what is in memory.
    pub(super) async fn retry_log(&mut self) {
        let opened = Journal::open(&self.storage, self.max_bytes, self.max_age, &self.table);
        let journal = match opened {
            Ok(journal) => journal,
            Err(error) => {
                log::debug!(err:% = error; "still no batch log");
                return;
            }
        };
        log::info!("the batch log is open: what is not sent is kept from now on");
        let running = std::mem::take(&mut self.running);
        let deadline = tokio::time::Instant::now() + REPLACE_DEADLINE;
        running.iter().for_each(|running| running.handle.tell(Command::Quit));
        let mut ended = Vec::new();
        for Running { endpoint, external_labels, handle } in running {
            let stats = handle.stats.clone();
            handle.join(deadline).await;
            ended.push((endpoint, external_labels, stats));
        }
        {
            // The aggregator waits here, so that what it numbers next is in the log.
            let mut slot = self.lock();
            self.tail.release(ended.iter().map(|(_, _, stats)| stats.acknowledged.get()).min().unwrap_or(0));
            self.tail.move_behind(journal.next());
            self.counters.newest_number.set(self.tail.next());
            self.counters.log_failing.set(0);
            *slot = Some(journal);
        }
        for (endpoint, external_labels, stats) in ended {
            let labels = external_labels.clone();
            match Sender::new(endpoint.clone(), labels, stats, &mut self.accords) {
                Ok(sender) => {
                    let handle = sender.start(self.feed(&endpoint.name));
                    self.running.push(Running { endpoint, external_labels, handle });
                }
                Err(error) => {
                    log::error!(remote_name = endpoint.name.as_str(), err = error.as_str(); "the endpoint ended");
                }
            }
        }
    }

    fn feed(&self, name: &str) -> Feed {
        let backlog = self.lock().as_ref().and_then(|journal| {
            let complain =
                |error| log::error!(remote_name = name, err:% = error; "no place in the batch log");
            journal.backlog(name).map_err(complain).ok()
        });
        Feed::new(self.tail.clone(), backlog)
    }

    /// Tells every sender to end, and waits for them until the deadline.
    pub(super) async fn stop(self, command: Command, deadline: tokio::time::Instant) {
        end(self.running, command, deadline).await;
    }
}

async fn end(running: Vec<Running>, command: Command, deadline: tokio::time::Instant) {
    running.iter().for_each(|running| running.handle.tell(command));
    for running in running {
        running.handle.join(deadline).await;
    }
}
