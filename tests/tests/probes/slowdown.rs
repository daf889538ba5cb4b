//! The suite on against off, interleaved, under loads that feel it: `cargo xtask bench ebpf`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::{Command, Stdio};
use std::time::Instant;

use collector::sources::ebpf::{EbpfOptions, PROBES};
use collector_tests::probe::{Probe, alone};

/// How often each load runs with and without the probes; `COLLECTOR_BENCH_ROUNDS` gives another number.
const ROUNDS: usize = 5;

/// Seconds that a load takes; `None` where the machine lacks what it needs.
type Load = (&'static str, fn() -> Option<f64>);

const LOADS: &[Load] = &[
    ("perf bench sched pipe, on one CPU", pipe),
    ("TCP ping-pong over loopback", ping_pong),
    ("reads of 4 KiB at random", random_reads),
    ("web server, one connection at a time", web_server),
    ("compiling, two at a time", compile),
];

fn pipe() -> Option<f64> {
    let perf = ["-c", "1", "perf", "bench", "sched", "pipe", "-l", "50000"];
    let output = Command::new("taskset").args(perf).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .find_map(|line| line.trim().strip_prefix("Total time:")?.split_whitespace().next()?.parse().ok())
}

fn ping_pong() -> Option<f64> {
    const ROUND_TRIPS: usize = 20_000;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    let mut near = TcpStream::connect(listener.local_addr().ok()?).ok()?;
    let (mut far, _) = listener.accept().ok()?;
    near.set_nodelay(true).ok()?;
    far.set_nodelay(true).ok()?;
    let echo = std::thread::spawn(move || {
        let mut byte = [0];
        while far.read_exact(&mut byte).is_ok() {
            far.write_all(&byte).unwrap();
        }
    });
    let start = Instant::now();
    for _ in 0..ROUND_TRIPS {
        near.write_all(b"x").ok()?;
        near.read_exact(&mut [0]).ok()?;
    }
    let took = start.elapsed().as_secs_f64();
    drop(near);
    echo.join().ok()?;
    Some(took)
}

fn random_reads() -> Option<f64> {
    const READS: u64 = 5_000;
    const BLOCKS: u64 = 16_384;
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).ok()?;
    let path = folder.path().join("file");
    let mut file = File::create(&path).ok()?;
    file.write_all(&vec![1; (BLOCKS * 4_096) as usize]).ok()?;
    file.sync_all().ok()?;
    let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(&path).ok()?;
    let mut memory = vec![0; 8_192];
    // What is read past the cache goes to where a block could lie.
    let aligned = memory.as_ptr().align_offset(4_096);
    let start = Instant::now();
    let mut place = 1u64;
    for _ in 0..READS {
        place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        file.read_exact_at(&mut memory[aligned..aligned + 4_096], (place >> 40) % BLOCKS * 4_096).ok()?;
    }
    Some(start.elapsed().as_secs_f64())
}

fn web_server() -> Option<f64> {
    const REQUESTS: usize = 3_000;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    let address = listener.local_addr().ok()?;
    let server = std::thread::spawn(move || {
        let page = vec![b'x'; 10_000];
        for _ in 0..REQUESTS {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while request.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", page.len()).unwrap();
            stream.write_all(&page).unwrap();
        }
    });
    let start = Instant::now();
    let mut answer = Vec::new();
    for _ in 0..REQUESTS {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
        answer.clear();
        stream.read_to_end(&mut answer).ok()?;
    }
    let took = start.elapsed().as_secs_f64();
    server.join().ok()?;
    Some(took)
}

fn compile() -> Option<f64> {
    const FILES: usize = 12;
    let folder = tempfile::tempdir().ok()?;
    for file in 0..FILES {
        let functions: String = (0..150)
            .map(|n| format!("int f{n}(int x) {{ for (int i = 0; i < x; i++) x ^= i * {n} + x / (i + 1); return x; }}\n"))
            .collect();
        std::fs::write(folder.path().join(format!("{file}.c")), format!("#include <stdio.h>\n{functions}"))
            .ok()?;
    }
    let start = Instant::now();
    let one = "gcc -O1 -c \"$0\" -o /dev/null";
    let all = format!("ls {}/*.c | xargs -P 2 -n 1 sh -c '{one}'", folder.path().display());
    let status = Command::new("sh").args(["-c", &all]).stdin(Stdio::null()).status().ok()?;
    status.success().then(|| start.elapsed().as_secs_f64())
}

/// Names of the probes: those that are on by default, or all that run here.
fn names(all: bool) -> Vec<String> {
    let wanted = PROBES.iter().filter(|probe| all || probe.default_on);
    wanted.map(|probe| probe.name.to_owned()).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
#[ignore = "a measurement: cargo xtask bench ebpf"]
fn table() {
    let _alone = alone();
    let rounds =
        std::env::var("COLLECTOR_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    println!(
        "{:<38} {:>9} {:>18} {:>18}",
        "load, seconds without probes", "median", "default probes", "all probes"
    );
    for (name, load) in LOADS {
        // Off, the default ones, all: in turn, so that what else the machine does meets each of them.
        let mut took: [Vec<f64>; 3] = Default::default();
        if load().is_none() {
            println!("{name:<38} not here");
            continue;
        }
        for _ in 0..rounds {
            for (state, times) in took.iter_mut().enumerate() {
                let probes = if state == 0 { Vec::new() } else { names(state == 2) };
                let _probe = Probe::start(&EbpfOptions { probes, ..EbpfOptions::default() });
                times.extend(load());
            }
        }
        let fastest = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
        let [off, default, all] = &took;
        let against = |times: &Vec<f64>| {
            let by = |on: f64, off: f64| (on / off - 1.0) * 100.0;
            let (middle, least) =
                (by(median(times.clone()), median(off.clone())), by(fastest(times), fastest(off)));
            format!("{middle:+.1} % ({least:+.1})")
        };
        println!("{name:<38} {:>9.4} {:>18} {:>18}", median(off.clone()), against(default), against(all));
    }
    println!("slowdown of the median, and in brackets that of the fastest, of {rounds} rounds");
}
