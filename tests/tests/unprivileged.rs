//! Without privileges, and with a /proc that hides the processes of others (proc(5), hidepid): what can't be read is
//! missing, named once in the log, and the rest is whole.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use collector::sources::host::COLLECTORS;
use collector_tests::exposition::Page;
use collector_tests::process::{Collector, Process, collector_binary, free_port, get, wait_for};
use collector_tests::skip::{program_or_skip, root_or_skip};

const LONG: Duration = Duration::from_secs(30);
/// Collectors whose source is for root alone, or that need a capability.
const PRIVILEGED: &[&str] = &["btrfs", "ethtool", "perf", "qdisc", "rapl", "slabinfo", "wifi"];
/// Asked over the network or a bus, they tell nothing of privileges.
const ELSEWHERE: &[&str] = &["logind", "ntp", "runit", "supervisord", "systemd"];
/// What differs from one moment to the next, and between two processes.
const OWN: &[&str] =
    &["process_", "promhttp_", "collector_", "node_scrape_", "go_", "node_network_address_info"];

fn flags() -> Vec<String> {
    let is_asked = |name: &&str| !ELSEWHERE.contains(name);
    let collectors = COLLECTORS.iter().map(|collector| collector.name).filter(is_asked);
    collectors.map(|name| format!("--collector.{name}")).chain(["--no-ebpf".to_owned()]).collect()
}

/// A collector that runs as nobody, after ten scrapes.
struct Nobody {
    page: Page,
    log: String,
}

impl Nobody {
    fn run(setpriv: &Path, folder: &Path, more: &[String]) -> Self {
        // The folder of a build may be closed to others.
        let binary = folder.join("collector");
        std::fs::copy(collector_binary(), &binary).unwrap();
        for path in [folder, &binary] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let port = free_port();
        let mut arguments: Vec<String> =
            ["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"].map(String::from).into();
        arguments.push(binary.display().to_string());
        arguments.push(format!("--web.listen-address=127.0.0.1:{port}"));
        arguments.extend(flags());
        arguments.extend_from_slice(more);
        let process = Process::start(setpriv, &arguments, &folder.join("nobody.log"));
        let url = format!("http://127.0.0.1:{port}/metrics");
        let mut text = None;
        assert!(
            wait_for(LONG, || {
                text = get(&url);
                text.is_some()
            }),
            "{}",
            process.log()
        );
        for _ in 0..9 {
            text = get(&url);
        }
        let (status, text) = text.unwrap();
        assert_eq!(status, 200);
        Nobody { page: collector_tests::exposition::parse(&text).unwrap(), log: process.log() }
    }
}

fn failed(page: &Page) -> BTreeSet<String> {
    let outcomes = page.samples.iter().filter(|sample| sample.name == "node_scrape_collector_success");
    outcomes.filter(|sample| sample.value == 0.0).map(|sample| sample.labels["collector"].clone()).collect()
}

fn families(page: &Page) -> BTreeSet<&str> {
    let names = page.types.keys().map(String::as_str);
    names.filter(|name| !OWN.iter().any(|own| name.starts_with(own))).collect()
}

/// Whether that collector's table has that family.
fn gives(collector: &str, family: &str) -> bool {
    let mut table =
        COLLECTORS.iter().filter(|known| known.name == collector).flat_map(|known| known.families);
    table.any(|known| match known.name.split_once('*') {
        Some((start, end)) => family.starts_with(start) && family.ends_with(end),
        None => known.name == family,
    })
}

/// Holds what nobody sees against what root sees.
fn compare(root: &Page, nobody: &Nobody) {
    let (before, after) = (failed(root), failed(&nobody.page));
    let lost: Vec<_> = after.difference(&before).map(String::as_str).collect();
    assert!(lost.iter().all(|name| PRIVILEGED.contains(name)), "{lost:?}\n{}", nobody.log);
    for name in &lost {
        let says = format!("collector={name}");
        let lines = nobody.log.lines().filter(|line| line.contains("level=ERROR") && line.contains(&says));
        assert_eq!(lines.count(), 1, "{name} is named once:\n{}", nobody.log);
    }
    let missing: Vec<_> = families(root).difference(&families(&nobody.page)).copied().collect();
    let unexplained: Vec<_> =
        missing.iter().filter(|family| !lost.iter().any(|name| gives(name, family))).collect();
    assert!(unexplained.is_empty(), "{unexplained:?}; lost: {lost:?}");
}

#[test]
fn as_nobody() {
    let name = "as_nobody";
    let (true, Some(setpriv)) = (root_or_skip(name), program_or_skip(name, &["setpriv"])) else { return };
    let folder = tempfile::tempdir().unwrap();
    let flags = flags();
    let arguments: Vec<&str> = flags.iter().map(String::as_str).collect();
    let root = Collector::start(free_port(), folder.path(), &arguments);
    compare(&root.metrics(), &Nobody::run(&setpriv, folder.path(), &[]));
}

/// Mounts that go with it.
struct Hidden(PathBuf);

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn with_the_processes_of_others_hidden() {
    let name = "with_the_processes_of_others_hidden";
    let (true, Some(setpriv)) = (root_or_skip(name), program_or_skip(name, &["setpriv"])) else { return };
    let folder = tempfile::tempdir().unwrap();
    let procfs = folder.path().join("proc");
    std::fs::create_dir(&procfs).unwrap();
    let status =
        Command::new("mount").args(["-t", "proc", "-o", "hidepid=2", "proc"]).arg(&procfs).status().unwrap();
    assert!(status.success());
    let hidden = Hidden(procfs);
    let flags = flags();
    let arguments: Vec<&str> = flags.iter().map(String::as_str).collect();
    let root = Collector::start(free_port(), folder.path(), &arguments);
    let flag = format!("--path.procfs={}", hidden.0.display());
    let nobody = Nobody::run(&setpriv, folder.path(), &[flag]);
    let all = root.metrics();
    compare(&all, &nobody);
    let pids = |page: &Page| page.value("node_processes_pids", &[]).unwrap();
    assert!(pids(&nobody.page) < pids(&all), "only those of nobody are seen");
}
