//! A target: what discovery found, and what relabelling made of it, by the rules of Prometheus 3.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;

use super::shard::Shard;
use crate::config::{HttpSettings, ScrapeConfig, parse_duration};
use crate::relabel::{self, Labels};

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
    /// How these are asked, where it is not as their job says.
    pub http: Option<Arc<HttpSettings>>,
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
    /// How it is asked, where it is not as its job says.
    pub http: Option<Arc<HttpSettings>>,
    /// Of labels and URL: names the target, and says where in the interval its scrape falls. The same in every
    /// process and on every host.
    pub hash: u64,
}

/// A target that relabelling dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedTarget {
    pub discovered: Vec<(String, String)>,
    /// The rule that dropped it, counted from 0.
    pub rule: usize,
}

/// What the groups of a job come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets {
    pub active: Vec<Target>,
    /// As many as are kept to be shown.
    pub dropped: Vec<DroppedTarget>,
    pub dropped_total: usize,
    /// Targets of this job that other shards scrape.
    pub elsewhere: usize,
    /// Why targets can be neither scraped nor dropped, with their address.
    pub faults: Vec<String>,
}

/// Runs the rules of a job over its groups.
pub fn build<'g>(
    config: &ScrapeConfig,
    shard: Option<Shard>,
    groups: impl IntoIterator<Item = &'g TargetGroup>,
) -> Targets {
    let mut found = Targets::default();
    let mut seen = HashSet::new();
    let defaults = Defaults::new(config);
    for group in groups {
        for own in &group.targets {
            let discovered = defaults.discovered(own, &group.labels);
            match make(config, discovered, group.http.clone()) {
                Made::Dropped { discovered, rule } => {
                    found.dropped_total += 1;
                    if config.keep_dropped_targets.is_none_or(|most| found.dropped.len() < most) {
                        found.dropped.push(DroppedTarget { discovered, rule });
                    }
                }
                Made::Fault(why) => found.faults.push(why),
                Made::Active(target) if !seen.insert(target.hash) => {}
                Made::Active(target) => {
                    if shard.is_none_or(|shard| shard.takes(hash_labels(&target.labels))) {
                        found.active.push(*target);
                    } else {
                        found.elsewhere += 1;
                    }
                }
            }
        }
    }
    found
}

enum Made {
    Active(Box<Target>),
    Dropped { discovered: Vec<(String, String)>, rule: usize },
    Fault(String),
}

/// Labels that every target of a job begins with unless discovery says otherwise.
struct Defaults(Vec<(String, String)>);

impl Defaults {
    fn new(config: &ScrapeConfig) -> Self {
        let mut labels = vec![
            ("job".to_owned(), config.job_name.clone()),
            ("__scrape_interval__".to_owned(), duration_text(config.scrape_interval)),
            ("__scrape_timeout__".to_owned(), duration_text(config.scrape_timeout)),
            ("__metrics_path__".to_owned(), config.metrics_path.clone()),
            ("__scheme__".to_owned(), config.scheme.clone()),
        ];
        let first = |(name, values): &(String, Vec<String>)| {
            values.first().map(|value| (format!("__param_{name}"), value.clone()))
        };
        labels.extend(config.params.iter().filter_map(first));
        Defaults(labels)
    }

    /// Sorted; a target's own label comes before its group's, and that before the job's.
    fn discovered(&self, own: &[(String, String)], group: &[(String, String)]) -> Vec<(String, String)> {
        let mut labels: Vec<(String, String)> =
            own.iter().chain(group).chain(&self.0).filter(|(_, value)| !value.is_empty()).cloned().collect();
        // Stable: the first of a name is the one that counts.
        labels.sort_by(|a, b| a.0.cmp(&b.0));
        labels.dedup_by(|later, first| later.0 == first.0);
        labels
    }
}

fn make(config: &ScrapeConfig, discovered: Vec<(String, String)>, http: Option<Arc<HttpSettings>>) -> Made {
    let mut labels: Labels<'_> = discovered
        .iter()
        .map(|(name, value)| (Cow::from(name.as_str()), Cow::from(value.as_str())))
        .collect();
    if let Err(rule) = relabel::apply(&config.relabel, &mut labels) {
        drop(labels);
        return Made::Dropped { discovered, rule };
    }
    match Parts::of(&labels).and_then(|parts| parts.times().map(|times| (parts, times))) {
        Ok((parts, (interval, timeout))) => {
            let url = parts.url(config, &labels);
            let labels = public_labels(&labels, parts.address);
            let mut hash = Hash::new();
            hash.add_labels(&labels);
            hash.add(&url);
            let hash = hash.finish();
            Made::Active(Box::new(Target { labels, discovered, url, interval, timeout, http, hash }))
        }
        Err(why) => Made::Fault(format!("{}: {why}", get(&labels, "__address__"))),
    }
}

