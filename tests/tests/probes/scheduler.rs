//! Time on a CPU, sleep and migrations, by a worker of known shape in a cgroup of its own.

use std::time::{Duration, Instant};

use collector_tests::cgroup::{Cgroup, Hierarchy, shell_in};
use collector_tests::probe::{Probe, alone};
use collector_tests::skip::skip;

use super::cost::cpu_time;
use super::near;

const SLEEPS: usize = 40;
const SLEEP: Duration = Duration::from_millis(15);
const BLOCKS: usize = 5;
const BLOCK: Duration = Duration::from_millis(150);
const MOVES: usize = 100;
const BUSY: Duration = Duration::from_millis(400);

/// Runs the worker in the cgroup, and returns the seconds that it says: those of its own CPU time, those in which it was
/// blocked, and those of its process with the program's start.
fn run_worker(cgroup: &Cgroup) -> [f64; 3] {
    let this = std::env::current_exe().unwrap();
    let script = "exec \"$0\" --exact scheduler::worker --ignored --nocapture";
    let output = shell_in(&[cgroup], script, &[this.to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = text.lines().find_map(|line| line.split("SAID ").nth(1));
    let said = said.unwrap_or_else(|| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)));
    let numbers: Vec<f64> = said.split(' ').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

fn pin(cpu: usize) {
    // SAFETY: a set of CPUs is plain bits, and the kernel reads as many as is said.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// The kernel lets nobody but a killer wake who waits for the child of vfork(2) to end.
fn block() -> Duration {
    let start = Instant::now();
    // SAFETY: the child has the parent's memory, and makes two system calls that write to none of it.
    unsafe {
        #[expect(deprecated, reason = "it is the one call that blocks for as long as one wants")]
        let child = libc::vfork();
        if child == 0 {
            let time = libc::timespec { tv_sec: 0, tv_nsec: 150_000_000 };
            libc::nanosleep(&raw const time, std::ptr::null_mut());
            libc::_exit(0);
        }
        let took = start.elapsed();
        assert!(child > 0 && took >= BLOCK);
        assert_eq!(libc::waitpid(child, std::ptr::null_mut(), 0), child);
        took
    }
}

/// Not a test of its own: the child that is measured.
#[test]
#[ignore = "run by another test, in a child process"]
fn worker() {
    for number in 0..=MOVES {
        pin(number % 2);
    }
    for _ in 0..SLEEPS {
        std::thread::sleep(SLEEP);
    }
    let blocked: Duration = (0..BLOCKS).map(|_| block()).sum();
    let until = Instant::now() + BUSY;
    while Instant::now() < until {
        std::hint::black_box((0..1_000).sum::<u64>());
    }
    // What has been counted is counted when the task leaves its CPU: it does, and then asks the kernel for its own account.
    std::thread::sleep(SLEEP);
    let account = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let ns: f64 = account.split(' ').next().unwrap().parse().unwrap();
    let process = cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID).as_secs_f64();
    println!("\nSAID {} {} {process}", ns / 1e9, blocked.as_secs_f64());
}

#[test]
fn time_on_and_off_the_cpu_is_that_of_the_worker() {
    let test = "time_on_and_off_the_cpu_is_that_of_the_worker";
    let _alone = alone();
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return skip(test, "a task can't be moved where there is one CPU");
    }
    let Some(mut probe) = Probe::named_or_skip(test, "runqueue") else { return };
    let Some(cgroup) = Cgroup::create_or_skip(test, Hierarchy::Of("cpu")) else { return };
    let slept = |le| ("collector_task_sleep_seconds_bucket", vec![("state", "interruptible"), ("le", le)]);
    let blocked =
        |le| ("collector_task_sleep_seconds_bucket", vec![("state", "uninterruptible"), ("le", le)]);
    let before = probe.before(&[
        slept("0.01"),
        slept("0.1"),
        blocked("0.1"),
        blocked("0.25"),
        ("collector_task_migrations_total", vec![]),
        ("collector_task_on_cpu_seconds_count", vec![]),
        ("collector_context_switches_total", vec![]),
    ]);
    let [own, block, process] = run_worker(&cgroup);
    let grown = probe.grown(&before);
    let of = |name: &str| probe.value(name, &[("cgroup", &cgroup.path)]);
    let (on, off) =
        (of("collector_cgroup_task_on_cpu_seconds_total"), of("collector_cgroup_task_blocked_seconds_total"));
    let moves = of("collector_cgroup_task_migrations_total");
    eprintln!(
        "{test}: on {on}, own {own} of {process}; off {off}, blocked {block}; {moves} moves; {grown:?}"
    );
    // The start of the process, and its children, come on top; interrupts are in the probe's clock.
    assert!(
        on >= 0.98 * own && on <= 1.05 * process + 0.1,
        "{on} s on a CPU, the worker's account says {own}, that of its process {process}"
    );
    // The children's sleep is interruptible; their parent begins to wait a little after they began.
    near("seconds blocked", off, block, 0.05 * block);
    // The shell, its program and the children may be moved too: they are few.
    near("migrations", moves, MOVES as f64, 12.0);
    // An emulated machine is late now and then.
    assert!(grown[1] - grown[0] >= SLEEPS as f64, "sleeps of 15 ms: {grown:?}");
    assert!(grown[3] - grown[2] >= BLOCKS as f64, "waits of 150 ms: {grown:?}");
    assert!(grown[4] >= moves, "{grown:?}");
    near("stints and switches", grown[5], grown[6], 0.01 * grown[6] + 2.0);
}

#[test]
fn times_can_be_left_out() {
    let test = "times_can_be_left_out";
    let _alone = alone();
    let options = collector::sources::ebpf::EbpfOptions { times: false, ..Default::default() };
    let Some(mut probe) = Probe::start_or_skip(test, &options) else { return };
    std::thread::sleep(SLEEP);
    probe.tick();
    assert!(probe.value("collector_context_switches_total", &[]) > 0.0);
    let guard = probe.table.lock();
    let series = probe.batches.iter().flat_map(|batch| batch.shape().floats());
    let named = series.filter(|(id, _)| guard.view(*id).name().contains("_task_")).count();
    assert_eq!(named, 0, "nothing is said of what is not counted");
}
