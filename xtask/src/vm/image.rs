//! The root file system of a guest, as an initramfs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::packages::{Files, run};

/// Modules of devices that the tests want.
/// In the order in which they are loaded.
const MODULES: &[&str] = &[
    "kernel/drivers/block/loop.ko",
    "kernel/net/sched/sch_netem.ko",
    "kernel/drivers/md/dm-mod.ko",
    "kernel/drivers/md/dm-delay.ko",
];

/// Programs of this host that can more than busybox' own.
const PROGRAMS: &[&str] = &["/usr/bin/setpriv", "/usr/sbin/dmsetup", "/usr/sbin/tc"];

/// What the guest runs first. It powers off at its end, whatever comes.
const INIT: &str = r#"#!/bin/sh
export PATH=/bin:/sbin RUST_BACKTRACE=0 TMPDIR=/disk COLLECTOR_TEST_SKIPS=/tmp/skips
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t debugfs debugfs /sys/kernel/debug
for module in /modules/*; do insmod $module; done
ip link set lo up
# A file system of its own, for what is cached and can be reclaimed. Its memory is charged to nobody: it is there before.
dd if=/dev/zero of=/tmp/disk bs=1M count=400 2>/dev/null
losetup /dev/loop0 /tmp/disk && mke2fs -F /dev/loop0 >/dev/null && mount -t ext4 /dev/loop0 /disk || echo "no disk"
for program in /tests/*; do
    echo "PROGRAM $program"
    # That one reads the sources.
    timeout 600 $program --test-threads 1 --skip the_table_of_programs --skip no_program_calls 2>&1
done
# They change how a device throttles, how long packets of everybody take, what defends the host, and how much memory there
# is, and so run only here.
/tests/probes --ignored --test-threads 1 times_are_kept of_netem of_a_device_mapper without_cookies everybody_lacks 2>&1
sed 's/^/SKIPPED /' /tmp/skips 2>/dev/null
echo END
poweroff -f
"#;

/// Packs the image, and returns where it is.
pub(super) fn build(files: &Files, programs: &[(String, PathBuf)], folder: &Path) -> anyhow::Result<PathBuf> {
    let root = folder.join("root");
    if root.exists() {
        std::fs::remove_dir_all(&root)?;
    }
    for place in
        ["bin", "sbin", "proc", "sys", "dev", "tmp", "tests", "modules", "lib", "lib64", "etc", "disk"]
    {
        std::fs::create_dir_all(root.join(place))?;
    }
    install_busybox(&root)?;
    for program in PROGRAMS {
        let place = root.join("bin").join(Path::new(program).file_name().unwrap_or_default());
        // It takes the place of busybox' own.
        if place.symlink_metadata().is_ok() {
            std::fs::remove_file(&place)?;
        }
        std::fs::copy(program, &place).with_context(|| (*program).to_owned())?;
        install_libraries(Path::new(program), &root)?;
    }
    for (number, module) in MODULES.iter().enumerate() {
        install_module(&files.modules, module, &root, number)?;
    }
    for (name, program) in programs {
        std::fs::copy(program, root.join("tests").join(name))?;
        run(Command::new("strip").arg("--strip-debug").arg(root.join("tests").join(name)))?;
        install_libraries(program, &root)?;
    }
    std::fs::write(root.join("init"), INIT)?;
    std::fs::set_permissions(root.join("init"), std::fs::Permissions::from_mode(0o755))?;
    let image = folder.join("initramfs");
    let pack = format!("cd '{}' && find . | busybox cpio -o -H newc > '{}'", root.display(), image.display());
    run(Command::new("sh").args(["-c", &pack]))?;
    Ok(image)
}

fn install_busybox(root: &Path) -> anyhow::Result<()> {
    let places = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
    let busybox = places.into_iter().find(|place| place.is_file());
    let busybox = busybox.context("busybox is missing: apt-get install busybox-static")?;
    std::fs::copy(busybox, root.join("bin/busybox"))?;
    let list = Command::new(busybox).arg("--list").output().context("busybox")?;
    for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|applet| *applet != "busybox") {
        std::os::unix::fs::symlink("/bin/busybox", root.join("bin").join(applet))?;
    }
    Ok(())
}

/// Newer kernels have their modules packed.
fn install_module(modules: &Path, module: &str, root: &Path, number: usize) -> anyhow::Result<()> {
    let plain = modules.join(module);
    let name = plain.file_name().unwrap_or_default().to_string_lossy();
    let target = root.join("modules").join(format!("{number:02}-{name}"));
    if plain.is_file() {
        std::fs::copy(&plain, &target)?;
        return Ok(());
    }
    let packed = modules.join(format!("{module}.xz"));
    let output = Command::new("xz").args(["--decompress", "--stdout"]).arg(&packed).output().context("xz")?;
    if !output.status.success() {
        bail!("{}: {}", packed.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(std::fs::write(&target, output.stdout)?)
}

/// The libraries that a program is linked to, in the places where it looks for them.
fn install_libraries(program: &Path, root: &Path) -> anyhow::Result<()> {
    let output = Command::new("ldd").arg(program).output().context("ldd")?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) else { continue };
        let target = root.join(path.trim_start_matches('/'));
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::copy(path, &target)?;
    }
    Ok(())
}
