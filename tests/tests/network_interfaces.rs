//! netclass over real interfaces in a network namespace: what is made of the dump of rtnetlink is what the files
//! of sysfs say, whatever happens to the interfaces.

mod render;

use std::path::Path;
use std::sync::Arc;

use collector::model::SeriesTable;
use collector::sources::host::{FlagValues, HostReader, Paths, Selection};
use collector_tests::netns::{in_network_namespace, run, try_run};
use render::Exposition;

struct Subject {
    reader: HostReader,
    table: Arc<SeriesTable>,
}

impl Subject {
    fn new(sysfs: &Path, collectors: &[&str], given: &[&str]) -> Self {
        let paths = Paths { sysfs: sysfs.to_owned(), ..Paths::default() };
        let mut flags = FlagValues::default();
        given.iter().for_each(|flag| flags.give(flag, "true"));
        let table = Arc::new(SeriesTable::default());
        let enabled = |name: &str, _| collectors.contains(&name);
        let reader = HostReader::new(&paths, &flags, enabled, &[], &table).unwrap();
        Subject { reader, table }
    }

    fn tick(&mut self) -> Exposition {
        let mut exposition = Exposition::new();
        self.reader.run(&Selection::All, 0, Default::default, |batch| {
            render::add(&batch, &self.table, &mut exposition);
        });
        exposition.remove("node_scrape_collector_duration_seconds");
        exposition
    }
}

