//! The page with everything switched on, against what people query: the dashboard Node Exporter Full (1860) and the
//! node mixin. Every metric is there, or a collector has it whose source this host lacks.

use std::collections::BTreeSet;
use std::path::Path;

use collector::sources::host::COLLECTORS;
use collector_tests::exposition::Page;
use collector_tests::process::{Collector, free_port};

/// Where a metric comes from whose collector succeeds without it.
enum Source {
    /// A file or folder that such hosts have.
    Path(&'static str),
    /// A line of a file.
    Line(&'static str, &'static str),
    /// node_exporter has no such name either.
    Nowhere(&'static str),
}

/// What hosts may lack, by the beginning of the metric's name.
const SOURCES: &[(&str, Source)] = &[
    ("node_cooling_device_", Source::Path("/sys/class/thermal/cooling_device0")),
    ("node_cpu_scaling_frequency_", Source::Path("/sys/devices/system/cpu/cpu0/cpufreq")),
    ("node_pressure_irq_", Source::Path("/proc/pressure/irq")),
    ("node_power_supply_", Source::Path("/sys/class/power_supply/AC/online")),
    ("node_memory_DirectMap1G_", Source::Line("/proc/meminfo", "DirectMap1G:")),
    ("node_memory_HardwareCorrupted_", Source::Line("/proc/meminfo", "HardwareCorrupted:")),
    ("node_memory_NFS_Unstable_", Source::Line("/proc/meminfo", "NFS_Unstable:")),
    ("node_memory_Zswap", Source::Line("/proc/meminfo", "Zswap:")),
    ("node_netstat_UdpLite_", Source::Line("/proc/net/snmp", "UdpLite:")),
    ("node_sockstat_UDPLITE_", Source::Line("/proc/net/sockstat", "UDPLITE:")),
    (
        "node_kernel_hung_tasks",
        Source::Nowhere("the collector kernel_hung gives node_kernel_hung_tasks_total"),
    ),
];

impl Source {
    /// Why the metric is not there; `None` if this host has what it is made of.
    fn lacking(&self) -> Option<String> {
        match self {
            Source::Path(path) => (!Path::new(path).exists()).then(|| format!("no {path} here")),
            Source::Line(path, start) => {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                (!text.lines().any(|line| line.starts_with(start)))
                    .then(|| format!("no {start} in {path} here"))
            }
            Source::Nowhere(why) => Some((*why).to_owned()),
        }
    }
}

fn queried(file: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dashboards").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// The collectors whose table has that family.
fn collectors_of(metric: &str) -> impl Iterator<Item = &'static str> {
    let has = move |family: &str| match family.split_once('*') {
        Some((start, end)) => metric.starts_with(start) && metric.ends_with(end),
        None => family == metric,
    };
    let found = COLLECTORS.iter().filter(move |known| known.families.iter().any(|family| has(family.name)));
    found.map(|collector| collector.name)
}

/// Why this host does not give that metric; `None` if there is no reason.
fn reason(metric: &str, page: &Page) -> Option<String> {
    if let Some((_, source)) = SOURCES.iter().find(|(start, _)| metric.starts_with(start)) {
        return source.lacking();
    }
    let failed =
        |name: &&str| page.value("node_scrape_collector_success", &[("collector", name)]) == Some(0.0);
    let collector = collectors_of(metric).find(failed)?;
    Some(format!("{collector} has nothing to read here"))
}

fn check(file: &str, page: &Page) -> Vec<String> {
    let given: BTreeSet<&str> = page.samples.iter().map(|sample| sample.name.as_str()).collect();
    let queried = queried(file);
    assert!(queried.len() > 30, "{file}");
    let mut missing = Vec::new();
    for metric in queried.iter().filter(|metric| !given.contains(metric.as_str())) {
        match reason(metric, page) {
            Some(why) => eprintln!("{file}: {metric} is not given: {why}"),
            None => missing.push(format!("{file}: {metric}")),
        }
    }
    missing
}

#[test]
fn what_is_queried_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let flags: Vec<String> =
        COLLECTORS.iter().map(|collector| format!("--collector.{}", collector.name)).collect();
    let mut arguments: Vec<&str> = flags.iter().map(String::as_str).collect();
    arguments.push("--collector.systemd.enable-restarts-metrics");
    // The dashboard queries fields of the network's statistics that are not among the defaults.
    arguments.push("--collector.netstat.fields=.*");
    arguments.push("--no-ebpf");
    let collector = Collector::start(free_port(), folder.path(), &arguments);
    let page = collector.metrics();
    let mut missing = check("node_mixin.txt", &page);
    missing.extend(check("node_exporter_full.txt", &page));
    assert!(missing.is_empty(), "neither given nor explained: {missing:#?}");
}
