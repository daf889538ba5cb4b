//! The addresses of the interfaces, from a dump of rtnetlink(7). Off by default.
//! Cost a tick: three system calls, and the dump of links that collectors share.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::{CollectError, SharedLinks};
use crate::model::{Family, Recorder};
use crate::sys::netlink::{self, Netlink};
use crate::sys::text;

pub(super) static INFO: Family = Family::gauge(
    "node_network_address_info",
    "An address of a network interface; always 1.",
    &["device", "address", "netmask", "scope"],
);

/// Room that is used again.
#[derive(Default)]
pub(super) struct Addresses {
    netlink: Netlink,
    /// Interface, address and length of the network's prefix.
    found: Vec<(u32, IpAddr, u8)>,
    address: String,
}

impl Addresses {
    pub(super) fn put(&mut self, links: &mut SharedLinks, out: &mut Recorder) -> Result<(), CollectError> {
        self.found.clear();
        let messages = self
            .netlink
            .dump(netlink::Table::Addresses)
            .map_err(|error| CollectError::call("netlink dump of addresses", &error))?;
        for (header, attributes) in messages {
            let (Some(index), Some(&prefix)) = (netlink::u32_at(header, 4), header.get(1)) else { continue };
            if let Some(address) = parse_address(attributes) {
                self.found.push((index, address, prefix));
            }
        }
        let names = links.names()?;
        for &(index, address, prefix) in &self.found {
            let Some(name) = names.of(index) else { continue };
            self.address.clear();
            // Writing to a string can't fail.
            let _ = write!(self.address, "{}", address.to_canonical());
            let device = String::from_utf8_lossy(name);
            let netmask = text::Decimal::new(u64::from(prefix));
            out.put(&INFO, &[&device, &self.address, netmask.as_str(), scope_of(address)], 1.0);
        }
        Ok(())
    }
}

/// The interface's own address: of a point-to-point link, IFA_ADDRESS is that of its other end.
fn parse_address(attributes: netlink::Attributes<'_>) -> Option<IpAddr> {
    let mut found = None;
    for (kind, content) in attributes {
        let is_local = kind == libc::IFA_LOCAL;
        if is_local || (kind == libc::IFA_ADDRESS && found.is_none()) {
            found = match content.len() {
                4 => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(content).ok()?))),
                16 => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(content).ok()?))),
                _ => None,
            };
        }
        if is_local {
            break;
        }
    }
    found
}

/// How far the address reaches, in the words of node_exporter.
fn scope_of(address: IpAddr) -> &'static str {
    let (is_link_local, is_nothing) = match address.to_canonical() {
        IpAddr::V4(v4) => {
            let multicast = matches!(v4.octets(), [224, 0, 0, _]);
            (v4.is_link_local() || multicast, v4.is_broadcast() || v4.is_multicast())
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            if first & 0xff0f == 0xff01 {
                return "interface-local";
            }
            (first & 0xffc0 == 0xfe80 || first & 0xff0f == 0xff02, v6.is_multicast())
        }
    };
    if address.is_loopback() || is_link_local {
        "link-local"
    } else if is_nothing || address.is_unspecified() {
        ""
    } else {
        "global"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes() {
        for (address, scope) in [
            ("127.0.0.1", "link-local"),
            ("::1", "link-local"),
            ("169.254.1.1", "link-local"),
            ("fe80::1", "link-local"),
            ("ff02::1", "link-local"),
            ("ff01::1", "interface-local"),
            ("10.0.0.1", "global"),
            ("2001:db8::1", "global"),
            ("0.0.0.0", ""),
            ("255.255.255.255", ""),
            ("ff0e::1", ""),
        ] {
            assert_eq!(scope_of(address.parse().unwrap()), scope, "{address}");
        }
    }
}
