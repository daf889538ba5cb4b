//! The page of /metrics: a layout that is kept, against one made anew for every page.

use std::hint::black_box;
use std::time::Duration;

use collector::encode::exposition::{Exposition, Format};
use collector_benches::page;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn bench(criterion: &mut Criterion) {
    let mut page = page::host();
    let series = page.len() as u64;
    let ticks = page.ticks(16);
    let mut group = criterion.benchmark_group("exposition");
    group.throughput(Throughput::Elements(series));
    let (mut out, mut at) = (Vec::new(), 0);
    group.bench_function("kept_layout", |bencher| {
        let mut exposition = Exposition::default();
        bencher.iter(|| {
            at = (at + 1) % ticks.len();
            out.clear();
            exposition.encode(&ticks[at], Format::Text, &[], &mut out);
            black_box(out.len())
        });
    });
    group.bench_function("new_layout", |bencher| {
        bencher.iter(|| {
            at = (at + 1) % ticks.len();
            out.clear();
            Exposition::default().encode(&ticks[at], Format::Text, &[], &mut out);
            black_box(out.len())
        });
    });
    group.finish();
    println!("a page of {series} series has {} bytes", out.len());
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = bench
}
criterion_main!(benches);
