//! A file that does not fit into its cgroup's memory: the reader must reclaim what it has read before. And memory that is
//! compacted because somebody asks for it.

use std::fs::File;
use std::io::Write;
use std::time::Instant;

use collector_tests::cgroup::{Cgroup, Hierarchy, shell_in};
use collector_tests::probe::{Probe, alone};
use collector_tests::skip::{root_or_skip, skip};

/// Bytes of the file, and of the memory that there is for it.
const FILE: usize = 96 << 20;
const LIMIT: &str = "24M";

#[test]
fn stalls_are_counted_for_the_cgroup_that_lacks_memory() {
    let test = "stalls_are_counted_for_the_cgroup_that_lacks_memory";
    let _alone = alone();
    if !root_or_skip(test) {
        return;
    }
    let Some(mut probe) = Probe::named_or_skip(test, "reclaim") else { return };
    let name = format!("collector-reclaim-{}", std::process::id());
    let Some(cgroups) = Cgroup::limited_or_skip(test, &name, LIMIT) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let start = Instant::now();
    // What the cgroup writes into the cache is charged to it, and must make room for what comes.
    let mut file = File::create(&path).unwrap();
    file.write_all(&vec![1; FILE]).unwrap();
    file.sync_all().unwrap();
    let copy = folder.path().join("copy");
    let arguments = [path.to_str().unwrap(), copy.to_str().unwrap()];
    let script = "exec dd if=\"$0\" of=\"$1\" bs=1M 2>/dev/null";
    assert!(shell_in(&cgroups, script, &arguments).status().unwrap().success());
    let wall = start.elapsed().as_secs_f64();
    probe.tick();
    let of = |name: &str| {
        let labels = [("cgroup", cgroups[0].path.as_str()), ("kind", "memcg")];
        probe.value(&format!("collector_cgroup_memory_stall{name}_total"), &labels)
    };
    let (stalls, seconds) = (of("s"), of("_seconds"));
    eprintln!("{test}: {stalls} stalls, {seconds} s of {wall} s");
    // At least the file's pages beyond the limit were reclaimed, in batches of some hundred pages at the most.
    assert!(stalls >= 20.0, "{stalls} stalls");
    assert!(seconds > 0.0 && seconds < wall, "{seconds} s of {wall} s");
    let host = probe.value("collector_memory_stall_seconds_count", &[("kind", "memcg")]);
    assert!(host >= stalls, "{host} on the host, {stalls} in the cgroup");
}

#[test]
fn compactions_are_counted_for_the_cgroup_that_waits() {
    const TIMES: usize = 4;
    let test = "compactions_are_counted_for_the_cgroup_that_waits";
    let _alone = alone();
    if !root_or_skip(test) {
        return;
    }
    let Some(mut probe) = Probe::named_or_skip(test, "reclaim") else { return };
    let switch = "/proc/sys/vm/compact_memory";
    if let Err(error) = File::options().write(true).open(switch) {
        return skip(test, &format!("{switch}: {error}"));
    }
    let Some(cgroup) = Cgroup::create_or_skip(test, Hierarchy::Of("cpu")) else { return };
    let before = probe.before(&[("collector_memory_stall_seconds_sum", vec![("kind", "compaction")])]);
    let start = Instant::now();
    // The kernel compacts each zone of each node before the write returns.
    let script = format!("i=0; while [ $i -lt {TIMES} ]; do echo 1 > {switch} || exit 1; i=$((i+1)); done");
    assert!(shell_in(&[&cgroup], &script, &[]).status().unwrap().success());
    let wall = start.elapsed().as_secs_f64();
    let grown = probe.grown(&before);
    let of = |name: &str| {
        let labels = [("cgroup", cgroup.path.as_str()), ("kind", "compaction")];
        probe.value(&format!("collector_cgroup_memory_stall{name}_total"), &labels)
    };
    let (stalls, seconds) = (of("s"), of("_seconds"));
    eprintln!("{test}: {stalls} stalls, {seconds} s of {wall} s; the host {grown:?}");
    assert!(stalls >= TIMES as f64 && stalls % TIMES as f64 == 0.0, "{stalls} zones in {TIMES} rounds");
    assert!(seconds > 0.0 && seconds < wall && grown[0] >= seconds, "{seconds} s of {wall} s, {grown:?}");
}
