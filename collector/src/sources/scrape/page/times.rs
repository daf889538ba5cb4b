//! Times that samples carry themselves: a sample that is no newer than the last of its series is not sent again.

use hashbrown::HashMap;

use super::aside::Aside;
use crate::model::{NO_SAMPLE, NativeHistogram, SeriesId, SeriesList};

/// Milliseconds by which a time may lie ahead of the scrape's.
const MAX_AHEAD_MS: i64 = 10 * 60_000;

/// The last time of each series that carries its own.
#[derive(Default)]
pub(super) struct Times {
    last: HashMap<SeriesId, i64>,
    /// What this page changed, for the case that it is refused.
    undo: Vec<(SeriesId, Option<i64>)>,
    /// Nothing is taken from after this.
    newest: i64,
    /// Samples of this page that were not newer.
    pub refused: usize,
    /// And those that lie too far ahead.
    pub ahead: usize,
    /// What the page says beside its samples.
    pub aside: Aside,
    /// Memory for one histogram.
    pub native: NativeHistogram,
}

impl Times {
    pub(super) fn begin(&mut self, time_ms: i64) {
        self.undo.clear();
        (self.refused, self.ahead) = (0, 0);
        self.aside.clear();
        self.newest = time_ms.saturating_add(MAX_AHEAD_MS);
    }

    /// The time of a sample, or [`NO_SAMPLE`].
    pub(super) fn stamp(&mut self, id: SeriesId, time: i64) -> i64 {
        let last = self.last.get(&id).copied();
        if time > self.newest {
            self.ahead += 1;
            return NO_SAMPLE;
        }
        if last.is_some_and(|last| time <= last) {
            self.refused += 1;
            return NO_SAMPLE;
        }
        self.last.insert(id, time);
        self.undo.push((id, last));
        time
    }

    /// Forgets what the page said that was refused.
    pub(super) fn roll_back(&mut self) {
        self.aside.clear();
        for (id, last) in self.undo.drain(..).rev() {
            match last {
                Some(last) => self.last.insert(id, last),
                None => self.last.remove(&id),
            };
        }
    }

    /// From now on only the series of `list` count; numbers of others may come to mean other series.
    pub(super) fn keep(&mut self, list: &SeriesList) {
        if self.last.is_empty() {
            return;
        }
        self.last = list.series().filter_map(|id| Some((id, *self.last.get(&id)?))).collect();
    }
}
