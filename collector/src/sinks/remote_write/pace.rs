//! How many requests may be under way at once.
//!
//! One, while that is enough. Where answers are slow and work piles up behind them there are more, one by one, up to
//! `max_shards`; trouble halves them, and with nothing left to do they become fewer again. Nothing is drained or
//! moved for it: lanes stay what they are, requests only take from fewer of them.

use std::time::{Duration, Instant};

use crate::batch_log::LANES;
use crate::config::Queue;

/// An answer that comes within this time is no reason for more requests at once: the next can follow it.
const FAST_ANSWER: Duration = Duration::from_millis(5);
/// A request that takes longer than this with work behind it is a reason for one more.
pub(super) const SLOW_ANSWER: Duration = Duration::from_secs(1);
/// Attempts after which a request counts as stuck: others may pass it.
pub(super) const STUCK_AFTER: u32 = 5;
/// Between two looks at how many requests at once the load asks for.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How much of what waits is to be caught up within a second, as Prometheus reckons.
const CATCH_UP: f64 = 0.05;
/// The weight of the newest look.
const WEIGHT: f64 = 0.2;

/// The requests of an endpoint, counted.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct UnderWay {
    pub requests: usize,
    /// Those of them that have failed [`STUCK_AFTER`] times.
    pub stuck: usize,
}

/// The pace of one endpoint.
#[derive(Debug)]
pub(super) struct Pace {
    least: usize,
    most: usize,
    allowed: usize,
    /// Failures since the last success.
    trouble: u32,
    load: Load,
}

/// What the load asks for.
#[derive(Debug)]
struct Load {
    looked: Instant,
    taken: u64,
    sent: u64,
    busy: Duration,
    /// Seconds of answer time for a sample, and samples a second that come.
    cost: f64,
    rate: f64,
    desired: f64,
}

impl Pace {
    pub(super) fn new(queue: &Queue, now: Instant) -> Self {
        let most = queue.max_shards.clamp(1, LANES);
        let least = queue.min_shards.clamp(1, most);
        let load = Load {
            looked: now,
            taken: 0,
            sent: 0,
            busy: Duration::ZERO,
            cost: 0.0,
            rate: 0.0,
            #[expect(clippy::cast_precision_loss, reason = "at most the number of lanes")]
            desired: least as f64,
        };
        Pace { least, most, allowed: least, trouble: 0, load }
    }

    /// Requests at once at the most, by now.
    pub(super) fn allowed(&self) -> usize {
        self.allowed
    }

