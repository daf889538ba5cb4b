//! The fused emitter: snappy written from a plan, not searched for.
//!
//! Between two values of a request lies a gap (time, labels, frame) of constant length, and snappy's copies are
//! relative. So the elements of each gap are constant bytes, found once. What a value adds: the copy that ends
//! right before it and the one that begins right after it come from the surroundings of other values; where this
//! value's low or high bytes agree with theirs, the copies stretch over them, and only the rest is a literal. A
//! value that agrees wholly costs nothing, and the two copies become one where they have the same source.
//!
//! Cost: 8 to 10 ns a value. Memory: [`Record`] and the constant elements, about 30 bytes a value.

use super::layout::{Histograms, Layout, Mark, Ordered, Run};
use super::snappy::{NEAR_OFFSET, copy_element};

/// Copies beside a value are at most this long in the plan, so that they may grow by the value's 8 bytes.
pub(super) const MAX_EDGE: usize = super::snappy::MAX_COPY - 8;
/// The widest piece that is moved at once, and what must lie behind every constant.
const BLOCK: usize = 32;
/// What one value may add to its gap's constants: two copies and a literal, and what is written beyond them.
const VALUE_BOUND: usize = 3 + 9 + 3;
const SLACK: usize = WINDOW;
/// What is looked at as one piece while a value is written: its constants and what it adds, twice over.
const WINDOW: usize = 128;
/// Times have this many bytes from 1971 to 2109: the only width that is planned.
pub(super) const TIME_WIDTH: usize = 6;

/// A copy beside a value, ready to be written in both forms of its element, so that growing it is an addition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Edge {
    /// The element of three bytes, and above it how many bytes those are: 3, or 0 where there is no copy.
    three: u32,
    /// The element of two bytes, right once the copy has grown to four bytes at least.
    two: u16,
    /// The length once more, or [`Edge::FAR`] where two bytes can never serve.
    near: u8,
    /// How many bytes of the value the copy may grow over: 8, or none where there is no copy.
    most: u8,
}

impl Default for Edge {
    /// No copy.
    fn default() -> Self {
        Edge { three: 0, two: 0, near: Self::FAR, most: 0 }
    }
}

impl Edge {
    const FAR: u8 = 128;

    /// A copy of up to [`MAX_EDGE`] bytes.
    pub(super) fn new(offset: usize, length: usize) -> Self {
        if length == 0 {
            return Edge::default();
        }
        debug_assert!(length <= MAX_EDGE && offset <= super::snappy::MAX_OFFSET);
        let near = if offset < NEAR_OFFSET { length as u8 } else { Self::FAR };
        let three = (3 << 24) | ((offset as u32) << 8) | ((length as u32 - 1) << 2) | 2;
        let base = (((offset >> 8) & 7) << 5 | (offset & 0xff) << 8 | 1) as u16;
        let two = base.wrapping_add((length as u16) << 2).wrapping_sub(4 << 2);
        Edge { three, two, near, most: 8 }
    }

    fn offset(self) -> u32 {
        (self.three >> 8) & 0xffff
    }

    fn length(self) -> u32 {
        if self.most == 0 { 0 } else { ((self.three >> 2) & 63) + 1 }
    }

    /// The element of the copy, `more` bytes longer, and its bytes: 2 or 3, or 0 where there is no copy. A branch
    /// would cost more than both forms: which of them it is changes with every value.
    #[inline]
    fn element(self, more: u32) -> (u32, usize) {
        let three = self.three + (more << 2);
        let two = u32::from(self.two.wrapping_add((more << 2) as u16));
        let near = (u32::from(self.near) + more).wrapping_sub(4) < 8;
        (if near { two } else { three }, (self.three >> 24) as usize - usize::from(near))
    }
}

/// One value: the constants before it, the copy that ends before it, and the one that begins after it.
/// `*_value` says how many values back the value beside the copy's source is; 0 where there is none.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Record {
    pub before: Edge,
    pub after: Edge,
    pub before_value: u16,
    pub after_value: u16,
    pub constants: u16,
    /// Length of the copy after, if a value that agrees wholly makes one copy of both; else 0.
    pub joint: u8,
}

