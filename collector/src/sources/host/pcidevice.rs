//! PCI devices and their links, from /sys/bus/pci/devices. Cost a tick: a listing, and up to ten reads for each
//! device. What a device is, and the names of the pci.ids file, are read when devices come or go.

mod ids;

use std::path::{Path, PathBuf};

use ids::PciIds;

use super::devices::{Devices, Label, Normal, read_labels, read_number, read_text, signed, unsigned};
use super::error::Faults;
use super::{CollectError, Collector, Flag, FlagDefault, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::sysfs::Attribute;
use crate::sys::text;

const NAMES_FLAG: &str = "collector.pcidevice.names";
const FILE_FLAG: &str = "collector.pcidevice.idsfile";
const DEFAULT_FILES: [&str; 2] = ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"];

const PLACE: &[&str] = &["segment", "bus", "device", "function"];
const INFO_NAME: &str = "node_pcidevice_info";
const INFO_HELP: &str = "A PCI device, what it is, and the bridge that it is behind; always 1.";
const LABELS: [&str; 19] = [
    "segment",
    "bus",
    "device",
    "function",
    "parent_segment",
    "parent_bus",
    "parent_device",
    "parent_function",
    "class_id",
    "vendor_id",
    "device_id",
    "subsystem_vendor_id",
    "subsystem_device_id",
    "revision",
    "vendor_name",
    "device_name",
    "subsystem_vendor_name",
    "subsystem_device_name",
    "class_name",
];
/// Labels without the names.
const NUMBERS: usize = 14;
static INFO: Family = Family::gauge(INFO_NAME, INFO_HELP, LABELS.split_at(NUMBERS).0);
static INFO_WITH_NAMES: Family = Family::gauge(INFO_NAME, INFO_HELP, &LABELS);
static POWER: Family = Family::gauge(
    "node_pcidevice_power_state",
    "State of a device's power: 1 for the one that it is in, 0 for the others.",
    &["segment", "bus", "device", "function", "state"],
);
const POWER_STATES: [&str; 7] = ["D0", "D1", "D2", "D3hot", "D3cold", "unknown", "error"];
static NUMA_NODE: Family = Family::gauge(
    "node_pcidevice_numa_node",
    "NUMA node that a device belongs to; left out where there is none.",
    PLACE,
);

/// A file that a device may lack, the value that is given then, and how it is read.
struct Fact {
    file: &'static str,
    otherwise: f64,
    value: fn(&[u8]) -> Option<f64>,
    family: Family,
}

static FACTS: [Fact; 9] = [
    Fact {
        file: "max_link_speed",
        otherwise: -1.0,
        value: speed,
        family: Family::gauge(
            "node_pcidevice_max_link_transfers_per_second",
            "Fastest speed of a device's link, in transfers per second; -1 where it is not known.",
            PLACE,
        ),
    },
    Fact {
        file: "max_link_width",
        otherwise: -1.0,
        value: signed,
        family: Family::gauge(
            "node_pcidevice_max_link_width",
            "Most lanes of a device's link; -1 where it is not known.",
            PLACE,
        ),
    },
    Fact {
        file: "current_link_speed",
        otherwise: -1.0,
        value: speed,
        family: Family::gauge(
            "node_pcidevice_current_link_transfers_per_second",
            "Speed of a device's link now, in transfers per second; -1 where it is not known.",
            PLACE,
        ),
    },
    Fact {
        file: "current_link_width",
        otherwise: -1.0,
        value: signed,
        family: Family::gauge(
            "node_pcidevice_current_link_width",
            "Lanes of a device's link now; -1 where it is not known.",
            PLACE,
        ),
    },
    Fact {
        file: "d3cold_allowed",
        otherwise: 0.0,
        value: switch,
        family: Family::gauge(
            "node_pcidevice_d3cold_allowed",
            "Whether the power of a device may be cut (D3cold): 1 if so, 0 if not.",
            PLACE,
        ),
    },
    Fact {
        file: "sriov_drivers_autoprobe",
        otherwise: 0.0,
        value: switch,
        family: Family::gauge(
            "node_pcidevice_sriov_drivers_autoprobe",
            "Whether the virtual functions of a device get drivers by themselves: 1 if so, 0 if not.",
            PLACE,
        ),
    },
    Fact {
        file: "sriov_numvfs",
        otherwise: 0.0,
        value: unsigned,
        family: Family::gauge(
            "node_pcidevice_sriov_numvfs",
            "Virtual functions of a device that are in use.",
            PLACE,
        ),
    },
    Fact {
        file: "sriov_totalvfs",
        otherwise: 0.0,
        value: unsigned,
        family: Family::gauge(
            "node_pcidevice_sriov_totalvfs",
            "Virtual functions that a device can have.",
            PLACE,
        ),
    },
    Fact {
        file: "sriov_vf_total_msix",
        otherwise: 0.0,
        value: signed,
        family: Family::gauge(
            "node_pcidevice_sriov_vf_total_msix",
            "Interrupts (MSI-X) for the virtual functions of a device.",
            PLACE,
        ),
    },
];

pub(super) static COLLECTOR: Registration = Registration {
    name: "pcidevice",
    default_enabled: false,
    flags: &[
        Flag::new(
            NAMES_FLAG,
            FlagDefault::Switch(false),
            "Give the names of vendors, devices and classes too.",
        ),
        Flag::new(FILE_FLAG, FlagDefault::Text(""), "Path of the pci.ids file with these names."),
    ],
    families: &[
        &INFO,
        &INFO_WITH_NAMES,
        &FACTS[0].family,
        &FACTS[1].family,
        &FACTS[2].family,
        &FACTS[3].family,
        &FACTS[4].family,
        &FACTS[5].family,
        &FACTS[6].family,
        &FACTS[7].family,
        &FACTS[8].family,
        &POWER,
        &NUMA_NODE,
    ],
    new: |setup| {
        let devices = Devices::new(setup.paths.sys("bus/pci/devices"));
        let names = setup.flags.switch(NAMES_FLAG).then(|| match setup.flags.text(FILE_FLAG) {
            "" => DEFAULT_FILES.iter().map(PathBuf::from).collect(),
            file => vec![file.into()],
        });
        Ok(Box::new(Pci { devices, names }))
    },
};

/// The kernel's words for a link that is down, or not of PCI Express.
const NORMAL: Normal = Normal { refusals: &[], texts: &["", "Unknown", "Unknown speed"] };

struct Pci {
    devices: Devices<Result<Device, Unreadable>>,
    /// Where names may be found, if they are wanted.
    names: Option<Vec<PathBuf>>,
}

/// A device that is not as it should be: where, and what.
type Unreadable = (PathBuf, &'static str);

struct Device {
    /// As the labels of [`INFO`] or [`INFO_WITH_NAMES`] are.
    info: Vec<String>,
    numa_node: Attribute,
    power: Label,
    facts: [Attribute; FACTS.len()],
}

impl Collector for Pci {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        // The file is large: it is read when there are devices to name, and not kept.
        let mut ids: Option<PciIds> = None;
        let files = self.names.as_deref();
        let devices = self.devices.refresh(|_, folder| {
            let mut info = match parse_device(folder) {
                Ok(info) => info,
                Err(what) => return Some(Err((folder.to_owned(), what))),
            };
            if let Some(files) = files {
                ids.get_or_insert_with(|| PciIds::read(files)).name(&mut info);
            }
            Some(Ok(Device::new(folder, info)))
        })?;
        let mut faults = Faults::default();
        for device in devices {
            match device {
                Ok(device) => device.put(tick, out, &mut faults),
                Err((path, what)) => faults.note(|| CollectError::malformed(path, 1, *what)),
            }
        }
        faults.finish()
    }
}

impl Device {
    fn new(folder: &Path, info: Vec<String>) -> Self {
        Device {
            info,
            numa_node: Attribute::new(folder.join("numa_node")),
            power: Label::changing(folder.join("power_state")),
            facts: FACTS.each_ref().map(|fact| Attribute::new(folder.join(fact.file))),
        }
    }

    fn put(&mut self, tick: &mut Tick, out: &mut Recorder, faults: &mut Faults) {
        let mut labels = [""; LABELS.len()];
        labels.iter_mut().zip(&self.info).for_each(|(label, text)| *label = text);
        let is_named = self.info.len() == labels.len();
        out.put(if is_named { &INFO_WITH_NAMES } else { &INFO }, &labels[..self.info.len()], 1.0);
        let [segment, bus, device, function, ..] = labels;
        let place = [segment, bus, device, function];
        for (fact, file) in FACTS.iter().zip(&mut self.facts) {
            let mut own = Faults::default();
            let value = read_number(file, fact.value, &NORMAL, tick, &mut own);
            match own.finish() {
                Ok(()) => out.put(&fact.family, &place, value.unwrap_or(fact.otherwise)),
                Err(error) => faults.note(|| error),
            }
        }
        let is_read = read_labels([&mut self.power], &NORMAL, tick, faults);
        if is_read && !self.power.text().is_empty() {
            for state in POWER_STATES {
                let is_in = f64::from(u8::from(state == self.power.text()));
                out.put(&POWER, &[segment, bus, device, function, state], is_in);
            }
        }
        let node = read_number(&mut self.numa_node, signed, &NORMAL, tick, faults);
        if let Some(node) = node.filter(|node| *node >= 0.0) {
            out.put(&NUMA_NODE, &place, node);
        }
    }
}

/// The labels of [`INFO`] for the device whose link is at `folder`.
fn parse_device(folder: &Path) -> Result<Vec<String>, &'static str> {
    // Such as ../../../devices/pci0000:00/0000:00:02.1/0000:01:00.0.
    let target = std::fs::read_link(folder).map_err(|_| "expected a link to a device")?;
    let part = |path: Option<&Path>| path?.file_name()?.to_str().map(str::to_owned);
    let place =
        part(Some(&target)).and_then(|place| parse_place(&place)).ok_or("expected a place on a bus")?;
    let parent = part(target.parent()).ok_or("expected a bridge or a bus")?;
    let parent = match parent.starts_with("pci") {
        true => ["*"; 4].map(str::to_owned),
        false => parse_place(&parent).ok_or("expected a bridge or a bus")?,
    };
    let mut info: Vec<String> = place.into_iter().chain(parent).collect();
    for (file, width) in [
        ("class", 6),
        ("vendor", 4),
        ("device", 4),
        ("subsystem_vendor", 4),
        ("subsystem_device", 4),
        ("revision", 2),
    ] {
        let text = read_text(folder.join(file)).ok().flatten();
        let number = text.and_then(|text| text::parse_any_u64(text.as_bytes()));
        let number = number.ok_or("expected numbers of class, vendor, device, subsystem and revision")?;
        info.push(format!("0x{number:0width$x}"));
    }
    Ok(info)
}

