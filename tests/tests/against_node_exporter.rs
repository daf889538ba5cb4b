//! Side by side with Debian's node_exporter 1.5.0 on this host: every family and every series that it gives must be
//! here with the same type, but for what 1.12 gives otherwise. Counters lie between a scrape of it before ours and one
//! after; what hardly ever moves is equal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use collector::sources::host::COLLECTORS;
use collector_tests::exposition::{self, Page, Sample};
use collector_tests::process::{Collector, Process, free_port, get, wait_for};
use collector_tests::skip::program_or_skip;

const LONG: Duration = Duration::from_secs(30);
/// A counter of the kernel may step back a little, and a series may come or go: what is wrong each time is wrong.
const ATTEMPTS: usize = 5;

/// Defaults of 1.12 where Debian's build, or 1.5.0, has another.
const UPSTREAM: &[&str] = &[
    "--no-collector.systemd",
    "--collector.netdev.device-exclude=",
    "--collector.textfile.directory=",
    "--collector.diskstats.device-exclude=^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\\d+n\\d+p)\\d+$",
    "--collector.filesystem.mount-points-exclude=\
     ^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)",
    "--collector.filesystem.fs-types-exclude=^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|\
     fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|\
     erofs|sysfs|tracefs)$",
    "--collector.netstat.fields=^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|\
     Icmp6?_(InMsgs|OutMsgs)|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)|\
     Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)|\
     Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$",
];

/// Given to both, with everything that is off by default: flags that add families or labels.
const MORE: &[&str] = &[
    "--collector.cpu.info",
    "--collector.cpu.info.flags-include=^(aes|avx.?|fpu)$",
    "--collector.cpu.info.bugs-include=^(spectre_.*|mds)$",
    "--collector.stat.softirq",
    "--collector.netdev.address-info",
    "--collector.bcache.priorityStats",
    "--collector.sysctl.include=fs.file-nr:total,current,max",
    "--collector.sysctl.include=kernel.threads-max",
    "--collector.sysctl.include-info=net.ipv4.tcp_available_congestion_control",
];

/// Given to both: the other ways to ask, and the names that come of them.
const OTHERWISE: &[&str] = &[
    "--collector.netdev.enable-detailed-metrics",
    "--no-collector.cpu.guest",
    "--collector.netclass.ignore-invalid-speed",
    "--collector.ethtool",
    "--collector.ethtool.metrics-include=.*bytes.*",
    "--collector.diskstats.device-exclude=^loop",
    "--collector.vmstat.fields=.*",
    "--collector.netstat.fields=.*",
];

/// Families that we do not have, by the beginning of their names, and why.
const WITHOUT: &[(&str, &str)] = &[("go_", "the runtime of a language that this program is not written in")];

/// Labels that 1.12 has and 1.5.0 has not.
const LABELS_SINCE: &[(&str, &str)] = &[
    ("node_disk_info", "rotational"),
    ("node_filesystem_avail_bytes", "device_error"),
    ("node_filesystem_device_error", "device_error"),
    ("node_filesystem_files", "device_error"),
    ("node_filesystem_files_free", "device_error"),
    ("node_filesystem_free_bytes", "device_error"),
    ("node_filesystem_readonly", "device_error"),
    ("node_filesystem_size_bytes", "device_error"),
    ("node_network_info", "adminstate"),
];

/// Families whose label values are each program's own.
const OWN_LABELS: &[&str] = &["node_exporter_build_info"];

/// Families, by the beginning of their names, that say something of the program, or count since it began.
const OWN_VALUES: &[&str] = &["process_", "promhttp_", "node_exporter_", "node_scrape_", "node_perf_"];

/// Gauges that are equal as long as nobody changes the host.
const SLOW: &[&str] = &[
    "node_boot_time_seconds",
    "node_cpu_info",
    "node_disk_info",
    "node_dmi_info",
    "node_entropy_pool_size_bits",
    "node_filefd_maximum",
    "node_filesystem_files",
    "node_filesystem_readonly",
    "node_filesystem_size_bytes",
    "node_memory_HugePages_Total",
    "node_memory_MemTotal_bytes",
    "node_memory_SwapTotal_bytes",
    "node_memory_VmallocTotal_bytes",
    "node_network_flags",
    "node_network_iface_id",
    "node_network_info",
    "node_network_mtu_bytes",
    "node_network_speed_bytes",
    "node_network_transmit_queue_length",
    "node_network_up",
    "node_nf_conntrack_entries_limit",
    "node_os_info",
    "node_os_version",
    "node_processes_max_processes",
    "node_processes_max_threads",
    "process_virtual_memory_max_bytes",
    "node_sysctl_kernel_threads_max",
    "node_time_clocksource_available_info",
    "node_time_clocksource_current_info",
    "node_timex_tai_offset_seconds",
    "node_uname_info",
    "node_xfs_info",
];

/// Debian's node_exporter, ready.
struct NodeExporter {
    _process: Process,
    url: String,
}

impl NodeExporter {
    fn start(program: &Path, folder: &Path, flags: &[String]) -> Self {
        let port = free_port();
        let mut arguments = vec![format!("--web.listen-address=127.0.0.1:{port}")];
        arguments.extend(flags.iter().cloned());
        let process = Process::start(program, &arguments, &folder.join("node_exporter.log"));
        let url = format!("http://127.0.0.1:{port}/metrics");
        assert!(wait_for(LONG, || get(&url).is_some()), "{}", process.log());
        NodeExporter { _process: process, url }
    }

    fn metrics(&self) -> Page {
        exposition::parse(&get(&self.url).expect("node_exporter answers").1).expect("its page is right")
    }
}

