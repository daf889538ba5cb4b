//! The labels of a series as they leave this host.

use std::borrow::Cow;

use super::remote_write::Options;
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
        labels.sort_by(|a, b| a.0.cmp(&b.0));
        labels.dedup_by(|later, first| later.0 == first.0);
    }
    labels.iter().any(|(name, _)| name == NAME)
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
                    "b" => *name = "0".into(),
                    "c" => *value = "".into(),
                    _ => {}
                }
            }
            true
        });
        assert_eq!(
            wire(&[("a", "1"), ("b", "2"), ("c", "3")], &[], &[], Some(rewrite)).unwrap(),
            "0=2 __name__=x a=1"
        );
    }
}
