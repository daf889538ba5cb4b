//! A loop that wants more CPU time than its cgroup may have.

use std::time::Duration;

use collector_tests::cgroup::{Cgroup, Hierarchy, shell_in};
use collector_tests::probe::{Probe, alone};

use super::near;

/// Of each period of 100 ms.
const QUOTA_US: &str = "20000";
const LOOP: Duration = Duration::from_secs(3);

/// How often the cgroup was held back, by its periods, and how long, as the kernel says it.
fn kernel(cgroup: &Cgroup) -> [f64; 2] {
    let text = std::fs::read_to_string(cgroup.folder.join("cpu.stat")).unwrap();
    let of = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map(|value| value.parse::<f64>().unwrap())
    };
    let seconds = of("throttled_usec").map(|us| us / 1e6).or_else(|| Some(of("throttled_time")? / 1e9));
    [of("nr_throttled").unwrap(), seconds.unwrap()]
}

fn limit(cgroup: &Cgroup) {
    let (file, value) = if cgroup.first_version {
        ("cpu.cfs_quota_us", QUOTA_US.to_owned())
    } else {
        ("cpu.max", format!("{QUOTA_US} 100000"))
    };
    std::fs::write(cgroup.folder.join(file), value).unwrap();
}

#[test]
fn a_cgroup_is_held_back_as_long_as_the_kernel_says() {
    let test = "a_cgroup_is_held_back_as_long_as_the_kernel_says";
    let _alone = alone();
    let Some(mut probe) = Probe::tracing_or_seen(test, "throttle") else { return };
    let Some(cgroup) = Cgroup::create_or_skip(test, Hierarchy::Of("cpu")) else { return };
    limit(&cgroup);
    let of = |what: &'static str| (what, vec![("cgroup", cgroup.path.as_str())]);
    let at = |le: &'static str| ("collector_cpu_throttle_seconds_bucket", vec![("le", le)]);
    let before = probe.before(&[
        of("collector_cgroup_cpu_throttles_total"),
        of("collector_cgroup_cpu_throttle_seconds_total"),
        ("collector_cpu_throttle_seconds_count", vec![]),
        ("collector_cpu_throttle_seconds_sum", vec![]),
        at("0.05"),
        at("0.1"),
    ]);
    let mut child = shell_in(&[&cgroup], "while :; do :; done", &[]).spawn().unwrap();
    std::thread::sleep(LOOP);
    child.kill().unwrap();
    child.wait().unwrap();
    // What is held back now is let go with the next period.
    std::thread::sleep(Duration::from_millis(300));
    let (kernel, grown) = (kernel(&cgroup), probe.grown(&before));
    eprintln!("{test}: {grown:?}, the kernel {kernel:?}");
    // The kernel counts periods, the probe run queues: the loop may meet its limit on two CPUs in one period, and is killed
    // while it is held back.
    assert!(grown[0] >= 10.0, "{grown:?}");
    near("times", grown[0], kernel[0], 2.0 + 0.2 * kernel[0]);
    near("seconds", grown[1], kernel[1], 2e-6);
    // Nobody else is limited here.
    near("times of the host", grown[2], grown[0], 0.0);
    near("seconds of the host", grown[3], grown[1], 1e-6);
    assert!(grown[5] - grown[4] >= 0.8 * grown[2], "most take 80 ms: {grown:?}");
    assert_eq!(probe.lost(), 0.0);
}
