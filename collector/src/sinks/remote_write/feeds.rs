//! What an endpoint has to send: one feed, oldest first; or, where the newest goes first, two of them once it lags: the
//! newest from then on, and the backlog before that, which goes beside it.
//!
//! There is one backlog at a time. An endpoint that falls behind again before it has sent it sends the later one in its
//! order, and only then splits again. So nothing is sent twice, and what is remembered of it is one number.

use super::feed::Feed;
use super::lanes::LaneSet;
use crate::batch_log::Part;
use crate::limits::LANE_SAMPLES;
use crate::model::Numbered;
use crate::self_metrics::EndpointStats;

pub(super) struct Feeds {
    first: Feed,
    /// The newest, where the first is a backlog.
    second: Option<Feed>,
    /// Whether a backlog is to be split off.
    newest_first: bool,
}

impl Feeds {
    pub(super) fn new(mut first: Feed, newest_first: bool) -> Self {
        let second = first.second();
        Feeds { first, second, newest_first }
    }

    /// The part that new samples belong to.
    pub(super) fn newest(&self) -> Part {
        if self.second.is_some() { Part::Second } else { Part::First }
    }

    pub(super) fn has_backlog(&self) -> bool {
        self.second.is_some()
    }

    fn feed(&mut self, part: Part) -> &mut Feed {
        match (part, &mut self.second) {
            (Part::Second, Some(second)) => second,
            _ => &mut self.first,
        }
    }

    /// Splits off a backlog, where there should be one.
    pub(super) fn split(&mut self) {
        if self.newest_first && self.second.is_none() && self.first.lag() > LANE_SAMPLES as u64 {
            self.second = self.first.split();
        }
    }

    /// As [`Feed::fill`].
    pub(super) fn fill(
        &mut self,
        part: Part,
        max_samples: usize,
        requests: usize,
        stats: &EndpointStats,
    ) -> usize {
        let ready = self.feed(part).fill(max_samples, requests, stats);
        self.show(stats);
        ready
    }

    /// As [`Feed::lanes_for`].
    pub(super) fn lanes_for(&mut self, part: Part, max_samples: usize) -> usize {
        self.feed(part).lanes_for(max_samples)
    }

    /// As [`Feed::take`].
    pub(super) fn take(
        &mut self,
        part: Part,
        most_lanes: usize,
        max_samples: usize,
        rounds: bool,
        out: &mut Vec<Numbered>,
    ) -> LaneSet {
        self.feed(part).take(most_lanes, max_samples, rounds, out)
    }

    pub(super) fn reached(&self) -> u64 {
        self.second.as_ref().unwrap_or(&self.first).reached()
    }

    /// Samples that are not yet under way.
    pub(super) fn waiting(&self) -> u64 {
        self.first.waiting() + self.second.as_ref().map_or(0, Feed::waiting)
    }

    pub(super) async fn wait(&mut self) {
        let part = self.newest();
        self.feed(part).wait().await;
    }

    /// What was taken of these lanes is settled. `true` where that was the last of a backlog: the second part has
    /// become the first.
    pub(super) fn settle(
        &mut self,
        part: Part,
        taken: LaneSet,
        samples: usize,
        stats: &EndpointStats,
    ) -> bool {
        self.feed(part).settle(taken, samples);
        let united = self.unite();
        self.acknowledge(stats);
        united
    }

    fn unite(&mut self) -> bool {
        if !self.first.is_settled() {
            return false;
        }
        let Some(mut second) = self.second.take() else { return false };
        second.unite();
        self.first = second;
        true
    }

    /// Makes the places known.
    pub(super) fn acknowledge(&mut self, stats: &EndpointStats) {
        stats.acknowledged.set(self.first.acknowledge());
        if let Some(second) = &mut self.second {
            second.acknowledge();
        }
        self.show(stats);
    }

    /// As [`Feed::keep`].
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.first.keep(bytes);
    }

    fn show(&self, stats: &EndpointStats) {
        let newest = self.second.as_ref().unwrap_or(&self.first);
        stats.fetched.set(newest.fetched());
        let backlog = self.second.as_ref().map_or(0, |_| self.first.lag() + self.first.held());
        let unfound = newest.lag() - newest.reached().saturating_sub(newest.fetched());
        stats.held.set(newest.held() + unfound + backlog);
    }
}

#[cfg(test)]
#[path = "feeds_tests.rs"]
mod tests;
