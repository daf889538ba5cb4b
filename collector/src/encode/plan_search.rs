//! Finds the plan of a laid-out request: for each gap between two values, the cheapest row of literals and
//! copies, the copies at both ends chosen together with the part of the value that they are likely to cover.
//!
//! Repeats are found through chains of hashes, and the cheapest row by dynamic programming from the end of the
//! gap to its beginning; gaps are planned in order, each knowing how the one before it ended. The values that
//! are there while the plan is made stand for those to come. Cost: 10 to 20 us a series, bounded by
//! [`MAX_CHAIN`] and [`MAX_NEIGHBOURS`].

use std::ops::Range;

use super::layout::{Layout, MAX_ORIGINS, Mark, TimeGroup};
use super::plan::{Edge, MAX_EDGE, Patch, Plan, Record, TIME_WIDTH};
use super::snappy::{
    MAX_COPY, MAX_OFFSET, NEAR_LENGTHS, NEAR_OFFSET, copy_cost, encode_copy, encode_literal_tag,
};

#[path = "plan_gap.rs"]
mod gap;
use gap::{End, Gap, Start};

/// How many earlier places with the same next four bytes are looked at.
const MAX_CHAIN: usize = 16;
/// How many earlier values are looked at as neighbours for the copies beside a value.
const MAX_NEIGHBOURS: usize = 96;
/// Times of more groups than this have no codes left.
const MAX_TIME_GROUPS: usize = 10_000;
/// So much of the next gap must go on as the gap at a copy's source does, for the copy to be worth continuing.
const ONWARD: usize = 8;
/// What the copy after a value costs where it is not one with the copy before.
const AFTER: usize = 3;
const HASH_BITS: u32 = 14;
/// Stands for the bytes of values, which match nothing.
const VALUE: u16 = u16::MAX;
const NONE: u32 = u32::MAX;
/// Codes of the bytes that belong to a source begin here: above those of a single time, for a source stands alone.
const FIRST_FOREIGN: u16 = VALUE - MAX_ORIGINS as u16 - 1;

/// The longest repeat that ends or begins at a place: how long, and how far back. 0 where there is none.
#[derive(Clone, Copy, Default, Debug)]
struct Match {
    length: u16,
    offset: u16,
}

/// The repeats that begin at a place: the longest of all, and the longest that takes two bytes.
#[derive(Clone, Copy, Default)]
struct Matches {
    far: Match,
    near: Match,
}

/// The memory of a search, to be used again.
#[derive(Default)]
pub(super) struct Search {
    /// A code for each byte: its value, or [`VALUE`], for times 256 and up, or those of a source [`FIRST_FOREIGN`] and up.
    codes: Vec<u16>,
    heads: Vec<u32>,
    chain: Vec<u32>,
    matches: Vec<Matches>,
    gap: Gap,
}

/// What the gaps planned so far have come to.
struct Draft<'a> {
    layout: &'a Layout,
    records: Vec<Record>,
    constants: Vec<u8>,
    patches: Vec<Patch>,
    fills: Vec<Mark>,
    /// The group of the time of the last value.
    group: usize,
    head: usize,
    /// The copy that ends before the last value, as it is expected to be, and the bytes of that value it covers.
    offset: usize,
    length: usize,
    low: usize,
}

impl Search {
    /// The plan of a request, or `None` where one of its gaps is too large for any.
    /// Every time in it must have [`TIME_WIDTH`] bytes.
    pub(super) fn plan(&mut self, layout: &Layout) -> Option<Plan> {
        if layout.times.len() > MAX_TIME_GROUPS || layout.bytes.len() >= NONE as usize {
            return None;
        }
        self.prepare(layout);
        let mut draft = Draft {
            layout,
            records: vec![Record::default(); layout.values.len()],
            constants: Vec::new(),
            patches: Vec::new(),
            fills: Vec::new(),
            group: 0,
            head: 0,
            offset: 0,
            length: 0,
            low: 0,
        };
        for number in 0..=layout.values.len() {
            self.plan_gap(number, &mut draft)?;
        }
        Some(Plan::new(draft.records, draft.constants, draft.head, draft.patches, draft.fills, layout))
    }

