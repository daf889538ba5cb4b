//! Remote-write requests, decoded as a receiver does and compared with what the batches say.

use std::sync::Arc;

use collector::encode::{Encoder, Options, Protocol};
use collector::model::{
    Batch, CUSTOM_BUCKETS, Form, Kind, NO_SAMPLE, ResetHint, STALE_NAN, SeriesTable, Shape, Source, Span,
};
use collector_tests::made::{self, Series};
use collector_tests::wire;

const PROTOCOLS: [Protocol; 2] = [Protocol::V1, Protocol::V2];
const NOW: i64 = 1_790_000_000_000;

fn host_shape(table: &Arc<SeriesTable>, cpus: usize) -> Arc<Shape> {
    let mut floats = Vec::new();
    for cpu in 0..cpus {
        for mode in ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"] {
            let labels = [("cpu", &*cpu.to_string()), ("mode", mode)];
            floats.push(Series::gauge("node_cpu_seconds_total", &labels).kind(Kind::Counter));
        }
    }
    floats.push(Series::gauge("wait_seconds_bucket", &[("le", "1")]).form(Form::ClassicOnly));
    floats.push(Series::gauge("node_load1", &[("job", "mine"), ("empty", "")]).kind(Kind::Untyped));
    let native = [Series::gauge("wait_seconds", &[]).kind(Kind::Histogram)];
    made::shape(table, "host", &made::owned(&[("job", "node"), ("instance", "a:9100")]), &floats, &native)
}

fn fill(shape: &Arc<Shape>, time_ms: i64, seed: u64) -> Batch {
    let values: Vec<f64> = (0..shape.floats().len() as u64)
        .map(|n| match (n + seed) % 5 {
            0 => 0.0,
            1 => (n * 1000 + seed) as f64,
            2 => (n as f64 + 0.1) * (seed as f64 + 0.7),
            3 => STALE_NAN,
            _ => 12345.67,
        })
        .collect();
    let mut batch = made::batch(shape, time_ms, &values);
    for _ in shape.histograms() {
        let native = batch.push_histogram();
        let mut end = 0;
        (native.schema, native.sum, native.zero_threshold) = (3, 0.25 * seed as f64, 1e-9);
        for (index, count) in [(-70, 3), (-69, 1), (5, 1000 + seed), (6, 2)] {
            native.push(index, count, &mut end);
            native.count += count;
        }
    }
    batch
}

fn options(protocol: Protocol, native_histograms: bool, help: bool) -> Options {
    let external_labels = made::owned(&[("cluster", "eu"), ("job", "never")]);
    Options { protocol, external_labels, native_histograms, help, ..Options::default() }
}

#[test]
fn own_times_and_every_part_of_a_histogram_go_out() {
    for protocol in PROTOCOLS {
        for native in [false, true] {
            let table = Arc::new(SeriesTable::default());
            let shapes = [host_shape(&table, 2), host_shape(&table, 3)];
            let mut encoder = Encoder::new(options(protocol, native, true));
            for tick in 0..4 {
                let plain = fill(&shapes[0], NOW + 1000 * tick, tick as u64);
                let mut timed = fill(&shapes[1], NOW + 1000 * tick, 9);
                timed.times = (0..timed.values.len() as i64).map(|n| NOW - 77 * n).collect();
                (timed.times[1], timed.times[2], timed.times[3]) = (NO_SAMPLE, -5, 0);
                let odd = timed.push_histogram();
                (odd.schema, odd.sum, odd.float) = (CUSTOM_BUCKETS, -1.5, true);
                (odd.count, odd.zero_count) = (2.5f64.to_bits(), 0);
                odd.bounds = vec![0.5, 1.0];
                odd.spans = vec![Span { offset: 1, length: 1 }];
                odd.buckets = vec![2.5f64.to_bits()];
                odd.reset_hint = ResetHint::Gauge;
                let odd = odd.clone();
                let below = timed.push_histogram();
                (below.count, below.sum) = (5, 0.5);
                below.negative_spans = vec![Span { offset: -2, length: 2 }];
                below.negative_buckets = vec![4, 1];
                let table = timed.shape().table().clone();
                let mut guard = table.lock();
                let mut histograms = timed.shape().histograms().to_vec();
                histograms.extend([histograms[0]; 2]);
                timed.shape().floats().iter().for_each(|&(id, _)| guard.retain(id));
                histograms.iter().for_each(|&id| guard.retain(id));
                drop(guard);
                let (source, floats) = (timed.shape().source.clone(), timed.shape().floats().to_vec());
                timed.shape = Some(Shape::new(source, table, floats, histograms));
                timed.histogram_times = vec![NO_SAMPLE, 7, NOW - 1];
                assert_eq!(odd, timed.histograms()[1]);
                let batches = [&plain, &timed];
                let mut body = Vec::new();
                encoder.encode(&batches, &mut body);
                wire::check(&body, &batches, encoder.options());
            }
        }
    }
}

