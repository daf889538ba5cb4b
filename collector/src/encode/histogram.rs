//! Native histograms on the wire: the `Histogram` message, whose fields are the same in 1.0 and 2.0.
//!
//! Its length changes with what was observed, so it is encoded anew each time and not planned.

use super::protobuf::{encode_bytes, encode_double, encode_number, encode_varint, varint_len, zigzag};
use crate::model::{NativeHistogram, Span};

/// The field of positive spans; those of their counts, as integers and as doubles, follow it.
const POSITIVE: u8 = 11;
const NEGATIVE: u8 = 8;

/// Appends the message's fields. Integer buckets go as deltas.
pub(super) fn encode_histogram(histogram: &NativeHistogram, time_ms: i64, out: &mut Vec<u8>) {
    if histogram.float {
        encode_always(0x11, histogram.count, out);
    } else {
        out.push(0x08);
        encode_varint(histogram.count, out);
    }
    encode_double(0x19, histogram.sum, out);
    encode_number(0x20, zigzag(i64::from(histogram.schema)), out);
    encode_double(0x29, histogram.zero_threshold, out);
    if histogram.float {
        encode_always(0x39, histogram.zero_count, out);
    } else {
        out.push(0x30);
        encode_varint(histogram.zero_count, out);
    }
    encode_side(NEGATIVE, &histogram.negative_spans, &histogram.negative_buckets, histogram.float, out);
    encode_side(POSITIVE, &histogram.spans, &histogram.buckets, histogram.float, out);
    encode_number(0x70, histogram.reset_hint as u64, out);
    encode_number(0x78, time_ms as u64, out);
    if !histogram.bounds.is_empty() {
        out.extend_from_slice(&[0x82, 0x01]);
        encode_varint(histogram.bounds.len() as u64 * 8, out);
        histogram.bounds.iter().for_each(|bound| out.extend_from_slice(&bound.to_le_bytes()));
    }
}

/// Appends when the counting began, which only 2.0 knows.
pub(super) fn encode_start(start_ms: i64, out: &mut Vec<u8>) {
    if start_ms != 0 {
        out.extend_from_slice(&[0x88, 0x01]);
        encode_varint(start_ms as u64, out);
    }
}

/// A double of a `oneof`, which stands there also where it is 0.
fn encode_always(tag: u8, bits: u64, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&bits.to_le_bytes());
}

fn encode_side(field: u8, spans: &[Span], buckets: &[u64], float: bool, out: &mut Vec<u8>) {
    let tag = |field: u8| field << 3 | 2;
    for span in spans {
        let mut message = [0; 12];
        let mut buffer = Small { bytes: &mut message, used: 0 };
        buffer.number(0x08, zigzag(i64::from(span.offset)));
        buffer.number(0x10, u64::from(span.length));
        let used = buffer.used;
        encode_bytes(tag(field), &message[..used], out);
    }
    if buckets.is_empty() {
        return;
    }
    if float {
        out.push(tag(field + 2));
        encode_varint(buckets.len() as u64 * 8, out);
        buckets.iter().for_each(|bits| out.extend_from_slice(&bits.to_le_bytes()));
    } else {
        out.push(tag(field + 1));
        let length: usize = deltas(buckets).map(varint_len).sum();
        encode_varint(length as u64, out);
        deltas(buckets).for_each(|delta| encode_varint(delta, out));
    }
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
