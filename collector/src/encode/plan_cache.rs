//! The plans of one encoder, found by the shapes of a request in their order.
//!
//! A plan is made when its list of shapes comes for the second time, so that what comes once costs no search.
//! Memory is bounded by [`MAX_PLANS`] and [`MAX_PLAN_BYTES`]: the plan that was used longest ago goes first, but
//! only if it was idle for [`IDLE`] requests; else the new list goes without, for plans that push each other out
//! would cost more than they save. Plans of shapes that no longer exist are dropped.

use std::hash::{BuildHasher, RandomState};
use std::sync::Weak;

use super::plan::Plan;
use crate::model::Shape;

/// A scrape is a request, or near it, so each target has a plan.
const MAX_PLANS: usize = 2048;
/// Heap bytes of an encoder's plans together: enough for a million and a half of live series.
const MAX_PLAN_BYTES: usize = 64 << 20;
/// Requests for which a plan must have been of no use before another takes its place.
const IDLE: u64 = 4352;
/// Else lists that take turns would push each other out for ever.
const _: () = assert!(IDLE > 2 * MAX_PLANS as u64);
/// Lists that came once and are remembered.
/// A list must still be known when all others have come between.
const MAX_SEEN: usize = 2 * MAX_PLANS;
/// Requests after which plans are looked through for dead shapes.
const SWEEP: u64 = 256;
/// What a plan takes for one series, roughly: for the question whether there is room.
const BYTES_A_SERIES: usize = 40;

struct Entry {
    hash: u64,
    key: Box<[u64]>,
    shapes: Box<[Weak<Shape>]>,
    /// `None` for shapes of which no plan can be made.
    plan: Option<Plan>,
    memory: usize,
    used: u64,
}

/// What the cache says of a list of shapes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// Its plan has this number, until the cache is asked to make or find another.
    Plan(usize),
    /// It came before and there is room: its plan is worth making.
    Worth,
    No,
}

pub(super) struct PlanCache {
    entries: Vec<Entry>,
    memory: usize,
    requests: u64,
    seen: [u64; MAX_SEEN],
    next_seen: usize,
    hasher: RandomState,
}

impl Default for PlanCache {
    fn default() -> Self {
        PlanCache {
            entries: Vec::new(),
            memory: 0,
            requests: 0,
            seen: [0; MAX_SEEN],
            next_seen: 0,
            hasher: RandomState::new(),
        }
    }
}

impl PlanCache {
    /// Heap bytes of all plans.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Counts a request; now and then drops the plans whose shapes are gone.
    pub(super) fn tick(&mut self) {
        self.requests += 1;
        if self.requests.is_multiple_of(SWEEP) {
            self.sweep();
        }
    }

    /// Looks up the list `key` of `series` values.
    pub(super) fn find(&mut self, key: &[u64], series: usize) -> Found {
        let hash = self.hasher.hash_one(key);
        if let Some(at) = self.entries.iter().position(|entry| entry.hash == hash && *entry.key == *key) {
            let entry = &mut self.entries[at];
            entry.used = self.requests;
            return if entry.plan.is_some() { Found::Plan(at) } else { Found::No };
        }
        if !self.seen.contains(&hash) {
            self.seen[self.next_seen] = hash;
            self.next_seen = (self.next_seen + 1) % MAX_SEEN;
            return Found::No;
        }
        if self.make_room(series.saturating_mul(BYTES_A_SERIES)) { Found::Worth } else { Found::No }
    }

    /// Takes in the plan of a list that was [`Found::Worth`] it.
    pub(super) fn insert(&mut self, key: &[u64], shapes: Box<[Weak<Shape>]>, plan: Option<Plan>) -> Found {
        let memory = plan.as_ref().map_or(0, Plan::memory) + key.len() * 16 + size_of::<Entry>();
        let found = if plan.is_some() { Found::Plan(self.entries.len()) } else { Found::No };
        let hash = self.hasher.hash_one(key);
        self.memory += memory;
        self.entries.push(Entry { hash, key: key.into(), shapes, plan, memory, used: self.requests });
        found
    }

    /// The plan that [`PlanCache::find`] or [`PlanCache::insert`] spoke of.
    pub(super) fn plan(&mut self, at: usize) -> &mut Plan {
        self.entries[at].plan.as_mut().expect("only lists with a plan are found")
    }

    fn make_room(&mut self, memory: usize) -> bool {
        if memory > MAX_PLAN_BYTES {
            return false;
        }
        if self.entries.len() >= MAX_PLANS || self.memory + memory > MAX_PLAN_BYTES {
            self.sweep();
        }
        while self.entries.len() >= MAX_PLANS || self.memory + memory > MAX_PLAN_BYTES {
            let oldest = (0..self.entries.len()).min_by_key(|&at| self.entries[at].used);
            let Some(oldest) = oldest.filter(|&at| self.entries[at].used + IDLE < self.requests) else {
                return false;
            };
            self.memory -= self.entries.swap_remove(oldest).memory;
        }
        true
    }

    fn sweep(&mut self) {
        let memory = &mut self.memory;
        self.entries.retain(|entry| {
            let alive = entry.shapes.iter().all(|shape| shape.strong_count() > 0);
            *memory -= if alive { 0 } else { entry.memory };
            alive
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::layout::Layout;

    fn plan() -> Option<Plan> {
        Some(Plan::new(Vec::new(), Vec::new(), 0, Vec::new(), &Layout::default()))
    }

    fn offer(cache: &mut PlanCache, key: u64) -> Found {
        cache.tick();
        match cache.find(&[key], 10) {
            Found::Worth => cache.insert(&[key], Box::new([]), plan()),
            found => found,
        }
    }

    #[test]
    fn the_second_sight_makes_the_plan() {
        let mut cache = PlanCache::default();
        assert_eq!(offer(&mut cache, 7), Found::No);
        assert_eq!(offer(&mut cache, 7), Found::Plan(0));
        assert_eq!(offer(&mut cache, 7), Found::Plan(0));
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn plans_in_use_are_not_pushed_out_but_idle_ones_are() {
        let mut cache = PlanCache::default();
        let lists = MAX_PLANS as u64;
        for _ in 0..2 {
            (0..lists).for_each(|key| assert_ne!(offer(&mut cache, key), Found::Worth));
        }
        assert_eq!(cache.len(), MAX_PLANS);
        offer(&mut cache, u64::MAX);
        assert_eq!(offer(&mut cache, u64::MAX), Found::No, "all of them were used a moment ago");
        (0..IDLE).for_each(|_| assert!(matches!(offer(&mut cache, 5), Found::Plan(_))));
        assert!(matches!(offer(&mut cache, u64::MAX), Found::Plan(_)));
        assert!(matches!(offer(&mut cache, 5), Found::Plan(_)));
        assert_eq!(cache.len(), MAX_PLANS);
    }

    #[test]
    fn plans_too_large_together_are_not_kept() {
        let mut cache = PlanCache::default();
        for _ in 0..3 {
            cache.tick();
            assert_eq!(cache.find(&[1], MAX_PLAN_BYTES), Found::No);
        }
    }
}
