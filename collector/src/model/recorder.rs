//! The positional cache: turns what a source says into batches, and copies no label while it repeats itself.
//!
//! A recorder remembers the key (family and label values) that came at each position of the last tick. While
//! the same keys come in the same order, a sample costs one compare and one push. At the first key that
//! differs, the recorder drafts a new shape: it asks the series table from there on, and the batch that comes
//! out has the new shape.

use std::sync::Arc;

use hashbrown::HashSet;

use super::batch::Batch;
use super::family::{Family, Kind};
use super::histogram::HistogramSnapshot;
use super::series::{SeriesId, SeriesSpec, SeriesTable};
use super::shape::{Form, SeriesList, Shape, Source};

/// Ends each part of a key: a byte that UTF-8 never uses.
const END: u8 = 0xff;
/// Shapes kept to come back to, for a source that flaps between a few.
const RECENT_SHAPES: usize = 4;

/// A sample whose family is known only when the collector runs.
///
/// `name` and `help` are given in pieces, so that nothing need be joined while the position is known.
#[derive(Clone, Copy)]
pub struct Dynamic<'a> {
    pub name: &'a [&'a str],
    /// `_bucket`, `_sum`, `_count` of a histogram or summary: part of the sample's name, not of the family's.
    pub suffix: &'a str,
    pub help: &'a [&'a str],
    pub kind: Kind,
    pub labels: &'a [(&'a str, &'a str)],
}

/// What stands at a position: up to where its key goes in `keys`, and how many values it gives.
#[derive(Clone, Copy)]
struct Slot {
    /// Address of the static family, 0 for a dynamic one.
    family: usize,
    key_end: u32,
    floats: u32,
    histogram: bool,
    /// The second of two equal series: said once more each tick, counted, never kept.
    duplicate: bool,
}

#[derive(Default)]
struct Layout {
    keys: Vec<u8>,
    slots: Vec<Slot>,
}

/// The shape in the making after the first position that differed.
struct Draft {
    layout: Layout,
    floats: Vec<(SeriesId, Form)>,
    histograms: Vec<SeriesId>,
    seen: HashSet<SeriesId>,
}

/// Writes the batches of one source.
pub struct Recorder {
    source: Arc<Source>,
    table: Arc<SeriesTable>,
    layout: Layout,
    shape: Option<Arc<Shape>>,
    recent: Vec<Arc<Shape>>,
    position: usize,
    draft: Option<Draft>,
    batch: Batch,
    duplicates: u64,
    start: Option<Start>,
}

/// When the source began to count, and which families count since then.
#[derive(Clone, Copy)]
struct Start {
    time_ms: i64,
    counts_since: fn(&str) -> bool,
}

impl Recorder {
    pub fn new(source: Arc<Source>, table: Arc<SeriesTable>) -> Self {
        Recorder {
            source,
            table,
            layout: Layout::default(),
            shape: None,
            recent: Vec::new(),
            position: 0,
            draft: None,
            batch: Batch::default(),
            duplicates: 0,
            start: None,
        }
    }

    /// Counters and histograms of the families of which `counts_since` says so began at `time_ms`.
    pub fn set_start(&mut self, time_ms: i64, counts_since: fn(&str) -> bool) {
        self.start = Some(Start { time_ms, counts_since });
    }

    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Speaks for another source from the next tick on: its shapes are made anew.
    pub fn set_source(&mut self, source: Arc<Source>) {
        self.source = source;
        self.layout = Layout::default();
        self.shape = None;
        self.recent.clear();
    }

    /// Starts a tick at `time_ms`, into the memory of `slab`.
    pub fn begin(&mut self, mut slab: Batch, time_ms: i64) {
        slab.clear();
        slab.time_ms = time_ms;
        self.batch = slab;
        self.position = 0;
        self.draft = None;
        self.duplicates = 0;
    }

    /// How many samples of this tick repeated a series; the first of each was kept.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// One sample of a family known at compile time; `labels` are the values of `family.labels`, in that order.
    #[inline]
    pub fn put(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let address = std::ptr::from_ref(family).addr();
        match self.expected(address, |key| strip_all(key, labels).is_some_and(<[u8]>::is_empty)) {
            Some(slot) => self.accept(slot, value),
            None => self.put_new(family, labels, value),
        }
    }

    /// One sample of a family that only the kernel, or a file, names.
    #[inline]
    pub fn put_dynamic(&mut self, sample: &Dynamic<'_>, value: f64) {
        match self.expected(0, |key| dynamic_matches(key, sample)) {
            Some(slot) => self.accept(slot, value),
            None => self.put_new_dynamic(sample, value),
        }
    }

