//! What an endpoint has fetched and not yet sent, in lanes.
//!
//! A source keeps its lane, or its lanes where it is large (`blocks.rs`), by its name: so all samples of a series go
//! through one lane, in order. Where a series may have changed its lane, what comes first of it in the new one is held
//! back until the old ones have settled what is older; lanes that have nothing to do with it go on.
//!
//! A lane is in one request at a time at the most; requests of different lanes go in parallel. While one request at a
//! time is enough, it takes from all lanes, in the order of the log, as if there were none.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::batch_log::{LANES, Places};
use crate::model::{Numbered, Source};

/// A set of lanes, a bit each.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct LaneSet(u64);

const _: () = assert!(LANES == u64::BITS as usize, "a lane is a bit of a set");

impl LaneSet {
    pub(super) fn insert(&mut self, lane: usize) {
        self.0 |= 1 << lane;
    }

    fn remove(&mut self, lane: usize) {
        self.0 &= !(1 << lane);
    }

    pub(super) fn contains(self, lane: usize) -> bool {
        self.0 >> lane & 1 == 1
    }

    fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let lane = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(lane)
        })
    }
}

/// What a batch has to wait for: that these lanes, beside its own, have settled what is below a number. It is the number
/// of the batch at the most; so the lowest number of all lanes never waits for another, and none for ever.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    pub lanes: LaneSet,
    pub below: u64,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Numbered>,
    /// Of these.
    samples: usize,
    /// What has to wait for other lanes, and what came after it.
    held: VecDeque<(Numbered, Option<Hold>)>,
    /// The first number of what is under way.
    sent_from: Option<u64>,
    /// What is below was settled before the start.
    settled: u64,
}

impl Lane {
    /// The first number that is not settled.
    fn open_from(&self) -> Option<u64> {
        let held = || self.held.front().map(|(numbered, _)| numbered);
        self.sent_from.or_else(|| self.waiting.front().or_else(held).map(|numbered| numbered.sequence))
    }
}

/// Requests without the source that begins a round, after which another one begins it.
const MAX_WITHOUT: u32 = 64;

/// The source with which the rounds of a group of lanes begin, and for how many requests it was not met.
type Anchor = Option<(Arc<Source>, u32)>;

/// The lanes of one endpoint.
pub(super) struct Lanes {
    lanes: Box<[Lane; LANES]>,
    /// Of each group.
    anchors: Box<[Anchor; LANES]>,
    /// Those in which something waits that may go, those of which something is under way, and those in which something
    /// is held back.
    waiting: LaneSet,
    busy: LaneSet,
    held: LaneSet,
    samples: usize,
    batches: usize,
    ready: usize,
}

/// The lane of a source that is not cut. It must not change from one start to the next, nor from one version to another.
pub fn lane_of(source: &str) -> usize {
    crc32fast::hash(source.as_bytes()) as usize % LANES
}

/// How many rounds like the first a request takes where so many samples wait behind it: as many as fit, and where those
/// do not wait a power of two, so that requests of the same sources are of few lengths.
fn whole_rounds(round: usize, waiting: usize, max_samples: usize) -> usize {
    let (fit, there) = (max_samples / round.max(1), 1 + waiting / round.max(1));
    if there >= fit { fit.max(1) } else { 1 << there.ilog2() }
}

fn name_of(numbered: &Numbered) -> &str {
    &numbered.batch.shape().source.name
}

/// Whether the source of `first` comes round again with `next`: parts of one batch are of one round.
fn comes_again(first: &Numbered, next: &Numbered) -> bool {
    first.batch.time_ms != next.batch.time_ms && name_of(first) == name_of(next)
}

impl Lanes {
    pub(super) fn new(settled: &Places) -> Self {
        let lane = |at: usize| Lane { settled: settled[at], ..Lane::default() };
        Lanes {
            lanes: Box::new(std::array::from_fn(lane)),
            anchors: Box::new(std::array::from_fn(|_| None)),
            waiting: LaneSet::default(),
            busy: LaneSet::default(),
            held: LaneSet::default(),
            samples: 0,
            batches: 0,
            ready: 0,
        }
    }

    /// Samples that wait.
    pub(super) fn samples(&self) -> usize {
        self.samples
    }

    /// Batches that wait.
    pub(super) fn batches(&self) -> usize {
        self.batches
    }

    /// Samples that wait in lanes of which nothing is under way.
    pub(super) fn ready(&self) -> usize {
        self.ready
    }

    /// Over how many lanes a request must reach to be at least half as large as it may be, as what waits in idle ones is
    /// spread. It is a power of two, so that groups of lanes stay what they are while the load is much the same.
    pub(super) fn lanes_for(&self, max_samples: usize) -> usize {
        let idle = LaneSet(self.waiting.0 & !self.busy.0).iter().count();
        let used = LaneSet(self.waiting.0 | self.busy.0).iter().count();
        let share = (LANES * max_samples * idle).div_ceil((self.ready * used).max(1)).clamp(1, LANES);
        1 << share.ilog2()
    }

    /// The number below which `lane` was settled before the start.
    pub(super) fn settled(&self, lane: usize) -> u64 {
        self.lanes[lane].settled
    }

    /// Takes in a batch, which comes after all that came before, and goes after what it has to wait for.
    pub(super) fn push(&mut self, lane: usize, numbered: Numbered, hold: Option<Hold>) {
        self.samples += numbered.batch.samples();
        self.batches += 1;
        if self.held.contains(lane) || hold.is_some_and(|hold| !self.is_over(hold, lane)) {
            self.held.insert(lane);
            self.lanes[lane].held.push_back((numbered, hold));
        } else {
            self.admit(lane, numbered);
        }
    }

