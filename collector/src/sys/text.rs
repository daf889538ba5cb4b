//! The few ways in which kernel files are cut into words and numbers. Nothing here allocates.

/// The words of a line, cut at spaces and tabs.
pub fn words(line: &[u8]) -> Words<'_> {
    Words { rest: line }
}

/// What [`words`] gives: every file is walked through with it, byte by byte.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    /// What has not been given yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.rest.iter().position(|&b| !is_blank(b))?;
        let rest = &self.rest[start..];
        let end = rest.iter().position(|&b| is_blank(b)).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.rest = rest;
        Some(word)
    }
}

/// Space, and tab to carriage return.
#[inline]
fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte.wrapping_sub(b'\t') < 5
}

/// The lines, without their ends; an empty last one is left out.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let empty = text.is_empty();
    text.split(|&b| b == b'\n').filter(move |_| !empty)
}

/// The lines as [`lines`] gives them, but a last one that lacks its end comes empty: a file of the kernel ends
/// with a line's end, so that one was torn, and half a number must not be taken for a whole one.
pub fn ended_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
    let torn: Option<&[u8]> = (whole < text.len()).then_some(b"");
    lines(&text[..whole]).chain(torn)
}

/// A decimal number without sign, the whole word; `None` when it is anything else or above 2^64-1.
pub fn parse_u64(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0u64, |sum, &byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| sum.checked_mul(10)?.checked_add(u64::from(digit))).flatten()
    })
}

/// Takes the number at the beginning of `line`, after blanks, in one pass. `None`, with `line` as it was, when the
/// next word is not a decimal number without sign, or above 2^64-1.
#[inline]
pub fn take_u64(line: &mut &[u8]) -> Option<u64> {
    let start = line.iter().position(|&b| !is_blank(b))?;
    let mut sum = 0u64;
    let mut end = start;
    while let Some(&byte) = line.get(end).filter(|&&b| !is_blank(b)) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum = sum.checked_mul(10)?.checked_add(u64::from(digit))?;
        end += 1;
    }
    *line = &line[end..];
    Some(sum)
}

/// A decimal number, with a minus if it is negative; `None` when it is anything else or does not fit 64 bits.
pub fn parse_i64(word: &[u8]) -> Option<i64> {
    match word.strip_prefix(b"-") {
        Some(digits) => 0i64.checked_sub_unsigned(parse_u64(digits)?),
        None => i64::try_from(parse_u64(word)?).ok(),
    }
}

/// A hexadecimal number without `0x`; `None` when it is anything else or above 2^64-1.
pub fn parse_hex(word: &[u8]) -> Option<u64> {
    u64::from_str_radix(as_str(word)?, 16).ok()
}

/// A number without sign, in decimal or, after `0x`, in hexadecimal.
pub fn parse_any_u64(word: &[u8]) -> Option<u64> {
    match word.strip_prefix(b"0x") {
        Some(digits) => parse_hex(digits),
        None => parse_u64(word),
    }
}

/// The text with U+FFFD for each run of bytes that are not UTF-8, appended to `text`.
pub fn push_lossy(text: &mut String, bytes: &[u8]) {
    let mut in_run = false;
    for chunk in bytes.utf8_chunks() {
        in_run &= chunk.valid().is_empty();
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() && !in_run {
            text.push(char::REPLACEMENT_CHARACTER);
            in_run = true;
        }
    }
}

/// As [`push_lossy`], into a new text.
pub fn lossy(bytes: &[u8]) -> String {
    let mut text = String::new();
    push_lossy(&mut text, bytes);
    text
}

/// Any number that Rust reads as a double, in decimal.
pub fn parse_f64(word: &[u8]) -> Option<f64> {
    as_str(word)?.parse().ok()
}

/// Whether the word can be part of a metric's name: letters, digits and `_`.
pub fn is_name(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The word as text, `None` when it is not UTF-8.
pub fn as_str(word: &[u8]) -> Option<&str> {
    std::str::from_utf8(word).ok()
}

/// The text without white space at both ends.
pub fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

/// The word after `key` and a colon and blanks, in lines such as `Name:   value`.
pub fn value_of<'a>(line: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let rest = trim(line.strip_prefix(key.as_bytes())?);
    Some(trim(rest.strip_prefix(b":")?))
}

/// Node, zone, and the words after them, of a line such as `Node 0, zone   Normal 1 2`.
pub fn parse_node_zone(line: &[u8]) -> Option<(&str, &str, Words<'_>)> {
    let mut words = words(line);
    let is_node = words.next() == Some(b"Node");
    let node = words.next()?.strip_suffix(b",")?;
    let is_zone = words.next() == Some(b"zone");
    let zone = as_str(words.next()?)?;
    parse_u64(node).filter(|_| is_node && is_zone)?;
    Some((as_str(node)?, zone, words))
}

/// The bounds of each part of a list such as `0-3,7`; `None` for a part that is not one.
pub fn ranges(list: &[u8]) -> impl Iterator<Item = Option<(u64, u64)>> {
    trim(list).split(|&b| b == b',').filter(|part| !part.is_empty()).map(|part| {
        let mut ends = part.splitn(2, |&b| b == b'-').map(parse_u64);
        let first = ends.next()??;
        let last = ends.next().unwrap_or(Some(first))?;
        (first <= last).then_some((first, last))
    })
}

