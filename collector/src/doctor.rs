//! `collector doctor`: what this host lets the collector do, and what stands in the way; for a person to read.
//!
//! Kernel interface: it loads each kernel probe as a run would, those that are off too, and takes it out again.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::cli::Options;
use crate::daemon;
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
    // A configuration that is wrong has a finding of its own.
    let config = options.config_file.as_deref().and_then(|file| daemon::check(file).ok()).unwrap_or_default();
    let wanted = daemon::chosen_probes(&options.ebpf, &config).unwrap_or_else(|_| options.ebpf.clone());
    findings.extend(probe_findings(&wanted));
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
        Some(file) => daemon::check(file).map(|_| file.display().to_string()),
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

/// Starts every probe, one after the other; `wanted` are those that a run would start.
fn probe_findings(wanted: &EbpfOptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    for probe in PROBES {
        let options = EbpfOptions { probes: vec![probe.name.to_owned()], ..wanted.clone() };
        let reader = EbpfReader::start(&options, &[], &Arc::<SeriesTable>::default());
        let (good, remark) = match reader.failures().next() {
            None => (true, probe.about.to_owned()),
            Some((_, reason, text)) => (false, format!("{reason}: {text}")),
        };
        let is_wanted = wanted.probes.iter().any(|name| name == probe.name);
        let remark = format!("{}: {remark}", if is_wanted { "on" } else { "off" });
        findings.push(Finding { feature: format!("probe {}", probe.name), good, remark });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_on_or_off_as_the_configuration_says() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("collector.yml");
        std::fs::write(&file, "host: {ebpf: {irq: true, tcp: false}}").unwrap();
        let arguments = vec!["doctor".to_owned(), format!("--config.file={}", file.display())];
        let Ok(crate::cli::Command::Look(_, options)) = crate::cli::parse(arguments) else { panic!() };
        let report = |options| {
            let text = report(options);
            let of = |name: &str| {
                let line = text.lines().find(|line| line.contains(&format!(" {name} "))).unwrap();
                line.split_once(name).unwrap().1.trim_start().to_owned()
            };
            ["probe irq", "probe tcp", "probe oom", "configuration"].map(of)
        };
        let [irq, tcp, oom, configuration] = report(&options);
        assert!(irq.starts_with("on: ") && tcp.starts_with("off: ") && oom.starts_with("on: "));
        assert!(configuration.ends_with("collector.yml"), "{configuration}");
        std::fs::write(&file, "host: {ebpf: {irqs: true}}").unwrap();
        let [irq, .., configuration] = report(&options);
        assert!(irq.starts_with("off: ") && configuration.contains("no kernel probe \"irqs\""));
    }
}
