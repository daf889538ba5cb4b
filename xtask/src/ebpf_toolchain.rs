//! Finds what builds kernel programs: a rustc and cargo with the sources of `core`, and a bpf-linker that reads what
//! this rustc writes. Order: what the environment names, rustup's toolchains, the system's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// Names a rustc by hand; its cargo is taken from beside it.
pub(crate) const RUSTC_VARIABLE: &str = "COLLECTOR_EBPF_RUSTC";
/// Names a linker by hand.
pub(crate) const LINKER_VARIABLE: &str = "COLLECTOR_EBPF_LINKER";
/// The linker that the committed objects are made with.
pub(crate) const LINKER_VERSION: &str = "0.13.0";
/// The packages of Debian (12 security, 13) that bring the compiler and its sources.
pub(crate) const PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

/// A compiler that has the sources of `core`.
#[derive(Debug)]
pub(crate) struct Compiler {
    pub(crate) rustc: PathBuf,
    pub(crate) cargo: PathBuf,
    pub(crate) sysroot: PathBuf,
    /// `rustc 1.96.0 (ac68faa20 2026-05-25)`, without what a distribution adds.
    pub(crate) version: String,
    /// The major version of its LLVM.
    pub(crate) llvm: u32,
}

impl Compiler {
    fn new(rustc: PathBuf) -> anyhow::Result<Self> {
        let sysroot = PathBuf::from(output(&rustc, &["--print", "sysroot"])?.trim());
        if !sysroot.join("lib/rustlib/src/rust/library/core").is_dir() {
            bail!("{} has no sources of core", rustc.display());
        }
        let verbose = output(&rustc, &["-vV"])?;
        let field = |key: &str| verbose.lines().find_map(|line| line.strip_prefix(key));
        let llvm = field("LLVM version: ").and_then(major).context("rustc does not say its LLVM version")?;
        let first = verbose.lines().next().unwrap_or_default();
        let version = first.find(')').map_or(first, |end| &first[..=end]).to_owned();
        let cargo = rustc.with_file_name("cargo");
        Ok(Compiler { rustc, cargo, sysroot, version, llvm })
    }
}

/// A linker, and the LLVM it is linked to as far as its file tells.
#[derive(Debug)]
pub(crate) struct Linker {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
    pub(crate) llvm: Option<u32>,
}

/// Every compiler that can build kernel programs, best first: one that made the committed objects before others.
pub(crate) fn compilers(recorded: Option<&str>) -> Vec<Compiler> {
    let mut found: Vec<Compiler> = Vec::new();
    for rustc in candidates() {
        let Ok(compiler) = Compiler::new(rustc) else { continue };
        if found.iter().all(|known| known.sysroot != compiler.sysroot) {
            found.push(compiler);
        }
    }
    if std::env::var_os(RUSTC_VARIABLE).is_none() {
        found.sort_by_key(|compiler| recorded.is_some_and(|version| !version.starts_with(&compiler.version)));
    }
    found
}

fn candidates() -> Vec<PathBuf> {
    if let Some(rustc) = std::env::var_os(RUSTC_VARIABLE) {
        return vec![rustc.into()];
    }
    let list = output(Path::new("rustup"), &["toolchain", "list", "--quiet"]).unwrap_or_default();
    let mut found: Vec<PathBuf> = list
        .split_whitespace()
        .filter_map(|toolchain| {
            output(Path::new("rustup"), &["which", "--toolchain", toolchain, "rustc"]).ok()
        })
        .map(|path| PathBuf::from(path.trim()))
        .collect();
    found.extend(["/usr/bin/rustc", "/usr/local/bin/rustc"].map(PathBuf::from));
    found
}

/// The linker: from the environment, from PATH, or where `cargo install` puts it.
pub(crate) fn linker() -> Option<Linker> {
    let path = match std::env::var_os(LINKER_VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
            folders.push(cargo_home().join("bin"));
            folders.into_iter().map(|folder| folder.join("bpf-linker")).find(|path| path.is_file())?
        }
    };
    let version = output(&path, &["--version"]).ok()?.trim().to_owned();
    let llvm = std::fs::read(&path).ok().and_then(|bytes| linked_llvm(&bytes));
    Some(Linker { path, version, llvm })
}