#[test]
fn a_request_says_what_the_batches_say_planned_or_not() {
    for protocol in PROTOCOLS {
        for (native, help) in [(false, false), (true, false), (false, true), (true, true)] {
            let table = Arc::new(SeriesTable::default());
            let shapes = [host_shape(&table, 40), host_shape(&table, 3)];
            let mut encoder = Encoder::new(options(protocol, native, help));
            // In the tenth the best plan takes the place of the quick ones.
            for tick in 0..12 {
                let batches = [
                    fill(&shapes[0], NOW + 1000 * tick, tick as u64),
                    fill(&shapes[1], NOW + 1000 * tick, 9),
                ];
                // The order in which sources of one time come makes no difference.
                let mut batches: Vec<&Batch> = batches.iter().collect();
                batches.rotate_left(tick as usize % 2);
                let mut body = vec![0xee];
                let encoded = encoder.encode(&batches, &mut body);
                assert_eq!(body.remove(0), 0xee, "what the caller had stays");
                wire::check(&body, &batches, encoder.options());
                assert_eq!(
                    encoded.samples,
                    wire::expected(&batches, encoder.options()).len() - encoded.histograms
                );
                assert_eq!(encoded.histograms, if native { 2 } else { 0 });
                // 1.0 plans each shape at once, 2.0 a list of them when it comes again.
                let is_first = protocol == Protocol::V2 && tick == 0;
                assert_eq!(encoded.planned, if is_first { 0 } else { encoded.samples });
                assert_eq!(encoded.plain_bytes, wire::decompress(&body).len());
            }
        }
    }
}

#[test]
fn several_times_in_one_request() {
    for protocol in PROTOCOLS {
        let table = Arc::new(SeriesTable::default());
        let shapes = [host_shape(&table, 8), host_shape(&table, 1)];
        let mut encoder = Encoder::new(options(protocol, true, false));
        for tick in 0..6i64 {
            // Ticks two and five have other gaps between their times, which the same plan must write.
            let gap = [1000, 1000, 1_700_003, 15_000, 15_000, 1][tick as usize];
            let times = [NOW + tick * 60_000, NOW + tick * 60_000 + gap, NOW + tick * 60_000 + 2 * gap];
            let batches: Vec<Batch> =
                times.iter().flat_map(|&t| [fill(&shapes[0], t, t as u64), fill(&shapes[1], t, 3)]).collect();
            let batches: Vec<&Batch> = batches.iter().collect();
            let mut body = Vec::new();
            let encoded = encoder.encode(&batches, &mut body);
            wire::check(&body, &batches, encoder.options());
            assert!(encoded.planned == encoded.samples || tick == 0);
        }
    }
}

/// Where every gap is a copy of the one before it, nothing but copies and literals is written for kilobytes.
#[test]
fn a_series_again_and_again_at_one_time() {
    for protocol in PROTOCOLS {
        let table = Arc::new(SeriesTable::default());
        let shape = made::shape(&table, "host", &[], &[Series::gauge("a", &[])], &[]);
        let mut encoder = Encoder::new(Options { protocol, ..Options::default() });
        for tick in 0..12u64 {
            let value = |n: u64| f64::from_bits((n + tick).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2);
            let batches: Vec<Batch> =
                (0..1500).map(|n| made::batch(&shape, NOW + tick as i64, &[value(n)])).collect();
            let batches: Vec<&Batch> = batches.iter().collect();
            let mut body = Vec::new();
            let encoded = encoder.encode(&batches, &mut body);
            wire::check(&body, &batches, encoder.options());
            assert_eq!(encoded.planned, if tick == 0 && protocol == Protocol::V2 { 0 } else { 1500 });
        }
    }
}

