//! Batteries, mains adapters and other supplies, from /sys/class/power_supply.
//! Cost a tick: a listing, and a read for each attribute that a supply has; some ask the firmware.

use std::path::Path;

use super::devices::{
    Devices, Label, Normal, Numbers, families, read_labels, rows, signed, signed_millionths,
};
use super::error::Faults;
use super::{CollectError, Collector, Filter, Flag, FlagDefault, Registration, SetupError, Tick};
use crate::model::{Dynamic, Family, Kind, Recorder};
use crate::sys::sysfs::Refusal;

const IGNORED_FLAG: &str = "collector.powersupply.ignored-supplies";

const INFO_NAME: &str = "node_power_supply_info";
const INFO_HELP: &str =
    "A supply of power and what it says of itself; always 1. Labels that it lacks are left out.";
static INFO: Family = Family::gauge(
    INFO_NAME,
    INFO_HELP,
    &[
        "power_supply",
        "capacity_level",
        "charge_type",
        "health",
        "manufacturer",
        "model_name",
        "scope",
        "serial_number",
        "status",
        "technology",
        "type",
        "usb_type",
    ],
);
/// Attributes in the order of the labels after the first, and whether they stay as they are.
const LABELS: [(&str, bool); 11] = [
    ("capacity_level", false),
    ("charge_type", false),
    ("health", false),
    ("manufacturer", true),
    ("model_name", true),
    ("scope", true),
    ("serial_number", true),
    ("status", false),
    ("technology", true),
    ("type", false),
    ("usb_type", false),
];

rows! { NUMBERS &["power_supply"];
    gauge "authentic" "node_power_supply_authentic" signed, "Whether the battery is an authentic one: 1 if so, 0 if not.";
    gauge "calibrate" "node_power_supply_calibrate" signed, "Whether the battery is being calibrated.";
    gauge "capacity" "node_power_supply_capacity" signed, "Charge in percent.";
    gauge "capacity_alert_max" "node_power_supply_capacity_alert_max" signed, "Charge in percent above which there is an alert.";
    gauge "capacity_alert_min" "node_power_supply_capacity_alert_min" signed, "Charge in percent below which there is an alert.";
    gauge "cycle_count" "node_power_supply_cyclecount" signed, "Charge cycles that the battery has gone through.";
    gauge "online" "node_power_supply_online" signed, "Whether the supply gives power: 0 not, 1 at a fixed voltage, 2 at one that can be set.";
    gauge "present" "node_power_supply_present" signed, "Whether the battery is there: 1 if so, 0 if not.";
    gauge "time_to_empty_now" "node_power_supply_time_to_empty_seconds" signed, "Time until the battery is empty, in seconds.";
    gauge "time_to_full_now" "node_power_supply_time_to_full_seconds" signed, "Time until the battery is full, in seconds.";
    gauge "current_boot" "node_power_supply_current_boot" signed_millionths, "Current measured at boot, in amperes.";
    gauge "current_max" "node_power_supply_current_max" signed_millionths, "Largest current, in amperes.";
    gauge "current_now" "node_power_supply_current_ampere" signed_millionths, "Current now, in amperes.";
    gauge "energy_empty" "node_power_supply_energy_empty" signed_millionths, "Energy at which the battery counts as empty, in watt-hours.";
    gauge "energy_empty_design" "node_power_supply_energy_empty_design" signed_millionths, "Energy at which the battery was designed to count as empty, in watt-hours.";
    gauge "energy_full" "node_power_supply_energy_full" signed_millionths, "Energy at which the battery counts as full, in watt-hours.";
    gauge "energy_full_design" "node_power_supply_energy_full_design" signed_millionths, "Energy that the battery was designed to hold, in watt-hours.";
    gauge "energy_now" "node_power_supply_energy_watthour" signed_millionths, "Energy in the battery now, in watt-hours.";
    gauge "voltage_boot" "node_power_supply_voltage_boot" signed_millionths, "Voltage measured at boot, in volts.";
    gauge "voltage_max" "node_power_supply_voltage_max" signed_millionths, "Largest voltage, in volts.";
    gauge "voltage_max_design" "node_power_supply_voltage_max_design" signed_millionths, "Largest voltage by design, in volts.";
    gauge "voltage_min" "node_power_supply_voltage_min" signed_millionths, "Smallest voltage, in volts.";
    gauge "voltage_min_design" "node_power_supply_voltage_min_design" signed_millionths, "Smallest voltage by design, in volts.";
    gauge "voltage_now" "node_power_supply_voltage_volt" signed_millionths, "Voltage now, in volts.";
    gauge "voltage_ocv" "node_power_supply_voltage_ocv" signed_millionths, "Voltage without a load (open circuit), in volts.";
    gauge "charge_control_limit" "node_power_supply_charge_control_limit" signed_millionths, "Limit of the charging current that is set, in amperes.";
    gauge "charge_control_limit_max" "node_power_supply_charge_control_limit_max" signed_millionths, "Largest limit of the charging current, in amperes.";
    gauge "charge_counter" "node_power_supply_charge_counter" signed_millionths, "Charge that went in and out, in ampere-hours.";
    gauge "charge_empty" "node_power_supply_charge_empty" signed_millionths, "Charge at which the battery counts as empty, in ampere-hours.";
    gauge "charge_empty_design" "node_power_supply_charge_empty_design" signed_millionths, "Charge at which the battery was designed to count as empty, in ampere-hours.";
    gauge "charge_full" "node_power_supply_charge_full" signed_millionths, "Charge at which the battery counts as full, in ampere-hours.";
    gauge "charge_full_design" "node_power_supply_charge_full_design" signed_millionths, "Charge that the battery was designed to hold, in ampere-hours.";
    gauge "charge_now" "node_power_supply_charge_ampere" signed_millionths, "Charge in the battery now, in ampere-hours.";
    gauge "charge_term_current" "node_power_supply_charge_term_current" signed_millionths, "Current below which charging ends, in amperes.";
    gauge "constant_charge_current" "node_power_supply_constant_charge_current" signed_millionths, "Current of charging at constant current, in amperes.";
    gauge "constant_charge_current_max" "node_power_supply_constant_charge_current_max" signed_millionths, "Largest current of charging at constant current, in amperes.";
    gauge "constant_charge_voltage" "node_power_supply_constant_charge_voltage" signed_millionths, "Voltage of charging at constant voltage, in volts.";
    gauge "constant_charge_voltage_max" "node_power_supply_constant_charge_voltage_max" signed_millionths, "Largest voltage of charging at constant voltage, in volts.";
    gauge "precharge_current" "node_power_supply_precharge_current" signed_millionths, "Current while a flat battery is charged gently, in amperes.";
    gauge "input_current_limit" "node_power_supply_input_current_limit" signed_millionths, "Limit of the current drawn from the supply, in amperes.";
    gauge "power_now" "node_power_supply_power_watt" signed_millionths, "Power now, in watts.";
    gauge "temp" "node_power_supply_temp_celsius" tenths, "Temperature in degrees Celsius.";
    gauge "temp_alert_max" "node_power_supply_temp_alert_max_celsius" tenths, "Temperature above which there is an alert, in degrees Celsius.";
    gauge "temp_alert_min" "node_power_supply_temp_alert_min_celsius" tenths, "Temperature below which there is an alert, in degrees Celsius.";
    gauge "temp_ambient" "node_power_supply_temp_ambient_celsius" tenths, "Temperature around the supply in degrees Celsius.";
    gauge "temp_ambient_max" "node_power_supply_temp_ambient_max_celsius" tenths, "Temperature around the supply above which there is an alert, in degrees Celsius.";
    gauge "temp_ambient_min" "node_power_supply_temp_ambient_min_celsius" tenths, "Temperature around the supply below which there is an alert, in degrees Celsius.";
    gauge "temp_max" "node_power_supply_temp_max_celsius" tenths, "Highest temperature at which the supply may work, in degrees Celsius.";
    gauge "temp_min" "node_power_supply_temp_min_celsius" tenths, "Lowest temperature at which the supply may work, in degrees Celsius.";
}

