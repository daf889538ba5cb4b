//! Traffic and queues of the queueing disciplines at the root of each interface, from a dump of rtnetlink(7).
//! Cost a tick: two system calls, one for every 100 disciplines, and the dump of links that collectors share.
//! With the flag `fixtures`, from a file.

use std::path::Path;

use serde::Deserialize;

use super::fixture::Fixture;
use super::{CollectError, Collector, Filter, Flag, FlagDefault, Registration, SetupError, Tick};
use crate::model::{Family, Recorder};
use crate::sys::netlink::{self, Attributes, Netlink, Table};

const FIXTURES_FLAG: &str = "collector.qdisc.fixtures";
const INCLUDE_FLAG: &str = "collector.qdisc.device-include";
const EXCLUDE_FLAG: &str = "collector.qdisc.device-exclude";
const OLD_INCLUDE_FLAG: &str = "collector.qdisk.device-include";
const OLD_EXCLUDE_FLAG: &str = "collector.qdisk.device-exclude";

const LABELS: &[&str] = &["device", "kind"];

/// In the order of [`Qdisc::counters`].
static FAMILIES: [Family; 7] = [
    Family::counter("node_qdisc_bytes_total", "Bytes sent through the queueing discipline.", LABELS),
    Family::counter("node_qdisc_packets_total", "Packets sent through the queueing discipline.", LABELS),
    Family::counter("node_qdisc_drops_total", "Packets that the queueing discipline dropped.", LABELS),
    Family::counter(
        "node_qdisc_requeues_total",
        "Packets taken back that the device could not send.",
        LABELS,
    ),
    Family::counter("node_qdisc_overlimits_total", "Packets that came faster than they may be sent.", LABELS),
    Family::gauge("node_qdisc_current_queue_length", "Packets that wait to be sent.", LABELS),
    Family::gauge("node_qdisc_backlog", "Bytes that wait to be sent.", LABELS),
];

pub(super) static COLLECTOR: Registration = Registration {
    name: "qdisc",
    default_enabled: false,
    flags: &[
        Flag::new(FIXTURES_FLAG, FlagDefault::Text(""), "Folder of a results.json to read, for tests."),
        Flag::include(INCLUDE_FLAG),
        Flag::exclude(EXCLUDE_FLAG),
        Flag::alias(OLD_INCLUDE_FLAG, INCLUDE_FLAG),
        Flag::alias(OLD_EXCLUDE_FLAG, EXCLUDE_FLAG),
    ],
    families: &[
        &FAMILIES[0],
        &FAMILIES[1],
        &FAMILIES[2],
        &FAMILIES[3],
        &FAMILIES[4],
        &FAMILIES[5],
        &FAMILIES[6],
    ],
    new: |setup| {
        let filter = Filter::from_flags(
            setup.flags,
            (INCLUDE_FLAG, OLD_INCLUDE_FLAG),
            (EXCLUDE_FLAG, OLD_EXCLUDE_FLAG),
        );
        let source = match setup.flags.text(FIXTURES_FLAG) {
            "" => Source::Netlink(Netlink::new()),
            folder => Source::Fixture(Fixture::new(Path::new(folder).join("results.json"))),
        };
        Ok(Box::new(Qdiscs { filter: filter.map_err(SetupError::of("qdisc"))?, source }))
    },
};

struct Qdiscs {
    filter: Filter,
    source: Source,
}

enum Source {
    Netlink(Netlink),
    Fixture(Fixture<Vec<Qdisc<String>>>),
}

/// A queueing discipline, as a fixture writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Qdisc<T> {
    iface_name: T,
    kind: T,
    parent: u32,
    bytes: u64,
    packets: u64,
    drops: u32,
    requeues: u32,
    overlimits: u32,
    qlen: u32,
    backlog: u32,
}

impl Collector for Qdiscs {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let Qdiscs { filter, source } = self;
        match source {
            Source::Netlink(netlink) => {
                let names = tick.links.names()?;
                let messages = netlink
                    .dump(Table::Qdiscs)
                    .map_err(|error| CollectError::call("netlink dump of queueing disciplines", &error))?;
                for (header, attributes) in messages {
                    let Some((interface, qdisc)) = parse_qdisc(header, attributes) else { continue };
                    // An interface that comes just now is there in the next tick.
                    let Some(name) = names.of(interface) else { continue };
                    qdisc.put(filter, &String::from_utf8_lossy(name), out);
                }
            }
            Source::Fixture(fixture) => {
                for qdisc in fixture.read(&mut tick.buffer)? {
                    qdisc.put(filter, &qdisc.iface_name, out);
                }
            }
        }
        Ok(())
    }
}

impl<T: AsRef<str>> Qdisc<T> {
    /// Only those at the root are given: they count what the others count too.
    fn put(&self, filter: &mut Filter, device: &str, out: &mut Recorder) {
        if self.parent != 0 || filter.ignores(device) {
            return;
        }
        for (family, value) in FAMILIES.iter().zip(self.counters()) {
            out.put(family, &[device, self.kind.as_ref()], value);
        }
    }

    fn counters(&self) -> [f64; 7] {
        let small = [self.drops, self.requeues, self.overlimits, self.qlen, self.backlog];
        let [drops, requeues, overlimits, length, backlog] = small.map(f64::from);
        [self.bytes as f64, self.packets as f64, drops, requeues, overlimits, length, backlog]
    }
}

