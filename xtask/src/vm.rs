//! `cargo xtask vm [VERSION..]`: boots Debian's kernels in QEMU and runs the truth tests of the kernel probes on each; it
//! writes what ran where into `docs/kernels.md`.
//!
//! Kernels come as Debian packages by `apt-get download`, with lists and a cache apart from the system's, and are kept
//! under `target/vm`. The root file system is an initramfs: busybox, the test program of this build with its libraries,
//! and the kernel's modules of the devices that the tests want. The processor is emulated, on one thread: with several a
//! kernel that patches its own text was seen to stumble. Nor has it `cmpxchg16b`, after which the emulator was seen to leave
//! an address in the flags: a kernel that uses it dies in its allocator.

mod image;
mod packages;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

pub(crate) const COMMAND: crate::Command = crate::Command {
    name: "vm",
    help: "run the probes' tests on other kernels under QEMU, and write docs/kernels.md; `vm 6.1` only there",
    run,
};

/// A guest takes some minutes: it has one emulated processor.
const PATIENCE: Duration = Duration::from_secs(1_200);
/// The test programs that run in a guest.
const PROGRAMS: &[&str] = &["probes", "runqueue"];

/// A test that a guest ran.
struct Outcome {
    test: String,
    result: &'static str,
    /// Why it was skipped, or not run to its end.
    remark: String,
}

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let folder = crate::workspace().join("target/vm");
    std::fs::create_dir_all(&folder).context("target/vm")?;
    let programs = build()?;
    let wanted = packages::KERNELS
        .iter()
        .filter(|kernel| arguments.is_empty() || arguments.iter().any(|name| name == kernel.version));
    let version = own_version()?;
    let mut table = Vec::new();
    for kernel in wanted {
        let files = match packages::fetch(kernel, &folder) {
            Err(error) if kernel.is_passing => {
                eprintln!("== {} is left out: {error:#}", kernel.version);
                continue;
            }
            files => files?,
        };
        let image = image::build(&files, &programs, &folder.join(kernel.version))?;
        eprintln!("== {} ({})", kernel.version, files.release);
        let console = boot_to_the_end(&files.kernel, &image)?;
        std::fs::write(folder.join(format!("{}.log", kernel.version)), &console)?;
        let outcomes = parse(&console);
        if outcomes.is_empty() {
            bail!("{} said nothing: see target/vm/{}.log", kernel.version, kernel.version);
        }
        for outcome in &outcomes {
            eprintln!("{:<8} {} {}", outcome.result, outcome.test, outcome.remark);
        }
        table.push((kernel.version, files.release, outcomes));
    }
    if arguments.is_empty() {
        eprintln!("== {version} (natively)");
        let outcomes = parse(&run_natively(&programs)?);
        for outcome in outcomes.iter().filter(|outcome| outcome.result != "passed") {
            eprintln!("{:<8} {} {}", outcome.result, outcome.test, outcome.remark);
        }
        table.push((&version, "natively".to_owned(), outcomes));
        let path = crate::workspace().join("docs/kernels.md");
        std::fs::write(&path, document(&table)).context("docs/kernels.md")?;
    }
    let failed = |outcome: &&Outcome| outcome.result == "failed";
    let failures = table.iter().flat_map(|(_, _, outcomes)| outcomes).filter(failed).count();
    if failures > 0 {
        bail!("{failures} tests failed");
    }
    Ok(())
}

/// Builds the test programs, and returns where they are.
fn build() -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(crate::workspace()).args(["test", "--no-run", "--package", "collector-tests"]);
    for program in PROGRAMS {
        cargo.args(["--test", program]);
    }
    let output = cargo.stdout(Stdio::null()).output().context("cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{said}");
    }
    let find = |name: &str| {
        let line = said.lines().find(|line| line.contains(&format!("tests/{name}.rs (")))?;
        let path = line.rsplit_once('(')?.1.trim_end_matches(')');
        let path = if Path::new(path).is_absolute() { path.into() } else { crate::workspace().join(path) };
        Some((name.to_owned(), path))
    };
    PROGRAMS.iter().map(|name| find(name).with_context(|| format!("cargo does not name {name}"))).collect()
}

/// Version and patch level of the kernel that runs here.
fn own_version() -> anyhow::Result<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel's release")?;
    Ok(release.split('.').take(2).collect::<Vec<_>>().join("."))
}

