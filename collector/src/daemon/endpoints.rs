//! The remote-write endpoints that run, and what a reload changes of them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::aggregate::{SharedJournal, Tail};
use crate::batch_log::{Limits, Log};
use crate::cli::Options;
use crate::config::{Config, Endpoint};
use crate::model::SeriesTable;
use crate::self_metrics::{Counters, EndpointStats};
use crate::sinks::remote_write::{Command, Feed, Sender, SenderHandle};

/// How long a sender that a reload replaces may take to end its request.
const REPLACE_DEADLINE: Duration = Duration::from_secs(2);

struct Running {
    endpoint: Endpoint,
    external_labels: Vec<(String, String)>,
    handle: SenderHandle,
}

/// Every endpoint, and the log they share.
pub(super) struct Endpoints {
    running: Vec<Running>,
    tail: Arc<Tail>,
    journal: SharedJournal,
    log: Option<Log>,
    counters: Arc<Counters>,
    table: Arc<SeriesTable>,
    storage: std::path::PathBuf,
    limits: Limits,
}

impl Endpoints {
    pub(super) fn new(options: &Options, counters: &Arc<Counters>, table: &Arc<SeriesTable>) -> Self {
        Endpoints {
            running: Vec::new(),
            tail: Arc::new(Tail::new(0)),
            journal: Arc::new(Mutex::new(None)),
            log: None,
            counters: counters.clone(),
            table: table.clone(),
            storage: options.storage_path.clone(),
            limits: Limits { max_bytes: options.storage_max_bytes, max_age: options.storage_max_age },
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
            let sender = Sender::new(endpoint.clone(), config.external_labels.clone(), stats)
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
        if let Some(log) = &self.log {
            let names: Vec<&str> = config.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
            log.forget_all_but(&names);
        }
        self.counters
            .set_endpoints(self.running.iter().map(|running| running.handle.stats.clone()).collect());
        Ok(())
    }

    fn open_log(&mut self) -> Result<(), String> {
        if self.log.is_some() {
            return Ok(());
        }
        let (log, journal) = match Log::open(Path::new(&self.storage), self.limits, &self.table) {
            Ok(opened) => opened,
            Err(error) => {
                log::warn!(err = error.as_str(); "no batch log: what is not sent is kept in memory alone");
                return Ok(());
            }
        };
        self.tail.begin_at(journal.next());
        self.counters.newest_number.set(self.tail.next());
        self.counters.log_open.set(1);
        *self.journal.lock().unwrap_or_else(PoisonError::into_inner) = Some(journal);
        self.log = Some(log);
        Ok(())
    }

    fn feed(&self, name: &str) -> Feed {
        let backlog = self.log.as_ref().map(|log| log.backlog(name));
        let newest = self.tail.next();
        let position = backlog.as_ref().map_or(newest, |backlog| backlog.position().min(newest));
        Feed::new(self.tail.clone(), backlog, position)
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
