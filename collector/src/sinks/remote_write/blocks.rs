//! Through which lanes a batch goes: one, by the name of its source; or where it is large one for each block of its
//! positions, so that what one target says can go in several requests at once.
//!
//! The samples of a series come in order while it keeps its lane. It does while its source says the same list. With
//! another list every series may stand in another block: so the first batch of that waits until the lanes of the list
//! before have settled all that is older. As that one has waited for its own predecessor, nothing older is left then.
//! Nothing of this is remembered over a restart: what was not settled by then is read from the log again, in order.
//!
//! Cost: one compare of a batch's size and one bit for its lane; for large sources one look-up a batch.

use std::ops::Range;
use std::sync::{Arc, Weak};

use hashbrown::HashMap;

use super::lanes::{Hold, LaneSet};
use crate::batch_log::LANES;
use crate::limits::BLOCK_SAMPLES;
use crate::model::{Batch, Numbered, SeriesId, SeriesList};

/// The way of one batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    home: usize,
    /// One where it is not cut; else they are of so many samples each.
    blocks: usize,
    size: usize,
    /// What all of its parts have to wait for.
    pub hold: Option<Hold>,
}

impl Course {
    /// Its one lane, where it is not cut.
    pub(super) fn lane(&self) -> Option<usize> {
        (self.blocks == 1).then_some(self.home)
    }

    /// The lane of a position.
    pub(super) fn lane_at(&self, position: usize) -> usize {
        if self.blocks == 1 { self.home } else { lane_of_block(self.home, position / self.size) }
    }

    /// The positions of each block of a batch of so many samples.
    pub(super) fn blocks(&self, samples: usize) -> impl Iterator<Item = Range<usize>> {
        let size = if self.blocks == 1 { samples } else { self.size };
        (0..self.blocks).map(move |block| block * size..((block + 1) * size).min(samples))
    }
}

/// The lane of a block. Blocks that follow each other lie far apart, for a request takes from lanes that are neighbours.
fn lane_of_block(home: usize, block: usize) -> usize {
    let bits = LANES.trailing_zeros();
    home ^ ((block % LANES).reverse_bits() >> (usize::BITS - bits))
}

fn lanes_of(home: usize, blocks: usize) -> LaneSet {
    let mut lanes = LaneSet::default();
    (0..blocks.min(LANES)).for_each(|block| lanes.insert(lane_of_block(home, block)));
    lanes
}

/// A source that is large, or was and may have something in several lanes.
struct Large {
    /// What it said last.
    id: u64,
    list: Weak<SeriesList>,
    is_large: bool,
    blocks: usize,
    /// When all is settled that is below, it has something in its first lane at the most, or has ended.
    until: u64,
}

impl Large {
    /// Whether the list is the same as last time: lists that come from the log and from memory are two of the same series.
    fn says(&mut self, list: &Arc<SeriesList>) -> bool {
        let is_same = self.id == list.id()
            || self.list.upgrade().is_some_and(|known| {
                known.floats() == list.floats() && known.histograms() == list.histograms()
            });
        if is_same && self.id != list.id() {
            (self.id, self.list) = (list.id(), Arc::downgrade(list));
        }
        is_same
    }
}

/// The large sources of one endpoint, as far as its batches were looked at.
pub(super) struct Blocks {
    /// [`BLOCK_SAMPLES`]
    size: usize,
    /// The first lanes of these.
    homes: LaneSet,
    /// By the checksum of their names. Two that have the same are taken for one which changes all the time.
    large: HashMap<u32, Large>,
}

impl Default for Blocks {
    fn default() -> Self {
        Blocks::of_size(BLOCK_SAMPLES)
    }
}

impl Blocks {
    pub(super) fn of_size(size: usize) -> Self {
        Blocks { size, homes: LaneSet::default(), large: HashMap::new() }
    }

    /// The way of the next batch, settled or not.
    pub(super) fn course(&mut self, numbered: &Numbered) -> Course {
        let key = crc32fast::hash(numbered.batch.shape().source.name.as_bytes());
        let home = key as usize % LANES;
        if numbered.batch.samples() <= self.size && !self.homes.contains(home) {
            return Course { home, blocks: 1, size: self.size, hold: None };
        }
        self.course_of_large(key, home, numbered)
    }

    fn course_of_large(&mut self, key: u32, home: usize, numbered: &Numbered) -> Course {
        let (list, samples) = (numbered.batch.shape().list(), numbered.batch.samples());
        let (size, is_large) = (self.size, samples > self.size);
        // What a source says while it is small is in its first lane.
        let mut before = 1;
        if let Some(large) = self.large.get_mut(&key) {
            before = large.blocks;
            if large.says(list) {
                if before > 1 {
                    large.until = numbered.end();
                }
                return Course { home, blocks: before, size, hold: None };
            }
        } else if !is_large {
            return Course { home, blocks: 1, size, hold: None };
        }
        let is_cut = is_large && may_be_cut(&numbered.batch, size);
        let blocks = if is_cut { samples.div_ceil(size) } else { 1 };
        let (id, until) = (list.id(), numbered.end());
        self.large.insert(key, Large { id, list: Arc::downgrade(list), is_large, blocks, until });
        self.homes.insert(home);
        let hold = Hold { lanes: lanes_of(home, before), below: numbered.sequence };
        Course { home, blocks, size, hold: Some(hold) }
    }

    /// Everything below `settled` is: forgets the sources of which that makes small ones, and those that have ended.
    pub(super) fn sweep(&mut self, settled: u64) {
        let is_in_use = |large: &Large| large.is_large && large.list.strong_count() > 0;
        self.large.retain(|_, large| settled < large.until || is_in_use(large));
        self.homes = LaneSet::default();
        self.large.keys().for_each(|&key| self.homes.insert(key as usize % LANES));
    }
}

/// Whether no series stands in two blocks: one may come twice, with times that rise. Then one of them has a time of its
/// own, in every batch of that list.
fn may_be_cut(batch: &Batch, size: usize) -> bool {
    if batch.one_time() {
        return true;
    }
    let mut blocks: HashMap<SeriesId, usize> = HashMap::with_capacity(batch.samples());
    let positions = batch.shape().list().series().enumerate();
    positions.map(|(at, id)| (at / size, id)).all(|(block, id)| *blocks.entry(id).or_insert(block) == block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_keeps_its_lane_for_ever() {
        // Files on disks hold places by these numbers.
        let lanes: Vec<_> = (0..6).map(|block| lane_of_block(5, block)).collect();
        assert_eq!(lanes, [5, 37, 21, 53, 13, 45]);
        assert_eq!(BLOCK_SAMPLES, 10_000);
        for home in 0..LANES {
            assert_eq!(lanes_of(home, LANES), lanes_of(0, 1000), "all of them");
            assert_eq!(lane_of_block(home, LANES + 3), lane_of_block(home, 3));
        }
    }
}
