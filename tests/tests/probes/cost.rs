//! What each program costs an event, by the kernel's own count: `cargo xtask bench ebpf`.

use std::io::{Read, Write, pipe};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use collector::sources::ebpf::{EbpfOptions, Method, PROBES, list};
use collector_tests::cgroup::{Cgroup, Hierarchy, shell_in};
use collector_tests::probe::{Probe, alone, is_locked_out};
use collector_tests::skip::root_or_skip;

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

/// What this thread or process has had of the CPUs.
pub(crate) fn cpu_time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes the time, which outlives the call.
    assert_eq!(unsafe { libc::clock_gettime(clock, &raw mut time) }, 0);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs().try_into().unwrap())
}

/// What a tick costs where there are many cgroups, each of which does a little between two ticks.
#[test]
#[ignore = "a measurement: cargo xtask bench ebpf"]
fn many_cgroups() {
    const CGROUPS: usize = 500;
    const TICKS: usize = 8;
    let test = "many_cgroups";
    let _alone = alone();
    if !root_or_skip(test) {
        return;
    }
    let cgroups: Vec<_> =
        (0..CGROUPS).map_while(|_| Cgroup::create_or_skip(test, Hierarchy::Of("cpu"))).collect();
    let wanted = PROBES.iter().filter(|probe| probe.default_on && !is_locked_out(probe));
    let probes = wanted.map(|probe| probe.name.to_owned()).collect();
    let options = EbpfOptions { probes, ..EbpfOptions::default() };
    let Some(mut probe) = Probe::start_or_skip(test, &options) else { return };
    // A shell goes through all of them, and starts a program in each.
    let folders: Vec<_> = cgroups.iter().map(|cgroup| cgroup.folder.to_str().unwrap()).collect();
    let visit = "for folder in \"$0\" \"$@\"; do echo $$ > $folder/cgroup.procs; /bin/true; done; echo $$ > $0/cgroup.procs";
    let mut ticks = Vec::new();
    for _ in 0..=TICKS {
        assert!(shell_in::<Cgroup>(&[], visit, &folders).status().unwrap().success());
        let before = cpu_time(libc::CLOCK_THREAD_CPUTIME_ID);
        probe.tick();
        ticks.push(cpu_time(libc::CLOCK_THREAD_CPUTIME_ID) - before);
    }
    let shown: usize = probe.batches.iter().map(|batch| batch.values.len()).sum();
    // The first one reads the names.
    let first = ticks.remove(0);
    ticks.sort();
    println!(
        "{CGROUPS} cgroups: a tick of the default probes takes {} us of CPU ({} to {}; the first one {}), for {shown} values",
        ticks[TICKS / 2].as_micros(),
        ticks[0].as_micros(),
        ticks[TICKS - 1].as_micros(),
        first.as_micros()
    );
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
