//! The loss test: the collector is killed, ended and started again, its disk is full, a byte of its log is flipped,
//! its clock is stepped by hours, and its receivers are down, slow, in trouble, throttling, refusing, or lose their answers, all at random. At the
//! end every sample whose batch had reached the log is at each receiver once and in order, or was refused by it, or
//! is among those that the flipped byte cost and that were counted, or is still in the log.
//!
//! The truth about the log is read from the log, each time the collector is down. A sample may come twice only if the
//! answer to the request that brought it was lost: kept back by the receiver, or overtaken by a kill.
//!
//! The clock is that of the collector alone (`sys/clock.rs`): the machine's is not ours to set. It is wrong by multiples
//! of [`STEP_MS`], so the time of a sample says when it was taken by a clock that goes right. In this order a series
//! must come, whatever its times.
//!
//! `COLLECTOR_LOSS_SECONDS` says for how long (180), `COLLECTOR_LOSS_SEED` how. For an hour by hand:
//! `COLLECTOR_LOSS_SECONDS=3600 COLLECTOR_LOSS_SEED=$RANDOM cargo test -p collector-tests --test loss -- --nocapture`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use collector::batch_log::{BatchLog, Count, Limits, Position};
use collector::encode::Options;
use collector::model::{Batch, SeriesTable};
use collector::sinks::remote_write::lane_of;
use collector_tests::mutate::Random;
use collector_tests::process::{Collector, free_port, wait_for};
use collector_tests::recording::{Exchange, Recorder, Reply, Version};
use collector_tests::skip::root_or_skip;
use collector_tests::wire;

const SECONDS: u64 = 180;
const LONG: Duration = Duration::from_secs(60);
/// Steps of the clock are multiples of this, up to so many to both sides: far more than a run lasts, and far less than the
/// log keeps.
const STEP_MS: i64 = 4 * 3_600_000;
const MOST_STEPS: i64 = 3;
/// An answer that was given this little before a kill may not have been heeded.
const OVERTAKEN: Duration = Duration::from_millis(1500);

/// How a receiver behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    Takes,
    IsSlow,
    IsDown,
    Fails,
    Throttles,
    Refuses,
    LosesAnswers,
}

const MANNERS: [Manner; 7] = [
    Manner::Takes,
    Manner::IsSlow,
    Manner::IsDown,
    Manner::Fails,
    Manner::Throttles,
    Manner::Refuses,
    Manner::LosesAnswers,
];

fn reply(manner: Manner, request: &Exchange) -> Reply {
    match manner {
        Manner::Takes => Reply::accepted(request),
        Manner::IsSlow => Reply::accepted(request).after(Duration::from_millis(300)),
        Manner::IsDown => Reply::status(0),
        Manner::Fails => Reply::status(500).body("no room"),
        Manner::Throttles => Reply::status(429).header("Retry-After", "1"),
        Manner::Refuses => Reply::status(400).written(0, 0).body("out of bounds"),
        Manner::LosesAnswers => Reply::accepted(request).hangs_up(),
    }
}

/// A sample: its series, and its time.
type Sample = (String, i64);

