//! A layout in the making: what a page has that its last layout has not.
//!
//! It begins with what was equal. Then every line is first looked for in the old layout, where it is expected, a
//! few positions behind that, and at last anywhere; only what is found nowhere is parsed.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::aside::Noted;
use super::context::Context;
use super::error::{Fault, Flaw};
use super::labels::{Labeler, Verdict};
use super::layout::{Class, Gives, Layout, MAX_KEYS, Parts, Slot};
use super::metric::{self, Metrics};
use super::times::Times;
use crate::config::PageRules;
use crate::model::{Batch, Form, Kind, Of, SeriesId, SeriesList, SeriesSpec};
use crate::relabel::Labels;

/// Positions behind the expected one that are looked at before a line is looked for everywhere.
const AHEAD: usize = 8;
/// Lines that are parsed before any is looked for everywhere: what is new is nowhere, and to know where all others
/// are takes as long as to parse so many.
const PARSED: usize = 64;

/// What a position was found to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// A series that is in use, and must be counted once more.
    Series(SeriesId),
    Dropped,
    Limited,
    /// No sample, but its value counts for others.
    Noted,
    /// The page must be read the bare way.
    Bare,
}

/// What a page gives at a position, in its slot.
pub(super) enum Payload<'a> {
    Float { value: f64, time: Option<i64> },
    Histogram { fill: &'a dyn Fn(&mut Batch), time: Option<i64> },
}

pub(super) struct Draft<'o> {
    pub old: Option<&'o Layout>,
    class: &'o Class,
    rules: &'o PageRules,
    labeler: &'o Labeler,
    pub keys: Vec<u8>,
    slots: Vec<Slot>,
    floats: Vec<(SeriesId, Form)>,
    histograms: Vec<SeriesId>,
    seen: HashSet<SeriesId>,
    /// Series that this draft counts itself a user of.
    acquired: Vec<SeriesId>,
    pub context: Context,
    /// The position of the old layout that is expected next, and how many floats and histograms are before it.
    cursor: Cursor,
    everywhere: Option<HashMap<&'o [u8], Cursor>>,
    /// Lines that were not where they could be expected.
    parsed: usize,
    /// All series of the old layout, once somebody asks.
    old_series: Option<HashSet<SeriesId>>,
    kept: usize,
    duplicates: usize,
    limited: usize,
    metrics: Metrics,
}

/// Whether metric relabelling left it.
fn is_kept(gives: Gives) -> bool {
    !matches!(gives, Gives::Dropped | Gives::Limited | Gives::Noted)
}

#[derive(Clone, Copy, Default)]
struct Cursor {
    slot: usize,
    float: usize,
    histogram: usize,
}

impl Cursor {
    fn pass(&mut self, slot: Slot) {
        self.slot += 1;
        match slot.gives() {
            Gives::Float | Gives::Timed => self.float += 1,
            Gives::Histogram | Gives::TimedHistogram => self.histogram += 1,
            Gives::Dropped | Gives::Duplicate | Gives::Limited | Gives::Noted => {}
        }
    }
}

impl<'o> Draft<'o> {
    /// Begins with the first `equal` positions of `old`.
    pub(super) fn new(
        old: Option<&'o Layout>,
        equal: usize,
        class: &'o Class,
        rules: &'o PageRules,
        labeler: &'o Labeler,
    ) -> Self {
        let mut draft = Draft {
            old,
            class,
            rules,
            labeler,
            keys: Vec::new(),
            slots: Vec::new(),
            floats: Vec::new(),
            histograms: Vec::new(),
            seen: HashSet::new(),
            acquired: Vec::new(),
            context: Context::default(),
            cursor: Cursor::default(),
            everywhere: None,
            parsed: 0,
            old_series: None,
            kept: 0,
            duplicates: 0,
            limited: 0,
            metrics: Metrics::default(),
        };
        if let Some(old) = old {
            draft.keys.reserve(old.keys.len() + old.keys.len() / 8);
            draft.keys.extend_from_slice(&old.keys[..old.key_start(equal)]);
            draft.slots.reserve(old.slots.len() + 8);
            draft.slots.extend_from_slice(&old.slots[..equal]);
            for slot in &draft.slots {
                draft.cursor.pass(*slot);
                draft.kept += usize::from(is_kept(slot.gives()));
                draft.duplicates += usize::from(slot.gives() == Gives::Duplicate);
                draft.limited += usize::from(slot.gives() == Gives::Limited);
            }
            draft.floats.extend_from_slice(&old.list.floats()[..draft.cursor.float]);
            draft.histograms.extend_from_slice(&old.list.histograms()[..draft.cursor.histogram]);
            draft.seen.reserve(old.floats);
            draft.seen.extend(draft.floats.iter().map(|&(id, _)| id));
            draft.seen.extend(draft.histograms.iter().copied());
        }
        draft
    }

