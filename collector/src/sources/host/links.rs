//! The network interfaces of this tick: one dump of rtnetlink(7), which netdev, netclass, arp and others share.
//! Cost a tick: two or three system calls for every 40 interfaces, whoever asks; nothing if nobody does.
//!
//! A thread of its own for a collector that hangs has a tick of its own, and so a dump of its own.

use super::CollectError;
use crate::sys::netlink::{self, Attributes, Messages, Netlink, Table};

/// The longest name of an interface, with the NUL.
const NAME_SIZE: usize = 16;

/// The dump, made by the first collector of a tick that asks.
#[derive(Default)]
pub struct SharedLinks {
    netlink: Netlink,
    is_read: bool,
    /// By number, in ascending order, once somebody has asked for one.
    names: Vec<(u32, [u8; NAME_SIZE])>,
    has_names: bool,
}

impl SharedLinks {
    /// Starts a tick.
    pub(super) fn next(&mut self) {
        self.is_read = false;
        self.has_names = false;
    }

    /// Every interface, in the order of the kernel, which is the same tick after tick.
    ///
    /// # Errors
    /// When the dump fails; the next one who asks tries again.
    pub fn read(&mut self) -> Result<impl Iterator<Item = Link<'_>> + Clone + use<'_>, CollectError> {
        Ok(self.messages()?.filter_map(|(header, attributes)| Link::parse(header, attributes)))
    }

    /// The names of the interfaces.
    ///
    /// # Errors
    /// As [`SharedLinks::read`].
    pub fn names(&mut self) -> Result<Names<'_>, CollectError> {
        if !self.has_names || !self.is_read {
            let mut names = std::mem::take(&mut self.names);
            names.clear();
            for link in self.read()? {
                let mut name = [0; NAME_SIZE];
                let length = link.name.len().min(NAME_SIZE);
                name[..length].copy_from_slice(&link.name[..length]);
                names.push((link.index, name));
            }
            names.sort_unstable_by_key(|&(index, _)| index);
            self.names = names;
            self.has_names = true;
        }
        Ok(Names { names: &self.names })
    }

    fn messages(&mut self) -> Result<Messages<'_>, CollectError> {
        if !self.is_read {
            self.netlink
                .dump(Table::Links)
                .map_err(|error| CollectError::call("netlink dump of links", &error))?;
            self.is_read = true;
        }
        Ok(self.netlink.last(Table::Links))
    }
}

/// The names of the interfaces by their numbers.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    names: &'a [(u32, [u8; NAME_SIZE])],
}

impl<'a> Names<'a> {
    /// `None` for an interface that came after the dump, or that went before it.
    pub fn of(self, index: u32) -> Option<&'a [u8]> {
        let at = self.names.binary_search_by_key(&index, |&(index, _)| index).ok()?;
        Some(netlink::string(&self.names[at].1))
    }
}

/// What the kernel says of one interface. What an older kernel does not say is `None`.
#[derive(Clone, Debug, Default)]
pub struct Link<'a> {
    pub index: u32,
    /// The kind of hardware, `ARPHRD_*`.
    pub hardware: u16,
    /// `IFF_*`, as dev_get_flags of the kernel shows them.
    pub flags: u32,
    pub name: &'a [u8],
    pub alias: &'a [u8],
    pub address: &'a [u8],
    pub broadcast: &'a [u8],
    pub mtu: Option<u32>,
    /// The interface below, where it is another one.
    pub lower: Option<u32>,
    pub master: Option<u32>,
    pub queue_length: Option<u32>,
    pub operstate: Option<u8>,
    pub link_mode: Option<u8>,
    pub group: Option<u32>,
    pub carrier: Option<u8>,
    pub carrier_changes: Option<u32>,
    pub carrier_ups: Option<u32>,
    pub carrier_downs: Option<u32>,
    pub promiscuity: Option<u32>,
    pub allmulti: Option<u32>,
    /// `struct rtnl_link_stats64`.
    pub counters64: Option<&'a [u8]>,
    /// `struct rtnl_link_stats`.
    pub counters32: Option<&'a [u8]>,
    /// Attributes that hold further names.
    pub properties: &'a [u8],
}

