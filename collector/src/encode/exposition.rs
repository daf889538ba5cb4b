//! The page of /metrics, in every format that Prometheus and Go's client speak.
//!
//! What is constant for a set of shapes — HELP and TYPE lines, names, labels, their order — is written once
//! into a layout; a scrape then copies it and fills in one number for each sample.

mod debug;
mod metric_family;
mod rows;
mod text;

pub use rows::Conflicts;

use super::gzip_plan::{GzipPlan, Number, Scratch};
use crate::model::Batch;

/// Layouts kept: the whole page in a format or two, and a few selections.
const MAX_LAYOUTS: usize = 8;

/// Pages of a layout that are compressed the usual way before one is worth a plan.
const PLAN_AFTER: u32 = 2;

/// How a page is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    #[default]
    Text,
    /// OpenMetrics text 1.0.0.
    OpenMetrics,
    /// `io.prometheus.client.MetricFamily` messages, each behind its length.
    Protobuf,
    /// The same messages as protobuf text, a field a line.
    ProtobufText,
    /// The same messages as protobuf text, a message a line.
    ProtobufCompact,
}

/// What is constant while the shapes stay the same.
struct Layout {
    shapes: Vec<u64>,
    format: Format,
    only: Vec<String>,
    body: Body,
    conflicts: Conflicts,
    /// How often a page of it was asked for in gzip.
    gzipped: u32,
    gzip: Option<GzipPlan>,
}

enum Body {
    Text(text::Layout),
    Messages(metric_family::Layout),
}

/// Renders pages, and remembers their layouts.
#[derive(Default)]
pub struct Exposition {
    layouts: Vec<Layout>,
    message: Vec<u8>,
    /// The layout of the last page, and where its numbers stand.
    last: usize,
    numbers: Vec<Number>,
    scratch: Scratch,
}

impl Exposition {
    /// Appends the page of these batches, which must all be of one series table: all of it, or `only` the families
    /// of these names. Families are in order of their names, samples in order of their label values.
    pub fn encode(
        &mut self,
        batches: &[Batch],
        format: Format,
        only: &[String],
        out: &mut Vec<u8>,
    ) -> Conflicts {
        let is_of = |layout: &Layout| {
            layout.shapes.len() == batches.len()
                && layout.format == format
                && layout.only == only
                && layout.shapes.iter().zip(batches).all(|(&id, batch)| id == batch.shape().id())
        };
        let at = self.layouts.iter().position(is_of).unwrap_or_else(|| {
            self.layouts.truncate(MAX_LAYOUTS - 1);
            self.layouts.insert(0, Layout::new(batches, format, only));
            0
        });
        let layout = &self.layouts[at];
        self.last = at;
        self.numbers.clear();
        match (&layout.body, format) {
            (Body::Text(text), _) => text.encode(batches, out, &mut self.numbers),
            (Body::Messages(messages), Format::Protobuf) => messages.encode(batches, out),
            (Body::Messages(messages), _) => {
                self.message.clear();
                messages.encode(batches, &mut self.message);
                debug::encode_text(&self.message, format == Format::ProtobufCompact, out);
            }
        }
        layout.conflicts
    }

    /// Appends `page`, which the last call of [`Exposition::encode`] wrote into an empty buffer, as a gzip member:
    /// `false`, and nothing, while that is not known to be worth a plan.
    pub fn gzip(&mut self, page: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(layout) = self.layouts.get_mut(self.last) else { return false };
        if layout.gzipped == PLAN_AFTER {
            layout.gzip = GzipPlan::new(page, &self.numbers);
        }
        layout.gzipped = layout.gzipped.saturating_add(1);
        let Some(plan) = &layout.gzip else { return false };
        plan.encode(page, &self.numbers, &mut self.scratch, out)
    }
}

impl Layout {
    fn new(batches: &[Batch], format: Format, only: &[String]) -> Self {
        let mut conflicts = Conflicts::default();
        let table = batches.first().map(|batch| batch.shape().table().lock());
        let rows = table.as_ref().map(|table| rows::collect_rows(batches, table, only, &mut conflicts));
        let rows = rows.unwrap_or_default();
        let body = match format {
            Format::Text => Body::Text(text::Layout::new(&rows, false)),
            Format::OpenMetrics => Body::Text(text::Layout::new(&rows, true)),
            Format::Protobuf | Format::ProtobufText | Format::ProtobufCompact => {
                Body::Messages(metric_family::Layout::new(&rows))
            }
        };
        let shapes = batches.iter().map(|batch| batch.shape().id()).collect();
        Layout { shapes, format, only: only.to_vec(), body, conflicts, gzipped: 0, gzip: None }
    }
}