pub(super) static COLLECTOR: Registration = Registration {
    name: "powersupplyclass",
    default_enabled: true,
    flags: &[Flag::new(IGNORED_FLAG, FlagDefault::Text("^$"), "Pattern of the power supplies to leave out.")],
    families: &families::<50>(&[NUMBERS], &[&INFO]),
    new: |setup| {
        let filter =
            Filter::new("", setup.flags.text(IGNORED_FLAG)).map_err(SetupError::of("powersupplyclass"))?;
        Ok(Box::new(PowerSupplies { devices: Devices::new(setup.paths.sys("class/power_supply")), filter }))
    },
};

/// So a driver says that it can't measure something, or that the battery was taken out.
const NORMAL: Normal =
    Normal { refusals: &[Refusal::Unsupported, Refusal::NoDevice, Refusal::Invalid], texts: &[] };

struct PowerSupplies {
    devices: Devices<Supply>,
    filter: Filter,
}

struct Supply {
    name: String,
    labels: [Label; 11],
    numbers: Numbers,
}

impl Collector for PowerSupplies {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        let filter = &mut self.filter;
        let make = |name: &str, folder: &Path| (!filter.ignores(name)).then(|| Supply::new(name, folder));
        for Supply { name, labels, numbers } in self.devices.refresh(make)? {
            numbers.put(&[name], &NORMAL, tick, out, &mut faults);
            if read_labels(&mut *labels, &NORMAL, tick, &mut faults) {
                put_info(name, labels, out);
            }
        }
        faults.finish()
    }
}

/// The labels that have a value: the others are left out.
fn put_info(name: &str, labels: &[Label; 11], out: &mut Recorder) {
    let mut pairs = [("power_supply", name); 12];
    let mut given = 1;
    for ((label, _), text) in LABELS.iter().zip(labels.each_ref().map(Label::text)) {
        if !text.is_empty() {
            pairs[given] = (label, text);
            given += 1;
        }
    }
    let info = Dynamic {
        name: &[INFO_NAME],
        suffix: "",
        help: &[INFO_HELP],
        kind: Kind::Gauge,
        labels: &pairs[..given],
    };
    out.put_dynamic(&info, 1.0);
}

impl Supply {
    fn new(name: &str, folder: &Path) -> Self {
        Supply {
            name: name.to_owned(),
            labels: LABELS.map(|(file, is_fixed)| Label::new(folder.join(file), is_fixed)),
            numbers: Numbers::new(NUMBERS, folder),
        }
    }
}

fn tenths(word: &[u8]) -> Option<f64> {
    signed(word).map(|number| number / 10.0)
}
