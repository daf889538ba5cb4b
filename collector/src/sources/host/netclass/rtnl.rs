//! What rtnetlink and ethtool's netlink say, as node_exporter gives it with --collector.netclass.netlink: `info`
//! has no adminstate, there are the further names, `dormant` is the link mode, a speed that is not known is the
//! largest number of 32 bits, and three attributes come from /sys whatever --path.sysfs says.
//!
//! Cost a tick: the dump of links that collectors share, three system calls more, and nine for each interface.

use std::path::Path;

use super::super::filter::Filter;
use super::super::netdev::columns;
use super::super::{CollectError, Link, SharedLinks};
use super::kept::OPERSTATES;
use super::sysfs::AttributePath;
use super::{ATTRIBUTE_SIZE, FILES, Number, UP, parse_number};
use crate::model::{Dynamic, Family, Kind, Recorder};
use crate::sys::genetlink;
use crate::sys::netlink::{self, Attributes};
use crate::sys::text::HardwareAddress;

static INFO: Family = Family::gauge(
    "node_network_info",
    "What a network interface says of itself in words; always 1.",
    &["device", "address", "broadcast", "duplex", "operstate", "ifalias"],
);
pub(super) static ALTERNATIVE_NAMES: Family = Family::gauge(
    "node_network_altnames_info",
    "A further name of a network interface; always 1. With --collector.netclass.netlink.",
    &["device", "altname"],
);

/// Where these attributes are read, always.
const FOLDER: &str = "/sys/class/net";
const MEGABIT_BYTES: f64 = 1_000_000.0 / 8.0;

const ETHTOOL_MSG_LINKMODES_GET: u8 = 4;
const ETHTOOL_A_LINKMODES_HEADER: u16 = 1;
const ETHTOOL_A_LINKMODES_SPEED: u16 = 5;
const ETHTOOL_A_LINKMODES_DUPLEX: u16 = 6;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_HEADER_FLAGS: u16 = 3;
/// Bits in words instead of their names: a shorter answer.
const ETHTOOL_FLAG_COMPACT_BITSETS: u32 = 1;

pub(super) struct Rtnl {
    ethtool: genetlink::Family,
    request: Vec<u8>,
    /// Number of the interface, speed and duplex, in ascending order.
    modes: Vec<(u32, Option<u32>, &'static str)>,
    path: AttributePath,
    with_statistics: bool,
}

impl Rtnl {
    pub(super) fn new(with_statistics: bool) -> Self {
        let (mut header, mut request) = (Vec::new(), Vec::new());
        let flags = ETHTOOL_FLAG_COMPACT_BITSETS.to_ne_bytes();
        genetlink::push_attribute(&mut header, ETHTOOL_A_HEADER_FLAGS, &flags);
        let nested = libc::NLA_F_NESTED as u16;
        genetlink::push_attribute(&mut request, ETHTOOL_A_LINKMODES_HEADER | nested, &header);
        Rtnl {
            ethtool: genetlink::Family::new("ethtool"),
            request,
            modes: Vec::new(),
            path: AttributePath::new(Path::new(FOLDER)),
            with_statistics,
        }
    }

    pub(super) fn put(
        &mut self,
        links: &mut SharedLinks,
        filter: &mut Filter,
        out: &mut Recorder,
    ) -> Result<(), CollectError> {
        self.read_modes()?;
        for link in links.read()? {
            let device = String::from_utf8_lossy(link.name);
            if filter.ignores(&device) {
                continue;
            }
            self.put_words(&link, &device, out);
            self.put_numbers(&link, &device, out);
            if self.with_statistics
                && let Some(counters) = link.counters64
            {
                put_counters(counters, &device, out);
            }
        }
        Ok(())
    }

    fn read_modes(&mut self) -> Result<(), CollectError> {
        let Rtnl { ethtool, request, modes, .. } = self;
        modes.clear();
        let messages = match ethtool.dump(ETHTOOL_MSG_LINKMODES_GET, request) {
            Ok(messages) => messages,
            // A kernel before 5.6.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(CollectError::call("netlink dump of link modes", &error)),
        };
        modes.extend(messages.filter_map(|(_, attributes)| parse_mode(attributes)));
        modes.sort_unstable_by_key(|&(index, ..)| index);
        Ok(())
    }

    fn mode(&self, index: u32) -> Option<(Option<u32>, &'static str)> {
        let at = self.modes.binary_search_by_key(&index, |&(index, ..)| index).ok()?;
        Some((self.modes[at].1, self.modes[at].2))
    }

