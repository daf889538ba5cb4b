//! The quick plan: the first repeat that is found serves, and the copies beside a value look at few neighbours.
//!
//! A series differs from the one before it in a label or two, so what the gap before holds is most of what a gap
//! needs. That takes about a microsecond a series where `plan_search.rs` takes 10 to 20, and gives requests that are
//! a little larger: right for sources whose series change while others stay for hours.

use std::ops::Range;

use super::layout::{Layout, Mark};
use super::plan::{Edge, MAX_EDGE, Patch, Plan, Record, TIME_WIDTH};
use super::snappy::{MAX_COPY, MAX_OFFSET, copy_cost, encode_copy, encode_literal_tag};

/// A gap that is not the first begins with the field of a time: its key and its bytes.
const TIME_END: usize = 1 + TIME_WIDTH;
/// Bytes that must repeat for a copy to be looked for.
const WORD: usize = 4;
const SLOT_BITS: u32 = 14;
const SLOTS: usize = 1 << SLOT_BITS;
const NOWHERE: (u32, u32) = (u32::MAX, 0);
/// How many earlier values are looked at for the copies beside a value.
const NEIGHBOURS: usize = 8;

/// The memory of the quick search.
pub(super) struct Chain {
    /// The last place of each row of four bytes, by its hash, and the gap in which it stands.
    places: Box<[(u32, u32)]>,
}

impl Default for Chain {
    fn default() -> Self {
        Chain { places: vec![NOWHERE; SLOTS].into() }
    }
}

/// What has been planned so far.
#[derive(Default)]
struct Draft {
    records: Vec<Record>,
    constants: Vec<u8>,
    patches: Vec<Patch>,
    fills: Vec<Mark>,
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
        self.places.fill(NOWHERE);
        for number in 0..=layout.values.len() {
            self.push_gap(layout, number, &mut draft)?;
        }
        Some(Plan::new(draft.records, draft.constants, draft.head, draft.patches, draft.fills, layout))
    }

    /// Plans the bytes between value `number - 1` and value `number`; the last, those after every value.
    fn push_gap(&mut self, layout: &Layout, number: usize, draft: &mut Draft) -> Option<()> {
        let opening = draft.constants.len();
        let is_last = number == layout.values.len();
        let gap = layout.gap(number);
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
        let middle = (gap.start + start.length, gap.start + from, gap.end - end.length);
        self.write_middle(layout, number, middle, draft);
        self.note(layout, number);
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

    /// Writes what lies between the copies at both ends of a gap, as literals and copies: from its first byte, of
    /// which those before `text` are no text, to its last.
    fn write_middle(
        &mut self,
        layout: &Layout,
        number: usize,
        (first, text, to): (usize, usize, usize),
        draft: &mut Draft,
    ) {
        let mut literal = first;
        let mut at = text.max(first);
        while at + WORD <= to {
            let found = self.find(layout, number, at, to);
            if number == 0 {
                // Of 2.0 the first gap holds all symbols, which repeat each other.
                self.places[slot(&layout.bytes[at..at + WORD])] = (at as u32, 0);
            }
            let Some((place, length)) = found else {
                at += 1;
                continue;
            };
            let pending = usize::from(at > literal);
            if length <= copy_cost(at - place, length) + pending {
                at += 1;
                continue;
            }
            draft.literal(layout, number, literal, at);
            encode_copy(at - place, length, &mut draft.constants);
            if number == 0 {
                self.note_row(layout, at + 1..at + length);
            }
            at += length;
            literal = at;
        }
        draft.literal(layout, number, literal, to);
    }

    /// Notes where in a gap each row of four bytes stands.
    fn note(&mut self, layout: &Layout, number: usize) {
        let text = text(layout, number);
        for (at, bytes) in (text.start..).zip(layout.bytes[text].windows(WORD)) {
            self.places[slot(bytes)] = (at as u32, number as u32);
        }
    }

    /// The same for a part of the first gap.
    fn note_row(&mut self, layout: &Layout, row: Range<usize>) {
        for (at, bytes) in (row.start..).zip(layout.bytes[row].windows(WORD)) {
            self.places[slot(bytes)] = (at as u32, 0);
        }
    }

    /// The longer of two repeats at `at`: the one in the gap before that stands as far from its beginning, or the
    /// last that begins as it does.
    fn find(&self, layout: &Layout, number: usize, at: usize, to: usize) -> Option<(usize, usize)> {
        let bytes = &layout.bytes;
        let length = |place: usize, end: usize| common(layout, place..end, at..to).min(MAX_COPY);
        let (place, gap) = self.places[slot(&bytes[at..at + WORD])];
        let noted = (place != NOWHERE.0).then(|| (place as usize, layout.gap(gap as usize).end));
        let aligned = number.checked_sub(1).and_then(|before| {
            let place = layout.gap(before).start + at - layout.gap(number).start;
            let text = text(layout, before);
            text.contains(&place).then_some((place, text.end))
        });
        [noted, aligned]
            .into_iter()
            .flatten()
            .filter(|&(place, _)| at - place <= MAX_OFFSET)
            .map(|(place, end)| (place, length(place, end)))
            .filter(|&(_, length)| length >= WORD)
            .max_by_key(|&(_, length)| length)
    }
}

