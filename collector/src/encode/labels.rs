//! The labels of a series as they leave this host.

use std::borrow::Cow;

use super::remote_write::{Options, Protocol};
use crate::model::{SeriesView, Source};

/// Label names and values, `__name__` among them, sorted by name and none of them empty.
pub type WireLabels<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// May change the labels of a series when it is planned; `false` drops the series. It need not keep them
/// sorted, and a label that it makes empty is gone.
pub type Rewrite = dyn Fn(&mut WireLabels<'_>) -> bool + Send + Sync;

const NAME: &str = "__name__";

/// Fills `labels` with those of a series: its own, then the source's (an own label of such a name becomes
/// `exported_<name>`), then the external ones that are absent, then what the rewrite makes of them.
/// `false` where the series is not to be sent.
pub(super) fn wire_labels<'a>(
    view: SeriesView<'a>,
    source: &'a Source,
    options: &'a Options,
    labels: &mut WireLabels<'a>,
) -> bool {
    labels.clear();
    labels.push((NAME.into(), view.name().into()));
    labels.extend(view.labels().filter(|(_, value)| !value.is_empty()).map(|(n, v)| (n.into(), v.into())));
    let own = labels.len();
    for (name, value) in source.labels.iter().filter(|(_, value)| !value.is_empty()) {
        if let Some(at) = labels[..own].iter().position(|label| label.0 == *name) {
            let mut exported = format!("exported_{name}");
            while labels.iter().any(|label| label.0 == exported)
                || source.labels.iter().any(|label| label.0 == exported)
            {
                exported.insert_str(0, "exported_");
            }
            labels[at].0 = exported.into();
        }
        labels.push((name.into(), value.into()));
    }
    for (name, value) in options.external_labels.iter().filter(|(_, value)| !value.is_empty()) {
        if !labels.iter().any(|label| label.0 == *name) {
            labels.push((name.into(), value.into()));
        }
    }
    labels.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    if let Some(rewrite) = &options.rewrite {
        if !rewrite(labels) {
            return false;
        }
        labels.retain(|(name, value)| !name.is_empty() && !value.is_empty());
        order(labels);
    }
    if options.protocol == Protocol::V1 {
        escape_names(labels);
    }
    labels.iter().any(|(name, _)| name == NAME)
}

/// 1.0 knows but letters, digits and `_` in names, and `:` in those of metrics.
fn escape_names(labels: &mut WireLabels<'_>) {
    let mut escaped = false;
    for (name, value) in labels.iter_mut() {
        let (text, colon) = if name == NAME { (value, true) } else { (name, false) };
        if let Cow::Owned(legacy) = legacy_name(text, colon) {
            *text = legacy.into();
            escaped = true;
        }
    }
    if escaped {
        order(labels);
    }
}

/// Sorts by name; of labels that have come to have one name the first stays.
fn order(labels: &mut WireLabels<'_>) {
    labels.sort_by(|a, b| a.0.cmp(&b.0));
    labels.dedup_by(|later, first| later.0 == first.0);
}

/// A name as 1.0 allows it: what it does not know is written as its number between `_`, in the way that Prometheus
/// calls `values`. No two names become one, but for one that is written so from the start.
pub fn legacy_name(name: &str, colon: bool) -> Cow<'_, str> {
    let is_plain = |at: usize, c: char| {
        c.is_ascii_alphabetic() || c == '_' || colon && c == ':' || at > 0 && c.is_ascii_digit()
    };
    if name.char_indices().all(|(at, c)| is_plain(at, c)) {
        return name.into();
    }
    let mut out = String::from("U__");
    for (at, c) in name.char_indices() {
        match c {
            '_' => out.push_str("__"),
            c if is_plain(at, c) => out.push(c),
            c => out.push_str(&format!("_{:x}_", u32::from(c))),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, SeriesSpec, SeriesTable};

    fn wire(
        own: &[(&str, &str)],
        source: &[(&str, &str)],
        external: &[(&str, &str)],
        rewrite: Option<Box<Rewrite>>,
    ) -> Option<String> {
        let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|&(n, v)| (n.into(), v.into())).collect();
        let table = SeriesTable::default();
        let mut guard = table.lock();
        let id = guard.acquire(&SeriesSpec {
            name: "x",
            family: "x",
            kind: Kind::Gauge,
            help: "",
            unit: "",
            labels: own,
        });
        let source = Source { name: "test".into(), labels: owned(source) };
        let options = Options { external_labels: owned(external), rewrite, ..Options::default() };
        let mut labels = Vec::new();
        let sent = wire_labels(guard.view(id), &source, &options, &mut labels);
        sent.then(|| labels.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_source_wins_and_the_own_label_is_exported() {
        let source = [("job", "node"), ("instance", "a:1")];
        assert_eq!(
            wire(&[("job", "own"), ("mode", "idle"), ("gone", "")], &source, &[], None).unwrap(),
            "__name__=x exported_job=own instance=a:1 job=node mode=idle"
        );
        assert_eq!(
            wire(&[("job", "own"), ("exported_job", "older")], &source, &[], None).unwrap(),
            "__name__=x exported_exported_job=own exported_job=older instance=a:1 job=node"
        );
        assert_eq!(wire(&[("job", "")], &source, &[], None).unwrap(), "__name__=x instance=a:1 job=node");
    }

    #[test]
    fn external_labels_fill_what_is_absent() {
        let external = [("job", "never"), ("cluster", "eu"), ("zone", "")];
        assert_eq!(wire(&[], &[("job", "node")], &external, None).unwrap(), "__name__=x cluster=eu job=node");
    }

    #[test]
    fn a_rewrite_may_drop_rename_and_empty() {
        assert_eq!(wire(&[], &[], &[], Some(Box::new(|_| false))), None);
        assert_eq!(wire(&[], &[], &[], Some(Box::new(|labels| (labels.clear(), true).1))), None, "nameless");
        let rewrite: Box<Rewrite> = Box::new(|labels| {
            for (name, value) in labels.iter_mut() {
                match &**name {
                    "b" => *name = "A".into(),
                    "c" => *value = "".into(),
                    _ => {}
                }
            }
            true
        });
        assert_eq!(
            wire(&[("a", "1"), ("b", "2"), ("c", "3")], &[], &[], Some(rewrite)).unwrap(),
            "A=2 __name__=x a=1"
        );
    }

    #[test]
    fn names_in_1_0_are_of_its_characters_and_stay_apart() {
        for (name, colon, expected) in [
            ("http_requests", false, "http_requests"),
            ("job:rate5m", true, "job:rate5m"),
            ("job:rate5m", false, "U__job_3a_rate5m"),
            ("http.status_code", true, "U__http_2e_status__code"),
            ("9lives", false, "U___39_lives"),
            ("größe", false, "U__gr_f6__df_e"),
        ] {
            assert_eq!(legacy_name(name, colon), expected);
        }
        let own = [("a.b", "1"), ("a_b", "2"), ("z", "3")];
        assert_eq!(wire(&own, &[], &[], None).unwrap(), "U__a_2e_b=1 __name__=x a_b=2 z=3");
    }
}
