//! Durations as Prometheus writes them: `1h30m`, `15s`, `500ms`; units `y w d h m s ms`, each once, in that order.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// A duration of the configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// # Errors
/// The text, and what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 15s, 1m30s or 500ms");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut millis, mut next_unit) = (text, 0u64, 0);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = UNITS.iter().position(|(name, _)| *name == &rest[..end]).ok_or_else(wrong)?;
        if unit < next_unit {
            return Err(wrong());
        }
        next_unit = unit + 1;
        rest = &rest[end..];
        millis = number.checked_mul(UNITS[unit].1).and_then(|m| millis.checked_add(m)).ok_or_else(wrong)?;
    }
    Ok(Duration::from_millis(millis))
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(Span).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_durations() {
        for (text, millis) in
            [("15s", 15_000), ("1m30s", 90_000), ("500ms", 500), ("0", 0), ("1d2h", 93_600_000)]
        {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for text in ["", "15", "s", "1.5s", "-1s", "1s1m", "1s 2ms", "1s2s", "99999999999999y"] {
            assert!(parse_duration(text).unwrap_err().contains("15s"), "{text}");
        }
    }
}
