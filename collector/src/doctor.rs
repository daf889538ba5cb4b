//! `collector doctor`: what this host lets the collector do, and what stands in the way; for a person to read.
//!
//! Kernel interface: it loads each kernel probe as a run would, those that are off too, and takes it out again.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::cli::Options;
use crate::model::SeriesTable;
use crate::sources::ebpf::{EbpfOptions, EbpfReader, PROBES};
use crate::sys::file::read_once;
use crate::sys::text;

/// A feature, whether it can be used here, and what there is to say of it.
struct Finding {
    feature: String,
    good: bool,
    remark: String,
}

/// The report.
pub fn report(options: &Options) -> String {
    let mut findings = host_findings(options);
    findings.extend(probe_findings(&options.ebpf));
    let mut out = String::new();
    for Finding { feature, good, remark } in findings {
        let _ = writeln!(out, "{} {feature:<22} {remark}", if good { "ok  " } else { "FAIL" });
    }
    out
}

fn host_findings(options: &Options) -> Vec<Finding> {
    let line = |path: &Path| {
        let mut buffer = Vec::new();
        let read = read_once(path, &mut buffer).map_err(|error| error.to_string());
        read.map(|content| text::lossy(text::trim(content)))
    };
    let finding = |feature: &str, found: Result<String, String>| {
        let good = found.is_ok();
        Finding { feature: feature.to_owned(), good, remark: found.unwrap_or_else(|error| error) }
    };
    let procfs = &options.paths.procfs;
    let release = line(&procfs.join("sys/kernel/osrelease"));
    let there = |path: &Path| match std::fs::metadata(path) {
        Ok(_) => Ok(path.display().to_string()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    };
    let stats = match line(&procfs.join("sys/kernel/bpf_stats_enabled")).as_deref() {
        Ok("1") => "counted by the kernel".to_owned(),
        _ => "not counted: sysctl kernel.bpf_stats_enabled=1".to_owned(),
    };
    let config = match &options.config_file {
        None => Ok("none, and none is needed".to_owned()),
        Some(file) => {
            crate::daemon::check(file).map(|_| file.display().to_string()).map_err(|e| e.to_string())
        }
    };
    vec![
        finding("kernel", release),
        finding("procfs", there(&procfs.join("stat"))),
        finding("sysfs", there(&options.paths.sysfs.join("class"))),
        finding("configuration", config),
        finding("type information", there(&options.ebpf.btf)),
        finding("cost of probes", Ok(stats)),
    ]
}

/// Starts every probe, one after the other.
fn probe_findings(options: &EbpfOptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    for probe in PROBES {
        let options = EbpfOptions { probes: vec![probe.name.to_owned()], ..options.clone() };
        let reader = EbpfReader::start(&options, &[], &Arc::<SeriesTable>::default());
        let (good, remark) = match reader.failures().next() {
            None => (true, probe.about.to_owned()),
            Some((_, reason, text)) => (false, format!("{reason}: {text}")),
        };
        findings.push(Finding { feature: format!("probe {}", probe.name), good, remark });
    }
    findings
}
