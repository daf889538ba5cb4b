//! A steady tick allocates nothing: neither over the fixtures, nor over this host.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use collector::model::{Batch, SeriesTable};
use collector::sources::host::{FlagValues, HostReader, Paths, Selection};

/// Counts what the thread that ticks allocates; others (of the test harness) do not matter.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends may allocate after its locals are gone.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Ticks without an allocation that end the warm-up, or else this time.
const WARM_UP: usize = 5;
const SETTLING: Duration = Duration::from_secs(4);
const TICKS: usize = 100;

/// A reader, and slabs that go round.
struct Subject {
    reader: HostReader,
    table: Arc<SeriesTable>,
    slabs: Vec<Batch>,
    sent: Vec<Batch>,
}

impl Subject {
    fn new(paths: &Paths, flags: &FlagValues, enabled: impl Fn(&str, bool) -> bool) -> Self {
        let table = Arc::new(SeriesTable::default());
        let reader = HostReader::new(paths, flags, enabled, &[], &table).unwrap();
        Subject { reader, table, slabs: Vec::new(), sent: Vec::new() }
    }

    /// Ticks until nothing is new any more: files written a moment ago are read again until their time stamps
    /// can be trusted. Returns the sum of the shapes.
    fn warm_up(&mut self) -> u64 {
        let start = Instant::now();
        let mut quiet = 0;
        loop {
            let (allocations, shapes) = self.tick();
            quiet = if allocations == 0 { quiet + 1 } else { 0 };
            if quiet == WARM_UP || start.elapsed() > SETTLING {
                return shapes;
            }
            if start.elapsed() > SETTLING / 2 {
                std::thread::sleep(SETTLING / 100);
            }
        }
    }

    /// Allocations of one tick, and the shapes that came of it in sum (equal as long as all stay the same).
    fn tick(&mut self) -> (u64, u64) {
        let Subject { reader, slabs, sent, .. } = self;
        let before = ALLOCATIONS.get();
        reader.run(&Selection::All, 1, || slabs.pop().unwrap_or_default(), |batch| sent.push(batch));
        let shapes = sent.iter().map(|batch| batch.shape().id()).sum();
        slabs.append(sent);
        // The same slabs come to the same collectors, so that their room is enough.
        slabs.reverse();
        (ALLOCATIONS.get() - before, shapes)
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/host")
}

#[test]
fn no_allocation_in_a_steady_tick_over_fixtures() {
    for (case, collector) in [
        ("arp/proc", "arp"),
        ("buddyinfo/two_nodes", "buddyinfo"),
        ("cgroups/v1", "cgroups"),
        ("conntrack/modern", "conntrack"),
        ("cpu/info", "cpu"),
        ("cpu/two_cpus", "cpu"),
        ("diskstats/with_udev", "diskstats"),
        ("drbd/two", "drbd"),
        ("entropy/modern", "entropy"),
        ("filefd/small", "filefd"),
        ("filesystem/guarded", "filesystem"),
        ("filesystem/self", "filesystem"),
        ("interrupts/x86", "interrupts"),
        ("ipvs/services", "ipvs"),
        ("kernel_hung/counted", "kernel_hung"),
        ("ksmd/modern", "ksmd"),
        ("lnstat/three", "lnstat"),
        ("loadavg/busy", "loadavg"),
        ("mdadm/arrays", "mdadm"),
        ("meminfo/modern", "meminfo"),
        ("mountstats/nfs4", "mountstats"),
        ("netdev/proc", "netdev"),
        ("netstat/defaults", "netstat"),
        ("nfs/modern", "nfs"),
        ("nfsd/modern", "nfsd"),
        ("os/usr_lib", "os"),
        ("pressure/all", "pressure"),
        ("processes/threads", "processes"),
        ("runit/services", "runit"),
        ("schedstat/two_cpus", "schedstat"),
        ("slabinfo/filtered", "slabinfo"),
        ("sockstat/both", "sockstat"),
        ("softirqs/offline_cpu", "softirqs"),
        ("softnet/modern", "softnet"),
        ("stat/softirq", "stat"),
        ("swap/two", "swap"),
        ("sysctl/kinds", "sysctl"),
        ("textfile/glob", "textfile"),
        ("time/sources", "time"),
        ("udp_queues/both", "udp_queues"),
        ("vmstat/defaults", "vmstat"),
        ("xfrm/some", "xfrm"),
        ("zfs/pools", "zfs"),
        ("zoneinfo/two_zones", "zoneinfo"),
    ] {
        let folder = fixtures().join(case);
        let paths = Paths {
            procfs: folder.join("proc"),
            sysfs: folder.join("sys"),
            rootfs: folder.join("root"),
            udev_data: folder.join("udev"),
        };
        let mut flags = FlagValues::default();
        for line in std::fs::read_to_string(folder.join("flags")).unwrap_or_default().lines() {
            let line = line.replace('@', folder.to_str().unwrap());
            match line.trim_start_matches("--").split_once('=') {
                Some((name, value)) => flags.give(name, value),
                None => flags.give(line.trim_start_matches("--no-"), "false"),
            }
        }
        let mut subject = Subject::new(&paths, &flags, |name, _| name == collector);
        subject.warm_up();
        assert!(subject.table.len() > 2, "{case} gives something");
        let (allocations, _) =
            (0..TICKS).map(|_| subject.tick()).fold((0, 0), |sum, tick| (sum.0 + tick.0, tick.1));
        assert_eq!(allocations, 0, "{case}");
    }
}

/// This host may change its shape while we look (a process that mounts, an interface that comes), which does
/// allocate: those ticks, and the one after each, do not count.
#[test]
fn no_allocation_in_a_steady_tick_on_this_host() {
    let mut subject = Subject::new(&Paths::default(), &FlagValues::default(), |_, default| default);
    let mut shapes = subject.warm_up();
    let (mut steady, mut settling) = (0, false);
    for _ in 0..TICKS * 4 {
        let (allocations, after) = subject.tick();
        let changed = std::mem::replace(&mut shapes, after) != after;
        if !changed && !settling {
            assert_eq!(allocations, 0, "in tick {steady}");
            steady += 1;
        }
        settling = changed;
    }
    assert!(steady >= TICKS, "only {steady} ticks of this host were steady");
}