    /// From now on it may go.
    fn admit(&mut self, lane: usize, numbered: Numbered) {
        let samples = numbered.batch.samples();
        self.ready += if self.busy.contains(lane) { 0 } else { samples };
        self.waiting.insert(lane);
        let lane = &mut self.lanes[lane];
        lane.samples += samples;
        lane.waiting.push_back(numbered);
    }

    /// Whether a batch in `lane` has nothing more to wait for: what is older in its own lane goes before it anyhow.
    fn is_over(&self, hold: Hold, lane: usize) -> bool {
        let open = |other: usize| self.lanes[other].open_from().is_some_and(|from| from < hold.below);
        !hold.lanes.iter().any(|other| other != lane && open(other))
    }

    /// Lets go on what has nothing more to wait for.
    fn release(&mut self) {
        for at in self.held.iter() {
            while let Some(&(_, hold)) = self.lanes[at].held.front()
                && hold.is_none_or(|hold| self.is_over(hold, at))
                && let Some((numbered, _)) = self.lanes[at].held.pop_front()
            {
                self.admit(at, numbered);
            }
            if self.lanes[at].held.is_empty() {
                self.held.remove(at);
            }
        }
    }

    /// Appends to `out` what the next request holds: of the idle ones of a group of `most` lanes, that of the lane that
    /// has waited longest, in the order of the numbers; at least one batch if there is any, then as many as stay within
    /// `max_samples`. Gives the lanes, of which no other request may take until they are settled.
    ///
    /// With `rounds`, a request ends where the round of its group's sources begins again, unless another whole round fits:
    /// then the requests of the next round hold the same sources, and are of few lengths. In 2.0 what comes together by
    /// chance has no plan.
    pub(super) fn take(
        &mut self,
        most: usize,
        max_samples: usize,
        rounds: bool,
        out: &mut Vec<Numbered>,
    ) -> LaneSet {
        let idle = LaneSet(self.waiting.0 & !self.busy.0);
        let Some(oldest) = idle.iter().min_by_key(|&lane| self.first(lane)) else { return idle };
        let group = oldest / most.max(1);
        let mut open = LaneSet::default();
        idle.iter().filter(|lane| lane / most.max(1) == group).for_each(|lane| open.insert(lane));
        let (mut taken, mut samples, mut round_from, start) = (LaneSet::default(), 0, 0, out.len());
        let (mut whole, mut wanted) = (0, None);
        while let Some(at) = open.iter().min_by_key(|&lane| self.first(lane)) {
            let Some(front) = self.lanes[at].waiting.front() else { break };
            let more = front.batch.samples();
            if samples > 0 && samples + more > max_samples {
                break;
            }
            if rounds && samples > 0 {
                let again = comes_again(&out[start], front);
                let anchor = self.anchors[group].as_ref().map(|(source, _)| source.name.as_str());
                let begins_anew = anchor == Some(name_of(front)) && anchor != Some(name_of(&out[start]));
                if begins_anew || again && 2 * samples - round_from > max_samples {
                    break;
                }
                if again {
                    (whole, round_from) = (whole + 1, samples);
                    let waiting = || open.iter().map(|at| self.lanes[at].samples).sum();
                    let wanted = *wanted.get_or_insert_with(|| whole_rounds(samples, waiting(), max_samples));
                    if whole >= wanted {
                        break;
                    }
                }
            }
            let lane = &mut self.lanes[at];
            let Some(numbered) = lane.waiting.pop_front() else { break };
            if !taken.contains(at) {
                self.ready -= lane.samples;
                lane.sent_from = Some(numbered.sequence);
                taken.insert(at);
            }
            lane.samples -= more;
            samples += more;
            self.batches -= 1;
            if lane.waiting.is_empty() {
                self.waiting.remove(at);
                open.remove(at);
            }
            out.push(numbered);
        }
        self.samples -= samples;
        self.busy = LaneSet(self.busy.0 | taken.0);
        if rounds {
            self.note_round(group, &out[start..]);
        }
        taken
    }

    /// Sees to it that the rounds of a group begin with a source that comes.
    fn note_round(&mut self, group: usize, taken: &[Numbered]) {
        let Some(first) = taken.first().map(|numbered| &numbered.batch.shape().source) else { return };
        match &mut self.anchors[group] {
            Some((source, without)) if source.name == first.name => *without = 0,
            Some((_, without)) if *without < MAX_WITHOUT => *without += 1,
            anchor => *anchor = Some((first.clone(), 0)),
        }
    }

    fn first(&self, lane: usize) -> u64 {
        self.lanes[lane].waiting.front().map_or(u64::MAX, |numbered| numbered.sequence)
    }

    /// What was taken of these lanes is dealt with: they are idle again.
    pub(super) fn settle(&mut self, taken: LaneSet) {
        for at in taken.iter() {
            self.lanes[at].sent_from = None;
            self.ready += self.lanes[at].samples;
        }
        self.busy = LaneSet(self.busy.0 & !taken.0);
        self.release();
    }

    /// Below which number everything of each lane is settled, where all below `fetched` was taken in.
    pub(super) fn places(&self, fetched: u64) -> Places {
        std::array::from_fn(|at| {
            let lane = &self.lanes[at];
            lane.open_from().unwrap_or(fetched).max(lane.settled)
        })
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