/// When a sample was taken by a clock that goes right, from the start of the run on.
fn taken_at(time_ms: i64, start_ms: i64) -> i64 {
    (time_ms - start_ms + STEP_MS / 2).rem_euclid(STEP_MS) - STEP_MS / 2
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

struct Endpoint {
    name: &'static str,
    recorder: Recorder,
    manner: Arc<Mutex<Manner>>,
}

impl Endpoint {
    fn start(name: &'static str) -> Self {
        let manner = Arc::new(Mutex::new(Manner::Takes));
        let told = manner.clone();
        let recorder = Recorder::start(move |_, request| reply(*told.lock().unwrap(), request));
        Endpoint { name, recorder, manner }
    }

    fn become_so(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }
}

/// A small file system in a mount namespace of this thread's own, gone with it.
fn small_disk(folder: &Path) {
    // SAFETY: unshare(2) takes flags; only this thread and its children see the mounts that follow.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0, "root may have a mount namespace");
    for arguments in [&["--make-rprivate", "/"][..], &["-t", "tmpfs", "-o", "size=16m", "loss-test"]] {
        let mut mount = Command::new("mount");
        mount.args(arguments);
        if arguments.len() > 2 {
            mount.arg(folder);
        }
        assert!(mount.status().unwrap().success(), "mount {arguments:?}");
    }
}

fn fill(folder: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(folder.join("filler")).unwrap();
    let mut size = 1 << 20;
    while size > 0 {
        if file.write_all(&vec![1; size]).is_err() {
            size /= 2;
        }
    }
}

/// Everything that the log holds and some lane of some endpoint has not acknowledged.
fn in_the_log(storage: &Path, endpoints: &[Endpoint]) -> BTreeSet<Sample> {
    let limits =
        Limits { max_bytes: 1 << 40, max_age_ms: i64::MAX, count: Count::Samples, ..Limits::default() };
    let log = BatchLog::open(storage, limits, Arc::new(SeriesTable::default())).unwrap();
    let positions: Vec<_> = endpoints.iter().map(|endpoint| log.position(endpoint.name).unwrap()).collect();
    let next = positions.iter().map(Position::next).min().unwrap();
    let (mut reader, mut batch, mut all) = (log.reader(next), Batch::default(), BTreeSet::new());
    // Histograms in their classic form are what both versions are asked for here.
    let options = Options { native_histograms: false, ..Options::default() };
    while let Some(sequence) = reader.read(&mut batch).unwrap() {
        // What its lane has acknowledged everywhere is no longer asked for, and not missed where it is damaged.
        let (lane, end) = (lane_of(&batch.shape().source.name), sequence + batch.samples() as u64);
        if positions.iter().all(|position| position.places()[lane] >= end) {
            continue;
        }
        for sent in wire::expected(&[&batch], &options) {
            let key: String = sent.labels.iter().map(|(name, value)| format!("{name}={value:?},")).collect();
            all.insert((key, sent.time_ms));
        }
    }
    all
}

/// Flips a bit in the first half of some segment: what is damaged at the very end can't be told from a write that a
/// kill broke off.
fn flip(storage: &Path, random: &mut Random) -> bool {
    let mut segments: Vec<PathBuf> = std::fs::read_dir(storage)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "batches"))
        .collect();
    segments.sort();
    let Some(path) = segments.get(random.below(segments.len().max(1))) else { return false };
    let mut bytes = std::fs::read(path).unwrap();
    let half = bytes.len() / 2;
    if half < 10_000 {
        return false;
    }
    let byte = &mut bytes[random.below(half)];
    *byte ^= 1 << random.below(8);
    std::fs::write(path, bytes).is_ok()
}

/// What the run knows.
struct World {
    folder: PathBuf,
    storage: PathBuf,
    endpoints: Vec<Endpoint>,
    port: u16,
    flag: String,
    collector: Option<Collector>,
    started: Instant,
    start_ms: i64,
    /// By how much the collector's clock is wrong.
    clock: PathBuf,
    truth: BTreeSet<Sample>,
    /// Cost by flipped bits.
    lost: BTreeSet<Sample>,
    kills: Vec<Duration>,
    counts: BTreeMap<&'static str, u32>,
}

impl World {
    fn start_collector(&mut self) {
        // It stores in the folder `storage` there.
        self.collector = Some(Collector::start(self.port, &self.folder, &[&self.flag]));
    }

    fn log(&self) -> String {
        self.collector.as_ref().map(|collector| collector.process.log()).unwrap_or_default()
    }

    fn kill(&mut self) {
        if let Some(mut collector) = self.collector.take() {
            self.kills.push(self.started.elapsed());
            collector.process.kill();
        }
        self.kills.push(self.started.elapsed());
        self.truth.extend(in_the_log(&self.storage, &self.endpoints));
    }

    fn terminate(&mut self) {
        let Some(mut collector) = self.collector.take() else { return };
        self.kills.push(self.started.elapsed());
        let status = collector.process.terminate(Duration::from_secs(20));
        assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", collector.process.log());
        self.kills.push(self.started.elapsed());
        self.truth.extend(in_the_log(&self.storage, &self.endpoints));
    }

    /// Between a kill and a start: damages the log, and sees to it that what that costs is counted.
    fn flip_a_byte(&mut self, random: &mut Random) {
        self.kill();
        let before = in_the_log(&self.storage, &self.endpoints);
        if flip(&self.storage, random) {
            let after = in_the_log(&self.storage, &self.endpoints);
            self.lost.extend(before.difference(&after).cloned());
        }
        let cost = before.difference(&in_the_log(&self.storage, &self.endpoints)).count();
        self.start_collector();
        if cost == 0 {
            return;
        }
        *self.counts.entry("flips that cost samples").or_default() += 1;
        self.endpoints.iter().for_each(|endpoint| endpoint.become_so(Manner::Takes));
        let counted = || {
            let page = self.collector.as_ref().map(Collector::metrics);
            let value = |name| {
                let labels = [("remote_name", name), ("reason", "corrupt")];
                page.as_ref()?.value("prometheus_remote_storage_samples_dropped_total", &labels)
            };
            self.endpoints.iter().any(|endpoint| value(endpoint.name).unwrap_or(0.0) > 0.0)
        };
        assert!(wait_for(LONG, counted), "{cost} samples were lost and not counted: {}", self.log());
    }

