//! The run-queue probe against the kernel's own account of the same tasks: /proc/PID/task/TID/schedstat and status.
//!
//! The tasks run in a cgroup of the test's own, so that nothing else on the host is counted with them. Needs root and a
//! kernel that takes the probe; where something is missing a test says so on stderr and passes.

#[path = "runqueue/workload.rs"]
mod workload;

use std::path::PathBuf;

use collector::sources::ebpf::{Attachment, CgroupChoice, EbpfOptions, Method};
use collector_tests::cgroup::{Cgroup, Hierarchy, rerun};
use collector_tests::probe::{Probe, alone};
use collector_tests::skip::{root_or_skip, skip};
use workload::{Account, Load};

fn account(probe: &Probe, cgroup: &str) -> Account {
    let of = |name: &str, kind: &[(&str, &str)]| {
        let labels: Vec<_> = kind.iter().copied().chain([("cgroup", cgroup)]).collect();
        probe.value(name, &labels)
    };
    Account {
        wait_s: of("collector_cgroup_runqueue_wait_seconds_total", &[]),
        runs: of("collector_cgroup_runqueue_waits_total", &[]),
        voluntary: of("collector_cgroup_context_switches_total", &[("kind", "voluntary")]),
        involuntary: of("collector_cgroup_context_switches_total", &[("kind", "involuntary")]),
    }
}

/// The hierarchy in which a choice finds cgroups.
fn hierarchy(choice: CgroupChoice) -> Hierarchy {
    if choice == CgroupChoice::Scheduler { Hierarchy::Of("cpu") } else { Hierarchy::Unified }
}

fn near(what: &str, seen: f64, truth: f64, share: f64) -> Result<(), String> {
    let error = (seen - truth) / truth.max(f64::MIN_POSITIVE);
    if error.abs() <= share {
        return Ok(());
    }
    Err(format!("{what}: the probe saw {seen}, the kernel says {truth}: {:+.2} %", error * 100.0))
}

fn within(what: &str, seen: f64, truth: f64, share: f64) {
    near(what, seen, truth, share).unwrap();
}

/// Runs `load` in a cgroup of its own; returns what the probe saw and what the kernel says.
fn measure(test: &str, options: &EbpfOptions, load: &Load) -> Option<(Account, Account)> {
    let _alone = alone();
    let mut probe = Probe::start_or_skip(test, options)?;
    let cgroup = Cgroup::create_or_skip(test, hierarchy(options.cgroups))?;
    let mut worker = load.spawn();
    cgroup.take(worker.pid());
    worker.warm_up();
    probe.tick();
    let (seen_before, truth_before) = (account(&probe, &cgroup.path), worker.account());
    assert!(seen_before.runs > 0.0, "the cgroup {} is known by its name", cgroup.path);
    worker.run();
    probe.tick();
    let (seen, truth) = (account(&probe, &cgroup.path) - seen_before, worker.account() - truth_before);
    eprintln!("{test}: probe {seen:?}, kernel {truth:?}");
    assert!(truth.runs > 100.0, "the load did switch: {truth:?}");
    assert!(probe.lost() < 0.001 * truth.runs, "nothing is lost");
    Some((seen, truth))
}

fn options(method: Method, attachment: Attachment, cgroups: CgroupChoice) -> EbpfOptions {
    EbpfOptions { method, attachment, cgroups, ..EbpfOptions::default() }
}

/// Counts of switches hold for every method.
fn same_switches(seen: &Account, truth: &Account) -> Result<(), String> {
    near("times a task got the CPU", seen.runs, truth.runs, 0.01)?;
    near("voluntary and involuntary switches", seen.switches(), truth.switches(), 0.01)?;
    near("voluntary switches", seen.voluntary, truth.voluntary, 0.01)
}

/// Measures until it agrees, at most three times. Where others want the CPU too, the few switches between the two
/// readings at either end can wait for milliseconds each, more than a hundredth of all; an error of the probe
/// itself is there every time.
fn agrees(
    test: &str,
    options: &EbpfOptions,
    load: &Load,
    check: impl Fn(&Account, &Account) -> Result<(), String>,
) {
    let mut faults = Vec::new();
    for _ in 0..3 {
        let Some((seen, truth)) = measure(test, options, load) else { return };
        match check(&seen, &truth) {
            Ok(()) => return,
            Err(fault) => faults.push(fault),
        }
    }
    panic!("{faults:#?}");
}

fn accounted_agrees(test: &str, attachment: Attachment, cgroups: CgroupChoice, load: &Load) {
    agrees(test, &options(Method::Accounted, attachment, cgroups), load, |seen, truth| {
        same_switches(seen, truth)?;
        near("seconds waited", seen.wait_s, truth.wait_s, 0.01)
    });
}

#[test]
fn ping_pong_equals_the_kernels_account() {
    let test = "ping_pong_equals_the_kernels_account";
    accounted_agrees(test, Attachment::Typed, CgroupChoice::Scheduler, &Load::PingPong);
}

