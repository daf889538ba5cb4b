//! Batches for the batch log: made from a number, and compared by what they say, whatever their shape is called.

use std::path::Path;
use std::sync::Arc;

use collector::batch_log::{BatchLog, Limits, Reader};
use collector::model::{Batch, Form, Kind, SeriesTable, Shape};

use crate::made::{self, Series};

pub const NOW: i64 = 1_790_000_000_000;
/// Samples in a batch of [`Maker::batch`].
pub const SAMPLES: u64 = 9;

/// Makes batches of two shapes in turn.
pub struct Maker {
    shapes: [Arc<Shape>; 2],
}

impl Default for Maker {
    fn default() -> Self {
        Self::new(&Arc::new(SeriesTable::default()))
    }
}

impl Maker {
    pub fn new(table: &Arc<SeriesTable>) -> Self {
        let shapes = ["a", "b"].map(|name| {
            let floats: Vec<Series> = (0..8)
                .map(|n| {
                    let series = Series::gauge("some_seconds", &[("cpu", &n.to_string()), ("of", name)]);
                    let form = if n % 2 == 0 { Form::Always } else { Form::ClassicOnly };
                    series.kind(Kind::from_number(n % 8)).form(form)
                })
                .collect();
            let native = [Series::gauge("wait", &[]).kind(Kind::Histogram)];
            made::shape(table, name, &made::owned(&[("job", "node")]), &floats, &native)
        });
        Maker { shapes }
    }

    /// The batch that should have this sequence number.
    pub fn batch(&self, sequence: u64) -> Batch {
        let n = sequence as f64;
        let values = [
            0.0,
            12.5,
            n,
            n / 100.0,
            (n * 0.7).sin(),
            1e9 + n * 512.0,
            -n,
            if sequence.is_multiple_of(3) { n } else { 7.0 },
        ];
        let mut batch =
            made::batch(&self.shapes[sequence as usize % 2], NOW + sequence as i64 * 1000, &values);
        let histogram = batch.push_histogram();
        let mut end = 0;
        (histogram.schema, histogram.sum, histogram.count) = (3, n / 3.0, sequence * 2);
        for index in 0..2 + (sequence / 10) as i32 % 3 {
            histogram.push(index * 2 - 3, sequence / 2 * index as u64, &mut end);
        }
        batch
    }
}

/// Everything that a batch says, in words.
pub fn said(batch: &Batch) -> String {
    let shape = batch.shape();
    let table = shape.table().lock();
    let mut text = format!("{} {:?} at {}\n", shape.source.name, shape.source.labels, batch.time_ms);
    let series = |id| {
        let view = table.view(id);
        let labels: Vec<_> = view.labels().collect();
        format!(
            "{} {} {:?} {} {} {labels:?}",
            view.name(),
            view.family(),
            view.kind(),
            view.help(),
            view.unit()
        )
    };
    for (&(id, form), value) in shape.floats().iter().zip(&batch.values) {
        text += &format!("{} {form:?} {:016x}\n", series(id), value.to_bits());
    }
    for (&id, histogram) in shape.histograms().iter().zip(batch.histograms()) {
        text += &format!("{} {histogram:?} {:016x}\n", series(id), histogram.sum.to_bits());
    }
    text += &format!("{:?} {:?} {:?}\n", batch.times, batch.histogram_times, shape.starts());
    for one in batch.exemplars.iter() {
        let (value, labels) = (one.value().to_bits(), one.labels().collect::<Vec<_>>());
        text += &format!("{:?} {value:016x} {} {} {labels:?}\n", one.of(), one.time_ms(), one.has_time());
    }
    assert_eq!(shape.floats().len(), batch.values.len());
    assert_eq!(shape.histograms().len(), batch.histograms().len());
    text
}

/// Reads to the end: numbers and what the batches say.
pub fn read_all(reader: &mut Reader) -> Vec<(u64, String)> {
    let mut batch = Batch::default();
    let mut all = Vec::new();
    while let Some(sequence) = reader.read(&mut batch).expect("the segments can be read") {
        all.push((sequence, said(&batch)));
    }
    all
}

/// Opens a log with a table of its own, as a process that starts anew does.
pub fn open(folder: &Path, limits: Limits) -> BatchLog {
    BatchLog::open(folder, limits, Arc::new(SeriesTable::default())).expect("the log can be opened")
}

/// What a reader gives is what was appended under that number.
pub fn check(given: &[(u64, String)], maker: &Maker) {
    for (sequence, text) in given {
        assert_eq!(*text, said(&maker.batch(*sequence)), "batch {sequence}");
    }
    assert!(given.is_sorted_by(|a, b| a.0 < b.0), "in order, and each once");
}

/// Bytes of all segments as the file system has them.
pub fn bytes_on_disk(folder: &Path) -> u64 {
    let entries =
        std::fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry"));
    let segments = entries.filter(|entry| entry.path().extension().is_some_and(|suffix| suffix == "batches"));
    segments.map(|entry| entry.metadata().expect("its size").len()).sum()
}
