//! How bcachefs writes its statistics.

use crate::sys::text;

const UNITS: &[u8] = b"kmgtpe";

/// A number with or without a unit, such as `48.9G`; what is below one is cut off.
pub(super) fn human(word: &[u8]) -> Option<f64> {
    let (digits, scale) = match word.split_last()? {
        (unit, digits) if unit.is_ascii_alphabetic() => {
            let power = UNITS.iter().position(|known| *known == unit.to_ascii_lowercase())? + 1;
            (digits, 1024f64.powi(i32::try_from(power).ok()?))
        }
        _ => (word, 1.0),
    };
    if !digits.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') {
        return None;
    }
    text::parse_f64(digits).map(|number| (number * scale).trunc())
}

/// A line of a table: `lz4    48.9G    71.2G`, or `initial:    3298401   100k`.
pub(super) struct Row<'l> {
    pub(super) name: &'l str,
    pub(super) second: &'l [u8],
    pub(super) third: &'l [u8],
}

/// `None` for a line with fewer words.
pub(super) fn table_row(line: &[u8]) -> Option<Row<'_>> {
    let mut words = text::words(line);
    let name = text::as_str(words.next()?)?;
    Some(Row { name: name.strip_suffix(':').unwrap_or(name), second: words.next()?, third: words.next()? })
}

/// The first two words of a line.
pub(super) fn name_and_word(line: &[u8]) -> Option<(&str, &[u8])> {
    let mut words = text::words(line);
    Some((text::as_str(words.next()?)?, words.next()?))
}

/// `btree       :     8912896`.
pub(super) fn name_and_value(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    Some((text::as_str(text::trim(&line[..colon]))?, text::trim(&line[colon + 1..])))
}

/// The count since the file system was made.
pub(super) fn counter(file: &[u8]) -> Option<f64> {
    text::lines(file).find_map(|line| human(text::trim(text::value_of(line, "since filesystem creation")?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_lines() {
        for (word, number) in [
            (&b"48.9G"[..], Some(52_505_975_193.0)),
            (b"1.26k", Some(1290.0)),
            (b"720", Some(720.0)),
            (b"2.00M", Some(2_097_152.0)),
            (b"1.5", Some(1.0)),
            (b"-1", None),
            (b"inf", None),
            (b"G", None),
            (b"", None),
        ] {
            assert_eq!(human(word), number, "{word:?}");
        }
        assert_eq!(counter(b"since mount:  39\nsince filesystem creation:  44\n"), Some(44.0));
        assert_eq!(counter(b"since mount:  39\n"), None);
        assert_eq!(name_and_value(b"  checksum:5"), Some(("checksum", &b"5"[..])));
        assert!(table_row(b"initial:  1").is_none());
    }
}
