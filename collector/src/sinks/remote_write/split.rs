//! Cuts a batch that is larger than a request, or goes through several lanes, into parts of one request each.
//!
//! Cost: one copy of the values; the shapes of the parts are made once a shape.

use std::ops::Range;
use std::sync::{Arc, Weak};

use hashbrown::HashMap;

use crate::limits::LANE_BATCHES;
use crate::model::{Numbered, SeriesList, Shape, Slabs};

/// Calls of [`Splitter::tick`] after which the parts of shapes that no longer live are let go.
const SWEEP: u32 = 64;

struct Parts {
    whole: Weak<Shape>,
    cuts: Vec<Range<usize>>,
    shapes: Vec<Arc<Shape>>,
}

/// Cuts batches, and remembers how.
#[derive(Default)]
pub(super) struct Splitter {
    parts: HashMap<u64, Parts>,
    /// The lists of parts, by the list of the whole and what of it they are: sources that share one share the others.
    lists: HashMap<(u64, usize, usize), Weak<SeriesList>>,
    ticks: u32,
    slabs: Slabs,
}

impl Splitter {
    /// Gives the parts of a batch that stand at these positions, in order.
    pub(super) fn split(
        &mut self,
        numbered: &Numbered,
        cuts: &[Range<usize>],
        mut give: impl FnMut(Numbered),
    ) {
        let whole = numbered.batch.shape();
        let floats = whole.floats().len();
        if self.parts.get(&whole.id()).is_none_or(|parts| parts.cuts != cuts) {
            let shapes = cuts.iter().map(|cut| self.shape_of(whole, cut)).collect();
            let parts = Parts { whole: Arc::downgrade(whole), cuts: cuts.to_vec(), shapes };
            self.parts.insert(whole.id(), parts);
        }
        for (range, shape) in cuts.iter().zip(&self.parts[&whole.id()].shapes) {
            let mut slab = self.slabs.take();
            let part = Arc::get_mut(&mut slab).expect("a slab at hand has one owner");
            let sequence = numbered.sequence + range.start as u64;
            let histograms = of_histograms(range, floats);
            part.copy_part(&numbered.batch, shape.clone(), of_floats(range, floats), histograms);
            self.slabs.remember(slab.clone(), LANE_BATCHES);
            give(Numbered { sequence, batch: slab });
        }
    }

    fn shape_of(&mut self, whole: &Shape, cut: &Range<usize>) -> Arc<Shape> {
        let (floats, histograms) =
            (of_floats(cut, whole.floats().len()), of_histograms(cut, whole.floats().len()));
        let known = self.lists.entry((whole.list().id(), cut.start, cut.end)).or_default();
        let list = known.upgrade().unwrap_or_else(|| list_of(whole, floats.clone(), histograms.clone()));
        *known = Arc::downgrade(&list);
        part_of(whole, list, floats, histograms)
    }

    /// Lets go, now and then, of what no longer lives; says whether it did.
    pub(super) fn tick(&mut self) -> bool {
        self.ticks = (self.ticks + 1) % SWEEP;
        if self.ticks == 0 {
            self.parts.retain(|_, parts| parts.whole.strong_count() > 0);
            self.lists.retain(|_, list| list.strong_count() > 0);
        }
        self.ticks == 0
    }
}

/// What lies between two positions, in ranges of so many.
pub(super) fn ranges(from: usize, to: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (from..to).step_by(size).map(move |start| start..(start + size).min(to))
}

fn of_floats(range: &Range<usize>, floats: usize) -> Range<usize> {
    range.start.min(floats)..range.end.min(floats)
}

fn of_histograms(range: &Range<usize>, floats: usize) -> Range<usize> {
    range.start.saturating_sub(floats)..range.end.saturating_sub(floats)
}

fn list_of(whole: &Shape, floats: Range<usize>, histograms: Range<usize>) -> Arc<SeriesList> {
    let (floats, histograms) = (whole.floats()[floats].to_vec(), whole.histograms()[histograms].to_vec());
    let mut table = whole.table().lock();
    floats.iter().for_each(|&(id, _)| table.retain(id));
    histograms.iter().for_each(|&id| table.retain(id));
    drop(table);
    SeriesList::new(whole.table().clone(), floats, histograms)
}

