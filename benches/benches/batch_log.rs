//! The batch log on a host's page: append, and replay from the first batch.
//!
//! Run with `cargo bench -p collector-benches --bench batch_log`; bytes a sample are printed first. The folder is
//! made under `TMPDIR`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use collector::batch_log::{BatchLog, Limits};
use collector::model::{Batch, SeriesTable};
use collector_benches::page::{self, Page};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn open(folder: &std::path::Path) -> BatchLog {
    BatchLog::open(folder, Limits::default(), Arc::new(SeriesTable::default())).expect("the folder is ours")
}

/// A day of ticks of 15 seconds, or what of it fits into memory: bytes on the disk, and what it takes to start.
fn sizes(name: &str, mut page: Page) {
    let folder = tempfile::tempdir().expect("a folder");
    let series = page.len();
    let mut log = open(folder.path());
    let _held = log.position("held").expect("a position");
    let ticks = page.ticks(1000);
    let samples = (series * ticks.len()) as f64;
    let start = Instant::now();
    for batch in ticks.iter().flatten() {
        log.append(batch).expect("there is room");
    }
    let append = start.elapsed().as_secs_f64();
    let bytes = log.stats().bytes as f64;
    drop(log);
    let start = Instant::now();
    let log = open(folder.path());
    let opened = start.elapsed();
    let (mut reader, mut batch) = (log.reader(1), Batch::default());
    let start = Instant::now();
    while reader.read(&mut batch).expect("it can be read").is_some() {}
    let replay = start.elapsed().as_secs_f64();
    println!(
        "{name}: {:.2} bytes a sample on the disk, {} segments; appended at {:.1} ns, replayed at {:.1} ns a sample; \
         opened in {opened:?}",
        bytes / samples,
        log.stats().segments,
        append * 1e9 / samples,
        replay * 1e9 / samples,
    );
}

fn bench(criterion: &mut Criterion) {
    sizes("host", page::host());
    sizes("all changing", page::host().all_noise());
    for (name, mut page) in [("host", page::host()), ("all_changing", page::host().all_noise())] {
        let series = page.len() as u64;
        let ticks = page.ticks(64);
        let mut group = criterion.benchmark_group(format!("batch_log_{name}"));
        group.throughput(Throughput::Elements(series));
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = open(folder.path());
        let mut at = 0;
        group.bench_function("append", |bencher| {
            bencher.iter(|| {
                at = (at + 1) % ticks.len();
                ticks[at].iter().for_each(|batch| _ = black_box(log.append(batch).expect("there is room")));
            });
        });
        drop(log);
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = open(folder.path());
        ticks.iter().flatten().for_each(|batch| _ = log.append(batch).expect("there is room"));
        let mut batch = Batch::default();
        group.throughput(Throughput::Elements(series * ticks.len() as u64));
        group.bench_function("replay", |bencher| {
            bencher.iter(|| {
                let mut reader = log.reader(1);
                while let Some(sequence) = reader.read(&mut batch).expect("it can be read") {
                    black_box(sequence);
                }
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = bench
}
criterion_main!(benches);
