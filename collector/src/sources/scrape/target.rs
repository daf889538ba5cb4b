//! A target: what discovery found, and what relabelling made of it.

use std::time::Duration;

/// Targets that a provider speaks of as one: a group replaces the last one of the same `source`, and an empty
/// one ends it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TargetGroup {
    /// Unique within a provider.
    pub source: String,
    /// For each target its labels, `__address__` among them.
    pub targets: Vec<Vec<(String, String)>>,
    /// Labels of all of them.
    pub labels: Vec<(String, String)>,
}

/// A target that is scraped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What its series carry, sorted; `job` and `instance` among them, nothing that begins with `__`.
    pub labels: Vec<(String, String)>,
    /// Before relabelling, sorted: for people.
    pub discovered: Vec<(String, String)>,
    /// With the parameters.
    pub url: String,
    pub interval: Duration,
    pub timeout: Duration,
    /// Of labels and URL: names the target, and says where in the interval its scrape falls.
    pub hash: u64,
}

/// A target that relabelling dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedTarget {
    pub discovered: Vec<(String, String)>,
    /// The rule that dropped it, counted from 0.
    pub rule: usize,
}
