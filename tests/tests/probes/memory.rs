//! A file that does not fit into its cgroup's memory: the reader must reclaim what it has read before. And memory that is
//! compacted because somebody asks for it. And a machine whose memory is taken, while files are read that do not fit.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use collector_tests::cgroup::{Cgroup, Hierarchy, Worker, shell_in};
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
    // In pieces that are on the disk before the next one: a cgroup full of what is yet to be written has nothing to give.
    let script = format!(
        "i=0; while [ $i -lt {} ]; do \
         dd if=\"$0\" of=\"$1\" bs=1M count=8 skip=$i seek=$i conv=notrunc,fsync || exit 1; i=$((i+8)); done",
        FILE >> 20
    );
    let output = shell_in(&cgroups, &script, &arguments).output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
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

/// Not a test of its own: the child that takes memory until told to end, and is the first that the kernel may kill.
#[test]
#[ignore = "run by another test, in a child process"]
fn hoarder() {
    std::fs::write("/proc/self/oom_score_adj", "1000").unwrap();
    let memory = vec![1_u8; std::env::var("BYTES").unwrap().parse().unwrap()];
    println!("\nTAKEN");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    drop(std::hint::black_box(memory));
}

/// Bytes that could be had without harm.
fn available() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() << 10
}

/// The sum of the kernel's own counts whose names begin so.
fn vmstat(name: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/vmstat").unwrap();
    let values = text.lines().filter_map(|line| line.strip_prefix(name)?.split_once(' '));
    values.map(|(_, value)| value.parse::<f64>().unwrap()).sum()
}

/// Gives a task, or with 0 the calling one, the first CPU alone.
fn to_first_cpu(pid: libc::pid_t) {
    let first = 1_u64;
    // SAFETY: the kernel reads a set of CPUs, of which that many bytes are there.
    assert_eq!(unsafe { libc::sched_setaffinity(pid, size_of::<u64>(), (&raw const first).cast()) }, 0);
}

/// Keeps the first CPU busy until told to end, and leaves what is left of it to what reclaims memory in the background:
/// others must wait for theirs.
fn hold_back_the_kernel(end: &'static AtomicBool) -> std::thread::JoinHandle<()> {
    let is_own = |pid: &libc::pid_t| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("kswapd"))
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let idle = libc::sched_param { sched_priority: 0 };
    for pid in pids.filter(is_own) {
        to_first_cpu(pid);
        // SAFETY: the kernel reads the structure.
        assert_eq!(unsafe { libc::sched_setscheduler(pid, libc::SCHED_IDLE, &raw const idle) }, 0);
    }
    std::thread::spawn(|| {
        to_first_cpu(0);
        while !end.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    })
}

/// Not where other things are: it takes all memory but some.
#[test]
#[ignore = "run in a guest by `cargo xtask vm`"]
fn stalls_where_everybody_lacks_memory_are_those_of_the_kernel() {
    /// Bytes of the file that is read, and of the memory that is left for it and for those who want some at once.
    const FILE: usize = 200 << 20;
    const LEFT: usize = 260 << 20;
    const GRABBERS: usize = 4;
    static END: AtomicBool = AtomicBool::new(false);
    let test = "stalls_where_everybody_lacks_memory_are_those_of_the_kernel";
    let _alone = alone();
    if !root_or_skip(test) {
        return;
    }
    let Some(mut probe) = Probe::named_or_skip(test, "reclaim") else { return };
    let Some(cgroup) = Cgroup::create_or_skip(test, Hierarchy::Of("cpu")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let mut file = File::create(&path).unwrap();
    for _ in 0..FILE >> 20 {
        file.write_all(&[1; 1 << 20]).unwrap();
    }
    file.sync_all().unwrap();
    let of = |name| (name, vec![("cgroup", cgroup.path.as_str()), ("kind", "direct")]);
    let before = probe.before(&[
        ("collector_memory_stall_seconds_count", vec![("kind", "direct")]),
        ("collector_memory_stall_seconds_sum", vec![("kind", "direct")]),
        of("collector_cgroup_memory_stalls_total"),
        of("collector_cgroup_memory_stall_seconds_total"),
    ]);
    let kernel = ["allocstall_", "pgsteal_direct"].map(vmstat);
    let busy = hold_back_the_kernel(&END);
    let start = Instant::now();
    // It takes the memory of the cache as well.
    let bytes = (available() - LEFT).to_string();
    let mut hoarder = Worker::start(&cgroup, "memory::hoarder", &[("BYTES", &bytes)]);
    hoarder.wait_for("TAKEN");
    // The cache takes what is free; then it must be given up, as fast as it is asked for.
    let grab = "dd if=/dev/zero of=/dev/null bs=50M count=1 2>/dev/null &";
    let rounds =
        format!("for round in 1 2 3; do cat \"$0\" >/dev/null; {} wait; done", grab.repeat(GRABBERS));
    assert!(shell_in(&[&cgroup], &rounds, &[path.to_str().unwrap()]).status().unwrap().success());
    hoarder.end();
    END.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    let wall = start.elapsed().as_secs_f64();
    let [stalls, pages] = [vmstat("allocstall_") - kernel[0], vmstat("pgsteal_direct") - kernel[1]];
    let grown = probe.grown(&before);
    eprintln!("{test}: {grown:?} in {wall} s, the kernel {stalls} stalls, {pages} pages");
    assert!(grown[0] >= 20.0, "{grown:?}");
    // The kernel counts those of its own threads too, and one again that tries once more.
    assert!(grown[0] <= stalls && grown[0] >= 0.95 * stalls, "{grown:?}, the kernel {stalls}");
    assert!(grown[1] > 0.0 && grown[1] < wall * (GRABBERS + 1) as f64, "{grown:?} in {wall} s");
    assert_eq!(probe.lost(), 0.0);
}
