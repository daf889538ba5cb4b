//! One gap: the cheapest row of elements over its bytes, by dynamic programming from its end.

use super::{AFTER, MAX_EDGE, Match, Matches, NEAR_LENGTHS, NEAR_OFFSET};

const NEVER: usize = usize::MAX / 4;

/// How a gap begins: with `after` bytes of a copy from `offset` back, beside the value that is `back` before.
/// `low_back` is set where that copy is the whole gap and goes on over `low` bytes of the next value.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Start {
    pub cost: usize,
    pub after: usize,
    pub offset: usize,
    pub back: usize,
    pub low: usize,
    pub low_back: usize,
    pub high: usize,
}

impl Start {
    /// Becomes `other` where that is cheaper, or has a copy that may grow at the same price.
    pub(super) fn take(&mut self, other: Start) {
        if other.cost < self.cost || (other.cost == self.cost && self.after == 0) {
            *self = other;
        }
    }
}

/// A copy that ends right before a value and covers `low` bytes of it.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct End {
    pub length: usize,
    pub offset: usize,
    pub back: usize,
    pub low: usize,
    pub cost: usize,
}

#[derive(Clone, Copy, Default)]
enum Step {
    #[default]
    Literal,
    Copy(Match),
    End(usize),
    EndNear(usize),
}

/// The memory of one gap's search, to be used again.
#[derive(Default)]
pub(super) struct Gap {
    length: usize,
    /// How many high bytes the next gap is expected to cover of the value in between.
    pub(super) likely_high: usize,
    /// Cheapest ways from each place to the end, what follows included: at the start of an element, and inside a
    /// literal.
    costs: Vec<usize>,
    inside: Vec<usize>,
    steps: Vec<Step>,
    /// Whether a literal that is under way at this place goes on.
    goes_on: Vec<bool>,
    /// The best copy before the value that is at least so long, of any distance and of those that take 2 bytes.
    ends: Vec<End>,
    near_ends: Vec<End>,
}

impl Gap {
    /// Takes on a gap of so many bytes, at first without any copy before its value.
    pub(super) fn begin(&mut self, length: usize) {
        self.length = length;
        let none = End { cost: NEVER, ..End::default() };
        for ends in [&mut self.ends, &mut self.near_ends] {
            ends.clear();
            ends.resize(MAX_EDGE + 1, none);
        }
        self.costs.clear();
        self.costs.resize(length + 1, NEVER);
        self.inside.clear();
        self.inside.resize(length + 1, NEVER);
        self.steps.clear();
        self.steps.resize(length + 1, Step::Literal);
        self.goes_on.clear();
        self.goes_on.resize(length + 1, false);
        self.end_without(0);
    }

    /// What follows the gap costs so much where no copy ends it.
    pub(super) fn end_without(&mut self, cost: usize) {
        self.costs[self.length] = cost + AFTER;
        self.inside[self.length] = cost + AFTER;
    }

    /// A copy may end the gap, before a value that then costs `end.cost`. `onward` says that it is likely to be
    /// one with the copy after that value, which then costs nothing.
    pub(super) fn offer_end(&mut self, end: End, onward: bool) {
        let far = End { cost: end.cost + 3 + if onward { 0 } else { AFTER }, ..end };
        if far.cost < self.ends[end.length].cost {
            self.ends[end.length] = far;
        }
        let length = end.length.min(NEAR_LENGTHS.end().saturating_sub(end.low));
        // With the copy after it, it is too long for two bytes.
        let near = End { length, cost: end.cost + if onward { 3 } else { 2 + AFTER }, ..end };
        if end.offset < NEAR_OFFSET && length > 0 && near.cost < self.near_ends[length].cost {
            self.near_ends[length] = near;
        }
    }

    /// A longer copy serves wherever a shorter one would.
    pub(super) fn settle_ends(&mut self) {
        for length in (1..MAX_EDGE).rev() {
            if self.ends[length + 1].cost < self.ends[length].cost {
                self.ends[length] = End { length, ..self.ends[length + 1] };
            }
            let longer = self.near_ends[length + 1];
            if longer.cost < self.near_ends[length].cost && NEAR_LENGTHS.contains(&(length + longer.low)) {
                self.near_ends[length] = End { length, ..longer };
            }
        }
    }

    /// The cost from a place on, the value after the gap included as far as it is known.
    pub(super) fn cost(&self, at: usize) -> usize {
        self.costs[at]
    }

    /// Finds the cheapest way from every place.
    pub(super) fn solve(&mut self, matches: &[Matches]) {
        for at in (0..self.length).rev() {
            let mut best = (2 + self.inside[at + 1], Step::Literal);
            let mut offer = |cost: usize, step: Step| {
                // At the same price a copy that ends the gap, offered last, may grow.
                if cost < best.0 || (cost == best.0 && matches!(step, Step::End(_) | Step::EndNear(_))) {
                    best = (cost, step);
                }
            };
            let Matches { far, near } = matches[at];
            if far.length > 0 {
                offer(3 + self.costs[at + usize::from(far.length)], Step::Copy(far));
            }
            if near.length >= 4 {
                let near = Match { length: near.length.min(11), ..near };
                offer(2 + self.costs[at + usize::from(near.length)], Step::Copy(near));
            }
            let left = self.length - at;
            if left <= MAX_EDGE {
                offer(self.ends[left].cost, Step::End(left));
                let near = self.near_ends[left];
                if near.cost < NEVER && NEAR_LENGTHS.contains(&(left + near.low)) {
                    offer(near.cost, Step::EndNear(left));
                }
            }
            (self.costs[at], self.steps[at]) = best;
            let on = 1 + self.inside[at + 1];
            self.goes_on[at] = on < best.0;
            self.inside[at] = on.min(best.0);
        }
    }

    /// Gives the elements from `at` on: first place, last place, and the copy, or `None` for a literal.
    /// What comes back is the copy that ends the gap, which is not among them.
    pub(super) fn elements(
        &self,
        mut at: usize,
        mut each: impl FnMut(usize, usize, Option<Match>),
    ) -> Option<End> {
        while at < self.length {
            match self.steps[at] {
                Step::Literal => {
                    let first = at;
                    at += 1;
                    while at < self.length && self.goes_on[at] {
                        at += 1;
                    }
                    each(first, at, None);
                }
                Step::Copy(found) => {
                    each(at, at + usize::from(found.length), Some(found));
                    at += usize::from(found.length);
                }
                Step::End(left) => return Some(self.ends[left]),
                Step::EndNear(left) => return Some(self.near_ends[left]),
            }
        }
        None
    }
}