    pub(super) fn least(&self) -> usize {
        self.least
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Whether an attempt may begin beside so many that wait for their answers: in trouble only alone.
    pub(super) fn may_send(&self, sending: usize) -> bool {
        sending < if self.trouble > 0 { 1 } else { self.allowed }
    }

    /// Whether one more request may begin. While an endpoint answers nothing but faults, a second one is tried
    /// beside one that is stuck, in case the fault is in that one; and no third.
    pub(super) fn may_begin(&self, under_way: UnderWay) -> bool {
        let UnderWay { requests, stuck } = under_way;
        if self.trouble > 0 {
            return requests < 2 && stuck == requests;
        }
        requests - stuck < self.allowed && requests <= self.most
    }

    /// From how many lanes one request takes: from all while there is one request at a time. A power of two, so that
    /// requests go on to hold the same sources when there may be one more of them, or one less.
    pub(super) fn lanes(&self) -> usize {
        1 << (LANES / self.allowed).max(1).ilog2()
    }

    /// A request of so many samples was settled; `waiting` says that there is another full one.
    pub(super) fn succeeded(&mut self, took: Duration, samples: u64, waiting: bool) {
        self.trouble = 0;
        self.load.sent += samples;
        self.load.busy += took;
        if waiting && took > FAST_ANSWER {
            self.allowed = (self.allowed + 1).min(self.most);
        } else if !waiting {
            self.allowed = (self.allowed - 1).max(self.least);
        }
    }

    /// A request has taken longer than [`SLOW_ANSWER`], and a full one waits.
    pub(super) fn waits(&mut self) {
        if self.trouble == 0 {
            self.allowed = (self.allowed + 1).min(self.most);
        }
    }

    pub(super) fn failed(&mut self) {
        self.trouble = self.trouble.saturating_add(1);
        self.allowed = (self.allowed / 2).max(self.least);
    }

    /// How many requests at once the load asks for: `taken` samples have come for this endpoint in all, and so many
    /// wait. Where more than `max_shards` are asked for, the endpoint falls behind.
    #[expect(clippy::cast_precision_loss, reason = "figures that are estimates")]
    pub(super) fn desired(&mut self, taken: u64, waiting: u64, now: Instant) -> f64 {
        let load = &mut self.load;
        let span = now.saturating_duration_since(load.looked);
        if span < LOOK_EVERY {
            return load.desired;
        }
        let first = load.taken == 0;
        let rate = taken.saturating_sub(load.taken) as f64 / span.as_secs_f64();
        load.rate = if first { 0.0 } else { load.rate + (rate - load.rate) * WEIGHT };
        if load.sent > 0 {
            let cost = load.busy.as_secs_f64() / load.sent as f64;
            load.cost = if load.cost == 0.0 { cost } else { load.cost + (cost - load.cost) * WEIGHT };
        }
        (load.looked, load.taken, load.sent, load.busy) = (now, taken, 0, Duration::ZERO);
        let wanted = load.cost * (load.rate + CATCH_UP * waiting as f64);
        load.desired = wanted.ceil().max(self.least as f64);
        load.desired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_millis(100);

    fn pace() -> Pace {
        let queue = Queue {
            max_samples_per_send: 2000,
            min_shards: 1,
            max_shards: 50,
            capacity: 10_000,
            batch_send_deadline: SLOW,
            min_backoff: SLOW,
            max_backoff: SLOW,
            retry_on_http_429: true,
            sample_age_limit: Duration::ZERO,
        };
        Pace::new(&queue, Instant::now())
    }

    fn requests(requests: usize, stuck: usize) -> UnderWay {
        UnderWay { requests, stuck }
    }

    #[test]
    fn one_request_while_answers_are_fast_or_nothing_waits() {
        let mut pace = pace();
        for _ in 0..100 {
            pace.succeeded(Duration::from_millis(1), 2000, true);
            pace.succeeded(SLOW, 2000, false);
        }
        assert_eq!((pace.allowed(), pace.lanes()), (1, LANES));
        assert!(pace.may_begin(requests(0, 0)) && !pace.may_begin(requests(1, 0)));
    }

    #[test]
    fn more_and_more_while_work_waits_behind_slow_answers_and_fewer_afterwards() {
        let mut pace = pace();
        (0..100).for_each(|_| pace.succeeded(SLOW, 2000, true));
        assert_eq!((pace.allowed(), pace.lanes()), (50, 1));
        assert!(pace.may_begin(requests(49, 0)) && !pace.may_begin(requests(50, 0)));
        pace.failed();
        assert_eq!(pace.allowed(), 25);
        (0..100).for_each(|_| pace.succeeded(SLOW, 2000, false));
        assert_eq!(pace.allowed(), 1);
        pace.waits();
        assert_eq!(pace.allowed(), 2);
    }

    #[test]
    fn a_dead_endpoint_gets_two_requests_and_a_stuck_one_is_passed() {
        let mut pace = pace();
        pace.failed();
        assert!(pace.may_send(0) && !pace.may_send(1));
        assert!(!pace.may_begin(requests(1, 0)));
        assert!(pace.may_begin(requests(1, 1)) && !pace.may_begin(requests(2, 2)));
        pace.waits();
        assert_eq!(pace.allowed(), 1);
        pace.succeeded(SLOW, 1, false);
        assert!(pace.may_begin(requests(1, 1)), "the other one was stuck by its own fault");
        assert!(!pace.may_begin(requests(2, 1)));
    }

    #[test]
    fn the_load_asks_for_more_than_there_may_be_when_the_endpoint_falls_behind() {
        let mut pace = pace();
        let mut now = pace.load.looked;
        let mut taken = 1000;
        let mut look = |pace: &mut Pace, waiting| {
            now += LOOK_EVERY;
            taken += 100_000;
            // 10,000 a second come, a second of answers brings 1,000.
            pace.succeeded(Duration::from_secs(1), 1000, true);
            pace.desired(taken, waiting, now)
        };
        let before = (0..50).map(|_| look(&mut pace, 0)).last().unwrap();
        assert!((9.0..=11.0).contains(&before), "{before}");
        let behind = look(&mut pace, 2_000_000);
        assert!((108.0..=112.0).contains(&behind), "{behind}");
    }
}
