//! Where one endpoint stands in the order of all samples, and where its next batches come from: from memory
//! while it keeps up, from the batch log when it lags. What was fetched waits in lanes.

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::watch;

use super::blocks::Blocks;
use super::lanes::{LaneSet, Lanes};
use super::resumed::{Absent, Resumed};
use super::split::{Splitter, ranges};
use crate::aggregate::{Fetched, Tail};
use crate::batch_log::{Backlog, Standing};
use crate::limits::{LANE_BATCHES, LANE_SAMPLES};
use crate::model::Numbered;
use crate::self_metrics::EndpointStats;

/// The place of one endpoint, or of one part of what it has to send.
pub struct Feed {
    tail: Arc<Tail>,
    newest: watch::Receiver<u64>,
    backlog: Option<Backlog>,
    /// The end of what was fetched.
    fetched: u64,
    /// What is from there on is another feed's.
    until: u64,
    resumed: Resumed,
    fresh: Vec<Numbered>,
    blocks: Blocks,
    lanes: Lanes,
    splitter: Splitter,
    /// Where a batch is cut.
    cuts: Vec<Range<usize>>,
    /// Samples under way.
    sent: usize,
}

impl Feed {
    /// A feed that begins where the log says, or without one with what comes next.
    pub fn new(tail: Arc<Tail>, backlog: Option<Backlog>) -> Self {
        let mut newest = tail.subscribe();
        newest.mark_changed();
        let next = tail.next();
        let mut standing = backlog.as_ref().map_or(Standing::at(next), Backlog::standing);
        standing.places = standing.places.map(|place| place.min(next));
        let fetched = standing.places.iter().copied().min().unwrap_or(next);
        Feed {
            tail,
            newest,
            backlog,
            fetched,
            until: u64::MAX,
            resumed: Resumed::new(&standing),
            fresh: Vec::new(),
            blocks: Blocks::default(),
            lanes: Lanes::new(&standing.places),
            splitter: Splitter::default(),
            cuts: Vec::new(),
            sent: 0,
        }
    }

    /// The feed of the second part, where a life before has split it off.
    pub(super) fn second(&mut self) -> Option<Feed> {
        let (at, backlog) = self.backlog.as_ref()?.second()?;
        self.until = at;
        Some(Feed::new(self.tail.clone(), Some(backlog)))
    }

    /// Leaves what comes from now on to a feed of its own. `None` without a log, which remembers it.
    pub(super) fn split(&mut self) -> Option<Feed> {
        let at = self.tail.next();
        let backlog = self.backlog.as_mut()?.split_at(at);
        self.until = at;
        Some(Feed::new(self.tail.clone(), Some(backlog)))
    }

    /// Takes the place of the part before this one, which is settled.
    pub(super) fn unite(&mut self) {
        self.backlog.iter_mut().for_each(Backlog::unite);
    }

    /// Whether all there will ever be of it is settled.
    pub(super) fn is_settled(&self) -> bool {
        self.fetched >= self.until && self.lanes.batches() == 0 && self.sent == 0
    }

    /// Fetches until so many requests of `max_samples` can be made of lanes that are idle, or there is no more. What can
    /// be found nowhere any more is counted as dropped. Gives how many samples are ready.
    pub fn fill(&mut self, max_samples: usize, requests: usize, stats: &EndpointStats) -> usize {
        self.newest.borrow_and_update();
        let wanted = max_samples * requests;
        while self.lanes.ready() < wanted
            && self.lanes.samples() < LANE_SAMPLES.max(max_samples)
            && self.lanes.batches() < LANE_BATCHES
            && self.fetched < self.until
        {
            let before = self.fetched;
            self.fetch(max_samples.min(wanted - self.lanes.ready()), stats);
            self.sort_into_lanes(max_samples);
            self.resumed.looked(self.fetched, stats);
            if self.fetched == before {
                break;
            }
        }
        self.lanes.ready()
    }

    fn fetch(&mut self, max_samples: usize, stats: &EndpointStats) {
        while self.fetched < self.until
            && let Fetched::BeginsAt(begins_at) = self.tail.fetch(self.fetched, max_samples, &mut self.fresh)
        {
            let (from, end) = (self.fetched, begins_at.min(self.until));
            if let Some(log) = &mut self.backlog
                && log.fetch(from, end, max_samples, &mut self.fresh)
            {
                break;
            }
            self.miss(from, end, stats);
            self.fetched = end;
        }
        let of_this = self.fresh.partition_point(|numbered| numbered.sequence < self.until);
        self.fresh.truncate(of_this);
        for at in 0..of_this {
            let (sequence, end) = (self.fresh[at].sequence, self.fresh[at].end());
            if sequence > self.fetched {
                self.miss(self.fetched, sequence, stats);
            }
            self.fetched = end;
        }
    }

