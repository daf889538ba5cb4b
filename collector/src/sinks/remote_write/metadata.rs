//! Metadata of families. In remote write 1.0 type, help and unit go in requests of their own, all of them every
//! `send_interval`. In 2.0 each series has its type; its help and unit would make a request of one host half as large
//! again, so they go in the first request of an interval that has a series of the family.
//!
//! Cost: a look-up for each batch; lists of series that are new are walked once, in 2.0 once an interval.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};

use super::accord::Dialect;
use super::answer::{Answer, Verdict, Written};
use super::backoff::Backoff;
use super::client::Client;
use crate::config::{MetadataConfig, Queue};
use crate::encode::{FamilyMetadata, Protocol, encode_metadata, legacy_name};
use crate::model::{Batch, Kind, Numbered, SeriesList};
use crate::self_metrics::EndpointStats;

/// Families that are remembered; more are left out.
const MAX_FAMILIES: usize = 65_536;
/// Lists of series that are looked at in one interval; of more nothing is told before the next.
const MAX_LISTS: usize = 65_536;

type Attempt = Pin<Box<dyn Future<Output = (Answer, Duration)> + Send>>;

struct Family {
    kind: Kind,
    help: Box<str>,
    unit: Box<str>,
}

/// What is known of the families of one endpoint, and the requests that tell it.
pub(super) struct Metadata {
    settings: MetadataConfig,
    lists: HashMap<u64, Weak<SeriesList>>,
    families: HashMap<Box<str>, Family>,
    requests: VecDeque<(Bytes, u64)>,
    due: Instant,
    next_round: Instant,
    backoff: Backoff,
    queue: (Duration, Duration),
    failures: u32,
    retry_429: bool,
    attempt: Option<Attempt>,
}

impl Metadata {
    pub(super) fn new(settings: MetadataConfig, queue: &Queue, now: Instant) -> Self {
        let bounds = (queue.min_backoff, queue.max_backoff);
        Metadata {
            lists: HashMap::new(),
            families: HashMap::new(),
            requests: VecDeque::new(),
            due: now + settings.send_interval,
            next_round: now + settings.send_interval,
            backoff: Backoff::new(bounds.0, bounds.1),
            queue: bounds,
            failures: 0,
            retry_429: queue.retry_on_http_429,
            attempt: None,
            settings,
        }
    }

    /// Learns the families of a batch that is sent.
    pub(super) fn observe(&mut self, batch: &Batch) {
        let list = batch.shape().list();
        if self.settings.send && !self.lists.contains_key(&list.id()) {
            self.lists.insert(list.id(), Arc::downgrade(list));
            learn(list, &mut self.families);
        }
    }

    /// When there is something to do next; `None` while an answer is awaited.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.settings.send && self.attempt.is_none()).then_some(self.due)
    }

    /// Begins a request that is due.
    pub(super) fn send_due(&mut self, client: &Arc<Client>, stats: &EndpointStats, now: Instant) {
        if !self.settings.send || self.attempt.is_some() || now < self.due {
            return;
        }
        if now >= self.next_round {
            // What could not be sent by now is told anew.
            let left: u64 = self.requests.drain(..).map(|(_, families)| families).sum();
            stats.metadata_failed.add(left);
            self.next_round = now + self.settings.send_interval;
            self.begin_round();
        }
        let Some((body, _)) = self.requests.front() else {
            self.due = self.next_round;
            return;
        };
        let (client, body, failures) = (client.clone(), body.clone(), self.failures);
        self.attempt = Some(Box::pin(async move { client.send(body, Protocol::V1, failures).await }));
    }

    /// The answer to the request under way. Never, while there is none.
    pub(super) async fn answer(&mut self) -> Answer {
        match &mut self.attempt {
            Some(attempt) => {
                let (answer, _) = attempt.await;
                self.attempt = None;
                answer
            }
            None => std::future::pending().await,
        }
    }

    pub(super) fn take_answer(&mut self, answer: &Answer, stats: &EndpointStats, now: Instant) {
        let Some(&(_, families)) = self.requests.front() else { return };
        let dialect = Dialect { protocol: Protocol::V1, native: false };
        match answer.judge(dialect, Written::default(), false, self.retry_429) {
            Verdict::Retry => {
                stats.metadata_retried.add(families);
                self.failures += 1;
                self.due = (now + self.backoff.wait()).min(self.next_round);
                return;
            }
            Verdict::Accepted { .. } => stats.metadata.add(families),
            _ => stats.metadata_failed.add(families),
        }
        self.requests.pop_front();
        self.backoff = Backoff::new(self.queue.0, self.queue.1);
        self.failures = 0;
        self.due = if self.requests.is_empty() { self.next_round } else { now };
    }

    fn begin_round(&mut self) {
        let before = self.lists.len();
        self.lists.retain(|_, list| list.strong_count() > 0);
        if self.lists.len() < before {
            self.families.clear();
            self.lists.values().filter_map(Weak::upgrade).for_each(|list| learn(&list, &mut self.families));
        }
        let mut names: Vec<&str> = self.families.keys().map(AsRef::as_ref).collect();
        names.sort_unstable();
        for names in names.chunks(self.settings.max_samples_per_send) {
            let families = names.iter().map(|&name| {
                let family = &self.families[name];
                FamilyMetadata { name, kind: family.kind, help: &family.help, unit: &family.unit }
            });
            let mut body = Vec::new();
            encode_metadata(families, &mut body);
            self.requests.push_back((body.into(), names.len() as u64));
        }
    }
}

