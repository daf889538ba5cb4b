//! The routes to single hosts and networks (unicast), of every table, and how many there are by interface, from
//! a dump of rtnetlink(7). Off by default: each route is a series.
//! Cost a tick: two system calls, one for every 400 routes, and the dump of links that collectors share.
//! Refuses more routes than fit into the largest dump of `sys/netlink.rs`.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{CollectError, Collector, Names, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::netlink::{self, Attributes, Netlink, Table};
use crate::sys::text;

static INFO: Family = Family::gauge(
    "node_network_route_info",
    "A route; always 1. Of a route over several gateways each has its weight.",
    &["device", "src", "dest", "gw", "priority", "proto", "weight"],
);
static ROUTES: Family = Family::gauge("node_network_routes", "Routes through an interface.", &["device"]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "network_route",
    default_enabled: false,
    flags: &[],
    families: &[&INFO, &ROUTES],
    new: |_| Ok(Box::new(NetworkRoute::default())),
};

#[derive(Default)]
struct NetworkRoute {
    netlink: Netlink,
    counts: Counts,
    text: [String; 3],
}

impl Collector for NetworkRoute {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let NetworkRoute { netlink, counts, text } = self;
        let names = tick.links.names()?;
        let routes = netlink
            .dump(Table::Routes)
            .map_err(|error| CollectError::call("netlink dump of routes", &error))?;
        counts.0.clear();
        for (header, attributes) in routes {
            let Some(route) = Route::parse(header, attributes) else { continue };
            let one = Hop { interface: route.interface, gateway: route.gateway, weight: None };
            match route.hops {
                None => put_hop(&route, &one, names, counts, text, out),
                Some(hops) => {
                    for hop in (Hops { rest: hops }) {
                        put_hop(&route, &hop, names, counts, text, out);
                    }
                }
            }
        }
        for &(interface, count) in &counts.0 {
            out.put(&ROUTES, &[&device_of(names, interface)], count as f64);
        }
        Ok(())
    }
}

/// Routes by the number of the interface, in ascending order; 0 stands for none that is known.
#[derive(Default)]
struct Counts(Vec<(u32, u64)>);

impl Counts {
    fn add(&mut self, interface: u32) {
        match self.0.binary_search_by_key(&interface, |&(interface, _)| interface) {
            Ok(at) => self.0[at].1 += 1,
            Err(at) => self.0.insert(at, (interface, 1)),
        }
    }
}

fn device_of(names: Names<'_>, interface: u32) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(names.of(interface).unwrap_or_default())
}

fn put_hop(
    route: &Route<'_>,
    hop: &Hop,
    names: Names<'_>,
    counts: &mut Counts,
    [source, destination, gateway]: &mut [String; 3],
    out: &mut Recorder,
) {
    for (text, address) in [(&mut *source, route.source), (&mut *gateway, hop.gateway)] {
        text.clear();
        if let Some(address) = address {
            // Writing to a string can't fail.
            let _ = write!(text, "{address}");
        }
    }
    destination.clear();
    match route.destination {
        _ if route.prefix == 0 => destination.push_str("default"),
        Some(address) => drop(write!(destination, "{address}/{}", route.prefix)),
        None => {}
    }
    let priority = text::Decimal::new(u64::from(route.priority));
    let weight = hop.weight.map(|weight| text::Decimal::new(u64::from(weight)));
    let weight = weight.as_ref().map_or("", text::Decimal::as_str);
    let protocol = protocol_name(route.protocol);
    let device = device_of(names, hop.interface);
    let labels = [&*device, source, destination, gateway, priority.as_str(), protocol, weight];
    out.put(&INFO, &labels, 1.0);
    counts.add(if device.is_empty() { 0 } else { hop.interface });
}

struct Route<'a> {
    prefix: u8,
    protocol: u8,
    interface: u32,
    priority: u32,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    gateway: Option<IpAddr>,
    hops: Option<&'a [u8]>,
}

impl<'a> Route<'a> {
    /// `None` for what is not unicast: addresses of our own, broadcast, blackholes.
    fn parse(header: &[u8], attributes: Attributes<'a>) -> Option<Self> {
        // struct rtmsg: family, length of the destination at 1, protocol at 5, type at 7.
        let &[_, prefix, _, _, _, protocol, _, kind, ..] = header else { return None };
        if kind != libc::RTN_UNICAST {
            return None;
        }
        let mut route = Route {
            prefix,
            protocol,
            interface: 0,
            priority: 0,
            source: None,
            destination: None,
            gateway: None,
            hops: None,
        };
        for (kind, content) in attributes {
            match kind {
                libc::RTA_DST => route.destination = parse_address(content),
                libc::RTA_PREFSRC => route.source = parse_address(content),
                libc::RTA_GATEWAY => route.gateway = parse_address(content),
                libc::RTA_OIF => route.interface = netlink::u32_at(content, 0).unwrap_or(0),
                libc::RTA_PRIORITY => route.priority = netlink::u32_at(content, 0).unwrap_or(0),
                libc::RTA_MULTIPATH if !content.is_empty() => route.hops = Some(content),
                _ => {}
            }
        }
        Some(route)
    }
}