/// `0000:01:00.0` -> segment, bus, device and function.
fn parse_place(place: &str) -> Option<[String; 4]> {
    let (rest, function) = place.rsplit_once('.')?;
    let mut parts = rest.split(':').map(|part| text::parse_hex(part.as_bytes()));
    let (segment, bus, device) = (parts.next()??, parts.next()??, parts.next()??);
    let function = text::parse_hex(function.as_bytes())?;
    parts.next().is_none().then(|| {
        [format!("{segment:04x}"), format!("{bus:02x}"), format!("{device:02x}"), format!("{function:x}")]
    })
}

/// `8.0 GT/s PCIe`, in transfers per second.
fn speed(word: &[u8]) -> Option<f64> {
    let number = word.strip_suffix(b" GT/s PCIe")?;
    text::parse_f64(number).filter(|number| number.is_finite()).map(|number| number * 1e9)
}

fn switch(word: &[u8]) -> Option<f64> {
    signed(word).map(|number| if number == 0.0 { 0.0 } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_speeds() {
        assert_eq!(parse_place("0000:01:1f.a").unwrap(), ["0000", "01", "1f", "a"]);
        assert_eq!(parse_place("10000:e1:00.0").unwrap()[0], "10000");
        for wrong in ["0000:01:00", "01:00.0", "0:0:0:0.0", "x:01:00.0", ""] {
            assert_eq!(parse_place(wrong), None, "{wrong}");
        }
        assert_eq!(speed(b"2.5 GT/s PCIe"), Some(2.5e9));
        assert_eq!((speed(b"133 MHz PCI-X"), speed(b"GT/s PCIe")), (None, None));
    }
}
