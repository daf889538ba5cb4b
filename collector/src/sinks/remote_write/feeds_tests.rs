//! Places of lanes over a restart, gaps of the log, and the newest first.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::feed::Feed;
use super::*;
use crate::aggregate::Tail;
use crate::batch_log::{Journal, LANES};
use crate::model::{Batch, Form, Kind, SeriesSpec, SeriesTable, Shape, Source};
use crate::self_metrics::{Counters, DropReason};

/// A process: the log and the window in front of it.
struct Life {
    journal: Journal,
    tail: Arc<Tail>,
    feeds: Feeds,
    table: Arc<SeriesTable>,
    stats: EndpointStats,
}

impl Life {
    fn begin(folder: &Path) -> Self {
        Life::begin_so(folder, false)
    }

    fn begin_so(folder: &Path, newest_first: bool) -> Self {
        let table = Arc::new(SeriesTable::default());
        let journal = Journal::open(folder, 1 << 30, Duration::from_secs(86_400), &table).unwrap();
        let tail = Arc::new(Tail::new(journal.next()));
        let feed = Feed::new(tail.clone(), Some(journal.backlog("r").unwrap()));
        let (mut feeds, stats) = (Feeds::new(feed, newest_first), EndpointStats::new("r", "u"));
        feeds.acknowledge(&stats);
        Life { journal, tail, feeds, table, stats }
    }

    fn append(&mut self, source: &str, samples: usize) {
        let mut guard = self.table.lock();
        let names: Vec<String> = (0..samples).map(|n| format!("series_{n}")).collect();
        let spec =
            |name| SeriesSpec { name, family: name, kind: Kind::Gauge, help: "", unit: "", labels: &[] };
        let floats = names.iter().map(|name| (guard.acquire(&spec(name)), Form::Always)).collect();
        drop(guard);
        let source = Arc::new(Source { name: source.into(), labels: Vec::new() });
        let mut batch = Batch::default();
        batch.time_ms = 1_790_000_000_000 + self.tail.next() as i64;
        batch.values.resize(samples, 1.0);
        batch.shape = Some(Shape::new(source, self.table.clone(), floats, Vec::new()));
        self.journal.append(self.tail.next(), &batch, &Counters::default());
        self.tail.push(&batch);
        self.journal.commit(&Counters::default());
        self.tail.publish();
    }

    /// The source, the number and the samples of each batch of the next request.
    fn take(&mut self, lanes: usize, max_samples: usize) -> (LaneSet, Vec<(String, u64, usize)>) {
        self.take_of(Part::First, lanes, max_samples, false)
    }

    fn take_of(
        &mut self,
        part: Part,
        lanes: usize,
        max_samples: usize,
        rounds: bool,
    ) -> (LaneSet, Vec<(String, u64, usize)>) {
        self.feeds.fill(part, max_samples, 1, &self.stats);
        let mut out = Vec::new();
        let taken = self.feeds.take(part, lanes, max_samples, rounds, &mut out);
        let of = |n: &Numbered| (n.batch.shape().source.name.clone(), n.sequence, n.batch.samples());
        (taken, out.iter().map(of).collect())
    }
}

impl Life {
    fn settle(&mut self, lanes: LaneSet, samples: usize) -> bool {
        self.feeds.settle(Part::First, lanes, samples, &self.stats)
    }

    fn pending(&self) -> u64 {
        self.tail.next() - self.stats.fetched.get() + self.stats.held.get()
    }
}

fn entry(source: &str, sequence: u64, samples: usize) -> (String, u64, usize) {
    (source.to_owned(), sequence, samples)
}

#[test]
fn a_lane_goes_on_where_it_was_and_sends_nothing_again_that_it_had_settled() {
    let folder = tempfile::tempdir().unwrap();
    {
        let mut life = Life::begin(folder.path());
        for source in ["self", "host/cpu", "self", "host/cpu"] {
            life.append(source, 10);
        }
        let (_unanswered, first) = life.take(1, 40);
        assert_eq!(first, [entry("self", 1, 10), entry("self", 21, 10)]);
        let (answered, second) = life.take(1, 20);
        assert_eq!(second, [entry("host/cpu", 11, 10), entry("host/cpu", 31, 10)]);
        life.settle(answered, 20);
        assert_eq!((life.stats.acknowledged.get(), life.stats.held.get()), (1, 20));
    }
    let mut life = Life::begin(folder.path());
    life.append("host/cpu", 10);
    let (lanes, again) = life.take(LANES, 100);
    assert_eq!(again, [entry("self", 1, 10), entry("self", 21, 10), entry("host/cpu", 41, 10)]);
    life.settle(lanes, 30);
    assert_eq!((life.stats.acknowledged.get(), life.stats.held.get(), life.feeds.waiting()), (51, 0, 0));
    assert_eq!(life.stats.dropped(DropReason::MemoryFull).get(), 0);
}

#[test]
fn a_batch_that_was_sent_in_part_goes_on_with_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    {
        let mut life = Life::begin(folder.path());
        life.append("job/large", 10);
        let (lanes, first) = life.take(LANES, 4);
        assert_eq!(first, [entry("job/large", 1, 4)]);
        life.settle(lanes, 4);
        assert_eq!(life.stats.acknowledged.get(), 5);
        assert_eq!(life.take(LANES, 4).1, [entry("job/large", 5, 4)], "its answer does not come");
    }
    let mut life = Life::begin(folder.path());
    let (lanes, rest) = life.take(LANES, 100);
    assert_eq!(rest, [entry("job/large", 5, 6)]);
    life.settle(lanes, 6);
    assert_eq!((life.stats.acknowledged.get(), life.feeds.waiting()), (11, 0));
}

