//! A native histogram packed against the one before it at its position.
//!
//! A byte that says what follows: nothing where all is as it was; else the layout where that changed (schema,
//! threshold, spans: then every count is as against 0), the counts as differences, and the sum as any value.

use super::numbers::{Input, encode_number, encode_signed};
use super::pack::{Last, decode_changed, encode_changed};
use crate::model::{NativeHistogram, Span};

const SAME: u8 = 0;
const LAYOUT: u8 = 1;
const COUNTS: u8 = 2;
const SUM: u8 = 4;
/// No histogram has more buckets or spans: a damaged record does not make the reader take memory for them.
const MAX_BUCKETS: usize = 1 << 16;

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
            || last.buckets.len() != histogram.buckets.len();
        let counts = layout
            || last.count != histogram.count
            || last.zero_count != histogram.zero_count
            || last.buckets != histogram.buckets;
        let sum = last.sum.to_bits() != histogram.sum.to_bits();
        let says = if layout { LAYOUT } else { SAME }
            | if counts { COUNTS } else { SAME }
            | if sum { SUM } else { SAME };
        out.push(says);
        if layout {
            self.last.clear();
            self.last.buckets.resize(histogram.buckets.len(), 0);
            encode_layout(histogram, out);
        }
        if counts {
            encode_signed(histogram.count.wrapping_sub(self.last.count) as i64, out);
            encode_signed(histogram.zero_count.wrapping_sub(self.last.zero_count) as i64, out);
            for (count, last) in histogram.buckets.iter().zip(&self.last.buckets) {
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
        }
        if says & COUNTS != 0 {
            last.count = last.count.wrapping_add(input.signed()? as u64);
            last.zero_count = last.zero_count.wrapping_add(input.signed()? as u64);
            for count in &mut last.buckets {
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
    encode_number(histogram.spans.len() as u64, out);
    for span in &histogram.spans {
        encode_signed(span.offset.into(), out);
        encode_number(span.length.into(), out);
    }
    encode_number(histogram.buckets.len() as u64, out);
}

fn decode_layout(last: &mut NativeHistogram, input: &mut Input<'_>) -> Option<()> {
    let sum = last.sum;
    last.clear();
    last.sum = sum;
    last.schema = input.byte()? as i8;
    last.zero_threshold = f64::from_le_bytes(input.bytes(8)?.try_into().ok()?);
    for _ in 0..input.count().filter(|&count| count <= MAX_BUCKETS)? {
        let offset = input.signed()?.try_into().ok()?;
        last.spans.push(Span { offset, length: input.number()?.try_into().ok()? });
    }
    let buckets = input.count().filter(|&count| count <= MAX_BUCKETS)?;
    last.buckets.resize(buckets, 0);
    Some(())
}
