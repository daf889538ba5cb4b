//! `cargo xtask run`: builds the collector as it is released and runs it, on :9100 unless told otherwise.

use crate::{Command, cargo};

pub(crate) const COMMAND: Command =
    Command { name: "run", help: "build the collector and run it; what follows goes to it as flags", run };

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let mut all = vec!["run", "--release", "--package", "collector", "--bin", "collector", "--"];
    all.extend(arguments.iter().map(String::as_str));
    cargo(&all)
}