fn learn(list: &SeriesList, families: &mut HashMap<Box<str>, Family>) {
    let table = list.table().lock();
    for id in list.series() {
        let view = table.view(id);
        let name = legacy_name(view.family(), true);
        if families.contains_key(&*name) || families.len() >= MAX_FAMILIES {
            continue;
        }
        let family = Family { kind: view.kind(), help: view.help().into(), unit: view.unit().into() };
        families.insert(name.into(), family);
    }
}

/// What a receiver of 2.0 was told in this interval.
pub(super) struct Told {
    settings: MetadataConfig,
    next_round: Instant,
    lists: HashSet<u64>,
    families: HashSet<Box<str>>,
}

impl Told {
    pub(super) fn new(settings: MetadataConfig, now: Instant) -> Self {
        Told { settings, next_round: now, lists: HashSet::new(), families: HashSet::new() }
    }

    /// Whether a request of these batches is to tell help and unit: of some family in it they were not told lately. From
    /// now on they count as told.
    pub(super) fn lacks(&mut self, batches: &[Numbered], now: Instant) -> bool {
        if !self.settings.send {
            return false;
        }
        if now >= self.next_round {
            self.next_round = now + self.settings.send_interval;
            self.lists.clear();
            self.families.clear();
        }
        let mut lacks = false;
        for numbered in batches {
            let list = numbered.batch.shape().list();
            if self.lists.len() < MAX_LISTS && self.lists.insert(list.id()) {
                lacks |= self.note(list);
            }
        }
        lacks
    }

    /// Notes the families of a list. `true` where one of them is new and has something to tell.
    fn note(&mut self, list: &SeriesList) -> bool {
        let table = list.table().lock();
        let (mut lacks, mut last) = (false, "");
        for view in list.series().map(|id| table.view(id)) {
            let family = view.family();
            let has_more = !view.help().is_empty() || !view.unit().is_empty();
            // The series of a family come together.
            if family != last && has_more && self.families.len() < MAX_FAMILIES {
                lacks |= self.families.insert(family.into());
            }
            last = family;
        }
        lacks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Form, SeriesSpec, SeriesTable, Shape, Source};

    fn batch(table: &Arc<SeriesTable>, families: &[(&str, &str)]) -> Numbered {
        let acquire = |&(name, help): &(&str, &str)| {
            let spec = SeriesSpec { name, family: name, kind: Kind::Gauge, help, unit: "", labels: &[] };
            (table.lock().acquire(&spec), Form::Always)
        };
        let floats = families.iter().map(acquire).collect();
        let source = Arc::new(Source { name: "s".into(), labels: Vec::new() });
        let mut batch = Batch::default();
        batch.shape = Some(Shape::new(source, table.clone(), floats, Vec::new()));
        Numbered { sequence: 0, batch: Arc::new(batch) }
    }

    #[test]
    fn what_a_family_is_goes_once_an_interval() {
        let (table, now) = (Arc::new(SeriesTable::default()), Instant::now());
        let interval = Duration::from_secs(60);
        let settings = MetadataConfig { send: true, send_interval: interval, max_samples_per_send: 1 };
        let mut told = Told::new(settings.clone(), now);
        let first = batch(&table, &[("a", "an a"), ("b", "")]);
        let (same, more) = (batch(&table, &[("a", "an a")]), batch(&table, &[("a", "an a"), ("c", "a c")]));
        let mut lacks = |batches: &[&Numbered], at| {
            let batches: Vec<Numbered> = batches.iter().map(|&one| one.clone()).collect();
            told.lacks(&batches, now + at)
        };
        assert!(lacks(&[&first], Duration::ZERO));
        assert!(!lacks(&[&first, &same], interval / 2), "the same family in another list");
        assert!(lacks(&[&first, &more], interval / 2), "a family that is new");
        assert!(!lacks(&[&batch(&table, &[("b", "")])], interval / 2), "nothing to tell");
        assert!(lacks(&[&same], interval), "the next interval");
        assert!(!lacks(&[&same], interval));
        let mut never = Told::new(MetadataConfig { send: false, ..settings }, now);
        assert!(!never.lacks(&[first], now));
    }
}
