//! Every series in order and every sample once, whatever large sources do: over random changes of what they say, orders
//! of answers and restarts.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::batch_log::Journal;
use crate::model::{Batch, Form, Kind, SeriesId, SeriesSpec, SeriesTable, Shape, Source};
use crate::self_metrics::Counters;

/// Samples of a block, here.
const BLOCK: usize = 8;
const SOURCES: usize = 6;
/// Series of each source: those of the first two may be large.
const SERIES: [usize; SOURCES] = [60, 60, 6, 6, 6, 6];

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }
}

/// A request that waits for its answer.
struct Request {
    lanes: LaneSet,
    samples: Vec<(SeriesId, i64)>,
}

/// What one process holds, and what outlives it.
struct World {
    journal: Option<Journal>,
    tail: Arc<Tail>,
    feed: Feed,
    max_samples: usize,
    stats: EndpointStats,
    table: Arc<SeriesTable>,
    series: Vec<Vec<SeriesId>>,
    shapes: Vec<Option<Arc<Shape>>>,
    requests: Vec<Request>,
    /// The newest time of each series in any request of this life, and what was settled in all.
    taken: BTreeMap<SeriesId, i64>,
    settled: BTreeMap<SeriesId, Vec<i64>>,
    said: BTreeMap<SeriesId, Vec<i64>>,
    samples: u64,
    batches: i64,
    most_at_once: usize,
}

fn open(folder: &Path, table: &Arc<SeriesTable>) -> (Journal, Arc<Tail>, Feed) {
    let journal = Journal::open(folder, 1 << 30, Duration::from_secs(86_400), table).unwrap();
    let tail = Arc::new(Tail::new(journal.next()));
    let mut feed = Feed::new(tail.clone(), Some(journal.backlog("r").unwrap()));
    feed.blocks = Blocks::of_size(BLOCK);
    feed.acknowledge();
    (journal, tail, feed)
}

impl World {
    fn new(folder: &Path) -> Self {
        let table = Arc::new(SeriesTable::default());
        let (journal, tail, feed) = open(folder, &table);
        let acquire = |source: usize, n: usize| {
            let name = format!("s{source}_{n}");
            let (name, family) = (name.as_str(), name.as_str());
            table.lock().acquire(&SeriesSpec {
                name,
                family,
                kind: Kind::Gauge,
                help: "",
                unit: "",
                labels: &[],
            })
        };
        let series = |source: usize| (0..SERIES[source]).map(|n| acquire(source, n)).collect();
        World {
            journal: Some(journal),
            tail,
            feed,
            max_samples: 5,
            stats: EndpointStats::new("r", "u"),
            series: (0..SOURCES).map(series).collect(),
            table,
            shapes: vec![None; SOURCES],
            requests: Vec::new(),
            taken: BTreeMap::new(),
            settled: BTreeMap::new(),
            said: BTreeMap::new(),
            samples: 0,
            batches: 0,
            most_at_once: 0,
        }
    }

    /// Another list for a source: some of its series in another order; some have times of their own and may come twice.
    fn change(&mut self, source: usize, dice: &mut Dice) {
        let all = &self.series[source];
        let (first, step) = (dice.below(all.len()), [1, 7, 11, 13][dice.below(4)]);
        let many = 1 + dice.below(all.len());
        let ids = (0..many).map(|n| all[(first + n * step) % all.len()]);
        let (floats, histograms) = if step == 1 { (many, 0) } else { (many - many / 4, many / 4) };
        let timed = dice.below(4) == 0;
        let form = if timed { Form::Timed } else { Form::Always };
        let mut list: Vec<_> = ids.clone().take(floats).map(|id| (id, form)).collect();
        if timed {
            (0..dice.below(4)).for_each(|_| list.push(list[dice.below(floats)]));
        }
        let last: Vec<_> = ids.skip(floats).take(histograms).collect();
        let mut table = self.table.lock();
        list.iter().for_each(|&(id, _)| table.retain(id));
        last.iter().for_each(|&id| table.retain(id));
        drop(table);
        let owner = Arc::new(Source { name: format!("source/{source}"), labels: Vec::new() });
        self.shapes[source] = Some(Shape::new(owner, self.table.clone(), list, last));
    }

