//! Without privileges, and with a /proc that hides the processes of others (proc(5), hidepid): what can't be read is
//! missing, named once in the log, and the rest is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use collector::sources::ebpf::PROBES;
use collector::sources::host::COLLECTORS;
use collector_tests::exposition::{Page, Sample};
use collector_tests::probe::is_locked_out;
use collector_tests::process::{Collector, Process, collector_binary, free_port, get, wait_for};
use collector_tests::skip::{program_or_skip, root_or_skip, skip};

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

/// Starts it as nobody, with what setpriv(1) may give.
fn start_as_nobody(
    setpriv: &Path,
    folder: &Path,
    port: u16,
    privileges: &[String],
    flags: &[String],
) -> Process {
    // The folder of a build may be closed to others.
    let binary = folder.join("collector");
    std::fs::copy(collector_binary(), &binary).unwrap();
    for path in [folder, &binary] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let user = ["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"].map(String::from);
    let program = [binary.display().to_string(), format!("--web.listen-address=127.0.0.1:{port}")];
    let arguments = [&user, privileges, &program, flags].concat();
    Process::start(setpriv, &arguments, &folder.join("nobody.log"))
}

impl Nobody {
    fn run(setpriv: &Path, folder: &Path, more: &[String]) -> Self {
        let port = free_port();
        let process = start_as_nobody(setpriv, folder, port, &[], &[&flags(), more].concat());
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

/// The service's unit, as it is shipped.
const UNIT: &str = include_str!("../../packaging/collector.service");

/// What is given to that key of the unit.
fn in_unit(key: &str) -> &'static str {
    UNIT.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap()
}

/// Names and values of a file like /proc/PID/status.
fn status_of(task: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(task.join("status")).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// Every thread of a process, once the one that loads the probes has ended.
fn threads(process: &Process) -> Vec<BTreeMap<String, String>> {
    let folder = PathBuf::from(format!("/proc/{}/task", process.id()));
    let all = || -> Vec<_> {
        std::fs::read_dir(&folder).unwrap().map(|task| status_of(&task.unwrap().path())).collect()
    };
    assert!(wait_for(LONG, || all().iter().all(|status| status["Name"] != "ebpf-loader")));
    all()
}

/// Holds what every thread may do against these capabilities.
fn assert_given_up(process: &Process, kept: &[u32]) {
    let kept: u64 = kept.iter().map(|number| 1 << number).sum();
    for status in threads(process) {
        let name = &status["Name"];
        for (set, expected) in [("CapEff", kept), ("CapPrm", kept), ("CapInh", 0), ("CapAmb", 0)] {
            assert_eq!(u64::from_str_radix(&status[set], 16), Ok(expected), "{set} of {name}");
        }
        assert_eq!((&*status["NoNewPrivs"], &*status["Seccomp"]), ("1", "2"), "{name}");
    }
}

#[test]
fn with_what_the_unit_gives() {
    const KEPT: [u32; 2] = [2, 19];
    let name = "with_what_the_unit_gives";
    let (true, Some(setpriv)) = (root_or_skip(name), program_or_skip(name, &["setpriv"])) else { return };
    let sets = in_unit("AmbientCapabilities").to_lowercase().replace("cap_", "+").replace(' ', ",");
    assert_eq!(in_unit("AmbientCapabilities"), in_unit("CapabilityBoundingSet"));
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    // SAFETY: the kernel reads the structure. A unit's LimitMEMLOCK= does the same; where it fails it is not needed.
    unsafe {
        let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited);
    }
    let privileges = [format!("--inh-caps=-all,{sets}"), format!("--ambient-caps=-all,{sets}")];
    let process = start_as_nobody(&setpriv, folder.path(), port, &privileges, &[]);
    let url = format!("http://127.0.0.1:{port}/metrics");
    let page = || collector_tests::exposition::parse(&get(&url)?.1).ok();
    let up = |page: &Page| page.samples.iter().filter(|s| s.name == "collector_ebpf_probe_up").count() > 0;
    assert!(wait_for(LONG, || page().is_some_and(|page| up(&page))), "{}", process.log());
    let before = page().unwrap();
    let probes = before.samples.iter().filter(|sample| sample.name == "collector_ebpf_probe_up");
    // A kernel that is locked down lets nobody trace functions, whatever the unit gives.
    let has_to_run = |sample: &&Sample| {
        let row = PROBES.iter().find(|row| row.name == sample.labels["probe"]).unwrap();
        !is_locked_out(row)
    };
    let down: Vec<_> =
        probes.filter(|sample| sample.value != 1.0).filter(has_to_run).map(|sample| &sample.labels).collect();
    if down.iter().any(|labels| matches!(labels["reason"].as_str(), "no_btf" | "not_supported")) {
        return skip(name, &format!("{down:?}"));
    }
    assert!(down.is_empty(), "{down:?}\n{}", process.log());
    assert_given_up(&process, &KEPT);
    for _ in 0..20 {
        assert!(Command::new("true").status().unwrap().success());
    }
    let forks = |page: &Page| page.value("collector_process_forks_total", &[("kind", "process")]).unwrap();
    let (after, was) = (forks(&page().unwrap()), forks(&before));
    assert!(after >= was + 20.0, "{was} forks before, {after} after");
}

#[test]
fn root_gives_up_what_no_collector_needs() {
    let name = "root_gives_up_what_no_collector_needs";
    if !root_or_skip(name) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let flags = flags();
    let arguments: Vec<&str> = flags.iter().map(String::as_str).collect();
    let dropped = Collector::start(free_port(), folder.path(), &arguments);
    let everything = [&arguments[..], &["--no-privileges.drop"]].concat();
    let other = tempfile::tempdir().unwrap();
    let whole = Collector::start(free_port(), other.path(), &everything);
    let mine = status_of(Path::new("/proc/self"));
    for status in threads(&whole.process) {
        assert_eq!((&status["CapEff"], &status["Seccomp"]), (&mine["CapEff"], &mine["Seccomp"]));
    }
    // Of what this process has; all collectors run, so that theirs are kept too.
    let permitted = u64::from_str_radix(&mine["CapPrm"], 16).unwrap();
    let kept: Vec<u32> =
        [1, 2, 10, 12, 19, 38].into_iter().filter(|number| permitted >> number & 1 != 0).collect();
    assert_given_up(&dropped.process, &kept);
    let (less, more) = (dropped.metrics(), whole.metrics());
    assert_eq!(failed(&less), failed(&more));
    assert_eq!(families(&less), families(&more));
}

/// Whether systemd takes the unit without a complaint, and how much of the machine it thinks that it leaves open.
#[test]
fn systemd_takes_the_unit() {
    let name = "systemd_takes_the_unit";
    let Some(analyze) = program_or_skip(name, &["systemd-analyze"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("collector.service");
    // It looks for the program.
    std::fs::write(&unit, UNIT.replace("/usr/bin/collector", collector_binary().to_str().unwrap())).unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(&analyze).args(arguments).arg(&unit).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    assert_eq!(run(&["verify", "--man=no"]), (true, String::new()));
    // 10 is a service that nothing is taken from.
    let (good, report) = run(&["security", "--offline=yes", "--threshold=30"]);
    assert!(good, "{report}");
}
