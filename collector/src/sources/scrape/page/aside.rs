//! What a page says beside the samples of its series: exemplars, when a counting began, and values that are no
//! sample of their own.

use hashbrown::HashMap;

use super::layout::Layout;
use super::line::RawExemplar;
use crate::model::{Batch, Exemplars, MAX_EXEMPLAR_CHARACTERS, MAX_EXEMPLARS, Of, SeriesId};

/// What a change of starts counts against a target, and how much it may gather, calm pages taking off one each.
const UNREST: u32 = 16;
const MAX_UNREST: u32 = 64;

/// A value at a position that gives no sample.
#[derive(Clone, Copy)]
pub(super) struct Noted {
    pub value: f64,
    pub time: Option<i64>,
}

/// What was read of one page.
#[derive(Default)]
pub(super) struct Aside {
    /// In the order of the page.
    pub noted: Vec<Noted>,
    /// When the counting of a series began, as messages say it.
    pub starts: Vec<(Of, i64)>,
    /// Exemplars that are longer than OpenMetrics allows, or too many.
    pub left_out: usize,
}

impl Aside {
    pub(super) fn clear(&mut self) {
        self.noted.clear();
        self.starts.clear();
        self.left_out = 0;
    }

    /// Adds an exemplar of a sample at `sample_ms` to the batch.
    pub(super) fn exemplar(&mut self, of: Of, exemplar: &RawExemplar<'_>, sample_ms: i64, batch: &mut Batch) {
        let RawExemplar { labels, value, time } = exemplar;
        let characters: usize = labels.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum();
        if characters > MAX_EXEMPLAR_CHARACTERS || batch.exemplars.len() >= MAX_EXEMPLARS {
            self.left_out += 1;
            return;
        }
        batch.exemplars.push(of, *value, time.unwrap_or(sample_ms), time.is_some());
        labels.iter().for_each(|(name, value)| batch.exemplars.push_label(name, value));
    }
}

/// The exemplar that a series had last.
struct Last {
    time_ms: i64,
    has_time: bool,
    bits: u64,
    labels: Box<str>,
}

/// The last exemplar of each series that has any: what comes again, or is older, is not sent.
#[derive(Default)]
pub(super) struct Seen {
    last: HashMap<SeriesId, Last>,
    pub out_of_order: usize,
}

impl Seen {
    /// Orders the exemplars of a batch, and keeps those that are new.
    pub(super) fn settle(&mut self, layout: &Layout, exemplars: &mut Exemplars) {
        self.out_of_order = 0;
        let mut text = String::new();
        let list = &layout.list;
        exemplars.settle(|exemplar| {
            let id = match exemplar.of() {
                Of::Float(at) => list.floats()[at as usize].0,
                Of::Histogram(at) => list.histograms()[at as usize],
            };
            text.clear();
            for part in exemplar.labels().flat_map(|(name, value)| [name, value]) {
                text.push_str(part);
                text.push('\0');
            }
            let (time_ms, has_time) = (exemplar.time_ms(), exemplar.has_time());
            let bits = exemplar.value().to_bits();
            if let Some(last) = self.last.get_mut(&id) {
                let timed = has_time || last.has_time;
                if last.bits == bits && *last.labels == *text && !(timed && last.time_ms != time_ms) {
                    return false;
                }
                if time_ms < last.time_ms {
                    // A native histogram says its last few again, of which only the newest are new.
                    self.out_of_order += usize::from(matches!(exemplar.of(), Of::Float(_)));
                    return false;
                }
                *last = Last { time_ms, has_time, bits, labels: text.as_str().into() };
            } else {
                self.last.insert(id, Last { time_ms, has_time, bits, labels: text.as_str().into() });
            }
            true
        });
        // Numbers of series that are gone may come to mean others.
        if self.last.len() > list.floats().len() + list.histograms().len() {
            self.keep(layout);
        }
    }

    /// From now on only the series of this layout count.
    pub(super) fn keep(&mut self, layout: &Layout) {
        if self.last.is_empty() {
            return;
        }
        let ids: hashbrown::HashSet<SeriesId> = layout.list.series().collect();
        self.last.retain(|id, _| ids.contains(id));
    }
}

/// When the counting of a target's series began, by what its pages say.
#[derive(Default)]
pub(super) struct Starts {
    /// Of the last page: floats, then histograms; empty where none was said.
    said: Vec<i64>,
    now: Vec<i64>,
    /// How often they changed of late: a target that makes its series anew for each page says nothing by them, and
    /// each change costs a new shape.
    unrest: u32,
    withheld: bool,
}

impl Starts {
    /// Takes in what a page said, and gives what is to be said of its series.
    pub(super) fn settle(
        &mut self,
        layout: &Layout,
        batch: &Batch,
        aside: &Aside,
        same_list: bool,
    ) -> &[i64] {
        if layout.metrics.created.is_empty() && aside.starts.is_empty() {
            self.said.clear();
            return &[];
        }
        let (floats, histograms) = (layout.list.floats().len(), layout.list.histograms().len());
        self.now.clear();
        self.now.resize(floats + histograms, 0);
        for &(of, start) in &aside.starts {
            let at = match of {
                Of::Float(at) => at as usize,
                Of::Histogram(at) => floats + at as usize,
            };
            self.now[at] = start;
        }
        for created in &layout.metrics.created {
            let seconds = created.from.value(batch, aside).value;
            // What is no time between 1970 and 2242 says nothing.
            let start = if (0.0..8.6e9).contains(&seconds) { (seconds * 1000.0).round() as i64 } else { 0 };
            for of in &layout.metrics.of[created.of.start as usize..created.of.end as usize] {
                let at = match *of {
                    Of::Float(at) => at as usize,
                    Of::Histogram(at) => floats + at as usize,
                };
                self.now[at] = start;
            }
        }
        if same_list && self.now != self.said {
            self.unrest += UNREST;
        } else {
            self.unrest = self.unrest.saturating_sub(1);
        }
        self.unrest = self.unrest.min(2 * MAX_UNREST);
        self.withheld = self.unrest > MAX_UNREST || (self.withheld && self.unrest > 0);
        std::mem::swap(&mut self.said, &mut self.now);
        if self.withheld { &[] } else { &self.said }
    }
}
