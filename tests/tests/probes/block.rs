//! Direct I/O of known count and size on a loop device.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::Command;
use std::time::Instant;

use collector_tests::cgroup::{Cgroup, Hierarchy, shell_in};
use collector_tests::probe::{Probe, alone};
use collector_tests::skip::{program_or_skip, root_or_skip, skip};

use super::near;

const SMALL: usize = 4096;
const LARGE: usize = 65_536;

/// A loop device over a file that has no blocks yet.
struct LoopDevice {
    name: String,
    _folder: tempfile::TempDir,
}

impl LoopDevice {
    fn create_or_skip(test: &str) -> Option<Self> {
        if !root_or_skip(test) {
            return None;
        }
        let losetup = program_or_skip(test, &["losetup"])?;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        File::create(&path).unwrap().set_len(64 << 20).unwrap();
        let found = Command::new(&losetup).arg("-f").output().unwrap();
        let device = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        let made = Command::new(&losetup).arg(&device).arg(&path).output().unwrap();
        if !made.status.success() {
            skip(test, &format!("losetup: {}", String::from_utf8_lossy(&made.stderr).trim()));
            return None;
        }
        Some(LoopDevice { name: device.trim_start_matches("/dev/").to_owned(), _folder: folder })
    }

    fn open(&self) -> File {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_DIRECT);
        options.open(format!("/dev/{}", self.name)).unwrap()
    }

    /// Reads and writes done, sectors of each, and ms that they took, as the kernel counts them.
    fn stat(&self) -> Vec<f64> {
        let text = std::fs::read_to_string(format!("/sys/block/{}/stat", self.name)).unwrap();
        text.split_whitespace().map(|field| field.parse().unwrap()).collect()
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &format!("/dev/{}", self.name)]).status();
    }
}

/// Memory that direct I/O takes.
struct Aligned(*mut u8, Layout);

impl Aligned {
    fn new(size: usize) -> Self {
        let layout = Layout::from_size_align(size, 4096).unwrap();
        // SAFETY: the size is not 0.
        Aligned(unsafe { alloc_zeroed(layout) }, layout)
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the memory is ours, of that size, and zeroed.
        unsafe { std::slice::from_raw_parts_mut(self.0, self.1.size()) }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: it was made with this layout.
        unsafe { dealloc(self.0, self.1) };
    }
}

#[test]
fn requests_are_counted_by_device_operation_and_size() {
    let test = "requests_are_counted_by_device_operation_and_size";
    let _alone = alone();
    let Some(mut probe) = Probe::named_or_skip(test, "block") else { return };
    let Some(device) = LoopDevice::create_or_skip(test) else { return };
    let file = device.open();
    let (mut small, mut large) = (Aligned::new(SMALL), Aligned::new(LARGE));
    // The device has a name from the first request on.
    file.read_exact_at(small.bytes(), 0).unwrap();
    let of = |operation: &'static str| vec![("device", device.name.as_str()), ("operation", operation)];
    let with = |operation, le| [of(operation), vec![("le", le)]].concat();
    let before = probe.before(&[
        ("collector_block_io_size_bytes_count", of("read")),
        ("collector_block_io_size_bytes_sum", of("read")),
        ("collector_block_io_size_bytes_bucket", with("read", "512")),
        ("collector_block_io_size_bytes_bucket", with("read", "4096")),
        ("collector_block_io_size_bytes_count", of("write")),
        ("collector_block_io_size_bytes_bucket", with("write", "16384")),
        ("collector_block_io_size_bytes_bucket", with("write", "65536")),
        ("collector_block_io_device_seconds_count", of("read")),
        ("collector_block_io_size_bytes_count", of("flush")),
        ("collector_block_io_device_seconds_sum", of("read")),
        ("collector_block_io_queue_seconds_sum", of("read")),
        ("collector_block_io_device_seconds_sum", of("write")),
        ("collector_block_io_queue_seconds_sum", of("write")),
    ]);
    let (stat, start) = (device.stat(), Instant::now());
    for number in 0..500 {
        file.read_exact_at(small.bytes(), number * SMALL as u64).unwrap();
    }
    for number in 0..200 {
        file.write_all_at(large.bytes(), number * LARGE as u64).unwrap();
    }
    let wall = start.elapsed().as_secs_f64();
    // The kernel counts as a write, with its time, what asks for the flush.
    let now = device.stat();
    file.sync_all().unwrap();
    let grown = probe.grown(&before);
    eprintln!("{test}: {grown:?} in {wall} s, the kernel {:?}", (&stat[..8], &now[..8]));
    assert_eq!(grown[..4], [500.0, 500.0 * SMALL as f64, 0.0, 500.0], "reads of 4 KiB");
    assert_eq!(grown[4..7], [200.0, 0.0, 200.0], "writes of 64 KiB");
    assert_eq!(grown[7], 500.0, "each read has a device time");
    assert!(grown[8] >= 1.0, "the flush is counted");
    assert_eq!([now[0] - stat[0], now[4] - stat[4]], [500.0, 200.0], "the kernel's own count");
    // The kernel's account of the same requests, in whole ms, ends a moment after ours.
    let truth = (now[3] - stat[3] + now[7] - stat[7]) / 1e3;
    let seen: f64 = grown[9..].iter().sum();
    assert!(seen > 0.0 && seen <= wall, "{seen} s of {wall} s");
    near("seconds in the queue and the device", seen, truth, 0.1 * truth + 0.005);
}

