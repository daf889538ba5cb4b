//! What is known of a page: what stands at each position, and which series that is. It never changes, and targets
//! whose pages are equal share it.
//!
//! A page is cut at its values. A position's key is all that stands between the value before and its own: the end
//! of the line, comments, and the series up to the value; so a position that comes again is one compare. Memory,
//! shared by the targets of equal pages: the text without its values, eight bytes a position, and eight in the
//! list of series.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hashbrown::HashMap;

use super::metric::Metrics;
use super::report;
use crate::model::{SeriesList, SeriesTable};

/// Successors that a layout remembers.
const MAX_SUCCESSORS: usize = 8;
/// Layouts among which a target that comes new looks for its own.
const MAX_RECENT: usize = 8;
/// Bytes of keys that a slot can number.
pub(super) const MAX_KEYS: usize = 1 << 29;

/// What a position gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum Gives {
    /// A float at the time of the scrape.
    Float = 0,
    /// A float with a time of its own.
    Timed = 1,
    /// Nothing: relabelling dropped it.
    Dropped = 2,
    /// Nothing: the series stands on the page before.
    Duplicate = 3,
    /// Nothing: the target has as many series as it may.
    Limited = 4,
    /// A native histogram at the time of the scrape.
    Histogram = 5,
    TimedHistogram = 6,
    /// No sample, but its value counts for others.
    Noted = 7,
}

/// One position: where in the keys its line begins and its key ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// The place, and above it what the position gives.
    line: u32,
    pub end: u32,
}

impl Slot {
    pub(super) fn new(line: usize, end: usize, gives: Gives) -> Self {
        debug_assert!(line <= end && end < MAX_KEYS);
        Slot { line: line as u32 | (gives as u32) << 29, end: end as u32 }
    }

    pub(super) fn line(self) -> usize {
        (self.line & (MAX_KEYS as u32 - 1)) as usize
    }

    #[inline]
    pub(super) fn gives(self) -> Gives {
        match self.line >> 29 {
            0 => Gives::Float,
            1 => Gives::Timed,
            2 => Gives::Dropped,
            3 => Gives::Duplicate,
            4 => Gives::Limited,
            5 => Gives::Histogram,
            6 => Gives::TimedHistogram,
            _ => Gives::Noted,
        }
    }
}

/// What stands where, and which series it is.
pub(super) struct Layout {
    /// The keys one behind the other, and what follows the last value.
    pub keys: Box<[u8]>,
    pub slots: Box<[Slot]>,
    /// The series of the page, then those of the report.
    pub list: Arc<SeriesList>,
    /// Floats of the page, without the report.
    pub floats: usize,
    /// Positions that metric relabelling left.
    pub kept: usize,
    pub duplicates: usize,
    pub limited: usize,
    pub metrics: Metrics,
    /// Which series of the report the page has itself, a bit each: as in Prometheus the page's sample is the one that
    /// counts.
    pub own_report: u8,
    /// Layouts that are equal up to a position, and there go on otherwise.
    successors: Mutex<Vec<(usize, Weak<Layout>)>>,
}

/// The counts and contents of a layout to be.
pub(super) struct Parts {
    pub keys: Vec<u8>,
    pub slots: Vec<Slot>,
    pub list: Arc<SeriesList>,
    pub floats: usize,
    pub kept: usize,
    pub duplicates: usize,
    pub limited: usize,
    pub metrics: Metrics,
    pub own_report: u8,
}

