//! A steady tick allocates nothing: neither over the fixtures, nor over this host.

use std::sync::Arc;
use std::time::{Duration, Instant};

use collector::model::{Batch, SeriesTable};
use collector::sources::host::{FlagValues, HostReader, Paths, Selection};
use collector_tests::allocation::{Counting, allocations_of, turn};
use collector_tests::fixtures::{self, Case};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Ticks without an allocation that end the warm-up, or else this time.
const WARM_UP: usize = 5;
const SETTLING: Duration = Duration::from_secs(4);
const TICKS: usize = 100;
const ATTEMPTS: usize = 3;

/// A reader, and slabs that go round.
struct Subject {
    reader: HostReader,
    _table: Arc<SeriesTable>,
    slabs: Vec<Batch>,
    sent: Vec<Batch>,
}

impl Subject {
    fn new((reader, table): (HostReader, Arc<SeriesTable>)) -> Self {
        Subject { reader, _table: table, slabs: Vec::new(), sent: Vec::new() }
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
        let allocations = allocations_of(|| {
            reader.run(&Selection::All, 1, || slabs.pop().unwrap_or_default(), |batch| sent.push(batch));
        });
        let shapes = sent.iter().map(|batch| batch.shape().id()).sum();
        slabs.append(sent);
        // The same slabs come to the same collectors, so that their room is enough.
        slabs.reverse();
        (allocations, shapes)
    }
}

#[test]
fn no_allocation_in_a_steady_tick_over_fixtures() {
    let _turn = turn();
    for Case { folder, collector } in fixtures::cases() {
        let expected = std::fs::read_to_string(folder.join("expected.prom")).unwrap();
        // An error is said in words, and those need memory.
        let success = format!("node_scrape_collector_success{{collector=\"{collector}\"}} 1");
        if !expected.contains(&success) || expected.contains("node_textfile_scrape_error 1") {
            continue;
        }
        let mut subject = Subject::new(fixtures::reader(&folder, &collector));
        subject.warm_up();
        // A thread of another test may begin meanwhile; what allocates at every tick shows in every attempt.
        let mut attempts = (0..ATTEMPTS).map(|_| (0..TICKS).map(|_| subject.tick().0).sum::<u64>());
        assert!(attempts.any(|sum| sum == 0), "{} allocates", folder.display());
    }
}

/// This host may change its shape while we look (a process that mounts, an interface that comes), which does
/// allocate: those ticks, and the one after each, do not count.
#[test]
fn no_allocation_in_a_steady_tick_on_this_host() {
    let _turn = turn();
    let table = Arc::new(SeriesTable::default());
    let flags = FlagValues::default();
    let reader = HostReader::new(&Paths::default(), &flags, |_, default| default, &[], &table).unwrap();
    let mut subject = Subject::new((reader, table));
    let mut shapes = subject.warm_up();
    let (mut steady, mut loud, mut settling) = (0, 0, false);
    for _ in 0..TICKS * 4 {
        let (allocations, after) = subject.tick();
        let changed = std::mem::replace(&mut shapes, after) != after;
        if !changed && !settling {
            steady += 1;
            loud += usize::from(allocations > 0);
        }
        settling = changed;
    }
    assert!(steady >= TICKS, "only {steady} ticks of this host were steady");
    // A thread of the harness may have begun meanwhile.
    assert!(loud <= TICKS / 50, "{loud} of {steady} ticks allocated");
}
