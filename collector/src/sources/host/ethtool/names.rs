//! The names of a driver's statistics as families: what Prometheus does not take becomes `_`, `rx` and `tx` are
//! written out, and of names that become the same none is given.

use hashbrown::HashMap;
use regex::Regex;

use crate::model::Family;
use crate::sys::ethtool::NAME_SIZE;
use crate::sys::netlink;

const LABELS: &[&str] = &["device"];

/// Statistics whose families end in `_total`.
pub(super) static KNOWN: [(&str, Family); 7] = [
    (
        "rx_bytes",
        Family::untyped("node_ethtool_received_bytes_total", "Bytes received, by the driver.", LABELS),
    ),
    (
        "rx_dropped",
        Family::untyped(
            "node_ethtool_received_dropped_total",
            "Received frames dropped, by the driver.",
            LABELS,
        ),
    ),
    (
        "rx_errors",
        Family::untyped("node_ethtool_received_errors_total", "Frames received with an error.", LABELS),
    ),
    (
        "rx_packets",
        Family::untyped("node_ethtool_received_packets_total", "Packets received, by the driver.", LABELS),
    ),
    (
        "tx_bytes",
        Family::untyped("node_ethtool_transmitted_bytes_total", "Bytes sent, by the driver.", LABELS),
    ),
    (
        "tx_errors",
        Family::untyped("node_ethtool_transmitted_errors_total", "Frames that could not be sent.", LABELS),
    ),
    (
        "tx_packets",
        Family::untyped("node_ethtool_transmitted_packets_total", "Packets sent, by the driver.", LABELS),
    ),
];

pub(super) static ANY: Family = Family::untyped(
    "node_ethtool_*",
    "A statistic of the driver of a network device, under the driver's own name.",
    LABELS,
);

/// A statistic that is given: where it stands among those of its device, and as what.
pub(super) struct Statistic {
    pub(super) position: usize,
    pub(super) target: Target,
}

pub(super) enum Target {
    Known(&'static Family),
    Named {
        /// Without `node_ethtool_`.
        family: String,
        original: String,
    },
}

pub(super) struct Naming {
    wanted: Regex,
    refused: Regex,
    received: Regex,
    transmitted: Regex,
}

impl Naming {
    /// `wanted` is compared with names in which what is refused has been replaced.
    pub(super) fn new(wanted: Regex) -> Self {
        let compile = |pattern| Regex::new(pattern).expect("a pattern of our own");
        Naming {
            wanted,
            refused: compile("_*[^0-9A-Za-z_]+_*"),
            received: compile("(^|_)rx(_|$)"),
            transmitted: compile("(^|_)tx(_|$)"),
        }
    }

    /// Reads `names`, [`NAME_SIZE`] bytes each, into `statistics`, which is emptied first.
    pub(super) fn name(&self, names: &[u8], statistics: &mut Vec<Statistic>) {
        statistics.clear();
        let mut families: HashMap<String, usize> = HashMap::new();
        let mut found = Vec::new();
        for (position, name) in names.chunks_exact(NAME_SIZE).enumerate() {
            let name = String::from_utf8_lossy(netlink::string(name));
            let name = self.refused.replace_all(&name, "_").into_owned();
            if !self.wanted.is_match(&name) {
                continue;
            }
            let family = self.family(&name);
            *families.entry_ref(&family).or_default() += 1;
            found.push((position, name, family));
        }
        found.retain(|(_, _, family)| families[family] == 1);
        statistics.extend(found.into_iter().map(|(position, original, family)| {
            let known = KNOWN.iter().find(|(name, _)| *name == original);
            let named = Target::Named { family, original };
            Statistic { position, target: known.map_or(named, |(_, family)| Target::Known(family)) }
        }));
    }

    fn family(&self, name: &str) -> String {
        let name = name.to_lowercase();
        let name = self.received.replace_all(name.trim_start_matches('_'), "${1}received${2}");
        self.transmitted.replace_all(&name, "${1}transmitted${2}").into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families(pattern: &str, names: &[&str]) -> Vec<(usize, String)> {
        let mut bytes = Vec::new();
        for name in names {
            let mut padded = [0; NAME_SIZE];
            padded[..name.len()].copy_from_slice(name.as_bytes());
            bytes.extend(padded);
        }
        let mut statistics = Vec::new();
        Naming::new(Regex::new(pattern).unwrap()).name(&bytes, &mut statistics);
        let name = |statistic: Statistic| match statistic.target {
            Target::Known(family) => (statistic.position, family.name.to_owned()),
            Target::Named { family, .. } => (statistic.position, family),
        };
        statistics.into_iter().map(name).collect()
    }

    #[test]
    fn names_become_families() {
        for (name, family) in [
            ("port.rx_errors", "port_received_errors"),
            ("Queue[0] AllocFails", "queue_0_allocfails"),
            ("Tx LPI entry count", "transmitted_lpi_entry_count"),
            ("port.VF_admin_queue_requests", "port_vf_admin_queue_requests"),
            ("[3]: tx_bytes", "3_transmitted_bytes"),
            ("     err", "err"),
            ("rx_queue_0_tx", "received_queue_0_transmitted"),
            ("prefix_rxq", "prefix_rxq"),
            ("rx_errors", "node_ethtool_received_errors_total"),
        ] {
            assert_eq!(families(".*", &[name]), [(0, family.to_owned())], "{name}");
        }
    }

    #[test]
    fn names_that_become_the_same_are_left_out_all() {
        let names = ["a b", "ok", "a_b", "a.b", "A_B"];
        assert_eq!(families(".*", &names), [(1, "ok".to_owned())]);
        // Those that are not wanted are in nobody's way.
        assert_eq!(families("^(ok|A_B)$", &names), [(1, "ok".to_owned()), (4, "a_b".to_owned())]);
    }
}