    /// The numbers from `from` to `to` are in neither the tail nor the log.
    fn miss(&mut self, from: u64, to: u64, stats: &EndpointStats) {
        let why = self.backlog.as_mut().map(Backlog::take_missing).unwrap_or_default();
        let missing = to - from;
        let damaged = why.damaged.min(missing);
        let dropped = why.dropped.min(missing - damaged);
        let absent = Absent { damaged, dropped, unknown: missing - damaged - dropped };
        self.resumed.missing(from, to, absent, stats);
    }

    fn sort_into_lanes(&mut self, max_samples: usize) {
        for numbered in self.fresh.drain(..) {
            let course = self.blocks.course(&numbered);
            let (sequence, samples) = (numbered.sequence, numbered.batch.samples());
            if samples <= max_samples
                && let Some(lane) = course.lane()
                && sequence >= self.lanes.settled(lane)
            {
                self.resumed.found(sequence, numbered.end());
                self.lanes.push(lane, numbered, course.hold);
                continue;
            }
            self.cuts.clear();
            for block in course.blocks(samples) {
                let settled = self.lanes.settled(course.lane_at(block.start)).saturating_sub(sequence);
                let from = block.start.max(usize::try_from(settled).unwrap_or(usize::MAX));
                if from < block.end {
                    self.resumed.found(sequence + from as u64, sequence + block.end as u64);
                    self.cuts.extend(ranges(from, block.end, max_samples));
                }
            }
            self.splitter.split(&numbered, &self.cuts, |part| {
                let position = (part.sequence - sequence) as usize;
                self.lanes.push(course.lane_at(position), part, course.hold);
            });
        }
    }

    /// Over how many lanes a request must reach to be worth its cost.
    pub(super) fn lanes_for(&self, max_samples: usize) -> usize {
        self.lanes.lanes_for(max_samples)
    }

    /// Appends to `out` what the next request holds, of at most so many lanes and, if asked for, of the same sources as
    /// others. What waits is fetched before.
    pub fn take(
        &mut self,
        most_lanes: usize,
        max_samples: usize,
        rounds: bool,
        out: &mut Vec<Numbered>,
    ) -> LaneSet {
        let before = self.lanes.samples();
        let taken = self.lanes.take(most_lanes, max_samples, rounds, out);
        self.sent += before - self.lanes.samples();
        taken
    }

    /// The number that the next batch will have.
    pub fn reached(&self) -> u64 {
        (*self.newest.borrow()).min(self.until)
    }

    /// Samples that were taken for this endpoint and are not yet fetched.
    pub(super) fn lag(&self) -> u64 {
        let (fetched, unsettled) = self.resumed.open(self.fetched);
        self.reached().saturating_sub(fetched) + unsettled
    }

    /// Samples that were taken for this endpoint and are not yet under way, here or in the log.
    pub fn waiting(&self) -> u64 {
        self.lag() + self.lanes.samples() as u64
    }

    /// Waits until there may be something new.
    pub async fn wait(&mut self) {
        // The tail lives as long as this feed.
        let _ = self.newest.changed().await;
    }

    /// What was taken of these lanes, so many samples, is settled: it will not be asked for again.
    pub fn settle(&mut self, taken: LaneSet, samples: usize) {
        self.lanes.settle(taken);
        self.sent -= samples;
    }

    /// Makes the places known on the disk, and gives the least of them.
    pub fn acknowledge(&mut self) -> u64 {
        let sweeps = self.splitter.tick();
        let places = self.lanes.places(self.fetched);
        let (fetched, unsettled) = self.resumed.open(self.fetched);
        let unsettled = unsettled + self.held();
        if let Some(backlog) = &mut self.backlog {
            backlog.settle(&Standing { places, fetched, unsettled });
        }
        let settled = places.iter().copied().min().unwrap_or(fetched);
        if sweeps {
            self.blocks.sweep(settled);
        }
        settled
    }

    /// What was kept of the endpoint, in a life before too.
    pub(super) fn kept(&self) -> Option<Vec<u8>> {
        self.backlog.as_ref().and_then(Backlog::kept)
    }

    /// Keeps this of the endpoint over a restart, where there is a log.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.backlog.iter_mut().for_each(|backlog| backlog.keep(bytes));
    }

    /// How far was read, here or in a life before.
    pub(super) fn fetched(&self) -> u64 {
        self.resumed.open(self.fetched).0
    }

    /// Samples in memory that are not settled.
    pub(super) fn held(&self) -> u64 {
        (self.lanes.samples() + self.sent) as u64
    }
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
