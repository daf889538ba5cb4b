//! What pages come to, cold and hot.

mod beside;
mod duties;
mod formats;
mod layouts;
mod messages;
mod relabelled;
mod staleness_tests;

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::model::{Batch, NO_SAMPLE};

/// A target and its reader.
struct Target {
    table: Arc<SeriesTable>,
    reader: PageReader,
    time: i64,
    /// What the last batch of the aggregator would be compared with.
    last: Option<Arc<Shape>>,
    body_of_last: Option<Batch>,
}

/// The labels of all test targets.
const LABELS: [(&str, &str); 2] = [("instance", "a:1"), ("job", "x")];
/// The time of the first scrape.
const START: i64 = 1_790_000_000_000;

fn rules() -> PageRules {
    PageRules { honor_timestamps: true, native_histograms: true, ..PageRules::default() }
}

fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Target {
    fn new(rules: PageRules) -> Self {
        Self::with(rules, &LABELS, &Layouts::new(), &Arc::default())
    }

    fn with(
        rules: PageRules,
        labels: &[(&str, &str)],
        layouts: &Arc<Layouts>,
        table: &Arc<SeriesTable>,
    ) -> Self {
        let reader = PageReader::new(Arc::new(rules), &owned(labels), "scrape/x", layouts, table);
        Target { table: table.clone(), reader, time: START, last: None, body_of_last: None }
    }

    fn try_read(&mut self, page: &[u8], format: Format) -> Result<Outcome, PageError> {
        self.time += 1000;
        let mut got = None;
        let outcome =
            self.reader.read(page, format, Instant::now(), self.time, &mut Batch::default, &mut |batch| {
                got = Some(batch);
            });
        assert_eq!(got.is_some(), outcome.is_ok(), "a refused page gives nothing");
        if let Some(batch) = got {
            self.last = batch.shape.clone();
            self.body_of_last = Some(batch);
        }
        outcome
    }

    /// The samples of a page in words, without the report.
    fn read(&mut self, page: &str) -> Vec<String> {
        self.read_as(page, Format::Text)
    }

    fn read_as(&mut self, page: &str, format: Format) -> Vec<String> {
        self.try_read(page.as_bytes(), format).unwrap_or_else(|error| panic!("{error}\n{page}"));
        self.said()
    }

    /// All labels as they would leave: the source's too.
    fn said(&self) -> Vec<String> {
        let batch = self.body_of_last.as_ref().unwrap();
        let shape = batch.shape();
        assert_eq!(shape.floats().len(), batch.values.len());
        assert_eq!(shape.histograms().len(), batch.histograms().len());
        let table = self.table.lock();
        let mut said = Vec::new();
        let mut report = 0;
        for (at, (&(id, _), value)) in shape.floats().iter().zip(&batch.values).enumerate() {
            let view = table.view(id);
            if view.name() == "up" || view.name().starts_with("scrape_") {
                report += 1;
                continue;
            }
            let mut labels: Vec<_> = view.labels().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            labels.extend(shape.source.labels.iter().cloned());
            labels.sort();
            let labels: Vec<_> = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
            let time = match batch.time(at) {
                NO_SAMPLE => " none".to_owned(),
                time if time == batch.time_ms => String::new(),
                time => format!(" @{time}"),
            };
            said.push(format!("{}{{{}}} {value}{time}", view.name(), labels.join(",")));
        }
        assert_eq!(report, 5, "the report closes each batch");
        said
    }

    /// The report of the last batch.
    fn report(&self, name: &str) -> f64 {
        let batch = self.body_of_last.as_ref().unwrap();
        let table = self.table.lock();
        let at = batch.shape().floats().iter().rposition(|&(id, _)| table.view(id).name() == name);
        batch.values[at.unwrap()]
    }

    fn error(&mut self, page: &str, format: Format) -> String {
        self.try_read(page.as_bytes(), format).expect_err(page).to_string()
    }
}

/// A sample with the labels of the test targets.
fn sample(name: &str, labels: &str, value: &str) -> String {
    let mut all: Vec<&str> = labels.split(',').filter(|label| !label.is_empty()).collect();
    all.extend(["instance=\"a:1\"", "job=\"x\""]);
    all.sort_unstable();
    format!("{name}{{{}}} {value}", all.join(","))
}
