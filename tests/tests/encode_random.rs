//! Random shapes and values through the remote-write encoders: what comes out must say what went in, whatever
//! the plan was made from.

use std::sync::Arc;

use collector::encode::{Encoder, Options, Protocol};
use collector::model::{Batch, SeriesTable, Shape, Source};
use collector_tests::made;
use collector_tests::random::{batch, histogram, made_shape};
use collector_tests::wire;
use proptest::prelude::*;

const NOW: i64 = 1_790_000_000_000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_comes_out_is_what_went_in(
        mades in prop::collection::vec(made_shape(), 1..5),
        pool in prop::collection::vec(histogram(), 1..4),
        gaps in prop::collection::vec(prop_oneof![Just(0i64), Just(1), 1000i64..100_000, 1i64 << 34..1i64 << 40], 1..4),
        (v2, native, help, exemplars) in any::<(bool, bool, bool, bool)>(),
        external in prop::sample::select(vec![vec![], vec![("cluster", "eu"), ("a", "outside")]]),
    ) {
        let table = Arc::new(SeriesTable::default());
        let shapes: Vec<_> = mades.iter().enumerate().map(|(n, made)| made.shape(&table, &n.to_string())).collect();
        let protocol = if v2 { Protocol::V2 } else { Protocol::V1 };
        let external_labels = made::owned(&external);
        let mut encoder =
            Encoder::new(Options { protocol, external_labels, native_histograms: native, exemplars, help, rewrite: None });
        for tick in 0..12 {
            // The second request repeats the first, then only the values move, then the times as well. The tenth has
            // come so often that it gets the best plan.
            let mut time = NOW + (tick as i64 - 2).max(0) * 7919;
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
            let with_exemplars = v2 && exemplars && batches.iter().any(|batch| !batch.exemplars.is_empty());
            let searched = exemplars && v2 && mades.iter().any(|made| !made.exemplars.is_empty());
            prop_assert!(encoded.planned == encoded.samples || tick == 0 || with_exemplars || searched);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Sources of one list share a plan where their labels are as long; what differs must be each one's own.
    #[test]
    fn sources_that_share_a_list_keep_their_labels(
        made in made_shape(),
        pool in prop::collection::vec(histogram(), 1..4),
        values in prop::collection::vec(("[ab1:._]{1,9}", "[a-c\u{e9}]{1,3}"), 2..8),
        native in any::<bool>(),
        external in prop::sample::select(vec![vec![], vec![("cluster", "eu"), ("a", "outside")]]),
    ) {
        let table = Arc::new(SeriesTable::default());
        let first = made.shape(&table, "first");
        let shapes: Vec<_> = values
            .iter()
            .map(|(instance, zone)| {
                let labels = made::owned(&[("job", "a"), ("instance", instance), ("a", zone), ("zone", zone)]);
                Shape::of_list(Arc::new(Source { name: instance.clone(), labels }), first.list().clone())
            })
            .collect();
        let external_labels = made::owned(&external);
        let options =
            Options { protocol: Protocol::V1, external_labels, native_histograms: native, help: false, exemplars: false, rewrite: None };
        let mut encoder = Encoder::new(options);
        // The later rounds are late enough for the best plans.
        for tick in 0..400 {
            let time = NOW + tick as i64 * 1000;
            let of = |n: usize| batch(&shapes[n % shapes.len()], &made, time, tick * 10 + n, &pool);
            let batches: Vec<Batch> = (0..1 + tick % 3).map(|n| of(n + tick)).collect();
            let batches: Vec<&Batch> = batches.iter().collect();
            let mut body = Vec::new();
            let encoded = encoder.encode(&batches, &mut body);
            if !(20..=380).contains(&tick) {
                wire::check(&body, &batches, encoder.options());
            }
            prop_assert_eq!(encoded.planned, encoded.samples);
        }
    }
}
