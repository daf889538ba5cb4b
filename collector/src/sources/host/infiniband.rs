//! Ports of InfiniBand and RDMA devices, from /sys/class/infiniband. Cost a tick: a listing, and a read for
//! each counter that a port has, about twenty.

mod counters;

use std::path::Path;

use counters::{COUNTERS, EXTENDED};

use super::devices::{
    Devices, Label, Normal, Numbers, Row, families, number_after, read_labels, read_required, rows,
};
use super::error::Faults;
use super::{CollectError, Collector, Filter, Flag, Registration, SetupError, Tick};
use crate::model::{Family, Recorder};
use crate::sys::sysfs::Refusal;
use crate::sys::text;

const INCLUDE_FLAG: &str = "collector.infiniband.device-include";
const EXCLUDE_FLAG: &str = "collector.infiniband.device-exclude";

static INFO: Family = Family::gauge(
    "node_infiniband_info",
    "An InfiniBand or RDMA device and its firmware; always 1.",
    &["device", "board_id", "firmware_version", "hca_type"],
);

rows! { STATE &["device", "port"];
    gauge "state" "node_infiniband_state_id" state_number, "State of the port: 1 down, 2 initializing, 3 armed, 4 active, 5 active but deferred.";
    gauge "phys_state" "node_infiniband_physical_state_id" state_number, "Physical state of the port: 1 sleeping, 2 polling, 3 disabled, 4 training, 5 link up, 6 recovering from errors, 7 testing.";
    gauge "rate" "node_infiniband_rate_bytes_per_second" rate, "Rate of the port in bytes per second.";
}

pub(super) static COLLECTOR: Registration = Registration {
    name: "infiniband",
    default_enabled: true,
    flags: &[Flag::include(INCLUDE_FLAG), Flag::exclude(EXCLUDE_FLAG)],
    families: &families::<28>(&[STATE, COUNTERS, EXTENDED], &[&INFO]),
    new: |setup| {
        let filter = Filter::from_flags(setup.flags, (INCLUDE_FLAG, ""), (EXCLUDE_FLAG, ""))
            .map_err(SetupError::of("infiniband"))?;
        Ok(Box::new(Infiniband { devices: Devices::new(setup.paths.sys("class/infiniband")), filter }))
    },
};

/// What some drivers and firmwares say of counters that they do not have.
const NORMAL: Normal =
    Normal { refusals: &[Refusal::Denied, Refusal::Unsupported, Refusal::Invalid], texts: &["N/A (no PMA)"] };

struct Infiniband {
    devices: Devices<Device>,
    filter: Filter,
}

struct Device {
    name: String,
    firmware: Label,
    /// board_id, hca_type
    labels: [Label; 2],
    ports: Devices<Port>,
}

struct Port {
    number: String,
    state: Numbers,
    /// Since Linux 4.5 all counters; before it those of 64 bits were elsewhere.
    counters: [Numbers; 2],
}

impl Collector for Infiniband {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        let filter = &mut self.filter;
        let make = |name: &str, folder: &Path| (!filter.ignores(name)).then(|| Device::new(name, folder));
        for Device { name, firmware, labels, ports } in self.devices.refresh(make)? {
            if read_required([&mut *firmware], tick, &mut faults)
                && read_labels(&mut *labels, &Normal::NEVER, tick, &mut faults)
            {
                let [board, kind] = labels.each_ref().map(Label::text);
                out.put(&INFO, &[name, board, firmware.text(), kind], 1.0);
            }
            let ports = match ports.refresh_seldom(|port, folder| Port::new(name, port, folder)) {
                Ok(ports) => ports,
                Err(error) => {
                    faults.note(|| error);
                    continue;
                }
            };
            for Port { number, state, counters } in ports {
                state.put(&[name, number], &Normal::NEVER, tick, out, &mut faults);
                for counters in counters {
                    counters.put(&[name, number], &NORMAL, tick, out, &mut faults);
                }
            }
        }
        faults.finish()
    }
}

impl Device {
    fn new(name: &str, folder: &Path) -> Self {
        Device {
            name: name.to_owned(),
            firmware: Label::changing(folder.join("fw_ver")),
            labels: ["board_id", "hca_type"].map(|file| Label::fixed(folder.join(file))),
            ports: Devices::new(folder.join("ports")),
        }
    }
}

impl Port {
    fn new(device: &str, number: &str, folder: &Path) -> Option<Self> {
        // Intel's irdma has no such counters.
        let table = |table: &'static [Row]| if device.starts_with("irdma") { &[] } else { table };
        Some(Port {
            number: number_after(number, "")?.to_owned(),
            state: Numbers::new(STATE, folder),
            counters: [
                Numbers::new(table(COUNTERS), &folder.join("counters")),
                Numbers::new(table(EXTENDED), &folder.join("counters_ext")),
            ],
        })
    }
}

/// `4: ACTIVE` -> 4.
fn state_number(word: &[u8]) -> Option<f64> {
    let end = word.iter().position(|&byte| byte == b':')?;
    text::parse_u64(text::trim(&word[..end])).map(|number| number as f64)
}

/// `40 Gb/sec (4X QDR)`, in bytes per second.
fn rate(word: &[u8]) -> Option<f64> {
    let mut words = text::words(word);
    let gigabits = text::parse_f64(words.next()?).filter(|rate| rate.is_finite() && *rate >= 0.0)?;
    words.next()?;
    Some((gigabits * 125_000_000.0).trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_rates() {
        assert_eq!(state_number(b"4: ACTIVE"), Some(4.0));
        assert_eq!((state_number(b"ACTIVE"), state_number(b"x: ACTIVE")), (None, None));
        assert_eq!(rate(b"2.5 Gb/sec (1X SDR)"), Some(312_500_000.0));
        assert_eq!((rate(b"40"), rate(b"inf Gb/sec"), rate(b"")), (None, None, None));
    }
}
