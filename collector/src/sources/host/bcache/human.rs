//! Numbers as bcache writes them for humans: `20.4G`. What stands after the point are not tenths, but 1024ths
//! divided by a hundred, of which the first digits are shown: so `.4` comes before `.10`.

use crate::sys::text;

const UNITS: &[u8] = b"kMGTPEZY";
/// Of the number after the point, in one.
const PARTS: f64 = 10.24;

/// A number without sign, with or without a unit; what is below one is cut off.
pub(super) fn magnitude(word: &[u8]) -> Option<f64> {
    let (digits, scale) = match word.split_last()? {
        (unit, digits) if !unit.is_ascii_digit() => {
            let power = UNITS.iter().position(|known| known == unit)? + 1;
            (digits, 1024f64.powi(i32::try_from(power).ok()?))
        }
        _ => (word, 1.0),
    };
    let mut parts = digits.split(|&byte| byte == b'.');
    let whole = text::parse_u64(parts.next()?)? as f64;
    let part = match parts.next() {
        Some(part) => text::parse_u64(part)? as f64 / PARTS,
        None => 0.0,
    };
    parts.next().is_none().then_some(((whole + part) * scale).trunc())
}

/// A number that may have a minus, a unit of time after it (`1.1M/sec`), or a `%`.
pub(super) fn signed_magnitude(word: &[u8]) -> Option<f64> {
    let word = word.strip_suffix(b"/sec").or(word.strip_suffix(b"%")).unwrap_or(word);
    match word.strip_prefix(b"-") {
        Some(word) => magnitude(word).map(|number| -number),
        None => magnitude(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_humans() {
        for (word, number) in [
            (&b"0"[..], Some(0.0)),
            (b"1305", Some(1305.0)),
            (b"20.4G", Some(21_894_266_880.0)),
            (b"427.5k", Some(437_748.0)),
            (b"1.10k", Some(2024.0)),
            (b"3M", Some(3_145_728.0)),
            (b"", None),
            (b"k", None),
            (b"1.2.3k", None),
            (b"1x", None),
            (b"-1", None),
        ] {
            assert_eq!(magnitude(word), number, "{word:?}");
        }
        assert_eq!(signed_magnitude(b"-1.1M/sec"), Some(-1_150_976.0));
        assert_eq!((signed_magnitude(b"99%"), signed_magnitude(b"-")), (Some(99.0), None));
    }
}