    /// A histogram: its native form if there is one, and its classic series.
    pub fn histogram(&mut self, family: &'static Family, labels: &[&str], snapshot: &HistogramSnapshot<'_>) {
        let address = std::ptr::from_ref(family).addr();
        let known = self.expected(address, |key| {
            strip_all(key, labels)
                .and_then(|rest| strip_all(rest, snapshot.bounds))
                .is_some_and(|rest| rest == [u8::from(snapshot.native.is_some())])
        });
        let slot = known.unwrap_or_else(|| self.draft_histogram(family, labels, snapshot));
        self.position += usize::from(known.is_some());
        if slot.duplicate {
            self.duplicates += 1;
            return;
        }
        let counts = snapshot.cumulative.iter().chain([&snapshot.count]);
        #[expect(clippy::cast_precision_loss, reason = "counts above 2^53 lose precision in every protocol")]
        self.batch.values.extend(counts.map(|&c| c as f64));
        self.batch.values.push(snapshot.sum);
        #[expect(clippy::cast_precision_loss, reason = "as above")]
        self.batch.values.push(snapshot.count as f64);
        if let Some(native) = snapshot.native {
            self.batch.push_histogram().clone_from(native);
        }
    }

    /// Ends the tick. The batch has the last shape if all was as before, else a new one.
    pub fn finish(&mut self) -> Batch {
        if self.shape.is_none() || (self.draft.is_none() && self.position < self.layout.slots.len()) {
            self.diverge();
        }
        if let Some(draft) = self.draft.take() {
            self.adopt(draft);
        }
        let mut batch = std::mem::take(&mut self.batch);
        batch.shape.clone_from(&self.shape);
        batch
    }

    /// The slot at this position, if the sample that comes is the one that came here last time.
    #[inline]
    fn expected(&self, family: usize, key_matches: impl FnOnce(&[u8]) -> bool) -> Option<Slot> {
        if self.draft.is_some() {
            return None;
        }
        let slot = *self.layout.slots.get(self.position)?;
        let start = match self.position {
            0 => 0,
            p => self.layout.slots[p - 1].key_end as usize,
        };
        let key = &self.layout.keys[start..slot.key_end as usize];
        (slot.family == family && key_matches(key)).then_some(slot)
    }

    #[inline]
    fn accept(&mut self, slot: Slot, value: f64) {
        self.position += 1;
        if slot.duplicate {
            self.duplicates += 1;
        } else {
            self.batch.values.push(value);
        }
    }

    #[cold]
    fn put_new(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        let pairs: Vec<(&str, &str)> = family.labels.iter().copied().zip(labels.iter().copied()).collect();
        let spec = SeriesSpec {
            name: family.name,
            family: family.name,
            kind: family.kind,
            help: family.help,
            unit: "",
            labels: &pairs,
        };
        let address = std::ptr::from_ref(family).addr();
        self.draft_float(address, &spec, value, |key| push_all(key, labels));
    }

    #[cold]
    fn put_new_dynamic(&mut self, sample: &Dynamic<'_>, value: f64) {
        let family = sample.name.concat();
        let spec = SeriesSpec {
            name: &format!("{family}{}", sample.suffix),
            family: &family,
            kind: sample.kind,
            help: &sample.help.concat(),
            unit: "",
            labels: sample.labels,
        };
        self.draft_float(0, &spec, value, |key| {
            key.push(sample.kind as u8);
            key.extend_from_slice(family.as_bytes());
            push_all(key, &[sample.suffix]);
            for (name, value) in sample.labels {
                push_all(key, &[name, value]);
            }
        });
    }

    fn draft_float(
        &mut self,
        family: usize,
        spec: &SeriesSpec<'_>,
        value: f64,
        key: impl FnOnce(&mut Vec<u8>),
    ) {
        self.diverge();
        let id = self.table.lock().acquire(spec);
        let draft = self.draft.as_mut().expect("diverge makes a draft");
        let duplicate = !draft.seen.insert(id);
        if duplicate {
            self.table.lock().release(id);
            self.duplicates += 1;
        } else {
            draft.floats.push((id, Form::Always));
            self.batch.values.push(value);
        }
        draft.layout.push(family, 1, false, duplicate, key);
    }

    #[cold]
    fn draft_histogram(
        &mut self,
        family: &'static Family,
        labels: &[&str],
        snapshot: &HistogramSnapshot<'_>,
    ) -> Slot {
        self.diverge();
        let draft = self.draft.as_mut().expect("diverge makes a draft");
        let pairs: Vec<(&str, &str)> = family.labels.iter().copied().zip(labels.iter().copied()).collect();
        let mut table = self.table.lock();
        let mut acquire = |suffix: &str, le: Option<&str>| {
            let mut labels = pairs.clone();
            labels.extend(le.map(|le| ("le", le)));
            table.acquire(&SeriesSpec {
                name: &format!("{}{suffix}", family.name),
                family: family.name,
                kind: family.kind,
                help: family.help,
                unit: "",
                labels: &labels,
            })
        };
        let bounds = snapshot.bounds.iter().copied().chain(["+Inf"]);
        let mut ids: Vec<SeriesId> = bounds.map(|le| acquire("_bucket", Some(le))).collect();
        ids.push(acquire("_sum", None));
        ids.push(acquire("_count", None));
        let native = snapshot.native.map(|_| acquire("", None));
        let duplicate = ids.iter().chain(&native).any(|id| draft.seen.contains(id));
        if duplicate {
            ids.iter().chain(&native).for_each(|&id| table.release(id));
        } else {
            draft.seen.extend(ids.iter().chain(&native));
            let form = if native.is_some() { Form::ClassicOnly } else { Form::Always };
            draft.floats.extend(ids.iter().map(|&id| (id, form)));
            draft.histograms.extend(native);
        }
        let address = std::ptr::from_ref(family).addr();
        draft.layout.push(address, ids.len(), native.is_some(), duplicate, |key| {
            push_all(key, labels);
            push_all(key, snapshot.bounds);
            key.push(u8::from(native.is_some()));
        })
    }