fn part_of(
    whole: &Shape,
    list: Arc<SeriesList>,
    floats: Range<usize>,
    histograms: Range<usize>,
) -> Arc<Shape> {
    let starts = match whole.starts() {
        [] => Box::default(),
        all => {
            let behind = whole.floats().len();
            let histograms = histograms.start + behind..histograms.end + behind;
            all[floats].iter().chain(&all[histograms]).copied().collect()
        }
    };
    Shape::started(whole.source.clone(), list, starts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Batch, Form, Kind, Of, SeriesSpec, SeriesTable, Source};

    fn whole(table: &Arc<SeriesTable>) -> Numbered {
        let acquire = |name: &str| {
            let spec = SeriesSpec { name, family: name, kind: Kind::Gauge, help: "", unit: "", labels: &[] };
            table.lock().acquire(&spec)
        };
        let floats = ["a", "b", "c", "d", "e"].map(|name| (acquire(name), Form::Timed)).to_vec();
        let histograms = ["f", "g"].map(acquire).to_vec();
        let source = Arc::new(Source { name: "s".into(), labels: Vec::new() });
        let mut batch = Batch::default();
        batch.shape = Some(Shape::new(source, table.clone(), floats, histograms));
        batch.time_ms = 7;
        (0..5).for_each(|n| batch.push_timed(f64::from(n), 100 + i64::from(n)));
        (0..2).for_each(|n| batch.push_histogram().sum = f64::from(n));
        Numbered { sequence: 1000, batch: Arc::new(batch) }
    }

    #[test]
    fn the_parts_are_the_whole_in_order() {
        let table = Arc::new(SeriesTable::default());
        let numbered = whole(&table);
        let mut splitter = Splitter::default();
        for (skipped, size, expected) in [
            (0, 3, &[(1000, 3), (1003, 3), (1006, 1)][..]),
            (0, 3, &[(1000, 3), (1003, 3), (1006, 1)]),
            (4, 100, &[(1004, 3)]),
        ] {
            let mut parts = Vec::new();
            let cuts: Vec<_> = ranges(skipped, 7, size).collect();
            splitter.split(&numbered, &cuts, |part| parts.push(part));
            let found: Vec<_> = parts.iter().map(|part| (part.sequence, part.batch.samples())).collect();
            assert_eq!(found, expected);
            let all = |of: &dyn Fn(&Batch) -> Vec<f64>| -> Vec<f64> {
                parts.iter().flat_map(|part| of(&part.batch)).collect()
            };
            let first = skipped as f64;
            assert_eq!(all(&|b| b.values.clone()), [0.0, 1.0, 2.0, 3.0, 4.0][skipped..]);
            assert_eq!(all(&|b| b.times.iter().map(|&t| t as f64 - 100.0).collect())[0], first);
            assert_eq!(all(&|b| b.histograms().iter().map(|h| h.sum).collect()), [0.0, 1.0]);
            for part in &parts {
                assert_eq!(part.batch.shape().floats().len(), part.batch.values.len());
                assert_eq!(part.batch.time_ms, 7);
            }
        }
        drop((numbered, splitter));
        assert!(table.is_empty(), "the parts give their series back");
    }

    #[test]
    fn parts_keep_starts_and_exemplars_and_share_their_lists() {
        let table = Arc::new(SeriesTable::default());
        let list = whole(&table).batch.shape().list().clone();
        let mut splitter = Splitter::default();
        let mut parts = Vec::new();
        for name in ["a", "b"] {
            let source = Arc::new(Source { name: name.into(), labels: Vec::new() });
            let mut batch = Batch::default();
            batch.copy_part(
                &whole(&table).batch,
                Shape::started(source, list.clone(), (10..17).collect()),
                0..5,
                0..2,
            );
            for (of, value) in [(Of::Float(1), 1.0), (Of::Float(4), 4.0), (Of::Histogram(1), 6.0)] {
                batch.exemplars.push(of, value, 7, true);
            }
            let numbered = Numbered { sequence: 1, batch: Arc::new(batch) };
            splitter.split(&numbered, &[0..3, 3..6, 6..7], |part| parts.push(part.batch));
        }
        let starts: Vec<_> = parts.iter().flat_map(|part| part.shape().starts()).copied().collect();
        assert_eq!(starts, [10, 11, 12, 13, 14, 15, 16, 10, 11, 12, 13, 14, 15, 16]);
        let exemplars =
            |part: &Batch| part.exemplars.iter().map(|one| (one.of(), one.value())).collect::<Vec<_>>();
        let expected = [vec![(Of::Float(1), 1.0)], vec![(Of::Float(1), 4.0)], vec![(Of::Histogram(0), 6.0)]];
        assert_eq!(parts[..3].iter().map(|part| exemplars(part)).collect::<Vec<_>>(), expected);
        assert!((0..3).all(|at| Arc::ptr_eq(parts[at].shape().list(), parts[at + 3].shape().list())));
    }
}
