//! `cargo xtask setup [--dry-run]`: installs what `build-ebpf` needs and this machine lacks, where it may: components
//! of rustup, packages of Debian as root, and bpf-linker by `cargo install`.

use std::process::Command;

use anyhow::{Context, bail};

use crate::ebpf_toolchain::{self, PACKAGES};

pub(crate) const COMMAND: crate::Command = crate::Command {
    name: "setup",
    help: "install what build-ebpf needs; --dry-run: only say what that would be",
    run,
};

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let dry = match arguments {
        [] => false,
        [flag] if flag == "--dry-run" => true,
        _ => bail!("it takes nothing, or --dry-run"),
    };
    if ebpf_toolchain::compilers(None).is_empty() {
        install_compiler(dry)?;
    }
    let Some(compiler) = ebpf_toolchain::compilers(None).into_iter().next() else {
        if dry {
            return Ok(());
        }
        bail!("there is still no rustc with the sources of core");
    };
    println!("compiler: {} ({}, LLVM {})", compiler.rustc.display(), compiler.version, compiler.llvm);
    let fits = |linker: &ebpf_toolchain::Linker| linker.llvm.is_none_or(|llvm| llvm == compiler.llvm);
    if !ebpf_toolchain::linker().as_ref().is_some_and(fits) {
        install_linker(compiler.llvm, dry)?;
    }
    if dry {
        return Ok(());
    }
    let (_, linker) = ebpf_toolchain::find(None)?;
    println!("linker:   {} ({})", linker.path.display(), linker.version);
    Ok(())
}

/// By rustup where there is one, else by the system's packages.
fn install_compiler(dry: bool) -> anyhow::Result<()> {
    if Command::new("rustup").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return step(dry, &words("rustup component add rust-src"), None);
    }
    apt(dry, PACKAGES)
}

fn install_linker(llvm: u32, dry: bool) -> anyhow::Result<()> {
    let library = format!("/usr/lib/llvm-{llvm}/lib");
    if !std::path::Path::new(&library).is_dir() {
        apt(dry, &[&ebpf_toolchain::llvm_package(llvm)])?;
    }
    // The library's folder is not one in which the system's linker looks by itself.
    let flags = format!("-L native={library}");
    let mut command = ebpf_toolchain::install_linker(llvm);
    command.push("--force".to_owned());
    step(dry, &command, Some(("RUSTFLAGS", &flags)))
}

fn apt(dry: bool, packages: &[&str]) -> anyhow::Result<()> {
    let mut command = words("apt-get install --yes --no-install-recommends");
    command.extend(packages.iter().map(|&package| package.to_owned()));
    if !dry && !is_root() {
        bail!("only root may do this:\n  apt-get update && {}", command.join(" "));
    }
    step(dry, &words("apt-get update"), None)?;
    step(dry, &command, None)
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn words(command: &str) -> Vec<String> {
    command.split(' ').map(str::to_owned).collect()
}

/// Says what it does, and does it unless the run is dry.
fn step(dry: bool, command: &[String], variable: Option<(&str, &str)>) -> anyhow::Result<()> {
    println!("+ {}", command.join(" "));
    if dry {
        return Ok(());
    }
    let mut process = Command::new(&command[0]);
    process.args(&command[1..]).envs(variable);
    let status = process.status().with_context(|| command[0].clone())?;
    if !status.success() {
        bail!("`{}` ended with {status}", command.join(" "));
    }
    Ok(())
}
