//! Btrfs file systems: their space from /sys/fs/btrfs/UUID, their devices' sizes and errors by ioctl(2), for
//! which a mount point is looked for in mountinfo. Cost a tick: a listing; for each file system three reads, one
//! for each of its kinds of space and two for each layout of these, and the calls of [`crate::sys::btrfs`].
//!
//! Who may not ask for devices (not root) gets their sizes from sysfs, without errors.

mod mounts;

use std::path::Path;

use mounts::{MountedDevices, Mounts};

use super::devices::{Devices, Label, Normal, read_labels, read_number, unsigned};
use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::sysfs::Attribute;
use crate::sys::text;

const UUID: &[&str] = &["uuid"];
const SPACE: &[&str] = &["uuid", "block_group_type"];
const LAYOUT: &[&str] = &["uuid", "block_group_type", "mode"];
const DEVICE: &[&str] = &["uuid", "device"];
const MOUNTED_DEVICE: &[&str] = &["uuid", "device", "btrfs_dev_uuid"];

static INFO: Family =
    Family::gauge("node_btrfs_info", "A btrfs file system and its label; always 1.", &["uuid", "label"]);
static RESERVE: Family = Family::gauge(
    "node_btrfs_global_rsv_size_bytes",
    "Space kept back so that a full file system can still be changed, in bytes.",
    UUID,
);
static COMMITS: Family = Family::counter("node_btrfs_commits_total", "Commits.", UUID);
static LAST_COMMIT: Family =
    Family::gauge("node_btrfs_last_commit_seconds", "Time that the last commit took, in seconds.", UUID);
static MAX_COMMIT: Family =
    Family::gauge("node_btrfs_max_commit_seconds", "Time that the slowest commit took, in seconds.", UUID);
static COMMIT_TIME: Family =
    Family::counter("node_btrfs_commit_seconds_total", "Time that all commits took, in seconds.", UUID);
static RESERVED: Family =
    Family::gauge("node_btrfs_reserved_bytes", "Space reserved for a kind of data, in bytes.", SPACE);
static USED: Family =
    Family::gauge("node_btrfs_used_bytes", "Space that a kind of data uses in a layout, in bytes.", LAYOUT);
static SIZE: Family = Family::gauge(
    "node_btrfs_size_bytes",
    "Space set apart for a kind of data in a layout, in bytes.",
    LAYOUT,
);
static RATIO: Family = Family::gauge(
    "node_btrfs_allocation_ratio",
    "Bytes of devices that a byte of a kind of data takes in a layout.",
    LAYOUT,
);
const DEVICE_SIZE: &str = "node_btrfs_device_size_bytes";
const DEVICE_SIZE_HELP: &str = "Size of a device of the file system, in bytes.";
static SYSFS_DEVICE_SIZE: Family = Family::gauge(DEVICE_SIZE, DEVICE_SIZE_HELP, DEVICE);
static MOUNTED_DEVICE_SIZE: Family = Family::gauge(DEVICE_SIZE, DEVICE_SIZE_HELP, MOUNTED_DEVICE);
static DEVICE_UNUSED: Family = Family::gauge(
    "node_btrfs_device_unused_bytes",
    "Space of a device that is not set apart for anything, in bytes.",
    MOUNTED_DEVICE,
);
static DEVICE_ERRORS: Family = Family::counter(
    "node_btrfs_device_errors_total",
    "Errors of a device.",
    &["uuid", "type", "device", "btrfs_dev_uuid"],
);
/// In the order in which the kernel counts them.
const ERRORS: [&str; 5] = ["write", "read", "flush", "corruption", "generation"];

pub(super) static COLLECTOR: Registration = Registration {
    name: "btrfs",
    default_enabled: true,
    flags: &[],
    families: &[
        &INFO,
        &RESERVE,
        &COMMITS,
        &LAST_COMMIT,
        &MAX_COMMIT,
        &COMMIT_TIME,
        &RESERVED,
        &USED,
        &SIZE,
        &RATIO,
        &MOUNTED_DEVICE_SIZE,
        &DEVICE_UNUSED,
        &DEVICE_ERRORS,
    ],
    new: |setup| {
        let systems = Devices::new(setup.paths.sys("fs/btrfs"));
        Ok(Box::new(Btrfs { systems, mounts: Mounts::new(setup.paths) }))
    },
};

