//! Pages of targets: what a sample costs where its page is known, where it is new, and in between.
//!
//! Run with `cargo bench -p collector-benches --bench parse`. Beside it stands what a plain parser costs that finds
//! the lines by `memchr` and reads the values by the standard library, and keeps nothing.

use std::hint::black_box;

use collector::sources::scrape::page::Format;
use collector_tests::scraped::{Made, Target, rules};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const SERIES: usize = 1000;

/// Lines by `memchr`, labels cut at quotes, values by the standard library.
fn plain(page: &[u8], labels: &mut Vec<(usize, usize)>) -> f64 {
    let (mut at, mut sum) = (0, 0.0);
    for end in memchr::memchr_iter(b'\n', page) {
        let line = &page[at..end];
        at = end + 1;
        if line.first().is_none_or(|&byte| byte == b'#') {
            continue;
        }
        labels.clear();
        let brace = memchr::memchr(b'}', line).unwrap_or(0);
        let mut quotes = memchr::memchr_iter(b'"', &line[..brace]);
        while let (Some(from), Some(to)) = (quotes.next(), quotes.next()) {
            labels.push((from, to));
        }
        black_box(&labels);
        let value = &line[brace + 2..];
        sum += std::str::from_utf8(value).ok().and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::NAN);
    }
    sum
}

fn pages(made: &mut Made, count: usize, mut change: impl FnMut(&mut Made, usize)) -> Vec<String> {
    (0..count)
        .map(|round| {
            change(made, round);
            let mut page = String::new();
            made.write(&mut page);
            page
        })
        .collect()
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(SERIES as u64));
    let same = pages(&mut Made::new(SERIES), 16, |_, _| {});
    let bytes: usize = same.iter().map(String::len).sum();
    println!("{} bytes a sample", bytes / same.len() / SERIES);
    let mut round = 0;
    let mut next = |pages: &[String]| {
        round += 1;
        round % pages.len()
    };
    group.bench_function("plain", |b| {
        let mut labels = Vec::new();
        b.iter(|| plain(same[next(&same)].as_bytes(), &mut labels));
    });
    group.bench_function("hit", |b| {
        let mut target = Target::new(rules());
        b.iter(|| target.read(same[next(&same)].as_bytes(), Format::Text).expect("a page"));
    });
    group.bench_function("miss", |b| {
        b.iter(|| Target::new(rules()).read(same[next(&same)].as_bytes(), Format::Text).expect("a page"));
    });
    let inserted = pages(&mut Made::new(SERIES), 64, |made, _| made.insert());
    group.bench_function("one inserted each time", |b| {
        let mut target = Target::new(rules());
        b.iter(|| target.read(inserted[next(&inserted)].as_bytes(), Format::Text).expect("a page"));
    });
    let churn = pages(&mut Made::new(SERIES), 64, |made, round| {
        if round % 4 == 3 {
            made.replace(SERIES * 8 / 100);
        }
    });
    group.bench_function("8 percent replaced every fourth time", |b| {
        let mut target = Target::new(rules());
        b.iter(|| target.read(churn[next(&churn)].as_bytes(), Format::Text).expect("a page"));
    });
    let replaced = pages(&mut Made::new(SERIES), 64, |made, _| made.replace(SERIES * 8 / 100));
    group.bench_function("8 percent replaced every time", |b| {
        let mut target = Target::new(rules());
        b.iter(|| target.read(replaced[next(&replaced)].as_bytes(), Format::Text).expect("a page"));
    });
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
