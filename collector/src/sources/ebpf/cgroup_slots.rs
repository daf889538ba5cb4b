//! The counts of each cgroup, summed over the rows of a probe's table, and the names of the cgroups.
//!
//! The kernel side takes a slot for each cgroup that it meets (see `collector_ebpf::cgroups`). A tick looks at each slot
//! once: its owner is remembered by place, so that a cgroup is looked up only when a slot gets another one. Cost: a cache
//! line a slot, and no system call while the cgroups stay the same.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};

use collector_ebpf::cgroups::{COUNTS, CgroupSet, CgroupSlot, WAYS};
use hashbrown::HashMap;

use super::kernel_map::KernelMap;
use crate::model::{Family, Recorder};

/// How long the series of a cgroup go on after it has gone.
const RETAINED_MS: i64 = 120_000;

const SLOT_WORDS: usize = size_of::<CgroupSlot>() / 8;
const ID: usize = offset_of!(CgroupSlot, id) / 8;
const FIRST_COUNT: usize = offset_of!(CgroupSlot, counts) / 8;

/// What was counted for a cgroup, since the probe first saw it.
pub(super) type Counts = [u64; COUNTS];

struct Cgroup {
    id: u64,
    /// `None` until a walk has found it.
    path: Option<String>,
    /// Whether the walk under way has met it.
    met: bool,
    /// Since when walks have missed it.
    gone_since_ms: Option<i64>,
    counts: Counts,
}

pub(super) struct CgroupSlots {
    map: KernelMap,
    /// Index of the hierarchy in which its cgroups are.
    pub(super) hierarchy: usize,
    cgroups: Vec<Cgroup>,
    by_id: HashMap<u64, usize>,
    /// For each slot, whose it was at the last tick: its number and its place in `cgroups`.
    owners: Vec<(u64, usize)>,
    unseen: bool,
}

impl CgroupSlots {
    pub(super) fn new(map: KernelMap, hierarchy: usize) -> Self {
        let owners = vec![(0, 0); map.elements() * WAYS];
        CgroupSlots { map, hierarchy, cgroups: Vec::new(), by_id: HashMap::new(), owners, unseen: false }
    }

    /// Sums what was counted so far. Returns whether there are cgroups whose names have not been looked for.
    pub(super) fn read(&mut self) -> bool {
        for cgroup in &mut self.cgroups {
            cgroup.counts = Counts::default();
        }
        for set in 0..self.map.elements() {
            for way in 0..WAYS {
                self.add_slot(set, way);
            }
        }
        std::mem::take(&mut self.unseen)
    }

    fn slot(map: &KernelMap, set: usize, way: usize) -> &[AtomicU64] {
        const { assert!(size_of::<CgroupSet>() == WAYS * SLOT_WORDS * 8) };
        &map.element(set)[way * SLOT_WORDS..][..SLOT_WORDS]
    }

    fn add_slot(&mut self, set: usize, way: usize) {
        let slot = Self::slot(&self.map, set, way);
        let id = slot[ID].load(Ordering::Acquire);
        if id == 0 {
            return;
        }
        let owner = &mut self.owners[set * WAYS + way];
        if owner.0 != id {
            let cgroups = &mut self.cgroups;
            let unseen = &mut self.unseen;
            let place = *self.by_id.entry(id).or_insert_with(|| {
                *unseen = true;
                let counts = Counts::default();
                cgroups.push(Cgroup { id, path: None, met: false, gone_since_ms: None, counts });
                cgroups.len() - 1
            });
            *owner = (id, place);
        }
        let counts = &mut self.cgroups[owner.1].counts;
        for (count, word) in counts.iter_mut().zip(&slot[FIRST_COUNT..]) {
            *count += word.load(Ordering::Relaxed);
        }
    }

    /// Takes the name of a cgroup, if it is one of these.
    pub(super) fn offer(&mut self, id: u64, path: &str) {
        let Some(&place) = self.by_id.get(&id) else { return };
        let cgroup = &mut self.cgroups[place];
        cgroup.met = true;
        if cgroup.path.as_deref() != Some(path) {
            cgroup.path = Some(path.to_owned());
        }
    }

    /// Ends a walk: forgets the cgroups that have been gone for long. `complete` is whether it has met all that are.
    #[cold]
    pub(super) fn end_walk(&mut self, time_ms: i64, complete: bool) {
        for cgroup in &mut self.cgroups {
            if std::mem::take(&mut cgroup.met) || !complete {
                cgroup.gone_since_ms = None;
            } else {
                cgroup.gone_since_ms.get_or_insert(time_ms);
            }
        }
        self.yield_names();
        let forgotten = |cgroup: &Cgroup| {
            // One that nobody has seen alive has no series to retain.
            let retained = if cgroup.path.is_some() { RETAINED_MS } else { RETAINED_MS / 2 };
            cgroup.gone_since_ms.is_some_and(|since| time_ms - since >= retained)
        };
        if !self.cgroups.iter().any(forgotten) {
            return;
        }
        for (position, owner) in self.owners.iter_mut().enumerate() {
            let gone = owner.0 != 0 && forgotten(&self.cgroups[owner.1]);
            let slot = Self::slot(&self.map, position / WAYS, position % WAYS);
            if gone && slot[ID].load(Ordering::Relaxed) == owner.0 {
                for word in &slot[FIRST_COUNT..] {
                    word.store(0, Ordering::Relaxed);
                }
                slot[ID].store(0, Ordering::Release);
            }
            *owner = (0, 0);
        }
        self.cgroups.retain(|cgroup| !forgotten(cgroup));
        self.by_id = self.cgroups.iter().enumerate().map(|(place, cgroup)| (cgroup.id, place)).collect();
    }

    /// A name that has come back belongs to the cgroup that has it now.
    fn yield_names(&mut self) {
        for place in 0..self.cgroups.len() {
            let cgroup = &self.cgroups[place];
            let taken = cgroup.gone_since_ms.is_some()
                && cgroup.path.is_some()
                && self
                    .cgroups
                    .iter()
                    .any(|other| other.gone_since_ms.is_none() && other.path == cgroup.path);
            if taken {
                self.cgroups[place].path = None;
            }
        }
    }

    /// The cgroups whose names are known, in the order in which they were first seen.
    pub(super) fn named(&self) -> impl Iterator<Item = (&str, &Counts)> {
        self.cgroups.iter().filter_map(|cgroup| Some((cgroup.path.as_deref()?, &cgroup.counts)))
    }

    /// Gives one number of each cgroup.
    pub(super) fn put(&self, family: &'static Family, value: impl Fn(&Counts) -> f64, out: &mut Recorder) {
        for (path, counts) in self.named() {
            out.put(family, &[path], value(counts));
        }
    }
}
