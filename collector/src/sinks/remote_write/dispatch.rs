//! What keeps the requests of one endpoint going: takes batches from the lanes in order, encodes a request, sends it
//! until it is settled, and only then acknowledges the places that its lanes have reached.
//!
//! A lane is in one request at a time, which keeps the order of every series. A request is sent again byte for
//! byte, so an answer that was lost on the way does no harm to a receiver that knows the samples already.
//!
//! Cost: while one request at a time is enough, three wake-ups for each: something came, the rest came, the answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::accord::{Now, Probe};
use super::answer::{Answer, Verdict, Written};
use super::backoff::{Backoff, MAX_RETRY_AFTER};
use super::complaints::Complaints;
use super::encoders::Encoders;
use super::feed::Feed;
use super::feeds::Feeds;
use super::flight::{Flight, Flights, State, oldest_sent};
use super::metadata::{Metadata, Told};
use super::pace::{Pace, SLOW_ANSWER};
use super::sender::{Command, Sender, locked};
use crate::batch_log::Part;
use crate::encode::Protocol;
use crate::model::Numbered;
use crate::self_metrics::DropReason;

/// A tick's batches come within milliseconds of each other: a request waits this long for the rest of them,
/// or the `batch_send_deadline` where that is shorter.
const LINGER: Duration = Duration::from_millis(100);

/// A sender at work.
pub(super) struct Dispatcher {
    sender: Sender,
    feeds: Feeds,
    command: watch::Receiver<Command>,
    encoders: Encoders,
    metadata: Metadata,
    told_help: Told,
    pace: Pace,
    flights: Flights,
    /// More may have come until then that goes into the same request.
    linger_until: Option<Instant>,
    /// Since when less than a full request waits behind those under way.
    waiting_since: Option<Instant>,
    /// The endpoint asked for patience until then.
    patience_until: Option<Instant>,
    next_growth: Instant,
    /// The flush at the end met with a fault: what is left stays in the log.
    is_over: bool,
    retries: Complaints,
    refusals: Complaints,
    /// Lists of batches, to be used again.
    spare: Vec<Vec<Numbered>>,
}

enum Event {
    Answered(usize, Answer, Duration),
    AnsweredMetadata(Answer),
    New,
    Told,
    Time,
}

impl Dispatcher {
    pub(super) fn new(sender: Sender, feed: Feed, command: watch::Receiver<Command>) -> Self {
        let now = Instant::now();
        let (queue, stats) = (&sender.endpoint.queue, &sender.stats);
        let pace = Pace::new(queue, now);
        let metadata = Metadata::new(sender.endpoint.metadata.clone(), queue, now);
        let told_help = Told::new(sender.endpoint.metadata.clone(), now);
        stats.max_samples_per_send.set(queue.max_samples_per_send as u64);
        stats.shards_min.set(pace.least() as u64);
        stats.shards_max.set(pace.most() as u64);
        stats.shards.set(pace.allowed() as u64);
        stats.shards_desired.set(pace.least() as u64);
        stats.shard_capacity.set(queue.capacity as u64);
        let mut feeds = Feeds::new(feed, sender.endpoint.newest_first);
        feeds.acknowledge(stats);
        Dispatcher {
            sender,
            feeds,
            command,
            encoders: Encoders::default(),
            metadata,
            told_help,
            pace,
            flights: Flights::default(),
            linger_until: None,
            waiting_since: None,
            patience_until: None,
            next_growth: now,
            is_over: false,
            retries: Complaints::default(),
            refusals: Complaints::default(),
            spare: Vec::new(),
        }
    }

    fn told(&self) -> Command {
        *self.command.borrow()
    }

    fn max_samples(&self) -> usize {
        self.sender.endpoint.queue.max_samples_per_send
    }

