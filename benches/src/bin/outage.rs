//! `cargo xtask bench outage`: a day without the endpoint, kept in the batch log, and what sends it afterwards.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use collector::aggregate::{Aggregator, SharedJournal, Tail};
use collector::batch_log::Journal;
use collector::config::{Endpoint, parse_config};
use collector::model::SeriesTable;
use collector::ring;
use collector::self_metrics::{Counters, EndpointStats};
use collector::sinks::remote_write::{Accords, Command as Told, Feed, Sender};
use collector_benches::ingest::PEER_CORE;
use collector_benches::ingest::peer::{own_cpu, pin, pin_tools};
use collector_benches::outage::hosts::{Hosts, Kind, Made};
use collector_benches::outage::receiver::Receiver;

const USAGE: &str = "outage [--hours=24] [--hosts=10] [--series=1000] [--protocols=1,2] [--values=host|noise] \
                     [--batches=page|collector] [--folder=DIR] [--keys=YAML]";
/// Between two scrapes during the outage, and of the hosts while it is made good.
const TICK_MS: i64 = 15_000;
const LIVE_TICK: Duration = Duration::from_secs(1);
/// What the log may take: more than any outage that is tried.
const MAX_BYTES: u64 = 16 << 30;
const MAX_AGE: Duration = Duration::from_secs(30 * 86_400);
const NAME: &str = "outage";
/// Between two looks at how much memory is resident.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Clone)]
struct Wanted {
    hours: u64,
    kind: Kind,
    protocols: String,
    folder: PathBuf,
    /// More keys of the endpoint.
    keys: String,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (step, options) = match arguments.split_first() {
        Some((first, rest)) if !first.starts_with('-') => (Some(first.as_str()), rest),
        _ => (None, &arguments[..]),
    };
    let wanted = parse(options)?;
    match step {
        None => whole(&wanted),
        Some("write") => write(&wanted),
        Some(port) => send(&wanted, port.parse().context(USAGE)?),
    }
}

fn parse(options: &[String]) -> anyhow::Result<Wanted> {
    let mut wanted = Wanted {
        hours: 24,
        kind: Kind { hosts: 10, series: 1000, noise: false, apart: false },
        protocols: "1,2".to_owned(),
        folder: std::env::temp_dir(),
        keys: String::new(),
    };
    for option in options {
        let (name, value) = option.split_once('=').context(USAGE)?;
        match name {
            "--hours" => wanted.hours = value.parse()?,
            "--hosts" => wanted.kind.hosts = value.parse()?,
            "--series" => wanted.kind.series = value.parse()?,
            "--protocols" => wanted.protocols = value.to_owned(),
            "--values" => wanted.kind.noise = value == "noise",
            "--batches" => wanted.kind.apart = value == "collector",
            "--folder" => wanted.folder = value.into(),
            "--keys" => wanted.keys = value.to_owned(),
            _ => bail!("usage: {USAGE}"),
        }
    }
    Ok(wanted)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_millis() as i64)
}

/// Resident memory of a process, now or at the most, in MiB.
fn resident(pid: u32, key: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// The figures that a step printed, `name=number` each.
fn figures(text: &str) -> HashMap<&str, f64> {
    text.split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .filter_map(|(n, v)| Some((n, v.parse().ok()?)))
        .collect()
}

/// Each step is a process of its own, so that nothing is left of the one before.
fn step(first: &str, wanted: &Wanted) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(first).args([
        format!("--hours={}", wanted.hours),
        format!("--hosts={}", wanted.kind.hosts),
        format!("--series={}", wanted.kind.series),
        format!("--protocols={}", wanted.protocols),
        format!("--values={}", if wanted.kind.noise { "noise" } else { "host" }),
        format!("--batches={}", if wanted.kind.apart { "collector" } else { "page" }),
        format!("--folder={}", wanted.folder.display()),
        format!("--keys={}", wanted.keys),
    ]);
    command.stdout(Stdio::piped());
    Ok(command)
}