    /// Gives every byte its code: bytes that change from request to request must not look like others.
    fn prepare(&mut self, layout: &Layout) {
        self.codes.clear();
        self.codes.extend(layout.bytes.iter().map(|&byte| u16::from(byte)));
        let mut group = 0;
        for (number, &at) in layout.values.iter().enumerate() {
            if layout.times.get(group + 1).is_some_and(|next| next.value as usize == number) {
                group += 1;
            }
            let at = at as usize;
            self.codes[at..at + 8].fill(VALUE);
            for (n, code) in self.codes[at + 9..][..TIME_WIDTH].iter_mut().enumerate() {
                *code = (256 + group * TIME_WIDTH + n) as u16;
            }
        }
        for (code, origin) in self.codes.iter_mut().zip(&layout.origins).filter(|(_, origin)| **origin > 0) {
            *code = FIRST_FOREIGN + origin;
        }
        self.heads.clear();
        self.heads.resize(1 << HASH_BITS, NONE);
        self.chain.clear();
        self.chain.resize(self.codes.len(), NONE);
    }

    /// Plans the bytes between value `number - 1` and value `number`.
    fn plan_gap(&mut self, number: usize, draft: &mut Draft<'_>) -> Option<()> {
        let layout = draft.layout;
        let Range { start: from, end: to } = layout.gap(number);
        self.find_matches(from, to);
        self.gap.begin(to - from);
        if number < layout.values.len() {
            self.offer_ends(number, from, to, layout);
        }
        self.gap.solve(&self.matches);
        let start = self.choose_start(number, from, to, draft);
        self.write_gap(number, from, to, &start, draft)
    }

    /// Fills `matches` for the places from `from` to `to`, and makes those places known.
    fn find_matches(&mut self, from: usize, to: usize) {
        self.matches.clear();
        let mut last = Matches::default();
        for at in from..to {
            let shorter = |m: Match| Match { length: m.length.saturating_sub(1), offset: m.offset };
            let mut found = Matches { far: shorter(last.far), near: shorter(last.near) };
            let room = (to - at).min(MAX_COPY);
            if room >= 4 {
                let slot = hash(&self.codes[at..at + 4]);
                let mut earlier = self.heads[slot];
                for _ in 0..MAX_CHAIN {
                    let offset = at.wrapping_sub(earlier as usize);
                    if earlier == NONE || offset > MAX_OFFSET {
                        break;
                    }
                    // One that differs where the longest so far ends cannot be longer.
                    let further = usize::from(found.far.length).min(room - 1);
                    let near = offset < NEAR_OFFSET && found.near.length < 11;
                    if !near && self.codes[at - offset + further] != self.codes[at + further] {
                        earlier = self.chain[earlier as usize];
                        continue;
                    }
                    let length = common(&self.codes, at - offset, at, room);
                    let candidate = Match { length: length as u16, offset: offset as u16 };
                    if candidate.length > found.far.length {
                        found.far = candidate;
                    }
                    if offset < NEAR_OFFSET && candidate.length > found.near.length {
                        found.near = candidate;
                    }
                    if length == room && found.near.length >= 11 {
                        break;
                    }
                    earlier = self.chain[earlier as usize];
                }
                self.chain[at] = self.heads[slot];
                self.heads[slot] = at as u32;
            }
            last = found;
            self.matches.push(found);
        }
    }

