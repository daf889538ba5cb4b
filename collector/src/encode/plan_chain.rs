//! The quick plan: each gap against the few gaps before it, and nothing else.
//!
//! A series differs from the one before it in a label or two, so what the gap before holds is most of what a gap
//! needs. That takes about a microsecond a series where `plan_search.rs` takes 10 to 20, and gives requests that are
//! a little larger: right for sources whose series change while others stay for hours.

use super::layout::Layout;
use super::plan::{Edge, MAX_EDGE, Patch, Plan, Record, TIME_WIDTH};
use super::snappy::{MAX_COPY, MAX_OFFSET, copy_cost, encode_copy, encode_literal_tag};

/// A gap that is not the first begins with the field of a time: its key and its bytes.
const TIME_END: usize = 1 + TIME_WIDTH;
/// Bytes that must repeat for a copy to be looked for.
const WORD: usize = 4;
const SLOTS: usize = 256;
/// How many earlier values are looked at for the copies beside a value.
const NEIGHBOURS: usize = 8;

/// The memory of the quick search.
pub(super) struct Chain {
    /// Places in the gap before, by the hash of what stands there, and in which gap they were noted.
    places: Box<[(u32, u32); SLOTS]>,
    generation: u32,
}

impl Default for Chain {
    fn default() -> Self {
        Chain { places: Box::new([(0, 0); SLOTS]), generation: 0 }
    }
}

/// What has been planned so far.
#[derive(Default)]
struct Draft {
    records: Vec<Record>,
    constants: Vec<u8>,
    patches: Vec<Patch>,
    /// How many of the constants stand before the first value.
    head: usize,
}

/// A copy beside a value: how many bytes of the gap it covers, from how far back, and beside which value.
#[derive(Clone, Copy, Default)]
struct Beside {
    length: usize,
    offset: usize,
    back: usize,
}

impl Beside {
    fn edge(self) -> (Edge, u16) {
        (Edge::new(self.offset, self.length), self.back as u16)
    }
}

impl Chain {
    /// The plan of a request with a single time, or `None` where one of its gaps is too large for any.
    pub(super) fn plan(&mut self, layout: &Layout) -> Option<Plan> {
        debug_assert!(layout.times.len() <= 1);
        let mut draft = Draft::default();
        for number in 0..=layout.values.len() {
            self.push_gap(layout, number, &mut draft)?;
        }
        Some(Plan::new(draft.records, draft.constants, draft.head, draft.patches, layout))
    }

    /// Plans the bytes between value `number - 1` and value `number`; the last, those after every value.
    fn push_gap(&mut self, layout: &Layout, number: usize, draft: &mut Draft) -> Option<()> {
        let opening = draft.constants.len();
        let is_last = number == layout.values.len();
        let gap = gap(layout, number);
        let start = if number > 1 { best_start(layout, number) } else { Beside::default() };
        // The time of the first series has nothing to be copied from; that of another must not be spelled out.
        if number > 1 && start.length < TIME_END {
            return None;
        }
        let from = start.length.max(if number == 1 { TIME_END } else { 0 });
        let end = if is_last { Beside::default() } else { best_end(layout, number, gap.len() - from) };
        if start.length > 0 {
            let record = &mut draft.records[number - 1];
            (record.after, record.after_value) = start.edge();
        }
        let before = number.checked_sub(1).map_or(&[][..], |last| self::gap(layout, last));
        let opaque = if number > 1 { TIME_END } else { 0 };
        let middle =
            Middle { before, gap, opaque, from: start.length, text: from, to: gap.len() - end.length };
        self.write_middle(&middle, number, draft);
        if is_last {
            return Some(());
        }
        let mut record = Record::default();
        let constants = draft.constants.len() - opening;
        if number == 0 {
            draft.head = constants;
        } else {
            record.constants = u16::try_from(constants).ok()?;
        }
        (record.before, record.before_value) = end.edge();
        draft.records.push(record);
        Some(())
    }

    /// Writes what lies between the copies at both ends of a gap, as literals and copies from the gap before.
    fn write_middle(&mut self, middle: &Middle<'_>, number: usize, draft: &mut Draft) {
        let Middle { before, gap, opaque, from, text, to } = *middle;
        let mut literal = from;
        let mut at = from.max(text);
        if number > 0 && to.saturating_sub(at) > WORD {
            self.note(before, opaque);
            while at + WORD <= to {
                let Some((place, length)) = self.find(middle, at) else {
                    at += 1;
                    continue;
                };
                let offset = before.len() + 8 + at - place;
                let pending = usize::from(at > literal);
                if offset > MAX_OFFSET || length <= copy_cost(offset, length) + pending {
                    at += 1;
                    continue;
                }
                push_literal(gap, literal, at, number, draft);
                encode_copy(offset, length, &mut draft.constants);
                at += length;
                literal = at;
            }
        }
        push_literal(gap, literal, to, number, draft);
    }

    /// Notes where in the gap before each row of four bytes stands.
    fn note(&mut self, before: &[u8], opaque: usize) {
        self.generation = self.generation.wrapping_add(1);
        for (at, bytes) in before.windows(WORD).enumerate().skip(opaque) {
            self.places[slot(bytes)] = (at as u32, self.generation);
        }
    }