#[test]
fn a_batch_without_values_does_not_hide_a_change_of_time() {
    for protocol in PROTOCOLS {
        let table = Arc::new(SeriesTable::default());
        let (full, empty) = (host_shape(&table, 1), made::shape(&table, "empty", &[], &[], &[]));
        let mut encoder = Encoder::new(options(protocol, false, false));
        for (last, planned) in [(0, false), (0, true), (5, true), (0, true)] {
            let batches = [fill(&full, NOW, 1), fill(&empty, NOW + 1, 1), fill(&full, NOW + last, 1)];
            // Times that fall are no caller's wish, but they must not be written wrongly.
            let batches: Vec<&Batch> = batches.iter().collect();
            let mut body = Vec::new();
            let encoded = encoder.encode(&batches, &mut body);
            wire::check(&body, &batches, encoder.options());
            assert!(encoded.planned == encoded.samples || !planned);
        }
    }
}

#[test]
fn times_of_every_width() {
    for protocol in PROTOCOLS {
        let table = Arc::new(SeriesTable::default());
        let shape = host_shape(&table, 2);
        let mut encoder = Encoder::new(options(protocol, true, false));
        let edges = [1 << 35, 1 << 42, 127, 1 << 49].map(|edge: i64| [edge - 1, edge]).concat();
        for time in [NOW, NOW, 0, 1, -1, i64::MIN, i64::MAX].into_iter().chain(edges) {
            let batches = [&fill(&shape, time, 4)];
            let mut body = Vec::new();
            encoder.encode(&batches, &mut body);
            wire::check(&body, &batches, encoder.options());
        }
    }
}

#[test]
fn nothing_to_send_is_an_empty_request() {
    for protocol in PROTOCOLS {
        let table = Arc::new(SeriesTable::default());
        let shape = host_shape(&table, 2);
        let rewrite: Box<collector::encode::Rewrite> = Box::new(|_| false);
        let mut encoder = Encoder::new(Options { rewrite: Some(rewrite), ..options(protocol, true, false) });
        for batches in [&[][..], &[&fill(&shape, NOW, 1)], &[&fill(&shape, NOW, 1)]] {
            let mut body = Vec::new();
            let encoded = encoder.encode(batches, &mut body);
            assert_eq!((encoded.samples, encoded.histograms), (0, 0));
            assert!(wire::decompress(&body).len() <= 2, "at most the empty symbol");
        }
    }
}

#[test]
fn a_rewrite_that_drops_some_leaves_the_others_in_their_places() {
    for protocol in PROTOCOLS {
        let table = Arc::new(SeriesTable::default());
        let shape = host_shape(&table, 4);
        let rewrite: Box<collector::encode::Rewrite> =
            Box::new(|labels| !labels.iter().any(|(name, value)| name == "mode" && value == "nice"));
        let mut encoder = Encoder::new(Options { rewrite: Some(rewrite), ..options(protocol, true, false) });
        for tick in 0..4 {
            let batch = fill(&shape, NOW + tick, tick as u64);
            let mut body = Vec::new();
            let encoded = encoder.encode(&[&batch], &mut body);
            let mut wanted = wire::expected(&[&batch], encoder.options());
            wanted.retain(|sent| sent.labels.get("mode").is_none_or(|mode| mode != "nice"));
            let bytes = wire::decompress(&body);
            assert_eq!(encoded.samples + encoded.histograms, wanted.len());
            if protocol == Protocol::V1 {
                assert!(bytes == wire::plain(&wanted, protocol, &[]));
            } else {
                use prost::Message as _;
                let request = collector_tests::proto::v2::Request::decode(&*bytes).unwrap();
                assert!(bytes == wire::plain(&wanted, protocol, &request.symbols));
            }
        }
    }
}

#[test]
fn plans_of_dead_shapes_are_dropped() {
    let table = Arc::new(SeriesTable::default());
    let mut encoder = Encoder::new(Options::default());
    let stays = host_shape(&table, 1);
    for round in 0..400 {
        let passes = host_shape(&table, 1);
        for shape in [&passes, &passes, &stays] {
            encoder.encode(&[&fill(shape, NOW + round, 1)], &mut Vec::new());
        }
    }
    assert!(encoder.plans() <= 1 + 256 / 3 + 1, "{} plans", encoder.plans());
    assert!(encoder.plan_bytes() < 200_000);
    assert_eq!(encoder.encode(&[&fill(&stays, NOW, 1)], &mut Vec::new()).planned, 9 + 1);
}