    /// Leaves the known order at this position: what was accepted so far opens the draft.
    fn diverge(&mut self) {
        if self.draft.is_some() {
            return;
        }
        let kept = &self.layout.slots[..self.position];
        let keys_end = kept.last().map_or(0, |slot| slot.key_end as usize);
        let live = || kept.iter().filter(|slot| !slot.duplicate);
        let floats: usize = live().map(|slot| slot.floats as usize).sum();
        let histograms = live().filter(|slot| slot.histogram).count();
        let (floats, histograms) = match &self.shape {
            Some(shape) => (shape.floats()[..floats].to_vec(), shape.histograms()[..histograms].to_vec()),
            None => (Vec::new(), Vec::new()),
        };
        let mut table = self.table.lock();
        let seen: HashSet<SeriesId> =
            floats.iter().map(|&(id, _)| id).chain(histograms.iter().copied()).collect();
        seen.iter().for_each(|&id| table.retain(id));
        let layout = Layout { keys: self.layout.keys[..keys_end].to_vec(), slots: kept.to_vec() };
        self.draft = Some(Draft { layout, floats, histograms, seen });
    }

    /// Makes the draft the order that is expected from now on.
    fn adopt(&mut self, draft: Draft) {
        self.layout = draft.layout;
        let known = self
            .recent
            .iter()
            .position(|shape| *shape.floats() == *draft.floats && *shape.histograms() == *draft.histograms);
        let shape = if let Some(at) = known {
            let mut table = self.table.lock();
            draft.seen.iter().for_each(|&id| table.release(id));
            self.recent.remove(at)
        } else {
            let list = SeriesList::new(self.table.clone(), draft.floats, draft.histograms);
            let starts = self.start.map(|start| start.of(&list)).unwrap_or_default();
            Shape::started(self.source.clone(), list, starts)
        };
        self.recent.truncate(RECENT_SHAPES - 1);
        self.recent.insert(0, shape.clone());
        self.shape = Some(shape);
    }
}

impl Start {
    fn of(self, list: &SeriesList) -> Box<[i64]> {
        let table = list.table().lock();
        let start = |id| {
            let view = table.view(id);
            let counts = matches!(view.kind(), Kind::Counter | Kind::Histogram);
            if counts && (self.counts_since)(view.family()) { self.time_ms } else { 0 }
        };
        list.series().map(start).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(draft) = self.draft.take() {
            let mut table = self.table.lock();
            draft.seen.iter().for_each(|&id| table.release(id));
        }
    }
}

impl Layout {
    fn push(
        &mut self,
        family: usize,
        floats: usize,
        histogram: bool,
        duplicate: bool,
        key: impl FnOnce(&mut Vec<u8>),
    ) -> Slot {
        key(&mut self.keys);
        let key_end = u32::try_from(self.keys.len()).expect("the keys of one source stay below 4 GiB");
        let floats = u32::try_from(floats).expect("a sample gives few values");
        let slot = Slot { family, key_end, floats, histogram, duplicate };
        self.slots.push(slot);
        slot
    }
}

fn push_all(key: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        key.extend_from_slice(part.as_bytes());
        key.push(END);
    }
}

/// What is left of `key` after `parts`, each with its end; `None` if it does not begin with them.
#[inline]
fn strip_all<'k>(mut key: &'k [u8], parts: &[&str]) -> Option<&'k [u8]> {
    for part in parts {
        key = key.strip_prefix(part.as_bytes())?.strip_prefix(&[END])?;
    }
    Some(key)
}

#[inline]
fn dynamic_matches(key: &[u8], sample: &Dynamic<'_>) -> bool {
    let Some(mut key) = key.strip_prefix(&[sample.kind as u8]) else { return false };
    for piece in sample.name {
        let Some(rest) = key.strip_prefix(piece.as_bytes()) else { return false };
        key = rest;
    }
    let Some(mut key) = strip_all(key, &[sample.suffix]) else { return false };
    for (name, value) in sample.labels {
        let Some(rest) = strip_all(key, &[name, value]) else { return false };
        key = rest;
    }
    key.is_empty()
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
