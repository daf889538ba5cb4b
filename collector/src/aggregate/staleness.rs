//! Stale markers: when a source's new shape lacks series that its last one had, each of them ends with one
//! marker at the time of the new batch (remote write specification, "Stale Markers"). None when we stop, and none
//! for series whose samples carry times of their own.
//!
//! A source ends with a batch whose shape has no series: then it is forgotten. One that just went (its last batch
//! found no room) is forgotten when the map has doubled.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::model::{Batch, STALE_NAN, SeriesId, SeriesList, Shape};

/// Sources below which none are looked through.
const SWEEP_SOURCES: usize = 64;

/// The last shape of each source.
#[derive(Default)]
pub struct Staleness {
    /// By the address of the source, which the shape keeps alive.
    last: HashMap<usize, Arc<Shape>>,
    sweep_at: usize,
    /// What went between two lists: sources that share them change one after the other.
    latest: Option<Gone>,
}

/// The series of list `before` that end with list `after`; `None` where there are none.
struct Gone {
    before: u64,
    after: u64,
    list: Option<Arc<SeriesList>>,
}

impl Staleness {
    /// Writes to `marker` the batch that ends what `batch` no longer has, and says whether there is one.
    ///
    /// While the shape stays the same this is one look-up.
    pub fn observe(&mut self, batch: &Batch, marker: &mut Batch) -> bool {
        let shape = batch.shape();
        let source = Arc::as_ptr(&shape.source).addr();
        let before = match self.last.get_mut(&source) {
            Some(last) if last.id() == shape.id() => return false,
            Some(last) => std::mem::replace(last, shape.clone()),
            None if shape.list().is_empty() => return false,
            None => {
                self.sweep();
                self.last.insert(source, shape.clone());
                return false;
            }
        };
        if shape.list().is_empty() {
            self.last.remove(&source);
        }
        self.end_vanished(&before, batch, marker)
    }

    /// How many sources are known.
    pub fn sources(&self) -> usize {
        self.last.len()
    }

    /// Forgets the sources of which nobody else holds a shape, each time their number has doubled.
    fn sweep(&mut self) {
        if self.last.len() >= self.sweep_at {
            self.last.retain(|_, shape| Arc::strong_count(shape) > 1);
            self.last.shrink_to(SWEEP_SOURCES);
            self.sweep_at = SWEEP_SOURCES.max(self.last.len() * 2);
        }
    }

    fn end_vanished(&mut self, before: &Shape, batch: &Batch, marker: &mut Batch) -> bool {
        let after = batch.shape();
        let (old, new) = (before.list(), after.list());
        let known =
            self.latest.as_ref().is_some_and(|gone| gone.before == old.id() && gone.after == new.id());
        if !known {
            self.latest = Some(Gone { before: old.id(), after: new.id(), list: vanished(old, new) });
        }
        let Some(list) = self.latest.as_ref().and_then(|gone| gone.list.as_ref()) else { return false };
        marker.clear();
        marker.time_ms = batch.time_ms;
        marker.values.resize(list.floats().len(), STALE_NAN);
        for _ in list.histograms() {
            marker.push_histogram().sum = STALE_NAN;
        }
        marker.shape = Some(Shape::of_list(after.source.clone(), list.clone()));
        true
    }
}