impl Layout {
    pub(super) fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Layout {
            keys: parts.keys.into(),
            slots: parts.slots.into(),
            list: parts.list,
            floats: parts.floats,
            kept: parts.kept,
            duplicates: parts.duplicates,
            limited: parts.limited,
            metrics: parts.metrics,
            own_report: parts.own_report,
            successors: Mutex::default(),
        })
    }

    /// Samples on the page.
    pub(super) fn scraped(&self) -> usize {
        self.slots.len() - self.metrics.swallowed + self.metrics.converted
    }

    /// Where the key of a position begins.
    pub(super) fn key_start(&self, slot: usize) -> usize {
        slot.checked_sub(1).map_or(0, |before| self.slots[before].end as usize)
    }

    /// The key of a position; for the one behind the last, what follows the last value.
    pub(super) fn key(&self, slot: usize) -> &[u8] {
        let end = self.slots.get(slot).map_or(self.keys.len(), |slot| slot.end as usize);
        &self.keys[self.key_start(slot)..end]
    }

    /// Remembers that `other` is equal up to position `slot`.
    pub(super) fn add_successor(&self, slot: usize, other: &Arc<Layout>) {
        let mut successors = lock(&self.successors);
        successors.retain(|(_, layout)| layout.strong_count() > 0);
        if successors.len() == MAX_SUCCESSORS {
            successors.remove(0);
        }
        successors.push((slot, Arc::downgrade(other)));
    }

    /// A layout that is equal up to position `slot` and has there what stands at the start of `rest`; the
    /// `skip`th of them, the newest first.
    pub(super) fn successor(&self, slot: usize, rest: &[u8], skip: usize) -> Option<Arc<Layout>> {
        let successors = lock(&self.successors);
        let fits = |layout: &Arc<Layout>| match slot < layout.slots.len() {
            true => rest.starts_with(layout.key(slot)),
            false => rest == layout.key(slot),
        };
        let of_slot = successors.iter().rev().filter(|(at, _)| *at == slot);
        of_slot.filter_map(|(_, layout)| layout.upgrade()).filter(fits).nth(skip)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The layouts of targets that may share them: those of one job whose labels have the same names.
pub(super) struct Class {
    pub table: Arc<SeriesTable>,
    /// The report's series alone: the list of a scrape that failed.
    pub report: Arc<SeriesList>,
    recent: Mutex<Vec<Weak<Layout>>>,
    /// How many series were new between two lists, for targets that change one after the other.
    added: Mutex<(u64, u64, usize)>,
}

impl Class {
    /// `labels` are the target's, where its series carry them themselves.
    pub(super) fn new(table: &Arc<SeriesTable>, labels: &[(String, String)], extra: bool) -> Arc<Self> {
        Arc::new(Class {
            table: table.clone(),
            report: report::list(table, labels, extra),
            recent: Mutex::default(),
            added: Mutex::default(),
        })
    }

    pub(super) fn remember(&self, layout: &Arc<Layout>) {
        let mut recent = lock(&self.recent);
        recent.retain(|known| known.strong_count() > 0);
        recent.truncate(MAX_RECENT - 1);
        recent.insert(0, Arc::downgrade(layout));
    }

    /// A layout for a target that has none: the newest that begins as `body` does.
    pub(super) fn first(&self, body: &[u8]) -> Option<Arc<Layout>> {
        let recent = lock(&self.recent);
        let fits = |layout: &Arc<Layout>| !layout.slots.is_empty() && body.starts_with(layout.key(0));
        recent.iter().filter_map(Weak::upgrade).find(fits)
    }

    /// The newest layout.
    pub(super) fn newest(&self) -> Option<Arc<Layout>> {
        lock(&self.recent).iter().find_map(Weak::upgrade)
    }

    /// How many series `new` has that `old` lacks.
    pub(super) fn added(&self, old: &SeriesList, new: &SeriesList) -> usize {
        if old.id() == new.id() {
            return 0;
        }
        let mut latest = lock(&self.added);
        if (latest.0, latest.1) != (old.id(), new.id()) {
            let (floats, histograms) = new.missing_from(old);
            *latest = (old.id(), new.id(), floats.len() + histograms.len());
        }
        latest.2
    }
}

/// What the targets of one job share. Their rules must be the same.
#[derive(Default)]
pub struct Layouts {
    /// By the names of the target's labels.
    classes: Mutex<HashMap<Vec<String>, Weak<Class>>>,
}

impl Layouts {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn class(
        &self,
        table: &Arc<SeriesTable>,
        labels: &[(String, String)],
        extra: bool,
    ) -> Arc<Class> {
        let names: Vec<String> = labels.iter().map(|(name, _)| name.clone()).collect();
        let mut classes = lock(&self.classes);
        if let Some(class) = classes.get(&names).and_then(Weak::upgrade) {
            return class;
        }
        classes.retain(|_, class| class.strong_count() > 0);
        let class = Class::new(table, &[], extra);
        classes.insert(names, Arc::downgrade(&class));
        class
    }
}
