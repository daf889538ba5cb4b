//! Remote-write requests: ours against prost with ready-made messages and the snap crate, on the same samples.
//!
//! Run with `cargo bench -p collector-benches --bench encode`; sizes are printed first. `COLLECTOR_PAGE=FILE,FILE..`
//! adds the sizes for a page of your own in the text format, at one tick or at several in turn.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use collector::encode::{Encoder, Options, Protocol};
use collector::model::Batch;
use collector_benches::page::{self, Page};
use collector_benches::recorded;
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

/// Samples of a request as Prometheus makes it, unless configured.
const PROMETHEUS_SAMPLES: usize = 2000;

/// A request of 2.0 with symbols in the order in which Prometheus comes across them: the labels of a series, then its
/// help and unit.
fn in_its_order(request: &v2::Request, helps: &HashMap<String, String>) -> v2::Request {
    let (mut symbols, mut numbers) = (vec![String::new()], HashMap::from([(String::new(), 0u32)]));
    let mut number = |text: &str| {
        *numbers.entry(text.to_owned()).or_insert_with(|| {
            symbols.push(text.to_owned());
            symbols.len() as u32 - 1
        })
    };
    let timeseries = request.timeseries.iter().map(|series| {
        let text = |&at: &u32| request.symbols[at as usize].as_str();
        let labels_refs: Vec<u32> = series.labels_refs.iter().map(|at| number(text(at))).collect();
        let name = series.labels_refs.chunks_exact(2).find(|pair| text(&pair[0]) == "__name__");
        let help = name.and_then(|pair| helps.get(text(&pair[1]))).map_or("", String::as_str);
        let kind = series.metadata.as_ref().map_or(0, |metadata| metadata.r#type);
        let metadata = v2::Metadata { r#type: kind, help_ref: number(help), unit_ref: 0 };
        v2::TimeSeries { labels_refs, metadata: Some(metadata), ..series.clone() }
    });
    let timeseries = timeseries.collect();
    v2::Request { symbols, timeseries }
}

/// Bytes a sample on the wire, and requests a second from one core: ours as it sends them, and Prometheus' own way with
/// the same series.
fn against_prometheus(name: &str, mut page: Page, helps: &HashMap<String, String>) {
    let series = page.len() as f64;
    let ticks = page.ticks(40);
    for protocol in PROTOCOLS {
        let mut encoder = encoder(protocol);
        warm(&mut encoder, &ticks[..WARM]);
        let (mut ours, mut theirs, mut plain_theirs) = (0, 0, 0);
        let (mut took, mut requests) = (f64::MAX, 0);
        for tick in &ticks[WARM..] {
            let start = Instant::now();
            let body = warm(&mut encoder, std::slice::from_ref(tick));
            took = took.min(start.elapsed().as_secs_f64());
            ours += body.len();
            let bytes = wire::decompress(&body);
            let (mut plain, mut block) = (Vec::new(), Vec::new());
            let mut add = |message: &dyn Fn(&mut Vec<u8>, &mut Vec<u8>) -> usize| {
                theirs += message(&mut plain, &mut block);
                plain_theirs += plain.len();
                requests += 1;
            };
            match protocol {
                Protocol::V1 => {
                    let whole = v1::WriteRequest::decode(&*bytes).expect("ours");
                    for part in whole.timeseries.chunks(PROMETHEUS_SAMPLES) {
                        let part = v1::WriteRequest { timeseries: part.to_vec(), ..Default::default() };
                        add(&|plain, block| prost_and_snap(&part, plain, block));
                    }
                }
                Protocol::V2 => {
                    let whole = v2::Request::decode(&*bytes).expect("ours");
                    for part in whole.timeseries.chunks(PROMETHEUS_SAMPLES) {
                        let symbols = whole.symbols.clone();
                        let part = v2::Request { symbols, timeseries: part.to_vec() };
                        let part = in_its_order(&part, helps);
                        add(&|plain, block| prost_and_snap(&part, plain, block));
                    }
                }
            }
        }
        let samples = series * (ticks.len() - WARM) as f64;
        println!(
            "{name} {protocol:?}: {:.2} bytes a sample, {:.0} requests of {series} samples a second; as Prometheus makes \
             them {:.2} bytes ({:.1} plain) in {requests} requests of up to {PROMETHEUS_SAMPLES}",
            ours as f64 / samples,
            1.0 / took,
            theirs as f64 / samples,
            plain_theirs as f64 / samples,
        );
    }
}

/// The help texts of a page in the text format; of a histogram's or a summary's, by every name of its series.
fn helps(text: &str) -> HashMap<String, String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    let names = |(name, help): (&str, &str)| {
        ["", "_bucket", "_sum", "_count"].map(|end| (format!("{name}{end}"), help.to_owned()))
    };
    lines.flat_map(names).collect()
}

fn bench(criterion: &mut Criterion) {
    sizes("host", page::host());
    sizes("all changing", page::host().all_noise());
    fastest("host", page::host());
    fastest("all changing", page::host().all_noise());
    against_prometheus("host", page::host(), &HashMap::new());
    if let Ok(paths) = std::env::var("COLLECTOR_PAGE") {
        let read = |path| std::fs::read_to_string(path).expect("the page can be read");
        let texts: Vec<String> = paths.split(',').map(read).collect();
        sizes("page", recorded::parse_pages(&texts));
        against_prometheus("page", recorded::parse_pages(&texts), &helps(&texts[0]));
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
