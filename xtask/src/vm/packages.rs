//! Debian's kernels: which, from where, and how they are unpacked.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// A kernel to boot.
pub(super) struct Kernel {
    pub(super) version: &'static str,
    /// A line of sources.list, without the options.
    source: &'static str,
    /// Whether the source has it for a while only: then the table may lack it.
    pub(super) is_passing: bool,
}

impl Kernel {
    const fn of(version: &'static str, source: &'static str) -> Self {
        Kernel { version, source, is_passing: false }
    }
}

pub(super) const KERNELS: &[Kernel] = &[
    Kernel::of("5.10", "http://deb.debian.org/debian-security bullseye-security main"),
    Kernel::of("6.1", "http://deb.debian.org/debian bookworm main"),
    Kernel::of("6.12", "http://deb.debian.org/debian trixie main"),
    // Where the host is locked down, only a guest shows what functions of such a kernel can be traced.
    Kernel { is_passing: true, ..Kernel::of("6.18", "http://deb.debian.org/debian trixie-backports main") },
];

/// Debian's keys, of which one signs these archives.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What a package brings.
pub(super) struct Files {
    /// As `uname -r` says it.
    pub(super) release: String,
    pub(super) kernel: PathBuf,
    pub(super) modules: PathBuf,
}

/// The files of a kernel, from `target/vm` where it has been fetched before.
pub(super) fn fetch(kernel: &Kernel, folder: &Path) -> anyhow::Result<Files> {
    let folder = folder.join(kernel.version);
    let unpacked = folder.join("unpacked");
    if !unpacked.join("boot").is_dir() {
        download(kernel, &folder)?;
        let package = entry(&folder, |name| name.ends_with(".deb"))?;
        run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&unpacked))?;
    }
    let kernel = entry(&unpacked.join("boot"), |name| name.starts_with("vmlinuz-"))?;
    let name = kernel.file_name().unwrap_or_default().to_string_lossy();
    let release = name.trim_start_matches("vmlinuz-").to_owned();
    let modules = ["usr/lib/modules", "lib/modules"].map(|place| unpacked.join(place).join(&release));
    let modules = modules.into_iter().find(|place| place.is_dir()).context("the package has no modules")?;
    Ok(Files { release, kernel, modules })
}

/// Fetches the newest package of that version.
fn download(kernel: &Kernel, folder: &Path) -> anyhow::Result<()> {
    for part in ["lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(folder.join(part))?;
    }
    let list = folder.join("sources.list");
    std::fs::write(&list, format!("deb [signed-by={KEYS}] {}\n", kernel.source))?;
    let options: Vec<String> = [
        format!("Dir::Etc::SourceList={}", list.display()),
        "Dir::Etc::SourceParts=/dev/null".to_owned(),
        format!("Dir::State::Lists={}", folder.join("lists").display()),
        format!("Dir::Cache={}", folder.join("cache").display()),
    ]
    .into_iter()
    .flat_map(|option| ["-o".to_owned(), option])
    .collect();
    run(Command::new("apt-get").args(&options).arg("--quiet").arg("update"))?;
    let pattern = format!(r"^linux-image-{}\..*cloud-amd64$", kernel.version.replace('.', r"\."));
    let output = Command::new("apt-cache")
        .args(&options)
        .args(["search", "--names-only", &pattern])
        .output()
        .context("apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    names.sort_by_key(|name| numbers(name));
    let name = names.last().with_context(|| format!("no package of Linux {}", kernel.version))?;
    run(Command::new("apt-get").args(&options).args(["--quiet", "download", name]).current_dir(folder))
}

/// The numbers in a name, by which versions are told apart.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

fn entry(folder: &Path, fits: impl Fn(&str) -> bool) -> anyhow::Result<PathBuf> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let found = entries.flatten().map(|entry| entry.path());
    let mut found = found.filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&fits));
    found.next().with_context(|| format!("{} lacks what was fetched", folder.display()))
}

pub(super) fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{:?} is missing", command.get_program()))?;
    if !output.status.success() {
        bail!("{:?}: {}", command.get_program(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
