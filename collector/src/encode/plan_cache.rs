//! The plans of one encoder, found by the shapes of a request in their order.
//!
//! A list of shapes gets a quick plan first ([`super::plan_chain`]), and the best one when it has come so often that
//! it may be expected to go on coming: what comes once costs little search, what comes for hours a thorough one.
//! Memory is bounded by [`MAX_PLANS`] and [`MAX_PLAN_BYTES`]: the plan that was used longest ago goes first, but
//! only if it was idle for [`IDLE`] requests; else the new list goes without, for plans that push each other out
//! would cost more than they save. Plans of shapes that no longer exist are dropped.
//!
//! In 1.0 sources that say the same share one plan, if the values of their labels are as long: what differs is filled
//! in for each request. Then a list that comes or changes is planned once, not once for each target.

use std::any::Any;
use std::hash::{BuildHasher, Hash as _, Hasher as _, RandomState};
use std::sync::Weak;

use hashbrown::HashMap;

use super::plan::Plan;
use crate::model::Shape;

/// Two plans for each source of a large fleet.
const MAX_PLANS: usize = 32_768;
/// Heap bytes of an encoder's plans together: some two million series.
const MAX_PLAN_BYTES: usize = 64 << 20;
/// Requests for which a plan must have been of no use before another takes its place.
const IDLE: u64 = 2 * MAX_PLANS as u64;
/// Lists of several shapes without a plan that are remembered, with how often they came: enough for what 64 lanes send
/// in turn. Few all the same: lists that chance makes, of the targets that happened to answer together, are not to be
/// taken for lists that repeat.
const MAX_SEEN: usize = 128;
/// Series for which the best plan is searched whatever it costs, and samples sent for each one more: lists that change
/// all the time, as those of a backlog that goes in many small requests, must not cost more to plan than to send.
const FREE_SEARCHES: u64 = 20_000;
const SAMPLES_A_SEARCH: u64 = 500;
/// Requests after which plans are looked through for dead shapes.
const SWEEP: u64 = 256;
/// What a plan takes for one series, roughly: for the question whether there is room.
const BYTES_A_SERIES: usize = 40;
/// How often a list of shapes comes before it gets the best plan.
pub(super) const BEST_AFTER: u32 = 8;
/// The same for a single shape: later, for a list that it is in makes a plan of its own superfluous. What the best plans
/// of a large fleet cost is spread by [`SAMPLES_A_SEARCH`].
const BEST_AFTER_ALONE: u32 = BEST_AFTER + 2;
/// The best plan of a single shape is made when the quick one is so old: before, it may be about to change.
const BEST_AFTER_MS: i64 = 60_000;
/// Begins the keys of shared plans; shapes are not numbered so high.
pub(super) const SHARED: u64 = u64::MAX;

/// A shape or list that lives as long as a plan may come again.
pub(super) type Owner = Weak<dyn Any + Send + Sync>;

struct Entry {
    key: Box<[u64]>,
    owners: Box<[Owner]>,
    /// `None` for shapes of which no plan can be made.
    plan: Option<Plan>,
    memory: usize,
    /// The request that used it last.
    used: u64,
    /// How often it came, and whether its plan can still become better.
    times: u32,
    is_quick: bool,
    /// From when on the best plan is worth making.
    best_at_ms: i64,
}

/// What the cache says of a list of shapes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// Its plan has this number, until the cache is asked to make or find another.
    Plan(usize),
    /// There is room for a plan: a quick one is worth making.
    Quick,
    /// The best plan is worth making.
    Best,
    No,
}

pub(super) struct PlanCache {
    entries: Vec<Entry>,
    index: HashMap<Box<[u64]>, usize>,
    memory: usize,
    requests: u64,
    /// The time of the request under way.
    now_ms: i64,
    seen: [(u64, u32); MAX_SEEN],
    next_seen: usize,
    /// Samples that plans were asked for, and series for which the best one was searched.
    samples: u64,
    searched: u64,
    hasher: RandomState,
}

