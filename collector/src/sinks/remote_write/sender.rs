//! The sender of one endpoint, as the daemon sees it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::accord::{Accord, Now};
use super::client::Client;
use super::dispatch::Dispatcher;
use super::feed::Feed;
use crate::config::Endpoint;
use crate::self_metrics::EndpointStats;

/// What the daemon tells a sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Command {
    #[default]
    Run,
    /// Send what there is, once, and end: the rest stays in the batch log.
    Flush,
    /// End after the requests under way.
    Quit,
}

/// What is known of endpoints, by name and URL. It outlives their senders.
#[derive(Default)]
pub struct Accords {
    known: HashMap<(String, String), Arc<Mutex<Accord>>>,
}

impl Accords {
    fn of(&mut self, endpoint: &Endpoint) -> Arc<Mutex<Accord>> {
        let key = (endpoint.name.clone(), endpoint.url.clone());
        let (protocol, native) = (endpoint.protocol, endpoint.native_histograms);
        let new = || Arc::new(Mutex::new(Accord::new(protocol, native)));
        self.known.entry(key).or_insert_with(new).clone()
    }

    /// Forgets all endpoints but these.
    pub fn keep(&mut self, endpoints: &[Endpoint]) {
        self.known
            .retain(|(name, url), _| endpoints.iter().any(|known| known.name == *name && known.url == *url));
    }
}

pub(super) fn locked(accord: &Mutex<Accord>) -> MutexGuard<'_, Accord> {
    accord.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sender that runs.
pub struct SenderHandle {
    pub name: String,
    pub stats: Arc<EndpointStats>,
    command: watch::Sender<Command>,
    task: tokio::task::JoinHandle<()>,
}

impl SenderHandle {
    pub fn tell(&self, command: Command) {
        self.command.send_replace(command);
    }

    /// Waits for the end, until the deadline; after it the task is cut off, and what it had under way will be
    /// sent again by the next start.
    pub async fn join(self, deadline: tokio::time::Instant) {
        let abort = self.task.abort_handle();
        if tokio::time::timeout_at(deadline, self.task).await.is_err() {
            abort.abort();
        }
    }
}

/// The sender of one endpoint, ready to start.
pub struct Sender {
    pub(super) endpoint: Endpoint,
    pub(super) external_labels: Vec<(String, String)>,
    pub(super) client: Arc<Client>,
    pub(super) stats: Arc<EndpointStats>,
    pub(super) accord: Arc<Mutex<Accord>>,
}

impl Sender {
    /// # Errors
    /// What is wrong with the endpoint's TLS files or headers.
    pub fn new(
        endpoint: Endpoint,
        external_labels: Vec<(String, String)>,
        stats: Arc<EndpointStats>,
        accords: &mut Accords,
    ) -> Result<Self, String> {
        let client = Arc::new(Client::new(&endpoint)?);
        let accord = accords.of(&endpoint);
        Ok(Sender { endpoint, external_labels, client, stats, accord })
    }

    /// Starts the task that sends what `feed` gives.
    pub fn start(self, feed: Feed) -> SenderHandle {
        let (command, told) = watch::channel(Command::Run);
        let (name, stats) = (self.endpoint.name.clone(), self.stats.clone());
        {
            let mut accord = locked(&self.accord);
            accord.want(self.endpoint.protocol, self.endpoint.native_histograms);
            accord.recall(feed.kept().as_deref(), &self.endpoint.url, Now::read());
        }
        let mut dispatcher = Dispatcher::new(self, feed, told);
        let task = tokio::spawn(async move { dispatcher.run().await });
        SenderHandle { name, stats, command, task }
    }
}
