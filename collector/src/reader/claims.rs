//! Who says which series of a pushed tick: the first of two sources keeps it, the other's sample is left out.
//!
//! A receiver refuses a whole request in which a series has two samples of one time, so one text file that repeats
//! a collector's metric could cost everything else. While no shape changes this is a compare a batch.

use std::sync::Arc;

use hashbrown::HashSet;

use crate::model::{Batch, Form, SeriesId, Shape};

/// What is known of the batch at one position of the tick.
struct Known {
    shape: Arc<Shape>,
    /// The shape without what others have said before, where that is something.
    reduced: Option<Reduced>,
}

struct Reduced {
    shape: Arc<Shape>,
    floats: Vec<u32>,
    histograms: Vec<u32>,
}

/// The claims of one tick after the other.
#[derive(Default)]
pub(super) struct Claims {
    known: Vec<Known>,
    position: usize,
    /// Some shape of this tick has changed: from there on every claim is looked at anew.
    rebuilding: bool,
    claimed: HashSet<SeriesId>,
    /// Series of this tick that the one before it lacked.
    pub(super) added: usize,
    /// Samples of this tick that were left out.
    pub(super) duplicates: usize,
}

impl Claims {
    pub(super) fn begin_tick(&mut self) {
        self.known.truncate(self.position);
        self.position = 0;
        self.rebuilding = false;
        self.added = 0;
        self.duplicates = 0;
    }

    /// Looks at the next batch of the tick. What is left of it is in `slab` where `true` comes back, else it is
    /// whole.
    pub(super) fn reduce(&mut self, batch: &Batch, slab: &mut Batch) -> bool {
        let (at, shape) = (self.position, batch.shape());
        self.position += 1;
        let same = self.known.get(at).is_some_and(|known| known.shape.id() == shape.id());
        if !same || self.rebuilding {
            self.look_anew(at, shape);
        }
        let Some(reduced) = &self.known[at].reduced else { return false };
        self.duplicates += batch.samples() - reduced.floats.len() - reduced.histograms.len();
        slab.clear();
        slab.time_ms = batch.time_ms;
        slab.shape = Some(reduced.shape.clone());
        slab.values.extend(reduced.floats.iter().map(|&n| batch.values[n as usize]));
        for &n in &reduced.histograms {
            slab.push_histogram().clone_from(&batch.histograms()[n as usize]);
        }
        true
    }

    #[cold]
    fn look_anew(&mut self, at: usize, shape: &Arc<Shape>) {
        if !self.rebuilding {
            self.rebuilding = true;
            self.claimed.clear();
            let before = self.known[..at].iter().flat_map(|known| known.shape.list().series());
            self.claimed.extend(before);
        }
        let had: HashSet<SeriesId> =
            self.known.get(at).into_iter().flat_map(|k| k.shape.list().series()).collect();
        self.added += shape.list().series().filter(|id| !had.contains(id)).count();
        let known = Known { shape: shape.clone(), reduced: reduce(shape, &self.claimed) };
        self.claimed.extend(shape.list().series());
        match self.known.get_mut(at) {
            Some(place) => *place = known,
            None => self.known.push(known),
        }
    }
}

fn reduce(shape: &Arc<Shape>, claimed: &HashSet<SeriesId>) -> Option<Reduced> {
    if !shape.list().series().any(|id| claimed.contains(&id)) {
        return None;
    }
    let free = |id: SeriesId| !claimed.contains(&id);
    let (mut floats, mut kept_floats) = (Vec::new(), Vec::<(SeriesId, Form)>::new());
    for (n, &(id, form)) in (0u32..).zip(shape.floats()) {
        if free(id) {
            floats.push(n);
            kept_floats.push((id, form));
        }
    }
    let (mut histograms, mut kept_histograms) = (Vec::new(), Vec::new());
    for (n, &id) in (0u32..).zip(shape.histograms()) {
        if free(id) {
            histograms.push(n);
            kept_histograms.push(id);
        }
    }
    {
        let mut table = shape.table().lock();
        kept_floats
            .iter()
            .map(|&(id, _)| id)
            .chain(kept_histograms.iter().copied())
            .for_each(|id| table.retain(id));
    }
    let shape = Shape::new(shape.source.clone(), shape.table().clone(), kept_floats, kept_histograms);
    Some(Reduced { shape, floats, histograms })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Family, Recorder, SeriesTable, Source};

    static LOAD: Family = Family::gauge("load", "Load.", &["n"]);

    #[test]
    fn the_first_keeps_a_series_and_the_rest_of_the_other_is_sent() {
        let table = Arc::new(SeriesTable::default());
        let recorder = |name: &str| {
            Recorder::new(Arc::new(Source { name: name.into(), labels: Vec::new() }), table.clone())
        };
        let mut recorders = [recorder("a"), recorder("b")];
        let mut claims = Claims::default();
        let mut tick = |said: [&[&str]; 2]| {
            claims.begin_tick();
            let mut sent = Vec::new();
            for (recorder, names) in recorders.iter_mut().zip(said) {
                recorder.begin(Batch::default(), 1);
                names
                    .iter()
                    .zip(1..)
                    .for_each(|(name, value)| recorder.put(&LOAD, &[name], f64::from(value)));
                let (batch, mut slab) = (recorder.finish(), Batch::default());
                let left = if claims.reduce(&batch, &mut slab) { slab } else { batch };
                assert_eq!(left.values.len(), left.shape().floats().len());
                sent.push(left.values.clone());
            }
            (sent, claims.duplicates, claims.added)
        };
        for added in [4, 0, 0] {
            let expected = (vec![vec![1.0, 2.0], vec![1.0]], 1, added);
            assert_eq!(tick([&["x", "y"], &["z", "y"]]), expected);
        }
        assert_eq!(tick([&["x"], &["z", "y"]]), (vec![vec![1.0], vec![1.0, 2.0]], 0, 0));
        assert_eq!(tick([&["x", "z"], &["z", "y"]]), (vec![vec![1.0, 2.0], vec![2.0]], 1, 1));
        assert_eq!(tick([&[], &["z", "y"]]).1, 0);
    }
}
