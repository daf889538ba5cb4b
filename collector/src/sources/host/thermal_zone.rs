//! Temperatures of thermal zones and states of cooling devices, from /sys/class/thermal.
//! Cost a tick: a listing, and two reads for each zone and each cooling device.
//!
//! A zone that is disabled, or whose driver has no value at the moment, is passed over.

use std::path::Path;

use super::devices::{
    Devices, Label, Normal, Numbers, families, number_after, read_labels, read_number, rows, signed,
};
use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::sysfs::{Attribute, Refusal};

static TEMPERATURE: Family = Family::gauge(
    "node_thermal_zone_temp",
    "Temperature of a thermal zone in degrees Celsius.",
    &["zone", "type"],
);

rows! { STATES &["name", "type"];
    gauge "cur_state" "node_cooling_device_cur_state" signed, "How hard a cooling device works now.";
    gauge "max_state" "node_cooling_device_max_state" signed, "How hard a cooling device can work.";
}

pub(super) static COLLECTOR: Registration = Registration {
    name: "thermal_zone",
    default_enabled: true,
    flags: &[],
    families: &families::<3>(&[STATES], &[&TEMPERATURE]),
    new: |setup| Ok(Box::new(Thermal { devices: Devices::new(setup.paths.sys("class/thermal")) })),
};

const NORMAL: Normal = Normal { refusals: &[Refusal::NoData, Refusal::NotNow, Refusal::Denied], texts: &[] };

struct Thermal {
    devices: Devices<Device>,
}

struct Device {
    /// What follows `thermal_zone` or `cooling_device`.
    number: String,
    kind: Label,
    reading: Reading,
}

enum Reading {
    Zone { mode: Attribute, temperature: Attribute },
    Cooling(Numbers),
}

impl Collector for Thermal {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        // Many virtual machines have none.
        let devices = self.devices.refresh_if_any(Device::new)?;
        let mut faults = Faults::default();
        for Device { number, kind, reading } in devices {
            if !read_labels([&mut *kind], &NORMAL, tick, &mut faults) {
                continue;
            }
            let kind = kind.text();
            match reading {
                Reading::Zone { mode, temperature } => {
                    let is_disabled = matches!(mode.read(&mut tick.buffer), Ok(Some(b"disabled")));
                    if is_disabled {
                        continue;
                    }
                    let value = read_number(temperature, thousandths, &NORMAL, tick, &mut faults);
                    if let Some(value) = value {
                        out.put(&TEMPERATURE, &[number, kind], value);
                    }
                }
                Reading::Cooling(states) => states.put(&[number, kind], &NORMAL, tick, out, &mut faults),
            }
        }
        faults.finish()
    }
}

impl Device {
    fn new(name: &str, folder: &Path) -> Option<Self> {
        let (number, reading) = if let Some(number) = number_after(name, "thermal_zone") {
            let [mode, temperature] = ["mode", "temp"].map(|file| Attribute::new(folder.join(file)));
            (number, Reading::Zone { mode, temperature })
        } else {
            (number_after(name, "cooling_device")?, Reading::Cooling(Numbers::new(STATES, folder)))
        };
        Some(Device { number: number.to_owned(), kind: Label::fixed(folder.join("type")), reading })
    }
}

fn thousandths(word: &[u8]) -> Option<f64> {
    signed(word).map(|number| number / 1000.0)
}
