//! A steady tick allocates nothing: not to append it to the log, not to read it there, not to encode it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use collector::aggregate::{Aggregator, Tail};
use collector::batch_log::{BatchLog, Journal, LANES, Limits};
use collector::encode::{Encoder, Options, Protocol};
use collector::model::{Batch, Numbered, SeriesTable};
use collector::ring::{self, ring};
use collector::self_metrics::{Counters, EndpointStats, SelfReader};
use collector::sinks::remote_write::Feed;
use collector::sources::ebpf::{EbpfOptions, EbpfReader};
use collector::sources::host::{FlagValues, HostReader, Paths, Selection};
use collector::sources::scrape::page::{Format, Layouts};
use collector_tests::allocation::{Counting, allocations_of, in_use, turn};
use collector_tests::logged::Maker;
use collector_tests::scraped::{Made, START_MS, Target, rules};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn the_count_counts() {
    let _turn = turn();
    assert_eq!(allocations_of(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn a_steady_tick_through_the_log_and_the_encoders() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let table = Arc::new(SeriesTable::default());
    let maker = Maker::new(&table);
    let mut log = BatchLog::open(folder.path(), Limits::default(), table).unwrap();
    let mut position = log.position("main").unwrap();
    let mut reader = log.reader(position.next());
    let mut encoders = [Protocol::V1, Protocol::V2].map(|protocol| {
        [false, true].map(|native_histograms| {
            Encoder::new(Options { protocol, native_histograms, ..Options::default() })
        })
    });
    let ticks: Vec<[Batch; 2]> = (0..100).map(|n| [maker.batch(2 * n + 1), maker.batch(2 * n + 2)]).collect();
    let (mut slab, mut body) = (Batch::default(), Vec::new());
    let mut tick = |number: usize| {
        for batch in &ticks[number] {
            log.append(batch).unwrap();
            let sequence = reader.read(&mut slab).unwrap().unwrap();
            position.acknowledge(sequence).unwrap();
        }
        for encoder in encoders.iter_mut().flatten() {
            body.clear();
            let encoded = encoder.encode(&[&ticks[number][0], &ticks[number][1]], &mut body);
            assert!(encoded.planned > 0 || number == 0);
        }
    };
    (0..70).for_each(&mut tick);
    assert_eq!(allocations_of(|| (70..100).for_each(&mut tick)), 0);
}

#[test]
fn a_page_that_comes_again() {
    let _turn = turn();
    let mut made = Made::new(1000);
    let mut text = String::new();
    let pages: Vec<String> = (0..40)
        .map(|n| {
            made.write(&mut text);
            // Times of their own, words, blank ends.
            format!("{text}a NaN \nb 1 {}\nc -Inf\t\n", START_MS + n)
        })
        .collect();
    let mut target = Target::new(rules());
    let mut read = |number: usize| {
        let outcome = target.read(pages[number].as_bytes(), Format::Text).unwrap();
        assert_eq!((outcome.scraped, outcome.out_of_order), (1003, 0));
    };
    (0..20).for_each(&mut read);
    assert_eq!(allocations_of(|| (20..40).for_each(&mut read)), 0);
}

#[test]
fn targets_with_equal_pages_take_little_each() {
    let _turn = turn();
    const SERIES: usize = 1000;
    let (layouts, table) = (Layouts::new(), Arc::new(SeriesTable::default()));
    let mut page = String::new();
    Made::new(SERIES).write(&mut page);
    let take = |number: usize| {
        let mut target = Target::sharing(rules(), &format!("host-{number}:1"), &layouts, &table);
        target.read(page.as_bytes(), Format::Text).unwrap();
        target.give_slab_back();
        target
    };
    let before = in_use();
    let first = take(0);
    let one = in_use() - before;
    let more: Vec<Target> = (1..101).map(take).collect();
    let each = (in_use() - before - one) / more.len();
    assert!(one / SERIES < 400, "{} bytes a series in all", one / SERIES);
    assert!(each < 20 * SERIES, "{} bytes a series for each target more", each / SERIES);
    eprintln!("{} bytes a series in all, {each} bytes for each target more", one / SERIES);
    drop((first, more));
    assert!(table.is_empty());
}

/// Everything between this host and a request, as the daemon wires it, on one thread.
struct Whole {
    host: HostReader,
    probes: EbpfReader,
    own: SelfReader,
    ring: ring::Sender,
    aggregator: Aggregator,
    feed: Feed,
    stats: Arc<EndpointStats>,
    encoders: Vec<Encoder>,
    batches: Vec<Numbered>,
    body: Vec<u8>,
    time_ms: i64,
}

impl Whole {
    fn new(folder: &std::path::Path) -> Self {
        let (table, counters) = (Arc::new(SeriesTable::default()), Arc::new(Counters::default()));
        let (sender, receiver) = ring(256);
        let stats = Arc::new(EndpointStats::new("r", "http://127.0.0.1/"));
        counters.set_endpoints(vec![stats.clone()]);
        counters.log_open.set(1);
        let journal = Journal::open(folder, 1 << 30, Duration::from_secs(86_400), &table).unwrap();
        let tail = Arc::new(Tail::new(journal.next()));
        let backlog = journal.backlog("r").unwrap();
        let flags = FlagValues::default();
        let host = HostReader::new(&Paths::default(), &flags, |_, default| default, &[], &table).unwrap();
        let encoders = [Protocol::V1, Protocol::V2].map(|protocol| {
            Encoder::new(Options {
                protocol,
                native_histograms: protocol == Protocol::V2,
                ..Options::default()
            })
        });
        let own =
            SelfReader::new(counters.clone(), sender.clone(), table.clone(), &[], host.network_octets());
        Whole {
            host,
            probes: EbpfReader::start(&EbpfOptions::default(), &[], &table),
            own,
            ring: sender,
            aggregator: Aggregator::new(
                receiver,
                tail.clone(),
                Arc::new(Mutex::new(Some(journal))),
                counters,
            ),
            feed: Feed::new(tail, Some(backlog)),
            stats,
            encoders: encoders.into(),
            batches: Vec::new(),
            body: Vec::new(),
            time_ms: 1_790_000_000_000,
        }
    }

    /// One tick; how many samples became requests.
    fn tick(&mut self) -> usize {
        self.time_ms += 1000;
        let ring = &self.ring;
        self.host.run(&Selection::All, self.time_ms, || ring.slab(), |batch| ring.send(batch));
        self.probes.read(self.time_ms, || ring.slab(), |batch| ring.send(batch));
        ring.send(self.own.read(ring.slab(), self.time_ms));
        self.aggregator.drain();
        self.batches.clear();
        self.feed.fill(100_000, 1, &self.stats);
        let lanes = self.feed.take(LANES, 100_000, false, &mut self.batches);
        let taken = self.batches.iter().map(|numbered| numbered.batch.samples()).sum();
        let mut samples = 0;
        for encoder in &mut self.encoders {
            self.body.clear();
            samples += encoder.encode(&self.batches, &mut self.body).samples;
        }
        self.feed.settle(lanes, taken);
        self.stats.acknowledged.set(self.feed.acknowledge());
        samples
    }
}

/// On a living host a disk or an address may come between two ticks, and a shape with it. So ticks are taken in
/// windows, of which one must be without allocation; whatever allocates at every tick shows in every window.
#[test]
fn a_steady_tick_from_the_host_to_the_request() {
    let _turn = turn();
    const WINDOWS: usize = 40;
    const TICKS: usize = 10;
    let folder = tempfile::tempdir().unwrap();
    let mut whole = Whole::new(folder.path());
    let mut seen = Vec::new();
    for _ in 0..WINDOWS {
        let mut samples = 0;
        let allocations = allocations_of(|| samples = (0..TICKS).map(|_| whole.tick()).sum());
        assert!(samples > TICKS * 300, "a tick has hundreds of samples: {samples}");
        if allocations == 0 {
            return;
        }
        seen.push(allocations);
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("no window of {TICKS} ticks was without allocation: {seen:?}");
}