const SECTOR: f64 = 512.0;

struct Btrfs {
    systems: Devices<System>,
    mounts: Mounts,
}

struct System {
    /// The folder's name: the identity that the kernel uses.
    id: String,
    /// The one that stays when the identity is changed; kernels before 5.0 do not show it.
    metadata_id: Label,
    label: Label,
    reserve: Attribute,
    commits: Attribute,
    spaces: [Space; 3],
    devices: Devices<Device>,
}

/// What is set apart for data, metadata or the system.
struct Space {
    kind: &'static str,
    reserved: Attribute,
    layouts: Devices<Layout>,
}

struct Layout {
    mode: String,
    total: Attribute,
    used: Attribute,
}

struct Device {
    name: String,
    sectors: Attribute,
}

impl Collector for Btrfs {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        let systems = self.systems.refresh_if_any(System::new)?;
        if systems.is_empty() {
            return Ok(());
        }
        self.mounts.refresh(tick);
        for system in systems {
            let mounted = self.mounts.devices_of(&system.id);
            if let Err(error) = system.put(mounted, tick, out, &mut faults) {
                faults.note(|| error);
            }
        }
        faults.finish()
    }
}

impl System {
    fn new(name: &str, folder: &Path) -> Option<Self> {
        // Beside the file systems there is what the kernel can do.
        name.contains('-').then(|| System {
            id: name.to_owned(),
            metadata_id: Label::changing(folder.join("metadata_uuid")),
            label: Label::changing(folder.join("label")),
            reserve: Attribute::new(folder.join("allocation/global_rsv_size")),
            commits: Attribute::new(folder.join("commit_stats")),
            spaces: ["data", "metadata", "system"].map(|kind| Space::new(kind, &folder.join("allocation"))),
            devices: Devices::new(folder.join("devices")),
        })
    }

    fn put(
        &mut self,
        mounted: Option<&MountedDevices>,
        tick: &mut Tick,
        out: &mut Recorder,
        faults: &mut Faults,
    ) -> Result<(), CollectError> {
        let System { id, metadata_id, label, reserve, commits, spaces, devices } = self;
        if !read_labels([&mut *metadata_id, &mut *label], &Normal::NEVER, tick, faults) {
            return Ok(());
        }
        let uuid = match metadata_id.text() {
            "" => id.as_str(),
            metadata_id => metadata_id,
        };
        out.put(&INFO, &[uuid, label.text()], 1.0);
        if let Some(bytes) = read_number(reserve, unsigned, &Normal::NEVER, tick, faults) {
            out.put(&RESERVE, &[uuid], bytes);
        }
        if let Err(error) = put_commits(commits, uuid, tick, out) {
            faults.note(|| error);
        }
        let devices = devices.refresh(Device::new)?;
        for space in spaces {
            space.put(uuid, devices.len(), tick, out, faults)?;
        }
        if let Some(mounted) = mounted {
            put_mounted(mounted, uuid, out);
            return Ok(());
        }
        for Device { name, sectors } in devices {
            if let Some(sectors) = read_number(sectors, unsigned, &Normal::NEVER, tick, faults) {
                out.put(&SYSFS_DEVICE_SIZE, &[uuid, name], sectors * SECTOR);
            }
        }
        Ok(())
    }
}

/// Kernels before 6.0 have no such file; then the counts are zero.
fn put_commits(
    file: &mut Attribute,
    uuid: &str,
    tick: &mut Tick,
    out: &mut Recorder,
) -> Result<(), CollectError> {
    let counts = match file.read(&mut tick.buffer)? {
        None => [0; 4],
        Some(text) => parse_commits(text)
            .ok_or_else(|| CollectError::malformed(file.path(), 1, "expected four names and numbers"))?,
    };
    let [commits, last, max, total] = counts.map(|count| count as f64);
    out.put(&COMMITS, &[uuid], commits);
    out.put(&LAST_COMMIT, &[uuid], last / 1000.0);
    out.put(&MAX_COMMIT, &[uuid], max / 1000.0);
    out.put(&COMMIT_TIME, &[uuid], total / 1000.0);
    Ok(())
}