/// Where in the constants bytes of a time stand: `count` of them, from its byte `first` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patch {
    pub at: u32,
    pub batch: u32,
    pub first: u8,
    pub count: u8,
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
    /// Where in the constants bytes of the source's labels stand, in a plan that sources share.
    fills: Box<[Mark]>,
    runs: Box<[Run]>,
    histograms: Histograms,
    /// Whether some record has neither constants nor a copy before its value: then one copy is the whole gap.
    joined: bool,
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
        mut records: Vec<Record>,
        mut constants: Vec<u8>,
        head: usize,
        patches: Vec<Patch>,
        fills: Vec<Mark>,
        layout: &Layout,
    ) -> Self {
        constants.extend_from_slice(&[0; BLOCK]);
        let mut histograms = layout.histograms.clone();
        histograms.shrink();
        let joined =
            records.iter().skip(1).any(|record| record.constants == 0 && record.before.length() == 0);
        for record in &mut records {
            let (before, after) = (record.before, record.after);
            let joint = before.length() + 8 + after.length() <= super::snappy::MAX_COPY as u32;
            let joint = joint && before.length() > 0 && before.offset() == after.offset();
            record.joint = if joint { after.length() as u8 } else { 0 };
        }
        Plan {
            joined,
            records: records.into(),
            constants: constants.into(),
            head: head as u32,
            patches: patches.into(),
            fills: fills.into(),
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
            + size_of_val(&*self.fills)
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
            let mut bytes = [0; TIME_WIDTH];
            for byte in &mut bytes {
                *byte = time as u8 | 0x80;
                time >>= 7;
            }
            bytes[TIME_WIDTH - 1] &= 0x7f;
            let (first, count) = (usize::from(patch.first), usize::from(patch.count));
            self.constants[patch.at as usize..][..count].copy_from_slice(&bytes[first..][..count]);
        }
        for fill in &self.fills {
            let value = &batches.get(0).shape().source.labels[usize::from(fill.label)].1;
            let bytes = &value.as_bytes()[usize::from(fill.first)..][..usize::from(fill.length)];
            self.constants[fill.at as usize..][..bytes.len()].copy_from_slice(bytes);
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
        let taken = self.head as usize;
        out[..taken].copy_from_slice(&self.constants[..taken]);
        let constants = &self.constants[taken..];
        let (at, taken) = match self.joined {
            false => self.write_apart(values, constants, out, taken),
            true => self.write_joined(values, constants, out, taken),
        };
        copy_constants(&constants[taken..], constants.len() - BLOCK - taken, out, at)
    }

    /// Writes the records of a plan in which no copy is a whole gap. Gives where it stands and how many constants
    /// it took.
    ///
    /// Nothing here branches on a value: what does not count is written and overwritten.
    fn write_apart(&self, values: &[u64], constants: &[u8], out: &mut [u8], at: usize) -> (usize, usize) {
        let (mut rest_out, mut rest_constants) = (&mut out[at..], constants);
        let whole = rest_out.len();
        for (number, (record, &value)) in self.records.iter().zip(values).enumerate() {
            let mut length = record.constants as usize;
            if length > BLOCK {
                let more = length - BLOCK;
                rest_out[..more].copy_from_slice(&rest_constants[..more]);
                (rest_out, rest_constants, length) = (&mut rest_out[more..], &rest_constants[more..], BLOCK);
            }
            let window = rest_out.first_chunk_mut::<WINDOW>().expect("the bound leaves room for one");
            window[..BLOCK]
                .copy_from_slice(rest_constants.first_chunk::<BLOCK>().expect("a block ends them"));
            rest_constants = &rest_constants[length..];

            let low = (value ^ values[number - usize::from(record.before_value)]).trailing_zeros() / 8;
            let high = (value ^ values[number - usize::from(record.after_value)]).leading_zeros() / 8;
            let low = low.min(record.before.most.into());
            let high = high.min(record.after.most.into()).min(8 - low);
            // Masks, for the compiler would branch here: 8 bytes that agree make one copy of both, where that may be.
            let joint = u32::from(record.joint) & (low >> 3).wrapping_neg();
            let (element, bytes) = record.before.element(low + joint);
            put(window, length, element.to_le_bytes());
            let place = length + bytes;
            let rest = 8 - low - high;
            put(window, place, [(rest.wrapping_sub(1) as u8) << 2]);
            put(window, place + 1, value.wrapping_shr(low * 8).to_le_bytes());
            let place = place + if rest == 0 { 0 } else { rest as usize + 1 };
            let (element, bytes) = record.after.element(high);
            put(window, place, element.to_le_bytes());
            let bytes = bytes & usize::from(joint == 0).wrapping_neg();
            rest_out = &mut rest_out[place + bytes..];
        }
        (at + whole - rest_out.len(), constants.len() - rest_constants.len())
    }

    /// As [`Plan::write_apart`], for plans in which a copy may be a whole gap and go on over the next value: it is
    /// written only when it is known how far it reaches.
    fn write_joined(&self, values: &[u64], constants: &[u8], out: &mut [u8], at: usize) -> (usize, usize) {
        let (mut at, mut taken) = (at, 0);
        let mut pending = Pending { offset: 0, length: 0 };
        for (number, (record, &value)) in self.records.iter().zip(values).enumerate() {
            let length = record.constants as usize;
            if length > 0 || record.before.length() > 0 {
                at = pending.write(out, at);
                at = copy_constants(&constants[taken..], length, out, at);
                taken += length;
                pending = Pending { offset: record.before.offset(), length: record.before.length() };
            } else if pending.length as usize > MAX_EDGE {
                at = pending.write(out, at);
                pending.length = 0;
            }
            let low = difference(values, number, record.before_value).trailing_zeros() / 8;
            let high = difference(values, number, record.after_value).leading_zeros() / 8;
            let high = high.min(8 - low);
            pending.length += low;
            let after = record.after.length();
            let merges = low == 8
                && pending.offset == record.after.offset()
                && pending.length + after <= super::snappy::MAX_COPY as u32;
            let end = pending.write(out, at);
            at = if merges { at } else { end };
            let rest = 8 - low - high;
            out[at] = (rest.wrapping_sub(1) as u8) << 2;
            out[at + 1..at + 9].copy_from_slice(&value.wrapping_shr(low * 8).to_le_bytes());
            at += if rest == 0 { 0 } else { rest as usize + 1 };
            pending.length = if merges { pending.length + after } else { after + high };
            pending.offset = record.after.offset();
        }
        (pending.write(out, at), taken)
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
    (values[number] ^ other) | u64::from(back == 0).wrapping_neg()
}

/// Writes at a place that is below 64: the mask says so to the compiler, which then need not check.
#[inline]
fn put<const N: usize>(window: &mut [u8; WINDOW], place: usize, bytes: [u8; N]) {
    debug_assert!(place < 64);
    let place = place & 63;
    window[place..place + N].copy_from_slice(&bytes);
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
