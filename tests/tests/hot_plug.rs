//! Devices that come and go between ticks: over a made-up tree, every collector of sysfs devices forgets what
//! is gone and finds what is new, also under the name of what was there before.

use std::path::Path;
use std::sync::Arc;

use collector::model::SeriesTable;
use collector::sources::host::{FlagValues, HostReader, Paths, Selection};

mod render;
use render::Exposition;

/// Ticks after which the parts of a device are looked for again.
const PATIENCE: usize = 61;

struct Subject {
    reader: HostReader,
    table: Arc<SeriesTable>,
}

impl Subject {
    fn new(tree: &Path, collector: &str) -> Self {
        let paths = Paths {
            procfs: tree.join("proc"),
            sysfs: tree.join("sys"),
            rootfs: tree.join("root"),
            udev_data: tree.join("udev"),
        };
        let table = Arc::new(SeriesTable::default());
        let flags = FlagValues::default();
        let reader = HostReader::new(&paths, &flags, |name, _| name == collector, &[], &table).unwrap();
        Subject { reader, table }
    }

    /// Every sample with its value, but for those of the tick itself.
    fn tick(&mut self) -> Vec<String> {
        let mut exposition = Exposition::new();
        self.reader.run(&Selection::All, 0, Default::default, |batch| {
            render::add(&batch, &self.table, &mut exposition);
        });
        exposition.retain(|name, _| !name.starts_with("node_scrape_"));
        let samples = exposition.into_values().flat_map(|(_, samples)| samples);
        samples.map(|(series, value)| format!("{series} {value}")).collect()
    }
}

fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// A class of devices: its collector and folder, the name of a device in it, the attributes that a device
/// has at least, and one of them that shows as a value or a label, with two contents and what is shown then.
struct Class {
    collector: &'static str,
    folder: &'static str,
    device: &'static str,
    attributes: &'static [(&'static str, &'static str)],
    told_by: (&'static str, [(&'static str, &'static str); 2]),
}

const CLASSES: &[Class] = &[
    Class {
        collector: "thermal_zone",
        folder: "sys/class/thermal",
        device: "thermal_zone3",
        attributes: &[("temp", "1000")],
        told_by: ("type", [("acpitz", "acpitz"), ("x86_pkg_temp", "x86_pkg_temp")]),
    },
    Class {
        collector: "hwmon",
        folder: "sys/class/hwmon",
        device: "hwmon2",
        attributes: &[("temp1_input", "40000")],
        told_by: ("name", [("coretemp", "chip=\"coretemp\""), ("k10temp", "chip=\"k10temp\"")]),
    },
    Class {
        collector: "nvme",
        folder: "sys/class/nvme",
        device: "nvme0",
        attributes: &[("firmware_rev", "1"), ("model", "M"), ("state", "live"), ("cntlid", "0")],
        told_by: ("serial", [("AAA", "serial=\"AAA\""), ("BBB", "serial=\"BBB\"")]),
    },
    Class {
        collector: "powersupplyclass",
        folder: "sys/class/power_supply",
        device: "BAT0",
        attributes: &[("type", "Battery")],
        told_by: ("serial_number", [("1", "serial_number=\"1\""), ("2", "serial_number=\"2\"")]),
    },
    Class {
        collector: "infiniband",
        folder: "sys/class/infiniband",
        device: "mlx5_0",
        attributes: &[("fw_ver", "1.2"), ("ports/1/state", "4: ACTIVE")],
        told_by: ("board_id", [("X", "board_id=\"X\""), ("Y", "board_id=\"Y\"")]),
    },
    Class {
        collector: "fibrechannel",
        folder: "sys/class/fc_host",
        device: "host7",
        attributes: &[("statistics/rx_frames", "0x1")],
        told_by: ("port_name", [("0x01", "port_name=\"01\""), ("0x02", "port_name=\"02\"")]),
    },
    Class {
        collector: "watchdog",
        folder: "sys/class/watchdog",
        device: "watchdog0",
        attributes: &[("timeout", "10")],
        told_by: ("identity", [("one", "identity=\"one\""), ("two", "identity=\"two\"")]),
    },
    Class {
        collector: "tapestats",
        folder: "sys/class/scsi_tape",
        device: "st0",
        attributes: &[("stats/io_ns", "1")],
        told_by: ("stats/in_flight", [("11", "node_tape_io_now{device=\"st0\"} 11"), ("12", " 12")]),
    },
    Class {
        collector: "edac",
        folder: "sys/devices/system/edac/mc",
        device: "mc0",
        attributes: &[("ue_count", "0"), ("csrow0/ch0_ce_count", "5")],
        told_by: ("csrow0/ch0_dimm_label", [("A1", "dimm_label=\"A1\""), ("B2", "dimm_label=\"B2\"")]),
    },
    Class {
        collector: "dmmultipath",
        folder: "sys/block",
        device: "dm-0",
        attributes: &[("dm/uuid", "mpath-1"), ("dm/suspended", "0"), ("size", "8")],
        told_by: ("dm/name", [("mpatha", "device=\"mpatha\""), ("mpathb", "device=\"mpathb\"")]),
    },
    Class {
        collector: "nvmesubsystem",
        folder: "sys/class/nvme-subsystem",
        device: "nvme-subsys0",
        attributes: &[("subsysnqn", "nqn"), ("model", "M"), ("iopolicy", "numa")],
        told_by: ("serial", [("1", "serial=\"1\""), ("2", "serial=\"2\"")]),
    },
    Class {
        collector: "rapl",
        folder: "sys/class/powercap",
        device: "intel-rapl:0",
        attributes: &[("energy_uj", "5000000")],
        told_by: ("name", [("core", "node_rapl_core_joules"), ("dram", "node_rapl_dram_joules")]),
    },
    Class {
        collector: "drm",
        folder: "sys/class/drm",
        device: "card0",
        attributes: &[("device/uevent", "DRIVER=amdgpu")],
        told_by: ("device/unique_id", [("a", "unique_id=\"a\""), ("b", "unique_id=\"b\"")]),
    },
    Class {
        collector: "cpufreq",
        folder: "sys/devices/system/cpu",
        device: "cpu5",
        attributes: &[("cpufreq/scaling_available_governors", "a b")],
        told_by: ("cpufreq/scaling_governor", [("a", "governor=\"a\"} 1"), ("b", "governor=\"b\"} 1")]),
    },
    Class {
        collector: "meminfo_numa",
        folder: "sys/devices/system/node",
        device: "node1",
        attributes: &[("numastat", "numa_hit 1\n")],
        told_by: ("meminfo", [("Node 1 MemFree: 1 kB\n", "} 1024"), ("Node 1 MemFree: 2 kB\n", "} 2048")]),
    },
    Class {
        collector: "xfs",
        folder: "sys/fs/xfs",
        device: "sda1",
        attributes: &[("error/x", "1")],
        told_by: ("stats/stats", [("rw 1 21\n", "} 21"), ("rw 1 22\n", "} 22")]),
    },
    Class {
        collector: "bcache",
        folder: "sys/fs/bcache",
        device: "1-2",
        attributes: &[("bdev0/dirty_data", "1")],
        told_by: ("tree_depth", [("31", "} 31"), ("32", "} 32")]),
    },
    Class {
        collector: "bcachefs",
        folder: "sys/fs/bcachefs",
        device: "1-2",
        attributes: &[("dev-0/state", "rw")],
        told_by: ("dev-0/label", [("a", "label=\"a\""), ("b", "label=\"b\"")]),
    },
    Class {
        collector: "btrfs",
        folder: "sys/fs/btrfs",
        device: "1-2",
        attributes: &[("devices/sda/size", "8")],
        told_by: ("label", [("a", "label=\"a\""), ("b", "label=\"b\"")]),
    },
];

impl Class {
    fn plug(&self, tree: &Path, which: usize) {
        let device = tree.join(self.folder).join(self.device);
        for (file, content) in self.attributes {
            write(&device.join(file), content);
        }
        write(&device.join(self.told_by.0), self.told_by.1[which].0);
    }