fn whole(wanted: &Wanted) -> anyhow::Result<()> {
    pin_tools().context("the benchmark needs two cores")?;
    let room = tempfile::tempdir_in(&wanted.folder)?;
    let log = room.path().join("log");
    let output = step("write", &Wanted { folder: log.clone(), ..wanted.clone() })?.output()?;
    ensure!(output.status.success(), "the log was not written");
    let text = String::from_utf8(output.stdout)?;
    let made = figures(&text);
    let sum: u64 =
        text.split_whitespace().find_map(|pair| pair.strip_prefix("sum=")?.parse().ok()).context("a sum")?;
    println!(
        "{} h of {} hosts x {:.0} series: {:.1} M samples, {:.2} bytes each on the disk ({:.0} MiB, {} segments), \
         {:.0} ns each from the ring to the log, resident {:.0} MiB at the most",
        wanted.hours,
        wanted.kind.hosts,
        made["samples"] / made["ticks"] / wanted.kind.hosts as f64,
        made["samples"] / 1e6,
        made["bytes"] / made["samples"],
        made["bytes"] / 1024.0 / 1024.0,
        made["segments"],
        made["cpu"] / made["samples"] * 1e9,
        made["peak"],
    );
    for protocol in wanted.protocols.split(',') {
        let copy = room.path().join(format!("log{protocol}"));
        let copied = Command::new("cp").arg("-r").args([&log, &copy]).status()?;
        ensure!(copied.success(), "the log can't be copied");
        let wanted = Wanted { folder: copy.clone(), protocols: protocol.to_owned(), ..wanted.clone() };
        catch_up(&wanted, Made { samples: made["samples"] as u64, sum })?;
        std::fs::remove_dir_all(&copy)?;
    }
    Ok(())
}