#[test]
fn a_very_long_label_is_sent_all_the_same() {
    for protocol in PROTOCOLS {
        let table = Arc::new(SeriesTable::default());
        let mut state = 1u32;
        let mut noise = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'a' + (state >> 24) as u8 % 26)
        };
        let long: String = (0..150_000).map(&mut noise).collect();
        let floats = [Series::gauge("a", &[]), Series::gauge("b", &[("x", &long)]), Series::gauge("c", &[])];
        let shape = made::shape(&table, "long", &[], &floats, &[]);
        let mut encoder = Encoder::new(options(protocol, false, false));
        for tick in 0..4 {
            let batches = [&made::batch(&shape, NOW + tick, &[1.0, 2.0, tick as f64])];
            let mut body = Vec::new();
            encoder.encode(&batches, &mut body);
            wire::check(&body, &batches, encoder.options());
        }
    }
}

#[test]
fn values_that_look_like_labels_are_not_taken_for_them() {
    for protocol in PROTOCOLS {
        let table = Arc::new(SeriesTable::default());
        let text = "abcdefghij";
        let looks = f64::from_le_bytes(*b"abcdefgh");
        let floats = [
            Series::gauge("a", &[]),
            Series::gauge("b", &[("x", text)]),
            Series::gauge("c", &[]),
            Series::gauge("d", &[("y", text), ("z", "abcdefgh")]),
        ];
        let shape = made::shape(&table, "alike", &[], &floats, &[]);
        let mut encoder = Encoder::new(options(protocol, false, false));
        for (tick, first) in [(0, looks), (1, looks), (2, 1.0), (3, looks)] {
            let batches = [&made::batch(&shape, NOW + tick, &[first, first, 0.0, looks])];
            let mut body = Vec::new();
            encoder.encode(&batches, &mut body);
            wire::check(&body, &batches, encoder.options());
        }
    }
}

#[test]
fn an_encoder_may_go_to_another_thread() {
    fn sent<T: Send>(_: T) {}
    sent(Encoder::new(Options::default()));
}

/// The cheapest way over a gap may begin with a literal that holds some bytes of a time which stood before: they
/// must move with the time as those of the first do.
#[test]
fn a_time_that_is_written_in_part_moves_whole() {
    let table = Arc::new(SeriesTable::default());
    let made = [Series::gauge("a", &[]), Series::gauge("_aaaaa__aaa", &[])];
    let shape = made::shape(&table, "0", Vec::new().as_slice(), &made, &[]);
    let external_labels = made::owned(&[("cluster", "eu"), ("a", "outside")]);
    let mut encoder = Encoder::new(Options { external_labels, ..Options::default() });
    for time in [1_790_000_000_000, 1_790_000_000_000, 1_790_000_000_000, 1_790_000_007_919] {
        let batch = |gap: i64, bits: u64| {
            made::batch(&shape, time + gap, &[f64::from_bits(bits), 56_148_717.253_548_59])
        };
        let batches = [batch(0, 0), batch(1, 257), batch(1, 0)];
        let batches: Vec<&Batch> = batches.iter().collect();
        let mut body = Vec::new();
        encoder.encode(&batches, &mut body);
        wire::check(&body, &batches, encoder.options());
    }
}

#[test]
fn sources_that_say_the_same_are_planned_once() {
    let table = Arc::new(SeriesTable::default());
    let first = host_shape(&table, 4);
    let mut encoder = Encoder::new(options(Protocol::V1, false, false));
    let mut requests = |instances: &[&str], ticks: std::ops::Range<i64>| {
        for tick in ticks {
            for instance in instances {
                let labels = made::owned(&[("job", "node"), ("instance", instance)]);
                let source = Arc::new(Source { name: "test".into(), labels });
                let batch =
                    fill(&Shape::of_list(source, first.list().clone()), NOW + 1000 * tick, tick as u64);
                let mut body = Vec::new();
                let encoded = encoder.encode(&[&batch], &mut body);
                assert_eq!(encoded.planned, encoded.samples);
                wire::check(&body, &[&batch], encoder.options());
            }
        }
        encoder.plans()
    };
    let same = ["10.0.0.1:9100", "10.0.0.2:9100", "10.9.8.7:9100", "idle_mode.:80", "node_load1:01"];
    assert_eq!(requests(&same, 0..200), 1, "the best plan has taken the place of the quick one by now");
    assert_eq!(requests(&["10.0.0.10:9100", "10.0.0.11:9100"], 200..203), 2);
}