    /// The longer of two repeats at `at`: the one that stands as far from the gap's beginning, or the last that
    /// begins as it does.
    fn find(&self, middle: &Middle<'_>, at: usize) -> Option<(usize, usize)> {
        let Middle { before, gap, opaque, to, .. } = *middle;
        let length = |place: usize| common(&before[place..], &gap[at..to]).min(MAX_COPY);
        let (noted, generation) = self.places[slot(&gap[at..at + WORD])];
        let noted = (generation == self.generation).then_some(noted as usize);
        let aligned = Some(at).filter(|&place| place >= opaque && place < before.len());
        [noted, aligned]
            .into_iter()
            .flatten()
            .map(|place| (place, length(place)))
            .filter(|&(_, length)| length >= WORD)
            .max_by_key(|&(_, length)| length)
    }
}

/// The part of a gap that its two ends leave.
#[derive(Clone, Copy)]
struct Middle<'a> {
    before: &'a [u8],
    gap: &'a [u8],
    /// So many bytes of the gap before are a time.
    opaque: usize,
    from: usize,
    /// From here on there is no time in it.
    text: usize,
    to: usize,
}

/// The bytes before value `number`, and after the one before it.
fn gap(layout: &Layout, number: usize) -> &[u8] {
    let from = number.checked_sub(1).map_or(0, |last| layout.values[last] as usize + 8);
    let to = layout.values.get(number).map_or(layout.bytes.len(), |&at| at as usize);
    &layout.bytes[from..to]
}

/// The copy after value `number - 1` that saves most: of the gap, and of the value's high bytes.
fn best_start(layout: &Layout, number: usize) -> Beside {
    let last = number - 1;
    let (gap, value, from) = (gap(layout, number), bits(layout, last), layout.values[last] as usize + 8);
    let mut best = (0, Beside::default());
    for other in (last.saturating_sub(NEIGHBOURS)..last).rev() {
        let offset = from - (layout.values[other] as usize + 8);
        if offset > MAX_OFFSET {
            break;
        }
        let length = common(self::gap(layout, other + 1), gap).min(MAX_EDGE);
        let high = (value ^ bits(layout, other)).leading_zeros() as usize / 8;
        let saved = length + high;
        if saved > best.0 && length > 0 {
            best = (saved, Beside { length, offset, back: last - other });
        }
    }
    best.1
}

/// The copy before value `number` that saves most, of the gap's last `room` bytes and of the value's low ones.
fn best_end(layout: &Layout, number: usize, room: usize) -> Beside {
    let (gap, value, to) = (gap(layout, number), bits(layout, number), layout.values[number] as usize);
    let mut best = (0, Beside::default());
    for other in (number.saturating_sub(NEIGHBOURS)..number).rev() {
        let offset = to - layout.values[other] as usize;
        if offset > MAX_OFFSET {
            break;
        }
        let source = self::gap(layout, other);
        let opaque = if other > 0 { TIME_END } else { 0 };
        let room = room.min(source.len() - opaque).min(MAX_EDGE);
        let length = common_end(source, gap, room);
        let low = (value ^ bits(layout, other)).trailing_zeros() as usize / 8;
        let saved = length + low;
        if saved > best.0 && length > 0 {
            best = (saved, Beside { length, offset, back: number - other });
        }
    }
    best.1
}

fn bits(layout: &Layout, number: usize) -> u64 {
    let at = layout.values[number] as usize;
    u64::from_le_bytes(*layout.bytes[at..].first_chunk().expect("eight bytes"))
}

/// Appends a literal, and notes the bytes of the first time, which only the gap behind the first value spells out.
fn push_literal(gap: &[u8], from: usize, to: usize, number: usize, draft: &mut Draft) {
    if from == to {
        return;
    }
    encode_literal_tag(to - from, &mut draft.constants);
    if number == 1 && from <= 1 && to >= TIME_END {
        let at = (draft.constants.len() + 1 - from) as u32;
        draft.patches.push(Patch { at, batch: 0, first: 0, count: TIME_WIDTH as u8 });
    }
    draft.constants.extend_from_slice(&gap[from..to]);
}

fn slot(bytes: &[u8]) -> usize {
    let word = u32::from_le_bytes(*bytes.first_chunk().expect("four bytes"));
    (word.wrapping_mul(0x9e37_79b1) >> 24) as usize
}

/// How many bytes both begin with.
fn common(a: &[u8], b: &[u8]) -> usize {
    let (a_words, _) = a.as_chunks::<8>();
    let (b_words, _) = b.as_chunks::<8>();
    for (number, (x, y)) in a_words.iter().zip(b_words).enumerate() {
        let differs = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differs != 0 {
            return number * 8 + differs.trailing_zeros() as usize / 8;
        }
    }
    let done = a_words.len().min(b_words.len()) * 8;
    done + a[done..].iter().zip(&b[done..]).take_while(|(x, y)| x == y).count()
}

/// How many bytes both end with, at most `room`.
fn common_end(a: &[u8], b: &[u8], room: usize) -> usize {
    let pairs = a.iter().rev().zip(b.iter().rev());
    pairs.take(room).take_while(|(x, y)| x == y).count()
}
