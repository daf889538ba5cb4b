//! What a feed knows of the time before its start: how much of what had been read by then was not settled.
//!
//! Lanes go ahead of each other. So where numbers are missing from the log, some of them may have been settled in the
//! life before, and which ones is not known: but how many were not is, and what of these does not turn up is lost.

use crate::batch_log::Standing;
use crate::self_metrics::{DropReason, EndpointStats};

/// Samples that are missing, by what is known of it.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Absent {
    pub damaged: u64,
    pub dropped: u64,
    /// They were never in the log, or it is not known why they are not.
    pub unknown: u64,
}

impl Absent {
    /// Counts them, but no more than `most`, and gives how many that were.
    fn count(self, most: u64, stats: &EndpointStats) -> u64 {
        let mut left = most;
        for (reason, samples) in [
            (DropReason::Corrupt, self.damaged),
            (DropReason::LogFull, self.dropped),
            (DropReason::MemoryFull, self.unknown),
        ] {
            let counted = samples.min(left);
            stats.dropped(reason).add(counted);
            left -= counted;
        }
        most - left
    }

    fn all(self) -> u64 {
        self.damaged + self.dropped + self.unknown
    }
}

/// What is still to be found of the time before the start.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Resumed {
    /// What is at or behind this number was not read before.
    until: u64,
    unsettled: u64,
    absent: Absent,
}

impl Resumed {
    pub(super) fn new(standing: &Standing) -> Self {
        Resumed { until: standing.fetched, unsettled: standing.unsettled, absent: Absent::default() }
    }

    /// How far was read, and how many samples of that are still to be found, where everything before `fetched` is found.
    pub(super) fn open(&self, fetched: u64) -> (u64, u64) {
        if fetched < self.until { (self.until, self.unsettled) } else { (fetched, 0) }
    }

    /// An unsettled batch was found that takes the numbers from `from` to `to`.
    pub(super) fn found(&mut self, from: u64, to: u64) {
        self.unsettled = self.unsettled.saturating_sub(to.min(self.until).saturating_sub(from));
    }

    /// The numbers from `from` to `to` are nowhere.
    pub(super) fn missing(&mut self, from: u64, to: u64, why: Absent, stats: &EndpointStats) {
        if from >= self.until {
            why.count(why.all(), stats);
            return;
        }
        self.absent.damaged += why.damaged;
        self.absent.dropped += why.dropped;
        self.absent.unknown += why.unknown;
        // What no life before has read is lost for sure.
        self.unsettled += to.saturating_sub(self.until);
    }

    /// Everything before `fetched` was looked for: at the end of what had been read, what was not found is lost.
    pub(super) fn looked(&mut self, fetched: u64, stats: &EndpointStats) {
        if fetched < self.until || self.until == 0 {
            return;
        }
        let lost = std::mem::take(&mut self.unsettled);
        let counted = std::mem::take(&mut self.absent).count(lost, stats);
        // Missed in a life that ended before it came to this place.
        stats.dropped(DropReason::MemoryFull).add(lost - counted);
        self.until = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch_log::LANES;

    fn counted(stats: &EndpointStats) -> [u64; 3] {
        [DropReason::Corrupt, DropReason::LogFull, DropReason::MemoryFull]
            .map(|reason| stats.dropped(reason).get())
    }

    #[test]
    fn of_a_gap_only_what_was_not_settled_is_lost() {
        let stats = EndpointStats::new("r", "u");
        // 100 to 200 was read, 30 of it not settled: 20 of them turn up, and 50 numbers are missing.
        let mut resumed = Resumed::new(&Standing { places: [100; LANES], fetched: 200, unsettled: 30 });
        assert_eq!(resumed.open(100), (200, 30));
        resumed.missing(110, 160, Absent { damaged: 50, ..Absent::default() }, &stats);
        resumed.found(160, 180);
        resumed.looked(180, &stats);
        assert_eq!((resumed.open(180), counted(&stats)), ((200, 10), [0, 0, 0]));
        resumed.looked(200, &stats);
        assert_eq!((resumed.open(200), counted(&stats)), ((200, 0), [10, 0, 0]));
        resumed.missing(210, 220, Absent { dropped: 10, ..Absent::default() }, &stats);
        assert_eq!(counted(&stats), [10, 10, 0], "what comes later was never read before");
    }

    #[test]
    fn a_gap_beyond_what_was_read_is_lost_whole() {
        let stats = EndpointStats::new("r", "u");
        let mut resumed = Resumed::new(&Standing { places: [100; LANES], fetched: 200, unsettled: 30 });
        resumed.missing(100, 300, Absent { dropped: 180, unknown: 20, damaged: 0 }, &stats);
        resumed.looked(300, &stats);
        assert_eq!(counted(&stats), [0, 130, 0]);
        resumed.looked(300, &stats);
        assert_eq!(counted(&stats), [0, 130, 0], "once");
    }
}