/// What the files of sysfs say: with one entry more in the folder of the interfaces, the lists differ, and so
/// all of them are read.
fn by_files(sysfs: &Path) -> Exposition {
    let tree = tempfile::tempdir().unwrap();
    let folder = tree.path().join("class/net");
    std::fs::create_dir_all(&folder).unwrap();
    for entry in std::fs::read_dir(sysfs.join("class/net")).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_type().unwrap().is_file() {
            std::os::unix::fs::symlink(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    std::fs::create_dir(folder.join("no_interface")).unwrap();
    let mut said = Subject::new(tree.path(), &["netclass"], &[]).tick();
    for (_, samples) in said.values_mut() {
        let before = samples.len();
        samples.retain(|series, _| !series.contains("no_interface"));
        assert!(samples.len() + 1 >= before);
    }
    said
}

/// The kernel settles some states a moment later: a tick counts if the files say the same before and after it.
fn assert_same(subject: &mut Subject, sysfs: &Path, what: &str) {
    let (ours, files) = loop {
        let before = by_files(sysfs);
        let ours = subject.tick();
        if by_files(sysfs) == before {
            break (ours, before);
        }
    };
    for (family, samples) in &files {
        assert_eq!(ours.get(family), Some(samples), "{what}: {family}; the right is what the files say");
    }
    assert_eq!(ours.len(), files.len(), "{what}");
}

fn value(exposition: &Exposition, family: &str, device: &str) -> Option<f64> {
    let (_, samples) = exposition.get(family)?;
    samples.get(&format!("{family}{{device=\"{device}\"}}")).copied()
}

fn make_interfaces() {
    run("ip", "link set lo up");
    run("ip", "link add left type veth peer name right");
    run("ip", "link add br0 type bridge");
    run("ip", "link set right master br0");
    // What this kernel lacks is left out.
    for more in [
        "link add v100 link left type vlan id 100",
        "link add dum0 type dummy",
        "link add mac0 link left type macvlan",
        "link add bond0 type bond",
        "link add ifb9 type ifb",
        "tuntap add tap0 mode tap",
        "tuntap add tun0 mode tun",
        "link add sit9 type sit local 192.0.2.1 remote 192.0.2.2",
    ] {
        try_run("ip", more);
    }
}

#[test]
fn the_dump_says_what_the_files_say() {
    in_network_namespace("the_dump_says_what_the_files_say", |sysfs| {
        make_interfaces();
        let mut subject = Subject::new(sysfs, &["netclass"], &[]);
        assert_same(&mut subject, sysfs, "down");
        let longest = "ü".repeat(120);
        for (what, command) in [
            ("up", "link set left up"),
            ("other end up", "link set right up"),
            ("bridge up", "link set br0 up"),
            ("tap up", "link set tap0 up"),
            ("dormant", "link set left mode dormant"),
            ("promiscuous", "link set left promisc on"),
            ("all multicast", "link set left allmulticast on"),
            ("another address", "link set left address 02:00:00:00:00:07"),
            ("mtu", "link set right mtu 9000"),
            ("group and queue", "link set left group 7 txqueuelen 77"),
            ("no carrier", "link set right down"),
            ("no more a port", "link set right nomaster"),
            ("renamed", "link set right name other"),
            ("an interface that comes", "link add later type veth peer name later2"),
            ("an interface that goes", "link del later"),
        ] {
            if try_run("ip", command) {
                assert_same(&mut subject, sysfs, what);
            } else {
                assert!(what.starts_with("tap"), "ip {command}");
            }
        }
        for alias in ["uplink \"a\\b\" {x}", "  blanks \u{a0}around\u{2003} ", &longest, "two\nlines", ""] {
            let output =
                std::process::Command::new("ip").args(["link", "set", "left", "alias", alias]).output();
            assert!(output.unwrap().status.success(), "{alias:?}");
            assert_same(&mut subject, sysfs, alias);
        }
        std::fs::write(sysfs.join("class/net/left/ifalias"), b"not \xff UTF-8\n").unwrap();
        assert_same(&mut subject, sysfs, "bytes that are not UTF-8");
    });
}

#[test]
fn netlink_mode_has_its_own_way() {
    in_network_namespace("netlink_mode_has_its_own_way", |sysfs| {
        make_interfaces();
        run("ip", "link set left up");
        run("ip", "link property add dev left altname a_longer_name_than_fits");
        let flags = ["collector.netclass.netlink", "collector.netclass_rtnl.with-stats"];
        let said = Subject::new(sysfs, &["netclass"], &flags).tick();
        let of = |family: &str, device: &str| value(&said, family, device);
        assert_eq!(of("node_network_speed_bytes", "left"), Some(1.25e9));
        // Of an interface that is down too, and the largest number for one that is not known.
        assert_eq!(of("node_network_speed_bytes", "right"), Some(1.25e9));
        assert_eq!(of("node_network_speed_bytes", "br0"), Some(5.36870911875e14));
        assert_eq!(of("node_network_carrier", "right"), Some(0.0));
        assert_eq!(of("node_network_dormant", "left"), of("node_network_iface_link_mode", "left"));
        assert_eq!(of("node_network_iface_link", "left"), of("node_network_iface_id", "right"));
        assert_eq!(of("node_network_receive_packets_total", "lo"), Some(0.0));
        assert_eq!(said["node_network_receive_packets_total"].0, "gauge");
        let infos: Vec<&String> = said["node_network_info"].1.keys().collect();
        let left = infos.iter().find(|series| series.contains("device=\"left\"")).unwrap();
        assert!(left.contains("duplex=\"Full\"") && left.contains("operstate=\"lowerlayerdown\""), "{left}");
        assert!(!left.contains("adminstate"));
        let names: Vec<&String> = said["node_network_altnames_info"].1.keys().collect();
        assert_eq!(
            names,
            ["node_network_altnames_info{altname=\"a_longer_name_than_fits\",device=\"left\"}"]
        );
    });
}

#[test]
fn another_namespace_is_read_from_its_files() {
    in_network_namespace("another_namespace_is_read_from_its_files", |_| {
        run("ip", "link add inner type veth peer name inner2");
        // The sysfs of the namespace that we came from.
        let host = Path::new("/sys");
        let mut subject = Subject::new(host, &["netclass", "netdev"], &[]);
        for _ in 0..3 {
            let said = subject.tick();
            let listed = |family: &str, device: &str| {
                said[family].1.keys().any(|series| series.contains(&format!("device=\"{device}\"")))
            };
            assert!(!listed("node_network_up", "inner"), "sysfs is another namespace's");
            for entry in std::fs::read_dir(host.join("class/net")).unwrap() {
                let entry = entry.unwrap();
                if !entry.file_type().unwrap().is_file() {
                    assert!(listed("node_network_up", entry.file_name().to_str().unwrap()));
                }
            }
            assert!(listed("node_network_receive_packets_total", "inner"));
        }
    });
}

#[test]
fn a_steady_tick_needs_no_files() {
    in_network_namespace("a_steady_tick_needs_no_files", |sysfs| {
        make_interfaces();
        run("ip", "link set left up");
        let mut subject = Subject::new(sysfs, &["netclass"], &[]);
        (0..3).for_each(|_| drop(subject.tick()));
        run("umount", sysfs.to_str().unwrap());
        run("ip", "link set left mtu 1234");
        let said = subject.tick();
        assert_eq!(value(&said, "node_network_mtu_bytes", "left"), Some(1234.0));
        assert_eq!(value(&said, "node_network_flags", "left"), Some(4099.0));
        assert_eq!(value(&said, "node_network_address_assign_type", "lo"), Some(0.0));
        assert_eq!(value(&said, "node_network_speed_bytes", "left"), None, "read again, as it changed: gone");
        // An interface that comes can't be compared with its files.
        run("ip", "link add later type veth peer name later2");
        let said = subject.tick();
        assert!(!said.contains_key("node_network_up"), "there is nothing to read");
    });
}