/// What the programs say here, as a guest's console does.
fn run_natively(programs: &[(String, PathBuf)]) -> anyhow::Result<String> {
    let skips = crate::workspace().join("target/vm/skips");
    let _ = std::fs::remove_file(&skips);
    let mut said = String::new();
    for (name, program) in programs {
        let mut command = Command::new(program);
        command.args(["--test-threads", "1"]).env("COLLECTOR_TEST_SKIPS", &skips);
        let output = command.current_dir(crate::workspace().join("tests")).output().context(name.clone())?;
        said.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    for line in std::fs::read_to_string(&skips).unwrap_or_default().lines() {
        let _ = writeln!(said, "SKIPPED {line}");
    }
    Ok(said)
}

/// As [`boot`], until a guest says that it has come to its end: the emulator is not without faults of its own.
fn boot_to_the_end(kernel: &Path, image: &Path) -> anyhow::Result<String> {
    const TIMES: usize = 3;
    for attempt in 1..=TIMES {
        let console = boot(kernel, image)?;
        if console.lines().any(|line| line.trim_end() == "END") {
            return Ok(console);
        }
        eprintln!("the guest died (attempt {attempt}):");
        for line in console.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev() {
            eprintln!("    {line}");
        }
    }
    bail!("no guest came to its end in {TIMES} attempts")
}

/// Boots, and returns what the guest wrote to its console until it powered off.
fn boot(kernel: &Path, image: &Path) -> anyhow::Result<String> {
    let console = image.with_extension("console");
    let mut qemu = Command::new("qemu-system-x86_64")
        .args([
            "-machine",
            "q35",
            "-cpu",
            "max,-cx16",
            "-accel",
            "tcg,thread=single",
            "-smp",
            "2",
            "-m",
            "2048",
        ])
        .args(["-nographic", "-no-reboot", "-nic", "none", "-append"])
        .arg("console=ttyS0 quiet loglevel=1 panic=-1 cgroup_no_v1=all")
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(image)
        .args(["-serial", &format!("file:{}", console.display()), "-monitor", "none"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("qemu-system-x86_64 is missing: apt-get install --no-install-recommends qemu-system-x86")?;
    let start = Instant::now();
    while qemu.try_wait()?.is_none() {
        if start.elapsed() > PATIENCE {
            qemu.kill()?;
            qemu.wait()?;
            eprintln!("it did not end in time");
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(String::from_utf8_lossy(&std::fs::read(&console)?).into_owned())
}

/// The outcomes in a console's text, in the lines that libtest writes.
fn parse(console: &str) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut skips: Vec<(String, String)> = Vec::new();
    for line in console.lines().map(|line| line.trim_end_matches('\r')) {
        if let Some((name, why)) = line.split_once("SKIPPED ").and_then(|(_, rest)| rest.split_once(": ")) {
            skips.push((name.to_owned(), why.to_owned()));
        }
        let Some(rest) = line.strip_prefix("test ") else { continue };
        let Some((test, result)) = rest.split_once(" ... ") else { continue };
        let result = match result {
            "ok" => "passed",
            "FAILED" => "failed",
            _ => continue,
        };
        outcomes.push(Outcome { test: test.to_owned(), result, remark: String::new() });
    }
    for outcome in &mut outcomes {
        let short = outcome.test.rsplit("::").next().unwrap_or_default();
        if let Some((_, why)) = skips.iter().find(|(name, _)| name == short) {
            outcome.result = if outcome.result == "passed" { "skipped" } else { outcome.result };
            outcome.remark.clone_from(why);
        }
    }
    outcomes
}

/// `docs/kernels.md`.
fn document(table: &[(&str, String, Vec<Outcome>)]) -> String {
    let mut text = String::from(
        "# Kernels\n\nWhat the truth tests of the kernel probes gave on Debian's kernels, under QEMU in software emulation, with \
         cgroup version 2 alone; and natively, where the `cpu` hierarchy is of version 1. Where the kernel is locked down, as it \
         was natively, probes that trace functions are only seen to say so. Written by `cargo xtask vm`.\n\n| test |",
    );
    let mut rule = String::from("|-|");
    for (version, release, _) in table {
        let _ = write!(text, " {version} ({release}) |");
        rule.push_str("-|");
    }
    let _ = write!(text, "\n{rule}\n");
    let mut names: Vec<&str> = Vec::new();
    for outcome in table.iter().flat_map(|(_, _, outcomes)| outcomes) {
        if !names.contains(&outcome.test.as_str()) {
            names.push(&outcome.test);
        }
    }
    let mut remarks: Vec<&str> = Vec::new();
    for name in names {
        let _ = write!(text, "| {} |", name.replace("::", ": ").replace('_', " "));
        for (_, _, outcomes) in table {
            let outcome = outcomes.iter().find(|outcome| outcome.test == name);
            let _ = write!(text, " {}", outcome.map_or("not run", |outcome| outcome.result));
            if let Some(remark) = outcome.map(|o| o.remark.as_str()).filter(|remark| !remark.is_empty()) {
                let number = remarks.iter().position(|known| *known == remark).unwrap_or_else(|| {
                    remarks.push(remark);
                    remarks.len() - 1
                });
                let _ = write!(text, " ({})", number + 1);
            }
            text.push_str(" |");
        }
        text.push('\n');
    }
    text.push('\n');
    for (number, remark) in remarks.iter().enumerate() {
        let _ = writeln!(text, "{}. {remark}", number + 1);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "[    1.0] boot\r\ntest block::a_b ... ok\r\nSKIPPED c: no such\r\ntest irq::c ... ok\r\n\
                           test d ... FAILED\r\ntest e ... ignored, by others\r\n";

    #[test]
    fn a_console_gives_the_outcomes() {
        let outcomes = parse(CONSOLE);
        let short: Vec<_> = outcomes.iter().map(|o| (o.test.as_str(), o.result, o.remark.as_str())).collect();
        assert_eq!(
            short,
            [("block::a_b", "passed", ""), ("irq::c", "skipped", "no such"), ("d", "failed", "")]
        );
        let text = document(&[("6.1", "6.1.0-1".to_owned(), outcomes)]);
        assert!(text.contains("| block: a b | passed |\n| irq: c | skipped (1) |"), "{text}");
        assert!(text.ends_with("\n1. no such\n"), "{text}");
    }
}
