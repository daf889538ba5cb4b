//! Places of lanes over a restart.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::batch_log::Journal;
use crate::model::{Batch, Form, Kind, SeriesSpec, SeriesTable, Shape, Source};
use crate::self_metrics::Counters;

/// A process: the log and the window in front of it.
struct Life {
    journal: Journal,
    tail: Arc<Tail>,
    feed: Feed,
    table: Arc<SeriesTable>,
    stats: EndpointStats,
}

impl Life {
    fn begin(folder: &Path) -> Self {
        let table = Arc::new(SeriesTable::default());
        let journal = Journal::open(folder, 1 << 30, Duration::from_secs(86_400), &table).unwrap();
        let tail = Arc::new(Tail::new(journal.next()));
        let feed = Feed::new(tail.clone(), Some(journal.backlog("r").unwrap()));
        Life { journal, tail, feed, table, stats: EndpointStats::new("r", "u") }
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
        batch.time_ms = 1_790_000_000_000;
        batch.values.resize(samples, 1.0);
        batch.shape = Some(Shape::new(source, self.table.clone(), floats, Vec::new()));
        self.journal.append(self.tail.next(), &batch, &Counters::default());
        self.journal.commit(&Counters::default());
        self.tail.push(&batch);
        self.tail.publish();
    }

    /// The source, the number and the samples of each batch of the next request.
    fn take(&mut self, lanes: usize, max_samples: usize) -> (LaneSet, Vec<(String, u64, usize)>) {
        self.feed.fill(max_samples, &self.stats);
        let mut out = Vec::new();
        let taken = self.feed.take(lanes, max_samples, &mut out);
        let of = |n: &Numbered| (n.batch.shape().source.name.clone(), n.sequence, n.batch.samples());
        (taken, out.iter().map(of).collect())
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
        life.feed.settle(answered, 20, &life.stats);
        assert_eq!((life.stats.acknowledged.get(), life.stats.held.get()), (1, 20));
    }
    let mut life = Life::begin(folder.path());
    life.append("host/cpu", 10);
    let (lanes, again) = life.take(LANES, 100);
    assert_eq!(again, [entry("self", 1, 10), entry("self", 21, 10), entry("host/cpu", 41, 10)]);
    life.feed.settle(lanes, 30, &life.stats);
    assert_eq!((life.stats.acknowledged.get(), life.stats.held.get(), life.feed.waiting()), (51, 0, 0));
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
        life.feed.settle(lanes, 4, &life.stats);
        assert_eq!(life.stats.acknowledged.get(), 5);
        assert_eq!(life.take(LANES, 4).1, [entry("job/large", 5, 4)], "its answer does not come");
    }
    let mut life = Life::begin(folder.path());
    let (lanes, rest) = life.take(LANES, 100);
    assert_eq!(rest, [entry("job/large", 5, 6)]);
    life.feed.settle(lanes, 6, &life.stats);
    assert_eq!((life.stats.acknowledged.get(), life.feed.waiting()), (11, 0));
}
