//! The fused emitter: snappy written from a plan, not searched for.
//!
//! Between two values of a request lies a gap (time, labels, frame) of constant length, and snappy's copies are
//! relative. So the elements of each gap are constant bytes, found once. What a value adds: the copy that ends
//! right before it and the one that begins right after it come from the surroundings of other values; where this
//! value's low or high bytes agree with theirs, the copies stretch over them, and only the rest is a literal. A
//! value that agrees wholly costs nothing, and the two copies become one where they have the same source.
//!
//! Cost: 7 to 8 ns a value. Memory: [`Record`] and the constant elements, about 30 bytes a value.

use super::layout::{Histograms, Layout, Mark, Ordered, Run};
use super::snappy::{NEAR_OFFSET, copy_element};

/// Copies beside a value are at most this long in the plan, so that they may grow by the value's 8 bytes.
pub(super) const MAX_EDGE: usize = super::snappy::MAX_COPY - 8;
/// The widest piece that is moved at once, and what must lie behind every constant.
const BLOCK: usize = 32;
/// What one value may add to its gap's constants: two copies and a literal.
const VALUE_BOUND: usize = 3 + 9 + 3;
/// From here on the desk is cleared before the next value.
const FULL: usize = 2048;
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
    /// All ones where there is no copy, which then agrees with no value.
    guard: i8,
}

impl Default for Edge {
    /// No copy.
    fn default() -> Self {
        Edge { three: 0, two: 0, near: Self::FAR, guard: -1 }
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
        Edge { three, two, near, guard: 0 }
    }

    fn offset(self) -> u32 {
        (self.three >> 8) & 0xffff
    }

    fn length(self) -> u32 {
        if self.guard != 0 { 0 } else { ((self.three >> 2) & 63) + 1 }
    }

