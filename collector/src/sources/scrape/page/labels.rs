//! What the labels of a series come to: those of its line, merged with its target's, relabelled, and held against
//! the limits.
//!
//! As long as nothing depends on what the target's labels are, they stay with the source, and the series of equal
//! pages are the same in the table. Where something does (a rule reads or writes one of them, or `honor_labels`
//! lets a series win over one), the target goes the *bare* way: its source has no labels, its series all of them.

use std::sync::Arc;

use super::error::{Fault, Flaw, excerpt};
use crate::config::PageRules;
use crate::relabel::{self, Action, Labels, Rule};

const NAME: &str = "__name__";

/// What becomes of a series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Kept,
    Dropped,
    /// It can't be told without the target's labels: the page must be read the bare way.
    Bare,
}

/// Settles the labels of one target's series.
pub(super) struct Labeler {
    rules: Arc<PageRules>,
    /// Sorted, none of them empty.
    target: Vec<(String, String)>,
    bare: bool,
}

impl Labeler {
    pub(super) fn new(rules: Arc<PageRules>, target: &[(String, String)]) -> Self {
        let mut target: Vec<_> = target.iter().filter(|(_, value)| !value.is_empty()).cloned().collect();
        target.sort_unstable();
        let bare = rules.metric_relabel.iter().any(|rule| touches(rule, &target));
        Labeler { rules, target, bare }
    }

    pub(super) fn is_bare(&self) -> bool {
        self.bare
    }

    pub(super) fn go_bare(&mut self) {
        self.bare = true;
    }

    pub(super) fn target(&self) -> &[(String, String)] {
        &self.target
    }

    /// The labels that the source carries.
    pub(super) fn source_labels(&self) -> Vec<(String, String)> {
        if self.bare { Vec::new() } else { self.target.clone() }
    }

    /// Makes of the labels of a line, `__name__` among them, those that the table holds.
    pub(super) fn settle<'a>(&'a self, labels: &mut Labels<'a>) -> Result<Verdict, Flaw> {
        let own = |labels: &Labels<'_>, name: &str| labels.iter().position(|label| label.0 == name);
        for (name, value) in &self.target {
            let conflict = own(labels, name);
            match conflict {
                Some(_) if self.rules.honor_labels && !self.bare => return Ok(Verdict::Bare),
                Some(_) if self.rules.honor_labels => continue,
                Some(at) if !labels[at].1.is_empty() => self.export(labels, at),
                Some(at) => _ = labels.swap_remove(at),
                None => {}
            }
            if self.bare {
                labels.push((name.into(), value.into()));
            }
        }
        labels.retain(|(_, value)| !value.is_empty());
        labels.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        if !self.rules.metric_relabel.is_empty() {
            if relabel::apply(&self.rules.metric_relabel, labels).is_err() {
                return Ok(Verdict::Dropped);
            }
            if !self.bare && self.target.iter().any(|(name, _)| own(labels, name).is_some()) {
                return Ok(Verdict::Bare);
            }
        }
        if own(labels, NAME).is_none() {
            return Ok(Verdict::Dropped);
        }
        self.check_names(labels)?;
        self.check_limits(labels)?;
        Ok(Verdict::Kept)
    }

    /// Refuses what `metric_name_validation_scheme: legacy` does not allow. The target's own names were checked when
    /// it was made.
    fn check_names(&self, labels: &Labels<'_>) -> Result<(), Flaw> {
        let is_allowed = |name: &str, text: &str| match name {
            NAME => is_legacy(text, true),
            _ => is_legacy(name, false),
        };
        match labels.iter().find(|(name, text)| self.rules.legacy_names && !is_allowed(name, text)) {
            Some((name, text)) => {
                let wrong = if name == NAME { text } else { name };
                Err(Flaw::syntax(format!(
                    "{}: invalid metric name or label name, which metric_name_validation_scheme: legacy does not allow",
                    excerpt(wrong.as_bytes())
                )))
            }
            None => Ok(()),
        }
    }

    /// Renames the label at `at`, whose name the target has too.
    fn export(&self, labels: &mut Labels<'_>, at: usize) {
        let mut name = format!("exported_{}", labels[at].0);
        let taken = |name: &str, labels: &Labels<'_>| {
            labels.iter().any(|label| label.0 == name) || self.target.iter().any(|label| label.0 == name)
        };
        while taken(&name, labels) {
            name.insert_str(0, "exported_");
        }
        labels[at].0 = name.into();
    }

    fn check_limits(&self, labels: &Labels<'_>) -> Result<(), Flaw> {
        let rules = &self.rules;
        let (most, name_length, value_length) =
            (rules.label_limit, rules.label_name_length_limit, rules.label_value_length_limit);
        if most == 0 && name_length == 0 && value_length == 0 {
            return Ok(());
        }
        let theirs = if self.bare { &[][..] } else { &self.target };
        let count = labels.len() + theirs.len();
        let metric = labels.iter().find(|label| label.0 == NAME).map_or("", |label| &*label.1);
        let metric: String = metric.chars().take(50).collect();
        let limit =
            |reason: String| Err(Flaw { fault: Fault::LabelLimit, reason: format!("{metric}: {reason}") });
        if most > 0 && count > most {
            return limit(format!("{count} labels, label_limit is {most}"));
        }
        let own = labels.iter().map(|(name, value)| (&**name, &**value));
        for (name, value) in own.chain(theirs.iter().map(|(name, value)| (&**name, &**value))) {
            if name_length > 0 && name.len() > name_length {
                let name: String = name.chars().take(50).collect();
                return limit(format!(
                    "label name {name} is longer than label_name_length_limit, {name_length}"
                ));
            }
            if value_length > 0 && value.len() > value_length {
                return limit(format!(
                    "the value of label {name} has {} bytes, label_value_length_limit is {value_length}",
                    value.len()
                ));
            }
        }
        Ok(())
    }
}

/// Letters, digits, `_`, and for metrics `:`; no digit at the beginning.
fn is_legacy(name: &str, is_metric: bool) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || (is_metric && b == b':');
    !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(allowed)
}

/// Whether what a rule does may depend on the target's labels, or change them.
fn touches(rule: &Rule, target: &[(String, String)]) -> bool {
    let theirs = |name: &str| target.iter().any(|label| label.0 == name);
    let any = |matches: bool| target.iter().any(|label| rule.regex.is_match(&label.0) == matches);
    let written = rule.spec().target_label.as_deref().unwrap_or_default();
    let written = theirs(written) || written.contains('$');
    let read = rule.source_labels.iter().any(|name| theirs(name));
    match rule.action {
        Action::Keep | Action::Drop => read,
        Action::Replace
        | Action::HashMod
        | Action::Lowercase
        | Action::Uppercase
        | Action::KeepEqual
        | Action::DropEqual => read || written,
        // What it writes is looked at when it was written.
        Action::LabelMap => any(true),
        Action::LabelDrop => any(true),
        Action::LabelKeep => any(false),
    }
}
