//! Native histograms on the wire: the `Histogram` message, whose fields are the same in 1.0 and 2.0.
//!
//! Its length changes with what was observed, so it is encoded anew each time and not planned.

use super::protobuf::{encode_bytes, encode_double, encode_number, encode_varint, varint_len, zigzag};
use crate::model::NativeHistogram;

/// Appends the message's fields. Counts are integers, buckets go as deltas.
pub(super) fn encode_histogram(histogram: &NativeHistogram, time_ms: i64, out: &mut Vec<u8>) {
    out.push(0x08);
    encode_varint(histogram.count, out);
    encode_double(0x19, histogram.sum, out);
    encode_number(0x20, zigzag(i64::from(histogram.schema)), out);
    encode_double(0x29, histogram.zero_threshold, out);
    out.push(0x30);
    encode_varint(histogram.zero_count, out);
    for span in &histogram.spans {
        let mut message = [0; 12];
        let mut buffer = Small { bytes: &mut message, used: 0 };
        buffer.number(0x08, zigzag(i64::from(span.offset)));
        buffer.number(0x10, u64::from(span.length));
        let used = buffer.used;
        encode_bytes(0x5a, &message[..used], out);
    }
    if !histogram.buckets.is_empty() {
        out.push(0x62);
        let length: usize = deltas(&histogram.buckets).map(varint_len).sum();
        encode_varint(length as u64, out);
        deltas(&histogram.buckets).for_each(|delta| encode_varint(delta, out));
    }
    encode_number(0x78, time_ms as u64, out);
}

/// Each bucket's count less the one before it, as `sint64` carries it.
fn deltas(buckets: &[u64]) -> impl Iterator<Item = u64> {
    let before = std::iter::once(0).chain(buckets.iter().copied());
    buckets.iter().zip(before).map(|(&count, before)| zigzag(count.wrapping_sub(before) as i64))
}

/// A span's message: two fields of at most five bytes and a tag each.
struct Small<'a> {
    bytes: &'a mut [u8; 12],
    used: usize,
}

impl Small<'_> {
    fn number(&mut self, tag: u8, mut number: u64) {
        if number == 0 {
            return;
        }
        self.bytes[self.used] = tag;
        self.used += 1;
        while number >= 0x80 {
            self.bytes[self.used] = number as u8 | 0x80;
            self.used += 1;
            number >>= 7;
        }
        self.bytes[self.used] = number as u8;
        self.used += 1;
    }
}
