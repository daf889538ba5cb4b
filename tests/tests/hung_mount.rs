//! A mount whose server does not answer any more: the page comes all the same, says so, and no thread is left behind.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use collector_tests::exposition::{self, Page};
use collector_tests::fuse::{BLOCK, FuseMount};
use collector_tests::process::{Collector, free_port, wait_for};
use collector_tests::skip::{root_or_skip, skip};

/// Far above the deadline of a page, far below for ever.
const LONG: Duration = Duration::from_secs(60);

fn threads(collector: &Collector) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", collector.process.id())).unwrap().count()
}

/// The page for a scraper that waits so long.
fn scrape(collector: &Collector, seconds: &str) -> Page {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", collector.port)).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Prometheus-Scrape-Timeout-Seconds: {seconds}\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    exposition::parse(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

struct Seen {
    size: Option<f64>,
    error: Option<f64>,
    /// Collectors that did not succeed.
    failed: Vec<String>,
    other_mounts: usize,
}

fn seen(page: &Page, mount: &str) -> Seen {
    let others = page.samples.iter().filter(|sample| sample.name == "node_filesystem_size_bytes");
    Seen {
        size: page.value("node_filesystem_size_bytes", &[("mountpoint", mount)]),
        error: page.value("node_filesystem_device_error", &[("mountpoint", mount)]),
        failed: page
            .samples
            .iter()
            .filter(|sample| sample.name == "node_scrape_collector_success" && sample.value == 0.0)
            .map(|sample| sample.labels["collector"].clone())
            .collect(),
        other_mounts: others.filter(|sample| sample.labels["mountpoint"] != mount).count(),
    }
}

#[test]
fn a_mount_that_hangs_costs_one_page_its_wait_and_one_thread() {
    let name = "a_mount_that_hangs_costs_one_page_its_wait_and_one_thread";
    if !root_or_skip(name) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let point = folder.path().join("mount");
    std::fs::create_dir(&point).unwrap();
    let mount = match FuseMount::new(&point) {
        Ok(mount) => mount,
        Err(error) => return skip(name, &format!("FUSE can't be mounted: {error}")),
    };
    let collector = Collector::start(free_port(), folder.path(), &["--no-ebpf"]);
    let point = point.to_str().unwrap();
    let before = seen(&scrape(&collector, "30"), point);
    assert_eq!((before.size, before.error), (Some((1000 * BLOCK) as f64), Some(0.0)));
    let calm = threads(&collector);

    mount.set_hangs(true);
    let first = scrape(&collector, "30");
    let hung = seen(&first, point);
    assert_eq!((hung.size, hung.error), (None, Some(1.0)), "marked in the first page that met it");
    assert_eq!((&hung.failed, hung.other_mounts), (&before.failed, before.other_mounts), "the rest is whole");
    let with_reason = [("mountpoint", point), ("device_error", "mountpoint timeout")];
    assert_eq!(first.value("node_filesystem_device_error", &with_reason), Some(1.0));
    let after_first = threads(&collector);
    for _ in 0..50 {
        let next = seen(&scrape(&collector, "1"), point);
        assert_eq!((next.error, next.other_mounts), (Some(1.0), before.other_mounts));
        assert_eq!(next.failed, before.failed);
    }
    assert!(threads(&collector) <= after_first, "no thread for further pages");
    assert!(after_first <= calm + 3, "{calm} threads before, {after_first} after");

    mount.set_hangs(false);
    assert!(wait_for(LONG, || seen(&scrape(&collector, "30"), point).size == before.size), "it comes back");
}