#[test]
fn ping_pong_equals_the_kernels_account_by_unified_cgroup() {
    let test = "ping_pong_equals_the_kernels_account_by_unified_cgroup";
    accounted_agrees(test, Attachment::Typed, CgroupChoice::Unified, &Load::PingPong);
}

#[test]
fn ping_pong_equals_the_kernels_account_with_checked_reads() {
    let test = "ping_pong_equals_the_kernels_account_with_checked_reads";
    accounted_agrees(test, Attachment::Raw, CgroupChoice::Unified, &Load::PingPong);
}

#[test]
fn oversubscribed_cpus_equal_the_kernels_account() {
    let test = "oversubscribed_cpus_equal_the_kernels_account";
    accounted_agrees(test, Attachment::Typed, CgroupChoice::Unified, &Load::Oversubscribed);
}

/// Whether the kernel's account is no measure for time stamps: without a steady counter (as under emulation) the
/// scheduler's clock lags behind until the next tick, and so do the times at which it says that tasks were queued.
fn unsteady_clock(test: &str) -> bool {
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let unsteady =
        source.is_ok_and(|name| matches!(name.trim(), "hpet" | "acpi_pm" | "jiffies" | "refined-jiffies"));
    if unsteady {
        skip(test, "the scheduler's clock is not steady here: times are not compared");
    }
    unsteady
}

#[test]
fn time_stamps_are_near_the_kernels_account_of_ping_pong() {
    let test = "time_stamps_are_near_the_kernels_account_of_ping_pong";
    for attachment in [Attachment::Typed, Attachment::Raw] {
        let options = options(Method::Stamped, attachment, CgroupChoice::Unified);
        let unsteady = unsteady_clock(test);
        agrees(test, &options, &Load::PingPong, |seen, truth| {
            same_switches(seen, truth)?;
            // The stamp is taken a little before the kernel takes its own, and the switch is seen a little after.
            let each = (seen.wait_s - truth.wait_s) / truth.runs;
            if unsteady || (-0.2e-6..2e-6).contains(&each) {
                return Ok(());
            }
            Err(format!("{:.0} ns a wait from the kernel's account", each * 1e9))
        });
    }
}

#[test]
fn time_stamps_are_near_the_kernels_account_of_oversubscribed_cpus() {
    let test = "time_stamps_are_near_the_kernels_account_of_oversubscribed_cpus";
    let options = options(Method::Stamped, Attachment::Typed, CgroupChoice::Unified);
    let unsteady = unsteady_clock(test);
    agrees(test, &options, &Load::Oversubscribed, |seen, truth| {
        same_switches(seen, truth)?;
        if unsteady { Ok(()) } else { near("seconds waited", seen.wait_s, truth.wait_s, 0.03) }
    });
}

#[test]
fn the_histogram_is_the_sum_of_the_cgroups() {
    histogram_is_the_sum("the_histogram_is_the_sum_of_the_cgroups", CgroupChoice::Unified);
}

#[test]
fn the_histogram_is_the_sum_of_the_cpu_groups_and_autogroups() {
    histogram_is_the_sum(
        "the_histogram_is_the_sum_of_the_cpu_groups_and_autogroups",
        CgroupChoice::Scheduler,
    );
}

fn histogram_is_the_sum(test: &str, cgroups: CgroupChoice) {
    let _alone = alone();
    let options = options(Method::Accounted, Attachment::Auto, cgroups);
    let Some(mut probe) = Probe::start_or_skip(test, &options) else { return };
    let mut worker = Load::PingPong.spawn();
    worker.warm_up();
    worker.run();
    probe.tick();
    let count = probe.value("collector_runqueue_latency_seconds_count", &[]);
    let sum = probe.value("collector_runqueue_latency_seconds_sum", &[]);
    within("count", count, probe.value("collector_cgroup_runqueue_waits_total", &[]), 0.001);
    within("sum", sum, probe.value("collector_cgroup_runqueue_wait_seconds_total", &[]), 0.01);
    let highest = probe.value("collector_runqueue_latency_seconds_bucket", &[("le", "10")]);
    within("highest bucket", highest, count, 0.001);
    let native = probe.natives().next().unwrap();
    assert_eq!(native.count, native.zero_count + native.buckets.iter().sum::<u64>());
    assert_eq!(native.count as f64, count);
    let switches = probe.value("collector_context_switches_total", &[]);
    within("switches away and to", switches, count, 0.01);
}

#[test]
fn a_cgroup_that_is_gone_is_forgotten_and_its_name_may_come_back() {
    let test = "a_cgroup_that_is_gone_is_forgotten_and_its_name_may_come_back";
    let _alone = alone();
    let options = options(Method::Accounted, Attachment::Auto, CgroupChoice::Unified);
    let Some(mut probe) = Probe::start_or_skip(test, &options) else { return };
    let mut path = String::new();
    for _ in 0..2 {
        let Some(cgroup) = Cgroup::create_or_skip(test, hierarchy(options.cgroups)) else { return };
        let mut worker = Load::PingPong.spawn();
        cgroup.take(worker.pid());
        worker.warm_up();
        probe.tick();
        path.clone_from(&cgroup.path);
        let first = account(&probe, &path).runs;
        assert!(first > 0.0 && first < 2_000.0, "it counts from its own beginning: {first}");
        worker.run();
        drop(worker);
        drop(cgroup);
        for _ in 0..3 {
            probe.time_ms += 60_000;
            probe.tick();
        }
        assert_eq!(account(&probe, &path), Account::default(), "{path} is gone");
    }
}