    fn say(&mut self, dice: &mut Dice) {
        let source = dice.below(SOURCES);
        if self.shapes[source].is_none() || dice.below(3) == 0 {
            self.change(source, dice);
        }
        let shape = self.shapes[source].clone().unwrap();
        self.batches += 1;
        let mut batch = Batch::default();
        batch.time_ms = self.batches * 100;
        for (at, &(_, form)) in shape.floats().iter().enumerate() {
            match form {
                Form::Timed => batch.push_timed(at as f64, batch.time_ms + at as i64),
                _ => batch.values.push(at as f64),
            }
        }
        shape.histograms().iter().for_each(|_| batch.push_histogram().sum = 1.0);
        batch.shape = Some(shape);
        let journal = self.journal.as_mut().unwrap();
        journal.append(self.tail.next(), &batch, &Counters::default());
        journal.commit(&Counters::default());
        self.tail.push(&batch);
        self.tail.publish();
        self.samples += batch.samples() as u64;
        samples_of(&batch).for_each(|(id, time)| self.said.entry(id).or_default().push(time));
        if dice.below(8) == 0 {
            // What is not fetched by now comes from the log.
            self.tail.release(self.tail.next());
        }
    }

    fn begin(&mut self, dice: &mut Dice, seed: u64) {
        self.feed.fill(self.max_samples, 1 + dice.below(8), &self.stats);
        let mut batches = Vec::new();
        let (most, rounds) = (1 << dice.below(7), dice.below(2) == 0);
        let ready = self.feed.lanes.ready();
        let lanes = self.feed.take(most, self.max_samples, rounds, &mut batches);
        assert_eq!(ready > 0, !batches.is_empty(), "seed {seed}: what is said to be ready can be taken");
        let samples: Vec<_> =
            batches.iter().flat_map(|one| samples_of(&one.batch).collect::<Vec<_>>()).collect();
        assert!(samples.len() <= self.max_samples);
        for &(id, time) in &samples {
            let under_way = |request: &Request| request.samples.iter().any(|sample| sample.0 == id);
            assert!(!self.requests.iter().any(under_way), "seed {seed}: {id:?} is in two requests");
            let before = self.taken.insert(id, time);
            assert!(
                before.is_none_or(|before| before < time),
                "seed {seed}: {id:?} {before:?} before {time}"
            );
        }
        if !samples.is_empty() {
            self.requests.push(Request { lanes, samples });
            self.most_at_once = self.most_at_once.max(self.requests.len());
        }
    }

    fn settle(&mut self, at: usize) {
        let request = self.requests.swap_remove(at);
        self.feed.settle(request.lanes, request.samples.len());
        self.feed.acknowledge();
        for (id, time) in request.samples {
            self.settled.entry(id).or_default().push(time);
        }
    }

    /// What is under way may have arrived, but is not settled.
    fn restart(&mut self, folder: &Path, dice: &mut Dice) {
        self.requests.clear();
        self.journal = None;
        let (journal, tail, feed) = open(folder, &self.table);
        (self.journal, self.tail, self.feed) = (Some(journal), tail, feed);
        self.max_samples = 1 + dice.below(20);
        let last = |(id, times): (&SeriesId, &Vec<i64>)| Some((*id, *times.last()?));
        self.taken = self.settled.iter().filter_map(last).collect();
    }

    fn look(&self, seed: u64) {
        let settled = self.settled.values().map(Vec::len).sum::<usize>() as u64;
        assert_eq!(
            self.feed.lag() + self.feed.held(),
            self.samples - settled,
            "seed {seed}: what is pending"
        );
    }
}

fn samples_of(batch: &Batch) -> impl Iterator<Item = (SeriesId, i64)> {
    let shape = batch.shape();
    let floats = shape.floats().iter().enumerate().map(|(at, &(id, _))| (id, batch.time(at)));
    floats.chain(shape.histograms().iter().enumerate().map(|(at, &id)| (id, batch.histogram_time(at))))
}

#[test]
fn each_series_comes_in_order_and_each_sample_once() {
    let mut most_at_once = 0;
    for seed in 1..=60_u64 {
        let folder = tempfile::tempdir().unwrap();
        let (mut world, mut dice) =
            (World::new(folder.path()), Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        for _ in 0..300 {
            match dice.below(20) {
                0..8 => world.say(&mut dice),
                8..14 => world.begin(&mut dice, seed),
                14..19 if !world.requests.is_empty() => {
                    let at = dice.below(world.requests.len());
                    world.settle(at);
                }
                19 if dice.below(3) == 0 => world.restart(folder.path(), &mut dice),
                _ => {}
            }
            world.look(seed);
        }
        loop {
            world.begin(&mut dice, seed);
            let Some(last) = world.requests.len().checked_sub(1) else { break };
            world.settle(last);
        }
        world.look(seed);
        assert!(world.settled == world.said, "seed {seed}: each once");
        assert_eq!(world.feed.lanes.batches(), 0);
        most_at_once = most_at_once.max(world.most_at_once);
    }
    assert!(most_at_once > 8, "{most_at_once} requests at once");
}
