//! Tests of the parser of /proc/stat's CPU lines, and of times that never go back.

use super::*;

fn collector() -> Cpu {
    Cpu {
        guest: true,
        info: None,
        cpus: Vec::new(),
        topology: Topology::new(std::path::Path::new("/nowhere")),
    }
}

fn times(collector: &mut Cpu, text: &str) -> Vec<(u64, f64, f64)> {
    collector.take_in(text.as_bytes(), |_| {});
    collector.cpus.iter().map(|times| (times.number, times.seconds[0], times.seconds[IDLE])).collect()
}

#[test]
fn a_line_of_a_cpu() {
    let (number, seconds, columns) = parse_cpu(b"12 301854 612 111922 8979004 3552 2 3944 5 6 7").unwrap();
    assert_eq!((number, columns), (12, 10));
    assert_eq!(seconds[..4], [3018.54, 6.12, 1119.22, 89_790.04]);
    assert_eq!(parse_cpu(b"0 1 2 3 4").unwrap().2, 4);
    for wrong in ["0 1 2 3", "x 1 2 3 4", "0 1 2 -3 4", ""] {
        assert!(parse_cpu(wrong.as_bytes()).is_none(), "{wrong}");
    }
}

#[test]
fn a_time_never_goes_back_unless_the_cpu_was_replugged() {
    let mut collector = collector();
    let read = |collector: &mut Cpu, user: u64, idle: u64| {
        times(collector, &format!("cpu  9 9 9 9\ncpu1 {user} 0 0 {idle} 0 0 0 0 0 0\nintr 1\n"))
    };
    assert_eq!(read(&mut collector, 100, 1000), [(1, 1.0, 10.0)]);
    assert_eq!(read(&mut collector, 90, 990), [(1, 1.0, 10.0)], "both stay");
    assert_eq!(read(&mut collector, 200, 701), [(1, 2.0, 10.0)], "less than three seconds back");
    assert_eq!(read(&mut collector, 5, 700), [(1, 0.05, 7.0)], "unplugged and back");
}

#[test]
fn cpus_come_and_go() {
    let mut collector = collector();
    assert!(collector.take_in(b"cpu0 1 1 1 1\ncpu2 1 1 1 1\n", |_| {}));
    assert!(!collector.take_in(b"cpu0 1 1 1 1\ncpu2 1 1 1 1\n", |_| {}));
    assert!(collector.take_in(b"cpu0 1 1 1 1\ncpu1 1 1 1 1\n", |_| {}));
    assert_eq!(collector.cpus.iter().map(|times| times.number).collect::<Vec<_>>(), [0, 1]);
    let mut bad = Vec::new();
    collector.take_in(b"cpu0 1 1 1 1\ncpu1 1 x\n", |line| bad.push(line));
    assert_eq!((bad, collector.cpus.len()), (vec![2], 1), "a bad line loses its own CPU");
}
