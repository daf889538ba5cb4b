//! Direct I/O of known count and size on a loop device.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use collector_tests::cgroup::{Cgroup, Hierarchy, shell_in};
use collector_tests::probe::{Probe, alone};
use collector_tests::skip::{program_or_skip, root_or_skip, skip};

use super::near;

const SMALL: usize = 4096;
const LARGE: usize = 65_536;

/// A loop device: over a file that has no blocks yet, unless over something else.
struct LoopDevice {
    name: String,
    _folder: Option<tempfile::TempDir>,
}

impl LoopDevice {
    fn create_or_skip(test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        File::create(&path).unwrap().set_len(64 << 20).unwrap();
        Self::over_or_skip(test, &path, Some(folder))
    }

    /// Over a file, in a folder that is kept, or over another device.
    fn over_or_skip(test: &str, path: &Path, folder: Option<tempfile::TempDir>) -> Option<Self> {
        if !root_or_skip(test) {
            return None;
        }
        let losetup = program_or_skip(test, &["losetup"])?;
        let found = Command::new(&losetup).arg("-f").output().unwrap();
        let device = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        let made = Command::new(&losetup).arg(&device).arg(path).output().unwrap();
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

/// A device of the device mapper that hands on what it is given after a time.
struct Slow {
    name: String,
    path: String,
}

impl Slow {
    fn create_or_skip(test: &str, below: &LoopDevice, ms: u32) -> Option<Self> {
        let dmsetup = program_or_skip(test, &["dmsetup"])?;
        let name = format!("collector-{}", std::process::id());
        let size = std::fs::read_to_string(format!("/sys/block/{}/size", below.name)).unwrap();
        let table = format!("0 {} delay /dev/{} 0 {ms}", size.trim(), below.name);
        let made = Command::new(dmsetup)
            .args(["create", &name, "--noudevsync", "--table", &table])
            .output()
            .unwrap();
        if !made.status.success() {
            skip(test, &format!("dmsetup: {}", String::from_utf8_lossy(&made.stderr).trim()));
            return None;
        }
        let is_own = |place: &std::path::PathBuf| {
            std::fs::read_to_string(place.join("dm/name")).is_ok_and(|own| own.trim() == name)
        };
        let places = std::fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().path());
        let place = places.into_iter().find(is_own).unwrap();
        let path = format!("/dev/{}", place.file_name().unwrap().to_str().unwrap());
        Some(Slow { name, path })
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = Command::new("dmsetup").args(["remove", "--noudevsync", &self.name]).status();
    }
}

/// Not where other things are: devices of the device mapper are everybody's.
#[test]
#[ignore = "run in a guest by `cargo xtask vm`"]
fn the_delay_of_a_device_mapper_is_that_of_the_disk_above() {
    const DELAY_MS: u32 = 50;
    const READS: usize = 20;
    let test = "the_delay_of_a_device_mapper_is_that_of_the_disk_above";
    let _alone = alone();
    let Some(below) = LoopDevice::create_or_skip(test) else { return };
    let Some(slow) = Slow::create_or_skip(test, &below, DELAY_MS) else { return };
    let Some(above) = LoopDevice::over_or_skip(test, Path::new(&slow.path), None) else { return };
    let Some(mut probe) = Probe::named_or_skip(test, "block") else { return };
    let (file, mut small) = (above.open(), Aligned::new(SMALL));
    let start = Instant::now();
    for number in 0..READS {
        // Each time another page, of which the device in the middle has nothing read ahead.
        file.read_exact_at(small.bytes(), number as u64 * (1 << 20)).unwrap();
    }
    let wall = start.elapsed().as_secs_f64();
    probe.tick();
    let of = |device: &str, what: &str, le: Option<&'static str>| {
        let mut labels = vec![("device", device), ("operation", "read")];
        labels.extend(le.map(|le| ("le", le)));
        probe.value(&format!("collector_block_io_device_seconds_{what}"), &labels)
    };
    let seen = |device: &str| {
        [of(device, "count", None), of(device, "bucket", Some("0.025")), of(device, "bucket", Some("0.1"))]
    };
    let (over, under) = (seen(&above.name), seen(&below.name));
    let sum = of(&above.name, "sum", None);
    let middle = of(slow.path.trim_start_matches("/dev/"), "count", None);
    eprintln!("{test}: above {over:?}, below {under:?}, {sum} s of {wall} s");
    let number = READS as f64;
    assert!(over[0] == number && over[1] == 0.0, "each of them waits: {over:?}");
    assert!(over[2] >= 0.8 * number, "the emulated machine is late now and then: {over:?}");
    assert!(sum >= number * f64::from(DELAY_MS) / 1e3 && sum <= wall, "{sum} s of {wall} s");
    // What waits has not been given to the disk below; and the device in the middle has no requests.
    assert!(under[0] >= number && under[1] >= 0.8 * under[0], "{under:?}");
    assert_eq!(middle, 0.0);
}
