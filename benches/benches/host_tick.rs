//! One tick of the host collectors on this host, and, where Debian's node_exporter is installed, the CPU time of a
//! scrape of either program with the same collectors, in turn in one run.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use collector::model::{Batch, SeriesTable};
use collector::sources::host::{COLLECTORS, FlagValues, HostReader, Paths, Selection};
use collector_tests::process::{Process, free_port, get, get_gzip, wait_for};
use criterion::{Criterion, criterion_group, criterion_main};

const ROUNDS: usize = 8;
const SCRAPES: usize = 100;
/// Collectors that are on by default, and that node_exporter 1.5 does not have yet.
const NOT_THERE: &[&str] = &["bcachefs", "dmmultipath", "kernel_hung", "watchdog"];
/// Debian's build leaves more out by default than the collector does.
const AS_UPSTREAM: &[&str] = &[
    "--collector.netdev.device-exclude=",
    "--collector.textfile.directory=",
    "--collector.filesystem.mount-points-exclude=^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)",
];

fn reader() -> HostReader {
    let mut flags = FlagValues::default();
    COLLECTORS.iter().flat_map(|collector| collector.flags).for_each(|flag| flags.declare(flag));
    let enabled = |_: &'static str, default| default;
    HostReader::new(&Paths::default(), &flags, enabled, &[], &Arc::new(SeriesTable::default()))
        .expect("the defaults make sense")
}

fn bench(criterion: &mut Criterion) {
    let mut reader = reader();
    let (mut slabs, mut sent): (Vec<Batch>, Vec<Batch>) = (Vec::new(), Vec::new());
    criterion.bench_function("host_tick", |bencher| {
        bencher.iter(|| {
            reader.run(&Selection::All, 1, || slabs.pop().unwrap_or_default(), |batch| sent.push(batch));
            slabs.append(&mut sent);
            black_box(slabs.len())
        });
    });
    compare();
}

/// User and system time that a process has taken, in milliseconds.
fn cpu_ms(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let own: f64 = stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0.0);
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let all: f64 = tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<f64>().ok())
        .sum();
    own.max(all) / 1e6
}

fn compare() {
    let theirs = Path::new("/usr/bin/prometheus-node-exporter");
    // The collector as it is released, beside which this benchmark lies.
    let ours =
        std::env::current_exe().expect("own file").ancestors().nth(2).expect("target").join("collector");
    if !theirs.is_file() || !ours.is_file() {
        println!("no comparison: {} and {} are needed", theirs.display(), ours.display());
        return;
    }
    let names = COLLECTORS.iter().filter(|c| c.default_enabled && !NOT_THERE.contains(&c.name));
    let switches: Vec<String> = names.map(|collector| format!("--collector.{}", collector.name)).collect();
    let folder = std::env::temp_dir();
    let start = |program: &Path, extra: &[&str]| {
        let port = free_port();
        let mut arguments = vec![format!("--web.listen-address=127.0.0.1:{port}")];
        arguments.push("--collector.disable-defaults".into());
        arguments.extend(switches.iter().cloned());
        arguments.extend(extra.iter().map(|&flag| flag.to_owned()));
        let process = Process::start(program, &arguments, &folder.join("host_tick.log"));
        let url = format!("http://127.0.0.1:{port}/metrics");
        assert!(wait_for(Duration::from_secs(10), || get(&url).is_some()), "{}", process.log());
        (process, url)
    };
    let programs = [start(theirs, AS_UPSTREAM), start(&ours, &["--no-ebpf"])];
    for (how, scrape) in [("gzip, as Prometheus asks", scrape_gzip as fn(&str)), ("plain", scrape_plain)] {
        let mut best = [f64::MAX; 2];
        for _ in 0..ROUNDS {
            for (n, (process, url)) in programs.iter().enumerate() {
                let before = cpu_ms(process.id());
                (0..SCRAPES).for_each(|_| scrape(url));
                best[n] = best[n].min((cpu_ms(process.id()) - before) / SCRAPES as f64);
            }
        }
        println!(
            "CPU a scrape, {} collectors, {how}, best of {ROUNDS} interleaved rounds: node_exporter {:.3} ms, collector {:.3} ms: 1/{:.1}",
            switches.len(),
            best[0],
            best[1],
            best[0] / best[1]
        );
    }
}

fn scrape_plain(url: &str) {
    black_box(get(url).expect("it answers"));
}

fn scrape_gzip(url: &str) {
    black_box(get_gzip(url).expect("it answers"));
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    targets = bench
}
criterion_main!(benches);
