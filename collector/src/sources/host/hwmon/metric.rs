//! What a file of a sensor is called as a metric, and in what unit it is given.
//! The files are those of Documentation/hwmon/sysfs-interface.rst of the kernel.

use super::super::devices::clean_name;
use crate::model::Kind;
use crate::sys::text;

/// The kinds of sensors that are given.
const KINDS: [&str; 14] = [
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
    "freq",
];

/// How the kernel's number becomes the metric's.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    AsItIs,
    Thousandths,
    Millionths,
    /// 1 for on, 0 for all else.
    Switch,
}

#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: String,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    /// The sensor is called by its label, not by its number.
    pub(super) is_by_label: bool,
    unit: Unit,
}

impl Metric {
    /// `None` for what is not a number. `has_bare`: the sensor also has a file without an element, as `pwm1`.
    pub(super) fn of(kind: &str, element: &str, has_bare: bool) -> Option<Self> {
        let whole = |name: &str, help, unit| Some(Metric::new(name.to_owned(), help, unit));
        match (kind, element) {
            ("beep_enable", "") => {
                return whole(
                    "node_hwmon_beep_enabled",
                    "Whether the chip may beep: 1 if so, 0 if not.",
                    Unit::Switch,
                );
            }
            ("vrm", "") => {
                return whole(
                    "node_hwmon_voltage_regulator_version",
                    "Version of the voltage regulator module, times ten.",
                    Unit::AsItIs,
                );
            }
            ("update_interval", "") => {
                return whole(
                    "node_hwmon_update_interval_seconds",
                    "How often the chip measures anew, in seconds.",
                    Unit::Thousandths,
                );
            }
            ("beep_enable" | "vrm" | "update_interval", _) | (_, "label") => return None,
            _ => {}
        }
        let part = match element {
            "input" if has_bare => "_input".to_owned(),
            "" | "input" => String::new(),
            _ => format!("_{}", clean_name(element)),
        };
        let (end, unit, help) = ending(kind, element);
        let mut metric = Metric::new(format!("node_hwmon_{kind}{part}{end}"), help, unit);
        metric.is_by_label = (kind, element) == ("freq", "input");
        if metric.name.ends_with("_joule_total") {
            metric.kind = Kind::Counter;
        }
        Some(metric)
    }

    fn new(name: String, help: &'static str, unit: Unit) -> Self {
        Metric { name, help, kind: Kind::Gauge, is_by_label: false, unit }
    }

    pub(super) fn value(&self, word: &[u8]) -> Option<f64> {
        if self.unit == Unit::Switch {
            return Some(if word == b"1" { 1.0 } else { 0.0 });
        }
        let number = text::parse_f64(word).filter(|number| number.is_finite())?;
        Some(match self.unit {
            Unit::AsItIs | Unit::Switch => number,
            Unit::Thousandths => number * 0.001,
            Unit::Millionths => number / 1_000_000.0,
        })
    }
}

/// What a metric's name ends with, its unit, and what it is about.
fn ending(kind: &str, element: &str) -> (&'static str, Unit, &'static str) {
    use Unit::{AsItIs, Millionths, Thousandths};
    match (kind, element) {
        (_, "fault" | "alarm") => {
            ("", AsItIs, "Whether the sensor is broken, or measures what it should not: 1 if so, 0 if not.")
        }
        (_, "beep") => ("_enabled", AsItIs, "Whether the chip beeps for this sensor: 1 if so, 0 if not."),
        ("in" | "cpu", _) => ("_volts", Thousandths, "A voltage, or a limit of it, in volts."),
        ("temp", "type") => ("", AsItIs, "How the temperature is measured, as a number of the kernel's."),
        ("temp", _) => ("_celsius", Thousandths, "A temperature, or a limit of it, in degrees Celsius."),
        ("curr", _) => ("_amps", Thousandths, "A current, or a limit of it, in amperes."),
        ("energy", _) => ("_joule_total", Millionths, "Energy used, in joules."),
        ("power", "accuracy") => ("", Millionths, "How exact the power is measured, as a ratio."),
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => {
            ("_seconds", Thousandths, "Time over which the power is averaged, or a limit of it, in seconds.")
        }
        ("power", _) => ("_watt", Millionths, "A power, or a limit of it, in watts."),
        ("humidity", _) => {
            ("", Millionths, "Humidity, or a limit of it, as the kernel's number divided by a million.")
        }
        ("fan", "input" | "min" | "max" | "target") => {
            ("_rpm", AsItIs, "Speed of a fan, or a limit of it, in turns a minute.")
        }
        ("freq", "input") => ("_freq_mhz", Millionths, "A frequency in megahertz."),
        _ => ("", AsItIs, "A setting or state of a sensor, as the kernel says it."),
    }
}

