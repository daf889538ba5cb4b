//! The counts of each cgroup, summed over the CPUs, and the names of the cgroups.
//!
//! Every CPU has a table of slots of its own (see `collector_ebpf::runqueue`). A tick looks at each slot once: its
//! owner is remembered by place, so that a cgroup is looked up only when a slot gets another one. Cost: a cache line a
//! slot, and no system call while the cgroups stay the same.

use std::mem::offset_of;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use collector_ebpf::runqueue::{CgroupSet, CgroupSlot, WAYS};
use hashbrown::HashMap;

use crate::sources::ebpf::cgroup_names;
use crate::sources::ebpf::kernel_map::KernelMap;

/// How often the names are read again to find the cgroups that are gone.
pub(super) const REFRESH_MS: i64 = 60_000;
/// Walks in a row that must miss a cgroup before its slots are given back: its last tasks may still be dying.
const WALKS_UNTIL_FREED: u8 = 2;

const SLOT_WORDS: usize = size_of::<CgroupSlot>() / 8;
const ID: usize = offset_of!(CgroupSlot, id) / 8;
const COUNTERS: [usize; 4] = [
    offset_of!(CgroupSlot, wait_ns) / 8,
    offset_of!(CgroupSlot, waits) / 8,
    offset_of!(CgroupSlot, voluntary) / 8,
    offset_of!(CgroupSlot, involuntary) / 8,
];

/// What a cgroup's tasks did, since the probe first saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) wait_ns: u64,
    pub(super) waits: u64,
    pub(super) voluntary: u64,
    pub(super) involuntary: u64,
}

struct Cgroup {
    id: u64,
    /// `None` until a walk has found it, and when the last one has not.
    path: Option<String>,
    missed: u8,
    counts: Counts,
}

pub(super) struct Cgroups {
    map: KernelMap,
    mount: PathBuf,
    cgroups: Vec<Cgroup>,
    by_id: HashMap<u64, usize>,
    /// For each slot, whose it was at the last tick: its number and its place in `cgroups`.
    owners: Vec<(u64, usize)>,
    next_walk_ms: i64,
    unseen: bool,
    walk_error: Option<String>,
}

impl Cgroups {
    pub(super) fn new(map: KernelMap, mount: PathBuf) -> Self {
        let owners = vec![(0, 0); map.elements() * WAYS];
        Cgroups {
            map,
            mount,
            cgroups: Vec::new(),
            by_id: HashMap::new(),
            owners,
            next_walk_ms: i64::MIN,
            unseen: false,
            walk_error: None,
        }
    }

    /// Sums what the CPUs have counted so far.
    pub(super) fn read(&mut self, time_ms: i64) {
        for cgroup in &mut self.cgroups {
            cgroup.counts = Counts::default();
        }
        for set in 0..self.map.elements() {
            for way in 0..WAYS {
                self.add_slot(set, way);
            }
        }
        if self.unseen || time_ms >= self.next_walk_ms {
            self.unseen = false;
            self.next_walk_ms = time_ms.saturating_add(REFRESH_MS);
            self.walk();
        }
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
                cgroups.push(Cgroup { id, path: None, missed: 0, counts: Counts::default() });
                cgroups.len() - 1
            });
            *owner = (id, place);
        }
        let counts = &mut self.cgroups[owner.1].counts;
        let [wait_ns, waits, voluntary, involuntary] =
            COUNTERS.map(|word| slot[word].load(Ordering::Relaxed));
        counts.wait_ns += wait_ns;
        counts.waits += waits;
        counts.voluntary += voluntary;
        counts.involuntary += involuntary;
    }

    /// Reads the names anew, and forgets the cgroups that are gone.
    #[cold]
    fn walk(&mut self) {
        for cgroup in &mut self.cgroups {
            cgroup.missed = cgroup.missed.saturating_add(1);
        }
        let (cgroups, by_id) = (&mut self.cgroups, &self.by_id);
        let result = cgroup_names::walk(&self.mount, |id, path| {
            let Some(&place) = by_id.get(&id) else { return };
            let cgroup = &mut cgroups[place];
            cgroup.missed = 0;
            if cgroup.path.as_deref() != Some(path) {
                cgroup.path = Some(path.to_owned());
            }
        });
        let complete = self.report(result);
        for cgroup in &mut self.cgroups {
            if !complete {
                cgroup.missed = 0;
            } else if cgroup.missed > 0 {
                cgroup.path = None;
            }
        }
        if self.cgroups.iter().any(|cgroup| cgroup.missed >= WALKS_UNTIL_FREED) {
            self.forget_gone();
        }
    }

    /// Whether the walk has seen every cgroup. Says once what went wrong.
    fn report(&mut self, result: std::io::Result<bool>) -> bool {
        let text = match result {
            Ok(true) => {
                self.walk_error = None;
                return true;
            }
            Ok(false) => "it has more directories than are looked at, or some that can't be read".to_owned(),
            Err(error) => error.to_string(),
        };
        if self.walk_error.as_ref() != Some(&text) {
            let mount = self.mount.display().to_string();
            log::warn!(probe = "runqueue", path = mount.as_str(), err = text.as_str(); "cgroup names are incomplete");
            self.walk_error = Some(text);
        }
        false
    }

    #[cold]
    fn forget_gone(&mut self) {
        for (position, owner) in self.owners.iter_mut().enumerate() {
            let gone = owner.0 != 0 && self.cgroups[owner.1].missed >= WALKS_UNTIL_FREED;
            let slot = Self::slot(&self.map, position / WAYS, position % WAYS);
            if gone && slot[ID].load(Ordering::Relaxed) == owner.0 {
                for word in COUNTERS {
                    slot[word].store(0, Ordering::Relaxed);
                }
                slot[ID].store(0, Ordering::Release);
            }
            *owner = (0, 0);
        }
        self.cgroups.retain(|cgroup| cgroup.missed < WALKS_UNTIL_FREED);
        self.by_id = self.cgroups.iter().enumerate().map(|(place, cgroup)| (cgroup.id, place)).collect();
    }

    /// The cgroups whose names are known, in the order in which they were first seen.
    pub(super) fn named(&self) -> impl Iterator<Item = (&str, &Counts)> {
        self.cgroups.iter().filter_map(|cgroup| Some((cgroup.path.as_deref()?, &cgroup.counts)))
    }
}
