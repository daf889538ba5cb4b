//! Elements of the snappy block format (google/snappy `format_description.txt`), written one at a time.
//!
//! A block is the varint of its uncompressed length and a row of elements. A copy names its source relative to
//! where it stands, so elements stay right when others are put before them, and the elements of several blocks
//! may be joined.

/// A copy reaches at most so far back; the format's third kind of copy, which reaches further, is not used.
pub(super) const MAX_OFFSET: usize = 65_535;
/// The longest copy.
pub(super) const MAX_COPY: usize = 64;
/// Copies nearer than this, of [`NEAR_LENGTHS`], take two bytes; others three.
pub(super) const NEAR_OFFSET: usize = 2048;
pub(super) const NEAR_LENGTHS: std::ops::RangeInclusive<usize> = 4..=11;

/// How many bytes a copy takes: none for no length, else 2 or 3.
pub(super) fn copy_cost(offset: usize, length: usize) -> usize {
    match length {
        0 => 0,
        _ if offset < NEAR_OFFSET && NEAR_LENGTHS.contains(&length) => 2,
        _ => 3,
    }
}

/// A copy of `length` (up to 64) from `offset` back, in the low bytes of the first, and how many bytes count.
/// Branches would cost more than both forms: which of them it is changes with every value.
#[inline]
pub(super) fn copy_element(offset: u32, length: u32) -> (u32, usize) {
    let near = offset < NEAR_OFFSET as u32 && length.wrapping_sub(4) < 8;
    let two = 1 | ((length.wrapping_sub(4) & 7) << 2) | ((offset >> 8) << 5) | ((offset & 0xff) << 8);
    let three = 2 | ((length.wrapping_sub(1) & 63) << 2) | (offset << 8);
    let element = if near { two } else { three };
    let bytes = if length == 0 { 0 } else { 3 - usize::from(near) };
    (element, bytes)
}

/// Appends a copy of 1 to 64 bytes.
pub(super) fn encode_copy(offset: usize, length: usize, out: &mut Vec<u8>) {
    debug_assert!((1..=MAX_COPY).contains(&length) && (1..=MAX_OFFSET).contains(&offset));
    let (element, bytes) = copy_element(offset as u32, length as u32);
    out.extend_from_slice(&element.to_le_bytes()[..bytes]);
}

/// Appends the tag of a literal of 1 to 2^32 bytes, which the caller appends next.
pub(super) fn encode_literal_tag(length: usize, out: &mut Vec<u8>) {
    let last = (length - 1) as u32;
    match last {
        0..60 => out.push((last as u8) << 2),
        60..0x100 => out.extend_from_slice(&[60 << 2, last as u8]),
        0x100..0x1_0000 => out.extend_from_slice(&[61 << 2, last as u8, (last >> 8) as u8]),
        _ => {
            out.push(63 << 2);
            out.extend_from_slice(&last.to_le_bytes());
        }
    }
}

/// Finds repeats the usual way, for bytes of which there is no plan; keeps its memory.
pub(super) struct Matcher {
    encoder: snap::raw::Encoder,
    block: Vec<u8>,
}

impl Default for Matcher {
    fn default() -> Self {
        Matcher { encoder: snap::raw::Encoder::new(), block: Vec::new() }
    }
}

impl Matcher {
    /// Appends the elements of `plain` without the length that opens a block. `plain` is below 2^32 bytes.
    pub(super) fn encode_elements(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        let bound = snap::raw::max_compress_len(plain.len());
        if self.block.len() < bound {
            self.block.resize(bound, 0);
        }
        let written = self.encoder.compress(plain, &mut self.block).expect("the buffer has the bound's size");
        let opening = super::protobuf::varint_len(plain.len() as u64);
        out.extend_from_slice(&self.block[opening..written]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::protobuf::encode_varint;

    #[test]
    fn literals_and_copies_of_every_length_are_understood() {
        for length in [1, 59, 60, 61, 62, 255, 256, 257, 65_535, 65_536, 65_537, 100_000] {
            let mut plain: Vec<u8> = (0..length).map(|n: usize| (n * 7 + n / 251) as u8).collect();
            let mut elements = Vec::new();
            encode_literal_tag(length, &mut elements);
            elements.extend_from_slice(&plain);
            for copy in 1..=MAX_COPY {
                for offset in [1, 3, 2047, 2048, 65_535] {
                    if offset <= plain.len() {
                        let before = elements.len();
                        encode_copy(offset, copy, &mut elements);
                        assert_eq!(elements.len() - before, copy_cost(offset, copy));
                        (0..copy).for_each(|_| plain.push(plain[plain.len() - offset]));
                    }
                }
            }
            let mut block = Vec::new();
            encode_varint(plain.len() as u64, &mut block);
            block.extend_from_slice(&elements);
            assert!(snap::raw::Decoder::new().decompress_vec(&block).unwrap() == plain, "{length}");
        }
    }
}
