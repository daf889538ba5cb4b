//! Random batches through the batch log, with restarts in between: what is read is what was appended.

use std::sync::Arc;

use collector::batch_log::{BatchLog, Limits};
use collector::model::{Batch, SeriesTable};
use collector_tests::logged;
use collector_tests::random::{batch, histogram, made_shape};
use proptest::prelude::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Act {
    /// A batch of the shape of that number, so many milliseconds after the last.
    Append(usize, i64),
    /// The same, to be written with what comes after it.
    Stage(usize, i64),
    /// The shape of that number is made anew, with the same series.
    Renew(usize),
    Restart,
    /// The endpoint reads so many, and acknowledges them.
    Read(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let batch = || (0..4usize, prop_oneof![Just(0), Just(1000), any::<i64>()]);
    prop_oneof![
        10 => batch().prop_map(|(n, gap)| Act::Append(n, gap)),
        10 => batch().prop_map(|(n, gap)| Act::Stage(n, gap)),
        1 => (0..4usize).prop_map(Act::Renew),
        1 => Just(Act::Restart),
        2 => (0..20usize).prop_map(Act::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_is_what_was_appended(
        mades in prop::collection::vec(made_shape(), 4),
        pool in prop::collection::vec(histogram(), 1..4),
        acts in prop::collection::vec(act(), 1..150),
        segment_bytes in prop::sample::select(vec![1u64, 3000, 1 << 20]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { segment_bytes, max_age_ms: i64::MAX, ..Limits::default() };
        let mut table = Arc::new(SeriesTable::default());
        let make = |table: &Arc<SeriesTable>| -> Vec<_> {
            mades.iter().enumerate().map(|(n, made)| made.shape(table, &n.to_string())).collect()
        };
        let mut shapes = make(&table);
        let mut log = Some(BatchLog::open(folder.path(), limits, table.clone()).unwrap());
        let mut position = log.as_ref().unwrap().position("only").unwrap();
        let mut reader = log.as_ref().unwrap().reader(position.next());
        let (mut appended, mut time, mut slab, mut read) = (Vec::new(), 0i64, Batch::default(), 0u64);
        for (tick, act) in acts.iter().chain([&Act::Restart, &Act::Read(usize::MAX)]).enumerate() {
            match act {
                Act::Append(n, gap) | Act::Stage(n, gap) => {
                    time = time.wrapping_add(*gap);
                    let (batch, log) = (batch(&shapes[*n], &mades[*n], time, tick / 3, &pool), log.as_mut().unwrap());
                    let given = if let Act::Stage(..) = act { log.stage(0, &batch) } else { log.append(&batch) };
                    prop_assert_eq!(given.unwrap(), appended.len() as u64 + 1);
                    appended.push(logged::said(&batch));
                }
                Act::Renew(n) => shapes[*n] = mades[*n].shape(&table, &n.to_string()),
                Act::Restart => {
                    log.as_mut().unwrap().commit().unwrap();
                    drop(log.take());
                    table = Arc::new(SeriesTable::default());
                    shapes = make(&table);
                    let opened = BatchLog::open(folder.path(), limits, table.clone()).unwrap();
                    position = opened.position("only").unwrap();
                    prop_assert_eq!(position.next(), read + 1);
                    reader = opened.reader(position.next());
                    log = Some(opened);
                }
                Act::Read(many) => {
                    log.as_mut().unwrap().commit().unwrap();
                    for _ in 0..*many {
                        let Some(sequence) = reader.read(&mut slab).unwrap() else { break };
                        read += 1;
                        prop_assert_eq!(sequence, read);
                        prop_assert_eq!(&logged::said(&slab), &appended[read as usize - 1]);
                        position.acknowledge(sequence).unwrap();
                    }
                }
            }
        }
        prop_assert_eq!(read, appended.len() as u64);
        let stats = log.unwrap().stats();
        prop_assert_eq!((stats.corrupt, stats.lost, stats.dropped_age, stats.dropped_size), (0, 0, 0, 0));
    }
}
