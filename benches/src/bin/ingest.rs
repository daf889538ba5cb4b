//! `cargo xtask bench ingest`: the collector beside the agents that do the same, each alone on a core.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use collector_benches::ingest::exposer::Exposer;
use collector_benches::ingest::load::{DEFAULT_LOADS, LOADS, Load};
use collector_benches::ingest::peer::{self, PEERS, Peer};
use collector_benches::ingest::sink::Sink;

const USAGE: &str = "ingest COLLECTOR [--loads=NAME,..] [--peers=NAME,..] [--seconds=N] [--rounds=N] \
                     [--cpu=PERCENT]";

/// Connections, caches and plans are made before anything is measured.
const WARM_UP: Duration = Duration::from_secs(15);

/// Figures of one run, in the order of [`COLUMNS`].
type Figures = Vec<f64>;

/// Name, and digits behind the point.
const COLUMNS: &[(&str, usize)] = &[
    ("CPU s/M", 3),
    ("in kernel %", 0),
    ("peak MiB", 1),
    ("now MiB", 1),
    ("k/s", 1),
    ("of offered %", 1),
    ("B/sample", 2),
    ("with heads", 2),
    ("per request", 0),
    ("age ms", 1),
    ("max ms", 0),
    ("inexact %", 3),
    ("wrong", 0),
    ("missing", 0),
    ("repeated", 0),
    ("stale", 0),
    ("faults", 0),
    ("tools s/M", 3),
];

struct Wanted {
    own: PathBuf,
    loads: Vec<&'static Load>,
    peers: Vec<&'static Peer>,
    seconds: u64,
    rounds: usize,
    /// Percent of a core that a peer may take; 0 for all of it.
    cpu: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, rest)) if first == "one" => one(rest),
        Some((own, rest)) => compare(&parse(own, rest)?),
        None => bail!("usage: {USAGE}"),
    }
}

fn parse(own: &str, options: &[String]) -> anyhow::Result<Wanted> {
    let mut wanted = Wanted {
        own: own.into(),
        loads: LOADS[..DEFAULT_LOADS].iter().collect(),
        peers: PEERS.iter().collect(),
        seconds: 20,
        rounds: 1,
        cpu: 0,
    };
    for option in options {
        let (name, value) = option.split_once('=').context(USAGE)?;
        match name {
            "--loads" => wanted.loads = value.split(',').map(load).collect::<anyhow::Result<_>>()?,
            "--peers" => wanted.peers = value.split(',').map(peer).collect::<anyhow::Result<_>>()?,
            "--seconds" => wanted.seconds = value.parse()?,
            "--rounds" => wanted.rounds = value.parse()?,
            "--cpu" => wanted.cpu = value.parse()?,
            _ => bail!("usage: {USAGE}"),
        }
    }
    Ok(wanted)
}

fn load(name: &str) -> anyhow::Result<&'static Load> {
    let names: Vec<&str> = LOADS.iter().map(|load| load.name).collect();
    LOADS.iter().find(|load| load.name == name).with_context(|| format!("loads: {}", names.join(", ")))
}

fn peer(name: &str) -> anyhow::Result<&'static Peer> {
    let names: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
    PEERS.iter().find(|peer| peer.name == name).with_context(|| format!("peers: {}", names.join(", ")))
}

/// Every peer under every load, in turn; each run in a process of its own.
fn compare(wanted: &Wanted) -> anyhow::Result<()> {
    let installed: Vec<_> =
        wanted.peers.iter().filter_map(|peer| Some((*peer, peer.find(&wanted.own)?))).collect();
    for skipped in wanted.peers.iter().filter(|peer| !installed.iter().any(|(p, _)| p.name == peer.name)) {
        println!("{}: skipped, it is not installed", skipped.name);
    }
    for load in &wanted.loads {
        let page = Exposer::start(load)?.bytes_per_sample();
        println!(
            "\n{}: {} targets x {} series every {:?} ({:.0} k/s), {page:.0} text bytes a sample",
            load.name,
            load.targets,
            load.series,
            load.interval,
            load.rate() / 1e3
        );
        let mut results: Vec<(&Peer, Vec<Figures>)> =
            installed.iter().map(|(peer, _)| (*peer, Vec::new())).collect();
        for _ in 0..wanted.rounds {
            for ((peer, program), (_, runs)) in installed.iter().zip(&mut results) {
                runs.push(apart(peer, program, load, wanted)?);
            }
        }
        report(&results);
    }
    Ok(())
}

