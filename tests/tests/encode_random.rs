//! Random shapes and values through the remote-write encoders: what comes out must say what went in, whatever
//! the plan was made from.

use std::sync::Arc;

use collector::encode::{Encoder, Options, Protocol};
use collector::model::{Batch, SeriesTable};
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
