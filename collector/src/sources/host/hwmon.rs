//! Sensors of the hardware, from /sys/class/hwmon: temperatures, voltages, fans and the like.
//! Cost a tick: a listing of the chips, and a read for each file of a sensor; some drivers ask the hardware
//! over a slow bus. What files a chip has is looked up when chips come or go, and every sixtieth tick.
//!
//! A file that can't be read, or holds no number, is passed over: drivers do so when there is nothing to say.

mod chip;
mod metric;

use std::path::Path;

use chip::Chip;
use hashbrown::HashMap;

use super::devices::Devices;
use super::error::Faults;
use super::{CollectError, Collector, Filter, Flag, FlagDefault, Registration, SetupError, Tick};
use crate::model::{Family, Recorder};

const CHIP_INCLUDE_FLAG: &str = "collector.hwmon.chip-include";
const CHIP_EXCLUDE_FLAG: &str = "collector.hwmon.chip-exclude";
const SENSOR_INCLUDE_FLAG: &str = "collector.hwmon.sensor-include";
const SENSOR_EXCLUDE_FLAG: &str = "collector.hwmon.sensor-exclude";

static CHIP_NAMES: Family = Family::gauge(
    "node_hwmon_chip_names",
    "A chip with sensors, by where it is, and the name that its driver gives it; always 1.",
    &["chip", "chip_name"],
);
static SENSOR_LABEL: Family = Family::gauge(
    "node_hwmon_sensor_label",
    "A sensor and what it measures, as the driver names it; always 1.",
    &["chip", "sensor", "label"],
);
static READINGS: Family = Family::gauge(
    "node_hwmon_*",
    "What a sensor measures, or a limit or setting of it; energies are counters.",
    &["chip", "sensor"],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "hwmon",
    default_enabled: true,
    flags: &[
        Flag::new(
            CHIP_INCLUDE_FLAG,
            FlagDefault::Text(""),
            "Pattern of the chips to take (not with chip-exclude).",
        ),
        Flag::new(
            CHIP_EXCLUDE_FLAG,
            FlagDefault::Text(""),
            "Pattern of the chips to leave out (not with chip-include).",
        ),
        Flag::new(
            SENSOR_INCLUDE_FLAG,
            FlagDefault::Text(""),
            "Pattern of the sensors to take, matched against `chip;sensor` (not with sensor-exclude).",
        ),
        Flag::new(
            SENSOR_EXCLUDE_FLAG,
            FlagDefault::Text(""),
            "Pattern of the sensors to leave out, matched against `chip;sensor` (not with sensor-include).",
        ),
    ],
    families: &[&CHIP_NAMES, &SENSOR_LABEL, &READINGS],
    new: |setup| {
        let filter = |include, exclude| {
            Filter::from_flags(setup.flags, (include, ""), (exclude, "")).map_err(SetupError::of("hwmon"))
        };
        Ok(Box::new(Hwmon {
            chips: Devices::new(setup.paths.sys("class/hwmon")),
            chip_filter: filter(CHIP_INCLUDE_FLAG, CHIP_EXCLUDE_FLAG)?,
            sensor_filter: filter(SENSOR_INCLUDE_FLAG, SENSOR_EXCLUDE_FLAG)?,
        }))
    },
};

struct Hwmon {
    chips: Devices<Chip>,
    chip_filter: Filter,
    sensor_filter: Filter,
}

impl Collector for Hwmon {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut is_new = false;
        let chips = self.chips.refresh(|name: &str, folder: &Path| {
            is_new = true;
            Chip::new(name, folder)
        })?;
        if is_new {
            name_chips(chips, &mut self.chip_filter);
        }
        let mut faults = Faults::default();
        for chip in chips.iter_mut().filter(|chip| !chip.is_ignored) {
            if let Err(error) = chip.put(&mut self.sensor_filter, tick, out) {
                faults.note(|| error.into());
            }
        }
        faults.finish()
    }
}

/// A chip is named after the place of its device. Where several share one, the names that their drivers give
/// them tell them apart, or else their numbers.
fn name_chips(chips: &mut [Chip], filter: &mut Filter) {
    let mut places: HashMap<String, u32> = HashMap::new();
    let mut named: HashMap<(String, String), u32> = HashMap::new();
    for chip in &*chips {
        *places.entry_ref(&chip.place).or_default() += 1;
        *named.entry((chip.place.clone(), chip.driver_name.clone())).or_default() += 1;
    }
    for chip in chips {
        let is_alone = places.get(&chip.place) == Some(&1);
        let is_only_one_named_so =
            !chip.driver_name.is_empty() && named[&(chip.place.clone(), chip.driver_name.clone())] == 1;
        chip.name = match (is_alone, is_only_one_named_so) {
            (true, _) => chip.place.clone(),
            (false, true) => format!("{}_{}", chip.place, chip.driver_name),
            (false, false) => format!("{}_{}", chip.place, chip.folder_name),
        };
        chip.is_ignored = filter.ignores(&chip.name);
    }
}
