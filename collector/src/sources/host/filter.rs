//! Include and exclude patterns: decided once for each name, then remembered.

use hashbrown::HashMap;
use regex::Regex;

use super::FlagValues;

/// Names whose decision is remembered; above it the map starts anew.
const REMEMBERED: usize = 16_384;
/// A longer name is decided anew each time: what is remembered of names must have an end in bytes, too.
const LONGEST_REMEMBERED: usize = 512;

/// A pair of unanchored patterns over device names and the like, as node_exporter has them.
#[derive(Debug, Default)]
pub struct Filter {
    include: Option<Regex>,
    exclude: Option<Regex>,
    decided: HashMap<Box<str>, bool>,
}

impl Filter {
    /// An empty pattern stands for none.
    ///
    /// # Errors
    /// The pattern and what is wrong with it.
    pub fn new(include: &str, exclude: &str) -> Result<Self, String> {
        let compile = |pattern: &str| match pattern {
            "" => Ok(None),
            _ => Regex::new(pattern).map(Some).map_err(|error| format!("bad pattern {pattern:?}: {error}")),
        };
        Ok(Filter { include: compile(include)?, exclude: compile(exclude)?, decided: HashMap::new() })
    }

    /// The patterns of two flags, of which one at most may be given. Giving `include` puts the default of
    /// `exclude` out of force. Each flag comes with its old name, or "".
    ///
    /// # Errors
    /// As [`Filter::new`], and when flags exclude each other.
    pub fn from_flags(
        flags: &FlagValues,
        include: (&str, &str),
        exclude: (&str, &str),
    ) -> Result<Self, String> {
        let included = flags.text_or_alias(include.0, include.1)?;
        let excluded = flags.text_or_alias(exclude.0, exclude.1)?;
        if included.is_empty() {
            return Filter::new("", excluded);
        }
        let exclude_given = flags.is_given(exclude.0) || flags.is_given(exclude.1);
        if exclude_given && !excluded.is_empty() {
            return Err(format!("--{} and --{} are mutually exclusive", exclude.0, include.0));
        }
        Filter::new(included, "")
    }

    /// Whether the filters leave this name out.
    pub fn ignores(&mut self, name: &str) -> bool {
        if self.include.is_none() && self.exclude.is_none() {
            return false;
        }
        if let Some(&decided) = self.decided.get(name) {
            return decided;
        }
        let excluded = self.exclude.as_ref().is_some_and(|pattern| pattern.is_match(name));
        let not_included = self.include.as_ref().is_some_and(|pattern| !pattern.is_match(name));
        if self.decided.len() >= REMEMBERED {
            self.decided.clear();
        }
        if name.len() <= LONGEST_REMEMBERED {
            self.decided.insert(name.into(), excluded || not_included);
        }
        excluded || not_included
    }
}

/// A pattern over names that come in the same order tick after tick: remembered by position, so that a known
/// name costs one compare.
#[derive(Debug)]
pub struct OrderedFilter {
    pattern: Regex,
    names: Vec<u8>,
    /// Where each name ends in `names`, and whether the pattern matches it.
    slots: Vec<(usize, bool)>,
    position: usize,
}

impl OrderedFilter {
    /// # Errors
    /// As [`Filter::new`].
    pub fn new(pattern: &str) -> Result<Self, String> {
        let pattern = Regex::new(pattern).map_err(|error| format!("bad pattern {pattern:?}: {error}"))?;
        Ok(OrderedFilter { pattern, names: Vec::new(), slots: Vec::new(), position: 0 })
    }

    /// Starts a tick.
    pub fn begin(&mut self) {
        self.position = 0;
    }