/// The major version in the name of the LLVM library that a program is linked to.
fn linked_llvm(program: &[u8]) -> Option<u32> {
    let name = b"libLLVM";
    let at = program.windows(name.len()).position(|window| window == name)? + name.len();
    let rest = &program[at..program.len().min(at + 16)];
    let digits: Vec<u8> = rest.iter().copied().skip_while(|b| !b.is_ascii_digit() && *b != 0).collect();
    major(std::str::from_utf8(digits.split(|b| *b == 0).next()?).ok()?)
}

fn major(version: &str) -> Option<u32> {
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

/// Picks a compiler and a linker that fit each other.
///
/// # Errors
/// What is missing, and the commands that mend it.
pub(crate) fn find(recorded: Option<&str>) -> anyhow::Result<(Compiler, Linker)> {
    let Some(compiler) = compilers(recorded).into_iter().next() else {
        bail!("no rustc with the sources of core was found.\n{}", mend_compiler());
    };
    let Some(linker) = linker() else {
        bail!("no bpf-linker was found.\n{}", mend_linker(compiler.llvm));
    };
    if linker.llvm.is_some_and(|llvm| llvm != compiler.llvm) {
        bail!(
            "{} is linked to LLVM {}, but {} writes LLVM {}.\n{}",
            linker.path.display(),
            linker.llvm.unwrap_or_default(),
            compiler.rustc.display(),
            compiler.llvm,
            mend_linker(compiler.llvm)
        );
    }
    Ok((compiler, linker))
}

fn mend_compiler() -> String {
    format!(
        "Mend it with one of:\n  cargo xtask setup\n  rustup component add rust-src\n  apt-get install --no-install-recommends {}\n\
         or name one: {RUSTC_VARIABLE}=/path/to/rustc",
        PACKAGES.join(" ")
    )
}

fn mend_linker(llvm: u32) -> String {
    format!(
        "Mend it with:\n  cargo xtask setup\nor by hand:\n  apt-get install --no-install-recommends {}\n  \
         RUSTFLAGS=\"-L native=/usr/lib/llvm-{llvm}/lib\" {}\n\
         or name one: {LINKER_VARIABLE}=/path/to/bpf-linker",
        llvm_package(llvm),
        install_linker(llvm).join(" ")
    )
}

/// The package that brings the LLVM library to link against.
pub(crate) fn llvm_package(llvm: u32) -> String {
    format!("llvm-{llvm}-dev")
}

/// The words of the command that builds the linker for that LLVM.
pub(crate) fn install_linker(llvm: u32) -> Vec<String> {
    let features = format!("llvm-{llvm}");
    [
        "cargo",
        "install",
        "bpf-linker",
        "--version",
        LINKER_VERSION,
        "--no-default-features",
        "--features",
        &features,
    ]
    .map(str::to_owned)
    .to_vec()
}

pub(crate) fn cargo_home() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo");
    std::env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

/// What a program prints, run without what cargo and rustup put into the environment of their children.
fn output(program: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    clean(&mut command);
    let output = command.args(arguments).output().with_context(|| program.display().to_string())?;
    if !output.status.success() {
        bail!("{} {}: {}", program.display(), arguments.join(" "), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Takes out of a command's environment what would choose another compiler, or other flags.
pub(crate) fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let chooses =
            ["RUST", "CARGO_PROFILE_", "CARGO_BUILD_", "CARGO_TARGET_", "CARGO_ENCODED_", "CARGO_UNSTABLE_"];
        let keeps = ["RUSTUP_HOME", "RUST_BACKTRACE"];
        if chooses.iter().any(|prefix| name.starts_with(prefix)) && !keeps.contains(&name.as_str()) {
            command.env_remove(&name);
        }
    }
    for name in ["LD_LIBRARY_PATH", "CARGO", "RUSTC"] {
        command.env_remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_of_a_linker_is_read_from_its_file() {
        assert_eq!(linked_llvm(b"\0libgcc_s.so.1\0libLLVM.so.22.1\0libc.so.6\0"), Some(22));
        assert_eq!(linked_llvm(b"\0libLLVM-19.so.1\0"), Some(19));
        assert_eq!(linked_llvm(b"\0static, 22.1\0"), None);
    }
}
