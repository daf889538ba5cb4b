//! Relabelling: the rules of `relabel_configs`, `metric_relabel_configs` and `write_relabel_configs`, once for
//! every place that has them (Prometheus configuration, "relabel_config").
//!
//! A label set keeps, while rules run, the order in which Prometheus' own builder walks it (what was there,
//! sorted; then what rules wrote, in the order of writing): `labelmap` may give one name twice, and the last one
//! wins. Cost: what no rule touches is neither copied nor allocated. A name that a rule makes empty is refused
//! there by leaving the label out.

mod fold;
mod pattern;
mod rule;

use std::borrow::Cow;

use md5::{Digest as _, Md5};

pub use pattern::Pattern;
pub use rule::{Action, Fault, Rule, RuleSpec, is_label_name, is_legacy_name};

/// Label names and values, sorted by name.
pub type Labels<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Runs the rules over `labels`, which are sorted by name; they are sorted and without empty values again
/// afterwards.
///
/// # Errors
/// The number of the rule that dropped the label set; what `labels` hold is then of no use.
pub fn apply(rules: &[Rule], labels: &mut Labels<'_>) -> Result<(), usize> {
    run(rules, labels, |_, _, _| {})
}

/// As [`apply`], and tells `step` after each rule its number, the labels as they are then (sorted), and whether
/// the set was kept.
///
/// # Errors
/// As [`apply`].
pub fn apply_recording(
    rules: &[Rule],
    labels: &mut Labels<'_>,
    mut step: impl FnMut(usize, &Labels<'_>, bool),
) -> Result<(), usize> {
    run(rules, labels, |number, set, kept| {
        let mut shown: Labels<'_> = set.labels.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
        shown.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        step(number, &shown, kept);
    })
}

fn run<'a>(
    rules: &[Rule],
    labels: &mut Labels<'a>,
    mut step: impl FnMut(usize, &Set<'_, 'a>, bool),
) -> Result<(), usize> {
    labels.retain(|(_, value)| !value.is_empty());
    let mut set = Set { base: labels.len(), labels, changed: false };
    let mut joined = String::new();
    for (number, rule) in rules.iter().enumerate() {
        let kept = set.run_rule(rule, &mut joined);
        step(number, &set, kept);
        if !kept {
            return Err(number);
        }
    }
    if set.changed {
        labels.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    }
    Ok(())
}

/// A label set under way: `base` labels that no rule has written, then those that rules wrote.
struct Set<'s, 'a> {
    labels: &'s mut Labels<'a>,
    base: usize,
    changed: bool,
}

impl<'a> Set<'_, 'a> {
    fn find(&self, name: &str) -> Option<usize> {
        self.labels.iter().position(|(known, _)| known == name)
    }

    /// The value, empty where the label is missing.
    fn get(&self, name: &str) -> &str {
        self.find(name).map_or("", |at| &self.labels[at].1)
    }

    fn remove(&mut self, name: &str) {
        if let Some(at) = self.find(name) {
            self.labels.remove(at);
            self.base -= usize::from(at < self.base);
        }
    }

    fn set(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) {
        if value.is_empty() || name.is_empty() {
            return self.remove(&name);
        }
        self.changed = true;
        match self.find(&name) {
            Some(at) if at >= self.base => self.labels[at].1 = value,
            Some(at) => {
                let (name, _) = self.labels.remove(at);
                self.base -= 1;
                self.labels.push((name, value));
            }
            None => self.labels.push((name, value)),
        }
    }

    fn set_text(&mut self, name: &str, value: String) {
        self.set(Cow::Owned(name.to_owned()), Cow::Owned(value));
    }

    fn retain_names(&mut self, mut keep: impl FnMut(&str) -> bool) {
        let (mut at, mut base) = (0, self.base);
        let before = self.base;
        self.labels.retain(|(name, _)| {
            let kept = keep(name);
            base -= usize::from(!kept && at < before);
            at += 1;
            kept
        });
        self.base = base;
    }

    /// Values of the source labels; `joined` is used where they are more than one.
    fn source<'t>(&'t self, rule: &Rule, joined: &'t mut String) -> &'t str {
        if let [name] = &rule.source_labels[..] {
            return self.get(name);
        }
        joined.clear();
        for (number, name) in rule.source_labels.iter().enumerate() {
            if number > 0 {
                joined.push_str(&rule.separator);
            }
            joined.push_str(self.get(name));
        }
        joined
    }

    /// `false` where the rule drops the set.
    fn run_rule(&mut self, rule: &Rule, joined: &mut String) -> bool {
        match rule.action {
            Action::LabelDrop => self.retain_names(|name| !rule.regex.is_match(name)),
            Action::LabelKeep => self.retain_names(|name| rule.regex.is_match(name)),
            Action::LabelMap => self.map_names(rule),
            _ => return self.run_on_value(rule, joined),
        }
        true
    }

    fn run_on_value(&mut self, rule: &Rule, joined: &mut String) -> bool {
        let value = self.source(rule, joined);
        match rule.action {
            Action::Keep => return rule.regex.is_match(value),
            Action::Drop => return !rule.regex.is_match(value),
            Action::KeepEqual => return self.get(&rule.target_label) == value,
            Action::DropEqual => return self.get(&rule.target_label) != value,
            Action::Replace => {
                if let Some((name, value)) = replaced(rule, value) {
                    self.set(Cow::Owned(name), Cow::Owned(value));
                }
            }
            Action::HashMod => {
                let text = hash_modulo(value, rule.modulus).to_string();
                self.set_text(&rule.target_label, text);
            }
            Action::Lowercase => {
                let text = fold::lowercase(value);
                self.set_text(&rule.target_label, text);
            }
            Action::Uppercase => {
                let text = fold::uppercase(value);
                self.set_text(&rule.target_label, text);
            }
            Action::LabelMap | Action::LabelDrop | Action::LabelKeep => {}
        }
        true
    }

    /// Names are looked at as they were before the rule, so that none is mapped twice.
    fn map_names(&mut self, rule: &Rule) {
        let mut mapped = Vec::new();
        for (name, value) in self.labels.iter() {
            let mut to = String::new();
            if rule.regex.expand(name, &[&rule.replacement], &mut [&mut to]) {
                mapped.push((to, value.clone()));
            }
        }
        for (name, value) in mapped {
            self.set(Cow::Owned(name), value);
        }
    }
}

/// The label that `replace` writes, if the regex matches and the name is one.
fn replaced(rule: &Rule, value: &str) -> Option<(String, String)> {
    let (mut name, mut text) = (String::new(), String::new());
    if !rule.regex.expand(value, &[&rule.target_label, &rule.replacement], &mut [&mut name, &mut text]) {
        return None;
    }
    let valid = if rule.legacy_names { is_legacy_name(&name) } else { is_label_name(&name) };
    valid.then_some((name, text))
}

/// The last eight bytes of the MD5, big-endian, modulo `modulus` (which is not 0).
pub fn hash_modulo(text: &str, modulus: u64) -> u64 {
    let sum = Md5::digest(text.as_bytes());
    let mut low = [0; 8];
    low.copy_from_slice(&sum[8..]);
    u64::from_be_bytes(low) % modulus
}

#[cfg(test)]
#[path = "relabel_tests.rs"]
mod tests;
