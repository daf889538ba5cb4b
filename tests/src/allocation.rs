//! An allocator that counts, for tests of what must not allocate.
//!
//! A test binary makes [`Counting`] its global allocator, and each of its tests begins with [`turn`]: the count is of
//! the whole process (collectors run on threads of their own), but for its main thread, on which the harness speaks.
//! Bytes are counted on all threads, for what one allocates another may free.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The system's allocator, with a count.
pub struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// Bytes that are allocated now, and the most that ever were since [`peak_of`] began.
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread is the main one, once it is known.
    static IS_MAIN: Cell<Option<bool>> = const { Cell::new(None) };
}

fn count() {
    let is_main = IS_MAIN.try_with(|known| {
        known.get().unwrap_or_else(|| {
            // SAFETY: neither call has conditions.
            let is_main = unsafe { libc::getpid() == libc::gettid() };
            known.set(Some(is_main));
            is_main
        })
    });
    // A thread that ends may allocate after its locals are gone.
    if is_main == Ok(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

fn take(bytes: usize) {
    let in_use = IN_USE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(in_use, Ordering::Relaxed);
}

// SAFETY: every call is handed on to the system's allocator as it came; counting needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        take(layout.size());
        // SAFETY: the caller's promises are the callee's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // While it moves, both are there.
        take(size);
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the callee's.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the callee's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Waits until no other test of this binary is at work. Keep it until the end of the test.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURNS: Mutex<()> = Mutex::new(());
    TURNS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often all threads but the main one allocated while `run` ran.
pub fn allocations_of(run: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    run();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// Bytes that are allocated now.
pub fn in_use() -> usize {
    IN_USE.load(Ordering::Relaxed)
}

/// By how many bytes what was allocated rose at the most while `run` ran.
pub fn peak_of(run: impl FnOnce()) -> usize {
    let before = in_use();
    PEAK.store(before, Ordering::Relaxed);
    run();
    PEAK.load(Ordering::Relaxed).saturating_sub(before)
}
