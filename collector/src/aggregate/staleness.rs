//! Stale markers: when a source's new shape lacks series that its last one had, each of them ends with one
//! marker at the time of the new batch (remote write specification, "Stale Markers"). None when we stop.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::model::{Batch, STALE_NAN, SeriesId, Shape};

/// The last shape of each source.
#[derive(Default)]
pub struct Staleness {
    /// By the address of the source, which the shape keeps alive.
    last: HashMap<usize, Arc<Shape>>,
}

impl Staleness {
    /// Writes to `marker` the batch that ends what `batch` no longer has, and says whether there is one.
    ///
    /// While the shape stays the same this is one look-up.
    pub fn observe(&mut self, batch: &Batch, marker: &mut Batch) -> bool {
        let shape = batch.shape();
        let source = Arc::as_ptr(&shape.source).addr();
        match self.last.get_mut(&source) {
            Some(last) if last.id() == shape.id() => false,
            Some(last) => {
                let before = std::mem::replace(last, shape.clone());
                end_vanished(&before, batch, marker)
            }
            None => {
                self.last.insert(source, shape.clone());
                false
            }
        }
    }
}

fn end_vanished(before: &Arc<Shape>, batch: &Batch, marker: &mut Batch) -> bool {
    let shape = batch.shape();
    let floats: HashSet<SeriesId> = shape.floats().iter().map(|&(id, _)| id).collect();
    let histograms: HashSet<SeriesId> = shape.histograms().iter().copied().collect();
    let gone: Vec<_> = before.floats().iter().filter(|(id, _)| !floats.contains(id)).copied().collect();
    let gone_histograms: Vec<_> =
        before.histograms().iter().filter(|id| !histograms.contains(*id)).copied().collect();
    if gone.is_empty() && gone_histograms.is_empty() {
        return false;
    }
    {
        let mut table = shape.table().lock();
        gone.iter().for_each(|&(id, _)| table.retain(id));
        gone_histograms.iter().for_each(|&id| table.retain(id));
    }
    marker.clear();
    marker.time_ms = batch.time_ms;
    marker.values.resize(gone.len(), STALE_NAN);
    for _ in &gone_histograms {
        marker.push_histogram().sum = STALE_NAN;
    }
    marker.shape = Some(Shape::new(shape.source.clone(), shape.table().clone(), gone, gone_histograms));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Family, Recorder, SeriesTable, Source};

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
}
