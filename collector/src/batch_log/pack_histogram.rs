//! A native histogram packed against the one before it at its position.
//!
//! A byte that says what follows: nothing where all is as it was; else the layout where that changed (schema,
//! threshold, spans: then every count is as against 0), the counts as differences, and the sum as any value. What
//! only few have (counts that are doubles, negative buckets, listed bounds, a hint) belongs to the layout, in an
//! addition of its own.

use super::numbers::{Input, encode_number, encode_signed};
use super::pack::{Last, decode_changed, encode_changed};
use crate::model::{NativeHistogram, ResetHint, Span};

const SAME: u8 = 0;
const LAYOUT: u8 = 1;
const COUNTS: u8 = 2;
const SUM: u8 = 4;
/// With [`LAYOUT`]: the addition follows the layout.
const MORE: u8 = 8;
/// No histogram has more buckets or spans: a damaged record does not make the reader take memory for them.
const MAX_BUCKETS: usize = crate::model::MAX_BUCKETS;

/// The last histogram at a position.
#[derive(Default)]
pub(super) struct HistogramState {
    last: NativeHistogram,
    sum: Last,
}

impl HistogramState {
    pub(super) fn reset(&mut self) {
        self.last.clear();
        self.sum = Last::default();
    }

    pub(super) fn encode(&mut self, histogram: &NativeHistogram, out: &mut Vec<u8>) {
        let last = &self.last;
        let layout = last.schema != histogram.schema
            || last.zero_threshold.to_bits() != histogram.zero_threshold.to_bits()
            || last.spans != histogram.spans
            || last.buckets.len() != histogram.buckets.len()
            || last.negative_spans != histogram.negative_spans
            || last.negative_buckets.len() != histogram.negative_buckets.len()
            || last.float != histogram.float
            || last.reset_hint != histogram.reset_hint
            || !last.bounds.iter().map(|b| b.to_bits()).eq(histogram.bounds.iter().map(|b| b.to_bits()));
        let more = layout && !histogram.is_simple();
        let counts = layout
            || last.count != histogram.count
            || last.zero_count != histogram.zero_count
            || last.buckets != histogram.buckets
            || last.negative_buckets != histogram.negative_buckets;
        let sum = last.sum.to_bits() != histogram.sum.to_bits();
        let says = if layout { LAYOUT } else { SAME }
            | if counts { COUNTS } else { SAME }
            | if sum { SUM } else { SAME }
            | if more { MORE } else { SAME };
        out.push(says);
        if layout {
            self.last.clear();
            self.last.buckets.resize(histogram.buckets.len(), 0);
            self.last.negative_buckets.resize(histogram.negative_buckets.len(), 0);
            encode_layout(histogram, out);
        }
        if more {
            encode_more(histogram, out);
        }
        if counts {
            encode_signed(histogram.count.wrapping_sub(self.last.count) as i64, out);
            encode_signed(histogram.zero_count.wrapping_sub(self.last.zero_count) as i64, out);
            let before = self.last.buckets.iter().chain(&self.last.negative_buckets);
            for (count, last) in histogram.buckets.iter().chain(&histogram.negative_buckets).zip(before) {
                encode_signed(count.wrapping_sub(*last) as i64, out);
            }
        }
        if sum {
            encode_changed(&mut self.sum, histogram.sum, out);
        }
        self.last.clone_from(histogram);
    }

    pub(super) fn decode(&mut self, input: &mut Input<'_>, out: &mut NativeHistogram) -> Option<()> {
        let says = input.byte()?;
        let last = &mut self.last;
        if says & LAYOUT != 0 {
            decode_layout(last, input)?;
            if says & MORE != 0 {
                decode_more(last, input)?;
            }
        }
        if says & COUNTS != 0 {
            last.count = last.count.wrapping_add(input.signed()? as u64);
            last.zero_count = last.zero_count.wrapping_add(input.signed()? as u64);
            for count in last.buckets.iter_mut().chain(&mut last.negative_buckets) {
                *count = count.wrapping_add(input.signed()? as u64);
            }
        }
        if says & SUM != 0 {
            decode_changed(&mut self.sum, input)?;
            last.sum = self.sum.value();
        }
        out.clone_from(last);
        Some(())
    }
}

fn encode_layout(histogram: &NativeHistogram, out: &mut Vec<u8>) {
    out.push(histogram.schema as u8);
    out.extend_from_slice(&histogram.zero_threshold.to_le_bytes());
    encode_spans(&histogram.spans, out);
    encode_number(histogram.buckets.len() as u64, out);
}

fn encode_spans(spans: &[Span], out: &mut Vec<u8>) {
    encode_number(spans.len() as u64, out);
    for span in spans {
        encode_signed(span.offset.into(), out);
        encode_number(span.length.into(), out);
    }
}

fn encode_more(histogram: &NativeHistogram, out: &mut Vec<u8>) {
    out.push(u8::from(histogram.float) | (histogram.reset_hint as u8) << 1);
    encode_spans(&histogram.negative_spans, out);
    encode_number(histogram.negative_buckets.len() as u64, out);
    encode_number(histogram.bounds.len() as u64, out);
    histogram.bounds.iter().for_each(|bound| out.extend_from_slice(&bound.to_le_bytes()));
}

fn decode_layout(last: &mut NativeHistogram, input: &mut Input<'_>) -> Option<()> {
    let sum = last.sum;
    last.clear();
    last.sum = sum;
    last.schema = input.byte()? as i8;
    last.zero_threshold = f64::from_le_bytes(input.bytes(8)?.try_into().ok()?);
    decode_spans(&mut last.spans, input)?;
    last.buckets.resize(decode_count(input)?, 0);
    Some(())
}

fn decode_more(last: &mut NativeHistogram, input: &mut Input<'_>) -> Option<()> {
    let flags = input.byte()?;
    last.float = flags & 1 != 0;
    last.reset_hint = ResetHint::from_number(flags >> 1);
    decode_spans(&mut last.negative_spans, input)?;
    last.negative_buckets.resize(decode_count(input)?, 0);
    for _ in 0..decode_count(input)? {
        last.bounds.push(f64::from_le_bytes(input.bytes(8)?.try_into().ok()?));
    }
    Some(())
}

fn decode_spans(spans: &mut Vec<Span>, input: &mut Input<'_>) -> Option<()> {
    for _ in 0..decode_count(input)? {
        let offset = input.signed()?.try_into().ok()?;
        spans.push(Span { offset, length: input.number()?.try_into().ok()? });
    }
    Some(())
}

fn decode_count(input: &mut Input<'_>) -> Option<usize> {
    input.count().filter(|&count| count <= MAX_BUCKETS)
}