    pub(super) async fn run(&mut self) {
        loop {
            let now = Instant::now();
            let told = self.told();
            if told != Command::Run {
                // What waits for another attempt, or for its first, is left to the next start.
                let before = self.flights.0.len();
                let is_fresh = |flight: &Flight| told == Command::Flush && flight.failures == 0;
                self.flights.0.retain(|flight| flight.is_sending() || is_fresh(flight));
                self.is_over |= told == Command::Quit || self.flights.0.len() < before;
            }
            if !self.is_over {
                self.begin_requests(now);
            }
            self.send_due(now);
            self.send_metadata(now);
            if told != Command::Run && self.flights.0.is_empty() {
                break;
            }
            match self.next_event(now).await {
                Event::Answered(at, answer, took) => self.take_answer(at, &answer, took),
                Event::AnsweredMetadata(answer) => {
                    let now = Instant::now();
                    self.heed(&answer, now);
                    self.metadata.take_answer(&answer, &self.sender.stats, now);
                }
                Event::New => {
                    let linger = LINGER.min(self.sender.endpoint.queue.batch_send_deadline);
                    self.linger_until = Some(Instant::now() + linger);
                }
                Event::Told | Event::Time => {}
            }
        }
        log::debug!(remote_name = self.sender.endpoint.name.as_str(); "sender ended");
    }

