//! The sender of one endpoint: takes batches in order, encodes a request, sends it until it is settled, and
//! only then acknowledges the place it has reached.
//!
//! One request is under way at a time, which keeps the order of every series. A request is sent again byte for
//! byte, so an answer that was lost on the way does no harm to a receiver that knows the samples already.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::backoff::Backoff;
use super::client::{Client, Outcome};
use super::feed::Feed;
use crate::config::Endpoint;
use crate::encode::{Encoded, Encoder, Options, Protocol, Rewrite};
use crate::model::Numbered;
use crate::relabel::{self, Rule};
use crate::self_metrics::{DropReason, EndpointStats};
use crate::sys::clock;

/// A tick's batches come within milliseconds of each other: a request waits this long for the rest of them,
/// or the `batch_send_deadline` where that is shorter.
const LINGER: Duration = Duration::from_millis(100);
/// Between two lines in the log about the same trouble of an endpoint.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// What a Prometheus answers (with status 500, to every request that holds a native histogram) unless
/// its feature `native-histograms` is on.
const NATIVE_DISABLED: &str = "native histograms are disabled";

/// What the daemon tells a sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Command {
    #[default]
    Run,
    /// Send what there is, once, and end: the rest stays in the batch log.
    Flush,
    /// End after the request under way.
    Quit,
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

/// The sender of one endpoint.
pub struct Sender {
    endpoint: Endpoint,
    external_labels: Vec<(String, String)>,
    protocol: Protocol,
    encoder: Encoder,
    client: Client,
    stats: Arc<EndpointStats>,
    backoff: Backoff,
    last_complaint: Option<tokio::time::Instant>,
    batches: Vec<Numbered>,
    buffer: Vec<u8>,
}

/// A sender at work.
struct Task {
    sender: Sender,
    feed: Feed,
    command: watch::Receiver<Command>,
}

/// A request that is under way, with what it would have to count.
struct Pending {
    body: Bytes,
    encoded: Encoded,
    newest_ms: i64,
}

impl Sender {
    /// A sender that is ready to start.
    ///
    /// # Errors
    /// What is wrong with the endpoint's TLS files or headers.
    pub fn new(
        endpoint: Endpoint,
        external_labels: Vec<(String, String)>,
        stats: Arc<EndpointStats>,
    ) -> Result<Self, String> {
        let protocol = endpoint.protocol;
        stats.max_samples_per_send.set(endpoint.queue.max_samples_per_send as u64);
        Ok(Sender {
            client: Client::new(&endpoint)?,
            encoder: new_encoder(&endpoint, &external_labels, protocol),
            backoff: Backoff::new(endpoint.queue.min_backoff, endpoint.queue.max_backoff),
            protocol,
            external_labels,
            stats,
            last_complaint: None,
            batches: Vec::new(),
            buffer: Vec::new(),
            endpoint,
        })
    }

    fn sends_native(&self) -> bool {
        wants_native(&self.endpoint, self.protocol)
    }

    /// Starts the task that sends what `feed` gives.
    pub fn start(self, feed: Feed) -> SenderHandle {
        let (command, told) = watch::channel(Command::Run);
        let (name, stats) = (self.endpoint.name.clone(), self.stats.clone());
        let mut task = Task { sender: self, feed, command: told };
        task.feed.acknowledge(&stats);
        let task = tokio::spawn(async move { task.run().await });
        SenderHandle { name, stats, command, task }
    }
}

impl Task {
    async fn run(&mut self) {
        while self.collect().await {
            let Some(pending) = self.encode() else {
                self.settle(None);
                continue;
            };
            if !self.deliver(pending).await {
                break;
            }
        }
        log::debug!(remote_name = self.sender.endpoint.name.as_str(); "sender ended");
    }

    fn told(&self) -> Command {
        *self.command.borrow()
    }

    /// Fills `batches` with what the next request holds. `false` when it is time to end.
    async fn collect(&mut self) -> bool {
        let max_samples = self.sender.endpoint.queue.max_samples_per_send;
        loop {
            if self.told() == Command::Quit {
                return false;
            }
            self.sender.batches.clear();
            self.feed.fetch(max_samples, &mut self.sender.batches, &self.sender.stats);
            let samples: usize = self.sender.batches.iter().map(|b| b.batch.samples()).sum();
            if samples == 0 {
                if self.told() == Command::Flush {
                    return false;
                }
                tokio::select! {
                    () = self.feed.wait() => {
                        tokio::time::sleep(LINGER.min(self.sender.endpoint.queue.batch_send_deadline)).await;
                    }
                    _ = self.command.changed() => {}
                }
                continue;
            }
            self.drop_old();
            if let Some(newest) = self.sender.batches.iter().map(|b| b.batch.time_ms).max() {
                self.sender.stats.highest_queued_ms.raise_to(newest.try_into().unwrap_or(0));
            }
            return true;
        }
    }

    /// Leaves out batches older than `sample_age_limit`.
    fn drop_old(&mut self) {
        let limit = self.sender.endpoint.queue.sample_age_limit;
        if limit.is_zero() {
            return;
        }
        let oldest = clock::now_ms() - i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        let stats = &self.sender.stats;
        self.sender.batches.retain(|numbered| {
            let keep = numbered.batch.time_ms >= oldest;
            if !keep {
                stats.dropped(DropReason::TooOld).add(numbered.batch.samples() as u64);
            }
            keep
        });
    }

