//! `cargo xtask bench`: every benchmark, or those whose name is given.

use crate::{Command, cargo};

pub(crate) const COMMAND: Command =
    Command { name: "bench", help: "run the benchmarks; `bench NAME` runs one file of them", run };

fn run(arguments: &[String]) -> anyhow::Result<()> {
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