impl Default for PlanCache {
    fn default() -> Self {
        PlanCache {
            entries: Vec::new(),
            index: HashMap::new(),
            memory: 0,
            requests: 0,
            now_ms: 0,
            seen: [(0, 0); MAX_SEEN],
            next_seen: 0,
            samples: 0,
            searched: 0,
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

    /// Counts a request of this time; now and then drops the plans whose shapes are gone.
    pub(super) fn tick(&mut self, now_ms: i64) {
        self.requests += 1;
        // A backlog goes beside what is new: the newest of both says how old a plan is.
        self.now_ms = self.now_ms.max(now_ms);
        if self.requests.is_multiple_of(SWEEP) {
            self.sweep();
        }
    }

    /// Looks up the list `key` of `series` values; `quick_after` is how often a list comes before it gets a quick
    /// plan.
    pub(super) fn find(&mut self, key: &[u64], series: usize, quick_after: u32) -> Found {
        let best_after = if is_alone(key) { BEST_AFTER_ALONE } else { BEST_AFTER };
        self.samples += series as u64;
        let searched = self.searched + series as u64;
        let affords = searched <= FREE_SEARCHES + self.samples / SAMPLES_A_SEARCH;
        if let Some(&at) = self.index.get(key) {
            let entry = &mut self.entries[at];
            entry.used = self.requests;
            entry.times = entry.times.saturating_add(1);
            return match entry.plan {
                Some(_)
                    if entry.is_quick
                        && entry.times >= best_after
                        && entry.best_at_ms <= self.now_ms
                        && affords =>
                {
                    // It is tried once.
                    entry.best_at_ms = i64::MAX;
                    self.searched = searched;
                    Found::Best
                }
                Some(_) => Found::Plan(at),
                None => Found::No,
            };
        }
        let times = if quick_after <= 1 { 1 } else { self.count(key) };
        if times < quick_after.min(best_after) || !self.make_room(series.saturating_mul(BYTES_A_SERIES)) {
            return Found::No;
        }
        if times < best_after {
            Found::Quick
        } else if affords {
            self.searched = searched;
            Found::Best
        } else if quick_after < best_after {
            Found::Quick
        } else {
            Found::No
        }
    }

    /// How often a list without a plan has come, this time included.
    fn count(&mut self, key: &[u64]) -> u32 {
        let hash = self.hasher.hash_one(key);
        if let Some((_, times)) = self.seen.iter_mut().find(|(seen, _)| *seen == hash) {
            *times += 1;
            return *times;
        }
        self.seen[self.next_seen] = (hash, 1);
        self.next_seen = (self.next_seen + 1) % MAX_SEEN;
        1
    }

    /// The key of the plan that a source shares with those that have its list, and labels as long as its own.
    pub(super) fn shared_key(&self, shape: &Shape, key: &mut Vec<u64>) {
        let lengths = shape.source.labels.iter().map(|(name, value)| (name.as_str(), value.len()));
        let mut hasher = self.hasher.build_hasher();
        lengths.for_each(|label| label.hash(&mut hasher));
        key.extend([SHARED, shape.list().id(), hasher.finish()]);
    }

    /// Takes in the plan of a list that was worth it, in the place of one that it had.
    pub(super) fn insert(
        &mut self,
        key: &[u64],
        owners: Box<[Owner]>,
        plan: Option<Plan>,
        is_quick: bool,
    ) -> Found {
        let memory = plan.as_ref().map_or(0, Plan::memory) + key.len() * 24 + size_of::<Entry>();
        let has_plan = plan.is_some();
        let at = match self.index.get(key) {
            Some(&at) => {
                let entry = &mut self.entries[at];
                self.memory -= entry.memory;
                (entry.plan, entry.memory, entry.is_quick) = (plan, memory, is_quick);
                at
            }
            None => {
                let (key, used) = (Box::<[u64]>::from(key), self.requests);
                self.index.insert(key.clone(), self.entries.len());
                let best_at_ms = self.now_ms.saturating_add(if is_alone(&key) { BEST_AFTER_MS } else { 0 });
                self.entries.push(Entry { key, owners, plan, memory, used, times: 1, is_quick, best_at_ms });
                self.entries.len() - 1
            }
        };
        self.memory += memory;
        if has_plan { Found::Plan(at) } else { Found::No }
    }

    /// The plan that [`PlanCache::find`] or [`PlanCache::insert`] spoke of.
    pub(super) fn plan(&mut self, at: usize) -> &mut Plan {
        self.entries[at].plan.as_mut().expect("only lists with a plan are found")
    }

    fn make_room(&mut self, memory: usize) -> bool {
        let is_full =
            |cache: &Self| cache.entries.len() >= MAX_PLANS || cache.memory + memory > MAX_PLAN_BYTES;
        if memory > MAX_PLAN_BYTES {
            return false;
        }
        if is_full(self) {
            self.sweep();
        }
        while is_full(self) {
            let oldest = (0..self.entries.len()).min_by_key(|&at| self.entries[at].used);
            let Some(oldest) = oldest.filter(|&at| self.entries[at].used + IDLE < self.requests) else {
                return false;
            };
            self.memory -= self.entries.swap_remove(oldest).memory;
            self.number();
        }
        true
    }

    fn sweep(&mut self) {
        let (memory, before) = (&mut self.memory, self.entries.len());
        self.entries.retain(|entry| {
            let alive = entry.owners.iter().all(|owner| owner.strong_count() > 0);
            *memory -= if alive { 0 } else { entry.memory };
            alive
        });
        if self.entries.len() < before {
            self.number();
        }
    }

    /// Makes the index anew, after entries have moved.
    fn number(&mut self) {
        self.index.clear();
        self.index.extend(self.entries.iter().enumerate().map(|(at, entry)| (entry.key.clone(), at)));
        self.index.shrink_to(self.entries.len() * 2);
    }
}

/// Whether the key is that of a single shape.
fn is_alone(key: &[u64]) -> bool {
    key.len() == 1 || key.first() == Some(&SHARED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::layout::Layout;

    fn plan() -> Option<Plan> {
        Some(Plan::new(Vec::new(), Vec::new(), 0, Vec::new(), Vec::new(), &Layout::default()))
    }

    fn offer(cache: &mut PlanCache, key: &[u64]) -> Found {
        cache.tick(0);
        let found = cache.find(key, 10, if key.len() == 1 { 1 } else { 2 });
        match found {
            Found::Quick | Found::Best => {
                cache.insert(key, Box::new([]), plan(), found == Found::Quick);
                found
            }
            found => found,
        }
    }

    #[test]
    fn what_comes_for_long_gets_the_best_plan() {
        let mut cache = PlanCache::default();
        assert_eq!(offer(&mut cache, &[7, 8]), Found::No);
        assert_eq!(offer(&mut cache, &[7, 8]), Found::Quick);
        let rest: Vec<_> = (0..BEST_AFTER).map(|_| offer(&mut cache, &[7, 8])).collect();
        assert_eq!(rest.iter().filter(|&&found| found == Found::Best).count(), 1);
        assert_eq!(rest.last(), Some(&Found::Plan(0)));
        assert_eq!(offer(&mut cache, &[9]), Found::Quick, "a shape alone at once");
        assert_eq!((offer(&mut cache, &[9]), cache.len()), (Found::Plan(1), 2));
    }

    #[test]
    fn searching_is_bounded_by_what_is_sent() {
        let mut cache = PlanCache::default();
        let series = 2000;
        let mut bests = 0;
        for round in 0..20 * u64::from(BEST_AFTER) {
            let found = cache.find(&[round / u64::from(BEST_AFTER), 1000], series, BEST_AFTER);
            bests += u64::from(found == Found::Best);
        }
        let most = FREE_SEARCHES + cache.samples / SAMPLES_A_SEARCH;
        assert_eq!(bests, most / series as u64, "of twenty lists, the first ones");
    }

    #[test]
    fn lists_that_chance_makes_get_none() {
        let mut cache = PlanCache::default();
        for number in 0..10 * MAX_SEEN as u64 {
            assert_eq!(offer(&mut cache, &[number % (2 * MAX_SEEN as u64), 1000]), Found::No);
        }
    }

    #[test]
    fn plans_in_use_are_not_pushed_out_but_idle_ones_are() {
        let mut cache = PlanCache::default();
        let lists = MAX_PLANS as u64;
        (0..lists).for_each(|key| assert_eq!(offer(&mut cache, &[key]), Found::Quick));
        assert_eq!(offer(&mut cache, &[lists]), Found::No, "all of them were used a while ago");
        cache.requests += IDLE;
        assert!(matches!(offer(&mut cache, &[5]), Found::Plan(_)));
        assert_eq!(offer(&mut cache, &[lists]), Found::Quick);
        assert!(matches!(offer(&mut cache, &[5]), Found::Plan(_)));
        assert_eq!(cache.len(), MAX_PLANS);
    }

    #[test]
    fn plans_too_large_together_are_not_kept() {
        let mut cache = PlanCache::default();
        cache.tick(0);
        assert_eq!(cache.find(&[1], MAX_PLAN_BYTES, 1), Found::No);
    }
}
