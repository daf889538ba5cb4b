//! What the network interfaces are and how they are set up, from /sys/class/net. Most of these files take the
//! lock of the whole network stack (RTNL) to be read, so they are not read: the dump of rtnetlink(7) that
//! collectors share says the same. What only sysfs says is read for an interface that is new or has changed,
//! and for a few in turn (`netclass/kept.rs`).
//!
//! Cost a tick: that dump, and at most 18 system calls for every 120 interfaces. Where --path.sysfs does not show
//! the interfaces that rtnetlink shows (another network namespace, a copy of a tree), every file is read every
//! time: four system calls, and 66 for each interface. With --collector.netclass.netlink: `netclass/rtnl.rs`.

mod kept;
mod rtnl;
mod sysfs;

use kept::Kept;
use regex::Regex;
use rtnl::Rtnl;
use sysfs::Sysfs;

use super::error::Faults;
use super::{CollectError, Collector, Filter, Flag, FlagDefault, Registration, SetupError, Tick};
use crate::model::{Family, Recorder};

const IGNORED_FLAG: &str = "collector.netclass.ignored-devices";
const SPEED_FLAG: &str = "collector.netclass.ignore-invalid-speed";
const NETLINK_FLAG: &str = "collector.netclass.netlink";
const STATISTICS_FLAG: &str = "collector.netclass_rtnl.with-stats";

static UP: Family =
    Family::gauge("node_network_up", "Whether the interface is in the state \"up\": 1 if so.", &["device"]);
static INFO: Family = Family::gauge(
    "node_network_info",
    "What a network interface says of itself in words; always 1.",
    &["device", "address", "broadcast", "duplex", "operstate", "adminstate", "ifalias"],
);

macro_rules! numbers {
    ($($name:ident: $file:literal, $kind:ident, $family:literal, $help:literal;)*) => {
        /// The numbers that sysfs shows of an interface.
        #[derive(Clone, Copy)]
        enum Number { $($name),* }

        const NUMBERS: usize = [$(Number::$name),*].len();

        /// The file of each number, and its family.
        static FILES: [(&str, Family); NUMBERS] = [$((
            $file,
            Family::$kind(concat!("node_network_", $family), $help, &["device"]),
        )),*];

        static FAMILIES: &[&Family] = &[
            &UP, &INFO, $(&FILES[Number::$name as usize].1),*,
            &rtnl::ALTERNATIVE_NAMES,
        ];
    };
}

numbers! {
    AddressAssignType: "addr_assign_type", gauge, "address_assign_type",
        "How the address came: 0 permanent, 1 random, 2 from another device, 3 set by hand.";
    Carrier: "carrier", gauge, "carrier", "Whether the interface has a physical link: 1 if so.";
    CarrierChanges: "carrier_changes", counter, "carrier_changes_total",
        "Times that the physical link came or went.";
    CarrierUps: "carrier_up_count", counter, "carrier_up_changes_total", "Times that the physical link came.";
    CarrierDowns: "carrier_down_count", counter, "carrier_down_changes_total",
        "Times that the physical link went.";
    DeviceId: "dev_id", gauge, "device_id",
        "Number that tells devices apart which share an address.";
    Dormant: "dormant", gauge, "dormant",
        "Whether the interface waits for something outside, such as 802.1X, before it can be used: 1 if so.";
    Flags: "flags", gauge, "flags", "The flags of the interface (IFF_*) as one number.";
    Index: "ifindex", gauge, "iface_id", "Number of the interface.";
    Lower: "iflink", gauge, "iface_link", "Number of the interface on which this one stands, or its own.";
    LinkMode: "link_mode", gauge, "iface_link_mode", "Whether the link waits to be let in: 0 no, 1 dormant.";
    Mtu: "mtu", gauge, "mtu_bytes", "Largest packet, in bytes, without the header of the link layer.";
    NameAssignType: "name_assign_type", gauge, "name_assign_type",
        "How the name came: 1 from the kernel, 2 predictable, 3 from the user, 4 renamed.";
    Group: "netdev_group", gauge, "net_dev_group", "Group that the interface belongs to.";
    Speed: "speed", gauge, "speed_bytes", "Speed of the link in bytes a second; -125000 where it is unknown.";
    QueueLength: "tx_queue_len", gauge, "transmit_queue_length", "Packets that may wait to be sent.";
    Hardware: "type", gauge, "protocol_type", "Kind of the link layer (ARPHRD_*).";
}