impl Draft {
    /// Appends a literal, and notes the bytes of the first time, which only the gap behind the first value spells
    /// out.
    fn literal(&mut self, layout: &Layout, number: usize, from: usize, to: usize) {
        if from == to {
            return;
        }
        encode_literal_tag(to - from, &mut self.constants);
        if number == 1 {
            let time = layout.values[0] as usize + 9;
            if from <= time && time + TIME_WIDTH <= to {
                let at = (self.constants.len() + time - from) as u32;
                self.patches.push(Patch { at, batch: 0, first: 0, count: TIME_WIDTH as u8 });
            }
        }
        layout.fills(&(from..to), self.constants.len(), &mut self.fills);
        self.constants.extend_from_slice(&layout.bytes[from..to]);
    }
}

/// The bytes of a gap behind the time with which each but the first begins.
fn text(layout: &Layout, number: usize) -> Range<usize> {
    let gap = layout.gap(number);
    gap.start + if number > 0 { TIME_END } else { 0 }..gap.end
}

/// The copy after value `number - 1` that saves most: of the gap, and of the value's high bytes.
fn best_start(layout: &Layout, number: usize) -> Beside {
    let last = number - 1;
    let (gap, value) = (layout.gap(number), layout.value(last));
    let mut best = (0, Beside::default());
    for other in (last.saturating_sub(NEIGHBOURS)..last).rev() {
        let source = layout.gap(other + 1);
        let offset = gap.start - source.start;
        if offset > MAX_OFFSET {
            break;
        }
        let length = common(layout, source, gap.clone()).min(MAX_EDGE);
        let high = (value ^ layout.value(other)).leading_zeros() as usize / 8;
        let saved = length + high;
        if saved > best.0 && length > 0 {
            best = (saved, Beside { length, offset, back: last - other });
        }
    }
    best.1
}

/// The copy before value `number` that saves most, of the gap's last `room` bytes and of the value's low ones.
fn best_end(layout: &Layout, number: usize, room: usize) -> Beside {
    let (gap, value) = (layout.gap(number), layout.value(number));
    let mut best = (0, Beside::default());
    for other in (number.saturating_sub(NEIGHBOURS)..number).rev() {
        let source = text(layout, other);
        let offset = gap.end - source.end;
        if offset > MAX_OFFSET {
            break;
        }
        let room = room.min(source.len()).min(MAX_EDGE);
        let length = common_end(layout, source, gap.clone(), room);
        let low = (value ^ layout.value(other)).trailing_zeros() as usize / 8;
        let saved = length + low;
        if saved > best.0 && length > 0 {
            best = (saved, Beside { length, offset, back: number - other });
        }
    }
    best.1
}

fn slot(bytes: &[u8]) -> usize {
    let word = u32::from_le_bytes(*bytes.first_chunk().expect("four bytes"));
    (word.wrapping_mul(0x9e37_79b1) >> (32 - SLOT_BITS)) as usize
}

/// How many bytes both begin with; what belongs to the source is like nothing but itself.
fn common(layout: &Layout, a: Range<usize>, b: Range<usize>) -> usize {
    let length = equal(&layout.bytes[a.clone()], &layout.bytes[b.clone()]);
    if layout.origins.is_empty() {
        return length;
    }
    let origins = |from: usize| &layout.origins[from..from + length];
    origins(a.start).iter().zip(origins(b.start)).take_while(|(x, y)| x == y).count()
}

fn equal(a: &[u8], b: &[u8]) -> usize {
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
fn common_end(layout: &Layout, a: Range<usize>, b: Range<usize>, room: usize) -> usize {
    let backwards = |range: &Range<usize>| layout.bytes[range.clone()].iter().rev();
    let length = backwards(&a).zip(backwards(&b)).take(room).take_while(|(x, y)| x == y).count();
    if layout.origins.is_empty() {
        return length;
    }
    let origins = |end: usize| layout.origins[end - length..end].iter().rev();
    origins(a.end).zip(origins(b.end)).take_while(|(x, y)| x == y).count()
}
