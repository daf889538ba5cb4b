//! The fused emitter: snappy written from a plan, not searched for.
//!
//! Between two values of a request lies a gap (time, labels, frame) of constant length, and snappy's copies are
//! relative. So the elements of each gap are constant bytes, found once. What a value adds: the copy that ends
//! right before it and the one that begins right after it come from the surroundings of other values; where this
//! value's low or high bytes agree with theirs, the copies stretch over them, and only the rest is a literal. A
//! value that agrees wholly costs nothing, and the two copies become one where they have the same source.
//!
//! Cost: some 4 ns a value. Memory: [`Record`] and the constant elements, about 30 bytes a value.

use super::layout::{Histograms, Layout, Ordered, Run};
use super::snappy::copy_element;

/// Copies beside a value are at most this long in the plan, so that they may grow by the value's 8 bytes.
pub(super) const MAX_EDGE: usize = super::snappy::MAX_COPY - 8;
/// The widest piece that is moved at once, and what must lie behind every constant.
const BLOCK: usize = 32;
/// What one value may add to its gap's constants: two copies and a literal, and what is written beyond them.
const VALUE_BOUND: usize = 3 + 9 + 3;
const SLACK: usize = 64;
/// Times have this many bytes from 1971 to 2109: the only width that is planned.
pub(super) const TIME_WIDTH: usize = 6;

/// One value: the constants before it, the copy that ends before it, and the one that begins after it.
/// `*_value` says how many values back the value beside the copy's source is; 0 where there is none.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Record {
    pub constants: u16,
    pub before_offset: u16,
    pub after_offset: u16,
    pub before_value: u16,
    pub after_value: u16,
    pub before: u8,
    pub after: u8,
}

/// Where in the constants a time stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patch {
    pub at: u32,
    pub batch: u32,
}

/// How a request of certain shapes is written.
#[derive(Debug)]
pub(super) struct Plan {
    pub records: Box<[Record]>,
    /// The elements of all gaps, and [`BLOCK`] bytes that are read but do not count.
    pub constants: Box<[u8]>,
    /// How many of the constants stand before the first record's.
    pub head: u32,
    pub patches: Box<[Patch]>,
    runs: Box<[Run]>,
    histograms: Histograms,
    /// How long the request is when it is decompressed, without histograms.
    pub plain: usize,
}

/// The copy that is not yet written, because it may grow.
#[derive(Clone, Copy)]
struct Pending {
    offset: u32,
    length: u32,
}

impl Plan {
    pub(super) fn new(
        records: Vec<Record>,
        mut constants: Vec<u8>,
        head: usize,
        patches: Vec<Patch>,
        layout: &Layout,
    ) -> Self {
        constants.extend_from_slice(&[0; BLOCK]);
        let mut histograms = layout.histograms.clone();
        histograms.shrink();
        Plan {
            records: records.into(),
            constants: constants.into(),
            head: head as u32,
            patches: patches.into(),
            runs: layout.runs.as_slice().into(),
            histograms,
            plain: layout.bytes.len(),
        }
    }

    /// Bytes on the heap.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.records)
            + self.constants.len()
            + size_of_val(&*self.patches)
            + size_of_val(&*self.runs)
            + self.histograms.memory()
    }

    pub(super) fn histograms(&self) -> &Histograms {
        &self.histograms
    }

    /// Appends the elements of all floats. Every time must have [`TIME_WIDTH`] bytes; `values` is scratch.
    pub(super) fn encode(&mut self, batches: Ordered<'_>, values: &mut Vec<u64>, out: &mut Vec<u8>) {
        for patch in &self.patches {
            let mut time = batches.get(patch.batch).time_ms as u64;
            let bytes = &mut self.constants[patch.at as usize..][..TIME_WIDTH];
            for byte in &mut *bytes {
                *byte = time as u8 | 0x80;
                time >>= 7;
            }
            bytes[TIME_WIDTH - 1] &= 0x7f;
        }
        values.clear();
        for run in &self.runs {
            let from = &batches.get(run.batch).values[run.first as usize..][..run.length as usize];
            values.extend(from.iter().map(|value| value.to_bits()));
        }
        let start = out.len();
        out.resize(start + self.constants.len() + self.records.len() * VALUE_BOUND + SLACK, 0);
        let written = self.write(values, &mut out[start..]);
        out.truncate(start + written);
    }

    fn write(&self, values: &[u64], out: &mut [u8]) -> usize {
        assert_eq!(values.len(), self.records.len(), "a plan is used for the shapes that it was made for");
        let mut taken = self.head as usize;
        out[..taken].copy_from_slice(&self.constants[..taken]);
        let mut at = taken;
        let mut pending = Pending { offset: 0, length: 0 };
        for (number, (record, &value)) in self.records.iter().zip(values).enumerate() {
            let constants = record.constants as usize;
            if constants > 0 || record.before > 0 {
                at = pending.write(out, at);
                at = copy_constants(&self.constants[taken..], constants, out, at);
                taken += constants;
                pending = Pending { offset: record.before_offset.into(), length: record.before.into() };
            } else if pending.length as usize > MAX_EDGE {
                at = pending.write(out, at);
                pending.length = 0;
            }
            let low = difference(values, number, record.before_value).trailing_zeros() / 8;
            let high = difference(values, number, record.after_value).leading_zeros() / 8;
            let high = high.min(8 - low);
            pending.length += low;
            let after = u32::from(record.after);
            let merges = low == 8
                && pending.offset == u32::from(record.after_offset)
                && pending.length + after <= super::snappy::MAX_COPY as u32;
            let end = pending.write(out, at);
            at = if merges { at } else { end };
            let rest = 8 - low - high;
            out[at] = (rest.wrapping_sub(1) as u8) << 2;
            out[at + 1..at + 9].copy_from_slice(&value.wrapping_shr(low * 8).to_le_bytes());
            at += if rest == 0 { 0 } else { rest as usize + 1 };
            pending.length = if merges { pending.length + after } else { after + high };
            pending.offset = record.after_offset.into();
        }
        at = pending.write(out, at);
        let last = self.constants.len() - BLOCK - taken;
        copy_constants(&self.constants[taken..], last, out, at)
    }
}

impl Pending {
    #[inline]
    fn write(self, out: &mut [u8], at: usize) -> usize {
        let (element, bytes) = copy_element(self.offset, self.length);
        out[at..at + 4].copy_from_slice(&element.to_le_bytes());
        at + bytes
    }
}

/// What differs between value `number` and the one `back` before it; everything where there is none.
#[inline]
fn difference(values: &[u64], number: usize, back: u16) -> u64 {
    let other = values[number - usize::from(back)];
    if back == 0 { u64::MAX } else { values[number] ^ other }
}

#[inline]
fn copy_constants(from: &[u8], length: usize, out: &mut [u8], at: usize) -> usize {
    if length <= BLOCK {
        out[at..at + BLOCK].copy_from_slice(&from[..BLOCK]);
    } else {
        out[at..at + length].copy_from_slice(&from[..length]);
    }
    at + length
}
