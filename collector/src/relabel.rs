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
