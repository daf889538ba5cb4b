//! The batch log: what is appended is read, once and in order, through restarts, limits and many readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use collector::batch_log::{BatchLog, Limits, LogError};
use collector::model::{Batch, SeriesTable};
use collector_tests::logged::{self, Maker, NOW, SAMPLES, read_all};

fn small() -> Limits {
    Limits { max_bytes: 1 << 20, segment_bytes: 2000, ..Limits::default() }
}

fn numbers(given: &[(u64, String)]) -> Vec<u64> {
    given.iter().map(|batch| batch.0).collect()
}

#[test]
fn a_restart_sends_on_from_the_acknowledged_position() {
    let folder = tempfile::tempdir().unwrap();
    let maker = Maker::default();
    let mut sent = 0;
    for run in 0..5u64 {
        let mut log = logged::open(folder.path(), small());
        let mut position = log.position("main").unwrap();
        assert_eq!(position.next(), sent + 1);
        let behind = log.position("behind").unwrap();
        assert_eq!(behind.next(), 1, "it acknowledges nothing");
        for sequence in run * 200 + 1..=(run + 1) * 200 {
            assert_eq!(log.append(&maker.batch(sequence)).unwrap(), sequence);
        }
        let given = read_all(&mut log.reader(position.next()));
        assert_eq!(numbers(&given), (sent + 1..=(run + 1) * 200).collect::<Vec<_>>());
        logged::check(&given, &maker);
        assert_eq!(read_all(&mut log.reader(behind.next())).len() as u64, (run + 1) * 200);
        // Of what was given some is acknowledged; the rest is given again.
        sent = run * 200 + 150;
        position.acknowledge(sent).unwrap();
        assert_eq!(log.stats().lost + log.stats().corrupt, 0);
    }
}

#[test]
fn what_every_endpoint_has_is_removed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let maker = Maker::default();
    let mut log = logged::open(folder.path(), small());
    let (mut fast, mut slow) = (log.position("fast").unwrap(), log.position("slow").unwrap());
    for sequence in 1..=1000 {
        log.append(&maker.batch(sequence)).unwrap();
        fast.acknowledge(sequence).unwrap();
    }
    let all = log.stats().segments;
    assert!(all > 10);
    slow.acknowledge(500).unwrap();
    log.enforce(NOW);
    assert!(log.stats().segments < all && log.stats().segments > all / 3);
    assert_eq!(numbers(&read_all(&mut log.reader(slow.next()))), (501..=1000).collect::<Vec<_>>());

    log.keep_endpoints(&["fast"], NOW).unwrap();
    log.enforce(NOW);
    assert_eq!(log.stats().segments, 1, "an endpoint that is no longer configured holds nothing");
    assert_eq!((log.stats().dropped_size, log.stats().dropped_age), (0, 0), "that is no loss");
    drop((log, slow));
    let log = logged::open(folder.path(), small());
    assert_eq!(log.position("slow").unwrap().next(), 501, "its position stays in case it comes back");
    let year = 365 * 86_400_000;
    log.keep_endpoints(&["fast"], collector::sys::clock::now_ms() + year).unwrap();
    assert_eq!(log.position("slow").unwrap().next(), 1001, "but not for ever");
}

#[test]
fn beyond_its_bytes_the_log_drops_the_oldest_and_counts_it() {
    let folder = tempfile::tempdir().unwrap();
    let maker = Maker::default();
    let limits = Limits { max_bytes: 20_000, segment_bytes: 2000, ..Limits::default() };
    let mut log = logged::open(folder.path(), limits);
    let mut position = log.position("dead").unwrap();
    position.acknowledge(7).unwrap();
    let mut early = log.reader(position.next());
    for sequence in 1..=2000 {
        log.append(&maker.batch(sequence)).unwrap();
        assert!(log.stats().bytes <= 20_000, "{} bytes", log.stats().bytes);
    }
    let given = read_all(&mut early);
    assert!(given.len() > 100);
    assert_eq!(given.last().unwrap().0, 2000);
    logged::check(&given, &maker);
    let missing = 2000 - 7 - given.len() as u64;
    assert_eq!(log.stats().dropped_size, missing * SAMPLES, "every sample is given or counted");
    assert_eq!((log.stats().dropped_age, log.stats().lost), (0, 0));
}

#[test]
fn beyond_its_age_too() {
    let folder = tempfile::tempdir().unwrap();
    let maker = Maker::default();
    let limits = Limits { max_age_ms: 500_000, ..small() };
    let mut log = logged::open(folder.path(), limits);
    let position = log.position("dead").unwrap();
    for sequence in 1..=2000 {
        log.append(&maker.batch(sequence)).unwrap();
    }
    let given = read_all(&mut log.reader(position.next()));
    assert!(
        (500..1000).contains(&given.len()),
        "a batch a second, and a segment more at most: {}",
        given.len()
    );
    assert_eq!(log.stats().dropped_age, (2000 - given.len() as u64) * SAMPLES);
    assert_eq!(log.stats().dropped_size, 0);
}

