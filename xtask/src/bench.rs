//! `cargo xtask bench`: every benchmark, or those whose name is given.

use anyhow::Context as _;

use crate::{Command, cargo, workspace};

pub(crate) const COMMAND: Command = Command {
    name: "bench",
    help: "run the benchmarks; `bench NAME` runs one file of them, `bench ingest` the comparison with other agents, \
           `bench outage` a day without the endpoint, `bench ebpf` the cost of the kernel probes",
    run,
};

fn run(arguments: &[String]) -> anyhow::Result<()> {
    if let Some(("ingest", rest)) = arguments.split_first().map(|(name, rest)| (name.as_str(), rest)) {
        return ingest(rest);
    }
    if let Some(("outage", rest)) = arguments.split_first().map(|(name, rest)| (name.as_str(), rest)) {
        return program("outage", rest);
    }
    // What a kernel program costs does not depend on how user space is built.
    if arguments == ["ebpf"] {
        let test = ["test", "--package", "collector-tests", "--test", "probes", "--"];
        let tables = ["--ignored", "--exact", "cost::table", "cost::many_cgroups", "slowdown::table"];
        return cargo(&[&test[..], &tables[..], &["--nocapture", "--test-threads", "1"]].concat());
    }
    let mut all = vec!["bench", "--package", "collector-benches"];
    match arguments.split_first() {
        Some((name, rest)) => {
            all.extend(["--bench", name]);
            if !rest.is_empty() {
                all.push("--");
                all.extend(rest.iter().map(String::as_str));
            }
        }
        None => all.push("--benches"),
    }
    cargo(&all)
}

/// The collector as it is released, beside what else is installed.
fn ingest(arguments: &[String]) -> anyhow::Result<()> {
    cargo(&["build", "--release", "--package", "collector"])?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), Into::into);
    let collector = target.join("release/collector");
    let collector = collector.to_str().context("a path of UTF-8")?;
    let mut all = vec![collector.to_owned()];
    all.extend_from_slice(arguments);
    program("ingest", &all)
}

/// A program among the benchmarks. They are built without the long link of a release.
fn program(name: &str, arguments: &[String]) -> anyhow::Result<()> {
    let mut all =
        vec!["run", "--quiet", "--profile", "bench", "--package", "collector-benches", "--bin", name, "--"];
    all.extend(arguments.iter().map(String::as_str));
    cargo(&all)
}
