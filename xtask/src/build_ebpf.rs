//! `cargo xtask build-ebpf [--check]`: builds the kernel programs and puts the objects under `collector-ebpf/prebuilt`;
//! with `--check` it compares instead, and fails when they differ.
//!
//! An object depends on the sources, Cargo.lock, the compiler and the linker; not on where the checkout, the
//! dependencies or the target folder lie, nor on the host. It carries no debug information: aya needs none.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::ebpf_toolchain::{self, Compiler, Linker};

pub(crate) const COMMAND: crate::Command = crate::Command {
    name: "build-ebpf",
    help: "build the kernel programs into collector-ebpf/prebuilt; --check: compare with what is there",
    run,
};

const TARGET: &str = "bpfel-unknown-none";
/// One object each.
const PROBES: &[&str] = &[
    "block",
    "drops",
    "filesystem",
    "irq",
    "listen",
    "network",
    "oom",
    "process",
    "reclaim",
    "runqueue",
    "syscalls",
    "tcp",
    "throttle",
];
/// Says what the committed objects were made with.
const RECORD: &str = "toolchain.txt";

/// Compares the committed objects with what the sources give.
pub(crate) fn check() -> anyhow::Result<()> {
    run(&["--check".to_owned()])
}

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("it takes nothing, or --check"),
    };
    let prebuilt = crate::workspace().join("collector-ebpf/prebuilt");
    let recorded = std::fs::read_to_string(prebuilt.join(RECORD)).unwrap_or_default();
    let (compiler, linker) = ebpf_toolchain::find(recorded.lines().next())?;
    let made_with = format!("{}\n{}\n", compiler.version, linker.version);
    eprintln!("building with {} ({}) and {}", compiler.rustc.display(), compiler.version, linker.version);
    let folder = build(&compiler, &linker)?;
    let mut differ = Vec::new();
    for probe in PROBES {
        let fresh = std::fs::read(folder.join(probe)).with_context(|| format!("the object {probe}"))?;
        let path = prebuilt.join(format!("{probe}.o"));
        if check {
            if std::fs::read(&path).ok().as_deref() != Some(fresh.as_slice()) {
                differ.push(*probe);
            }
        } else {
            write(&path, &fresh)?;
        }
    }
    if !check {
        return write(&prebuilt.join(RECORD), made_with.as_bytes());
    }
    if differ.is_empty() {
        eprintln!("the objects under {} are what the sources give", prebuilt.display());
        return Ok(());
    }
    let why = if made_with == recorded {
        "run `cargo xtask build-ebpf` and commit what it changes".to_owned()
    } else {
        format!(
            "they were made with another toolchain ({}), this is {}",
            one_line(&recorded),
            one_line(&made_with)
        )
    };
    bail!("the committed objects of {} differ from a fresh build: {why}", differ.join(", "));
}

fn one_line(record: &str) -> String {
    record.trim().replace('\n', ", ")
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}

/// Runs cargo, and returns the folder of the objects.
fn build(compiler: &Compiler, linker: &Linker) -> anyhow::Result<PathBuf> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::workspace().join("target"), PathBuf::from);
    let target = target.join("ebpf");
    let mut cargo = Command::new(&compiler.cargo);
    ebpf_toolchain::clean(&mut cargo);
    cargo
        .current_dir(crate::workspace())
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "collector-ebpf",
            "--bins",
            "--features",
            "kernel",
        ])
        .args(["--release", "--target", TARGET, "-Z", "build-std=core"]);
    for setting in ["strip=\"none\"", "debug=false", "lto=\"fat\"", "codegen-units=1", "incremental=false"] {
        cargo.args(["--config", &format!("profile.release.{setting}")]);
    }
    cargo
        // Building `core` is not stable yet; a stable compiler does it when it is told so.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", &compiler.rustc)
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker.path)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(compiler));
    let status = cargo.status().with_context(|| compiler.cargo.display().to_string())?;
    if !status.success() {
        bail!("cargo ended with {status}");
    }
    Ok(target.join(TARGET).join("release"))
}

fn flags(compiler: &Compiler) -> OsString {
    // The programs read no registers, so that one object serves every little-endian architecture.
    let mut flags = OsString::from("-Cdebuginfo=0\u{1f}--cfg=bpf_target_arch=\"x86_64\"");
    let places = [
        (crate::workspace().to_owned(), "/src"),
        (ebpf_toolchain::cargo_home(), "/cargo"),
        (compiler.sysroot.clone(), "/sysroot"),
    ];
    for (place, name) in places {
        flags.push("\u{1f}--remap-path-prefix=");
        flags.push(place);
        flags.push("=");
        flags.push(name);
    }
    flags
}
