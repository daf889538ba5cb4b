//! `cargo xtask test`: all that must hold before a change lands. It says at its end what it skipped, and why.

use std::path::Path;

use anyhow::Context as _;

use crate::{Command, build_ebpf, cargo, ebpf_toolchain, tidy, workspace};

pub(crate) const COMMAND: Command = Command {
    name: "test",
    help: "check formatting, lints, order and the eBPF objects, then run every test",
    run,
};

/// Tests write a line to the file of this variable for each thing that they skip.
const SKIPS: &str = "COLLECTOR_TEST_SKIPS";

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let skips = workspace().join("target/skipped-tests");
    std::fs::create_dir_all(workspace().join("target")).context("target can't be made")?;
    if skips.exists() {
        std::fs::remove_file(&skips).context("the old list of skipped tests can't be removed")?;
    }
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var(SKIPS, &skips) };
    step("tidy", tidy::check_all)?;
    step("clippy", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    step("eBPF objects", || check_objects(&skips))?;
    step("build", || cargo(&["build", "--package", "collector"]))?;
    let mut tests = vec!["test", "--workspace", "--no-fail-fast"];
    tests.extend(arguments.iter().map(String::as_str));
    step("tests", || cargo(&tests))?;
    report(&skips);
    Ok(())
}

fn step(name: &str, run: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    println!("== {name}");
    run().with_context(|| format!("{name} failed"))
}

/// A stable toolchain alone can't build the kernel programs: then the committed ones are taken on trust.
fn check_objects(skips: &Path) -> anyhow::Result<()> {
    match ebpf_toolchain::find(None) {
        Ok(_) => build_ebpf::check(),
        Err(error) if std::env::var_os("COLLECTOR_TEST_NO_SKIP").is_some() => Err(error),
        Err(error) => {
            let line = format!("eBPF objects against their source: {error:#}\n");
            std::fs::write(skips, line).context("the list of skipped tests can't be written")
        }
    }
}

fn report(skips: &Path) {
    match std::fs::read_to_string(skips) {
        Ok(list) => println!("\nSKIPPED:\n{list}"),
        Err(_) => println!("\nNothing was skipped."),
    }
}
