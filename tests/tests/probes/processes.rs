//! An exec storm of known count, processes of known lifetime, and a forced kill for lack of memory.

use std::process::Command;

use collector_tests::cgroup::{Cgroup, Hierarchy, shell_in};
use collector_tests::probe::{Probe, alone};
use collector_tests::skip::root_or_skip;

use super::near;

const STORM: &str = "\
i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done
i=0; while [ $i -lt 50 ]; do /bin/false; i=$((i+1)); done
i=0; while [ $i -lt 20 ]; do /bin/sh -c 'kill -9 $$' 2>/dev/null; i=$((i+1)); done
exit 7";

#[test]
fn a_storm_of_programs_is_counted_to_the_last() {
    let test = "a_storm_of_programs_is_counted_to_the_last";
    let _alone = alone();
    let Some(mut probe) = Probe::named_or_skip(test, "process") else { return };
    let Some(cgroup) = Cgroup::create_or_skip(test, Hierarchy::Of("cpu")) else { return };
    probe.tick();
    let status = shell_in(&[&cgroup], STORM, &[]).status().unwrap();
    assert_eq!(status.code(), Some(7));
    // The name is looked for at the first tick that sees the cgroup.
    probe.tick();
    let of = |name: &str, label: Option<(&str, &str)>| {
        let labels: Vec<_> = label.into_iter().chain([("cgroup", cgroup.path.as_str())]).collect();
        probe.value(&format!("collector_cgroup_process_{name}_total"), &labels)
    };
    assert_eq!(of("forks", Some(("kind", "process"))), 270.0, "forks");
    assert_eq!(of("execs", None), 270.0, "execs");
    assert_eq!(of("exits", Some(("outcome", "success"))), 200.0, "exits with 0");
    assert_eq!(
        of("exits", Some(("outcome", "failure"))),
        51.0,
        "exits with another code, the shell's own too"
    );
    assert_eq!(of("exits", Some(("outcome", "signal"))), 20.0, "killed");
    assert!(of("short_lived", None) >= 270.0, "all but the shell live for less than a second");
    assert!(probe.value("collector_process_exits_total", &[("code", "7")]) >= 1.0);
    assert!(probe.value("collector_process_killed_total", &[("signal", "9")]) >= 20.0);
    assert_eq!(probe.lost(), 0.0);
}

#[test]
fn threads_are_not_processes() {
    let test = "threads_are_not_processes";
    let _alone = alone();
    let Some(mut probe) = Probe::named_or_skip(test, "process") else { return };
    let before = probe.before(&[("collector_process_forks_total", vec![("kind", "thread")])]);
    for _ in 0..100 {
        std::thread::spawn(|| ()).join().unwrap();
    }
    let grown = probe.grown(&before);
    assert!(grown[0] >= 100.0, "{grown:?}");
}

#[test]
fn lifetimes_are_where_they_must_be() {
    let test = "lifetimes_are_where_they_must_be";
    let _alone = alone();
    let Some(mut probe) = Probe::named_or_skip(test, "process") else { return };
    let bucket = |le| ("collector_process_lifetime_seconds_bucket", vec![("le", le)]);
    let before = probe.before(&[bucket("0.25"), bucket("0.5")]);
    for _ in 0..4 {
        assert!(Command::new("sleep").arg("0.3").status().unwrap().success());
    }
    let grown = probe.grown(&before);
    assert!(grown[1] - grown[0] >= 4.0, "between 0.25 and 0.5 s: {grown:?}");
}

#[test]
fn a_kill_names_the_cgroup_that_is_gone() {
    let test = "a_kill_names_the_cgroup_that_is_gone";
    let _alone = alone();
    if !root_or_skip(test) {
        return;
    }
    let Some(mut probe) = Probe::named_or_skip(test, "oom") else { return };
    let name = format!("collector-oom-{}", std::process::id());
    let before = probe.before(&[("collector_oom_kills_total", vec![])]);
    {
        let Some(cgroups) = Cgroup::limited_or_skip(test, &name, "16M") else { return };
        for _ in 0..3 {
            let script = "exec dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null";
            let status = shell_in(&cgroups, script, &[]).status().unwrap();
            assert!(!status.success(), "64 MiB do not fit into 16: {status}");
        }
    }
    let grown = probe.grown(&before);
    near("kills", grown[0], 3.0, 0.0);
    assert_eq!(probe.value("collector_cgroup_oom_kills_total", &[("cgroup", &format!("/{name}"))]), 3.0);
    assert_eq!(probe.lost(), 0.0);
}
