//! The few pieces of the protobuf wire format that remote write needs.

/// Appends a base-128 varint: 1 to 10 bytes.
pub(super) fn encode_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// How many bytes [`encode_varint`] appends.
pub(super) fn varint_len(number: u64) -> usize {
    (70 - (number | 1).leading_zeros() as usize) / 7
}

/// The number as `sint32` and `sint64` carry it.
pub(super) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

/// Appends a length-delimited field. `tag` is the whole key byte.
pub(super) fn encode_bytes(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends a varint field, or nothing where it is 0, the default.
pub(super) fn encode_number(tag: u8, number: u64, out: &mut Vec<u8>) {
    if number != 0 {
        out.push(tag);
        encode_varint(number, out);
    }
}

/// Appends a double field, or nothing where all its bits are 0. A negative zero is kept.
pub(super) fn encode_double(tag: u8, number: f64, out: &mut Vec<u8>) {
    if number.to_bits() != 0 {
        out.push(tag);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_as_long_as_foretold() {
        for bits in 0..64 {
            for number in [1u64 << bits, (1u64 << bits) - 1, (1u64 << bits) | 1, u64::MAX >> bits] {
                let mut out = Vec::new();
                encode_varint(number, &mut out);
                assert_eq!(out.len(), varint_len(number), "{number}");
                let back = out.iter().rev().fold(0u64, |sum, &b| (sum << 7) | u64::from(b & 0x7f));
                assert_eq!(back, number);
            }
        }
    }

    #[test]
    fn zigzag_keeps_small_numbers_small() {
        assert_eq!([0, -1, 1, -2, i64::MIN, i64::MAX].map(zigzag), [0, 1, 2, 3, u64::MAX, u64::MAX - 1]);
    }
}
