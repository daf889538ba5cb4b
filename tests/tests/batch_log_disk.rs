//! The batch log on a disk that is full, or read-only for a while. In a test program of its own, because the
//! children that mount would hold the locks of other tests for a moment.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use collector::batch_log::{BatchLog, Limits, LogError};
use collector_tests::logged::{self, Maker, read_all};
use collector_tests::skip::skip;

/// A file system of its own and small, or nothing where we may not mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=512k", "collector-test"])
            .arg(folder.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(SmallDisk(folder)),
            other => {
                skip(test, &format!("cannot mount a small file system, which takes root: {other:?}"));
                None
            }
        }
    }

    fn remount(&self, how: &str) {
        let options = format!("remount,{how}");
        let status = Command::new("mount").args(["-o", &options]).arg(self.0.path()).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// Takes all room but so many bytes.
fn fill(path: &Path, left: u64) {
    let mut file = std::fs::File::create(path).unwrap();
    let mut length = 0u64;
    while file.write_all(&[1; 4096]).is_ok() {
        length += 4096;
    }
    file.set_len(length.checked_sub(left).expect("there was room")).unwrap();
}

#[test]
fn a_full_disk_is_an_error_and_the_log_goes_on_when_there_is_room() {
    let test = "a_full_disk_is_an_error_and_the_log_goes_on_when_there_is_room";
    let Some(disk) = SmallDisk::new(test) else { return };
    let maker = Maker::default();
    let folder = disk.0.path().join("log");
    let limits = Limits { segment_bytes: 8000, ..Limits::default() };
    let mut log = logged::open(&folder, limits);
    let position = log.position("held").unwrap();
    let filler = disk.0.path().join("filler");
    let (mut sequence, mut refusals, mut late) = (0, 0, 0);
    for round in 0..20u64 {
        // Two pages are left, so that the disk fills up at another place within a record each time.
        fill(&filler, 8192 + 4096 * (round % 3));
        for _ in 0..100_000 {
            match log.append(&maker.batch(sequence + 1)) {
                Ok(given) => {
                    sequence += 1;
                    assert_eq!(given, sequence);
                }
                Err(error) => {
                    assert!(matches!(error, LogError::Full { .. }), "{error}");
                    assert!(error.is_passing());
                    refusals += 1;
                    break;
                }
            }
        }
        assert!(log.append(&maker.batch(sequence + 1)).is_err(), "still full");
        assert!(
            log.stats().bytes + 8 >= logged::bytes_on_disk(&folder),
            "what was written in part is cut off"
        );
        std::fs::remove_file(&filler).unwrap();
        sequence += 1;
        // The kernel counts the pages of a small file system by CPU: room may show a little after it was made.
        let given = loop {
            match log.append(&maker.batch(sequence)) {
                Err(LogError::Full { .. }) if late < 20_000 => late += 1,
                other => break other.unwrap(),
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        assert_eq!(given, sequence, "the very batch that was refused");
    }
    assert_eq!(refusals, 20);
    assert_eq!(log.stats().write_errors, 40 + late);
    let given = read_all(&mut log.reader(position.next()));
    logged::check(&given, &maker);
    assert_eq!(given.len() as u64, sequence);
    assert_eq!((log.stats().lost, log.stats().corrupt), (0, 0));
    drop((log, position));
    let log = logged::open(&folder, limits);
    assert_eq!(read_all(&mut log.reader(1)).len() as u64, sequence, "after a restart as well");
}

#[test]
fn batches_that_find_no_room_together_are_out_of_the_log_together() {
    let test = "batches_that_find_no_room_together_are_out_of_the_log_together";
    let Some(disk) = SmallDisk::new(test) else { return };
    let maker = Maker::default();
    let mut log = logged::open(&disk.0.path().join("log"), Limits::default());
    let position = log.position("held").unwrap();
    let filler = disk.0.path().join("filler");
    let stage = |log: &mut BatchLog, from: u64, to: u64| {
        (from..to)
            .for_each(|sequence| assert_eq!(log.stage(sequence, &maker.batch(sequence)).unwrap(), sequence));
    };
    stage(&mut log, 1, 4);
    assert!(log.commit().unwrap());
    assert!(!log.commit().unwrap(), "nothing is left");
    fill(&filler, 0);
    // More than what is left of the last page.
    stage(&mut log, 4, 1000);
    assert!(matches!(log.commit(), Err(LogError::Full { .. })));
    assert_eq!((log.next(), log.stats().write_errors), (4, 1));
    std::fs::remove_file(&filler).unwrap();
    for attempt in 0.. {
        stage(&mut log, 4, 1010);
        match log.commit() {
            // The kernel counts the pages of a small file system by CPU: room may show a little after it was made.
            Err(LogError::Full { .. }) if attempt < 20_000 => {}
            done => {
                assert!(done.unwrap());
                break;
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let given = read_all(&mut log.reader(position.next()));
    logged::check(&given, &maker);
    assert_eq!(given.len(), 1009);
    assert_eq!((log.stats().lost, log.stats().corrupt), (0, 0));
}

#[test]
fn a_disk_that_is_read_only_for_a_while() {
    let Some(disk) = SmallDisk::new("a_disk_that_is_read_only_for_a_while") else { return };
    let maker = Maker::default();
    let folder = disk.0.path().join("log");
    let mut log = logged::open(&folder, Limits::default());
    let position = log.position("held").unwrap();
    (1..=50).for_each(|sequence| assert_eq!(log.append(&maker.batch(sequence)).unwrap(), sequence));
    // The kernel refuses to make it read-only while files are open for writing.
    drop((log, position));
    disk.remount("ro");
    let refused = BatchLog::open(&folder, Limits::default(), Arc::default());
    assert!(matches!(refused, Err(LogError::Io { .. })), "it says so, and does not panic");
    disk.remount("rw");
    let mut log = logged::open(&folder, Limits::default());
    let position = log.position("held").unwrap();
    assert_eq!(log.append(&maker.batch(51)).unwrap(), 51);
    assert_eq!(read_all(&mut log.reader(position.next())).len(), 51);
}
