//! Random shapes and values through the remote-write encoders: what comes out must say what went in, whatever
//! the plan was made from.

use std::sync::Arc;

use collector::encode::{Encoder, Options, Protocol};
use collector::model::{Batch, Form, Kind, NativeHistogram, STALE_NAN, SeriesTable, Shape};
use collector_tests::made::{self, Series};
use collector_tests::wire;
use proptest::prelude::*;

const NOW: i64 = 1_790_000_000_000;

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec!["a", "b", "job", "instance", "mode", "le", "device", "exported_job"])
            .prop_map(str::to_owned),
        "[a-z_]{1,12}",
        "[a-z]{60,200}",
        "\\PC{1,20}",
    ]
}

fn series() -> impl Strategy<Value = Series> {
    let labels =
        prop::collection::btree_map(word(), prop_oneof![4 => word(), 1 => Just(String::new())], 0..5);
    (word(), labels, 0u8..8, any::<bool>()).prop_map(|(name, labels, kind, classic)| Series {
        name,
        labels: labels.into_iter().filter(|label| label.0 != "__name__").collect(),
        kind: Kind::from_number(kind),
        form: if classic { Form::ClassicOnly } else { Form::Always },
    })
}

/// How one value moves from tick to tick.
#[derive(Clone, Debug)]
enum Motion {
    Stays(f64),
    Counts(u32, u32),
    Drifts(f64, f64),
    Any(Vec<u64>),
}

fn motion() -> impl Strategy<Value = Motion> {
    let special = prop::sample::select(vec![
        0.0,
        -0.0,
        1.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        STALE_NAN,
        1e300,
        5e-324,
    ]);
    prop_oneof![
        special.prop_map(Motion::Stays),
        (any::<u32>(), 0u32..5000).prop_map(|(from, by)| Motion::Counts(from, by)),
        (-1e9..1e9f64, -1.0..1.0f64).prop_map(|(from, by)| Motion::Drifts(from, by)),
        prop::collection::vec(any::<u64>(), 1..4).prop_map(Motion::Any),
    ]
}

impl Motion {
    fn at(&self, tick: usize) -> f64 {
        match self {
            Motion::Stays(value) => *value,
            Motion::Counts(from, by) => f64::from(*from) + f64::from(*by) * tick as f64,
            Motion::Drifts(from, by) => from + by * tick as f64,
            Motion::Any(bits) => f64::from_bits(bits[tick % bits.len()]),
        }
    }
}

#[derive(Clone, Debug)]
struct Made {
    source: Vec<(String, String)>,
    floats: Vec<(Series, Motion)>,
    histograms: Vec<Series>,
}

fn made_shape() -> impl Strategy<Value = Made> {
    let source = prop::sample::select(vec![
        vec![],
        vec![("job", "node")],
        vec![("job", "n"), ("instance", "h:9100"), ("mode", "x")],
    ]);
    let floats = prop::collection::vec((series(), motion()), 0..40);
    (source, floats, prop::collection::vec(series(), 0..3)).prop_map(|(source, floats, histograms)| Made {
        source: made::owned(&source),
        floats,
        histograms,
    })
}

fn histogram() -> impl Strategy<Value = NativeHistogram> {
    let buckets = prop::collection::btree_map(-500i32..500, prop_oneof![0u64..10, any::<u64>()], 0..30);
    (buckets, any::<u64>(), any::<i8>(), any::<u32>()).prop_map(|(buckets, bits, schema, zeros)| {
        let mut native = NativeHistogram { schema, zero_count: zeros.into(), ..NativeHistogram::default() };
        (native.sum, native.zero_threshold, native.count) = (f64::from_bits(bits), 1e-100, bits >> 7);
        let mut end = 0;
        for (index, count) in buckets {
            native.push(index, count, &mut end);
        }
        // A sum of negative zero is the one thing that the reference (prost) leaves out.
        if native.sum == 0.0 {
            native.sum = 0.0;
        }
        native
    })
}

fn batch(shape: &Arc<Shape>, made: &Made, time_ms: i64, tick: usize, pool: &[NativeHistogram]) -> Batch {
    let values: Vec<f64> = made.floats.iter().map(|(_, motion)| motion.at(tick)).collect();
    let mut batch = made::batch(shape, time_ms, &values);
    for n in 0..made.histograms.len() {
        batch.push_histogram().clone_from(&pool[(n + tick) % pool.len()]);
    }
    batch
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_comes_out_is_what_went_in(
        mades in prop::collection::vec(made_shape(), 1..5),
        pool in prop::collection::vec(histogram(), 1..4),
        gaps in prop::collection::vec(prop_oneof![Just(0i64), Just(1), 1000i64..100_000, 1i64 << 34..1i64 << 40], 1..4),
        (v2, native, help) in any::<(bool, bool, bool)>(),
        external in prop::sample::select(vec![vec![], vec![("cluster", "eu"), ("a", "outside")]]),
    ) {
        let table = Arc::new(SeriesTable::default());
        let shapes: Vec<_> = mades.iter().enumerate().map(|(n, made)| {
            let floats: Vec<_> = made.floats.iter().map(|float| float.0.clone()).collect();
            made::shape(&table, &n.to_string(), &made.source, &floats, &made.histograms)
        }).collect();
        let protocol = if v2 { Protocol::V2 } else { Protocol::V1 };
        let external_labels = made::owned(&external);
        let mut encoder =
            Encoder::new(Options { protocol, external_labels, native_histograms: native, help, rewrite: None });
        for tick in 0..4 {
            // The second request repeats the first, then only the values move, then the times as well.
            let mut time = NOW + if tick == 3 { 7919 } else { 0 };
            let mut batches = Vec::new();
            for (n, gap) in gaps.iter().enumerate() {
                for (shape, made) in shapes.iter().zip(&mades) {
                    batches.push(batch(shape, made, time, (tick.max(1) - 1) * 10 + n, &pool));
                }
                time += gap;
            }
            let batches: Vec<&Batch> = batches.iter().collect();
            let mut body = Vec::new();
            let encoded = encoder.encode(&batches, &mut body);
            wire::check(&body, &batches, encoder.options());
            prop_assert!(encoded.planned == encoded.samples || tick == 0);
        }
    }
}
