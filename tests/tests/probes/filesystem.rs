//! Reads, writes and fsyncs of known number and size, in files of a known type of file system.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use collector_tests::probe::{Probe, alone};

use super::near;

const WRITES: usize = 300;
const SIZE: usize = 4_096;
const SYNCS: usize = 25;

/// The type of the file system at a path, as the kernel names it.
fn kind_at(path: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let best = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (mount, kind) = (words.next()?, words.next()?);
            path.starts_with(mount).then_some((mount.len(), kind))
        })
        .max();
    best.unwrap().1.to_owned()
}

#[test]
fn operations_are_counted_by_type() {
    let test = "operations_are_counted_by_type";
    let _alone = alone();
    let Some(mut probe) = Probe::tracing_or_seen(test, "filesystem") else { return };
    let folder = tempfile::tempdir().unwrap();
    let kind = kind_at(folder.path());
    let of = |what: &'static str, operation: &'static str| {
        (what, vec![("type", kind.as_str()), ("operation", operation)])
    };
    let (count, bytes, errors) = (
        "collector_filesystem_operation_seconds_count",
        "collector_filesystem_operation_bytes_total",
        "collector_filesystem_operation_errors_total",
    );
    let sum = "collector_filesystem_operation_seconds_sum";
    let before = probe.before(&[
        of(count, "write"),
        of(bytes, "write"),
        of(count, "read"),
        of(bytes, "read"),
        of(count, "fsync"),
        of(errors, "read"),
        of(sum, "fsync"),
    ]);
    let path = folder.path().join("file");
    let mut file = File::create(&path).unwrap();
    let start = std::time::Instant::now();
    for number in 0..WRITES {
        file.write_all(&[1; SIZE]).unwrap();
        // By both calls in turn.
        match number % (2 * WRITES / SYNCS) {
            0 => file.sync_data().unwrap(),
            number if number == WRITES / SYNCS => file.sync_all().unwrap(),
            _ => {}
        }
    }
    let took = start.elapsed().as_secs_f64();
    let mut file = File::open(&path).unwrap();
    for _ in 0..WRITES {
        file.read_exact(&mut [0; SIZE]).unwrap();
    }
    let failed = File::open(folder.path()).unwrap().read(&mut [0; 16]);
    assert!(failed.is_err(), "a folder can't be read");
    let grown = probe.grown(&before);
    eprintln!("{test}: {kind} {grown:?}");
    let (number, size) = (WRITES as f64, (WRITES * SIZE) as f64);
    // Others write and read there too, but little.
    near("writes", grown[0], number, 20.0);
    near("bytes written", grown[1], size, 0.1 * size);
    near("reads", grown[2], number, 20.0);
    near("bytes read", grown[3], size, 0.1 * size);
    near("syncs", grown[4], SYNCS as f64, 2.0);
    assert!(grown[5] >= 1.0, "the folder's: {grown:?}");
    assert!(grown[6] > 0.0 && grown[6] < took, "{} s in syncs, of {took} s", grown[6]);
    near("lost", probe.lost(), 0.0, 20.0);
}
