//! Groups of targets as files and HTTP endpoints write them: a list of `targets` and `labels`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::sources::scrape::target::TargetGroup;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listed {
    targets: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
}

/// The groups of one file or answer; `origin` names it, `meta` goes along with each group.
///
/// # Errors
/// A label that is none.
pub(super) fn groups(
    listed: Vec<Listed>,
    origin: &str,
    meta: (&str, &str),
) -> Result<Vec<TargetGroup>, String> {
    let group = |(number, listed): (usize, Listed)| {
        let mut labels: Vec<(String, String)> = listed.labels.unwrap_or_default().into_iter().collect();
        if labels.iter().any(|(name, _)| name.is_empty()) {
            return Err(format!("group {number}: \"\" is not a valid label name"));
        }
        labels.push((meta.0.to_owned(), meta.1.to_owned()));
        let targets = listed.targets.unwrap_or_default();
        Ok(TargetGroup {
            source: format!("{origin}:{number}"),
            targets: targets.into_iter().map(|target| vec![("__address__".to_owned(), target)]).collect(),
            labels,
            http: None,
        })
    };
    listed.into_iter().enumerate().map(group).collect()
}

/// A label name made of any text: what is no letter, digit or underscore becomes an underscore.
pub(super) fn label_name(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}