    fn step(&mut self, random: &mut Random) {
        let count = |world: &mut World, what| *world.counts.entry(what).or_default() += 1;
        match random.below(13) {
            0 => {
                count(self, "kills");
                self.kill();
                self.start_collector();
            }
            1 => {
                count(self, "ends");
                self.terminate();
                self.start_collector();
            }
            2 => {
                count(self, "full disks");
                fill(&self.storage);
                std::thread::sleep(Duration::from_secs(2));
                std::fs::remove_file(self.storage.join("filler")).unwrap();
            }
            3 => {
                count(self, "flips");
                self.flip_a_byte(random);
            }
            4 => {
                count(self, "clock steps");
                let steps = random.below(2 * MOST_STEPS as usize + 1) as i64 - MOST_STEPS;
                std::fs::write(&self.clock, (steps * STEP_MS).to_string()).unwrap();
            }
            _ => {
                count(self, "manners");
                let at = random.below(self.endpoints.len());
                self.endpoints[at].become_so(MANNERS[random.below(MANNERS.len())]);
            }
        }
        std::thread::sleep(Duration::from_millis(300 + random.below(1500) as u64));
    }

    /// Every endpoint has everything but what a tick brought just now.
    fn drain(&self) {
        self.endpoints.iter().for_each(|endpoint| endpoint.become_so(Manner::Takes));
        let collector = self.collector.as_ref().unwrap();
        let drained = || {
            let page = collector.metrics();
            let pending =
                |name| page.value("prometheus_remote_storage_samples_pending", &[("remote_name", name)]);
            self.endpoints.iter().all(|endpoint| pending(endpoint.name).is_some_and(|n| n < 3000.0))
        };
        assert!(wait_for(LONG, drained), "{}", self.log());
    }

    /// Holds what came to an endpoint against what was in the log; gives what is wrong, or the figures.
    fn judge(&self, recording: &[Exchange], left: &BTreeSet<Sample>) -> Result<String, String> {
        let mut store = Store { start_ms: self.start_ms, ..Store::default() };
        for exchange in recording {
            let killed = |at: &Duration| at.abs_diff(exchange.answered) < OVERTAKEN;
            store.take(exchange, exchange.is_unanswered || self.kills.iter().any(killed))?;
        }
        let is_there =
            |(key, time): &Sample| store.known.get(key).is_some_and(|series| series.contains_key(time));
        let mut missing = self
            .truth
            .iter()
            .filter(|sample| !is_there(sample) && !store.refused.contains(*sample))
            .filter(|sample| !self.lost.contains(*sample) && !left.contains(*sample));
        if let Some(sample) = missing.next() {
            return Err(format!("{} are lost, as {sample:?}", 1 + missing.count()));
        }
        Ok(format!(
            "{} samples taken, {} of them again, {} refused; {} seen in the log, {} lost to flipped bits, {} left there",
            store.known.values().map(BTreeMap::len).sum::<usize>(),
            store.repeated,
            store.refused.len(),
            self.truth.len(),
            self.lost.len(),
            left.len()
        ))
    }
}

/// What a receiver would have stored.
#[derive(Default)]
struct Store {
    start_ms: i64,
    /// The bits of each sample, and whether the answer to its request may have been lost.
    known: BTreeMap<String, BTreeMap<i64, (u64, bool)>>,
    /// When the newest sample of each series was taken.
    newest: BTreeMap<String, i64>,
    refused: BTreeSet<Sample>,
    repeated: u64,
}