#[test]
fn a_missing_btf_file_is_a_reason() {
    let mut probe = Probe::start(&EbpfOptions { btf: "/nowhere/vmlinux".into(), ..EbpfOptions::default() });
    let (reason, text) = probe.failure().expect("there is no such file");
    if reason == "not_permitted" {
        return skip("a_missing_btf_file_is_a_reason", &text);
    }
    assert_eq!(reason, "no_btf");
    assert!(text.contains("/nowhere/vmlinux"), "{text}");
    probe.tick();
    assert_eq!((probe.batches.len(), &probe.batches[0].values), (1, &vec![0.0]));
    let guard = probe.table.lock();
    let view = guard.view(probe.batches[0].shape().floats()[0].0);
    let labels = [("probe", "runqueue"), ("reason", "no_btf")];
    assert_eq!(
        (view.name(), view.labels().collect::<Vec<_>>()),
        ("collector_ebpf_probe_up", labels.to_vec())
    );
}

#[test]
fn a_damaged_btf_file_is_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("vmlinux");
    let whole = std::fs::read("/sys/kernel/btf/vmlinux").unwrap_or_default();
    for length in [0, 10, 1_000, whole.len() / 2] {
        std::fs::write(&path, whole.get(..length).unwrap_or_default()).unwrap();
        let probe = Probe::start(&EbpfOptions { btf: path.clone(), ..EbpfOptions::default() });
        let (reason, text) = probe.failure().expect("it is cut");
        assert!(matches!(reason, "kernel_layout" | "not_permitted"), "{reason}: {text}");
    }
}

#[test]
fn a_damaged_object_is_a_reason() {
    let object = include_bytes!("../../collector-ebpf/prebuilt/runqueue.o");
    let start = |bytes: Vec<u8>| Probe::start(&EbpfOptions { object: Some(bytes), ..EbpfOptions::default() });
    for length in [0, 3, 64, 1_000, object.len() / 2, object.len() - 700] {
        let failure = start(object[..length].to_vec()).failure();
        let (reason, text) = failure.expect("it is cut");
        assert!(matches!(reason, "bad_object" | "rejected" | "not_permitted"), "{reason}: {text}");
    }
    // A changed byte may change nothing that matters; what counts is that no such object brings the process down.
    for at in (0..object.len()).step_by(object.len() / 60) {
        let mut bytes = object.to_vec();
        bytes[at] ^= 0xff;
        let _ = start(bytes).failure();
    }
}

/// Starts the probe in a process with other privileges, and returns what it prints.
fn start_with(test: &str, privileges: &[&str]) -> Option<String> {
    if !root_or_skip(test) {
        return None;
    }
    let output = rerun("start_and_say_why", privileges);
    let said = output.lines().find_map(|line| line.split("SAID ").nth(1));
    Some(said.unwrap_or_else(|| panic!("the child said: {output}")).to_owned())
}

#[test]
fn no_capability_is_a_reason() {
    let test = "no_capability_is_a_reason";
    let Some(said) = start_with(test, &["--bounding-set=-all", "--inh-caps=-all"]) else { return };
    assert!(said.starts_with("not_permitted") && said.contains("CAP_BPF and CAP_PERFMON"), "{said}");
    let Some(said) = start_with(test, &["--bounding-set=-all,+bpf", "--inh-caps=-all"]) else { return };
    assert!(said.starts_with("not_permitted") && said.contains("lacks CAP_PERFMON"), "{said}");
}

#[test]
fn two_capabilities_suffice() {
    let test = "two_capabilities_suffice";
    let drop_all_but = [
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all,+bpf,+perfmon",
        "--ambient-caps=-all,+bpf,+perfmon",
    ];
    let Some(said) = start_with(test, &drop_all_but) else { return };
    if let Some(why) = ["no_btf", "not_supported"].iter().find(|why| said.starts_with(**why)) {
        return skip(test, why);
    }
    assert!(said.starts_with("running"), "{said}");
}

/// Not a test of its own: the child of [`start_with`].
#[test]
#[ignore = "run by other tests, in a child process"]
fn start_and_say_why() {
    let mut probe = Probe::start(&EbpfOptions::default());
    match probe.failure() {
        Some((reason, text)) => println!("SAID {reason}: {text}"),
        None => {
            std::thread::sleep(std::time::Duration::from_millis(50));
            probe.tick();
            println!("SAID running, {} waits", probe.value("collector_runqueue_latency_seconds_count", &[]));
        }
    }
}

/// Not a test of its own: the child that is measured.
#[test]
#[ignore = "run by other tests, in a child process"]
fn worker() {
    workload::work();
}
