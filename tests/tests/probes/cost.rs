//! What each program costs an event, by the kernel's own count: `cargo xtask bench ebpf`.

use std::io::{Read, Write, pipe};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use collector::sources::ebpf::{EbpfOptions, Method, PROBES, list};
use collector_tests::probe::{Probe, alone};

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Lets the kernel count what its programs cost, until it is dropped.
struct Counting(String);

impl Counting {
    fn start() -> Self {
        let before = std::fs::read_to_string(SWITCH).unwrap();
        std::fs::write(SWITCH, "1").unwrap();
        Counting(before)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        let _ = std::fs::write(SWITCH, &self.0);
    }
}

/// Two threads that wake each other in turn.
fn switch() {
    let ((mut a_in, mut b_out), (mut b_in, mut a_out)) = (pipe().unwrap(), pipe().unwrap());
    let other = std::thread::spawn(move || {
        let mut byte = [0];
        while b_in.read_exact(&mut byte).is_ok() {
            b_out.write_all(&byte).unwrap();
        }
    });
    for _ in 0..50_000 {
        a_out.write_all(b"x").unwrap();
        a_in.read_exact(&mut [0]).unwrap();
    }
    drop(a_out);
    other.join().unwrap();
}

/// Processes, connections, dropped packets and requests.
fn do_everything() {
    for _ in 0..500 {
        Command::new("/bin/true").status().unwrap();
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for _ in 0..5_000 {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        drop((stream, listener.accept().unwrap()));
    }
    let (sender, full) = (
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
    );
    for _ in 0..50_000 {
        sender.send_to(&[0; 1_000], full.local_addr().unwrap()).unwrap();
    }
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let path = folder.path().join("file");
    let to = format!("of={}", path.display());
    let written = Command::new("dd")
        .args(["if=/dev/zero", &to, "bs=4096", "count=5000", "oflag=direct", "conv=fsync"])
        .output()
        .unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
}

#[test]
#[ignore = "a measurement: cargo xtask bench ebpf"]
fn table() {
    let _alone = alone();
    let _counting = Counting::start();
    let ways = [
        (Method::Empty, false),
        (Method::Accounted, false),
        (Method::Accounted, true),
        (Method::Stamped, false),
        (Method::Stamped, true),
    ];
    for (method, times) in ways.repeat(3) {
        let mut probe = Probe::start(&EbpfOptions { method, times, ..EbpfOptions::default() });
        switch();
        let with = if times { ", with time on and off the CPU" } else { "" };
        print(&mut probe, &format!("sched_switch, {method:?}{with}"));
    }
    let probes = PROBES.iter().map(|probe| probe.name.to_owned()).collect();
    let mut probe = Probe::start(&EbpfOptions { probes, ..EbpfOptions::default() });
    do_everything();
    print(&mut probe, "everything");
    let start = std::time::Instant::now();
    for _ in 0..1_000 {
        probe.tick();
    }
    println!("{}", list::text(list::Whose::Own));
    println!("a tick of all probes takes {} us", start.elapsed().as_micros() / 1_000);
}

fn print(probe: &mut Probe, load: &str) {
    probe.tick();
    println!("-- {load}");
    let guard = probe.table.lock();
    for batch in &probe.batches {
        for ((id, _), runs) in batch.shape().floats().iter().zip(&batch.values) {
            let view = guard.view(*id);
            let of = |name: &str| view.labels().find(|label| label.0 == name).map(|label| label.1.to_owned());
            if view.name() != "collector_ebpf_program_runs_total" || *runs == 0.0 {
                continue;
            }
            let (Some(name), Some(program)) = (of("probe"), of("program")) else { continue };
            // The next sample of the same batch has the time.
            let seconds = batch.shape().floats().iter().zip(&batch.values).find_map(|((id, _), seconds)| {
                let other = guard.view(*id);
                let same = other.labels().any(|label| label == ("program", program.as_str()));
                (same && other.name() == "collector_ebpf_program_run_seconds_total").then_some(*seconds)
            });
            println!(
                "{name:<10} {program:<16} {runs:>9} runs {:>7.0} ns",
                seconds.unwrap_or(0.0) * 1e9 / runs
            );
        }
    }
}
