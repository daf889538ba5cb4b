//! NVMe controllers and their namespaces, from /sys/class/nvme. Cost a tick: a listing, two reads for each
//! controller, and four for each namespace; `nuse` asks the device, which the kernel does at most every few
//! seconds.

use std::path::Path;

use super::devices::{
    Devices, Label, Normal, number_after, read_labels, read_number, read_required, unsigned,
};
use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::sysfs::Attribute;

static INFO: Family = Family::gauge(
    "node_nvme_info",
    "An NVMe controller, what it is, and its state; always 1.",
    &["device", "firmware_revision", "model", "serial", "state", "cntlid"],
);
static NAMESPACE_INFO: Family = Family::gauge(
    "node_nvme_namespace_info",
    "A namespace of an NVMe controller and its asymmetric access (ANA) state; always 1.",
    &["device", "nsid", "ana_state"],
);
static CAPACITY: Family = Family::gauge(
    "node_nvme_namespace_capacity_bytes",
    "Capacity of a namespace: its size times that of its logical blocks, in bytes.",
    &["device", "nsid"],
);
static SIZE: Family = Family::gauge(
    "node_nvme_namespace_size_bytes",
    "Size of a namespace: the number that the kernel shows times the size of a logical block, in bytes.",
    &["device", "nsid"],
);
static USED: Family = Family::gauge(
    "node_nvme_namespace_used_bytes",
    "What a namespace has allocated, in bytes.",
    &["device", "nsid"],
);
static BLOCK_SIZE: Family = Family::gauge(
    "node_nvme_namespace_logical_block_size_bytes",
    "Size of a namespace's logical blocks, in bytes.",
    &["device", "nsid"],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "nvme",
    default_enabled: true,
    flags: &[],
    families: &[&INFO, &NAMESPACE_INFO, &CAPACITY, &SIZE, &USED, &BLOCK_SIZE],
    new: |setup| Ok(Box::new(Nvme { controllers: Devices::new(setup.paths.sys("class/nvme")) })),
};

struct Nvme {
    controllers: Devices<Controller>,
}

struct Controller {
    name: String,
    /// firmware_rev, model, serial, state, cntlid
    labels: [Label; 5],
    namespaces: Devices<Namespace>,
}

struct Namespace {
    id: String,
    access: Label,
    /// nuse, size, queue/logical_block_size
    numbers: [Attribute; 3],
}

impl Collector for Nvme {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        for Controller { name, labels, namespaces } in self.controllers.refresh(Controller::new)? {
            if read_required(&mut *labels, tick, &mut faults) {
                let [firmware, model, serial, state, id] = labels.each_ref().map(Label::text);
                out.put(&INFO, &[name, firmware, model, serial, state, id], 1.0);
            }
            match namespaces.refresh_seldom(Namespace::new) {
                Ok(namespaces) => {
                    namespaces.iter_mut().for_each(|namespace| namespace.put(name, tick, out, &mut faults));
                }
                Err(error) => faults.note(|| error),
            }
        }
        faults.finish()
    }
}

impl Controller {
    #[expect(clippy::unnecessary_wraps, reason = "as Devices::refresh calls it")]
    fn new(name: &str, folder: &Path) -> Option<Self> {
        let files =
            [("firmware_rev", false), ("model", true), ("serial", true), ("state", false), ("cntlid", true)];
        Some(Controller {
            name: name.to_owned(),
            labels: files.map(|(file, is_fixed)| Label::new(folder.join(file), is_fixed)),
            namespaces: Devices::new(folder),
        })
    }
}

impl Namespace {
    fn new(name: &str, folder: &Path) -> Option<Self> {
        let files = ["nuse", "size", "queue/logical_block_size"];
        Some(Namespace {
            id: namespace_id(name)?.to_owned(),
            access: Label::changing(folder.join("ana_state")),
            numbers: files.map(|file| Attribute::new(folder.join(file))),
        })
    }

    fn put(&mut self, device: &str, tick: &mut Tick, out: &mut Recorder, faults: &mut Faults) {
        if !read_labels([&mut self.access], &Normal::NEVER, tick, faults) {
            return;
        }
        let access = match self.access.text() {
            "" => "unknown",
            access => access,
        };
        out.put(&NAMESPACE_INFO, &[device, &self.id, access], 1.0);
        let labels = [device, &self.id];
        let [used, size, block] =
            self.numbers.each_mut().map(|file| read_number(file, unsigned, &Normal::NEVER, tick, faults));
        let Some(block) = block else { return };
        for (family, blocks) in [(&CAPACITY, size), (&SIZE, size), (&USED, used)] {
            if let Some(blocks) = blocks {
                out.put(family, &labels, blocks * block);
            }
        }
        out.put(&BLOCK_SIZE, &labels, block);
    }
}

/// `nvme0n1` and, where there is multipath, `nvme0c2n1` -> `1`.
fn namespace_id(name: &str) -> Option<&str> {
    let (controller, id) = name.strip_prefix("nvme")?.split_once('n')?;
    let (instance, path) = controller.split_once('c').unwrap_or((controller, "0"));
    let is_number = |text| number_after(text, "").is_some();
    [instance, path, id].into_iter().all(is_number).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_told_by_their_names() {
        for (name, id) in [
            ("nvme0n1", Some("1")),
            ("nvme1c0n12", Some("12")),
            ("ng0n1", None),
            ("nvme0n1p1", None),
            ("nvme0", None),
            ("hwmon1", None),
        ] {
            assert_eq!(namespace_id(name), id, "{name}");
        }
    }
}
