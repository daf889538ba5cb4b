//! Remote-write requests: ours against prost with ready-made messages and the snap crate, on the same samples.
//!
//! Run with `cargo bench -p collector-benches --bench encode`; sizes are printed first. `COLLECTOR_PAGE=FILE`
//! adds the sizes for a page of your own in the text format.

use std::hint::black_box;
use std::time::Instant;

use collector::encode::{Encoder, Options, Protocol};
use collector::model::Batch;
use collector_benches::page::{self, Page};
use collector_tests::proto::{v1, v2};
use collector_tests::wire;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;

/// Requests after which the best plan is there.
const WARM: usize = 10;
const PROTOCOLS: [Protocol; 2] = [Protocol::V1, Protocol::V2];

fn encoder(protocol: Protocol) -> Encoder {
    Encoder::new(Options { protocol, native_histograms: true, ..Options::default() })
}

/// Encodes some ticks, so that plans are there; gives the last body.
fn warm(encoder: &mut Encoder, ticks: &[Vec<Batch>]) -> Vec<u8> {
    let mut body = Vec::new();
    for tick in ticks {
        body.clear();
        encoder.encode(&tick.iter().collect::<Vec<_>>(), &mut body);
    }
    body
}

/// A page as one request a tick, a batch for each collector.
fn sizes(name: &str, mut page: Page) {
    let series = page.len();
    let ticks = page.ticks(40);
    for protocol in PROTOCOLS {
        let mut encoder = encoder(protocol);
        let start = Instant::now();
        warm(&mut encoder, &ticks[..WARM]);
        let planning = start.elapsed();
        let (mut ours, mut snaps, mut plain) = (0, 0, 0);
        for tick in &ticks[WARM..] {
            let body = warm(&mut encoder, std::slice::from_ref(tick));
            let bytes = wire::decompress(&body);
            (ours, plain) = (ours + body.len(), plain + bytes.len());
            snaps += snap::raw::Encoder::new().compress_vec(&bytes).expect("it compresses").len();
        }
        let samples = (series * (ticks.len() - WARM)) as f64;
        println!(
            "{name} {protocol:?}: {series} series, plain {:.1}, snap {:.2}, ours {:.2} bytes a sample ({:+.1} %); \
             plan {:.1} bytes and {:.1} us a series (the first {WARM} encodings included)",
            plain as f64 / samples,
            snaps as f64 / samples,
            ours as f64 / samples,
            (ours as f64 / snaps as f64 - 1.0) * 100.0,
            encoder.plan_bytes() as f64 / series as f64,
            planning.as_secs_f64() * 1e6 / series as f64,
        );
    }
}

fn prost_and_snap(message: &impl Message, plain: &mut Vec<u8>, block: &mut Vec<u8>) -> usize {
    plain.clear();
    message.encode(plain).expect("a Vec has room");
    block.resize(snap::raw::max_compress_len(plain.len()), 0);
    snap::raw::Encoder::new().compress(plain, block).expect("it has the size it may need")
}

/// The fastest of many runs of both, in turn: what neighbours on the machine disturb least.
fn fastest(name: &str, mut page: Page) {
    let series = page.len() as f64;
    let ticks = page.ticks(16);
    let ticks: Vec<Vec<&Batch>> = ticks.iter().map(|tick| tick.iter().collect()).collect();
    for protocol in PROTOCOLS {
        let mut encoder = encoder(protocol);
        let (mut body, mut plain, mut block) = (Vec::new(), Vec::new(), Vec::new());
        let (mut ours, mut theirs) = (f64::MAX, f64::MAX);
        for round in 0..400 {
            let tick = &ticks[round % ticks.len()];
            let time = |run: &mut dyn FnMut()| {
                let start = Instant::now();
                run();
                start.elapsed().as_secs_f64() * 1e9 / series
            };
            ours = ours.min(time(&mut || {
                body.clear();
                encoder.encode(tick, &mut body);
            }));
            let bytes = wire::decompress(&body);
            let taken = match protocol {
                Protocol::V1 => {
                    let message = v1::WriteRequest::decode(&*bytes).expect("ours");
                    prost_and_snap(&message, &mut plain, &mut block);
                    time(&mut || {
                        black_box(prost_and_snap(&message, &mut plain, &mut block));
                    })
                }
                Protocol::V2 => {
                    let message = v2::Request::decode(&*bytes).expect("ours");
                    prost_and_snap(&message, &mut plain, &mut block);
                    time(&mut || {
                        black_box(prost_and_snap(&message, &mut plain, &mut block));
                    })
                }
            };
            theirs = theirs.min(taken);
        }
        println!(
            "{name} {protocol:?}: prost + snap {theirs:.1}, ours {ours:.2} ns a sample at best: {:.1} times",
            theirs / ours
        );
    }
}

fn bench(criterion: &mut Criterion) {
    sizes("host", page::host());
    sizes("all changing", page::host().all_noise());
    fastest("host", page::host());
    fastest("all changing", page::host().all_noise());
    if let Ok(path) = std::env::var("COLLECTOR_PAGE") {
        sizes(&path, page::parse_text(&std::fs::read_to_string(&path).expect("the page can be read")));
    }
    for (name, mut page) in [("host", page::host()), ("all_changing", page::host().all_noise())] {
        let series = page.len() as u64;
        let ticks = page.ticks(16);
        let ticks: Vec<Vec<&Batch>> = ticks.iter().map(|tick| tick.iter().collect()).collect();
        let mut group = criterion.benchmark_group(format!("encode_{name}"));
        group.throughput(Throughput::Elements(series));
        for protocol in PROTOCOLS {
            let mut encoder = encoder(protocol);
            let mut body = Vec::new();
            let messages: Vec<Vec<u8>> = ticks
                .iter()
                .map(|tick| {
                    body.clear();
                    encoder.encode(tick, &mut body);
                    wire::decompress(&body)
                })
                .collect();
            let (mut plain, mut block, mut at) = (Vec::new(), Vec::new(), 0);
            let id = format!("prost_snap_{protocol:?}");
            match protocol {
                Protocol::V1 => {
                    let messages: Vec<_> = messages
                        .iter()
                        .map(|bytes| v1::WriteRequest::decode(&**bytes).expect("ours"))
                        .collect();
                    group.bench_function(id, |bencher| {
                        bencher.iter(|| {
                            at = (at + 1) % messages.len();
                            black_box(prost_and_snap(&messages[at], &mut plain, &mut block))
                        });
                    });
                }
                Protocol::V2 => {
                    let messages: Vec<_> =
                        messages.iter().map(|bytes| v2::Request::decode(&**bytes).expect("ours")).collect();
                    group.bench_function(id, |bencher| {
                        bencher.iter(|| {
                            at = (at + 1) % messages.len();
                            black_box(prost_and_snap(&messages[at], &mut plain, &mut block))
                        });
                    });
                }
            }
            group.bench_function(format!("ours_{protocol:?}"), |bencher| {
                bencher.iter(|| {
                    at = (at + 1) % ticks.len();
                    body.clear();
                    black_box(encoder.encode(&ticks[at], &mut body).planned)
                });
            });
        }
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
