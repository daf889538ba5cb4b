//! Flags of the collectors, as rows of a table: the command line, its help and the reference come from it.

use std::time::Duration;

use hashbrown::HashMap;

/// What a flag holds when it is not given; this also says what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagDefault {
    /// A switch without a value: `--name` and `--no-name`.
    Switch(bool),
    Text(&'static str),
    /// A Go duration such as `5s`.
    Duration(&'static str),
    Int(i64),
    /// May be given more than once; these are its values when it is not given at all.
    List(&'static [&'static str]),
}

/// A row of the table.
#[derive(Debug)]
pub struct Flag {
    /// Without the two dashes: `collector.netdev.device-include`.
    pub name: &'static str,
    pub default: FlagDefault,
    pub help: &'static str,
    /// Left out of `--help`.
    pub hidden: bool,
    /// An old name of another flag: taken with a warning, fatal beside the new name.
    pub alias_of: Option<&'static str>,
}

impl Flag {
    pub const fn new(name: &'static str, default: FlagDefault, help: &'static str) -> Self {
        Flag { name, default, help, hidden: false, alias_of: None }
    }

    /// The pattern of the devices that a collector takes; its counterpart is [`Flag::exclude`].
    pub const fn include(name: &'static str) -> Self {
        Flag::new(name, FlagDefault::Text(""), "Pattern of the devices to take (not with device-exclude).")
    }

    /// The pattern of the devices that a collector leaves out.
    pub const fn exclude(name: &'static str) -> Self {
        Flag::new(
            name,
            FlagDefault::Text(""),
            "Pattern of the devices to leave out (not with device-include).",
        )
    }

    pub const fn hidden(name: &'static str, default: FlagDefault, help: &'static str) -> Self {
        Flag { name, default, help, hidden: true, alias_of: None }
    }

    pub const fn alias(name: &'static str, alias_of: &'static str) -> Self {
        Flag {
            name,
            default: FlagDefault::Text(""),
            help: "Deprecated.",
            hidden: true,
            alias_of: Some(alias_of),
        }
    }
}

/// The flags as they were given, and the defaults of those that were not.
#[derive(Default, Debug, Clone)]
pub struct FlagValues {
    given: HashMap<String, Vec<String>>,
    defaults: HashMap<&'static str, FlagDefault>,
}

impl FlagValues {
    /// Declares a row, so that its default is known.
    pub fn declare(&mut self, flag: &Flag) {
        self.defaults.insert(flag.name, flag.default);
    }

    /// Adds a value as it was typed (`true` or `false` for a switch).
    pub fn give(&mut self, name: &str, value: impl Into<String>) {
        self.given.entry_ref(name).or_default().push(value.into());
    }

    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    pub fn switch(&self, name: &str) -> bool {
        match (self.last(name), self.defaults.get(name)) {
            (Some(value), _) => value == "true",
            (None, Some(FlagDefault::Switch(value))) => *value,
            _ => false,
        }
    }

    /// The text of the flag, also of a duration.
    pub fn text(&self, name: &str) -> &str {
        match (self.last(name), self.defaults.get(name)) {
            (Some(value), _) => value,
            (None, Some(FlagDefault::Text(value) | FlagDefault::Duration(value))) => value,
            _ => "",
        }
    }

    /// The text of the flag, or of its old name `alias` ("" for none) where only that was given.
    ///
    /// # Errors
    /// When both were given.
    pub fn text_or_alias(&self, name: &str, alias: &str) -> Result<&str, String> {
        match self.last(alias) {
            None | Some("") => Ok(self.text(name)),
            Some(_) if self.is_given(name) => Err(format!("--{alias} and --{name} are mutually exclusive")),
            Some(text) => {
                log::warn!("--{alias} is deprecated, use --{name}");
                Ok(text)
            }
        }
    }

    /// # Errors
    /// The text, when it is not a Go duration such as `1.5s`, `250ms` or `1m30s`.
    pub fn duration(&self, name: &str) -> Result<Duration, String> {
        let text = self.text(name);
        parse_go_duration(text)
            .ok_or_else(|| format!("--{name}: expected a duration such as 5s, got {text:?}"))
    }

    /// # Errors
    /// The value, when it is not a whole number.
    pub fn int(&self, name: &str) -> Result<i64, String> {
        match (self.last(name), self.defaults.get(name)) {
            (Some(value), _) => {
                value.parse().map_err(|_| format!("--{name}: expected integer, got {value:?}"))
            }
            (None, Some(FlagDefault::Int(value))) => Ok(*value),
            _ => Ok(0),
        }
    }

    pub fn list(&self, name: &str) -> Vec<&str> {
        match (self.given.get(name), self.defaults.get(name)) {
            (Some(values), _) => values.iter().map(String::as_str).collect(),
            (None, Some(FlagDefault::List(values))) => values.to_vec(),
            _ => Vec::new(),
        }
    }

    fn last(&self, name: &str) -> Option<&str> {
        self.given.get(name)?.last().map(String::as_str)
    }
}

/// A sum of numbers with units (`h`, `m`, `s`, `ms`, `us`, `ns`), as Go writes durations, without sign.
pub fn parse_go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut sum) = (text, None);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let scale = match &after[..unit_end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number * scale).ok()?;
        sum = Some(sum.unwrap_or(Duration::ZERO).checked_add(part)?);
        rest = &after[unit_end..];
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_go_writes_them() {
        let ms = |n| Some(Duration::from_millis(n));
        for (text, duration) in
            [("5s", ms(5000)), ("1m30s", ms(90_000)), ("1.5s", ms(1500)), ("250ms", ms(250)), ("0", ms(0))]
        {
            assert_eq!(parse_go_duration(text), duration, "{text}");
        }
        for wrong in ["", "5", "s", "5x", "-5s", "1e3s", "5 s"] {
            assert_eq!(parse_go_duration(wrong), None, "{wrong}");
        }
    }
}