/// A whole number as text, on the stack: for label values.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    pub fn new(mut number: u64) -> Self {
        let mut decimal = Decimal { digits: [b'0'; 20], start: 20 };
        loop {
            decimal.start -= 1;
            decimal.digits[decimal.start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return decimal;
            }
        }
    }

    pub fn as_str(&self) -> &str {
        as_str(&self.digits[self.start..]).unwrap_or_default()
    }
}

/// The longest address of the link layer, `MAX_ADDR_LEN` of the kernel.
const LONGEST_ADDRESS: usize = 32;

/// An address of the link layer as the kernel writes it, `00:1b:21:...`, on the stack: for label values.
#[derive(Clone, Copy, Debug)]
pub struct HardwareAddress {
    text: [u8; LONGEST_ADDRESS * 3],
    length: usize,
}

impl HardwareAddress {
    /// What is beyond the longest address is left out.
    pub fn new(address: &[u8]) -> Self {
        let address = &address[..address.len().min(LONGEST_ADDRESS)];
        let mut text = [b':'; LONGEST_ADDRESS * 3];
        let digits = b"0123456789abcdef";
        for (byte, place) in address.iter().zip(text.chunks_exact_mut(3)) {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            place[..2].copy_from_slice(&[digits[high], digits[low]]);
        }
        HardwareAddress { text, length: (address.len() * 3).saturating_sub(1) }
    }

    pub fn as_str(&self) -> &str {
        as_str(&self.text[..self.length]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_have_any_length() {
        for (address, text) in [
            (&[][..], ""),
            (&[0xab], "ab"),
            (&[0, 0x1b, 0x21, 0xff, 9, 0xa0], "00:1b:21:ff:09:a0"),
            (&[7; 40], &["07"; 32].join(":")),
        ] {
            assert_eq!(HardwareAddress::new(address).as_str(), text);
        }
    }

    #[test]
    fn numbers_are_whole_words() {
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        for wrong in [&b""[..], b"18446744073709551616", b"-1", b"1k", b" 1"] {
            assert_eq!(parse_u64(wrong), None, "{wrong:?}");
        }
        assert_eq!(parse_hex(b"0000002a"), Some(42));
        assert_eq!(parse_i64(b"-9223372036854775808"), Some(i64::MIN));
        for wrong in [&b"-"[..], b"--1", b"9223372036854775808", b"-9223372036854775809", b"+1"] {
            assert_eq!(parse_i64(wrong), None, "{wrong:?}");
        }
        assert_eq!(parse_f64(b"0.05"), Some(0.05));
        assert_eq!(parse_i64(b"-9223372036854775808"), Some(i64::MIN));
        for wrong in [&b"9223372036854775808"[..], b"-", b"--1", b"+1", b""] {
            assert_eq!(parse_i64(wrong), None, "{wrong:?}");
        }
        assert_eq!((parse_any_u64(b"0x1f"), parse_any_u64(b"31")), (Some(31), Some(31)));
        assert_eq!((parse_any_u64(b"0x"), parse_any_u64(b"-1")), (None, None));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced_run_by_run() {
        for (bytes, text) in [
            (&b"plain"[..], "plain"),
            (b"a\xff\xfeb\xff", "a\u{fffd}b\u{fffd}"),
            (b"\xe2\x82(\xe2\x82\xac", "\u{fffd}(\u{20ac}"),
            (b"\xff", "\u{fffd}"),
        ] {
            assert_eq!(lossy(bytes), text);
        }
    }

    #[test]
    fn numbers_are_taken_one_after_the_other() {
        let mut line: &[u8] = b"  7\t18446744073709551615 x";
        assert_eq!((take_u64(&mut line), take_u64(&mut line)), (Some(7), Some(u64::MAX)));
        assert_eq!((take_u64(&mut line), line), (None, &b" x"[..]));
        for wrong in [&b""[..], b"  ", b"1x", b"18446744073709551616"] {
            assert_eq!(take_u64(&mut &*wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn decimals_and_ranges() {
        for number in [0, 7, 10, 4096, u64::MAX] {
            assert_eq!(Decimal::new(number).as_str(), number.to_string());
        }
        let list: Vec<_> = ranges(b"1,3-5,x,9-2\n").collect();
        assert_eq!(list, [Some((1, 1)), Some((3, 5)), None, None]);
        assert_eq!(ranges(b"\n").count(), 0);
        let (node, zone, mut rest) = parse_node_zone(b"Node 1, zone   Normal  7").unwrap();
        assert_eq!((node, zone, rest.next(), rest.next()), ("1", "Normal", Some(&b"7"[..]), None));
        for wrong in ["Node 1 zone Normal", "Node x, zone Normal", "Node 1, zone", "1, zone Normal 7"] {
            assert!(parse_node_zone(wrong.as_bytes()).is_none(), "{wrong}");
        }
        assert_eq!(value_of(b"model name\t: A B\n", "model name"), Some(&b"A B"[..]));
        assert_eq!(value_of(b"modelx\t: A B\n", "model"), None);
    }

    #[test]
    fn words_and_lines() {
        assert_eq!(words(b"  a\t b ").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(lines(b"a\n\nb\n").collect::<Vec<_>>(), [&b"a"[..], b"", b"b"]);
        assert_eq!(lines(b"").count(), 0);
        assert_eq!(ended_lines(b"a 1\nb 2").collect::<Vec<_>>(), [&b"a 1"[..], b""]);
        assert_eq!(ended_lines(b"a 1\n").count(), 1);
        assert_eq!(ended_lines(b"a").collect::<Vec<_>>(), [b""]);
    }
}
