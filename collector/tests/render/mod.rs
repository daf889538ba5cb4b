//! Writes batches as exposition text, so that tests can compare what collectors give with a file.

use std::collections::BTreeMap;
use std::sync::Arc;

use collector::model::{Batch, SeriesTable};

/// Families by name, each with its type and its samples in order.
pub(crate) type Exposition = BTreeMap<String, (String, BTreeMap<String, f64>)>;

/// Adds the samples of `batch`.
pub(crate) fn add(batch: &Batch, table: &Arc<SeriesTable>, into: &mut Exposition) {
    let guard = table.lock();
    for (&(id, _), &value) in batch.shape().floats().iter().zip(&batch.values) {
        let view = guard.view(id);
        let labels: Vec<String> =
            view.labels().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let series = match labels.as_slice() {
            [] => view.name().to_owned(),
            _ => format!("{}{{{}}}", view.name(), labels.join(",")),
        };
        let family = into.entry(view.family().to_owned()).or_default();
        family.0 = view.kind().text().to_owned();
        assert!(family.1.insert(series.clone(), value).is_none(), "{series} came twice");
    }
}

/// The text of the families.
pub(crate) fn text(exposition: &Exposition) -> String {
    let mut text = String::new();
    for (name, (kind, samples)) in exposition {
        text.push_str(&format!("# TYPE {name} {kind}\n"));
        for (series, value) in samples {
            text.push_str(&format!("{series} {}\n", number(*value)));
        }
    }
    text
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

/// As Go writes floats in their shortest form.
fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap();
    let exponent: i32 = exponent.parse().unwrap();
    if value == 0.0 || (-4..6).contains(&exponent) {
        return format!("{}", value + 0.0);
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}