    /// Moved away and not removed, so that the next one gets another inode.
    fn unplug(&self, tree: &Path, number: usize) {
        let gone = tree.join(format!("gone{number}"));
        std::fs::rename(tree.join(self.folder).join(self.device), gone).unwrap();
    }

    fn check(&self, samples: &[String], present: Option<usize>) {
        for (which, (_, shown)) in self.told_by.1.iter().enumerate() {
            let is_shown = samples.iter().any(|sample| sample.contains(shown));
            assert_eq!(is_shown, present == Some(which), "{}: {shown} in {samples:#?}", self.collector);
        }
    }
}

#[test]
fn devices_come_go_and_are_exchanged() {
    for class in CLASSES {
        let tree = tempfile::tempdir().unwrap();
        let mut subject = Subject::new(tree.path(), class.collector);
        class.check(&subject.tick(), None);
        class.plug(tree.path(), 0);
        class.check(&subject.tick(), Some(0));
        class.check(&subject.tick(), Some(0));
        class.unplug(tree.path(), 1);
        class.check(&subject.tick(), None);
        class.plug(tree.path(), 1);
        class.check(&subject.tick(), Some(1));
        // Exchanged between two ticks, under the same name.
        class.unplug(tree.path(), 2);
        class.plug(tree.path(), 0);
        class.check(&subject.tick(), Some(0));
    }
}

#[test]
fn pci_devices_are_found_by_their_links() {
    let tree = tempfile::tempdir().unwrap();
    let devices = tree.path().join("sys/devices/pci0000:00/0000:00:03.0");
    for file in ["class", "vendor", "device", "subsystem_vendor", "subsystem_device", "revision"] {
        write(&devices.join(file), "0x10");
    }
    let link = tree.path().join("sys/bus/pci/devices/0000:00:03.0");
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    let mut subject = Subject::new(tree.path(), "pcidevice");
    assert!(subject.tick().is_empty());
    std::os::unix::fs::symlink("../../../devices/pci0000:00/0000:00:03.0", &link).unwrap();
    assert!(subject.tick().iter().any(|sample| sample.contains("device=\"03\"")));
    std::fs::remove_file(&link).unwrap();
    assert!(subject.tick().is_empty());
}

#[test]
fn bonds_and_their_members_come_and_go() {
    let tree = tempfile::tempdir().unwrap();
    let net = tree.path().join("sys/class/net");
    let mut subject = Subject::new(tree.path(), "bonding");
    assert!(subject.tick().is_empty());
    write(&net.join("bond0/bonding/slaves"), "eth0\n");
    write(&net.join("bond0/lower_eth0/bonding_slave/mii_status"), "up\n");
    write(&net.join("bonding_masters"), "bond0\n");
    assert_eq!(
        subject.tick(),
        ["node_bonding_active{master=\"bond0\"} 1", "node_bonding_slaves{master=\"bond0\"} 1"]
    );
    write(&net.join("bond0/lower_eth1/bonding_slave/mii_status"), "down\n");
    write(&net.join("bond0/bonding/slaves"), "eth0 eth1\n");
    assert!(subject.tick().contains(&"node_bonding_slaves{master=\"bond0\"} 2".to_owned()));
    write(&net.join("bonding_masters"), "\n");
    assert!(subject.tick().is_empty());
}

/// Parts that come while their device stays are found when it is looked at again.
#[test]
fn parts_of_a_device_are_found_in_time() {
    let tree = tempfile::tempdir().unwrap();
    let chip = tree.path().join("sys/class/hwmon/hwmon0");
    write(&chip.join("temp1_input"), "1000");
    let mut subject = Subject::new(tree.path(), "hwmon");
    assert_eq!(subject.tick().len(), 1);
    write(&chip.join("temp2_input"), "2000");
    let found = (0..PATIENCE).any(|_| subject.tick().len() == 2);
    assert!(found, "within {PATIENCE} ticks");
}