    /// The request of `batches`, `None` when nothing of them is to be sent.
    fn encode(&mut self) -> Option<Pending> {
        let mut buffer = std::mem::take(&mut self.sender.buffer);
        buffer.clear();
        let encoded = self.sender.encoder.encode(&self.sender.batches, &mut buffer);
        if encoded.samples + encoded.histograms == 0 {
            self.sender.buffer = buffer;
            return None;
        }
        let newest_ms = self.sender.batches.iter().map(|n| n.batch.time_ms).max().unwrap_or(0);
        Some(Pending { body: Bytes::from(buffer), encoded, newest_ms })
    }

    /// The request of the same batches by what is now known of the endpoint. `None` when nothing of them is
    /// to be sent; they are settled then.
    fn encode_anew(&mut self) -> Option<Pending> {
        let sender = &mut self.sender;
        sender.encoder = new_encoder(&sender.endpoint, &sender.external_labels, sender.protocol);
        let pending = self.encode();
        if pending.is_none() {
            self.settle(None);
        }
        pending
    }

    /// Sends until the request is settled. `false` when it is time to end and it is not.
    async fn deliver(&mut self, mut pending: Pending) -> bool {
        let mut attempt = 0;
        loop {
            let (outcome, status, took) =
                self.sender.client.send(pending.body.clone(), self.sender.protocol, attempt).await;
            self.count(&pending, status, took, attempt);
            match outcome {
                Outcome::Accepted => {
                    self.sender.backoff.reset();
                    self.sender.last_complaint = None;
                    let newest = u64::try_from(pending.newest_ms).unwrap_or(0);
                    self.sender.stats.highest_sent_ms.raise_to(newest);
                    self.settle(Some(pending));
                    return true;
                }
                Outcome::Retry { why, .. } | Outcome::Refused { why, .. }
                    if self.sender.sends_native() && why.contains(NATIVE_DISABLED) =>
                {
                    log::warn!(remote_name = self.sender.endpoint.name.as_str(), err = why.as_str();
                        "the endpoint does not take native histograms; sending classic ones from now on");
                    self.sender.endpoint.native_histograms = Some(false);
                    let Some(again) = self.encode_anew() else { return true };
                    pending = again;
                }
                Outcome::Refused { why, .. } => {
                    self.sender.stats.failed.add(samples(&pending));
                    self.complain("the endpoint refused samples for good; they are dropped", &why);
                    self.settle(Some(pending));
                    return true;
                }
                Outcome::WrongProtocol { why } => {
                    log::warn!(remote_name = self.sender.endpoint.name.as_str(), err = why.as_str();
                        "the endpoint does not take remote write 2.0; sending 1.0 from now on");
                    self.sender.protocol = Protocol::V1;
                    let Some(again) = self.encode_anew() else { return true };
                    pending = again;
                }
                Outcome::Retry { why, after, .. } => {
                    self.complain("the endpoint can't be reached or is in trouble; trying again", &why);
                    if !self.pause(after).await {
                        return false;
                    }
                    attempt += 1;
                }
            }
        }
    }

    fn count(&self, pending: &Pending, status: u16, took: Duration, attempt: u32) {
        self.sender.stats.answered(status, took);
        self.sender.stats.bytes.add(pending.body.len() as u64);
        if attempt == 0 {
            self.sender.stats.samples.add(pending.encoded.samples as u64);
            self.sender.stats.histograms.add(pending.encoded.histograms as u64);
            self.sender.stats.exemplars.add(pending.encoded.exemplars as u64);
            self.sender.stats.dropped(DropReason::CustomBuckets).add(pending.encoded.left_out as u64);
        } else {
            self.sender.stats.retried.add(samples(pending));
        }
    }

    /// Waits before the next attempt. `false` when the sender shall end instead.
    async fn pause(&mut self, after: Option<Duration>) -> bool {
        let wait = self.sender.backoff.wait(after);
        if self.told() != Command::Run {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            _ = self.command.changed() => self.told() == Command::Run,
        }
    }

    /// The batches are dealt with: acknowledges them, and takes the buffer back.
    fn settle(&mut self, pending: Option<Pending>) {
        self.feed.acknowledge(&self.sender.stats);
        self.sender.batches.clear();
        if let Some(body) = pending.and_then(|pending| pending.body.try_into_mut().ok()) {
            self.sender.buffer = body.into();
        }
    }

    fn complain(&mut self, what: &str, why: &str) {
        let now = tokio::time::Instant::now();
        if self.sender.last_complaint.is_some_and(|last| now - last < LOG_EVERY) {
            return;
        }
        self.sender.last_complaint = Some(now);
        let (name, url) = (self.sender.endpoint.name.as_str(), self.sender.endpoint.url.as_str());
        log::warn!(remote_name = name, url = url, err = why; "{what}");
    }
}

fn samples(pending: &Pending) -> u64 {
    (pending.encoded.samples + pending.encoded.histograms) as u64
}

fn wants_native(endpoint: &Endpoint, protocol: Protocol) -> bool {
    endpoint.native_histograms.unwrap_or(protocol == Protocol::V2)
}

fn new_encoder(endpoint: &Endpoint, external_labels: &[(String, String)], protocol: Protocol) -> Encoder {
    Encoder::new(Options {
        protocol,
        external_labels: external_labels.to_vec(),
        native_histograms: wants_native(endpoint, protocol),
        exemplars: endpoint.exemplars,
        help: false,
        rewrite: (!endpoint.relabel.is_empty()).then(|| rewrite(endpoint.relabel.clone())),
    })
}

/// `write_relabel_configs`, run when a series is planned.
fn rewrite(rules: Arc<[Rule]>) -> Box<Rewrite> {
    Box::new(move |labels| relabel::apply(&rules, labels).is_ok())
}
