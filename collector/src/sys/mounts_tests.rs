//! Tests of the statfs helpers: a mount that hangs costs one deadline, one thread, and nothing else.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn guarded(path: &str) -> Guarded {
    Guarded::new(CString::new(path).unwrap())
}

#[test]
fn the_root_has_blocks() {
    let helpers = Helpers::new(1);
    let mounts = [guarded("/"), guarded("/nowhere")];
    helpers.ask(mounts.iter(), Duration::from_secs(5));
    let space = mounts[0].answer().unwrap();
    assert!(space.blocks > 0 && space.block_size > 0);
    assert_eq!(space.blocks, read_space(c"/").unwrap().blocks);
    assert_eq!(mounts[1].answer(), Err(NoAnswer::Refused(libc::ENOENT)));
    assert_eq!(helpers.count(), 1);
}

static SERVER_IS_BACK: AtomicBool = AtomicBool::new(false);

fn hang_while_the_server_is_gone(path: &CStr) -> io::Result<Space> {
    while path.to_bytes().starts_with(b"/nfs") && !SERVER_IS_BACK.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(Space { blocks: 1, ..Space::default() })
}

#[test]
fn mounts_that_hang_are_passed_over_until_they_return() {
    let helpers = Helpers::with_reader(1, MAX_HELPERS, hang_while_the_server_is_gone);
    let mounts = [guarded("/a"), guarded("/nfs/1"), guarded("/b"), guarded("/nfs/2"), guarded("/c")];
    let answers = || mounts.iter().map(|mount| mount.answer().is_ok()).collect::<Vec<_>>();
    let healthy = [true, false, true, false, true];
    let deadline = Duration::from_millis(400);
    let start = Instant::now();
    helpers.ask(mounts.iter(), deadline);
    assert!(start.elapsed() >= deadline, "the first round waits for the deadline");
    assert_eq!(answers(), healthy);
    assert_eq!(mounts[1].answer(), Err(NoAnswer::TimedOut));
    assert!(helpers.count() >= 3, "one for each mount that hangs, and one for the others");
    for _ in 0..20 {
        helpers.ask(mounts.iter(), Duration::from_secs(60));
        assert_eq!(answers(), healthy);
    }
    // A busy host may have called for one or two more; one for each round and mount that hangs would be 40.
    assert!(helpers.count() <= 10, "{} threads", helpers.count());
    SERVER_IS_BACK.store(true, Ordering::SeqCst);
    while answers() != [true; 5] {
        helpers.ask(mounts.iter(), deadline);
    }
    while helpers.count() > 1 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn hang(_: &CStr) -> io::Result<Space> {
    loop {
        std::thread::park();
    }
}

#[test]
fn a_round_ends_early_when_no_helper_is_left() {
    let helpers = Helpers::with_reader(1, 2, hang);
    let mounts = ["/1", "/2", "/3"].map(guarded);
    let deadline = Duration::from_secs(60);
    let start = Instant::now();
    for _ in 0..3 {
        helpers.ask(mounts.iter(), deadline);
        assert!(mounts.iter().all(|mount| mount.answer() == Err(NoAnswer::TimedOut)));
    }
    assert!(start.elapsed() < deadline);
    assert_eq!(helpers.count(), 2);
}
