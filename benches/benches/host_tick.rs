//! One tick of the host collectors on this host, and, where Debian's node_exporter is installed, the CPU time of a
//! scrape of either program with the same collectors, in turn in one run.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use collector::model::{Batch, SeriesTable};
use collector::sources::host::{COLLECTORS, FlagValues, HostReader, Paths, Selection};
use collector_tests::process::{Process, free_port, get, wait_for};
use criterion::{Criterion, criterion_group, criterion_main};

const ROUNDS: usize = 8;
const SCRAPES: usize = 100;
/// Collectors that node_exporter 1.5 lacks under that name: it has them as part of another, or not at all.
const NOT_THERE: &[&str] = &[];

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
    let programs = [start(theirs, &[]), start(&ours, &["--no-ebpf.runqueue"])];
    let mut best = [f64::MAX; 2];
    for _ in 0..ROUNDS {
        for (n, (process, url)) in programs.iter().enumerate() {
            let before = cpu_ms(process.id());
            for _ in 0..SCRAPES {
                black_box(get(url).expect("it answers"));
            }
            best[n] = best[n].min((cpu_ms(process.id()) - before) / SCRAPES as f64);
        }
    }
    println!(
        "CPU a scrape, {} collectors, best of {ROUNDS} interleaved rounds: node_exporter {:.3} ms, collector {:.3} ms: 1/{:.1}",
        switches.len(),
        best[0],
        best[1],
        best[0] / best[1]
    );
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    targets = bench
}
criterion_main!(benches);
