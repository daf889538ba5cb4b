//! Relabelling: the rules of `relabel_configs`, `metric_relabel_configs` and `write_relabel_configs`, once for
//! every place that has them (Prometheus configuration, "relabel_config").

use std::borrow::Cow;

use regex::Regex;

/// Label names and values, sorted by name.
pub type Labels<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// What a rule does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

/// One rule, checked and compiled.
#[derive(Clone, Debug)]
pub struct Rule {
    pub action: Action,
    pub source_labels: Vec<String>,
    pub separator: String,
    /// Anchored at both ends.
    pub regex: Regex,
    pub target_label: String,
    pub replacement: String,
    pub modulus: u64,
}

/// Applies the rules in turn; `Err` is the number of the rule that dropped what carried the labels.
///
/// # Errors
/// The number of the rule, counted from 0.
pub fn apply(rules: &[Rule], labels: &mut Labels<'_>) -> Result<(), usize> {
    for (number, rule) in rules.iter().enumerate() {
        let value = |labels: &Labels<'_>, name: &str| {
            labels.iter().find(|label| label.0 == name).map_or(String::new(), |label| label.1.to_string())
        };
        let joined: Vec<String> = rule.source_labels.iter().map(|name| value(labels, name)).collect();
        let joined = joined.join(&rule.separator);
        let matches = rule.regex.is_match(&joined);
        match rule.action {
            Action::Keep if !matches => return Err(number),
            Action::Drop if matches => return Err(number),
            Action::LabelDrop => labels.retain(|(name, _)| !rule.regex.is_match(name)),
            Action::Replace if matches => {
                let new = rule.regex.replace(&joined, &rule.replacement).into_owned();
                labels.retain(|(name, _)| *name != rule.target_label);
                labels.push((rule.target_label.clone().into(), new.into()));
            }
            _ => {}
        }
    }
    labels.retain(|(_, value)| !value.is_empty());
    labels.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(())
}