/// Not where other things are: it changes how a device throttles.
#[test]
#[ignore = "run in a guest by `cargo xtask vm`"]
fn times_are_kept_where_the_kernel_does_not_keep_them() {
    let test = "times_are_kept_where_the_kernel_does_not_keep_them";
    let _alone = alone();
    let Some(device) = LoopDevice::create_or_skip(test) else { return };
    // Without write-back throttling the queue does not keep the time of issue.
    let limit = format!("/sys/block/{}/queue/wbt_lat_usec", device.name);
    if let Err(error) = std::fs::write(&limit, "0") {
        return skip(test, &format!("{limit}: {error}"));
    }
    let Some(mut probe) = Probe::named_or_skip(test, "block") else { return };
    let file = device.open();
    let mut small = Aligned::new(SMALL);
    let start = Instant::now();
    for number in 0..300 {
        file.read_exact_at(small.bytes(), number * SMALL as u64).unwrap();
    }
    let wall = start.elapsed().as_secs_f64();
    probe.tick();
    let of = |name: &str| probe.value(name, &[("device", &device.name), ("operation", "read")]);
    assert_eq!(of("collector_block_io_size_bytes_count"), 300.0);
    assert_eq!(of("collector_block_io_device_seconds_count"), 300.0, "lost: {}", probe.lost());
    let device_time = of("collector_block_io_device_seconds_sum");
    assert!(device_time > 0.0 && device_time <= wall, "{device_time} s of {wall} s");
}

#[test]
fn requests_are_counted_for_the_cgroup_that_makes_them() {
    let test = "requests_are_counted_for_the_cgroup_that_makes_them";
    let _alone = alone();
    let Some(mut probe) = Probe::named_or_skip(test, "block") else { return };
    let Some(device) = LoopDevice::create_or_skip(test) else { return };
    let Some(cgroup) = Cgroup::create_or_skip(test, Hierarchy::Of("blkio")) else { return };
    let path = format!("if=/dev/{}", device.name);
    let read = |count: &str| {
        let arguments = [path.as_str(), count];
        let script = "exec dd \"$0\" of=/dev/null bs=4096 iflag=direct \"$1\" 2>/dev/null";
        assert!(shell_in(&[&cgroup], script, &arguments).status().unwrap().success());
    };
    // What a shell needs to start is read from disk at most once.
    read("count=1");
    let reads = vec![("cgroup", cgroup.path.as_str()), ("operation", "read")];
    let before = probe.before(&[
        ("collector_cgroup_block_io_requests_total", reads.clone()),
        ("collector_cgroup_block_io_bytes_total", reads),
        ("collector_cgroup_block_io_device_seconds_total", vec![("cgroup", cgroup.path.as_str())]),
    ]);
    assert!(before[0].2 >= 1.0, "{} is known by its name: {before:?}", cgroup.path);
    read("count=300");
    let grown = probe.grown(&before);
    // The file below the device may have to be looked up on disk; and a busy machine once showed 299, none of them lost.
    near("requests", grown[0], 300.0, 10.0);
    near("bytes", grown[1], 300.0 * 4096.0, 10.0 * 4096.0);
    assert!(grown[2] > 0.0, "{grown:?}");
    assert_eq!(probe.lost(), 0.0);
}
