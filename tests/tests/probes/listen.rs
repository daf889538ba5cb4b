//! Listening sockets whose accept queue is full, and connections that meet it: as they ask, and at the end of their
//! handshake; over both versions of IP, and over one on a socket of the other.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use collector_tests::cgroup::{Cgroup, Hierarchy, Worker};
use collector_tests::probe::{Before, Probe, alone};

use super::near;

/// Connections whose handshake waits for what they send, and those that ask when the queue is full.
const WAITING: usize = 9;
const ASKING: usize = 10;
/// Shorter than the time after which a SYN is sent again.
const PATIENCE: Duration = Duration::from_millis(200);

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

const HOST: &str = "collector_tcp_accept_queue_overflows_total";
const CGROUP: &str = "collector_cgroup_tcp_accept_queue_overflows_total";

/// The kernel's own count of a name, for this network namespace.
fn netstat(name: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/net/netstat").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let place = names.split(' ').position(|own| own == name).unwrap();
    values.split(' ').nth(place).unwrap().parse().unwrap()
}

/// Not a test of its own: the child that listens in a cgroup, and accepts nothing. It shortens its queue when told to.
#[test]
#[ignore = "run by another test, in a child process"]
fn listener() {
    let address: IpAddr = std::env::var("ADDRESS").unwrap().parse().unwrap();
    let listener = TcpListener::bind((address, 0)).unwrap();
    let (socket, seconds) = (listener.as_raw_fd(), 30_i32);
    // SAFETY: setsockopt(2) reads a number. The handshake of a connection ends when it has sent something.
    let deferred = unsafe {
        let size = libc::socklen_t::try_from(size_of::<i32>()).unwrap();
        libc::setsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            std::ptr::from_ref(&seconds).cast(),
            size,
        )
    };
    assert_eq!(deferred, 0);
    println!("\nPORT {}", listener.local_addr().unwrap().port());
    let mut length = String::new();
    std::io::stdin().read_line(&mut length).unwrap();
    // SAFETY: listen(2) on a socket that is listening already changes the length of its queue.
    assert_eq!(unsafe { libc::listen(socket, length.trim().parse().unwrap()) }, 0);
    println!("\nSHORT");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Lets connections meet a queue of that length: some at the end of their handshake, some when they ask. `meanwhile` runs
/// between the two. The queue takes one more than its length.
fn overflow(cgroup: &Cgroup, at: IpAddr, to: IpAddr, length: usize, meanwhile: impl FnOnce()) {
    let mut listener = Worker::start(cgroup, "listen::listener", &[("ADDRESS", &at.to_string())]);
    let port: u16 = listener.wait_for("PORT").parse().unwrap();
    let address = SocketAddr::from((to, port));
    let mut streams: Vec<_> = (0..WAITING).map(|_| TcpStream::connect(address).unwrap()).collect();
    listener.tell(&length.to_string());
    listener.wait_for("SHORT");
    for stream in &mut streams {
        stream.write_all(b"x").unwrap();
    }
    meanwhile();
    for _ in 0..ASKING {
        TcpStream::connect_timeout(&address, PATIENCE).unwrap_err();
    }
    // Nothing is sent again once nobody listens.
    listener.end();
}

fn series(cgroup: &Cgroup) -> [(&'static str, Vec<(&'static str, &str)>); 3] {
    [
        (HOST, vec![("stage", "syn")]),
        (HOST, vec![("stage", "handshake")]),
        (CGROUP, vec![("cgroup", cgroup.path.as_str())]),
    ]
}

/// Holds what has been counted against the kernel's own count, and returns it by stage.
fn grown(test: &str, probe: &mut Probe, before: &Before<'_>, kernel: f64) -> [f64; 2] {
    let kernel = netstat("ListenOverflows") - kernel;
    let grown = probe.grown(before);
    eprintln!("{test}: {grown:?}, the kernel {kernel}");
    near("overflows", grown[0] + grown[1], kernel, 0.0);
    near("overflows of the cgroup", grown[2], kernel, 0.0);
    [grown[0], grown[1]]
}

#[test]
fn overflows_are_counted_for_the_cgroup_that_listens() {
    const LENGTH: usize = 1;
    let test = "overflows_are_counted_for_the_cgroup_that_listens";
    let _alone = alone();
    let Some(mut probe) = Probe::tracing_or_seen(test, "listen") else { return };
    // The last listens for both, and is called by the older.
    for (at, to) in [(V4, V4), (V6, V6), (IpAddr::V6(Ipv6Addr::UNSPECIFIED), V4)] {
        let Some(cgroup) = Cgroup::create_or_skip(test, Hierarchy::Unified) else { return };
        let before = probe.before(&series(&cgroup));
        let kernel = netstat("ListenOverflows");
        overflow(&cgroup, at, to, LENGTH, || {});
        let [asked, shaken] = grown(test, &mut probe, &before, kernel);
        assert!(asked >= ASKING as f64 && shaken >= (WAITING - LENGTH - 1) as f64, "{asked} and {shaken}");
        assert_eq!(probe.lost(), 0.0);
    }
}

/// Sets it, and gives back what it was.
fn set_cookies(value: &str) -> String {
    let path = "/proc/sys/net/ipv4/tcp_syncookies";
    let was = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, value).unwrap();
    was
}

/// Not where other things are: it switches off what defends the host.
#[test]
#[ignore = "run in a guest by `cargo xtask vm`"]
fn what_is_thrown_away_without_cookies_is_no_overflow() {
    let test = "what_is_thrown_away_without_cookies_is_no_overflow";
    let _alone = alone();
    let Some(mut probe) = Probe::tracing_or_seen(test, "listen") else { return };
    // With the one there are more handshakes under way than the queue is long, with the other as many: just not too many.
    for (length, too_many) in [(1, ASKING), (WAITING / 2, 0)] {
        let Some(cgroup) = Cgroup::create_or_skip(test, Hierarchy::Unified) else { return };
        let before = probe.before(&series(&cgroup));
        let (kernel, full) = (netstat("ListenOverflows"), netstat("TCPReqQFullDrop"));
        let mut was = String::new();
        overflow(&cgroup, V4, V4, length, || was = set_cookies("0"));
        set_cookies(&was);
        near("SYNs that met too many handshakes", netstat("TCPReqQFullDrop") - full, too_many as f64, 0.0);
        let [asked, shaken] = grown(test, &mut probe, &before, kernel);
        assert_eq!(asked, (ASKING - too_many) as f64);
        assert!(shaken >= (WAITING - length - 1) as f64, "{shaken}");
    }
}
