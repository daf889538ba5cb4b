//! Fibre Channel host adapters, from /sys/class/fc_host. Cost a tick: a listing, and about twenty reads for
//! each adapter; its firmware gathers the statistics.

use std::path::Path;

use super::devices::{Devices, Label, Normal, Numbers, families, read_labels, rows, unsigned};
use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::sysfs::Refusal;

static INFO: Family = Family::gauge(
    "node_fibrechannel_info",
    "A Fibre Channel host adapter, what it is, and the state of its port; always 1.",
    &[
        "fc_host",
        "speed",
        "port_state",
        "port_type",
        "port_id",
        "port_name",
        "fabric_name",
        "symbolic_name",
        "supported_classes",
        "supported_speeds",
        "dev_loss_tmo",
    ],
);

/// Attributes in the order of the labels, and whether they stay as they are.
const LABELS: [(&str, bool); 10] = [
    ("speed", false),
    ("port_state", false),
    ("port_type", false),
    ("port_id", false),
    ("port_name", true),
    ("fabric_name", false),
    ("symbolic_name", false),
    ("supported_classes", true),
    ("supported_speeds", true),
    ("dev_loss_tmo", false),
];

rows! { COUNTERS &["fc_host"];
    counter "dumped_frames" "node_fibrechannel_dumped_frames_total" unsigned, "Frames given up for want of a buffer.";
    counter "error_frames" "node_fibrechannel_error_frames_total" unsigned, "Frames received with an error.";
    counter "invalid_crc_count" "node_fibrechannel_invalid_crc_total" unsigned, "Frames received with a wrong checksum.";
    counter "rx_frames" "node_fibrechannel_rx_frames_total" unsigned, "Frames received.";
    counter "rx_words" "node_fibrechannel_rx_words_total" unsigned, "Words (of four bytes) received.";
    counter "tx_frames" "node_fibrechannel_tx_frames_total" unsigned, "Frames sent.";
    counter "tx_words" "node_fibrechannel_tx_words_total" unsigned, "Words (of four bytes) sent.";
    counter "seconds_since_last_reset" "node_fibrechannel_seconds_since_last_reset_total" unsigned, "Time since the statistics were reset, in seconds.";
    counter "invalid_tx_word_count" "node_fibrechannel_invalid_tx_words_total" unsigned, "Transmission words that were not valid.";
    counter "link_failure_count" "node_fibrechannel_link_failure_total" unsigned, "Times that the link failed.";
    counter "loss_of_sync_count" "node_fibrechannel_loss_of_sync_total" unsigned, "Times that the port lost synchronization.";
    counter "loss_of_signal_count" "node_fibrechannel_loss_of_signal_total" unsigned, "Times that the port lost the signal.";
    counter "nos_count" "node_fibrechannel_nos_total" unsigned, "Not-operational sequences (NOS) received.";
    counter "fcp_packet_aborts" "node_fibrechannel_fcp_packet_aborts_total" unsigned, "SCSI commands (FCP packets) aborted.";
}

pub(super) static COLLECTOR: Registration = Registration {
    name: "fibrechannel",
    default_enabled: true,
    flags: &[],
    families: &families::<15>(&[COUNTERS], &[&INFO]),
    new: |setup| Ok(Box::new(FibreChannel { devices: Devices::new(setup.paths.sys("class/fc_host")) })),
};

/// Some statistics can't be read from some adapters; those that a firmware does not count are all ones.
const NORMAL: Normal =
    Normal { refusals: &[Refusal::Unsupported, Refusal::Invalid], texts: &["0xffffffffffffffff"] };

struct FibreChannel {
    devices: Devices<Host>,
}

struct Host {
    name: String,
    labels: [Label; 10],
    counters: Numbers,
}

impl Collector for FibreChannel {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        for Host { name, labels, counters } in self.devices.refresh(Host::new)? {
            if read_labels(&mut *labels, &NORMAL, tick, &mut faults) {
                let [speed, state, kind, id, port, fabric, symbolic, classes, speeds, loss] =
                    labels.each_ref().map(Label::text);
                let [id, port, fabric] = [id, port, fabric].map(bare_hex);
                let labels = [name, speed, state, kind, id, port, fabric, symbolic, classes, speeds, loss];
                out.put(&INFO, &labels, 1.0);
            }
            counters.put(&[name], &NORMAL, tick, out, &mut faults);
        }
        faults.finish()
    }
}

impl Host {
    #[expect(clippy::unnecessary_wraps, reason = "as Devices::refresh calls it")]
    fn new(name: &str, folder: &Path) -> Option<Self> {
        Some(Host {
            name: name.to_owned(),
            labels: LABELS.map(|(file, is_fixed)| Label::new(folder.join(file), is_fixed)),
            counters: Numbers::new(COUNTERS, &folder.join("statistics")),
        })
    }
}

/// `0x000002` -> `000002`.
fn bare_hex(number: &str) -> &str {
    number.get(2..).filter(|rest| !rest.is_empty()).unwrap_or(number)
}