    /// Waits for what comes first.
    async fn next_event(&mut self, now: Instant) -> Event {
        let takes_more = self.told() == Command::Run
            && self.linger_until.is_none()
            && self.pace.may_begin(self.flights.count());
        let deadline = self.deadline(now);
        let time = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            (at, answer, took) = self.flights.answer() => Event::Answered(at, answer, took),
            answer = self.metadata.answer() => Event::AnsweredMetadata(answer),
            _ = self.command.changed() => Event::Told,
            () = self.feeds.wait(), if takes_more => Event::New,
            () = time => Event::Time,
        }
    }

    /// When to look again though nothing came.
    fn deadline(&self, now: Instant) -> Option<Instant> {
        let sending = self.flights.sending();
        let patience = self.patience_until.filter(|until| *until > now);
        let due = self.flights.0.iter().filter_map(Flight::due).min();
        let due = due.filter(|_| self.pace.may_send(sending)).map(|due| patience.map_or(due, |p| p.max(due)));
        let begins = !self.is_over && self.pace.may_begin(self.flights.count());
        let full = self.waiting_since.filter(|_| begins);
        let full = full.map(|since| since + self.sender.endpoint.queue.batch_send_deadline);
        let grows = !self.is_over && self.pace.allowed() < self.pace.most();
        let growth = self.flights.0.iter().filter_map(Flight::sending_since).min().filter(|_| grows);
        let growth = growth.map(|since| self.next_growth.max(since + SLOW_ANSWER));
        let metadata = self.metadata.deadline().filter(|_| self.tells_metadata());
        let metadata = metadata.map(|due| patience.map_or(due, |p| p.max(due)));
        let linger = self.linger_until.filter(|_| !self.is_over);
        [due, full, growth, metadata, linger].into_iter().flatten().min()
    }

    /// Begins as many requests as there may be and work is for.
    fn begin_requests(&mut self, now: Instant) {
        self.grow(now);
        self.feeds.split();
        while self.pace.may_begin(self.flights.count())
            && let Some(part) = self.next_part(now)
        {
            self.begin(part, now);
        }
    }

    /// What the next request is made of: what is new, once it has gathered, and else a backlog.
    fn next_part(&mut self, now: Instant) -> Option<Part> {
        let (newest, is_flush) = (self.feeds.newest(), self.told() == Command::Flush);
        if is_flush || self.linger_until.is_none_or(|until| until <= now) {
            self.linger_until = None;
            let (max_samples, deadline) =
                (self.max_samples(), self.sender.endpoint.queue.batch_send_deadline);
            let ready = self.feeds.fill(newest, max_samples, self.open_places(), &self.sender.stats);
            let is_enough = ready >= max_samples || is_flush || !self.flights.has(newest);
            let waited = ready > 0 && now >= *self.waiting_since.get_or_insert(now) + deadline;
            if ready == 0 || is_enough || waited {
                self.waiting_since = None;
            }
            if ready > 0 && (is_enough || waited) {
                return Some(newest);
            }
        }
        let ready = self.feeds.has_backlog()
            && self.feeds.fill(Part::First, self.max_samples(), self.open_places(), &self.sender.stats) > 0;
        ready.then_some(Part::First)
    }

    /// How many more requests there may be.
    fn open_places(&self) -> usize {
        self.pace.allowed().saturating_sub(self.flights.0.len()).max(1)
    }

    /// Allows one more request where those under way are slow and a full one waits behind them.
    fn grow(&mut self, now: Instant) {
        let since = self.flights.0.iter().filter_map(Flight::sending_since).min();
        if now < self.next_growth || since.is_none_or(|since| now < since + SLOW_ANSWER) {
            return;
        }
        self.next_growth = now + SLOW_ANSWER;
        if self.feeds.waiting() >= self.max_samples() as u64 {
            self.pace.waits();
            self.show_pace();
        }
    }

    /// Makes a request of what waits in idle lanes.
    fn begin(&mut self, part: Part, now: Instant) {
        let mut batches = self.spare.pop().unwrap_or_default();
        let max_samples = self.max_samples();
        let lanes = self.pace.lanes().max(self.feeds.lanes_for(part, max_samples));
        let rounds = locked(&self.sender.accord).current().protocol == Protocol::V2;
        let lanes = self.feeds.take(part, lanes, max_samples, rounds, &mut batches);
        let taken = batches.iter().map(|numbered| numbered.batch.samples()).sum();
        let (dialect, probe) = locked(&self.sender.accord).next(now);
        let help = dialect.protocol == Protocol::V2 && self.told_help.lacks(&batches, now);
        if dialect.protocol == Protocol::V1 {
            batches.iter().for_each(|numbered| self.metadata.observe(&numbered.batch));
        }
        let queue = &self.sender.endpoint.queue;
        let flight = Flight {
            part,
            lanes,
            taken,
            batches,
            body: Bytes::new(),
            sent: Written::default(),
            left_out: 0,
            dialect,
            help,
            probe,
            newest_ms: 0,
            failures: 0,
            is_counted: false,
            backoff: Backoff::new(queue.min_backoff, queue.max_backoff),
            state: State::Due(now),
        };
        self.flights.0.push(flight);
        let at = self.flights.0.len() - 1;
        if !self.encode(at) {
            locked(&self.sender.accord).unused(probe);
            self.settle(at);
        }
    }

    /// Writes a request by its dialect. `false` when nothing of it is to be sent.
    fn encode(&mut self, at: usize) -> bool {
        let flight = &mut self.flights.0[at];
        flight.drop_old(&self.sender.endpoint, &self.sender.stats);
        let current = locked(&self.sender.accord).current();
        self.encoders.give_back(std::mem::take(&mut flight.body));
        let (dialects, help) =
            ((flight.dialect, current), flight.help && flight.dialect.protocol == Protocol::V2);
        (flight.body, flight.sent, flight.left_out) =
            self.encoders.encode(dialects, help, &self.sender, &flight.batches);
        flight.newest_ms = flight.batches.iter().map(|n| n.batch.time_ms).max().unwrap_or(0);
        flight.samples() > 0
    }

    /// Sends what is due, as much at once as there may be.
    fn send_due(&mut self, now: Instant) {
        if self.patience_until.is_some_and(|until| now < until) {
            return;
        }
        self.patience_until = None;
        while self.pace.may_send(self.flights.sending()) {
            let due = |at: &usize| self.flights.0[*at].due();
            let first = (0..self.flights.0.len()).filter(|at| due(at).is_some()).min_by_key(due);
            let Some(at) = first.filter(|at| due(at).is_some_and(|due| due <= now)) else { return };
            if self.flights.0[at].failures > 0 && self.has_aged(at) && !self.encode(at) {
                self.settle(at);
                continue;
            }
            let flight = &mut self.flights.0[at];
            let client = self.sender.client.clone();
            let (body, protocol, retry) = (flight.body.clone(), flight.dialect.protocol, flight.failures);
            let attempt = Box::pin(async move { client.send(body, protocol, retry).await });
            flight.state = State::Sending { since: now, attempt };
        }
    }

    /// Whether some of a request is by now too old to be sent.
    fn has_aged(&self, at: usize) -> bool {
        let oldest = oldest_sent(&self.sender.endpoint);
        self.flights.0[at].batches.iter().any(|numbered| numbered.batch.time_ms < oldest)
    }

    /// Tells what families are, where requests are in 1.0 and the endpoint is well.
    fn send_metadata(&mut self, now: Instant) {
        if self.tells_metadata() && self.patience_until.is_none() {
            self.metadata.send_due(&self.sender.client, &self.sender.stats, now);
        }
    }

    fn tells_metadata(&self) -> bool {
        self.told() == Command::Run && locked(&self.sender.accord).current().protocol == Protocol::V1
    }

    fn take_answer(&mut self, at: usize, answer: &Answer, took: Duration) {
        let now = Instant::now();
        self.flights.0[at].state = State::Due(now);
        self.count_attempt(at, answer, took);
        let Flight { dialect, probe, sent, .. } = self.flights.0[at];
        let verdict = {
            let mut accord = locked(&self.sender.accord);
            let retry_429 = self.sender.endpoint.queue.retry_on_http_429;
            let verdict = answer.judge(dialect, sent, accord.is_proven(), retry_429);
            match verdict {
                Verdict::Accepted { .. } => {
                    accord.accepted(dialect, probe, answer.written.is_some(), sent.histograms > 0);
                }
                Verdict::WrongProtocol => accord.wrong_protocol(probe, now),
                Verdict::NativeRefused => accord.native_refused(probe, now),
                Verdict::Refused { .. } | Verdict::Retry => accord.probe_failed(probe, now),
            }
            verdict
        };
        self.keep_accord();
        match verdict {
            Verdict::Accepted { failed } => self.accepted(at, failed, took),
            Verdict::Refused { .. } if probe.is_one() => {
                self.write_anew(at);
            }
            Verdict::Refused { failed } => {
                self.count_failed(failed);
                let what = "the endpoint refused samples for good; they are dropped";
                self.refusals.say(&self.sender.endpoint, what, &answer.why);
                self.settled_by_answer(at, took);
            }
            Verdict::WrongProtocol => {
                let why = if answer.why.is_empty() {
                    format!("answered {} without saying what it wrote", answer.status)
                } else {
                    answer.why.clone()
                };
                self.fall_back(at, "the endpoint does not take remote write 2.0; sending 1.0 for now", &why);
            }
            Verdict::NativeRefused => self.fall_back(
                at,
                "the endpoint does not take native histograms; sending classic ones for now",
                &answer.why,
            ),
            Verdict::Retry => self.retry(at, answer, now),
        }
        let (waiting, reached) = (self.feeds.waiting(), self.feeds.reached());
        let desired = self.pace.desired(reached, waiting, now);
        self.sender.stats.shards_desired.set(desired as u64);
        self.show_pace();
    }

    /// Writes down what is known of the endpoint, where that is news.
    fn keep_accord(&mut self) {
        let kept = locked(&self.sender.accord).news(&self.sender.endpoint.url, Now::read());
        if let Some(bytes) = kept {
            self.feeds.keep(&bytes);
        }
    }

    fn show_pace(&self) {
        self.sender.stats.shards.set(self.pace.allowed() as u64);
    }

    fn accepted(&mut self, at: usize, failed: Written, took: Duration) {
        let stats = &self.sender.stats;
        stats.highest_sent_ms.raise_to(u64::try_from(self.flights.0[at].newest_ms).unwrap_or(0));
        if !failed.is_nothing() {
            self.count_failed(failed);
            let why = format!("it wrote all but {failed:?}");
            let what = "the endpoint took a request and did not write all of it";
            self.refusals.say(&self.sender.endpoint, what, &why);
        }
        self.settled_by_answer(at, took);
    }

    fn settled_by_answer(&mut self, at: usize, took: Duration) {
        let samples = self.flights.0[at].samples();
        self.settle(at);
        let waiting = self.feeds.waiting() >= self.max_samples() as u64;
        self.pace.succeeded(took, samples, waiting);
    }

    /// The endpoint does not take what others do: says so where it is news, and writes the request as it may be.
    fn fall_back(&mut self, at: usize, what: &str, why: &str) {
        let flight = &self.flights.0[at];
        if flight.probe.is_one() {
            log::debug!(remote_name = self.sender.endpoint.name.as_str(), err = why; "{what}");
        } else {
            log::warn!(remote_name = self.sender.endpoint.name.as_str(), err = why; "{what}");
        }
        self.write_anew(at);
    }

    /// Writes the request as is known to be taken; it is due at once. `false` where nothing of it is to be sent: it
    /// is settled then.
    fn write_anew(&mut self, at: usize) -> bool {
        let flight = &mut self.flights.0[at];
        flight.dialect = locked(&self.sender.accord).current();
        flight.probe = Probe::default();
        let goes_on = self.encode(at);
        if !goes_on {
            self.settle(at);
        }
        goes_on
    }

    /// Sends nothing for as long as a fault asks for.
    fn heed(&mut self, answer: &Answer, now: Instant) {
        if let Some(after) = answer.after.filter(|_| answer.status >= 400) {
            self.patience_until = Some(now + after.min(MAX_RETRY_AFTER));
        }
    }

    fn retry(&mut self, at: usize, answer: &Answer, now: Instant) {
        self.pace.failed();
        let what = "the endpoint can't be reached or is in trouble; trying again";
        self.retries.say(&self.sender.endpoint, what, &answer.why);
        self.heed(answer, now);
        if self.flights.0[at].probe.is_one() && !self.write_anew(at) {
            return;
        }
        let flight = &mut self.flights.0[at];
        flight.failures += 1;
        flight.state = State::Due(now + flight.backoff.wait());
    }

    fn count_attempt(&mut self, at: usize, answer: &Answer, took: Duration) {
        let (flight, stats) = (&mut self.flights.0[at], &self.sender.stats);
        stats.answered(answer.status, took);
        stats.bytes.add(flight.body.len() as u64);
        if flight.is_counted {
            stats.retried.add(flight.sent.samples);
            stats.histograms_retried.add(flight.sent.histograms);
            stats.exemplars_retried.add(flight.sent.exemplars);
        } else {
            stats.samples.add(flight.sent.samples);
            stats.histograms.add(flight.sent.histograms);
            stats.exemplars.add(flight.sent.exemplars);
        }
        flight.is_counted = true;
    }

    fn count_failed(&self, failed: Written) {
        let stats = &self.sender.stats;
        stats.failed.add(failed.samples);
        stats.histograms_failed.add(failed.histograms);
        stats.exemplars_failed.add(failed.exemplars);
    }

    /// The request is dealt with: its lanes are idle again, and their places go to the disk.
    fn settle(&mut self, at: usize) {
        let Flight { part, lanes, taken, mut batches, body, left_out, .. } = self.flights.0.swap_remove(at);
        batches.clear();
        self.spare.push(batches);
        self.sender.stats.dropped(DropReason::CustomBuckets).add(left_out);
        if self.feeds.settle(part, lanes, taken, &self.sender.stats) {
            self.flights.0.iter_mut().for_each(|flight| flight.part = Part::First);
        }
        self.encoders.give_back(body);
    }
}