    /// Samples on the page so far, and those that relabelling left.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.slots.len(), self.kept)
    }

    /// The old layout's next key, if that gives something and `rest` begins with it: key, and where its line
    /// begins in it.
    pub(super) fn expected(&self, rest: &[u8]) -> Option<(&'o [u8], usize)> {
        let old = self.old?;
        let slot = old.slots.get(self.cursor.slot)?;
        let key = old.key(self.cursor.slot);
        rest.starts_with(key).then(|| (key, slot.line() - old.key_start(self.cursor.slot)))
    }

    /// What the position is whose key was expected and came.
    pub(super) fn take_expected(&mut self) -> Option<Found> {
        let (old, at) = (self.old?, self.cursor);
        self.cursor.pass(*old.slots.get(at.slot)?);
        self.found(at)
    }

    /// Looks for a line, up to its value, in the old layout.
    pub(super) fn find(&mut self, line: &[u8]) -> Option<Found> {
        let old = self.old?;
        let mut cursor = self.cursor;
        for _ in 0..AHEAD {
            let Some(&slot) = old.slots.get(cursor.slot) else { break };
            let at = cursor;
            cursor.pass(slot);
            if &old.keys[slot.line()..slot.end as usize] == line {
                self.cursor = cursor;
                return self.found(at);
            }
        }
        self.parsed += 1;
        if self.parsed <= PARSED {
            return None;
        }
        let at = *self.everywhere.get_or_insert_with(|| every_line(old)).get(line)?;
        self.cursor = at;
        self.cursor.pass(old.slots[at.slot]);
        self.found(at)
    }

    /// What the position of the old layout is; `None` where that must be found out anew.
    fn found(&self, at: Cursor) -> Option<Found> {
        let old = self.old?;
        match old.slots[at.slot].gives() {
            Gives::Float | Gives::Timed => Some(Found::Series(old.list.floats()[at.float].0)),
            Gives::Histogram | Gives::TimedHistogram => {
                Some(Found::Series(old.list.histograms()[at.histogram]))
            }
            Gives::Dropped => Some(Found::Dropped),
            Gives::Noted => Some(Found::Noted),
            Gives::Duplicate | Gives::Limited => None,
        }
    }

    /// Whether what stands here may be a part of a histogram that is converted.
    pub(super) fn may_convert(&self) -> bool {
        self.rules.convert_classic_histograms && self.context.kind == Some(Kind::Histogram)
    }

    /// What a line of text is, of which `known` is what the same line was before.
    pub(super) fn decide(
        &mut self,
        labels: &Labels<'_>,
        known: Option<Found>,
        open: bool,
    ) -> Result<Found, Flaw> {
        let role = metric::role(&self.context, labels);
        let part = self.may_convert() && role.is_some_and(|role| role.is_part(&self.context));
        if part && !self.rules.always_classic_histograms {
            return Ok(Found::Noted);
        }
        let is_start = open && role == Some(metric::Role::Created);
        let found = match known.filter(|&found| found != Found::Noted || is_start) {
            Some(found) => found,
            // Labels that borrow no longer than it takes to settle them.
            None => self.resolve(labels.iter().map(|(n, v)| ((**n).into(), (**v).into())).collect())?,
        };
        Ok(if is_start && found == Found::Dropped { Found::Noted } else { found })
    }

    /// Finds out what a series is that was not on the page before.
    pub(super) fn resolve<'a>(&mut self, mut labels: Labels<'a>) -> Result<Found, Flaw>
    where
        'o: 'a,
    {
        let sample = labels.first().map(|label| label.1.to_string()).unwrap_or_default();
        match self.labeler.settle(&mut labels)? {
            Verdict::Kept => {}
            Verdict::Dropped => return Ok(Found::Dropped),
            Verdict::Bare => return Ok(Found::Bare),
        }
        let at = labels.iter().position(|label| label.0 == "__name__").unwrap_or_default();
        let name = labels.remove(at).1;
        let context = &self.context;
        let (family, kind, help, unit) = if context.has(&sample) {
            (context.name(), context.kind.unwrap_or(Kind::Untyped), &*context.help, &*context.unit)
        } else {
            (&*name, Kind::Untyped, "", "")
        };
        // Where relabelling renamed the metric, its family is what it is called now.
        let family = if name == sample { family } else { &*name };
        let pairs: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        let spec = SeriesSpec { name: &name, family, kind, help, unit, labels: &pairs };
        let id = self.class.table.lock().acquire(&spec);
        self.acquired.push(id);
        if self.rules.series_limit > 0 && !self.seen.contains(&id) {
            let before = self.old.map_or(0, |old| old.floats + old.list.histograms().len());
            let now = self.floats.len() + self.histograms.len();
            if now.max(before) >= self.rules.series_limit && !self.was_known(id) {
                return Ok(Found::Limited);
            }
        }
        Ok(Found::Series(id))
    }

    fn was_known(&mut self, id: SeriesId) -> bool {
        let Some(old) = self.old else { return false };
        self.old_series.get_or_insert_with(|| old.list.series().collect()).contains(&id)
    }

    /// Takes in one position, whose key are the last bytes of `keys` and whose line begins at `line` in them. Says
    /// which sample of the batch it gave.
    pub(super) fn put(
        &mut self,
        line: usize,
        found: Found,
        payload: Payload<'_>,
        batch: &mut Batch,
        times: &mut Times,
    ) -> Result<Option<Of>, Flaw> {
        if self.keys.len() >= MAX_KEYS {
            return Err(Flaw { fault: Fault::Size, reason: "the page is too long".into() });
        }
        let gives = match (found, payload) {
            (Found::Dropped | Found::Bare, _) => Gives::Dropped,
            (Found::Limited, _) => Gives::Limited,
            (Found::Noted, Payload::Float { value, time }) => {
                times.aside.noted.push(Noted { value, time });
                Gives::Noted
            }
            (Found::Noted, Payload::Histogram { .. }) => Gives::Dropped,
            (Found::Series(id), Payload::Float { value, time }) => {
                let new = self.seen.insert(id);
                match time {
                    None if !new => Gives::Duplicate,
                    None => {
                        self.floats.push((id, Form::new(false, false)));
                        batch.values.push(value);
                        Gives::Float
                    }
                    Some(time) => {
                        let unmarked = !self.rules.track_timestamps_staleness;
                        self.floats.push((id, Form::new(false, unmarked)));
                        batch.push_timed(value, times.stamp(id, time));
                        Gives::Timed
                    }
                }
            }
            (Found::Series(id), Payload::Histogram { fill, time }) => {
                let new = self.seen.insert(id);
                if !new && time.is_none() {
                    Gives::Duplicate
                } else {
                    self.histograms.push(id);
                    fill(batch);
                    match time {
                        None => Gives::Histogram,
                        Some(time) => {
                            batch.time_last_histogram(times.stamp(id, time));
                            Gives::TimedHistogram
                        }
                    }
                }
            }
        };
        self.kept += usize::from(is_kept(gives));
        self.duplicates += usize::from(gives == Gives::Duplicate);
        self.limited += usize::from(gives == Gives::Limited);
        self.slots.push(Slot::new(line, self.keys.len(), gives));
        Ok(match gives {
            Gives::Float | Gives::Timed => Some(Of::Float(self.floats.len() as u32 - 1)),
            Gives::Histogram | Gives::TimedHistogram => Some(Of::Histogram(self.histograms.len() as u32 - 1)),
            _ => None,
        })
    }

    /// Finds out what belongs together on a page of text, and which histograms its parts make. `false` where the
    /// page must be read the bare way.
    pub(super) fn gather(&mut self, open: bool) -> Result<bool, Flaw> {
        let convert = self.rules.convert_classic_histograms;
        let is_dated = open && memchr::memmem::find(&self.keys, b"_created").is_some();
        if !convert && !is_dated {
            return Ok(true);
        }
        let (mut metrics, found) = metric::gather(&self.keys, &self.slots, open, convert);
        let mut classic = Vec::new();
        metrics.converted = found.len();
        for found in found {
            self.context = found.family;
            let name = ("__name__".into(), self.context.name().to_owned().into());
            let labels = found.labels.into_iter().map(|(name, value)| (name.into(), value.into()));
            let resolved = self.resolve(std::iter::once(name).chain(labels).collect())?;
            let number = match resolved {
                Found::Bare => return Ok(false),
                Found::Series(id) if self.seen.insert(id) => {
                    self.histograms.push(id);
                    classic.push(found.classic);
                    self.kept += 1;
                    Some(self.histograms.len() as u32 - 1)
                }
                _ => None,
            };
            if let Some(created) = found.created {
                metrics.number_histogram(created, number);
            }
        }
        metrics.classic = classic.into();
        self.metrics = metrics;
        Ok(true)
    }

    /// Which series of the report stand on the page, at the time of the scrape.
    fn own_report(&self, floats: &[(SeriesId, Form)]) -> u8 {
        let mut own = 0;
        for (at, (id, _)) in self.class.report.floats().iter().enumerate() {
            if self.seen.contains(id) {
                let mut gives = self.slots.iter().map(|slot| slot.gives());
                let mut all = gives.by_ref().filter(|gives| matches!(gives, Gives::Float | Gives::Timed));
                let found = floats.iter().any(|(other, _)| all.next() == Some(Gives::Float) && other == id);
                own |= u8::from(found) << at;
            }
        }
        own
    }

    /// The layout of the page that was read to its end; `keys` has what follows its last value.
    pub(super) fn finish(mut self) -> Arc<Layout> {
        let mut floats = std::mem::take(&mut self.floats);
        let histograms = std::mem::take(&mut self.histograms);
        let page_floats = floats.len();
        let own_report = self.own_report(&floats);
        let report = self.class.report.floats().iter().enumerate();
        floats.extend(report.filter(|(at, _)| own_report >> at & 1 == 0).map(|(_, entry)| *entry));
        let same = self.old.filter(|old| {
            old.floats == page_floats
                && *old.list.floats() == *floats
                && *old.list.histograms() == *histograms
        });
        let list = if let Some(old) = same {
            old.list.clone()
        } else {
            let mut table = self.class.table.lock();
            floats.iter().for_each(|&(id, _)| table.retain(id));
            histograms.iter().for_each(|&id| table.retain(id));
            drop(table);
            floats.shrink_to_fit();
            SeriesList::new(self.class.table.clone(), floats, histograms)
        };
        Layout::new(Parts {
            keys: std::mem::take(&mut self.keys),
            slots: std::mem::take(&mut self.slots),
            list,
            floats: page_floats,
            kept: self.kept,
            duplicates: self.duplicates,
            limited: self.limited,
            metrics: std::mem::take(&mut self.metrics),
            own_report,
        })
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.acquired.is_empty() {
            let mut table = self.class.table.lock();
            self.acquired.iter().for_each(|&id| table.release(id));
        }
    }
}

/// Where each line of a layout stands first.
fn every_line(old: &Layout) -> HashMap<&[u8], Cursor> {
    let mut lines = HashMap::with_capacity(old.slots.len());
    let mut cursor = Cursor::default();
    for &slot in &old.slots {
        lines.entry(&old.keys[slot.line()..slot.end as usize]).or_insert(cursor);
        cursor.pass(slot);
    }
    lines
}