/// One run in a process of its own, so that nothing is left of the run before.
fn apart(peer: &Peer, program: &Path, load: &Load, wanted: &Wanted) -> anyhow::Result<Figures> {
    let output = Command::new(std::env::current_exe()?)
        .args(["one", peer.name, load.name, &wanted.seconds.to_string(), &wanted.cpu.to_string()])
        .arg(program)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}: {}", peer.name, String::from_utf8_lossy(&output.stderr));
    text.split_whitespace().map(|word| word.parse().context("a figure")).collect()
}

fn report(results: &[(&Peer, Vec<Figures>)]) {
    print!("{:<14}", "");
    for (peer, _) in results {
        print!("{:>12}", peer.name);
    }
    println!();
    let medians: Vec<Figures> = results.iter().map(|(_, runs)| median(runs)).collect();
    for (column, (name, digits)) in COLUMNS.iter().enumerate() {
        print!("{name:<14}");
        for figures in &medians {
            print!("{:>12.*}", digits, figures[column]);
        }
        println!();
    }
    if results.first().is_none_or(|(peer, _)| peer.name != "collector") {
        return;
    }
    for (what, column) in [("CPU", 0), ("memory", 2)] {
        for ((peer, _), figures) in results.iter().zip(&medians).skip(1) {
            println!("{what}: {} takes {:.1} times ours", peer.name, figures[column] / medians[0][column]);
        }
    }
}

fn median(runs: &[Figures]) -> Figures {
    let column = |column: usize| {
        let mut all: Vec<f64> = runs.iter().map(|run| run[column]).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    (0..COLUMNS.len()).map(column).collect()
}

/// One peer under one load: prints the figures.
fn one(arguments: &[String]) -> anyhow::Result<()> {
    let [name, load_name, seconds, cpu, program] = arguments else { bail!("usage: {USAGE}") };
    let (peer, load) = (peer(name)?, load(load_name)?);
    let seconds: u64 = seconds.parse()?;
    peer::pin_tools().context("the benchmark needs two cores")?;
    let (exposer, sink) = (Exposer::start(load)?, Sink::start()?);
    let url = format!("http://127.0.0.1:{}/api/v1/write", sink.port);
    let mut running = peer.start(Path::new(program), load, exposer.port, &url)?;
    let percent: u64 = cpu.parse()?;
    if percent > 0 {
        running.bound_cpu(percent)?;
    }
    std::thread::sleep((3 * load.interval).max(WARM_UP));
    let (before, cpu, own) = (sink.counts(), running.cpu(), peer::own_cpu());
    sink.forget_ages();
    std::thread::sleep(Duration::from_secs(seconds));
    let (after, since, own) = (sink.counts(), running.cpu(), peer::own_cpu() - own);
    let (cpu, system) = (since.0 - cpu.0, since.1 - cpu.1);
    let ended = running.has_ended();
    ensure!(!ended && after.samples > before.samples, "nothing came:\n{}", running.log());
    let samples = (after.samples - before.samples) as f64;
    let requests = (after.requests - before.requests) as f64;
    let body = (after.body_bytes - before.body_bytes) as f64;
    let head = (after.head_bytes - before.head_bytes) as f64;
    let rate = samples / seconds as f64;
    let figures = [
        cpu / samples * 1e6,
        100.0 * system / cpu,
        running.peak_rss() as f64 / f64::from(1 << 20),
        running.rss() as f64 / f64::from(1 << 20),
        rate / 1e3,
        100.0 * rate / load.rate(),
        body / samples,
        (body + head) / samples,
        samples / requests,
        after.age_sum_ms as f64 / samples,
        after.age_max_ms as f64,
        100.0 * (after.inexact - before.inexact) as f64 / samples,
        after.wrong as f64,
        after.missing as f64,
        after.repeated as f64,
        after.stale as f64,
        after.faults as f64,
        own / samples * 1e6,
    ];
    println!("{}", figures.map(|figure| figure.to_string()).join(" "));
    Ok(())
}
