//! Random shapes, values and histograms, for property tests.

use std::sync::Arc;

use collector::model::{Batch, Form, Kind, NativeHistogram, Of, STALE_NAN, SeriesTable, Shape};
use proptest::prelude::*;

use crate::made::{self, Series};

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec!["a", "b", "job", "instance", "mode", "le", "device", "exported_job"])
            .prop_map(str::to_owned),
        "[a-z_]{1,12}",
        "[a-z]{60,200}",
        "\\PC{1,20}",
    ]
}

pub fn series() -> impl Strategy<Value = Series> {
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
pub enum Motion {
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
pub struct Made {
    pub source: Vec<(String, String)>,
    pub floats: Vec<(Series, Motion)>,
    pub histograms: Vec<Series>,
    /// When the counting of the series began: none, or one that comes round.
    pub starts: Vec<i64>,
    pub exemplars: Vec<MadeExemplar>,
}

/// An exemplar, of any position, that comes in some of the ticks.
#[derive(Clone, Debug)]
pub struct MadeExemplar {
    at: prop::sample::Index,
    labels: Vec<(String, String)>,
    value: f64,
    ago_ms: Option<i64>,
    /// One tick of so many has it.
    every: usize,
}

fn exemplar() -> impl Strategy<Value = MadeExemplar> {
    let labels = prop::collection::vec((word(), word()), 0..4);
    let value = prop_oneof![Just(0.0), Just(f64::INFINITY), -1e3..1e3f64];
    (any::<prop::sample::Index>(), labels, value, prop::option::of(-5i64..100_000), 1usize..4)
        .prop_map(|(at, labels, value, ago_ms, every)| MadeExemplar { at, labels, value, ago_ms, every })
}

pub fn made_shape() -> impl Strategy<Value = Made> {
    let source = prop::sample::select(vec![
        vec![],
        vec![("job", "node")],
        vec![("job", "n"), ("instance", "h:9100"), ("mode", "x")],
    ]);
    let floats = prop::collection::vec((series(), motion()), 0..40);
    let starts = prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::collection::vec(prop_oneof![Just(0i64), 1i64..100, 1_600_000_000_000i64..1_800_000_000_000], 1..5),
    ];
    let exemplars = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(exemplar(), 0..8)];
    (source, floats, prop::collection::vec(series(), 0..3), starts, exemplars).prop_map(
        |(source, floats, histograms, starts, exemplars)| Made {
            source: made::owned(&source),
            floats,
            histograms,
            starts,
            exemplars,
        },
    )
}

pub fn histogram() -> impl Strategy<Value = NativeHistogram> {
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

pub fn batch(shape: &Arc<Shape>, made: &Made, time_ms: i64, tick: usize, pool: &[NativeHistogram]) -> Batch {
    let values: Vec<f64> = made.floats.iter().map(|(_, motion)| motion.at(tick)).collect();
    let mut batch = made::batch(shape, time_ms, &values);
    for n in 0..made.histograms.len() {
        batch.push_histogram().clone_from(&pool[(n + tick) % pool.len()]);
    }
    let series = made.floats.len() + made.histograms.len();
    for one in made.exemplars.iter().filter(|one| series > 0 && tick.is_multiple_of(one.every)) {
        let at = one.at.index(series);
        let of = match at.checked_sub(made.floats.len()) {
            Some(at) => Of::Histogram(at as u32),
            None => Of::Float(at as u32),
        };
        let time = time_ms - one.ago_ms.unwrap_or(0);
        batch.exemplars.push(of, one.value, time, one.ago_ms.is_some());
        one.labels.iter().for_each(|(name, value)| batch.exemplars.push_label(name, value));
    }
    batch.exemplars.settle(|_| true);
    batch
}

impl Made {
    /// The shape, of a source of that name.
    pub fn shape(&self, table: &Arc<SeriesTable>, source: &str) -> Arc<Shape> {
        let floats: Vec<Series> = self.floats.iter().map(|float| float.0.clone()).collect();
        let plain = made::shape(table, source, &self.source, &floats, &self.histograms);
        let starts = self.starts.iter().copied().cycle().take(floats.len() + self.histograms.len());
        Shape::started(plain.source.clone(), plain.list().clone(), starts.collect())
    }
}