/// The name and labels of each sample, without what came after 1.5.0.
fn by_series(page: &Page) -> BTreeMap<String, f64> {
    let series = |sample: &Sample| {
        let mut labels = sample.labels.clone();
        for (_, label) in LABELS_SINCE.iter().filter(|(family, _)| *family == sample.name) {
            labels.remove(*label);
        }
        if OWN_LABELS.contains(&sample.name.as_str()) {
            labels.clear();
        }
        format!("{}{labels:?}", sample.name)
    };
    page.samples.iter().map(|sample| (series(sample), sample.value)).collect()
}

fn name_of(series: &str) -> &str {
    series.split('{').next().unwrap_or_default()
}

/// Everything that is wrong with ours, between two pages of theirs.
fn compare(before: &Page, ours: &Page, after: &Page) -> BTreeSet<String> {
    let is_without = |name: &str| WITHOUT.iter().any(|(start, _)| name.starts_with(start));
    let mut wrong = BTreeSet::new();
    for (family, kind) in before.types.iter().filter(|(family, _)| !is_without(family)) {
        let own = ours.types.get(family);
        if own != Some(kind) {
            wrong.insert(format!("{family} is {own:?}, not {kind:?}"));
        }
    }
    let (before_series, our_series, after_series) = (by_series(before), by_series(ours), by_series(after));
    for (series, &first) in &before_series {
        let name = name_of(series);
        // What came or went between the two, nobody can miss.
        let Some(&last) = after_series.get(series).filter(|_| !is_without(name)) else { continue };
        let Some(&value) = our_series.get(series) else {
            wrong.insert(format!("{series} is missing"));
            continue;
        };
        if SLOW.contains(&name) && first == last && value != first {
            wrong.insert(format!("{series} is {value}, not {first}"));
        }
        if OWN_VALUES.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        let is_counter = before.types.get(name).is_some_and(|kind| kind == "counter");
        if is_counter && first <= last && !(first <= value && value <= last) {
            wrong.insert(format!("{series} does not lie between theirs"));
        }
    }
    for sample in before.samples.iter().filter(|sample| sample.name == "node_scrape_collector_success") {
        let collector = sample.labels["collector"].as_str();
        let outcome = ours.value(&sample.name, &[("collector", collector)]);
        if outcome.is_some_and(|outcome| outcome < sample.value) {
            wrong.insert(format!("the collector {collector} fails"));
        }
    }
    wrong
}

/// Starts both with these flags and compares them, a few times. Theirs gets the defaults of 1.12 as well, but for the
/// flags that begin with one of `replaced`.
fn run(program: &Path, replaced: &[&str], flags: &[String]) {
    let folder = tempfile::tempdir().unwrap();
    let is_replaced = |flag: &&&str| replaced.iter().any(|start| flag.starts_with(start));
    let mut theirs: Vec<String> =
        UPSTREAM.iter().filter(|flag| !is_replaced(flag)).map(|&flag| flag.to_owned()).collect();
    theirs.extend_from_slice(flags);
    let node_exporter = NodeExporter::start(program, folder.path(), &theirs);
    let mut arguments: Vec<&str> = vec!["--no-ebpf"];
    arguments.extend(flags.iter().map(String::as_str));
    let collector = Collector::start(free_port(), folder.path(), &arguments);
    let mut wrong: Option<BTreeSet<String>> = None;
    for _ in 0..ATTEMPTS {
        let (before, page, after) = (node_exporter.metrics(), collector.metrics(), node_exporter.metrics());
        assert!(before.samples.len() > 100, "node_exporter gives its page");
        let now = compare(&before, &page, &after);
        let still: BTreeSet<String> = match wrong {
            Some(earlier) => earlier.intersection(&now).cloned().collect(),
            None => now,
        };
        if still.is_empty() {
            return;
        }
        wrong = Some(still);
    }
    panic!("{:#?}\n{}", wrong.unwrap_or_default(), collector.process.log());
}

fn owned(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|&flag| flag.to_owned()).collect()
}

const PROGRAMS: &[&str] = &["prometheus-node-exporter"];

#[test]
fn with_the_defaults() {
    let Some(program) = program_or_skip("with_the_defaults", PROGRAMS) else { return };
    run(&program, &[], &[]);
}

#[test]
fn with_everything_switched_on() {
    let Some(program) = program_or_skip("with_everything_switched_on", PROGRAMS) else { return };
    let help = std::process::Command::new(&program).arg("--help").output().unwrap();
    let help = [help.stdout, help.stderr].concat();
    let help = String::from_utf8_lossy(&help);
    let words: BTreeSet<&str> = help.split_whitespace().collect();
    let text = tempfile::tempdir().unwrap();
    std::fs::write(text.path().join("backup.prom"), "backup_age_seconds{job=\"db\"} 7\n").unwrap();
    let switches = COLLECTORS.iter().map(|collector| format!("--collector.{}", collector.name));
    let mut flags: Vec<String> = switches.filter(|flag| words.contains(flag.as_str())).collect();
    assert!(flags.len() > 60, "{flags:?}");
    flags.extend(owned(MORE));
    flags.push(format!("--collector.textfile.directory={}", text.path().display()));
    run(&program, &["--no-collector.systemd", "--collector.textfile"], &flags);
}

#[test]
fn asked_otherwise() {
    let Some(program) = program_or_skip("asked_otherwise", PROGRAMS) else { return };
    run(&program, &["--collector.diskstats", "--collector.netstat"], &owned(OTHERWISE));
}
