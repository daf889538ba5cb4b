//! The messages of nl80211: interfaces, the network that one is in (of all that the last scan found, the one
//! with a status), and its stations.

use std::io;

use super::super::CollectError;
use super::super::error::Faults;
use super::{Station, put_frequency, put_network};
use crate::model::Recorder;
use crate::sys::genetlink::{self, push_attribute};
use crate::sys::netlink::{self, Attributes};

const GET_INTERFACE: u8 = 5;
const GET_STATION: u8 = 17;
const GET_SCAN: u8 = 32;

const ATTR_IFINDEX: u16 = 3;
const ATTR_IFNAME: u16 = 4;
const ATTR_MAC: u16 = 6;
const ATTR_STA_INFO: u16 = 21;
const ATTR_WIPHY_FREQ: u16 = 38;
const ATTR_BSS: u16 = 47;

const BSS_BSSID: u16 = 1;
const BSS_INFORMATION_ELEMENTS: u16 = 6;
const BSS_STATUS: u16 = 9;
/// The name of the network, among the elements of a beacon.
const ELEMENT_SSID: u8 = 0;

const STA_INACTIVE_TIME: u16 = 1;
const STA_RX_BYTES: u16 = 2;
const STA_TX_BYTES: u16 = 3;
const STA_SIGNAL: u16 = 7;
const STA_TX_BITRATE: u16 = 8;
const STA_RX_PACKETS: u16 = 9;
const STA_TX_PACKETS: u16 = 10;
const STA_TX_RETRIES: u16 = 11;
const STA_TX_FAILED: u16 = 12;
const STA_RX_BITRATE: u16 = 14;
const STA_CONNECTED_TIME: u16 = 16;
const STA_BEACON_LOSS: u16 = 18;
const STA_RX_BYTES64: u16 = 23;
const STA_TX_BYTES64: u16 = 24;

const RATE_BITRATE: u16 = 1;
const RATE_BITRATE32: u16 = 5;

pub(super) struct Nl80211 {
    family: genetlink::Family,
    interfaces: Vec<Interface>,
    request: Vec<u8>,
}

impl Default for Nl80211 {
    fn default() -> Self {
        Nl80211 { family: genetlink::Family::new("nl80211"), interfaces: Vec::new(), request: Vec::new() }
    }
}

/// An interface with its name, as long as the kernel allows, and its frequency in MHz.
#[derive(Debug, PartialEq)]
struct Interface {
    index: u32,
    name: [u8; 16],
    frequency: u32,
}

impl Nl80211 {
    pub(super) fn put(&mut self, faults: &mut Faults, out: &mut Recorder) -> Result<(), CollectError> {
        let Nl80211 { family, interfaces, request } = self;
        interfaces.clear();
        let messages = family.dump(GET_INTERFACE, &[]).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => CollectError::NoData("the kernel has no nl80211".into()),
            _ => CollectError::call("nl80211 dump of interfaces", &error),
        })?;
        interfaces.extend(messages.filter_map(|(_, attributes)| parse_interface(attributes)));
        for interface in &*interfaces {
            let device = String::from_utf8_lossy(netlink::string(&interface.name));
            put_frequency(&device, i64::from(interface.frequency), out);
            request.clear();
            push_attribute(request, ATTR_IFINDEX, &interface.index.to_ne_bytes());
            match family.dump(GET_SCAN, request) {
                Ok(mut messages) => {
                    if let Some(network) = messages.find_map(|(_, attributes)| parse_network(attributes)) {
                        let name = String::from_utf8_lossy(network.name);
                        put_network(&device, &network.address, &name, i64::from(network.status), out);
                    }
                }
                Err(error) => note(faults, "nl80211 dump of networks", &error),
            }
            match family.dump(GET_STATION, request) {
                Ok(messages) => messages
                    .filter_map(|(_, attributes)| parse_station(attributes))
                    .for_each(|station| station.put(&device, out)),
                Err(error) => note(faults, "nl80211 dump of stations", &error),
            }
        }
        Ok(())
    }
}

/// What an interface of that kind does not have is no fault.
fn note(faults: &mut Faults, what: &str, error: &io::Error) {
    if !matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOENT | libc::ENODEV)) {
        faults.note(|| CollectError::call(what, error));
    }
}

