//! The load balancer of the kernel, from /proc/net/ip_vs_stats and /proc/net/ip_vs (ipvsadm(8)).
//! Cost a tick: three reads or more. Without the kernel module there is nothing to read.

mod backends;

use backends::{Backends, LABELS};

use super::error::Faults;
use super::{CollectError, Collector, Flag, FlagDefault, Registration, SetupError, Tick, tables};
use crate::model::{Dynamic, Family, Kind, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

const LABELS_FLAG: &str = "collector.ipvs.backend-labels";
const ALL_LABELS: &str = "local_address,local_port,remote_address,remote_port,proto,local_mark";

macro_rules! totals {
    ($($name:literal, $help:literal;)*) => {
        /// The numbers of the third line of ip_vs_stats, in their order.
        static TOTALS: [((), Family); 5] =
            [$(((), Family::counter(concat!("node_ipvs_", $name), $help, &[]))),*];
    };
}

totals! {
    "connections_total", "Connections that were balanced.";
    "incoming_packets_total", "Packets from clients.";
    "outgoing_packets_total", "Packets from servers.";
    "incoming_bytes_total", "Bytes from clients.";
    "outgoing_bytes_total", "Bytes from servers.";
}

macro_rules! backends {
    ($($name:literal, $help:literal;)*) => {
        /// The numbers of a server, in the order of [`backends::Sums`].
        static BACKENDS: [((), Family); 3] =
            [$(((), Family::gauge(concat!("node_ipvs_backend_", $name), $help, &LABELS))),*];
    };
}

backends! {
    "weight", "Weight of a server behind a virtual service.";
    "connections_active", "Established connections of a server behind a virtual service.";
    "connections_inactive", "Other connections of a server behind a virtual service.";
}

static FAMILIES: [&Family; 8] = tables::join(&[&tables::families(&TOTALS), &tables::families(&BACKENDS)]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "ipvs",
    default_enabled: true,
    flags: &[Flag::new(
        LABELS_FLAG,
        FlagDefault::Text(ALL_LABELS),
        "Labels of the servers, separated by commas; servers that no label tells apart are added up.",
    )],
    families: &FAMILIES,
    new: |setup| {
        let labels = parse_labels(setup.flags.text(LABELS_FLAG)).map_err(SetupError::of("ipvs"))?;
        Ok(Box::new(Ipvs {
            stats: KeptFile::whole(setup.paths.proc("net/ip_vs_stats")),
            // A record is a service with all of its servers: the end is proved by one more read.
            services: KeptFile::new(setup.paths.proc("net/ip_vs")),
            backends: Backends::new(labels),
        }))
    },
};

/// Which of [`LABELS`] are wanted.
fn parse_labels(text: &str) -> Result<[bool; LABELS.len()], String> {
    let mut wanted = [false; LABELS.len()];
    for label in text.split(',').filter(|label| !label.is_empty()) {
        let at = LABELS.iter().position(|known| *known == label);
        wanted[at.ok_or_else(|| format!("unknown IPVS backend label: {label:?}"))?] = true;
    }
    Ok(wanted)
}

struct Ipvs {
    stats: KeptFile,
    services: KeptFile,
    backends: Backends,
}

impl Collector for Ipvs {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let text = self.stats.read(&mut tick.buffer).map_err(CollectError::absent_is_no_data)?;
        let totals = parse_totals(text).ok_or_else(|| {
            let expected = "expected five hexadecimal numbers";
            CollectError::malformed(self.stats.path(), 3, expected)
        })?;
        for ((_, family), total) in TOTALS.iter().zip(totals) {
            out.put(family, &[], total as f64);
        }
        let text = self.services.read(&mut tick.buffer)?;
        let mut faults = Faults::default();
        if let Err((line, expected)) = self.backends.refresh(text, &mut tick.scratch) {
            faults.note(|| CollectError::malformed(self.services.path(), line, expected));
        }
        self.backends.for_each(|labels, sums| {
            for ((_, family), sum) in BACKENDS.iter().zip(sums) {
                let sample = Dynamic {
                    name: &[family.name],
                    suffix: "",
                    help: &[family.help],
                    kind: Kind::Gauge,
                    labels,
                };
                out.put_dynamic(&sample, *sum as f64);
            }
        });
        faults.finish()
    }
}

/// The numbers of the third line.
fn parse_totals(text: &[u8]) -> Option<[u64; 5]> {
    let mut words = text::words(text::ended_lines(text).nth(2)?);
    let mut totals = [0; 5];
    for total in &mut totals {
        *total = text::parse_hex(words.next()?)?;
    }
    words.next().is_none().then_some(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_known_ones() {
        assert_eq!(parse_labels(ALL_LABELS), Ok([true; 6]));
        assert_eq!(parse_labels("proto,,"), Ok([false, false, false, false, true, false]));
        assert!(parse_labels("proto,port").unwrap_err().contains("\"port\""));
    }

    #[test]
    fn totals_are_in_the_third_line() {
        let text = b"   Total\n   Conns\n 16AA370 E33656E5        0     51D8C8883AB3                0\n\n";
        let totals = [0x16A_A370, 0xE336_56E5, 0, 0x51D8_C888_3AB3, 0];
        assert_eq!(parse_totals(text), Some(totals));
        assert_eq!(parse_totals(b"\n\n 1 2 3 4\n"), None);
        assert_eq!(parse_totals(b"\n\n 1 2 3 4 5"), None);
    }
}
