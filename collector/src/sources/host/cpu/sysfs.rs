//! /sys/devices/system/cpu: which CPUs are online and isolated, and how often they were throttled.
//! The tree is walked when CPUs come or go; in between only the counts of throttles are read.

use std::path::{Path, PathBuf};

use super::super::Tick;
use crate::model::{Family, Recorder};
use crate::sys::file::{KeptFile, read_once};
use crate::sys::text;

pub(super) static ISOLATED: Family = Family::gauge(
    "node_cpu_isolated",
    "A CPU that the scheduler leaves alone (isolcpus); always 1.",
    &["cpu"],
);
pub(super) static ONLINE: Family = Family::gauge(
    "node_cpu_online",
    "Whether a CPU is in use: 1 if so, 0 if it was taken offline.",
    &["cpu"],
);
pub(super) static CORE_THROTTLES: Family = Family::counter(
    "node_cpu_core_throttles_total",
    "Times that a core was slowed down because it was hot.",
    &["package", "core"],
);
pub(super) static PACKAGE_THROTTLES: Family = Family::counter(
    "node_cpu_package_throttles_total",
    "Times that a package was slowed down because it was hot.",
    &["package"],
);

/// What is known of the tree.
pub(super) struct Topology {
    folder: PathBuf,
    /// As the kernel was booted; read once.
    isolated: Vec<String>,
    /// The list of CPUs that are online: there only where the first CPU can be taken offline.
    online: Option<KeptFile>,
    /// Its content in the last tick.
    online_before: Vec<u8>,
    cpus: Vec<u64>,
    throttles: Vec<Throttle>,
}

struct Throttle {
    package: String,
    /// `None` for the count of the whole package.
    core: Option<String>,
    count: KeptFile,
}

impl Topology {
    pub(super) fn new(folder: &Path) -> Self {
        let mut buffer = Vec::new();
        let isolated = read_once(&folder.join("isolated"), &mut buffer).unwrap_or_default();
        let isolated = text::ranges(isolated).flatten().flat_map(|(first, last)| first..=last);
        Topology {
            folder: folder.to_owned(),
            isolated: isolated.map(|cpu| cpu.to_string()).collect(),
            online: None,
            online_before: Vec::new(),
            cpus: Vec::new(),
            throttles: Vec::new(),
        }
    }

    /// `changed`: CPUs came or went, or this is the first tick.
    pub(super) fn put(&mut self, changed: bool, tick: &mut Tick, out: &mut Recorder) {
        for cpu in &self.isolated {
            out.put(&ISOLATED, &[cpu], 1.0);
        }
        if changed {
            self.walk();
        }
        self.put_online(tick, out);
        let mut gone = false;
        for throttle in &mut self.throttles {
            let count = throttle.count.read(&mut tick.buffer).ok();
            let Some(count) = count.and_then(|text| text::parse_u64(text::trim(text))) else {
                gone = true;
                continue;
            };
            match &throttle.core {
                Some(core) => out.put(&CORE_THROTTLES, &[&throttle.package, core], count as f64),
                None => out.put(&PACKAGE_THROTTLES, &[&throttle.package], count as f64),
            }
        }
        if gone {
            self.walk();
        }
    }

    fn put_online(&mut self, tick: &mut Tick, out: &mut Recorder) {
        let Some(file) = &mut self.online else { return };
        let Ok(online) = file.read(&mut tick.buffer) else { return };
        if online != self.online_before {
            self.online_before.clear();
            self.online_before.extend_from_slice(online);
            self.walk();
        }
        let online = &self.online_before;
        for &cpu in &self.cpus {
            let is_online = text::ranges(online).flatten().any(|(first, last)| (first..=last).contains(&cpu));
            out.put(&ONLINE, &[text::Decimal::new(cpu).as_str()], f64::from(u8::from(is_online)));
        }
    }

    /// Finds the CPUs, and the first count of each core and package.
    fn walk(&mut self) {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        self.cpus = entries
            .filter_map(|entry| text::parse_u64(entry.file_name().to_str()?.strip_prefix("cpu")?.as_bytes()))
            .collect();
        self.cpus.sort_unstable();
        let can_go_offline = self.folder.join("cpu0/online").exists();
        self.online = can_go_offline.then(|| KeptFile::whole(self.folder.join("online")));
        self.throttles.clear();
        let mut buffer = Vec::new();
        for cpu in &self.cpus {
            let folder = self.folder.join(format!("cpu{cpu}"));
            let mut number = |file: &str| {
                let text = read_once(&folder.join(file), &mut buffer).ok()?;
                text::parse_u64(text::trim(text)).map(|number| number.to_string())
            };
            let (Some(package), Some(core)) =
                (number("topology/physical_package_id"), number("topology/core_id"))
            else {
                continue;
            };
            for (core, file) in [(Some(core), "core_throttle_count"), (None, "package_throttle_count")] {
                let path = folder.join("thermal_throttle").join(file);
                let known = self.throttles.iter().any(|t| t.package == package && t.core == core);
                if !known && path.exists() {
                    let count = KeptFile::whole(path);
                    self.throttles.push(Throttle { package: package.clone(), core, count });
                }
            }
        }
    }
}