    fn put_words(&self, link: &Link<'_>, device: &str, out: &mut Recorder) {
        let state = link.operstate.and_then(|state| OPERSTATES.get(usize::from(state)));
        let state = state.copied().unwrap_or_default();
        let duplex = self.mode(link.index).map_or("", |(_, duplex)| duplex);
        let address = HardwareAddress::new(link.address);
        let broadcast = HardwareAddress::new(link.broadcast);
        let alias = String::from_utf8_lossy(link.alias);
        out.put(&UP, &[device], f64::from(u8::from(state == "up")));
        let labels = [device, address.as_str(), broadcast.as_str(), duplex, state, &alias];
        out.put(&INFO, &labels, 1.0);
        for name in link.further_names() {
            out.put(&ALTERNATIVE_NAMES, &[device, &String::from_utf8_lossy(name)], 1.0);
        }
    }

    fn put_numbers(&mut self, link: &Link<'_>, device: &str, out: &mut Recorder) {
        let mut buffer = [0; ATTRIBUTE_SIZE];
        let mut attribute = |number: Number| {
            let text = self.path.read(link.name, FILES[number as usize].0, &mut buffer).ok().flatten();
            text.and_then(parse_number).map(|number| number as f64)
        };
        let [assigned, device_id, named] =
            [Number::AddressAssignType, Number::DeviceId, Number::NameAssignType].map(&mut attribute);
        let speed = self.mode(link.index).and_then(|(speed, _)| speed);
        let lower = link.lower.filter(|&lower| lower > 0).unwrap_or(link.index);
        for (number, value) in [
            (Number::AddressAssignType, assigned),
            (Number::Carrier, link.carrier.map(f64::from)),
            (Number::CarrierChanges, link.carrier_changes.map(f64::from)),
            (Number::CarrierUps, link.carrier_ups.map(f64::from)),
            (Number::CarrierDowns, link.carrier_downs.map(f64::from)),
            (Number::DeviceId, device_id),
            (Number::Dormant, link.link_mode.map(f64::from)),
            (Number::Flags, Some(f64::from(link.flags))),
            (Number::Index, Some(f64::from(link.index))),
            (Number::Lower, Some(f64::from(lower))),
            (Number::LinkMode, link.link_mode.map(f64::from)),
            (Number::Mtu, link.mtu.map(f64::from)),
            (Number::NameAssignType, named),
            (Number::Group, link.group.map(f64::from)),
            (Number::Speed, speed.map(|megabits| f64::from(megabits) * MEGABIT_BYTES)),
            (Number::QueueLength, link.queue_length.map(f64::from)),
            (Number::Hardware, Some(f64::from(link.hardware))),
        ] {
            if let Some(value) = value {
                out.put(&FILES[number as usize].1, &[device], value);
            }
        }
    }
}

/// The names of netdev with --collector.netdev.enable-detailed-metrics, but as gauges.
fn put_counters(counters: &[u8], device: &str, out: &mut Recorder) {
    for column in columns::DETAILED {
        let Some(value) = netlink::u64_at(counters, column.of[0] * 8) else { continue };
        let sample = Dynamic {
            name: &[column.family.name],
            suffix: "",
            help: &[column.family.help],
            kind: Kind::Gauge,
            labels: &[("device", device)],
        };
        out.put_dynamic(&sample, value as f64);
    }
}

/// The number of the interface, its speed in Mbit/s, and its duplex.
fn parse_mode(attributes: Attributes<'_>) -> Option<(u32, Option<u32>, &'static str)> {
    let (mut index, mut speed, mut duplex) = (None, None, "Half");
    for (kind, content) in attributes {
        match kind {
            ETHTOOL_A_LINKMODES_HEADER => {
                let mut header = Attributes::nested(content);
                let number = header.find(|&(kind, _)| kind == ETHTOOL_A_HEADER_DEV_INDEX);
                index = number.and_then(|(_, number)| netlink::u32_at(number, 0));
            }
            ETHTOOL_A_LINKMODES_SPEED => speed = netlink::u32_at(content, 0),
            ETHTOOL_A_LINKMODES_DUPLEX => {
                duplex = match content.first() {
                    Some(0) => "Half",
                    Some(1) => "Full",
                    _ => "Unknown",
                };
            }
            _ => {}
        }
    }
    Some((index?, speed, duplex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_needs_its_interface() {
        let (mut header, mut message) = (Vec::new(), Vec::new());
        genetlink::push_attribute(&mut header, ETHTOOL_A_HEADER_DEV_INDEX, &7u32.to_ne_bytes());
        genetlink::push_attribute(&mut message, ETHTOOL_A_LINKMODES_HEADER, &header);
        genetlink::push_attribute(&mut message, ETHTOOL_A_LINKMODES_SPEED, &2500u32.to_ne_bytes());
        genetlink::push_attribute(&mut message, ETHTOOL_A_LINKMODES_DUPLEX, &[1]);
        assert_eq!(parse_mode(Attributes::nested(&message)), Some((7, Some(2500), "Full")));
        assert_eq!(parse_mode(Attributes::nested(&message[12..])), None);
    }
}
