//! When a target is scraped, and which time its samples get: as Prometheus does both.

use std::time::Duration;

/// A sample's time is that of the schedule while the scrape begins this little after it, or within a hundredth
/// of the interval where that is less: then equal intervals stay equal, and pack well.
const TOLERANCE_MS: i64 = 2;

/// Targets begin at one of so many places of the interval, those of a place together: to wake for each of them costs
/// a tenth of its scrape.
const PLACES: i64 = 64;
/// Two places are never farther apart, so that few pages come at once,
const MAX_STEP_MS: i64 = 250;
/// and not nearer: what comes within such a time is handed on together anyway.
const MIN_STEP_MS: i64 = 40;

/// The clock of one target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    interval_ms: i64,
    offset_ms: i64,
    /// When the next scrape is due.
    next_ms: i64,
}

impl Schedule {
    /// Spreads the targets over the interval by their hashes, so that a target has the same place after a restart.
    pub(super) fn new(interval: Duration, hash: u64, now_ms: i64) -> Self {
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
        let step_ms = (interval_ms / PLACES).clamp(MIN_STEP_MS.min(interval_ms), MAX_STEP_MS);
        let offset_ms = (hash % interval_ms.unsigned_abs()).cast_signed() / step_ms * step_ms;
        let since = (now_ms - offset_ms).rem_euclid(interval_ms);
        let next_ms = if since == 0 { now_ms } else { now_ms - since + interval_ms };
        Schedule { interval_ms, offset_ms, next_ms }
    }

    #[cfg(test)]
    pub(super) fn next_ms(&self) -> i64 {
        self.next_ms
    }

    /// How long until the next scrape, never longer than the interval: should the clock have been set back, the
    /// schedule begins anew from what it shows now.
    pub(super) fn wait(&mut self, now_ms: i64) -> Duration {
        if self.next_ms - now_ms > self.interval_ms {
            *self = self.anew(now_ms);
        }
        Duration::from_millis(u64::try_from(self.next_ms - now_ms).unwrap_or(0))
    }

    /// Begins a scrape: gives the time of its samples, and how many scrapes were missed before it. The next one is due
    /// after it.
    pub(super) fn begin(&mut self, now_ms: i64) -> (i64, u64) {
        let late = now_ms - self.next_ms;
        let missed = (late / self.interval_ms).max(0);
        let due = self.next_ms + missed * self.interval_ms;
        self.next_ms = due + self.interval_ms;
        let tolerance = TOLERANCE_MS.min(self.interval_ms / 100);
        // A clock that is slewed may show a little less than was waited for.
        let time_ms = if (now_ms - due).abs() <= tolerance { due } else { now_ms };
        (time_ms, missed.unsigned_abs())
    }

    fn anew(&self, now_ms: i64) -> Self {
        let since = (now_ms - self.offset_ms).rem_euclid(self.interval_ms);
        Schedule { next_ms: now_ms - since + self.interval_ms, ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_000_000_000;

    #[test]
    fn targets_are_spread_and_keep_their_places() {
        for hash in [0, 1, 4999, 5000, u64::MAX] {
            let schedule = Schedule::new(Duration::from_secs(5), hash, NOW + 1234);
            assert!((0..5000).contains(&(schedule.next_ms() - NOW - 1234)));
            assert_eq!(schedule.next_ms() % 5000, (hash % 5000).cast_signed() / 78 * 78);
        }
    }

    #[test]
    fn times_are_those_of_the_schedule_while_they_are_near() {
        let mut schedule = Schedule::new(Duration::from_secs(1), 120 + 14, NOW);
        assert_eq!(schedule.wait(NOW), Duration::from_millis(120));
        assert_eq!(schedule.begin(NOW + 122), (NOW + 120, 0));
        assert_eq!(schedule.begin(NOW + 1123), (NOW + 1123, 0), "too late to pass for punctual");
        assert_eq!(schedule.begin(NOW + 2120), (NOW + 2120, 0), "and the schedule has not moved");
        assert_eq!(schedule.begin(NOW + 6121), (NOW + 6120, 3));
        assert_eq!(schedule.next_ms(), NOW + 7120);
        let mut quick = Schedule::new(Duration::from_millis(100), 0, NOW);
        assert_eq!(quick.begin(NOW + 2), (NOW + 2, 0), "a hundredth of the interval is less than 2 ms");
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nothing() {
        let mut schedule = Schedule::new(Duration::from_secs(10), 3120, NOW);
        assert_eq!(schedule.wait(NOW - 3_600_000), Duration::from_millis(3120));
        assert_eq!(schedule.begin(NOW - 3_596_880).0, NOW - 3_596_880);
    }
}