    /// The copies that could end right before value `number`.
    fn offer_ends(&mut self, number: usize, from: usize, to: usize, layout: &Layout) {
        let value = layout.value(number);
        let oldest = number.saturating_sub(MAX_NEIGHBOURS);
        let likely_high = (oldest..number)
            .map(|other| (value ^ layout.value(other)).leading_zeros() as usize / 8)
            .max()
            .unwrap_or(0);
        self.gap.likely_high = likely_high;
        self.gap.end_without(value_cost(0, likely_high));
        for other in (oldest..number).rev() {
            let end = layout.values[other] as usize;
            let offset = to - end;
            if offset > MAX_OFFSET {
                break;
            }
            let room = (to - from).min(MAX_EDGE).min(end);
            let length = common_back(&self.codes, end, to, room);
            if length > 0 {
                let low = (value ^ layout.value(other)).trailing_zeros() as usize / 8;
                let end_offer =
                    End { length, offset, back: number - other, low, cost: value_cost(low, likely_high) };
                let onward = low == 8 && self.goes_on(end, to, layout);
                self.gap.offer_end(end_offer, onward);
            }
        }
        self.gap.settle_ends();
    }

    /// Whether what follows the value at `to` begins as what follows the one at `end` does, for more than a time.
    fn goes_on(&self, end: usize, to: usize, layout: &Layout) -> bool {
        let room = (layout.bytes.len() - to - 8).min(ONWARD);
        common(&self.codes, end + 8, to + 8, room) == ONWARD
    }

    /// The cheapest way into the gap: with a copy right after the value before it, or without.
    fn choose_start(&self, number: usize, from: usize, to: usize, draft: &Draft<'_>) -> Start {
        let mut best = Start { cost: self.gap.cost(0) + value_cost(draft.low, 0), ..Start::default() };
        let Some(before) = number.checked_sub(1) else { return best };
        let layout = draft.layout;
        let value = layout.value(before);
        for other in (before.saturating_sub(MAX_NEIGHBOURS)..before).rev() {
            let source = layout.values[other] as usize + 8;
            let offset = from - source;
            if offset > MAX_OFFSET {
                break;
            }
            let length = common(&self.codes, source, from, (to - from).min(MAX_EDGE));
            let high = (value ^ layout.value(other)).leading_zeros() as usize / 8;
            let high = high.min(8 - draft.low);
            let merges = draft.low == 8 && offset == draft.offset;
            let short = NEAR_LENGTHS.end().saturating_sub(high);
            for after in [length, length.min(short)] {
                if after == 0 {
                    continue;
                }
                let element = if merges && draft.length + after <= MAX_COPY {
                    copy_cost(offset, draft.length + after) - copy_cost(offset, draft.length)
                } else {
                    copy_cost(offset, after + high)
                };
                let cost = element + value_cost(draft.low, high);
                let start = Start { cost: 0, after, offset, back: before - other, low: 0, low_back: 0, high };
                best.take(Start { cost: cost + self.gap.cost(after), ..start });
                if after == to - from && number < layout.values.len() && other + 1 < number {
                    // The whole gap is one copy, which may go on over the next value's low bytes.
                    let next = other + 1;
                    if layout.values[next] as usize + offset == to {
                        let low = (layout.value(number) ^ layout.value(next)).trailing_zeros() as usize / 8;
                        let cost = cost + value_cost(low, self.gap.likely_high) + AFTER;
                        best.take(Start { cost, low, low_back: number - next, ..start });
                    }
                }
            }
        }
        best
    }