/// Writes zeros over the log from its byte `from` on, up to `to`.
fn damage(folder: &Path, from: u64, to: u64) {
    use std::os::unix::fs::FileExt as _;
    let path = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let path = path.into_iter().find(|path| path.extension().is_some_and(|end| end == "batches")).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&vec![0; (to - from) as usize], from).unwrap();
}

fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let segments = entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "batches"));
    segments.map(|entry| entry.metadata().unwrap().len()).sum()
}

#[test]
fn of_a_gap_only_what_no_lane_had_sent_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to);
    {
        let mut life = Life::begin(folder.path());
        for source in ["self", "host/cpu", "self", "host/cpu"] {
            life.append(source, 10);
        }
        from = bytes(folder.path());
        for source in ["self", "host/cpu", "host/cpu"] {
            life.append(source, 10);
        }
        to = bytes(folder.path());
        life.append("self", 10);
        let (_unanswered, first) = life.take(1, 60);
        assert_eq!(first, [entry("self", 1, 10), entry("self", 21, 10), entry("self", 41, 10)]);
        let (answered, second) = life.take(1, 100);
        assert_eq!(second.len(), 4, "all of host/cpu");
        life.settle(answered, 40);
        assert_eq!(life.pending(), 40, "four of self");
    }
    damage(folder.path(), from, to);
    let mut life = Life::begin(folder.path());
    assert_eq!((life.feeds.waiting(), life.feeds.reached()), (40, 81));
    let (lanes, again) = life.take(LANES, 100);
    assert_eq!(again, [entry("self", 1, 10), entry("self", 21, 10), entry("self", 71, 10)]);
    assert_eq!(life.stats.dropped(DropReason::Corrupt).get(), 10, "one of self; two of host/cpu were sent");
    assert_eq!(life.stats.dropped(DropReason::MemoryFull).get(), 0);
    life.settle(lanes, 30);
    assert_eq!((life.pending(), life.feeds.waiting()), (0, 0));
}

/// One batch of as many samples as make the newest go first.
const MANY: usize = 1000;
const BATCHES: usize = LANE_SAMPLES / MANY + 2;

#[test]
fn the_newest_goes_first_and_the_backlog_beside_it_also_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    {
        let mut life = Life::begin_so(folder.path(), true);
        (0..BATCHES).for_each(|_| life.append("self", MANY));
        life.append("host/cpu", 10);
    }
    let end = (BATCHES * MANY + 11) as u64;
    {
        let mut life = Life::begin_so(folder.path(), true);
        life.feeds.split();
        assert_eq!((life.feeds.newest(), life.feeds.reached()), (Part::Second, end));
        life.append("self", MANY);
        let (lanes, newest) = life.take_of(Part::Second, LANES, 5000, false);
        assert_eq!(newest, [entry("self", end, MANY)]);
        assert!(!life.feeds.settle(Part::Second, lanes, MANY, &life.stats));
        let (lanes, oldest) = life.take(LANES, 2000);
        assert_eq!(oldest, [entry("self", 1, MANY), entry("self", 1001, MANY)]);
        assert!(!life.settle(lanes, 2000));
        assert_eq!(life.pending(), end - 2001);
    }
    let mut life = Life::begin_so(folder.path(), true);
    assert_eq!((life.feeds.newest(), life.feeds.waiting()), (Part::Second, end - 2001));
    life.append("self", 7);
    assert_eq!(life.take_of(Part::Second, LANES, 5000, false).1, [entry("self", end + MANY as u64, 7)]);
    let mut next = 2001;
    let united = loop {
        let (lanes, batches) = life.take(LANES, 5000);
        for (_, sequence, samples) in &batches {
            assert_eq!(*sequence, next, "each once, in order");
            next += *samples as u64;
        }
        assert!(!batches.is_empty());
        if life.settle(lanes, batches.iter().map(|batch| batch.2).sum()) {
            break next;
        }
    };
    assert_eq!((united, life.feeds.newest(), life.pending()), (end, Part::First, 7));
    drop(life);
    let mut life = Life::begin_so(folder.path(), true);
    assert_eq!((life.feeds.newest(), life.pending()), (Part::First, 7));
    assert_eq!(life.take(LANES, 5000).1, [entry("self", end + MANY as u64, 7)]);
}

#[test]
fn requests_of_whole_rounds_hold_the_same_sources() {
    let folder = tempfile::tempdir().unwrap();
    let mut life = Life::begin(folder.path());
    for _ in 0..5 {
        ["a", "b", "c"].iter().for_each(|source| life.append(source, 10));
    }
    let mut sizes = Vec::new();
    loop {
        let (lanes, batches) = life.take_of(Part::First, LANES, 80, true);
        if batches.is_empty() {
            break;
        }
        assert_eq!((batches[0].0.as_str(), batches.len() % 3), ("a", 0));
        sizes.push(batches.len());
        life.settle(lanes, batches.len() * 10);
    }
    assert_eq!(sizes, [6, 6, 3], "two rounds fit, and no third");
}

#[test]
fn requests_of_parts_of_a_round_hold_the_same_sources_as_in_the_round_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut life = Life::begin(folder.path());
    for _ in 0..4 {
        ["a", "b", "c", "d", "e"].iter().for_each(|source| life.append(source, 10));
    }
    let mut all = Vec::new();
    loop {
        let (lanes, batches) = life.take_of(Part::First, LANES, 20, true);
        if batches.is_empty() {
            break;
        }
        all.push(batches.iter().map(|batch| batch.0.as_str()).collect::<String>());
        life.settle(lanes, batches.len() * 10);
    }
    assert_eq!(all, ["ab", "cd", "e"].repeat(4));
}
