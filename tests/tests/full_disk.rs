//! A disk that fills up under the batch log: samples still arrive, a metric says that memory alone holds them, and
//! the log goes on by itself when there is room again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use collector_tests::process::{Collector, free_port, wait_for};
use collector_tests::receiver::{Receiver, slots};
use collector_tests::skip::root_or_skip;

const LONG: Duration = Duration::from_secs(20);

/// A small file system of the test's own, unmounted with it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: PathBuf) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"])
            .arg(&folder)
            .output()
            .expect("mount runs");
        assert!(mount.status.success(), "{}", String::from_utf8_lossy(&mount.stderr));
        SmallDisk(folder)
    }

    /// Leaves no byte free.
    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let mut size = 512 * 1024;
        while size > 0 {
            use std::io::Write as _;
            let mut file = std::fs::File::options().create(true).append(true).open(&filler).unwrap();
            if file.write_all(&vec![1; size]).is_err() {
                size /= 2;
            }
        }
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, for the collector may not have ended yet.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn own(collector: &Collector, name: &str) -> f64 {
    collector.metrics().value(name, &[]).unwrap_or_else(|| panic!("{name} is missing"))
}

fn start(folder: &Path, url: &str) -> Collector {
    let file = folder.join("c.yml");
    let config = format!("global: {{scrape_interval: 200ms}}\nremote_write: [{{url: '{url}', name: r}}]\n");
    std::fs::write(&file, config).unwrap();
    Collector::start(free_port(), folder, &[&format!("--config.file={}", file.display())])
}

#[test]
fn samples_go_on_while_the_log_has_no_room() {
    if !root_or_skip("samples_go_on_while_the_log_has_no_room") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(folder.path().join("storage"));
    let receiver = Receiver::start();
    let collector = start(folder.path(), &receiver.url());
    let arrived = || {
        receiver.look(|taken| {
            let load = taken.series.iter().find(|(series, _)| series.starts_with("node_load1{"));
            load.map(|(_, points)| points.iter().map(|point| point.0).collect::<Vec<_>>()).unwrap_or_default()
        })
    };
    assert!(wait_for(LONG, || arrived().len() >= 3));
    assert_eq!(own(&collector, "collector_batch_log_healthy"), 1.0);
    let filler = disk.fill();
    let failing = || own(&collector, "collector_batch_log_healthy") == 0.0;
    assert!(wait_for(LONG, failing), "{}", collector.process.log());
    assert!(own(&collector, "collector_batch_log_write_errors_total") > 0.0);
    let before = arrived().len();
    assert!(wait_for(LONG, || arrived().len() >= before + 5), "nothing arrives while the disk is full");
    std::fs::remove_file(filler).unwrap();
    assert!(wait_for(LONG, || !failing()), "{}", collector.process.log());
    let before = arrived().len();
    assert!(wait_for(LONG, || arrived().len() >= before + 3));
    for pair in slots(&arrived(), 200).windows(2) {
        assert_eq!(pair[1] - pair[0], 1, "every tick arrived once and in order");
    }
    let log = collector.process.log();
    assert!(
        log.contains("No space left on device") && log.contains("the batch log is written again"),
        "{log}"
    );
}
