//! Soft interrupts against /proc/softirqs, hard ones against /proc/interrupts.

use std::net::UdpSocket;

use collector::sources::ebpf::{Attachment, EbpfOptions};
use collector_tests::probe::{Probe, alone};

/// How often each soft interrupt was handled, by its lower-case name.
fn softirqs(vector: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/softirqs").unwrap();
    let line = text.lines().find(|line| line.trim_start().to_lowercase().starts_with(&format!("{vector}:")));
    line.unwrap().split_whitespace().skip(1).map(|count| count.parse::<f64>().unwrap()).sum()
}

fn agree(test: &str, attachment: Attachment) {
    let _alone = alone();
    let options = EbpfOptions { probes: vec!["irq".into()], attachment, ..EbpfOptions::default() };
    let Some(mut probe) = Probe::start_or_skip(test, &options) else { return };
    let vectors = ["net_rx", "timer", "sched"];
    probe.tick();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let count = |probe: &Probe, what: &str, vector: &str| {
        probe.value(&format!("collector_softirq_{what}_seconds_count"), &[("vector", vector)])
    };
    let truth = vectors.map(softirqs);
    let before = vectors.map(|vector| count(&probe, "duration", vector));
    for _ in 0..2_000 {
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    probe.tick();
    let truth_now = vectors.map(softirqs);
    for (number, vector) in vectors.iter().enumerate() {
        let seen = count(&probe, "duration", vector) - before[number];
        let truth = truth_now[number] - truth[number];
        eprintln!("{test}: {vector} {seen}, the kernel {truth}");
        // Interrupts go on between the two readings at either end.
        assert!((seen - truth).abs() <= 30.0 + 0.02 * truth, "{vector}: {seen} for {truth}");
    }
    assert!(truth_now[0] - truth[0] >= 1_000.0, "the packets did raise interrupts");
    let (raised, handled) = (count(&probe, "latency", "net_rx"), count(&probe, "duration", "net_rx"));
    assert!((raised - handled).abs() <= 0.02 * handled + 5.0, "{raised} waits for {handled} handlers");
    let busy = probe.value("collector_softirq_duration_seconds_sum", &[("vector", "net_rx")]);
    assert!(busy > 0.0 && busy < 60.0, "{busy} s");
}

#[test]
fn soft_interrupts_are_those_that_the_kernel_counts() {
    agree("soft_interrupts_are_those_that_the_kernel_counts", Attachment::Auto);
}

#[test]
fn soft_interrupts_as_raw_tracepoints() {
    agree("soft_interrupts_as_raw_tracepoints", Attachment::Raw);
}