const TCA_KIND: u16 = 1;
const TCA_STATS: u16 = 3;
const TCA_STATS2: u16 = 7;
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_STATS_PKT64: u16 = 8;
/// The parent of what is at the root.
const TC_H_ROOT: u32 = u32::MAX;

/// The number of the interface, and the queueing discipline.
fn parse_qdisc<'a>(header: &[u8], attributes: Attributes<'a>) -> Option<(u32, Qdisc<&'a str>)> {
    // struct tcmsg: family, padding, ifindex at 4, handle at 8, parent at 12.
    let interface = netlink::u32_at(header, 4)?;
    let parent = netlink::u32_at(header, 12).map(|parent| if parent == TC_H_ROOT { 0 } else { parent })?;
    let mut qdisc = Qdisc { parent, ..Qdisc::default() };
    let mut has_modern = false;
    for (kind, content) in attributes {
        match kind {
            TCA_KIND => qdisc.kind = std::str::from_utf8(netlink::string(content)).unwrap_or_default(),
            TCA_STATS2 => {
                has_modern = true;
                qdisc.take_statistics(content);
            }
            TCA_STATS if !has_modern => qdisc.take_old_statistics(content),
            _ => {}
        }
    }
    Some((interface, qdisc))
}

impl Qdisc<&str> {
    fn take_statistics(&mut self, content: &[u8]) {
        let mut packets64 = None;
        for (kind, content) in Attributes::nested(content) {
            let number = |offset| netlink::u32_at(content, offset).unwrap_or(0);
            match kind {
                TCA_STATS_BASIC => {
                    self.bytes = netlink::u64_at(content, 0).unwrap_or(0);
                    self.packets = u64::from(number(8));
                }
                // Only where 32 bits are too few.
                TCA_STATS_PKT64 => packets64 = netlink::u64_at(content, 0),
                TCA_STATS_QUEUE => {
                    let fields = [
                        &mut self.qlen,
                        &mut self.backlog,
                        &mut self.drops,
                        &mut self.requeues,
                        &mut self.overlimits,
                    ];
                    fields.into_iter().enumerate().for_each(|(n, field)| *field = number(n * 4));
                }
                _ => {}
            }
        }
        self.packets = packets64.unwrap_or(self.packets);
    }

    /// `struct tc_stats`, of a kernel that knows no other.
    fn take_old_statistics(&mut self, content: &[u8]) {
        let number = |offset| netlink::u32_at(content, offset).unwrap_or(0);
        self.bytes = netlink::u64_at(content, 0).unwrap_or(0);
        self.packets = u64::from(number(8));
        (self.drops, self.overlimits) = (number(12), number(16));
        (self.qlen, self.backlog) = (number(28), number(32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::genetlink::push_attribute;

    #[test]
    fn modern_statistics_come_before_old_ones() {
        let mut nested = Vec::new();
        let basic = [&7u64.to_ne_bytes()[..], &3u32.to_ne_bytes()].concat();
        push_attribute(&mut nested, TCA_STATS_PKT64, &(1u64 << 40).to_ne_bytes());
        push_attribute(&mut nested, TCA_STATS_BASIC, &basic);
        let queue: Vec<u8> = (1..=5u32).flat_map(u32::to_ne_bytes).collect();
        push_attribute(&mut nested, TCA_STATS_QUEUE, &queue);
        let mut message = Vec::new();
        push_attribute(&mut message, TCA_KIND, b"fq_codel\0");
        push_attribute(&mut message, TCA_STATS2, &nested);
        push_attribute(&mut message, TCA_STATS, &[1; 36]);
        let mut header = [0; 20];
        header[4..8].copy_from_slice(&9u32.to_ne_bytes());
        header[12..16].fill(0xff);
        let (interface, qdisc) = parse_qdisc(&header, Attributes::nested(&message)).unwrap();
        assert_eq!((interface, qdisc.kind, qdisc.parent), (9, "fq_codel", 0));
        assert_eq!(qdisc.counters(), [7.0, (1u64 << 40) as f64, 3.0, 4.0, 5.0, 1.0, 2.0]);
        let old = &message[message.len() - 40..];
        let (_, qdisc) = parse_qdisc(&header, Attributes::nested(old)).unwrap();
        assert_eq!(qdisc.counters()[1..3], [f64::from(0x0101_0101), f64::from(0x0101_0101)]);
    }

    fn message() -> Vec<u8> {
        let mut nested = Vec::new();
        push_attribute(&mut nested, TCA_STATS_BASIC, &[7; 16]);
        push_attribute(&mut nested, TCA_STATS_QUEUE, &[8; 20]);
        push_attribute(&mut nested, TCA_STATS_PKT64, &[9; 8]);
        let mut message = Vec::new();
        push_attribute(&mut message, TCA_KIND, b"fq_codel\0");
        push_attribute(&mut message, TCA_STATS2, &nested);
        push_attribute(&mut message, TCA_STATS, &[1; 36]);
        message
    }

    proptest::proptest! {
        #![proptest_config(crate::sys::bent::inputs())]

        #[test]
        fn bent_messages_give_numbers_or_nothing(bytes in crate::sys::bent::bent(vec![message()])) {
            if let Some((_, qdisc)) = parse_qdisc(&[0; 20], Attributes::nested(&bytes)) {
                proptest::prop_assert!(qdisc.kind.len() <= bytes.len());
                proptest::prop_assert!(qdisc.counters().iter().all(|value| value.is_finite()));
            }
        }
    }
}