/// `None` for one without a name, as some virtual devices are.
fn parse_interface(attributes: Attributes<'_>) -> Option<Interface> {
    let mut interface = Interface { index: 0, name: [0; 16], frequency: 0 };
    for (kind, content) in attributes {
        match kind {
            ATTR_IFINDEX => interface.index = netlink::u32_at(content, 0)?,
            ATTR_WIPHY_FREQ => interface.frequency = netlink::u32_at(content, 0)?,
            ATTR_IFNAME => {
                let name = netlink::string(content);
                let length = name.len().min(interface.name.len());
                interface.name[..length].copy_from_slice(&name[..length]);
            }
            _ => {}
        }
    }
    (interface.name[0] != 0).then_some(interface)
}

#[derive(Debug, PartialEq)]
struct Network<'a> {
    address: [u8; 6],
    name: &'a [u8],
    status: u32,
}

/// `None` for a network that the interface is not in.
fn parse_network(mut attributes: Attributes<'_>) -> Option<Network<'_>> {
    let (_, content) = attributes.find(|&(kind, _)| kind == ATTR_BSS)?;
    let (mut network, mut is_in) = (Network { address: [0; 6], name: b"", status: 0 }, false);
    for (kind, content) in Attributes::nested(content) {
        match kind {
            BSS_BSSID => network.address = *content.first_chunk()?,
            BSS_INFORMATION_ELEMENTS => network.name = find_name(content).unwrap_or_default(),
            BSS_STATUS => {
                network.status = netlink::u32_at(content, 0)?;
                is_in = true;
            }
            _ => {}
        }
    }
    is_in.then_some(network)
}

/// Elements: a kind, a length, and content of that length.
fn find_name(mut elements: &[u8]) -> Option<&[u8]> {
    while let &[kind, length, ref rest @ ..] = elements {
        let content = rest.get(..usize::from(length))?;
        if kind == ELEMENT_SSID {
            return Some(content);
        }
        elements = &rest[content.len()..];
    }
    None
}

fn parse_station(attributes: Attributes<'_>) -> Option<Station> {
    let (mut station, mut has_info) = (Station::default(), false);
    for (kind, content) in attributes {
        match kind {
            ATTR_MAC => station.address = *content.first_chunk()?,
            ATTR_STA_INFO => {
                has_info = true;
                station.take_info(Attributes::nested(content));
            }
            _ => {}
        }
    }
    has_info.then_some(station)
}

impl Station {
    fn take_info(&mut self, attributes: Attributes<'_>) {
        let (mut received64, mut transmitted64) = (None, None);
        for (kind, content) in attributes {
            let number = netlink::u32_at(content, 0).map_or(0.0, f64::from);
            let large = || netlink::u64_at(content, 0).map(|number| number as f64);
            match kind {
                STA_CONNECTED_TIME => self.connected_seconds = number,
                STA_INACTIVE_TIME => {
                    self.inactive_seconds = seconds(netlink::u32_at(content, 0).unwrap_or(0));
                }
                STA_RX_BYTES => self.received_bytes = number,
                STA_TX_BYTES => self.transmitted_bytes = number,
                STA_RX_BYTES64 => received64 = large(),
                STA_TX_BYTES64 => transmitted64 = large(),
                STA_SIGNAL => {
                    self.signal = content.first().map_or(0.0, |&dbm| f64::from(dbm.cast_signed()));
                }
                STA_RX_BITRATE => self.receive_bits = parse_rate(content),
                STA_TX_BITRATE => self.transmit_bits = parse_rate(content),
                STA_RX_PACKETS => self.received_packets = number,
                STA_TX_PACKETS => self.transmitted_packets = number,
                STA_TX_RETRIES => self.retries = number,
                STA_TX_FAILED => self.failed = number,
                STA_BEACON_LOSS => self.beacon_loss = number,
                _ => {}
            }
        }
        self.received_bytes = received64.unwrap_or(self.received_bytes);
        self.transmitted_bytes = transmitted64.unwrap_or(self.transmitted_bytes);
    }
}

fn seconds(milliseconds: u32) -> f64 {
    f64::from(milliseconds / 1000) + f64::from(milliseconds % 1000 * 1_000_000) / 1e9
}

/// Bits a second; the kernel counts in 100 kbit/s, in 32 bits since some rates need them.
fn parse_rate(content: &[u8]) -> f64 {
    let (mut small, mut large) = (0, None);
    for (kind, content) in Attributes::nested(content) {
        match kind {
            RATE_BITRATE => small = netlink::u16_at(content, 0).unwrap_or(0),
            RATE_BITRATE32 => large = netlink::u32_at(content, 0),
            _ => {}
        }
    }
    f64::from(large.unwrap_or(u32::from(small))) * 100_000.0
}

#[cfg(test)]
#[path = "nl80211_tests.rs"]
mod tests;
