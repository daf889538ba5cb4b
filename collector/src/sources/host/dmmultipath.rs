//! Multipath devices of the device mapper and their paths, from /sys/block/dm-*. Cost a tick: a listing of all
//! block devices and, for each multipath device, one of its paths, three reads, and one for each path.

use std::path::Path;

use super::devices::{Devices, Label, Normal, read_number, read_required, read_text, unsigned};
use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::sysfs::Attribute;

const LABELS: &[&str] = &["device", "sysfs_name"];

static INFO: Family = Family::gauge(
    "node_dmmultipath_device_info",
    "A multipath device and its UUID; always 1.",
    &["device", "sysfs_name", "uuid"],
);
static ACTIVE: Family = Family::gauge(
    "node_dmmultipath_device_active",
    "Whether a multipath device serves requests: 1 if so, 0 if it is suspended.",
    LABELS,
);
static SIZE: Family =
    Family::gauge("node_dmmultipath_device_size_bytes", "Size of a multipath device in bytes.", LABELS);
static PATHS: Family = Family::gauge("node_dmmultipath_device_paths", "Paths of a multipath device.", LABELS);
static PATHS_ACTIVE: Family = Family::gauge(
    "node_dmmultipath_device_paths_active",
    "Paths of a multipath device that work: running (SCSI) or live (NVMe).",
    LABELS,
);
static PATHS_FAILED: Family = Family::gauge(
    "node_dmmultipath_device_paths_failed",
    "Paths of a multipath device that do not work.",
    LABELS,
);
static PATH_STATE: Family = Family::gauge(
    "node_dmmultipath_path_state",
    "State of the device behind a path; always 1.",
    &["device", "path", "state"],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "dmmultipath",
    default_enabled: true,
    flags: &[],
    families: &[&INFO, &ACTIVE, &SIZE, &PATHS, &PATHS_ACTIVE, &PATHS_FAILED, &PATH_STATE],
    new: |setup| Ok(Box::new(Multipath { devices: Devices::new(setup.paths.sys("block")) })),
};

const SECTOR: f64 = 512.0;

struct Multipath {
    devices: Devices<Device>,
}

struct Device {
    sysfs_name: String,
    uuid: String,
    name: Label,
    suspended: Attribute,
    size: Attribute,
    paths: Devices<DevicePath>,
}

struct DevicePath {
    device: String,
    state: Label,
}

impl Collector for Multipath {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        for device in self.devices.refresh(Device::new)? {
            if let Err(error) = device.put(tick, out, &mut faults) {
                faults.note(|| error);
            }
        }
        faults.finish()
    }
}

impl Device {
    /// The kernel gives a device its UUID before it shows it.
    fn new(sysfs_name: &str, folder: &Path) -> Option<Self> {
        if !sysfs_name.starts_with("dm-") {
            return None;
        }
        let uuid = read_text(folder.join("dm/uuid")).ok()??;
        uuid.starts_with("mpath-").then(|| Device {
            sysfs_name: sysfs_name.to_owned(),
            uuid,
            name: Label::changing(folder.join("dm/name")),
            suspended: Attribute::new(folder.join("dm/suspended")),
            size: Attribute::new(folder.join("size")),
            paths: Devices::new(folder.join("slaves")),
        })
    }

    fn put(&mut self, tick: &mut Tick, out: &mut Recorder, faults: &mut Faults) -> Result<(), CollectError> {
        let Device { sysfs_name, uuid, name, suspended, size, paths } = self;
        if !read_required([&mut *name], tick, faults) {
            return Ok(());
        }
        let name = name.text();
        let labels = [name, sysfs_name];
        out.put(&INFO, &[name, sysfs_name, uuid], 1.0);
        if let Some(suspended) = read_number(suspended, unsigned, &Normal::NEVER, tick, faults) {
            out.put(&ACTIVE, &labels, if suspended == 1.0 { 0.0 } else { 1.0 });
        }
        if let Some(sectors) = read_number(size, unsigned, &Normal::NEVER, tick, faults) {
            out.put(&SIZE, &labels, sectors * SECTOR);
        }
        let (mut active, mut failed) = (0u32, 0u32);
        for DevicePath { device, state } in paths.refresh_if_any(DevicePath::new)? {
            if read_required([&mut *state], tick, faults) {
                let state = state.text();
                out.put(&PATH_STATE, &[name, device, state], 1.0);
                let is_active = matches!(state, "running" | "live");
                *(if is_active { &mut active } else { &mut failed }) += 1;
            }
        }
        for (family, paths) in [(&PATHS, active + failed), (&PATHS_ACTIVE, active), (&PATHS_FAILED, failed)] {
            out.put(family, &labels, f64::from(paths));
        }
        Ok(())
    }
}

impl DevicePath {
    /// `folder` is /sys/block/dm-0/slaves/sda; its device is found beside dm-0.
    fn new(device: &str, folder: &Path) -> Option<Self> {
        let block = folder.ancestors().nth(3)?;
        let state = Label::changing(block.join(device).join("device/state"));
        Some(DevicePath { device: device.to_owned(), state })
    }
}
