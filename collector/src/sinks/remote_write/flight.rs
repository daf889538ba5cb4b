//! A request under way: what it holds, until it is settled.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::accord::{Dialect, Probe};
use super::answer::{Answer, Written};
use super::backoff::Backoff;
use super::lanes::LaneSet;
use super::pace::{STUCK_AFTER, UnderWay};
use crate::batch_log::Part;
use crate::config::Endpoint;
use crate::model::Numbered;
use crate::self_metrics::{DropReason, EndpointStats};
use crate::sys::clock;

type Attempt = Pin<Box<dyn Future<Output = (Answer, Duration)> + Send>>;

/// What is being done with a request.
pub(super) enum State {
    /// It is sent at this time at the earliest.
    Due(Instant),
    Sending {
        since: Instant,
        attempt: Attempt,
    },
}

/// A request, with what it would have to count.
pub(super) struct Flight {
    /// Of which feed it is.
    pub part: Part,
    pub lanes: LaneSet,
    /// Samples that were taken from the lanes for it.
    pub taken: usize,
    pub batches: Vec<Numbered>,
    pub body: Bytes,
    pub sent: Written,
    /// Samples that its protocol has no form for.
    pub left_out: u64,
    pub dialect: Dialect,
    /// Whether it tells help and unit of families, in 2.0.
    pub help: bool,
    pub probe: Probe,
    pub newest_ms: i64,
    /// Attempts that came to nothing.
    pub failures: u32,
    /// Whether its samples are counted as sent.
    pub is_counted: bool,
    pub backoff: Backoff,
    pub state: State,
}

impl Flight {
    pub(super) fn samples(&self) -> u64 {
        self.sent.samples + self.sent.histograms
    }

    pub(super) fn is_sending(&self) -> bool {
        matches!(self.state, State::Sending { .. })
    }

    /// Since when it waits for an answer.
    pub(super) fn sending_since(&self) -> Option<Instant> {
        match self.state {
            State::Sending { since, .. } => Some(since),
            State::Due(_) => None,
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Due(due) => Some(due),
            State::Sending { .. } => None,
        }
    }

    /// Leaves out batches older than `sample_age_limit`.
    pub(super) fn drop_old(&mut self, endpoint: &Endpoint, stats: &EndpointStats) {
        if endpoint.queue.sample_age_limit.is_zero() {
            return;
        }
        let oldest = oldest_sent(endpoint);
        self.batches.retain(|numbered| {
            let keep = numbered.batch.time_ms >= oldest;
            if !keep {
                stats.dropped(DropReason::TooOld).add(numbered.batch.samples() as u64);
            }
            keep
        });
    }
}

/// Samples of before this time are not sent.
pub(super) fn oldest_sent(endpoint: &Endpoint) -> i64 {
    let limit = endpoint.queue.sample_age_limit;
    if limit.is_zero() {
        return i64::MIN;
    }
    clock::now_ms() - i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)
}

/// The requests of one endpoint that are not settled.
#[derive(Default)]
pub(super) struct Flights(pub Vec<Flight>);

impl Flights {
    pub(super) fn count(&self) -> UnderWay {
        let stuck = self.0.iter().filter(|flight| flight.failures >= STUCK_AFTER).count();
        UnderWay { requests: self.0.len(), stuck }
    }

    /// Whether there is one of that part.
    pub(super) fn has(&self, part: Part) -> bool {
        self.0.iter().any(|flight| flight.part == part)
    }

    pub(super) fn sending(&self) -> usize {
        self.0.iter().filter(|flight| flight.is_sending()).count()
    }

    /// The first answer that comes. Never, while nothing is being sent.
    pub(super) async fn answer(&mut self) -> (usize, Answer, Duration) {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<(usize, Answer, Duration)> {
        for (at, flight) in self.0.iter_mut().enumerate() {
            if let State::Sending { attempt, .. } = &mut flight.state
                && let Poll::Ready((answer, took)) = attempt.as_mut().poll(context)
            {
                return Poll::Ready((at, answer, took));
            }
        }
        Poll::Pending
    }
}
