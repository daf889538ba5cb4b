//! The flags of the kernel probes: a switch for each, and how they measure.

use log::LevelFilter;

use crate::sources::ebpf::{CgroupChoice, EbpfOptions, KERNEL_BTF, Method, PROBES};
use crate::sources::host::{Flag, FlagDefault, FlagValues};

pub static PROBE_FLAGS: &[Flag] = &[
    Flag::new("ebpf", FlagDefault::Switch(true), "Load kernel probes at all; --no-ebpf loads none."),
    Flag::new(
        "ebpf.block",
        FlagDefault::Switch(true),
        "Measure latency and size of block I/O in the kernel, by device and operation, and by cgroup.",
    ),
    Flag::new(
        "ebpf.drops",
        FlagDefault::Switch(true),
        "Count the packets that the kernel drops, by the reason that it gives.",
    ),
    Flag::new(
        "ebpf.filesystem",
        FlagDefault::Switch(false),
        "Measure reads, writes and fsyncs by type of file system; costs some 250 ns for each, and no lockdown.",
    ),
    Flag::new(
        "ebpf.irq",
        FlagDefault::Switch(false),
        "Measure soft and hard interrupts; costs some 60 ns for each of the events of an interrupt.",
    ),
    Flag::new(
        "ebpf.listen",
        FlagDefault::Switch(true),
        "Count connections that meet a full accept queue, for the host and its cgroups; not where the kernel is locked down.",
    ),
    Flag::new(
        "ebpf.network",
        FlagDefault::Switch(false),
        "Count bytes and packets by cgroup; costs some 50 ns for each packet, and needs CAP_NET_ADMIN.",
    ),
    Flag::new(
        "ebpf.oom",
        FlagDefault::Switch(true),
        "Log and count out-of-memory kills with the victim's cgroup.",
    ),
    Flag::new(
        "ebpf.process",
        FlagDefault::Switch(true),
        "Count forks, execs and exits, how processes end and how long they live.",
    ),
    Flag::new(
        "ebpf.reclaim",
        FlagDefault::Switch(true),
        "Measure how long tasks wait for memory to be reclaimed or compacted, for the host and its cgroups.",
    ),
    Flag::new(
        "ebpf.runqueue",
        FlagDefault::Switch(true),
        "Measure run-queue latency and context switches in the kernel, for the host and its cgroups.",
    ),
    Flag::new(
        "ebpf.syscalls",
        FlagDefault::Switch(false),
        "Measure latency and errors of system calls by class; costs some 200 ns for each call.",
    ),
    Flag::new(
        "ebpf.tcp",
        FlagDefault::Switch(true),
        "Measure TCP connects, round-trip times, retransmits and resets, for the host and its cgroups.",
    ),
    Flag::new(
        "ebpf.throttle",
        FlagDefault::Switch(true),
        "Measure how long cgroups are held back by their CPU limit; not where the kernel is locked down.",
    ),
    Flag::new(
        "ebpf.runqueue.method",
        FlagDefault::Text("auto"),
        "How waits are measured: accounted (the kernel's run_delay), stamped (at wakeups), or auto.",
    ),
    Flag::new(
        "ebpf.runqueue.cgroups",
        FlagDefault::Text("auto"),
        "By which hierarchy cgroups are told apart: auto, unified, scheduler, or off.",
    ),
    Flag::new(
        "ebpf.runqueue.times",
        FlagDefault::Switch(true),
        "Measure at each switch also how long tasks had the CPU, slept, and where they ran last.",
    ),
    Flag::new(
        "ebpf.btf",
        FlagDefault::Text(KERNEL_BTF),
        "BTF of the running kernel; with any other file the probes take raw tracepoints.",
    ),
];

/// # Errors
/// Where a flag names no choice that there is.
pub(super) fn resolve(values: &FlagValues, log_level: LevelFilter) -> Result<EbpfOptions, String> {
    let choice = |flag: &str| format!("--{flag}: unrecognized choice {:?}, try --help", values.text(flag));
    let method = match values.text("ebpf.runqueue.method") {
        "auto" => Method::Auto,
        "accounted" => Method::Accounted,
        "stamped" => Method::Stamped,
        _ => return Err(choice("ebpf.runqueue.method")),
    };
    let cgroups = match values.text("ebpf.runqueue.cgroups") {
        "auto" => CgroupChoice::Auto,
        "unified" => CgroupChoice::Unified,
        "scheduler" => CgroupChoice::Scheduler,
        "off" => CgroupChoice::Off,
        _ => return Err(choice("ebpf.runqueue.cgroups")),
    };
    Ok(EbpfOptions {
        probes: wanted_probes(values),
        off: !values.switch("ebpf"),
        method,
        times: values.switch("ebpf.runqueue.times"),
        cgroups,
        procfs: values.text("path.procfs").into(),
        btf: values.text("ebpf.btf").into(),
        messages: log_level == LevelFilter::Debug,
        ..EbpfOptions::default()
    })
}

/// The names of the probes that run.
fn wanted_probes(values: &FlagValues) -> Vec<String> {
    if !values.switch("ebpf") {
        return Vec::new();
    }
    let wanted = PROBES.iter().filter(|probe| values.switch(&format!("ebpf.{}", probe.name)));
    wanted.map(|probe| probe.name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_has_its_switch() {
        for probe in PROBES {
            let name = format!("ebpf.{}", probe.name);
            let flag = PROBE_FLAGS.iter().find(|flag| flag.name == name);
            assert_eq!(flag.unwrap().default, FlagDefault::Switch(probe.default_on), "{name}");
        }
    }
}