/// The series that `old` has and `new` lacks, or has only with times of their own; without those of `old` that
/// had such.
fn vanished(old: &SeriesList, new: &SeriesList) -> Option<Arc<SeriesList>> {
    let (mut floats, histograms) = old.missing_from(new);
    if new.floats().iter().any(|(_, form)| form.timed()) {
        let marked = |list: &SeriesList| -> HashSet<SeriesId> {
            list.floats().iter().filter(|(_, form)| !form.timed()).map(|&(id, _)| id).collect()
        };
        let mut kept = marked(new);
        floats = old.floats().iter().filter(|(id, _)| kept.insert(*id)).copied().collect();
    }
    floats.retain(|(_, form)| !form.timed());
    if floats.is_empty() && histograms.is_empty() {
        return None;
    }
    let mut table = old.table().lock();
    floats.iter().for_each(|&(id, _)| table.retain(id));
    histograms.iter().for_each(|&id| table.retain(id));
    drop(table);
    Some(SeriesList::new(old.table().clone(), floats, histograms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Family, Form, Recorder, SeriesTable, Source};

    static UP: Family = Family::gauge("up", "Up.", &["device"]);

    #[test]
    fn a_series_that_goes_is_marked_once_at_the_time_it_was_missed() {
        let table = Arc::new(SeriesTable::default());
        let source = Arc::new(Source { name: "test".into(), labels: Vec::new() });
        let mut recorder = Recorder::new(source, table.clone());
        let (mut staleness, mut marker) = (Staleness::default(), Batch::default());
        let mut tick = |time, devices: &[&str]| {
            recorder.begin(Batch::default(), time);
            devices.iter().for_each(|device| recorder.put(&UP, &[device], 1.0));
            let batch = recorder.finish();
            staleness.observe(&batch, &mut marker).then(|| {
                let table = marker.shape().table().lock();
                let name = |id| table.view(id).labels().next().unwrap().1.to_owned();
                let names: Vec<_> = marker.shape().floats().iter().map(|&(id, _)| name(id)).collect();
                assert!(marker.values.iter().all(|v| v.to_bits() == STALE_NAN.to_bits()));
                (marker.time_ms, names)
            })
        };
        assert_eq!(tick(1, &["a", "b", "c"]), None);
        assert_eq!(tick(2, &["a", "b", "c"]), None);
        assert_eq!(tick(3, &["b"]), Some((3, vec!["a".to_owned(), "c".to_owned()])));
        assert_eq!(tick(4, &["b"]), None);
        assert_eq!(tick(5, &["a", "b"]), None, "what comes is no end");
        assert_eq!(tick(6, &["a"]), Some((6, vec!["b".to_owned()])));
    }

    #[test]
    fn a_source_that_ends_is_forgotten_and_its_series_freed() {
        let table = Arc::new(SeriesTable::default());
        let (mut staleness, mut marker) = (Staleness::default(), Batch::default());
        for _ in 0..3 {
            let source = Arc::new(Source { name: "test".into(), labels: Vec::new() });
            let mut recorder = Recorder::new(source.clone(), table.clone());
            recorder.begin(Batch::default(), 1);
            recorder.put(&UP, &["a"], 1.0);
            assert!(!staleness.observe(&recorder.finish(), &mut marker));
            let mut end = Batch::default();
            end.time_ms = 2;
            end.shape = Some(Shape::new(source, table.clone(), Vec::new(), Vec::new()));
            assert!(staleness.observe(&end, &mut marker));
            assert_eq!((marker.time_ms, marker.values.len()), (2, 1));
            assert_eq!(staleness.sources(), 0);
        }
        (staleness, marker) = Default::default();
        assert_eq!((table.len(), staleness.sources(), marker.samples()), (0, 0, 0));
    }

    #[test]
    fn sources_that_went_without_a_word_are_swept() {
        let table = Arc::new(SeriesTable::default());
        let (mut staleness, mut marker) = (Staleness::default(), Batch::default());
        for _ in 0..10 * SWEEP_SOURCES {
            let source = Arc::new(Source { name: "test".into(), labels: Vec::new() });
            let mut recorder = Recorder::new(source, table.clone());
            recorder.begin(Batch::default(), 1);
            recorder.put(&UP, &["a"], 1.0);
            staleness.observe(&recorder.finish(), &mut marker);
        }
        assert!(staleness.sources() <= 2 * SWEEP_SOURCES);
    }

    #[test]
    fn what_carries_its_own_times_ends_without_a_marker() {
        let table = Arc::new(SeriesTable::default());
        let source = Arc::new(Source { name: "test".into(), labels: Vec::new() });
        let (mut staleness, mut marker) = (Staleness::default(), Batch::default());
        let mut observe = |forms: &[Form]| {
            let spec = |name: &'static str| crate::model::SeriesSpec {
                name,
                family: name,
                kind: crate::model::Kind::Gauge,
                help: "",
                unit: "",
                labels: &[],
            };
            let mut guard = table.lock();
            let floats = forms.iter().zip(["a", "b"]).map(|(&form, name)| (guard.acquire(&spec(name)), form));
            let floats: Vec<_> = floats.collect();
            drop(guard);
            let shape = Shape::new(source.clone(), table.clone(), floats, Vec::new());
            let mut batch = Batch::default();
            batch.shape = Some(shape);
            if staleness.observe(&batch, &mut marker) { marker.samples() } else { 0 }
        };
        assert_eq!(observe(&[Form::Always, Form::Timed]), 0);
        assert_eq!(observe(&[Form::Always]), 0, "b had times of its own");
        assert_eq!(observe(&[Form::Timed]), 1, "a has them from now on");
        assert_eq!(observe(&[Form::Always]), 0);
        assert_eq!(observe(&[]), 1);
    }
}
