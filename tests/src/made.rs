//! Shapes and batches made by hand, for tests that need no source.

use std::sync::Arc;

use collector::model::{Batch, Form, Kind, SeriesId, SeriesSpec, SeriesTable, Shape, Source};

/// A series to be made.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub kind: Kind,
    pub form: Form,
}

impl Series {
    /// A gauge with these labels.
    pub fn gauge(name: &str, labels: &[(&str, &str)]) -> Self {
        Series { name: name.into(), labels: owned(labels), kind: Kind::Gauge, form: Form::Always }
    }

    pub fn kind(self, kind: Kind) -> Self {
        Series { kind, ..self }
    }

    pub fn form(self, form: Form) -> Self {
        Series { form, ..self }
    }

    fn acquire(&self, table: &SeriesTable) -> SeriesId {
        let labels: Vec<(&str, &str)> = self.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        table.lock().acquire(&SeriesSpec {
            name: &self.name,
            family: &self.name,
            kind: self.kind,
            help: &help(&self.name),
            unit: if self.name.ends_with("_seconds") { "seconds" } else { "" },
            labels: &labels,
        })
    }
}

/// The help that every made family of that name has.
pub fn help(name: &str) -> String {
    format!("What {name} counts.")
}

pub fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|&(name, value)| (name.into(), value.into())).collect()
}

/// A shape of a source of that name and these labels.
pub fn shape(
    table: &Arc<SeriesTable>,
    source: &str,
    labels: &[(String, String)],
    floats: &[Series],
    histograms: &[Series],
) -> Arc<Shape> {
    let source = Arc::new(Source { name: source.into(), labels: labels.to_vec() });
    let floats = floats.iter().map(|series| (series.acquire(table), series.form)).collect();
    let histograms = histograms.iter().map(|series| series.acquire(table)).collect();
    Shape::new(source, table.clone(), floats, histograms)
}

/// A batch of floats.
pub fn batch(shape: &Arc<Shape>, time_ms: i64, values: &[f64]) -> Batch {
    let mut batch = Batch::default();
    batch.shape = Some(shape.clone());
    batch.time_ms = time_ms;
    batch.values.extend_from_slice(values);
    batch
}
