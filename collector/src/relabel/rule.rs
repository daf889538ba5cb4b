//! A rule as typed, and what it comes to: the checks are those of Prometheus 3.

use serde::Deserialize;

use super::pattern::{Pattern, Template};

const DEFAULT_SEPARATOR: &str = ";";
const DEFAULT_REGEX: &str = "(.*)";
const DEFAULT_REPLACEMENT: &str = "$1";

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

const ACTIONS: [(&str, Action); 11] = [
    ("replace", Action::Replace),
    ("keep", Action::Keep),
    ("drop", Action::Drop),
    ("keepequal", Action::KeepEqual),
    ("dropequal", Action::DropEqual),
    ("hashmod", Action::HashMod),
    ("labelmap", Action::LabelMap),
    ("labeldrop", Action::LabelDrop),
    ("labelkeep", Action::LabelKeep),
    ("lowercase", Action::Lowercase),
    ("uppercase", Action::Uppercase),
];

/// A rule as it is typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    pub source_labels: Option<Vec<String>>,
    pub separator: Option<String>,
    pub regex: Option<String>,
    pub modulus: Option<u64>,
    pub target_label: Option<String>,
    pub replacement: Option<String>,
    pub action: Option<String>,
}

/// What is wrong with a rule: the key, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub key: &'static str,
    pub why: String,
}

/// One rule, checked and compiled.
#[derive(Clone, Debug)]
pub struct Rule {
    pub action: Action,
    pub source_labels: Vec<String>,
    pub separator: String,
    pub regex: Pattern,
    pub target_label: Template,
    pub replacement: Template,
    /// Not 0 where it is used.
    pub modulus: u64,
    /// Names outside `[a-zA-Z_][a-zA-Z0-9_]*` are not written.
    pub legacy_names: bool,
    spec: RuleSpec,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec && self.legacy_names == other.legacy_names
    }
}

impl Rule {
    /// Checks and compiles. `legacy_names` is the old validation scheme of names.
    ///
    /// # Errors
    /// Which key is wrong, and why.
    pub fn new(spec: RuleSpec, legacy_names: bool) -> Result<Self, Fault> {
        let fault = |key: &'static str, why: String| Fault { key, why };
        let action = spec.action.as_deref().unwrap_or("replace").to_lowercase();
        let Some(&(_, action)) = ACTIONS.iter().find(|(name, _)| *name == action) else {
            let known = ACTIONS.map(|(name, _)| name).join(", ");
            let typed = spec.action.as_deref().unwrap_or_default();
            return Err(fault("action", format!("unknown relabel action {typed:?}: it is one of {known}")));
        };
        let regex = Pattern::new(spec.regex.as_deref().unwrap_or(DEFAULT_REGEX))
            .map_err(|why| fault("regex", why))?;
        check(&spec, action, legacy_names)?;
        let target = spec.target_label.as_deref().unwrap_or_default();
        Ok(Rule {
            action,
            source_labels: spec.source_labels.clone().unwrap_or_default(),
            separator: spec.separator.clone().unwrap_or_else(|| DEFAULT_SEPARATOR.to_owned()),
            target_label: match action {
                Action::Replace => Template::new(target, &regex),
                _ => Template::literal(target),
            },
            replacement: Template::new(spec.replacement.as_deref().unwrap_or(DEFAULT_REPLACEMENT), &regex),
            regex,
            modulus: spec.modulus.unwrap_or(0),
            legacy_names,
            spec,
        })
    }

    /// The rule as it was typed, for people.
    pub fn spec(&self) -> &RuleSpec {
        &self.spec
    }
}

fn check(spec: &RuleSpec, action: Action, legacy: bool) -> Result<(), Fault> {
    use Action::{
        DropEqual, HashMod, KeepEqual, LabelDrop, LabelKeep, LabelMap, Lowercase, Replace, Uppercase,
    };
    let fault = |key: &'static str, why: String| Err(Fault { key, why });
    let name = ACTIONS.iter().find(|(_, known)| *known == action).map_or("", |(name, _)| name);
    let is_name = |text: &str| if legacy { is_legacy_name(text) } else { is_label_name(text) };
    if let Some(bad) = spec.source_labels.iter().flatten().find(|label| !is_name(label)) {
        return fault("source_labels", format!("{bad:?} is not a valid label name"));
    }
    if action == HashMod && spec.modulus.unwrap_or(0) == 0 {
        return fault("modulus", "hashmod needs one above 0".to_owned());
    }
    let target = spec.target_label.as_deref().unwrap_or_default();
    let writes = matches!(action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual);
    if writes && target.is_empty() {
        return fault("target_label", format!("the action {name} needs one"));
    }
    let is_template = action == Replace && target.contains('$');
    if writes && !if is_template { is_name_template(target, legacy) } else { is_name(target) } {
        return fault("target_label", format!("{target:?} can't be a label name for the action {name}"));
    }
    let replacement = spec.replacement.as_deref().unwrap_or(DEFAULT_REPLACEMENT);
    if action == LabelMap && !is_name_template(replacement, legacy) {
        return fault("replacement", format!("{replacement:?} can't be a label name for the action {name}"));
    }
    let is_default = |value: &Option<String>, default: &str| value.as_deref().unwrap_or(default) == default;
    let given = [
        ("source_labels", spec.source_labels.is_some()),
        ("target_label", !target.is_empty()),
        ("modulus", spec.modulus.unwrap_or(0) != 0),
        ("separator", !is_default(&spec.separator, DEFAULT_SEPARATOR)),
        ("regex", !is_default(&spec.regex, DEFAULT_REGEX)),
        ("replacement", replacement != DEFAULT_REPLACEMENT),
    ];
    let allowed: &[&str] = match action {
        KeepEqual | DropEqual => &["source_labels", "target_label"],
        LabelDrop | LabelKeep => &["regex"],
        Lowercase | Uppercase => &["source_labels", "target_label", "modulus", "separator", "regex"],
        _ => return Ok(()),
    };
    match given.iter().find(|(key, given)| *given && !allowed.contains(key)) {
        Some((key, _)) => fault(
            key,
            format!(
                "has no place beside the action {name}: remove it (what counts is {})",
                allowed.join(", ")
            ),
        ),
        None => Ok(()),
    }
}

/// A name that Prometheus 3 takes: any text but none at all.
pub fn is_label_name(name: &str) -> bool {
    !name.is_empty()
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`
pub fn is_legacy_name(name: &str) -> bool {
    let is_word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    !name.is_empty() && name.bytes().all(is_word) && !name.as_bytes()[0].is_ascii_digit()
}

/// A name in which `$1`, `${1}` and `${name}` stand for parts of what the regex matched.
fn is_name_template(text: &str, legacy: bool) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (mut rest, mut first) = (text, true);
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c == '$' {
            let name = match rest.strip_prefix('{') {
                Some(braced) => {
                    let Some((name, after)) = braced.split_once('}') else { return false };
                    rest = after;
                    name
                }
                None => {
                    let end =
                        rest.find(|c: char| if legacy { !is_word(c) } else { matches!(c, '$' | '{' | '}') });
                    let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
                    rest = after;
                    name
                }
            };
            let valid = if legacy { name.chars().all(is_word) } else { !name.contains(['$', '{', '}']) };
            if name.is_empty() || !valid {
                return false;
            }
        } else if legacy {
            if !is_word(c) || (first && c.is_ascii_digit()) {
                return false;
            }
        } else if matches!(c, '{' | '}') {
            return false;
        }
        first = false;
    }
    !first
}