    /// What is to be seen as different in a value beside the copy.
    #[inline]
    fn guard(self) -> u64 {
        i64::from(self.guard).cast_unsigned()
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

/// Where a place below twice [`FULL`] has room for a block.
type Piece = [u8; 2 * FULL + BLOCK];

/// Where the elements are put together before they go to the body, a piece of cache at a time: so the body needs no
/// room that would be zeroed first, and no place needs a check, for the mask keeps it in here.
pub(super) struct Desk {
    bytes: Box<Piece>,
    values: Vec<u64>,
}

impl Default for Desk {
    fn default() -> Self {
        Desk { bytes: Box::new([0; 2 * FULL + BLOCK]), values: Vec::new() }
    }
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

    /// Appends the elements of all floats. Every time must have [`TIME_WIDTH`] bytes; `desk` is scratch.
    pub(super) fn encode(&mut self, batches: Ordered<'_>, desk: &mut Desk, out: &mut Vec<u8>) {
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
        desk.values.clear();
        for run in &self.runs {
            let from = &batches.get(run.batch).values[run.first as usize..][..run.length as usize];
            desk.values.extend(from.iter().map(|value| value.to_bits()));
        }
        assert_eq!(
            desk.values.len(),
            self.records.len(),
            "a plan is used for the shapes that it was made for"
        );
        out.reserve(self.constants.len() + self.records.len() * VALUE_BOUND);
        let (head, constants) = self.constants.split_at(self.head as usize);
        out.extend_from_slice(head);
        let rest = match self.joined {
            false => self.write_apart(desk, constants, out),
            true => self.write_joined(desk, constants, out),
        };
        out.extend_from_slice(&rest[..rest.len() - BLOCK]);
    }

    /// Appends the records of a plan in which no copy is a whole gap. Gives the constants behind the last.
    ///
    /// Nothing here branches on a value: what does not count is written and overwritten. Alone, it has all registers.
    #[inline(never)]
    fn write_apart<'a>(&self, desk: &mut Desk, mut constants: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let (bytes, values, mut at) = (&mut *desk.bytes, &*desk.values, 0);
        for (number, (record, &value)) in self.records.iter().zip(values).enumerate() {
            let mut length = record.constants as usize;
            if at >= FULL || length > BLOCK {
                out.extend_from_slice(&bytes[..at]);
                at = 0;
                let long = length.saturating_sub(BLOCK);
                out.extend_from_slice(&constants[..long]);
                constants = &constants[long..];
                length -= long;
            }
            put(bytes, at, *constants.first_chunk::<BLOCK>().expect("a block ends them"));
            constants = &constants[length..];
            at += length;

            let below = values[number - usize::from(record.before_value)];
            let above = values[number - usize::from(record.after_value)];
            let low = ((value ^ below) | record.before.guard()).trailing_zeros() / 8;
            let high = ((value ^ above) | record.after.guard()).leading_zeros() / 8;
            let high = high.min(8 - low);
            // Masks, for the compiler would branch here: 8 bytes that agree make one copy of both, where that may be.
            let joint = u32::from(record.joint) & (low >> 3).wrapping_neg();
            let (element, length) = record.before.element(low + joint);
            put(bytes, at, element.to_le_bytes());
            at += length;
            let rest = 8 - low - high;
            put(bytes, at, [(rest.wrapping_sub(1) as u8) << 2]);
            put(bytes, at + 1, value.wrapping_shr(low * 8).to_le_bytes());
            at += rest as usize + usize::from(rest != 0);
            let (element, length) = record.after.element(high);
            put(bytes, at, element.to_le_bytes());
            at += length & usize::from(joint == 0).wrapping_neg();
        }
        out.extend_from_slice(&bytes[..at]);
        constants
    }

    /// As [`Plan::write_apart`], for plans in which a copy may be a whole gap and go on over the next value: it is
    /// written only when it is known how far it reaches.
    fn write_joined<'a>(&self, desk: &mut Desk, mut constants: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let (bytes, values, mut at) = (&mut *desk.bytes, &*desk.values, 0);
        let mut pending = Pending { offset: 0, length: 0 };
        for (number, (record, &value)) in self.records.iter().zip(values).enumerate() {
            if at >= FULL {
                out.extend_from_slice(&bytes[..at]);
                at = 0;
            }
            let length = record.constants as usize;
            if length > 0 || record.before.length() > 0 {
                at = pending.write(bytes, at);
                if length > BLOCK {
                    out.extend_from_slice(&bytes[..at]);
                    out.extend_from_slice(&constants[..length]);
                    at = 0;
                } else {
                    put(bytes, at, *constants.first_chunk::<BLOCK>().expect("a block ends them"));
                    at += length;
                }
                constants = &constants[length..];
                pending = Pending { offset: record.before.offset(), length: record.before.length() };
            } else if pending.length as usize > MAX_EDGE {
                at = pending.write(bytes, at);
                pending.length = 0;
            }
            let below = values[number - usize::from(record.before_value)];
            let above = values[number - usize::from(record.after_value)];
            // Not whether there is an edge: a copy that is pending may grow over the value as well.
            let guard = |back: u16| u64::from(back == 0).wrapping_neg();
            let low = ((value ^ below) | guard(record.before_value)).trailing_zeros() / 8;
            let high = ((value ^ above) | guard(record.after_value)).leading_zeros() / 8;
            let high = high.min(8 - low);
            pending.length += low;
            let after = record.after.length();
            let merges = low == 8
                && pending.offset == record.after.offset()
                && pending.length + after <= super::snappy::MAX_COPY as u32;
            let end = pending.write(bytes, at);
            at = if merges { at } else { end };
            let rest = 8 - low - high;
            put(bytes, at, [(rest.wrapping_sub(1) as u8) << 2]);
            put(bytes, at + 1, value.wrapping_shr(low * 8).to_le_bytes());
            at += rest as usize + usize::from(rest != 0);
            pending.length = if merges { pending.length + after } else { after + high };
            pending.offset = record.after.offset();
        }
        at = pending.write(bytes, at);
        out.extend_from_slice(&bytes[..at]);
        constants
    }
}

impl Pending {
    #[inline]
    fn write(self, bytes: &mut Piece, at: usize) -> usize {
        let (element, length) = copy_element(self.offset, self.length);
        put(bytes, at, element.to_le_bytes());
        at + length
    }
}

/// Writes at a place below twice [`FULL`]: the mask says so to the compiler, which then need not check.
#[inline]
fn put<const N: usize>(bytes: &mut Piece, place: usize, piece: [u8; N]) {
    debug_assert!(place < 2 * FULL && N <= BLOCK);
    let place = place & (2 * FULL - 1);
    bytes[place..place + N].copy_from_slice(&piece);
}
