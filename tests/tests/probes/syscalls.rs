//! System calls of known number, error and length, by a worker in a cgroup of its own.

use std::time::Duration;

use collector_tests::cgroup::{Cgroup, Hierarchy, shell_in};
use collector_tests::probe::{Probe, alone};

use super::near;

const SYNCS: usize = 700;
const READS: usize = 5_000;
const NAPS: usize = 4;
const NAP: Duration = Duration::from_millis(150);

/// Not a test of its own: the child that is measured.
#[test]
#[ignore = "run by another test, in a child process"]
fn worker() {
    for _ in 0..SYNCS {
        // SAFETY: there is no such descriptor: the kernel says so.
        assert_eq!(unsafe { libc::fdatasync(-1) }, -1);
    }
    let zero = std::fs::File::open("/dev/zero").unwrap();
    for _ in 0..READS {
        std::io::Read::read_exact(&mut &zero, &mut [0; 16]).unwrap();
    }
    for _ in 0..NAPS {
        std::thread::sleep(NAP);
    }
}

#[test]
fn calls_are_counted_by_class_and_error() {
    let test = "calls_are_counted_by_class_and_error";
    let _alone = alone();
    let Some(mut probe) = Probe::named_or_skip(test, "syscalls") else { return };
    let Some(cgroup) = Cgroup::create_or_skip(test, Hierarchy::Of("cpu")) else { return };
    let bucket = |le| ("collector_syscall_duration_seconds_bucket", vec![("class", "time"), ("le", le)]);
    let before = probe.before(&[
        ("collector_syscall_errors_total", vec![("class", "sync"), ("error", "EBADF")]),
        ("collector_syscall_duration_seconds_count", vec![("class", "sync")]),
        ("collector_syscall_duration_seconds_count", vec![("class", "read")]),
        bucket("0.1"),
        bucket("0.25"),
    ]);
    let this = std::env::current_exe().unwrap();
    let script = "exec \"$0\" --exact syscalls::worker --ignored >/dev/null";
    assert!(shell_in(&[&cgroup], script, &[this.to_str().unwrap()]).status().unwrap().success());
    let grown = probe.grown(&before);
    let of = |name: &str, class: Option<&str>| {
        let labels: Vec<_> = class
            .map(|class| ("class", class))
            .into_iter()
            .chain([("cgroup", cgroup.path.as_str())])
            .collect();
        probe.value(name, &labels)
    };
    let (calls, failed) =
        (of("collector_cgroup_syscalls_total", None), of("collector_cgroup_syscall_errors_total", None));
    eprintln!("{test}: {calls} calls, {failed} failed, {grown:?}");
    near("calls that no descriptor was for", grown[0], SYNCS as f64, 0.0);
    assert!(grown[1] >= SYNCS as f64 && grown[2] >= READS as f64, "{grown:?}");
    assert!(grown[4] - grown[3] >= NAPS as f64, "naps of 150 ms: {grown:?}");
    // A program's start takes some hundred calls, of which some look for files that are not there.
    let own = (SYNCS + READS + NAPS) as f64;
    assert!(calls >= own && calls <= own + 1_500.0, "{calls} calls of the cgroup");
    assert!(failed >= SYNCS as f64 && failed <= SYNCS as f64 + 200.0, "{failed} errors of the cgroup");
    let read = of("collector_cgroup_syscall_seconds_total", Some("read"));
    assert!(read > 0.0 && read < 1.0, "{read} s in {READS} reads of 16 bytes");
    assert_eq!(
        of("collector_cgroup_syscall_seconds_total", Some("time")),
        0.0,
        "sleep is no class of a cgroup"
    );
}
