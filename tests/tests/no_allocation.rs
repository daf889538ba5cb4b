//! A steady tick allocates nothing: not to append it to the log, not to read it there, not to encode it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use collector::batch_log::{BatchLog, Limits};
use collector::encode::{Encoder, Options, Protocol};
use collector::model::{Batch, SeriesTable};
use collector_tests::logged::Maker;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator as it came; counting touches a cell of this thread
// that needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are the callee's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are the callee's.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the callee's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_of(run: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

#[test]
fn the_count_counts() {
    assert_eq!(allocations_of(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn a_steady_tick_through_the_log_and_the_encoders() {
    let folder = tempfile::tempdir().unwrap();
    let table = Arc::new(SeriesTable::default());
    let maker = Maker::new(&table);
    let mut log = BatchLog::open(folder.path(), Limits::default(), table).unwrap();
    let mut position = log.position("main").unwrap();
    let mut reader = log.reader(position.next());
    let mut encoders = [Protocol::V1, Protocol::V2].map(|protocol| {
        [false, true].map(|native_histograms| {
            Encoder::new(Options { protocol, native_histograms, ..Options::default() })
        })
    });
    let ticks: Vec<[Batch; 2]> = (0..100).map(|n| [maker.batch(2 * n + 1), maker.batch(2 * n + 2)]).collect();
    let (mut slab, mut body) = (Batch::default(), Vec::new());
    let mut tick = |number: usize| {
        for batch in &ticks[number] {
            log.append(batch).unwrap();
            let sequence = reader.read(&mut slab).unwrap().unwrap();
            position.acknowledge(sequence).unwrap();
        }
        for encoder in encoders.iter_mut().flatten() {
            body.clear();
            let encoded = encoder.encode(&[&ticks[number][0], &ticks[number][1]], &mut body);
            assert!(encoded.planned > 0 || number == 0);
        }
    };
    (0..70).for_each(&mut tick);
    assert_eq!(allocations_of(|| (70..100).for_each(&mut tick)), 0);
}