#[test]
fn readers_keep_up_with_a_writer_and_none_misses_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let table = Arc::new(SeriesTable::default());
    let maker = Maker::new(&table);
    let mut log = BatchLog::open(folder.path(), small(), table).unwrap();
    let held = log.position("held").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for start in [1, 1, 700] {
            let (mut reader, done, maker) = (log.reader(start), &done, &maker);
            scope.spawn(move || {
                let (mut batch, mut next) = (Batch::default(), start);
                loop {
                    let last_look = done.load(Ordering::Acquire);
                    while let Some(sequence) = reader.read(&mut batch).unwrap() {
                        assert_eq!(sequence, next);
                        assert_eq!(logged::said(&batch), logged::said(&maker.batch(sequence)));
                        assert_eq!(
                            batch.shape().id(),
                            maker.batch(sequence).shape().id(),
                            "the living shape"
                        );
                        next += 1;
                    }
                    if last_look {
                        break;
                    }
                    std::thread::yield_now();
                }
                assert_eq!(next, 3001);
                assert!(reader.at_end());
            });
        }
        for sequence in 1..=3000 {
            log.append(&maker.batch(sequence)).unwrap();
        }
        done.store(true, Ordering::Release);
    });
    assert_eq!(held.next(), 1);
}

#[test]
fn one_process_has_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = logged::open(folder.path(), small());
    let second = BatchLog::open(folder.path(), small(), Arc::default());
    let Err(error @ LogError::Locked { .. }) = second else { panic!("it is locked") };
    assert!(error.to_string().contains(&format!("in use by another process (pid {})", std::process::id())));
    drop(first);
    logged::open(folder.path(), small());
}

#[test]
fn numbers_go_on_although_the_segments_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let maker = Maker::default();
    let mut log = logged::open(folder.path(), small());
    let mut position = log.position("main").unwrap();
    (1..=50).for_each(|sequence| assert_eq!(log.append(&maker.batch(sequence)).unwrap(), sequence));
    position.acknowledge(50).unwrap();
    drop((log, position));
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|suffix| suffix == "batches") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let mut log = logged::open(folder.path(), small());
    let position = log.position("main").unwrap();
    assert_eq!(log.append(&maker.batch(51)).unwrap(), 51);
    assert_eq!(numbers(&read_all(&mut log.reader(position.next()))), [51]);
}

#[test]
fn shapes_that_come_and_go_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let table = Arc::new(SeriesTable::default());
    let limits = Limits { segment_bytes: 1 << 20, ..Limits::default() };
    let mut log = BatchLog::open(folder.path(), limits, table.clone()).unwrap();
    let _held = log.position("held").unwrap();
    let mut said = Vec::new();
    for round in 0..300 {
        let series = [collector_tests::made::Series::gauge("x", &[("pod", &round.to_string())])];
        let shape = collector_tests::made::shape(&table, "pods", &[], &series, &[]);
        for tick in 0..3 {
            let batch = collector_tests::made::batch(&shape, NOW + tick, &[tick as f64]);
            said.push(logged::said(&batch));
            log.append(&batch).unwrap();
        }
    }
    assert!(table.len() < 10, "{} series are kept for no one", table.len());
    let given = read_all(&mut log.reader(1));
    assert_eq!(given.into_iter().map(|batch| batch.1).collect::<Vec<_>>(), said);
    assert!(table.is_empty());
}

/// Bytes that this thread has read, from files and whatever else.
fn bytes_read() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.unwrap().parse().unwrap()
}

#[test]
fn opening_reads_no_more_of_a_large_log_than_of_a_small_one() {
    let maker = Maker::default();
    let read = |segments| {
        let folder = tempfile::tempdir().unwrap();
        let mut log = logged::open(folder.path(), small());
        let mut position = log.position("behind").unwrap();
        let mut sequence = 0;
        while log.stats().segments < segments {
            sequence += 1;
            log.append(&maker.batch(sequence)).unwrap();
        }
        position.acknowledge(sequence - 5).unwrap();
        let bytes = log.stats().bytes;
        drop((log, position));
        let before = bytes_read();
        let log = logged::open(folder.path(), small());
        let given = read_all(&mut log.reader(log.position("behind").unwrap().next()));
        assert_eq!((given[0].0, given.len()), (sequence - 4, 5));
        (bytes, bytes_read() - before)
    };
    let (few, many) = (read(3), read(100));
    assert!(many.0 > 20 * few.0, "{many:?} after {few:?}");
    assert!(many.1 < 2 * few.1, "{many:?} after {few:?}");
}
