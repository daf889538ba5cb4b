//! Where one endpoint stands in the order of all samples, and where its next batches come from: from memory
//! while it keeps up, from the batch log when it lags. What was fetched waits in lanes.

use std::sync::Arc;

use tokio::sync::watch;

use super::lanes::{LaneSet, Lanes, lane_of};
use super::split::Splitter;
use crate::aggregate::{Fetched, Tail};
use crate::batch_log::{Backlog, LANES};
use crate::limits::{LANE_BATCHES, LANE_SAMPLES};
use crate::model::Numbered;
use crate::self_metrics::{DropReason, EndpointStats};

/// The place of one endpoint.
pub struct Feed {
    tail: Arc<Tail>,
    newest: watch::Receiver<u64>,
    backlog: Option<Backlog>,
    /// The end of what was fetched.
    fetched: u64,
    fresh: Vec<Numbered>,
    lanes: Lanes,
    splitter: Splitter,
    /// Samples under way.
    sent: usize,
}

impl Feed {
    /// A feed that begins where the log says, or without one with what comes next.
    pub fn new(tail: Arc<Tail>, backlog: Option<Backlog>) -> Self {
        let mut newest = tail.subscribe();
        newest.mark_changed();
        let next = tail.next();
        let places = backlog.as_ref().map_or([next; LANES], |backlog| backlog.places().map(|p| p.min(next)));
        let fetched = places.iter().copied().min().unwrap_or(next);
        Feed {
            tail,
            newest,
            backlog,
            fetched,
            fresh: Vec::new(),
            lanes: Lanes::new(&places),
            splitter: Splitter::default(),
            sent: 0,
        }
    }

    /// Fetches until a request of `max_samples` can be made of lanes that are idle, or there is no more. What can
    /// be found nowhere any more is counted as dropped. Gives how many samples are ready.
    pub fn fill(&mut self, max_samples: usize, stats: &EndpointStats) -> usize {
        self.newest.borrow_and_update();
        while self.lanes.ready() < max_samples
            && self.lanes.samples() < LANE_SAMPLES.max(max_samples)
            && self.lanes.batches() < LANE_BATCHES
        {
            let before = self.fetched;
            self.fetch(max_samples - self.lanes.ready(), stats);
            self.sort_into_lanes(max_samples);
            if self.fetched == before {
                break;
            }
        }
        self.show(stats);
        self.lanes.ready()
    }

    fn fetch(&mut self, max_samples: usize, stats: &EndpointStats) {
        let out = &mut self.fresh;
        while let Fetched::BeginsAt(begins_at) = self.tail.fetch(self.fetched, max_samples, out) {
            let from = self.fetched;
            if let Some(log) = &mut self.backlog
                && log.fetch(from, begins_at, max_samples, out)
            {
                break;
            }
            count_missing(&mut self.backlog, begins_at - from, stats);
            self.fetched = begins_at;
        }
        for numbered in out.iter() {
            let missing = numbered.sequence.saturating_sub(self.fetched);
            if missing > 0 {
                count_missing(&mut self.backlog, missing, stats);
            }
            self.fetched = numbered.end();
        }
    }

    fn sort_into_lanes(&mut self, max_samples: usize) {
        for numbered in self.fresh.drain(..) {
            let lane = lane_of(&numbered.batch.shape().source.name);
            let settled = self.lanes.settled(lane);
            if numbered.end() <= settled {
                continue;
            }
            if numbered.sequence >= settled && numbered.batch.samples() <= max_samples {
                self.lanes.push(lane, numbered);
                continue;
            }
            let skipped = usize::try_from(settled.saturating_sub(numbered.sequence)).unwrap_or(usize::MAX);
            self.splitter.split(&numbered, skipped, max_samples, |part| self.lanes.push(lane, part));
        }
    }

    /// Appends to `out` what the next request holds, of at most so many lanes. What waits is fetched before.
    pub fn take(&mut self, most_lanes: usize, max_samples: usize, out: &mut Vec<Numbered>) -> LaneSet {
        let before = self.lanes.samples();
        let taken = self.lanes.take(most_lanes, max_samples, out);
        self.sent += before - self.lanes.samples();
        taken
    }

    /// The number that the next batch will have.
    pub fn reached(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Samples that were taken for this endpoint and are not yet under way, here or in the log.
    pub fn waiting(&self) -> u64 {
        self.reached().saturating_sub(self.fetched) + self.lanes.samples() as u64
    }

    /// Waits until there may be something new.
    pub async fn wait(&mut self) {
        // The tail lives as long as this feed.
        let _ = self.newest.changed().await;
    }

    /// What was taken of these lanes, so many samples, is settled: it will not be asked for again, also not after
    /// a restart.
    pub fn settle(&mut self, taken: LaneSet, samples: usize, stats: &EndpointStats) {
        self.lanes.settle(taken);
        self.sent -= samples;
        self.acknowledge(stats);
    }

    /// Makes the places known, and on the disk.
    pub fn acknowledge(&mut self, stats: &EndpointStats) {
        self.splitter.tick();
        let places = self.lanes.places(self.fetched);
        if let Some(backlog) = &mut self.backlog {
            backlog.acknowledge(&places);
        }
        stats.acknowledged.set(places.iter().copied().min().unwrap_or(self.fetched));
        self.show(stats);
    }

    fn show(&self, stats: &EndpointStats) {
        stats.fetched.set(self.fetched);
        stats.held.set((self.lanes.samples() + self.sent) as u64);
    }
}

/// Counts samples that are in neither the tail nor the log.
fn count_missing(backlog: &mut Option<Backlog>, missing: u64, stats: &EndpointStats) {
    let why = backlog.as_mut().map(Backlog::take_missing).unwrap_or_default();
    let damaged = why.damaged.min(missing);
    let dropped = why.dropped.min(missing - damaged);
    stats.dropped(DropReason::Corrupt).add(damaged);
    stats.dropped(DropReason::LogFull).add(dropped);
    stats.dropped(DropReason::MemoryFull).add(missing - damaged - dropped);
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
