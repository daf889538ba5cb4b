//! What an endpoint has fetched and not yet sent, in lanes.
//!
//! A source keeps its lane, by its name: so all samples of a series go through one lane, in order. A lane is in one
//! request at a time at the most; requests of different lanes go in parallel. While one request at a time is
//! enough, it takes from all lanes, in the order of the log, as if there were none.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::batch_log::{LANES, Places};
use crate::model::{Numbered, Source};

/// A set of lanes, a bit each.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct LaneSet(u64);

const _: () = assert!(LANES == u64::BITS as usize, "a lane is a bit of a set");

impl LaneSet {
    fn insert(&mut self, lane: usize) {
        self.0 |= 1 << lane;
    }

    fn remove(&mut self, lane: usize) {
        self.0 &= !(1 << lane);
    }

    fn contains(self, lane: usize) -> bool {
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

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Numbered>,
    samples: usize,
    /// The first number of what is under way.
    sent_from: Option<u64>,
    /// What is below was settled before the start.
    settled: u64,
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
    /// Those in which something waits, and those of which something is under way.
    waiting: LaneSet,
    busy: LaneSet,
    samples: usize,
    batches: usize,
    ready: usize,
}

/// The lane of a source. It must not change from one start to the next, nor from one version to another.
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

impl Lanes {
    pub(super) fn new(settled: &Places) -> Self {
        let lane = |at: usize| Lane { settled: settled[at], ..Lane::default() };
        Lanes {
            lanes: Box::new(std::array::from_fn(lane)),
            anchors: Box::new(std::array::from_fn(|_| None)),
            waiting: LaneSet::default(),
            busy: LaneSet::default(),
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

    /// Takes in a batch, which comes after all that came before.
    pub(super) fn push(&mut self, lane: usize, numbered: Numbered) {
        let samples = numbered.batch.samples();
        self.samples += samples;
        self.batches += 1;
        self.ready += if self.busy.contains(lane) { 0 } else { samples };
        self.waiting.insert(lane);
        let lane = &mut self.lanes[lane];
        lane.samples += samples;
        lane.waiting.push_back(numbered);
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
                let (first, next) = (name_of(&out[start]), name_of(front));
                let anchor = self.anchors[group].as_ref().map(|(source, _)| source.name.as_str());
                let begins_anew = anchor == Some(next) && anchor != Some(first);
                if begins_anew || first == next && 2 * samples - round_from > max_samples {
                    break;
                }
                if first == next {
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
    }

    /// Below which number everything of each lane is settled, where all below `fetched` was taken in.
    pub(super) fn places(&self, fetched: u64) -> Places {
        std::array::from_fn(|at| {
            let lane = &self.lanes[at];
            let first = lane.waiting.front().map(|numbered| numbered.sequence);
            lane.sent_from.or(first).unwrap_or(fetched).max(lane.settled)
        })
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
