//! Interned strings with a count of their users: a label name or value is stored once.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

/// A string of a [`Symbols`] table. `Symbol(0)` is always the empty string.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Symbol(pub u32);

struct Entry {
    text: Box<str>,
    users: u32,
}

/// The table of strings. An entry whose last user releases it is freed, and its number used again.
pub struct Symbols {
    entries: Vec<Entry>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: RandomState,
}

impl Default for Symbols {
    fn default() -> Self {
        let empty = Entry { text: "".into(), users: 1 };
        Symbols {
            entries: vec![empty],
            free: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::new(),
        }
    }
}

impl Symbols {
    /// Finds or adds `text`, and counts one more user of it.
    pub fn acquire(&mut self, text: &str) -> Symbol {
        if text.is_empty() {
            return Symbol(0);
        }
        let hash = self.hasher.hash_one(text);
        if let Some(&number) = self.index.find(hash, |&n| &*self.entries[n as usize].text == text) {
            self.entries[number as usize].users += 1;
            return Symbol(number);
        }
        let entry = Entry { text: text.into(), users: 1 };
        let number = if let Some(number) = self.free.pop() {
            self.entries[number as usize] = entry;
            number
        } else {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 label strings fit in memory")
        };
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.index.insert_unique(hash, number, |&n| hasher.hash_one(&*entries[n as usize].text));
        Symbol(number)
    }

    /// Counts one user less of `symbol`; the last one frees it.
    pub fn release(&mut self, symbol: Symbol) {
        if symbol.0 == 0 {
            return;
        }
        let entry = &mut self.entries[symbol.0 as usize];
        entry.users -= 1;
        if entry.users > 0 {
            return;
        }
        let text = std::mem::take(&mut entry.text);
        let hash = self.hasher.hash_one(&*text);
        if let Ok(found) = self.index.find_entry(hash, |&n| n == symbol.0) {
            found.remove();
        }
        self.free.push(symbol.0);
    }

    /// The text of `symbol`, which must be in use.
    pub fn text(&self, symbol: Symbol) -> &str {
        &self.entries[symbol.0 as usize].text
    }

    /// How many strings are in use, the empty one not counted.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_stored_once_and_freed_with_its_last_user() {
        let mut symbols = Symbols::default();
        let (a, b) = (symbols.acquire("cpu"), symbols.acquire("mode"));
        assert_eq!(symbols.acquire("cpu"), a);
        assert_ne!(a, b);
        symbols.release(a);
        assert_eq!(symbols.text(a), "cpu");
        symbols.release(a);
        assert_eq!(symbols.len(), 1);
        assert_eq!(symbols.acquire("device"), a, "the freed number is used again");
        assert_eq!(symbols.acquire(""), Symbol(0));
    }
}
