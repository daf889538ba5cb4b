//! Names the samples of batches as the exposition does, so that tests can look them up and compare them.

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

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}
