//! udev's database, /run/udev/data/bMAJOR:MINOR: lines `E:NAME=value`. It is no documented interface, but the only
//! place that has serial numbers without asking the device.

use std::path::{Path, PathBuf};

use crate::model::{Family, Recorder};
use crate::sys::file::{Stamp, read_once};
use crate::sys::text;

pub(super) static FILESYSTEM: Family = Family::gauge(
    "node_disk_filesystem_info",
    "The file system, or what is in its place, on a block device; always 1.",
    &["device", "type", "usage", "uuid", "version"],
);
pub(super) static DEVICE_MAPPER: Family = Family::gauge(
    "node_disk_device_mapper_info",
    "What is known of a device of the device mapper; always 1.",
    &["device", "name", "uuid", "vg_name", "lv_name", "lv_layer"],
);
/// Properties of ATA disks that are numbers.
pub(super) static ATA: &[(&str, Family)] = &[
    (
        "ID_ATA_WRITE_CACHE",
        Family::gauge("node_disk_ata_write_cache", "Whether an ATA disk has a write cache.", &["device"]),
    ),
    (
        "ID_ATA_WRITE_CACHE_ENABLED",
        Family::gauge(
            "node_disk_ata_write_cache_enabled",
            "Whether an ATA disk uses its write cache.",
            &["device"],
        ),
    ),
    (
        "ID_ATA_ROTATION_RATE_RPM",
        Family::gauge(
            "node_disk_ata_rotation_rate_rpm",
            "Rotations a minute of an ATA disk, 0 for one without moving parts.",
            &["device"],
        ),
    ),
];

/// The database.
pub(super) struct Udev {
    /// `None` where there was none at the start.
    folder: Option<PathBuf>,
    /// The folder's stamp when the facts were read; `None` while it may still be under change.
    seen: Option<Stamp>,
}

impl Udev {
    pub(super) fn new(folder: &Path) -> Self {
        let is_there = folder.is_dir();
        if !is_there {
            log::error!(path = folder.display().to_string().as_str(); "no udev database: disks will lack serial numbers and the like");
        }
        Udev { folder: is_there.then(|| folder.to_owned()), seen: None }
    }

    /// Whether udev may have written since the last call: it renames files into the folder.
    pub(super) fn has_changed(&mut self) -> bool {
        let Some(folder) = &self.folder else { return false };
        let stamp = Stamp::read(folder).ok();
        if stamp.is_some() && stamp == self.seen {
            return false;
        }
        self.seen = stamp.filter(Stamp::is_settled);
        true
    }

    /// What is known of a device: nothing, if it has no entry.
    pub(super) fn read(&mut self, major: u64, minor: u64, buffer: &mut Vec<u8>) -> Facts {
        let Some(folder) = &self.folder else { return Facts::default() };
        let text = read_once(&folder.join(format!("b{major}:{minor}")), buffer);
        text.map(parse_facts).unwrap_or_default()
    }
}

/// What the database knows of a block device; empty where it knows nothing.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) path: String,
    pub(super) wwn: String,
    pub(super) model: String,
    pub(super) serial: String,
    pub(super) revision: String,
    /// Type, usage, uuid and version; none without a type.
    filesystem: Option<[String; 4]>,
    /// Name, uuid, volume group, logical volume, layer; none without a name.
    device_mapper: Option<[String; 5]>,
    /// In the order of [`ATA`].
    ata: [Option<f64>; 3],
}

impl Facts {
    pub(super) fn put(&self, device: &str, out: &mut Recorder) {
        if let Some([kind, usage, uuid, version]) = &self.filesystem {
            out.put(&FILESYSTEM, &[device, kind, usage, uuid, version], 1.0);
        }
        if let Some([name, uuid, vg_name, lv_name, lv_layer]) = &self.device_mapper {
            out.put(&DEVICE_MAPPER, &[device, name, uuid, vg_name, lv_name, lv_layer], 1.0);
        }
        for ((_, family), value) in ATA.iter().zip(self.ata) {
            if let Some(value) = value {
                out.put(family, &[device], value);
            }
        }
    }
}

fn parse_facts(entry: &[u8]) -> Facts {
    // The last of several lines with one name holds.
    let find = |name: &str| {
        let lines = text::lines(entry).filter_map(|line| line.strip_prefix(b"E:"));
        let value = lines.filter_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b"=")).last();
        value.map(String::from_utf8_lossy)
    };
    let get = |name: &str| find(name).unwrap_or_default().into_owned();
    let filled = |name: &str| Some(get(name)).filter(|value| !value.is_empty());
    let is_ata = filled("ID_ATA").is_some();
    Facts {
        path: get("ID_PATH"),
        wwn: get("ID_WWN"),
        model: get("ID_MODEL"),
        // As on the disk's label, if it says so; virtio disks have only the last.
        serial: filled("SCSI_IDENT_SERIAL")
            .or_else(|| filled("ID_SERIAL_SHORT"))
            .unwrap_or_else(|| get("ID_SERIAL")),
        revision: get("ID_REVISION"),
        filesystem: filled("ID_FS_TYPE")
            .map(|kind| [kind, get("ID_FS_USAGE"), get("ID_FS_UUID"), get("ID_FS_VERSION")]),
        device_mapper: filled("DM_NAME")
            .map(|name| [name, get("DM_UUID"), get("DM_VG_NAME"), get("DM_LV_NAME"), get("DM_LV_LAYER")]),
        ata: [0, 1, 2].map(|n| find(ATA[n].0)?.parse().ok().filter(|_| is_ata)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serial_number_comes_from_the_best_source() {
        let entry = "S:disk/by-id/x\nE:ID_SERIAL=long\n";
        assert_eq!(parse_facts(entry.as_bytes()).serial, "long");
        let entry = format!("{entry}E:ID_SERIAL_SHORT=short\n");
        assert_eq!(parse_facts(entry.as_bytes()).serial, "short");
        let entry = format!("{entry}E:SCSI_IDENT_SERIAL=label\n");
        assert_eq!(parse_facts(entry.as_bytes()).serial, "label");
        let entry = format!("{entry}E:SCSI_IDENT_SERIAL=\n");
        assert_eq!(parse_facts(entry.as_bytes()).serial, "short");
    }

    #[test]
    fn families_without_their_key_are_absent() {
        let facts = parse_facts(b"E:ID_FS_USAGE=other\nE:DM_UUID=x\nE:ID_ATA_WRITE_CACHE=1\nE:ID_FS_TYPE=\n");
        assert_eq!(facts, Facts::default());
        let facts = parse_facts(
            b"E:ID_ATA=1\nE:ID_ATA_WRITE_CACHE=1\nE:ID_ATA_ROTATION_RATE_RPM=fast\nE:DM_NAME=a=b\n",
        );
        assert_eq!(facts.ata, [Some(1.0), None, None]);
        assert_eq!(facts.device_mapper.unwrap()[0], "a=b");
    }
}
