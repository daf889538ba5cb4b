//! The reference under `docs/`, generated from the tables in the code. A test fails when the files are not what
//! this gives; `UPDATE_DOCS=1 cargo test -p collector reference` writes them.

use std::fmt::Write as _;

use crate::cli::{self, PROBE_FLAGS, PROGRAM_FLAGS};
use crate::config::{HTTP_KEYS, HTTP_SECTIONS, KEYS, Key, RELABEL_KEYS, RELABEL_SECTIONS};
use crate::model::{Family, Kind};
use crate::reader::PUSHED_FAMILIES;
use crate::self_metrics;
use crate::sources::ebpf;
use crate::sources::host::{COLLECTORS, OUTCOME_FAMILIES};

/// `docs/metrics.md`.
pub fn metrics() -> String {
    let mut text = String::from(
        "# Metrics\n\nGenerated from the tables in the code. `*` stands for a part of the name that the kernel gives.\n",
    );
    section(&mut text, "Every collector", "", OUTCOME_FAMILIES.iter().copied());
    for collector in COLLECTORS {
        let on = if collector.default_enabled { "On by default." } else { "Off by default." };
        let about = format!("{on} Switch: `--[no-]collector.{}`.\n", collector.name);
        section(
            &mut text,
            &format!("Collector {}", collector.name),
            &about,
            collector.families.iter().copied(),
        );
    }
    section(&mut text, "Kernel probes", "See [ebpf.md](ebpf.md).\n", ebpf::shared_families());
    for probe in ebpf::PROBES {
        let on = if probe.default_on { "On by default." } else { "Off by default." };
        let hooks: Vec<&str> = ebpf::list::hooks(probe).collect();
        let about = format!(
            "{on} Switch: `--[no-]ebpf.{}`. Tracepoints: {}. From the kernel's BTF: {}.\n",
            probe.name,
            hooks.join(", "),
            probe.needs
        );
        section(&mut text, &format!("Kernel probe {}", probe.name), &about, probe.families.iter().copied());
    }
    section(&mut text, "The collector itself", "", self_metrics::families());
    let about = "Only in what is pushed, as Prometheus gives them to what it scrapes.\n";
    section(&mut text, "The pushed target", about, PUSHED_FAMILIES.iter().copied());
    text
}

fn section(text: &mut String, title: &str, about: &str, families: impl Iterator<Item = &'static Family>) {
    let _ = write!(text, "\n## {title}\n\n{about}");
    if !about.is_empty() {
        text.push('\n');
    }
    text.push_str("| metric | type | labels | meaning |\n|-|-|-|-|\n");
    for family in families {
        let kind = if family.kind == Kind::Untyped { "untyped" } else { family.kind.text() };
        let labels = family.labels.join(", ");
        let help = family.help.replace('|', "\\|");
        let _ = writeln!(text, "| `{}` | {kind} | {labels} | {help} |", family.name);
    }
}

/// `docs/configuration.md`.
pub fn configuration() -> String {
    let mut text = String::from(
        "# Configuration\n\nGenerated from the tables in the code.\n\n## The file\n\n\
         `--config.file=collector.yml`; none is needed to serve /metrics. A key that is not known is refused. \
         Relative files are looked for beside the configuration.\n\n",
    );
    key_table(&mut text, KEYS.iter().flat_map(|table| table.iter()));
    let list = |sections: &[&str]| {
        sections.iter().map(|section| format!("`{section}`")).collect::<Vec<_>>().join(", ")
    };
    let _ = write!(
        text,
        "\n### Outgoing HTTP\n\nIn {}. Those of `tls_config` and of proxies hold in `oauth2` too.\n\n",
        list(HTTP_SECTIONS)
    );
    key_table(&mut text, HTTP_KEYS.iter());
    let _ = write!(text, "\n### Relabelling\n\nEach entry of {}.\n\n", list(RELABEL_SECTIONS));
    key_table(&mut text, RELABEL_KEYS.iter());
    text.push_str("\n## The command line\n\n| flag | meaning |\n|-|-|\n");
    let collectors = COLLECTORS.iter().flat_map(|collector| collector.flags);
    for flag in PROGRAM_FLAGS.iter().chain(PROBE_FLAGS).chain(collectors).filter(|flag| !flag.hidden) {
        let usage = cli::usage(flag).replace('|', "\\|");
        let _ = writeln!(text, "| `{usage}` | {} |", flag.help.replace('|', "\\|"));
    }
    text
}

fn key_table<'a>(text: &mut String, keys: impl Iterator<Item = &'a Key>) {
    text.push_str("| key | takes | default | meaning |\n|-|-|-|-|\n");
    for key in keys {
        let _ = writeln!(text, "| `{}` | {} | {} | {} |", key.path, key.kind, key.default, key.help);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_reference_is_what_the_code_says() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        for (file, text) in [("metrics.md", super::metrics()), ("configuration.md", super::configuration())] {
            let path = docs.join(file);
            if std::env::var_os("UPDATE_DOCS").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            let written = std::fs::read_to_string(&path).unwrap_or_default();
            let differs = written.lines().zip(text.lines()).find(|(a, b)| a != b);
            assert!(
                written == text,
                "docs/{file} is stale ({differs:?}): UPDATE_DOCS=1 cargo test -p collector reference"
            );
        }
    }
}
