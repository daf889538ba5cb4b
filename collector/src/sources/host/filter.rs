//! Include and exclude patterns: decided once for each name, then remembered.

use hashbrown::HashMap;
use regex::Regex;

/// Names whose decision is remembered; above it the map starts anew.
const REMEMBERED: usize = 16_384;

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

    /// Whether the filters leave this name out.
    pub fn ignores(&mut self, name: &str) -> bool {
        if let Some(&decided) = self.decided.get(name) {
            return decided;
        }
        let excluded = self.exclude.as_ref().is_some_and(|pattern| pattern.is_match(name));
        let not_included = self.include.as_ref().is_some_and(|pattern| !pattern.is_match(name));
        if self.decided.len() >= REMEMBERED {
            self.decided.clear();
        }
        self.decided.insert(name.into(), excluded || not_included);
        excluded || not_included
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