/// Starts the sender, looks at it while it catches up, and says how it was.
fn catch_up(wanted: &Wanted, logged: Made) -> anyhow::Result<()> {
    let receiver = Receiver::start()?;
    receiver.live_from(now_ms());
    let own = own_cpu();
    let mut child = step(&receiver.port.to_string(), wanted)?.spawn()?;
    let mut memory = Vec::new();
    while child.try_wait()?.is_none() {
        std::thread::sleep(LOOK_EVERY);
        memory.push((receiver.counts().samples, resident(child.id(), "VmRSS:")));
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the log was not sent");
    let (counts, own) = (receiver.counts(), own_cpu() - own);
    let text = String::from_utf8(output.stdout)?;
    let sent = figures(&text);
    let at = |share: f64| {
        let reached = (logged.samples as f64 * share) as u64;
        memory.iter().find(|(samples, _)| *samples >= reached).map_or(0.0, |(_, resident)| *resident)
    };
    let live: u64 = text
        .split_whitespace()
        .find_map(|pair| pair.strip_prefix("live_sum=")?.parse().ok())
        .context("a sum")?;
    let is_exact = counts.samples == logged.samples + sent["live"] as u64
        && counts.sum == logged.sum.wrapping_add(live)
        && counts.faults == 0;
    println!(
        "remote write {}.0: opened in {:.1} ms; caught up in {:.1} s: {:.2} M samples/s, {:.1} CPU s of the sender ({:.0} ns a \
         sample, {:.2} M samples/s of its core), {:.1} of the receiver; {:.2} bytes a sample in {} requests",
        wanted.protocols,
        sent["open"] * 1e3,
        sent["took"],
        logged.samples as f64 / sent["took"] / 1e6,
        sent["cpu"],
        sent["cpu"] / logged.samples as f64 * 1e9,
        logged.samples as f64 / sent["cpu"] / 1e6,
        own,
        counts.body_bytes as f64 / counts.samples as f64,
        counts.requests,
    );
    println!(
        "  resident {:.1} MiB at a tenth, {:.1} at a half, {:.1} at nine tenths, {:.1} at the most; {} live samples beside it, \
         {:.1} s old at the mean, {:.1} at the most; all of them came {}",
        at(0.1),
        at(0.5),
        at(0.9),
        sent["peak"],
        sent["live"],
        counts.live_age_ms as f64 / 1e3 / counts.live.max(1) as f64,
        counts.live_age_max_ms as f64 / 1e3,
        if is_exact { "exactly once" } else { "NOT exactly once" },
    );
    ensure!(is_exact, "{counts:?} of {logged:?}\n{text}");
    Ok(())
}

/// The way of a batch from a source to its endpoints.
struct Way {
    ring: ring::Sender,
    aggregator: Aggregator,
    tail: Arc<Tail>,
    journal: SharedJournal,
    counters: Arc<Counters>,
}

fn way(wanted: &Wanted, table: &Arc<SeriesTable>) -> anyhow::Result<Way> {
    let counters = Arc::new(Counters::default());
    let opened = Journal::open(&wanted.folder, MAX_BYTES, MAX_AGE, table)?;
    let tail = Arc::new(Tail::new(opened.next()));
    let journal: SharedJournal = Arc::new(Mutex::new(Some(opened)));
    let (ring, receiver) = ring::ring(collector::limits::RING_BATCHES);
    let aggregator = Aggregator::new(receiver, tail.clone(), journal.clone(), counters.clone());
    Ok(Way { ring, aggregator, tail, journal, counters })
}

/// The outage: every scrape goes through the ring and the aggregator into the log, as fast as it goes.
fn write(wanted: &Wanted) -> anyhow::Result<()> {
    pin(PEER_CORE)?;
    collector::sys::memory::keep_small();
    let table = Arc::new(SeriesTable::default());
    let Way { ring, mut aggregator, journal, counters, .. } = way(wanted, &table)?;
    // An endpoint that has acknowledged nothing.
    let held = journal.lock().expect("nobody panics with it").as_ref().expect("it is open").backlog(NAME)?;
    counters.set_endpoints(vec![Arc::new(EndpointStats::new(NAME, ""))]);
    let mut hosts = Hosts::new(&table, wanted.kind);
    let ticks = wanted.hours as i64 * 3_600_000 / TICK_MS;
    let (start, mut cpu) = (now_ms() - ticks * TICK_MS, Duration::ZERO);
    for tick in 0..ticks {
        hosts.scrape(start + tick * TICK_MS, &ring);
        let before = Instant::now();
        aggregator.drain();
        cpu += before.elapsed();
    }
    drop(held);
    println!(
        "ticks={ticks} samples={} sum={} bytes={} segments={} cpu={} peak={}",
        hosts.made.samples,
        hosts.made.sum,
        counters.log_bytes.get(),
        counters.log_segments.get(),
        cpu.as_secs_f64(),
        resident(std::process::id(), "VmHWM:"),
    );
    Ok(())
}

fn endpoint(wanted: &Wanted, port: u16) -> anyhow::Result<Endpoint> {
    let message = match wanted.protocols.as_str() {
        "1" => "prometheus.WriteRequest",
        _ => "io.prometheus.write.v2.Request",
    };
    let text = format!(
        "remote_write:\n- {{url: 'http://127.0.0.1:{port}/write', name: {NAME}, protobuf_message: {message}, {}}}\n",
        wanted.keys
    );
    let config = parse_config(&text, Path::new("outage.yml"))?;
    config.endpoints.into_iter().next().context("an endpoint")
}

/// The endpoint is back: opens the log anew, and sends it all while the hosts go on.
fn send(wanted: &Wanted, port: u16) -> anyhow::Result<()> {
    pin(PEER_CORE)?;
    collector::sys::memory::keep_small();
    let table = Arc::new(SeriesTable::default());
    let start = Instant::now();
    let Way { ring, aggregator, tail, journal, counters } = way(wanted, &table)?;
    let open = start.elapsed();
    let backlog =
        journal.lock().expect("nobody panics with it").as_ref().expect("it is open").backlog(NAME)?;
    let goal = tail.next();
    let aggregating = std::thread::spawn(move || aggregator.run());
    let stats = Arc::new(EndpointStats::new(NAME, ""));
    counters.set_endpoints(vec![stats.clone()]);
    let sender = Sender::new(endpoint(wanted, port)?, Vec::new(), stats.clone(), &mut Accords::default());
    let sender = sender.map_err(anyhow::Error::msg)?;
    let feed = Feed::new(tail, Some(backlog));
    let over = Arc::new(AtomicBool::new(false));
    let scraping = scrape_live(Hosts::new(&table, wanted.kind), ring, over.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (start, cpu) = (Instant::now(), own_cpu());
    let took = runtime.block_on(async {
        let handle = sender.start(feed);
        while stats.acknowledged.get() < goal {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let took = (start.elapsed(), own_cpu() - cpu);
        over.store(true, Ordering::Relaxed);
        while !scraping.is_finished() || stats.acknowledged.get() < counters.newest_number.get() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        handle.tell(Told::Flush);
        handle.join(tokio::time::Instant::now() + Duration::from_secs(10)).await;
        took
    });
    let made = scraping.join().map_err(|_| anyhow::anyhow!("the hosts ended badly"))?;
    aggregating.join().map_err(|_| anyhow::anyhow!("the aggregator ended badly"))?;
    println!(
        "open={} took={} cpu={} live={} live_sum={} peak={}",
        open.as_secs_f64(),
        took.0.as_secs_f64(),
        took.1,
        made.samples,
        made.sum,
        resident(std::process::id(), "VmHWM:"),
    );
    Ok(())
}

/// Hosts that go on, each second, until it is over; then the ring is closed.
fn scrape_live(mut hosts: Hosts, ring: ring::Sender, over: Arc<AtomicBool>) -> std::thread::JoinHandle<Made> {
    std::thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            hosts.scrape(now_ms(), &ring);
            std::thread::sleep(LIVE_TICK);
        }
        ring.close();
        hosts.made
    })
}