impl Store {
    fn take(&mut self, exchange: &Exchange, is_unsure: bool) -> Result<(), String> {
        let is_refused = exchange.status == 400;
        if !is_refused && !exchange.is_accepted() {
            return Ok(());
        }
        for series in exchange.wire()?.series {
            let key = series.key();
            if is_refused {
                self.refused.extend(series.samples.iter().map(|point| (key.clone(), point.0)));
                continue;
            }
            let newest = self.newest.entry(key.clone()).or_insert(i64::MIN);
            let known = self.known.entry(key).or_default();
            for &(time, bits) in &series.samples {
                let taken = taken_at(time, self.start_ms);
                match known.get(&time) {
                    None if *newest > taken => {
                        return Err(format!("{}: {time}, of {taken}, after {newest}", series.key()));
                    }
                    Some(&(before, was_unsure)) if before != bits || !was_unsure => {
                        return Err(format!("{} at {time}: again, though it was acknowledged", series.key()));
                    }
                    found => self.repeated += u64::from(found.is_some()),
                }
                *newest = taken.max(*newest);
                known.insert(time, (bits, is_unsure));
            }
        }
        Ok(())
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn nothing_that_reached_the_log_is_lost() {
    if !root_or_skip("nothing_that_reached_the_log_is_lost") {
        return;
    }
    let seed = setting("COLLECTOR_LOSS_SEED", u64::from(std::process::id()));
    let seconds = setting("COLLECTOR_LOSS_SECONDS", SECONDS);
    eprintln!("COLLECTOR_LOSS_SEED={seed} COLLECTOR_LOSS_SECONDS={seconds}");
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let storage = folder.path().join("storage");
    std::fs::create_dir_all(&storage).unwrap();
    small_disk(&storage);
    let endpoints = vec![Endpoint::start("one"), Endpoint::start("two")];
    let entries: String = endpoints
        .iter()
        .zip([Version::One, Version::Two])
        .map(|(endpoint, version)| {
            format!(
                "  - {{url: '{}', name: {}, protobuf_message: {}, send_native_histograms: false, \
                 metadata_config: {{send: false}}, queue_config: {{max_samples_per_send: 700}}}}\n",
                endpoint.recorder.url(),
                endpoint.name,
                version.message()
            )
        })
        .collect();
    let clock = folder.path().join("clock");
    // SAFETY: this is the only test of the program, and nothing else in it reads or sets variables meanwhile.
    unsafe { std::env::set_var("COLLECTOR_TEST_CLOCK", &clock) };
    let file = folder.path().join("c.yml");
    std::fs::write(&file, format!("global: {{scrape_interval: 200ms}}\nremote_write:\n{entries}")).unwrap();
    let mut world = World {
        folder: folder.path().to_owned(),
        storage,
        endpoints,
        port: free_port(),
        flag: format!("--config.file={}", file.display()),
        collector: None,
        started: Instant::now(),
        start_ms: now_ms(),
        clock,
        truth: BTreeSet::new(),
        lost: BTreeSet::new(),
        kills: Vec::new(),
        counts: BTreeMap::new(),
    };
    world.start_collector();
    while world.started.elapsed() < Duration::from_secs(seconds) {
        world.step(&mut random);
    }
    world.drain();
    world.terminate();
    let left = in_the_log(&world.storage, &world.endpoints);
    eprintln!("{:?}", world.counts);
    for endpoint in &world.endpoints {
        let recording = endpoint.recorder.recording();
        match world.judge(&recording, &left) {
            Ok(figures) => eprintln!("{}: {figures}", endpoint.name),
            Err(why) => panic!("{}: {why}", endpoint.name),
        }
        assert_broken_ones_are_noticed(&world, recording, &left);
    }
    assert!(Command::new("umount").arg("--lazy").arg(&world.storage).status().unwrap().success());
}

/// A receiver that lacks a request, or got one twice, or in another order, does not pass.
fn assert_broken_ones_are_noticed(world: &World, recording: Vec<Exchange>, left: &BTreeSet<Sample>) {
    let sure = |exchange: &Exchange| {
        let killed = |at: &Duration| at.abs_diff(exchange.answered) < 2 * OVERTAKEN;
        exchange.is_accepted() && !exchange.is_unanswered && !world.kills.iter().any(killed)
    };
    let in_truth = |exchange: &Exchange| {
        let series = exchange.wire().unwrap().series;
        series.iter().any(|s| s.samples.iter().any(|point| world.truth.contains(&(s.key(), point.0))))
    };
    let at = recording.iter().position(|exchange| sure(exchange) && in_truth(exchange)).expect("a request");
    let mut lacking = recording.clone();
    let lost = lacking.remove(at).body;
    lacking.retain(|exchange| exchange.body != lost);
    // Every sample of it may have come again in another request: then all that came before is taken away too.
    let is_noticed = world.judge(&lacking, left).is_err() || world.judge(&lacking[at..], left).is_err();
    assert!(is_noticed, "a request is missing");
    let mut twice = recording.clone();
    twice.push(recording[at].clone());
    assert!(world.judge(&twice, left).is_err(), "a request came twice");
    let mut turned = recording;
    turned.reverse();
    assert!(world.judge(&turned, left).is_err(), "requests came in another order");
}
