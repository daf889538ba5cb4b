//! The batch log when its files are cut or damaged: what is lost is bounded and counted, and what is given is
//! right.

use std::path::Path;

use collector::batch_log::{DEFINE_EVERY, KEY_EVERY, Limits};
use collector_tests::logged::{self, Maker, read_all};

/// A closed segment and one that was being written; both files, and how many batches there are.
fn written(folder: &Path) -> (Vec<std::path::PathBuf>, u64) {
    let maker = Maker::default();
    let limits = Limits { segment_bytes: 1200, ..Limits::default() };
    let mut log = logged::open(folder, limits);
    let _held = log.position("held").unwrap();
    let mut sequence = 0;
    while log.stats().segments < 2 || sequence % 20 != 0 {
        sequence += 1;
        log.append(&maker.batch(sequence)).unwrap();
    }
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "batches"))
        .collect();
    files.sort();
    (files, sequence)
}

#[test]
fn cut_at_every_byte_it_keeps_what_was_whole_and_goes_on() {
    let maker = Maker::default();
    let folder = tempfile::tempdir().unwrap();
    let (files, batches) = written(folder.path());
    let bytes = std::fs::read(&files[1]).unwrap();
    let first: u64 = files[1].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let mut last_given = 0;
    for cut in 0..=bytes.len() {
        std::fs::write(&files[1], &bytes[..cut]).unwrap();
        let mut log = logged::open(folder.path(), Limits::default());
        assert_eq!(log.stats().bytes, logged::bytes_on_disk(folder.path()), "what was not whole is cut off");
        let position = log.position("held").unwrap();
        let given = read_all(&mut log.reader(position.next()));
        logged::check(&given, &maker);
        let last = given.last().unwrap().0;
        assert_eq!(given.len() as u64, last, "from the first to the last none is missing");
        assert!(last >= first - 1 && last >= last_given, "the longer the file, the more there is");
        assert!(log.stats().corrupt + log.stats().lost == 0, "a cut is no damage");
        last_given = last;
        let next = log.append(&maker.batch(last + 1)).unwrap();
        assert_eq!(next, last + 1);
        drop(log);
        // What was cut off is gone for good: later it does not pass for damage.
        let log = logged::open(folder.path(), Limits::default());
        assert_eq!(read_all(&mut log.reader(1)).len() as u64, next);
        assert_eq!(log.stats().corrupt, 0);
        drop(log);
        std::fs::remove_file(folder.path().join(format!("{next:020}.batches"))).unwrap();
    }
    assert_eq!(last_given, batches);
}

#[test]
fn a_damaged_byte_costs_its_record_and_what_was_packed_against_it() {
    let maker = Maker::default();
    let folder = tempfile::tempdir().unwrap();
    let (files, batches) = written(folder.path());
    let (mut worst, mut harmless) = (0, 0);
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            std::fs::write(file, &damaged).unwrap();
            let log = logged::open(folder.path(), Limits::default());
            let mut reader = log.reader(1);
            let given = read_all(&mut reader);
            logged::check(&given, &maker);
            // Batches after the last sound record are cut off, and no one can know of them.
            let unknown = batches + 1 - log.next();
            let lost = batches - given.len() as u64 - unknown;
            assert_eq!((reader.lost(), log.stats().lost), (lost, lost), "byte {at}");
            // At worst a definition: one of the two shapes, to the end of its segment.
            assert!(lost <= batches / 2 + 1, "byte {at}: {lost} of {batches}");
            let parity = |sequence: u64| given.iter().filter(|batch| batch.0 % 2 == sequence).count() as u64;
            let whole = |sequence| parity(sequence) + unknown >= batches / 2;
            assert!(whole(0) || whole(1), "byte {at}: the other shape is as it was");
            worst = worst.max(lost);
            harmless += u64::from(lost + unknown == 0);
        }
        std::fs::write(file, &bytes).unwrap();
    }
    assert!(worst > 1, "a damaged definition was among them");
    assert!(harmless <= 2 * 8, "only the opening of a segment can be damaged without loss: {harmless}");
}

#[test]
fn what_is_lost_behind_damage_is_bounded() {
    let maker = Maker::default();
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { segment_bytes: 1 << 20, ..Limits::default() };
    let mut log = logged::open(folder.path(), limits);
    let _held = log.position("held").unwrap();
    let mut ends = Vec::new();
    for sequence in 1..=3000 {
        log.append(&maker.batch(sequence)).unwrap();
        ends.push(log.stats().bytes as usize);
    }
    drop(log);
    let file = folder.path().join(format!("{:020}.batches", 1));
    let bytes = std::fs::read(&file).unwrap();
    // The definition of the first batch's shape; then a batch somewhere that stands alone for none.
    for (at, most) in [(30, DEFINE_EVERY), (ends[1500] - 3, KEY_EVERY)] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        std::fs::write(&file, &damaged).unwrap();
        let log = logged::open(folder.path(), limits);
        let mut reader = log.reader(1);
        let given = read_all(&mut reader);
        logged::check(&given, &maker);
        assert_eq!(reader.lost() + given.len() as u64, 3000);
        assert!((1..=u64::from(most)).contains(&reader.lost()), "{} lost by byte {at}", reader.lost());
        assert_eq!(log.stats().corrupt, 1);
    }
}
