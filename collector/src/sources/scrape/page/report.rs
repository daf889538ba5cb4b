//! The series that a scrape says of itself: they close each batch.

use std::sync::Arc;

use crate::model::{Form, Kind, SeriesList, SeriesSpec, SeriesTable};

const SERIES: [(&str, &str); 8] = [
    ("up", "1 if the last scrape of the target succeeded, else 0."),
    ("scrape_duration_seconds", "How long the scrape took, in seconds."),
    ("scrape_samples_scraped", "Samples that the target exposed."),
    ("scrape_samples_post_metric_relabeling", "Samples that metric relabelling left."),
    ("scrape_series_added", "Series of this scrape that the last one lacked."),
    ("scrape_timeout_seconds", "After how many seconds a scrape of the target is given up."),
    ("scrape_sample_limit", "Samples that the target may expose, 0 for any number."),
    ("scrape_body_size_bytes", "Bytes of the last answer, uncompressed; -1 where it was too long."),
];
/// Those that come unasked.
const USUAL: usize = 5;

/// What the report says.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Report {
    pub up: bool,
    pub duration: f64,
    pub scraped: usize,
    pub kept: usize,
    pub added: usize,
    pub timeout: f64,
    pub sample_limit: usize,
    pub body_bytes: i64,
}

impl Report {
    #[expect(clippy::cast_precision_loss, reason = "counts of samples and bytes stay below 2^53")]
    /// Appends what is said, but for the series that `own` has a bit for.
    pub(super) fn write(&self, extra: bool, own: u8, values: &mut Vec<f64>) {
        let said = [
            f64::from(u8::from(self.up)),
            self.duration,
            self.scraped as f64,
            self.kept as f64,
            self.added as f64,
            self.timeout,
            self.sample_limit as f64,
            self.body_bytes as f64,
        ];
        let said = said[..count(extra)].iter().enumerate();
        values.extend(said.filter(|(at, _)| own >> at & 1 == 0).map(|(_, value)| *value));
    }
}

pub(super) fn count(extra: bool) -> usize {
    if extra { SERIES.len() } else { USUAL }
}

/// The series of the report with these labels.
pub(super) fn list(table: &Arc<SeriesTable>, labels: &[(String, String)], extra: bool) -> Arc<SeriesList> {
    let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
    let mut guard = table.lock();
    let floats = SERIES[..count(extra)].iter().map(|&(name, help)| {
        let spec = SeriesSpec { name, family: name, kind: Kind::Gauge, help, unit: "", labels: &labels };
        (guard.acquire(&spec), Form::Always)
    });
    let floats = floats.collect();
    drop(guard);
    SeriesList::new(table.clone(), floats, Vec::new())
}
