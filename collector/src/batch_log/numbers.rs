//! Numbers and texts as records hold them: varints of seven bits a byte, the low ones first.

/// Appends 1 to 10 bytes.
pub(super) fn encode_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The varint of a number below 2^56, and how many of its eight bytes belong to it.
pub(super) fn varint(number: u64) -> (u64, usize) {
    debug_assert!(number < 1 << 56, "eight bytes hold so much");
    // Twenty-eight bits and twenty-eight, then fourteens, then sevens.
    let spread = number & 0x0fff_ffff | (number & 0xff_ffff_f000_0000) << 4;
    let spread = spread & 0x0000_3fff_0000_3fff | (spread & 0x0fff_c000_0fff_c000) << 2;
    let spread = spread & 0x007f_007f_007f_007f | (spread & 0x3f80_3f80_3f80_3f80) << 1;
    let length = (70 - (number | 1).leading_zeros() as usize) / 7;
    let go_on = 0x0080_8080_8080_8080 & ((1 << (8 * (length - 1))) - 1);
    (spread | go_on, length)
}

/// Appends a signed number, small where it is near 0.
pub(super) fn encode_signed(number: i64, out: &mut Vec<u8>) {
    encode_number(zigzag(number), out);
}

pub(super) fn encode_text(text: &str, out: &mut Vec<u8>) {
    encode_number(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// What is left of a record. Every reading method gives `None` where the bytes end too early or make no sense.
pub(super) struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        self.number().map(unzigzag)
    }

    /// A count of things of which each takes at least one byte: so it is never above what is left.
    pub(super) fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.number()?).ok()?;
        (count <= self.0.len()).then_some(count)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = self.count()?;
        std::str::from_utf8(self.bytes(length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_at_once_is_that_of_the_loop() {
        for bits in 0..56 {
            for number in [(1 << bits) - 1, 1 << bits, (1 << bits) | 0x5a_5a5a & ((1 << bits) - 1)] {
                let mut out = Vec::new();
                encode_number(number, &mut out);
                let (word, length) = varint(number);
                assert_eq!(word.to_le_bytes()[..length], out, "{number:#x}");
            }
        }
    }

    #[test]
    fn numbers_come_back_and_cut_ones_do_not() {
        for number in [0, 1, -1, 63, 64, -64, -65, i64::MAX, i64::MIN, 1 << 40] {
            let mut out = Vec::new();
            encode_signed(number, &mut out);
            assert_eq!(Input(&out).signed(), Some(number));
            assert_eq!(Input(&out[..out.len() - 1]).signed(), None);
        }
        assert_eq!(Input(&[0xff; 11]).number(), None);
        assert_eq!(Input(&[5, b'a']).text(), None);
        assert_eq!(Input(&[1, 0xff]).text(), None);
    }
}
