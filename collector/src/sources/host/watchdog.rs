//! Watchdog timers, from /sys/class/watchdog. Cost a tick: a listing, and a read for each attribute of each
//! watchdog, of which there are at most ten.

use std::path::Path;

use super::devices::{Devices, Label, Normal, Numbers, families, read_labels, rows, signed};
use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::sysfs::Refusal;

static INFO: Family = Family::gauge(
    "node_watchdog_info",
    "A watchdog timer, how it is set, and its state; always 1.",
    &["name", "options", "identity", "state", "status", "pretimeout_governor"],
);

rows! { NUMBERS &["name"];
    gauge "bootstatus" "node_watchdog_bootstatus" signed, "What the watchdog says of the last boot, as flags.";
    gauge "fw_version" "node_watchdog_fw_version" signed, "Version of the watchdog's firmware.";
    gauge "nowayout" "node_watchdog_nowayout" signed, "Whether the watchdog, once started, can't be stopped: 1 if so, 0 if not.";
    gauge "timeleft" "node_watchdog_timeleft_seconds" signed, "Time until the watchdog resets the host, in seconds.";
    gauge "timeout" "node_watchdog_timeout_seconds" signed, "Time that the watchdog waits for a sign of life, in seconds.";
    gauge "pretimeout" "node_watchdog_pretimeout_seconds" signed, "How long before the reset the watchdog warns, in seconds.";
    gauge "access_cs0" "node_watchdog_access_cs0" signed, "Whether the watchdog boots from the other flash chip after a reset.";
}

pub(super) static COLLECTOR: Registration = Registration {
    name: "watchdog",
    default_enabled: true,
    flags: &[],
    families: &families::<8>(&[NUMBERS], &[&INFO]),
    new: |setup| Ok(Box::new(Watchdogs { devices: Devices::new(setup.paths.sys("class/watchdog")) })),
};

struct Watchdogs {
    devices: Devices<Watchdog>,
}

/// A driver answers EOPNOTSUPP to what its device lacks.
const NORMAL: Normal = Normal { refusals: &[Refusal::Unsupported], texts: &[] };

struct Watchdog {
    name: String,
    /// options, identity, state, status, pretimeout_governor
    labels: [Label; 5],
    numbers: Numbers,
}

impl Collector for Watchdogs {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        for watchdog in self.devices.refresh(Watchdog::new)? {
            let Watchdog { name, labels, numbers } = watchdog;
            numbers.put(&[name], &NORMAL, tick, out, &mut faults);
            if read_labels(&mut *labels, &NORMAL, tick, &mut faults) {
                let [options, identity, state, status, governor] = labels.each_ref().map(Label::text);
                out.put(&INFO, &[name, options, identity, state, status, governor], 1.0);
            }
        }
        faults.finish()
    }
}

impl Watchdog {
    #[expect(clippy::unnecessary_wraps, reason = "as Devices::refresh calls it")]
    fn new(name: &str, folder: &Path) -> Option<Self> {
        let label = |file| Label::changing(folder.join(file));
        Some(Watchdog {
            name: name.to_owned(),
            labels: [
                label("options"),
                Label::fixed(folder.join("identity")),
                label("state"),
                label("status"),
                label("pretimeout_governor"),
            ],
            numbers: Numbers::new(NUMBERS, folder),
        })
    }
}