pub(super) static COLLECTOR: Registration = Registration {
    name: "netclass",
    default_enabled: true,
    flags: &[
        Flag::new(IGNORED_FLAG, FlagDefault::Text("^$"), "Pattern of the devices to leave out."),
        Flag::new(SPEED_FLAG, FlagDefault::Switch(false), "Give no speed where the device knows none."),
        Flag::new(
            NETLINK_FLAG,
            FlagDefault::Switch(false),
            "Give what rtnetlink and ethtool's netlink say, as node_exporter does with this flag.",
        ),
        Flag::new(
            STATISTICS_FLAG,
            FlagDefault::Switch(false),
            "With netclass.netlink: give the traffic counters too, in the place of netdev.",
        ),
    ],
    families: FAMILIES,
    new: |setup| {
        let pattern = setup.flags.text(IGNORED_FLAG);
        let fail = SetupError::of("netclass");
        Regex::new(pattern).map_err(|error| fail(format!("bad pattern {pattern:?}: {error}")))?;
        let filter = Filter::new("", pattern).map_err(fail)?;
        let folder = setup.paths.sys("class/net");
        let source = if setup.flags.switch(NETLINK_FLAG) {
            Source::Netlink(Rtnl::new(setup.flags.switch(STATISTICS_FLAG)))
        } else {
            Source::Sysfs(Box::new((Kept::new(folder.clone()), Sysfs::new(folder))))
        };
        Ok(Box::new(Netclass { filter, wants_invalid_speed: !setup.flags.switch(SPEED_FLAG), source }))
    },
};

struct Netclass {
    filter: Filter,
    wants_invalid_speed: bool,
    source: Source,
}

enum Source {
    Sysfs(Box<(Kept, Sysfs)>),
    Netlink(Rtnl),
}

impl Collector for Netclass {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let Netclass { filter, wants_invalid_speed, source } = self;
        let mut put = |view: &View<'_>| view.put(*wants_invalid_speed, out);
        match source {
            Source::Sysfs(both) => {
                let (kept, sysfs) = &mut **both;
                if kept.put(&mut tick.links, filter, &mut put) {
                    return Ok(());
                }
                let mut faults = Faults::default();
                sysfs.put(&mut tick.buffer, filter, &mut faults, &mut put)?;
                faults.finish()
            }
            Source::Netlink(rtnl) => rtnl.put(&mut tick.links, filter, out),
        }
    }
}

/// An interface as sysfs shows it.
#[derive(Default)]
struct View<'a> {
    device: &'a str,
    address: &'a str,
    broadcast: &'a str,
    duplex: &'a str,
    operstate: &'a str,
    alias: &'a str,
    numbers: [Option<i64>; NUMBERS],
}

/// Bytes of an attribute that are read, as node_exporter does: an alias may be longer.
const ATTRIBUTE_SIZE: usize = 128;
const MEGABIT_BYTES: i64 = 1_000_000 / 8;
const IFF_UP: i64 = libc::IFF_UP as i64;

impl View<'_> {
    fn put(&self, wants_invalid_speed: bool, out: &mut Recorder) {
        let View { device, address, broadcast, duplex, operstate, alias, numbers } = *self;
        let admin_state = match numbers[Number::Flags as usize] {
            None => "unknown",
            Some(flags) if flags & IFF_UP != 0 => "up",
            Some(_) => "down",
        };
        out.put(&UP, &[device], f64::from(u8::from(operstate == "up")));
        out.put(&INFO, &[device, address, broadcast, duplex, operstate, admin_state, alias], 1.0);
        for (n, (number, (_, family))) in numbers.iter().zip(&FILES).enumerate() {
            let Some(mut number) = *number else { continue };
            if n == Number::Speed as usize {
                if number < 0 && !wants_invalid_speed {
                    continue;
                }
                number = number.wrapping_mul(MEGABIT_BYTES);
            }
            out.put(family, &[device], number as f64);
        }
    }
}

/// A whole number as sysfs writes them: decimal, or hexadecimal with `0x`.
fn parse_number(word: &[u8]) -> Option<i64> {
    let word = std::str::from_utf8(word.trim_ascii()).ok()?;
    match word.strip_prefix("0x") {
        Some(digits) if digits.starts_with(['+', '-']) => None,
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_sysfs() {
        for (word, number) in [
            (&b"1500\n"[..], Some(1500)),
            (b"-1\n", Some(-1)),
            (b"0x1303", Some(0x1303)),
            (b"0x-1", None),
            (b"0x", None),
            (b"", None),
            (b"full", None),
            (b"\xff", None),
            (b"9223372036854775808", None),
        ] {
            assert_eq!(parse_number(word), number, "{word:?}");
        }
    }
}