/// `temp1_max` -> `temp`, 1 and `max`; without a number it is 0, without an element that is empty.
pub(super) fn parse_file_name(name: &str) -> Option<(&'static str, u64, &str)> {
    let digits = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
    let (kind, rest) = name.split_at(digits);
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, rest) = rest.split_at(end);
    let element = match rest {
        "" => "",
        _ => rest.strip_prefix('_').filter(|element| !element.is_empty())?,
    };
    let number = if number.is_empty() { 0 } else { text::parse_u64(number.as_bytes())? };
    let kind = KINDS.iter().find(|known| **known == kind)?;
    Some((kind, number, element))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_taken_apart() {
        for (name, parts) in [
            ("temp1_input", Some(("temp", 1, "input"))),
            ("pwm1_auto_point2_temp", Some(("pwm", 1, "auto_point2_temp"))),
            ("pwm12", Some(("pwm", 12, ""))),
            ("beep_enable", Some(("beep_enable", 0, ""))),
            ("temp", Some(("temp", 0, ""))),
            ("temp_label", None),
            ("name", None),
            ("temp1input", None),
            ("temp1_", None),
            ("in99999999999999999999_input", None),
            ("", None),
        ] {
            assert_eq!(parse_file_name(name), parts, "{name}");
        }
    }

    #[test]
    fn metrics_are_named_by_kind_and_element() {
        for (kind, element, bare, name, value) in [
            ("temp", "input", false, "node_hwmon_temp_celsius", 1.5),
            ("temp", "crit_alarm", false, "node_hwmon_temp_crit_alarm_celsius", 1.5),
            ("temp", "type", false, "node_hwmon_temp_type", 1500.0),
            ("temp", "alarm", false, "node_hwmon_temp_alarm", 1500.0),
            ("fan", "input", false, "node_hwmon_fan_rpm", 1500.0),
            ("fan", "beep", false, "node_hwmon_fan_beep_enabled", 1500.0),
            ("fan", "div", false, "node_hwmon_fan_div", 1500.0),
            ("pwm", "", true, "node_hwmon_pwm", 1500.0),
            ("pwm", "input", true, "node_hwmon_pwm_input", 1500.0),
            ("power", "average", false, "node_hwmon_power_average_watt", 0.0015),
            ("power", "average_interval", false, "node_hwmon_power_average_interval_seconds", 1.5),
            ("power", "accuracy", false, "node_hwmon_power_accuracy", 0.0015),
            ("energy", "input", false, "node_hwmon_energy_joule_total", 0.0015),
            ("humidity", "input", false, "node_hwmon_humidity", 0.0015),
            ("curr", "max", false, "node_hwmon_curr_max_amps", 1.5),
            ("cpu", "vid", false, "node_hwmon_cpu_vid_volts", 1.5),
            ("update_interval", "", true, "node_hwmon_update_interval_seconds", 1.5),
            ("beep_enable", "", true, "node_hwmon_beep_enabled", 0.0),
        ] {
            let metric = Metric::of(kind, element, bare).unwrap();
            assert_eq!((metric.name.as_str(), metric.value(b"1500")), (name, Some(value)));
            assert_eq!(metric.kind == Kind::Counter, kind == "energy", "{name}");
        }
        assert!(Metric::of("temp", "label", false).is_none());
        assert!(Metric::of("vrm", "max", false).is_none());
        for nothing in [&b"N/A"[..], b"nan", b""] {
            assert_eq!(Metric::of("temp", "input", false).unwrap().value(nothing), None);
        }
    }
}