    /// Appends the gap's elements and fills the records on both its sides.
    fn write_gap(
        &self,
        number: usize,
        from: usize,
        to: usize,
        start: &Start,
        draft: &mut Draft<'_>,
    ) -> Option<()> {
        if let Some(before) = number.checked_sub(1) {
            let record = &mut draft.records[before];
            record.after = Edge::new(start.offset, start.after);
            record.after_value = start.back as u16;
            let merges =
                draft.low == 8 && draft.offset == start.offset && draft.length + start.after <= MAX_COPY;
            draft.length = if merges { draft.length + start.after } else { start.after + start.high };
            draft.offset = start.offset;
        }
        let begins = |time: &TimeGroup| number > time.value as usize;
        if draft.layout.times.get(draft.group + 1).is_some_and(begins) {
            draft.group += 1;
        }
        let opening = draft.constants.len();
        let end = self.gap.elements(start.after, |first, last, copy| match copy {
            Some(found) => encode_copy(found.offset.into(), last - first, &mut draft.constants),
            None => draft.literal(from + first..from + last, number.checked_sub(1)),
        });
        if number == draft.records.len() {
            return Some(());
        }
        let constants = draft.constants.len() - opening;
        let record = &mut draft.records[number];
        if number == 0 {
            draft.head = constants;
        } else {
            record.constants = u16::try_from(constants).ok()?;
        }
        if let Some(end) = end {
            record.before = Edge::new(end.offset, end.length);
            record.before_value = end.back as u16;
            draft.low = end.low;
            draft.offset = end.offset;
            draft.length = end.length + end.low;
        } else if start.low_back > 0 {
            record.before_value = start.low_back as u16;
            draft.low = start.low;
            draft.length = if draft.length > MAX_EDGE { start.low } else { draft.length + start.low };
        } else {
            (draft.low, draft.offset, draft.length) = (0, 0, 0);
        }
        debug_assert!(to >= from);
        Some(())
    }
}

impl Draft<'_> {
    /// Appends a literal of the gap behind value `before`, and notes which bytes of that value's time are in it: of
    /// the first of its group all are, of a later one perhaps some.
    fn literal(&mut self, range: Range<usize>, before: Option<usize>) {
        encode_literal_tag(range.len(), &mut self.constants);
        if let Some(before) = before {
            let time = self.layout.values[before] as usize + 9;
            let (first, end) = (time.max(range.start), (time + TIME_WIDTH).min(range.end));
            if first < end {
                self.patches.push(Patch {
                    at: (self.constants.len() + first - range.start) as u32,
                    batch: self.layout.times[self.group].batch,
                    first: (first - time) as u8,
                    count: (end - first) as u8,
                });
            }
        }
        self.layout.fills(&range, self.constants.len(), &mut self.fills);
        self.constants.extend_from_slice(&self.layout.bytes[range]);
    }
}

/// What a value costs of which so many low and high bytes are covered.
fn value_cost(low: usize, high: usize) -> usize {
    match 8 - low - high.min(8 - low) {
        0 => 0,
        rest => rest + 1,
    }
}

fn hash(codes: &[u16]) -> usize {
    let word = word(codes.first_chunk().expect("four codes"));
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - HASH_BITS)) as usize
}

/// How many codes from `a` on are those from `b` on, at most `room`. Values match nothing: they are not in `b`.
fn common(codes: &[u16], a: usize, b: usize, room: usize) -> usize {
    let (source, target) = (&codes[a..a + room], &codes[b..b + room]);
    let (fours, rest) = source.as_chunks::<4>();
    let (target_fours, target_rest) = target.as_chunks::<4>();
    for (number, (x, y)) in fours.iter().zip(target_fours).enumerate() {
        let differs = word(x) ^ word(y);
        if differs != 0 {
            return number * 4 + differs.trailing_zeros() as usize / 16;
        }
    }
    fours.len() * 4 + rest.iter().zip(target_rest).take_while(|(x, y)| x == y).count()
}

/// How many codes before `a` are those before `b`, at most `room`.
fn common_back(codes: &[u16], a: usize, b: usize, room: usize) -> usize {
    let (source, target) = (&codes[a - room..a], &codes[b - room..b]);
    let (rest, fours) = source.as_rchunks::<4>();
    let (target_rest, target_fours) = target.as_rchunks::<4>();
    for (number, (x, y)) in fours.iter().rev().zip(target_fours.iter().rev()).enumerate() {
        let differs = word(x) ^ word(y);
        if differs != 0 {
            return number * 4 + differs.leading_zeros() as usize / 16;
        }
    }
    fours.len() * 4 + rest.iter().rev().zip(target_rest.iter().rev()).take_while(|(x, y)| x == y).count()
}

/// Four codes as one number, the first lowest.
fn word(codes: &[u16; 4]) -> u64 {
    codes.iter().rev().fold(0, |word, &code| (word << 16) | u64::from(code))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
