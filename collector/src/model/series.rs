//! The series table: every label set named once, found by its labels, counted by the shapes that hold it.
//!
//! The table is locked only when a shape is made, planned or dropped; a steady tick never touches it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard};

use hashbrown::HashTable;

use super::family::Kind;
use super::symbols::{Symbol, Symbols};

/// A series of the table: valid while a shape that holds it lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SeriesId(pub u32);

/// A series to be interned. `name` is the sample's name, `family` that of its family (they differ for
/// `_bucket`, `_sum` and `_count`). `labels` must not hold `__name__`, and need not be sorted.
#[derive(Clone, Copy, Debug)]
pub struct SeriesSpec<'a> {
    pub name: &'a str,
    pub family: &'a str,
    pub kind: Kind,
    pub help: &'a str,
    pub unit: &'a str,
    pub labels: &'a [(&'a str, &'a str)],
}

struct Entry {
    name: Symbol,
    family: Symbol,
    help: Symbol,
    unit: Symbol,
    kind: Kind,
    users: u32,
    /// Label names and values in turn, sorted by name.
    labels: Box<[Symbol]>,
}

#[derive(Default)]
struct Inner {
    symbols: Symbols,
    entries: Vec<Entry>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: RandomState,
}

/// The table, shared by every source and every encoder.
#[derive(Default)]
pub struct SeriesTable {
    inner: Mutex<Inner>,
}

/// The locked table.
pub struct TableGuard<'a>(MutexGuard<'a, Inner>);

/// What the table knows of one series.
#[derive(Clone, Copy)]
pub struct SeriesView<'a> {
    symbols: &'a Symbols,
    entry: &'a Entry,
}

impl SeriesTable {
    /// Locks the table. A panic of another holder leaves it whole, so a poisoned lock is taken as it is.
    pub fn lock(&self) -> TableGuard<'_> {
        TableGuard(self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// How many series are in use.
    pub fn len(&self) -> usize {
        self.lock().0.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl TableGuard<'_> {
    /// Finds or adds the series, and counts one more user of it. What the table already knows of the family
    /// (type, help, unit) stays as it was first given.
    pub fn acquire(&mut self, spec: &SeriesSpec<'_>) -> SeriesId {
        let inner = &mut *self.0;
        let mut labels: Vec<(&str, &str)> = spec.labels.to_vec();
        labels.sort_unstable();
        let mut interned = Vec::with_capacity(labels.len() * 2);
        for (name, value) in &labels {
            interned.push(inner.symbols.acquire(name));
            interned.push(inner.symbols.acquire(value));
        }
        let name = inner.symbols.acquire(spec.name);
        let hash = hash_key(&inner.hasher, name, &interned);
        let found = inner
            .index
            .find(hash, |&n| {
                let entry = &inner.entries[n as usize];
                entry.name == name && *entry.labels == *interned
            })
            .copied();
        if let Some(number) = found {
            inner.entries[number as usize].users += 1;
            inner.symbols.release(name);
            for symbol in interned {
                inner.symbols.release(symbol);
            }
            return SeriesId(number);
        }
        let entry = Entry {
            name,
            family: inner.symbols.acquire(spec.family),
            help: inner.symbols.acquire(spec.help),
            unit: inner.symbols.acquire(spec.unit),
            kind: spec.kind,
            users: 1,
            labels: interned.into(),
        };
        inner.insert(hash, entry)
    }

    /// Counts one more user of a series that is in use.
    pub fn retain(&mut self, id: SeriesId) {
        self.0.entries[id.0 as usize].users += 1;
    }

    /// Counts one user less; the last one frees the series and its strings.
    pub fn release(&mut self, id: SeriesId) {
        let inner = &mut *self.0;
        let entry = &mut inner.entries[id.0 as usize];
        entry.users -= 1;
        if entry.users > 0 {
            return;
        }
        let hash = hash_key(&inner.hasher, entry.name, &entry.labels);
        if let Ok(found) = inner.index.find_entry(hash, |&n| n == id.0) {
            found.remove();
        }
        let labels = std::mem::take(&mut entry.labels);
        for symbol in [entry.name, entry.family, entry.help, entry.unit].into_iter().chain(labels) {
            inner.symbols.release(symbol);
        }
        inner.free.push(id.0);
    }

    /// The series `id`, which must be in use.
    pub fn view(&self, id: SeriesId) -> SeriesView<'_> {
        SeriesView { symbols: &self.0.symbols, entry: &self.0.entries[id.0 as usize] }
    }
}

impl Inner {
    fn insert(&mut self, hash: u64, entry: Entry) -> SeriesId {
        let number = if let Some(number) = self.free.pop() {
            self.entries[number as usize] = entry;
            number
        } else {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 series fit in memory")
        };
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.index.insert_unique(hash, number, |&n| {
            let entry = &entries[n as usize];
            hash_key(hasher, entry.name, &entry.labels)
        });
        SeriesId(number)
    }
}

fn hash_key(hasher: &RandomState, name: Symbol, labels: &[Symbol]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write_u32(name.0);
    for symbol in labels {
        state.write_u32(symbol.0);
    }
    state.finish()
}

impl<'a> SeriesView<'a> {
    /// The name of the sample.
    pub fn name(&self) -> &'a str {
        self.symbols.text(self.entry.name)
    }

    /// The name of the family: that of the sample without `_bucket`, `_sum`, `_count`.
    pub fn family(&self) -> &'a str {
        self.symbols.text(self.entry.family)
    }

    pub fn kind(&self) -> Kind {
        self.entry.kind
    }

    pub fn help(&self) -> &'a str {
        self.symbols.text(self.entry.help)
    }

    pub fn unit(&self) -> &'a str {
        self.symbols.text(self.entry.unit)
    }

    /// Label names and values sorted by name, without `__name__`. Values may be empty.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + use<'a> {
        let symbols = self.symbols;
        self.entry.labels.chunks_exact(2).map(move |pair| (symbols.text(pair[0]), symbols.text(pair[1])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec<'a>(name: &'a str, labels: &'a [(&'a str, &'a str)]) -> SeriesSpec<'a> {
        SeriesSpec { name, family: name, kind: Kind::Gauge, help: "Help.", unit: "", labels }
    }

    #[test]
    fn equal_label_sets_are_one_series_whatever_their_order() {
        let table = SeriesTable::default();
        let mut guard = table.lock();
        let a = guard.acquire(&spec("x", &[("b", "2"), ("a", "1")]));
        let b = guard.acquire(&spec("x", &[("a", "1"), ("b", "2")]));
        let c = guard.acquire(&spec("x", &[("a", "1"), ("b", "3")]));
        assert_eq!(a, b);
        assert_ne!(a, c);
        assert_eq!(guard.view(a).labels().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
    }

    #[test]
    fn released_series_leave_nothing_behind() {
        let table = SeriesTable::default();
        for round in 0..3 {
            let value = format!("pod-{round}");
            let mut guard = table.lock();
            let ids: Vec<_> = (0..10)
                .map(|n| guard.acquire(&spec("x", &[("pod", &value), ("n", &n.to_string())])))
                .collect();
            for id in ids {
                guard.release(id);
            }
            assert_eq!(guard.0.symbols.len(), 0);
            assert!(guard.0.entries.len() <= 10);
        }
        assert!(table.is_empty());
    }
}
