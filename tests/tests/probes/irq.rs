//! Soft interrupts against /proc/softirqs, hard ones against /proc/interrupts.

use std::net::UdpSocket;

use collector::sources::ebpf::{Attachment, EbpfOptions};
use collector_tests::probe::{Probe, alone};
use collector_tests::skip::skip;

/// How often each soft interrupt was handled, by its lower-case name.
fn softirqs(vector: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/softirqs").unwrap();
    let line = text.lines().find(|line| line.trim_start().to_lowercase().starts_with(&format!("{vector}:")));
    line.unwrap().split_whitespace().skip(1).map(|count| count.parse::<f64>().unwrap()).sum()
}

/// How often each hard interrupt was handled, by its number; of those that one driver handles alone.
fn hard_interrupts() -> Vec<(String, f64)> {
    let text = std::fs::read_to_string("/proc/interrupts").unwrap();
    let cpus = text.lines().next().unwrap().split_whitespace().count();
    let mut all = Vec::new();
    for line in text.lines().skip(1).filter(|line| !line.contains(',')) {
        let Some((number, rest)) = line.trim().split_once(':') else { continue };
        if number.parse::<u32>().is_ok() {
            let counts = rest.split_whitespace().take(cpus).map(|count| count.parse::<f64>().unwrap());
            all.push((number.to_owned(), counts.sum()));
        }
    }
    all
}

#[test]
fn hard_interrupts_are_those_that_the_kernel_counts() {
    let test = "hard_interrupts_are_those_that_the_kernel_counts";
    let _alone = alone();
    let Some(mut probe) = Probe::named_or_skip(test, "irq") else { return };
    probe.tick();
    let count = |probe: &Probe, number: &str| probe.value("collector_irq_handlers_total", &[("irq", number)]);
    let (truth, before) = (hard_interrupts(), probe.value("collector_irq_duration_seconds_count", &[]));
    let was: Vec<_> = truth.iter().map(|(number, _)| count(&probe, number)).collect();
    // A disk, where there is one, tells when it is done.
    let folder = tempfile::tempdir_in(std::env::temp_dir()).unwrap();
    for number in 0..40 {
        let file = std::fs::File::create(folder.path().join(number.to_string())).unwrap();
        std::io::Write::write_all(&mut &file, &[1; 4_096]).unwrap();
        file.sync_all().unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    probe.tick();
    let now = hard_interrupts();
    let (mut seen, mut all) = (0.0, 0.0);
    for ((number, then), was) in truth.iter().zip(&was) {
        let Some((_, now)) = now.iter().find(|(other, _)| other == number) else { continue };
        let (truth, grown) = (now - then, count(&probe, number) - was);
        // Interrupts go on between the two readings at either end.
        assert!((grown - truth).abs() <= 10.0 + 0.05 * truth, "irq {number}: {grown} for {truth}");
        (seen, all) = (seen + grown, all + truth);
    }
    let durations = probe.value("collector_irq_duration_seconds_count", &[]) - before;
    eprintln!("{test}: {seen}, the kernel {all}; {durations} in the histogram");
    if all == 0.0 {
        return skip(test, "no hard interrupt came: this machine has no disk of its own");
    }
    assert!(seen > 0.0 && durations >= seen, "{seen} by number, {durations} in the histogram");
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