fn parse_address(content: &[u8]) -> Option<IpAddr> {
    match content.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(content).ok()?).into()),
        16 => Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(content).ok()?)).to_canonical()),
        _ => None,
    }
}

struct Hop {
    interface: u32,
    gateway: Option<IpAddr>,
    weight: Option<u16>,
}

/// The gateways of a route over several: `struct rtnexthop`, each followed by attributes.
struct Hops<'a> {
    rest: &'a [u8],
}

impl Iterator for Hops<'_> {
    type Item = Hop;

    fn next(&mut self) -> Option<Hop> {
        let length = usize::from(netlink::u16_at(self.rest, 0)?);
        let hop = self.rest.get(..length).filter(|hop| hop.len() >= 8)?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        let mut attributes = Attributes::nested(&hop[8..]);
        let gateway = attributes.find(|&(kind, _)| kind == libc::RTA_GATEWAY);
        Some(Hop {
            interface: netlink::u32_at(hop, 4)?,
            gateway: gateway.and_then(|(_, address)| parse_address(address)),
            weight: Some(u16::from(hop[3]) + 1),
        })
    }
}

/// Who made the route, `RTPROT_*`.
fn protocol_name(protocol: u8) -> &'static str {
    match protocol {
        0 => "unspec",
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        8 => "gated",
        9 => "ra",
        10 => "mrt",
        11 => "zebra",
        12 => "bird",
        13 => "dnrouted",
        14 => "xorp",
        15 => "ntk",
        16 => "dhcp",
        17 => "mrouted",
        42 => "babel",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        189 => "rip",
        192 => "eigrp",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_cut_anywhere_end_the_list() {
        let mut hop = vec![16, 0, 0, 4, 7, 0, 0, 0, 8, 0, 5, 0, 192, 0, 2, 1];
        hop.extend_from_within(..);
        let hops: Vec<Hop> = Hops { rest: &hop }.collect();
        assert_eq!(hops.len(), 2);
        assert_eq!((hops[1].interface, hops[1].weight), (7, Some(5)));
        assert_eq!(hops[1].gateway, Some("192.0.2.1".parse().unwrap()));
        for end in 0..hop.len() {
            assert!(Hops { rest: &hop[..end] }.count() < 2);
        }
        assert_eq!(Hops { rest: &[0; 64] }.count(), 0);
    }

    #[test]
    fn only_unicast_is_a_route() {
        let header = |kind| [2, 24, 0, 0, 254, 3, 0, kind, 0, 0, 0, 0];
        let route = Route::parse(&header(1), Attributes::nested(&[])).unwrap();
        assert_eq!((route.prefix, protocol_name(route.protocol)), (24, "boot"));
        assert!(Route::parse(&header(2), Attributes::nested(&[])).is_none());
        assert!(Route::parse(&header(1)[..7], Attributes::nested(&[])).is_none());
    }

    /// The attributes of a route over two hops.
    fn route() -> Vec<u8> {
        let mut hops = vec![16, 0, 0, 1, 2, 0, 0, 0, 8, 0, 5, 0, 192, 0, 2, 1];
        hops.extend([8, 0, 0, 1, 3, 0, 0, 0]);
        let mut message = Vec::new();
        for (kind, content) in [
            (libc::RTA_DST, &[198, 51, 100, 0][..]),
            (libc::RTA_GATEWAY, &[192, 0, 2, 254]),
            (libc::RTA_PREFSRC, &[0x20; 16]),
            (libc::RTA_PRIORITY, &[0, 2, 0, 0]),
            (libc::RTA_OIF, &[2, 0, 0, 0]),
            (libc::RTA_MULTIPATH, &hops),
        ] {
            crate::sys::genetlink::push_attribute(&mut message, kind, content);
        }
        message
    }

    proptest::proptest! {
        #![proptest_config(crate::sys::bent::inputs())]

        #[test]
        fn bent_routes_give_no_more_than_they_hold(bytes in crate::sys::bent::bent(vec![route()])) {
            let _ = Route::parse(&[2, 24, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0], Attributes::nested(&bytes));
            let hops = Hops { rest: &bytes }.count();
            proptest::prop_assert!(hops <= bytes.len() / 8);
        }
    }
}
