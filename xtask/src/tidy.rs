//! `cargo xtask tidy`: the order of the house, as far as a program can check it.
//!
//! A `//!` head on every source file; at most 500 lines a file; no module whose name says nothing; `unsafe` in
//! few rooms; data that flows one way (the import table between rooms); formatting file by file, because
//! `cargo fmt` does not see modules that a macro declares.

use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context as _, bail};

use crate::{Command, workspace};

pub(crate) const COMMAND: Command =
    Command { name: "tidy", help: "check heads, lengths, names, imports between rooms, formatting", run };

const MAX_LINES: usize = 500;
const FORBIDDEN_NAMES: &[&str] = &["util", "utils", "common", "helpers", "manager", "misc", "v2"];
/// Modules named after what they decode, which a protocol calls so.
const ALLOWED_PATHS: &[&str] = &["tests/src/proto.rs"];

/// Which rooms of `collector/src` each room may use. `daemon` and `main` see all; what is not here sees none.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("sys", &[]),
    ("limits", &[]),
    ("logging", &[]),
    ("ring", &["model"]),
    ("encode", &["model"]),
    ("relabel", &[]),
    ("client", &["config", "limits", "sys"]),
    ("config", &["encode", "relabel"]),
    ("batch_log", &["limits", "model", "self_metrics", "sys"]),
    ("sources", &["client", "config", "limits", "model", "relabel", "ring", "self_metrics", "sys"]),
    ("self_metrics", &["model", "ring", "sys"]),
    ("reader", &["limits", "model", "ring", "self_metrics", "sources", "sys"]),
    ("aggregate", &["batch_log", "limits", "model", "ring", "self_metrics"]),
    (
        "sinks",
        &[
            "aggregate",
            "batch_log",
            "client",
            "config",
            "encode",
            "limits",
            "model",
            "relabel",
            "self_metrics",
            "sys",
        ],
    ),
    (
        "serve",
        &[
            "config",
            "encode",
            "limits",
            "logging",
            "model",
            "reader",
            "ring",
            "self_metrics",
            "sources",
            "sys",
        ],
    ),
    ("cli", &["config", "limits", "logging", "sources"]),
    ("doctor", &["cli", "daemon", "model", "sources", "sys"]),
    ("reference", &["cli", "config", "model", "reader", "self_metrics", "sources"]),
];
const ALL_SEEING: &[&str] = &["daemon", "main", "lib"];

/// Where `unsafe` may stand.
const UNSAFE_PATHS: &[&str] = &[
    "collector/src/sys/",
    "collector/src/sources/ebpf/",
    "collector-ebpf/src/",
    "tests/",
    "benches/",
    "xtask/",
];

fn run(_: &[String]) -> anyhow::Result<()> {
    check_all()
}

/// Every check over every source file that git knows or would take.
pub(crate) fn check_all() -> anyhow::Result<()> {
    let files = source_files()?;
    let mut faults = Vec::new();
    for file in &files {
        let text =
            std::fs::read_to_string(workspace().join(file)).with_context(|| file.display().to_string())?;
        check_file(file, &text, &mut faults);
    }
    check_formatting(&files, &mut faults)?;
    if faults.is_empty() {
        println!("{} files are in order", files.len());
        return Ok(());
    }
    for fault in &faults {
        eprintln!("{fault}");
    }
    bail!("{} faults", faults.len())
}

fn source_files() -> anyhow::Result<Vec<PathBuf>> {
    let output = process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(workspace())
        .output()
        .context("git")?;
    let text = String::from_utf8(output.stdout).context("file names")?;
    let files: Vec<PathBuf> =
        text.lines().map(PathBuf::from).filter(|file| workspace().join(file).is_file()).collect();
    if files.is_empty() {
        bail!("git names no source file: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(files)
}

fn check_file(file: &Path, text: &str, faults: &mut Vec<String>) {
    let shown = file.display();
    if !text.starts_with("//!") {
        faults.push(format!("{shown}: begins without a `//!` head that says what it is for"));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        faults.push(format!("{shown}: {lines} lines; at most {MAX_LINES}: split it by what it does"));
    }
    let is_allowed = ALLOWED_PATHS.iter().any(|path| file == Path::new(path));
    for part in file.iter().filter_map(|part| part.to_str()) {
        if !is_allowed && FORBIDDEN_NAMES.contains(&part.trim_end_matches(".rs")) {
            faults.push(format!("{shown}: the name {part} says nothing about what is in it"));
        }
    }
    let path = shown.to_string();
    let may_be_unsafe = UNSAFE_PATHS.iter().any(|allowed| path.starts_with(allowed));
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if !may_be_unsafe
            && code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
        {
            faults.push(format!("{shown}:{}: unsafe belongs into sys/ or the eBPF maps", number + 1));
        }
    }
    if let Ok(inside) = file.strip_prefix("collector/src") {
        check_imports(inside, text, &path, faults);
    }
}

fn check_imports(inside: &Path, text: &str, path: &str, faults: &mut Vec<String>) {
    let first = inside.iter().next().and_then(|part| part.to_str()).unwrap_or_default();
    let room = first.trim_end_matches(".rs").trim_end_matches("_tests");
    if ALL_SEEING.contains(&room) {
        return;
    }
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        faults.push(format!("{path}: the room {room} is not in the import table of `cargo xtask tidy`"));
        return;
    };
    // Tests may look into other rooms: what they use flows nowhere.
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    if path.ends_with("_tests.rs") {
        return;
    }
    for (number, line) in code.lines().enumerate() {
        let line = line.split("//").next().unwrap_or_default();
        for used in line.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if used != room && !used.is_empty() && !allowed.contains(&used.as_str()) {
                let line = number + 1;
                faults.push(format!("{path}:{line}: {room} may not use {used}: data flows the other way"));
            }
        }
    }
}

fn check_formatting(files: &[PathBuf], faults: &mut Vec<String>) -> anyhow::Result<()> {
    let status = process::Command::new("rustfmt")
        .args(["--check", "--edition", "2024", "--quiet"])
        .args(files)
        .current_dir(workspace())
        .stdout(process::Stdio::null())
        .status()
        .context("rustfmt is missing: rustup component add rustfmt")?;
    if !status.success() {
        faults.push("formatting: run `cargo fmt`, and rustfmt on what a macro declares".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(file: &str, text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        check_file(Path::new(file), text, &mut faults);
        faults
    }

    #[test]
    fn a_file_in_order_has_no_fault() {
        assert_eq!(
            faults("collector/src/ring.rs", "//! Head.\nuse crate::model::Batch;\n"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn every_rule_finds_its_fault() {
        let long = format!("//! Head.\n{}", "\n".repeat(MAX_LINES));
        for (file, text, expected) in [
            ("collector/src/ring.rs", "use x;\n", "begins without"),
            ("collector/src/ring.rs", long.as_str(), "501 lines"),
            ("collector/src/model/util.rs", "//! Head.\n", "says nothing"),
            ("collector/src/ring.rs", "//! Head.\nunsafe {}\n", "unsafe belongs"),
            ("collector/src/sources/host/cpu.rs", "//! Head.\nuse crate::sinks::X;\n", "may not use sinks"),
            ("collector/src/new_room.rs", "//! Head.\n", "is not in the import table"),
        ] {
            let found = faults(file, text);
            assert!(found.iter().any(|fault| fault.contains(expected)), "{file}: {found:?}");
        }
    }
}