    /// Whether the pattern matches the next name, which is given in pieces.
    pub fn passes(&mut self, name: &[&[u8]]) -> bool {
        let position = self.position;
        let start = position.checked_sub(1).map_or(0, |before| self.slots[before].0);
        if let Some(&(end, passes)) = self.slots.get(position) {
            if is_joined(&self.names[start..end], name) {
                self.position += 1;
                return passes;
            }
            self.slots.truncate(position);
            self.names.truncate(start);
        }
        for piece in name {
            self.names.extend_from_slice(piece);
        }
        let passes = self.pattern.is_match(&String::from_utf8_lossy(&self.names[start..]));
        self.slots.push((self.names.len(), passes));
        self.position += 1;
        if self.position > REMEMBERED {
            // A file without end in sight: what is beyond is decided anew each time.
            self.slots.pop();
            self.names.truncate(start);
            self.position = REMEMBERED;
        }
        passes
    }
}

fn is_joined(mut name: &[u8], pieces: &[&[u8]]) -> bool {
    for piece in pieces {
        let Some(rest) = name.strip_prefix(*piece) else { return false };
        name = rest;
    }
    name.is_empty()
}

#[cfg(test)]
mod tests {
    use super::super::{Flag, FlagDefault};
    use super::*;

    #[test]
    fn what_is_remembered_has_an_end() {
        let mut none = Filter::default();
        assert!(!none.ignores("eth0") && none.decided.is_empty(), "nothing to decide");
        let mut filter = Filter::new("", "^veth").unwrap();
        for n in 0..REMEMBERED + 10 {
            assert!(filter.ignores(&format!("veth{n}")));
        }
        assert!(filter.decided.len() <= REMEMBERED);
        let long = "x".repeat(LONGEST_REMEMBERED + 1);
        assert!(!filter.ignores(&long) && !filter.decided.contains_key(&*long));
    }

    #[test]
    fn include_and_exclude_are_unanchored() {
        let mut filter = Filter::new("eth", "9$").unwrap();
        for (name, ignored) in [("eth0", false), ("veth1", false), ("eth9", true), ("lo", true)] {
            assert_eq!(filter.ignores(name), ignored, "{name}");
            assert_eq!(filter.ignores(name), ignored, "{name}, remembered");
        }
        assert!(!Filter::default().ignores("anything"));
        assert!(Filter::new("(", "").unwrap_err().contains("bad pattern \"(\""));
    }

    #[test]
    fn names_are_remembered_by_position() {
        let mut filter = OrderedFilter::new("^(ab|xy)$").unwrap();
        let orders: [&[&str]; 4] =
            [&["ab", "cd", "xy"], &["ab", "cd", "xy"], &["cd", "ab", "xy", "q"], &["xy", "ab"]];
        for order in orders {
            filter.begin();
            for name in order {
                let (a, b) = name.as_bytes().split_at(1);
                assert_eq!(filter.passes(&[a, b]), ["ab", "xy"].contains(name), "{name} in {order:?}");
            }
        }
        filter.begin();
        for n in 0..REMEMBERED + 10 {
            assert!(!filter.passes(&[n.to_string().as_bytes()]));
        }
        assert!(filter.slots.len() <= REMEMBERED);
    }

    #[test]
    fn flags_exclude_each_other() {
        static FLAGS: [Flag; 3] = [
            Flag::new("include", FlagDefault::Text(""), ""),
            Flag::new("exclude", FlagDefault::Text("^lo$"), ""),
            Flag::alias("old", "exclude"),
        ];
        let make = |given: &[(&str, &str)]| {
            let mut values = FlagValues::default();
            FLAGS.iter().for_each(|flag| values.declare(flag));
            given.iter().for_each(|(name, value)| values.give(name, *value));
            Filter::from_flags(&values, ("include", ""), ("exclude", "old"))
        };
        assert!(make(&[]).unwrap().ignores("lo"));
        assert!(!make(&[("include", "lo")]).unwrap().ignores("lo"), "the default gives way");
        assert!(!make(&[("exclude", "")]).unwrap().ignores("lo"));
        assert!(make(&[("old", "eth")]).unwrap().ignores("eth0"));
        let both = make(&[("include", "lo"), ("exclude", "eth")]).unwrap_err();
        assert!(both.contains("--exclude and --include are mutually exclusive"), "{both}");
        let twice = make(&[("old", "lo"), ("exclude", "eth")]).unwrap_err();
        assert!(twice.contains("--old and --exclude are mutually exclusive"), "{twice}");
    }
}