/// Commits, and milliseconds of the last, of the slowest, and of all.
fn parse_commits(text: &[u8]) -> Option<[u64; 4]> {
    let number = |name: &str| {
        text::lines(text).find_map(|line| text::parse_u64(text::trim(line.strip_prefix(name.as_bytes())?)))
    };
    Some([
        number("commits ")?,
        number("last_commit_ms ")?,
        number("max_commit_ms ")?,
        number("total_commit_ms ")?,
    ])
}

fn put_mounted(mounted: &MountedDevices, uuid: &str, out: &mut Recorder) {
    for device in mounted.devices() {
        let labels = [uuid, device.name.as_str(), device.uuid.as_str()];
        out.put(&MOUNTED_DEVICE_SIZE, &labels, device.size as f64);
        out.put(&DEVICE_UNUSED, &labels, device.unused as f64);
        for (kind, errors) in ERRORS.iter().zip(device.errors) {
            out.put(&DEVICE_ERRORS, &[uuid, kind, &device.name, &device.uuid], errors as f64);
        }
    }
}

impl Space {
    fn new(kind: &'static str, folder: &Path) -> Self {
        let folder = folder.join(kind);
        Space { kind, reserved: Attribute::new(folder.join("bytes_reserved")), layouts: Devices::new(folder) }
    }

    fn put(
        &mut self,
        uuid: &str,
        devices: usize,
        tick: &mut Tick,
        out: &mut Recorder,
        faults: &mut Faults,
    ) -> Result<(), CollectError> {
        if let Some(bytes) = read_number(&mut self.reserved, unsigned, &Normal::NEVER, tick, faults) {
            out.put(&RESERVED, &[uuid, self.kind], bytes);
        }
        for Layout { mode, total, used } in self.layouts.refresh_seldom(Layout::new)? {
            let labels = [uuid, self.kind, mode];
            for (family, file) in [(&USED, used), (&SIZE, total)] {
                if let Some(bytes) = read_number(file, unsigned, &Normal::NEVER, tick, faults) {
                    out.put(family, &labels, bytes);
                }
            }
            out.put(&RATIO, &labels, ratio(mode, devices));
        }
        Ok(())
    }
}

impl Layout {
    fn new(mode: &str, folder: &Path) -> Option<Self> {
        folder.is_dir().then(|| Layout {
            mode: mode.to_owned(),
            total: Attribute::new(folder.join("total_bytes")),
            used: Attribute::new(folder.join("used_bytes")),
        })
    }
}

impl Device {
    #[expect(clippy::unnecessary_wraps, reason = "as Devices::refresh calls it")]
    fn new(name: &str, folder: &Path) -> Option<Self> {
        Some(Device { name: name.to_owned(), sectors: Attribute::new(folder.join("size")) })
    }
}

/// Copies and parity of a layout; 0 for one that is not known.
fn ratio(mode: &str, devices: usize) -> f64 {
    let with_parity = |parity: usize| devices as f64 / (devices as f64 - parity as f64);
    match mode {
        "single" | "raid0" => 1.0,
        "dup" | "raid1" | "raid10" => 2.0,
        "raid1c3" => 3.0,
        "raid1c4" => 4.0,
        "raid5" if devices > 1 => with_parity(1),
        "raid6" if devices > 2 => with_parity(2),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_and_ratios() {
        let text = b"commits 7\nlast_commit_ms 1\nmax_commit_ms 20\ntotal_commit_ms 300";
        assert_eq!(parse_commits(text), Some([7, 1, 20, 300]));
        assert_eq!(parse_commits(b"commits 7\nlast_commit_ms x"), None);
        assert_eq!(parse_commits(b""), None);
        for (mode, devices, expected) in
            [("raid5", 4, 4.0 / 3.0), ("raid6", 4, 2.0), ("raid6", 2, 0.0), ("dup", 1, 2.0), ("odd", 3, 0.0)]
        {
            assert_eq!(ratio(mode, devices), expected, "{mode}");
        }
    }
}