fn get<'l>(labels: &'l Labels<'_>, name: &str) -> &'l str {
    labels.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

/// The labels that say how a target is asked.
struct Parts<'l> {
    address: &'l str,
    scheme: &'l str,
    path: &'l str,
    interval: &'l str,
    timeout: &'l str,
}

impl<'l> Parts<'l> {
    fn of(labels: &'l Labels<'_>) -> Result<Self, String> {
        let parts = Parts {
            address: get(labels, "__address__"),
            scheme: get(labels, "__scheme__"),
            path: get(labels, "__metrics_path__"),
            interval: get(labels, "__scrape_interval__"),
            timeout: get(labels, "__scrape_timeout__"),
        };
        if parts.address.is_empty() {
            return Err("no address".to_owned());
        }
        if parts.address.contains('/') {
            return Err(format!("{:?} is not a valid hostname", parts.address));
        }
        if parts.address.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!("{:?} is not a valid hostname", parts.address));
        }
        if !["http", "https"].contains(&parts.scheme) {
            return Err(format!("__scheme__: {:?} is neither http nor https", parts.scheme));
        }
        Ok(parts)
    }

    fn times(&self) -> Result<(Duration, Duration), String> {
        let read = |name: &str, text: &str| match parse_duration(text) {
            Ok(span) if span.is_zero() => Err(format!("{name}: may not be 0")),
            Ok(span) => Ok(span),
            Err(why) => Err(format!("{name}: {why}")),
        };
        let interval = read("__scrape_interval__", self.interval)?;
        let timeout = read("__scrape_timeout__", self.timeout)?;
        if timeout > interval {
            return Err(format!(
                "__scrape_timeout__ is greater than __scrape_interval__ ({} > {})",
                self.timeout, self.interval
            ));
        }
        Ok((interval, timeout))
    }

    /// Parameters stand in the order of their names; a `__param_` label replaces the first value of its name.
    fn url(&self, config: &ScrapeConfig, labels: &Labels<'_>) -> String {
        let mut params: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, values) in config.params.iter().filter(|(_, values)| !values.is_empty()) {
            params.insert(name, values.iter().map(String::as_str).collect());
        }
        for (name, value) in labels {
            let Some(name) = name.strip_prefix("__param_") else { continue };
            let values = params.entry(name).or_default();
            match values.first_mut() {
                Some(first) => *first = value,
                None => values.push(value),
            }
        }
        let mut url = format!("{}://{}", self.scheme, self.address);
        if !self.path.starts_with('/') {
            url.push('/');
        }
        escape(self.path, b"$&+,/:;=@", "%20", &mut url);
        let mut separator = '?';
        for (name, values) in &params {
            for value in values {
                url.push(separator);
                separator = '&';
                escape(name, b"", "+", &mut url);
                url.push('=');
                escape(value, b"", "+", &mut url);
            }
        }
        url
    }
}

/// As Go's `net/url` escapes: letters, digits, `-_.~` and what is `allowed` stay.
fn escape(text: &str, allowed: &[u8], space: &str, out: &mut String) {
    for c in text.bytes() {
        if c.is_ascii_alphanumeric() || b"-_.~".contains(&c) || allowed.contains(&c) {
            out.push(char::from(c));
        } else if c == b' ' {
            out.push_str(space);
        } else {
            let _ = write!(out, "%{c:02X}");
        }
    }
}

fn public_labels(labels: &Labels<'_>, address: &str) -> Vec<(String, String)> {
    let own = |name: &str| !name.starts_with("__");
    let mut public: Vec<(String, String)> = labels
        .iter()
        .filter(|(name, _)| own(name))
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    if let Err(at) = public.binary_search_by(|(name, _)| name.as_str().cmp("instance")) {
        public.insert(at, ("instance".to_owned(), address.to_owned()));
    }
    public
}

/// As Prometheus writes it: `1m30s`.
fn duration_text(span: Duration) -> String {
    let mut left = span.as_millis();
    let mut text = String::new();
    for (unit, millis) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        let whole = left / millis;
        left %= millis;
        if whole > 0 {
            let _ = write!(text, "{whole}{unit}");
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// FNV-1a over 64 bits, mixed at the end so that every bit of it is as good as another.
struct Hash(u64);

impl Hash {
    fn new() -> Self {
        Hash(0xcbf2_9ce4_8422_2325)
    }

    /// A text, told apart from what follows it.
    fn add(&mut self, text: &str) {
        for byte in text.bytes().chain([0xff]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn add_labels(&mut self, labels: &[(String, String)]) {
        for (name, value) in labels {
            self.add(name);
            self.add(value);
        }
    }

    fn finish(&self) -> u64 {
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Says which shards scrape a target.
fn hash_labels(labels: &[(String, String)]) -> u64 {
    let mut hash = Hash::new();
    hash.add_labels(labels);
    hash.finish()
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