/// Not in the libc crate.
const IFLA_ALLMULTI: u16 = 61;

impl<'a> Link<'a> {
    fn parse(header: &[u8], attributes: Attributes<'a>) -> Option<Self> {
        // struct ifinfomsg: family, padding, kind of hardware at 2, number at 4, flags at 8.
        let mut link = Link {
            index: netlink::u32_at(header, 4)?,
            hardware: netlink::u16_at(header, 2)?,
            flags: netlink::u32_at(header, 8)?,
            ..Link::default()
        };
        for (kind, content) in attributes {
            let (byte, number) = (content.first().copied(), netlink::u32_at(content, 0));
            match kind {
                libc::IFLA_IFNAME => link.name = netlink::string(content),
                libc::IFLA_IFALIAS => link.alias = netlink::string(content),
                libc::IFLA_ADDRESS => link.address = content,
                libc::IFLA_BROADCAST => link.broadcast = content,
                libc::IFLA_MTU => link.mtu = number,
                libc::IFLA_LINK => link.lower = number,
                libc::IFLA_MASTER => link.master = number,
                libc::IFLA_TXQLEN => link.queue_length = number,
                libc::IFLA_OPERSTATE => link.operstate = byte,
                libc::IFLA_LINKMODE => link.link_mode = byte,
                libc::IFLA_GROUP => link.group = number,
                libc::IFLA_CARRIER => link.carrier = byte,
                libc::IFLA_CARRIER_CHANGES => link.carrier_changes = number,
                libc::IFLA_CARRIER_UP_COUNT => link.carrier_ups = number,
                libc::IFLA_CARRIER_DOWN_COUNT => link.carrier_downs = number,
                libc::IFLA_PROMISCUITY => link.promiscuity = number,
                IFLA_ALLMULTI => link.allmulti = number,
                libc::IFLA_STATS64 => link.counters64 = Some(content),
                libc::IFLA_STATS => link.counters32 = Some(content),
                libc::IFLA_PROP_LIST => link.properties = content,
                _ => {}
            }
        }
        Some(link)
    }

    /// Further names of the interface.
    pub fn further_names(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        Attributes::nested(self.properties)
            .filter(|&(kind, _)| kind == libc::IFLA_ALT_IFNAME)
            .map(|(_, content)| netlink::string(content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_dump_serves_everybody() {
        let mut links = SharedLinks::default();
        let all: Vec<(u32, Vec<u8>)> =
            links.read().unwrap().map(|link| (link.index, link.name.to_vec())).collect();
        assert!(all.iter().any(|(_, name)| name == b"lo"));
        let names = links.names().unwrap();
        for (index, name) in &all {
            assert_eq!(names.of(*index), Some(&name[..]));
        }
        assert_eq!(names.of(u32::MAX), None);
        links.next();
        assert!(links.names().unwrap().of(all[0].0).is_some(), "a new tick, a new dump");
    }

    #[test]
    fn a_short_header_is_no_link() {
        for length in 0..12 {
            assert!(Link::parse(&[0; 12][..length], Attributes::nested(&[])).is_none());
        }
    }

    /// The attributes of an interface with everything that is read of one.
    fn interface() -> Vec<u8> {
        let mut message = Vec::new();
        let mut push =
            |kind: u16, content: &[u8]| crate::sys::genetlink::push_attribute(&mut message, kind, content);
        push(libc::IFLA_IFNAME, b"enp3s0f1np1\0");
        push(libc::IFLA_STATS64, &[7; 200]);
        push(libc::IFLA_MTU, &1500u32.to_ne_bytes());
        push(libc::IFLA_CARRIER, &[1]);
        push(libc::IFLA_PROP_LIST, b"\x0c\0\x35\0uplink0\0");
        message
    }

    proptest::proptest! {
        #![proptest_config(crate::sys::bent::inputs())]

        #[test]
        fn bent_links_give_no_more_than_they_hold(bytes in crate::sys::bent::bent(vec![interface()])) {
            let link = Link::parse(&[0; 16], Attributes::nested(&bytes)).unwrap();
            let names: usize = link.further_names().map(<[u8]>::len).sum();
            proptest::prop_assert!(link.name.len() + names <= bytes.len());
        }
    }
}
