//! The text format 0.0.4 (Prometheus documentation, "Exposition formats").
//!
//! What is constant for a set of shapes — HELP and TYPE lines, names, labels, their order — is written once
//! into a layout; a scrape then copies one prefix and formats one number for each sample.

use std::cmp::Ordering;

use hashbrown::{HashMap, HashSet};

use super::number::encode_number;
use crate::model::{Batch, Kind, SeriesId, SeriesView, TableGuard};

/// Layouts kept: the whole page, and a few selections of collectors.
const MAX_LAYOUTS: usize = 8;

struct Line {
    batch: u32,
    position: u32,
    /// End of this line's prefix in `text`; it begins where the one before it ends.
    prefix_end: u32,
}

/// What is constant while the shapes stay the same.
struct Layout {
    shapes: Vec<u64>,
    text: Vec<u8>,
    lines: Vec<Line>,
    conflicts: Conflicts,
}

/// What was left out because it contradicts what came first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conflicts {
    /// Samples whose name and labels another source had given already.
    pub duplicates: u64,
    /// Samples of families whose type another source had given otherwise.
    pub types: u64,
}

/// Renders pages, and remembers their layouts.
#[derive(Default)]
pub struct Exposition {
    layouts: Vec<Layout>,
}

impl Exposition {
    /// Appends the page of these batches, which must all be of one series table. Families are in order of their
    /// names, samples in order of their label values.
    pub fn encode(&mut self, batches: &[Batch], out: &mut Vec<u8>) -> Conflicts {
        let is_of = |layout: &Layout| {
            layout.shapes.len() == batches.len()
                && layout.shapes.iter().zip(batches).all(|(&id, batch)| id == batch.shape().id())
        };
        let at = self.layouts.iter().position(is_of).unwrap_or_else(|| {
            self.layouts.truncate(MAX_LAYOUTS - 1);
            self.layouts.insert(0, Layout::new(batches));
            0
        });
        let layout = &self.layouts[at];
        out.reserve(layout.text.len() + layout.lines.len() * 12);
        let mut start = 0;
        for line in &layout.lines {
            out.extend_from_slice(&layout.text[start..line.prefix_end as usize]);
            start = line.prefix_end as usize;
            encode_number(batches[line.batch as usize].values[line.position as usize], out);
            out.push(b'\n');
        }
        layout.conflicts
    }
}

/// One sample on its way into a layout.
struct Row<'a> {
    series: SeriesView<'a>,
    batch: u32,
    position: u32,
}

impl Layout {
    fn new(batches: &[Batch]) -> Self {
        let shapes = batches.iter().map(|batch| batch.shape().id()).collect();
        let mut layout =
            Layout { shapes, text: Vec::new(), lines: Vec::new(), conflicts: Conflicts::default() };
        let Some(first) = batches.first() else { return layout };
        let table = first.shape().table().lock();
        let mut rows = collect_rows(batches, &table, &mut layout.conflicts);
        rows.sort_by(|a, b| compare(&a.series, &b.series));
        let mut family = None;
        for row in &rows {
            if family != Some(row.series.family()) {
                family = Some(row.series.family());
                encode_header(&row.series, &mut layout.text);
            }
            encode_prefix(&row.series, &mut layout.text);
            let prefix_end = u32::try_from(layout.text.len()).expect("a page stays below 4 GiB");
            layout.lines.push(Line { batch: row.batch, position: row.position, prefix_end });
        }
        layout
    }
}

fn collect_rows<'a>(batches: &[Batch], table: &'a TableGuard<'_>, conflicts: &mut Conflicts) -> Vec<Row<'a>> {
    let mut seen: HashSet<SeriesId> = HashSet::new();
    let mut kinds: HashMap<&str, Kind> = HashMap::new();
    let mut rows = Vec::new();
    for (batch_number, batch) in batches.iter().enumerate() {
        for (position, &(id, _)) in batch.shape().floats().iter().enumerate() {
            let series = table.view(id);
            if !seen.insert(id) {
                conflicts.duplicates += 1;
                continue;
            }
            if *kinds.entry(series.family()).or_insert(series.kind()) != series.kind() {
                conflicts.types += 1;
                continue;
            }
            let number = |n: usize| u32::try_from(n).expect("a page has fewer than 2^32 samples");
            rows.push(Row { series, batch: number(batch_number), position: number(position) });
        }
    }
    rows
}

/// Families by name; within one, fewer labels first, then label values in the order of their names. The parts
/// of a histogram stay together, in the order in which they were given (the sort is stable).
fn compare(a: &SeriesView<'_>, b: &SeriesView<'_>) -> Ordering {
    a.family().cmp(b.family()).then_with(|| {
        let by_count = own_values(*a).count().cmp(&own_values(*b).count());
        by_count.then_with(|| own_values(*a).cmp(own_values(*b)))
    })
}

/// The label values of a sample, without that which only tells the parts of a histogram or summary apart.
fn own_values<'a>(series: SeriesView<'a>) -> impl Iterator<Item = &'a str> {
    let part = match series.kind() {
        Kind::Histogram => "le",
        Kind::Summary => "quantile",
        _ => "",
    };
    series.labels().filter(move |&(name, _)| name != part).map(|(_, value)| value)
}

fn encode_header(series: &SeriesView<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"# HELP ");
    out.extend_from_slice(series.family().as_bytes());
    out.push(b' ');
    encode_escaped(series.help(), false, out);
    out.extend_from_slice(b"\n# TYPE ");
    out.extend_from_slice(series.family().as_bytes());
    out.push(b' ');
    out.extend_from_slice(series.kind().text().as_bytes());
    out.push(b'\n');
}

/// `name{label="value",...} `, with the space before the number.
fn encode_prefix(series: &SeriesView<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(series.name().as_bytes());
    for (n, (name, value)) in series.labels().enumerate() {
        out.push(if n == 0 { b'{' } else { b',' });
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        encode_escaped(value, true, out);
        out.push(b'"');
    }
    if series.labels().len() > 0 {
        out.push(b'}');
    }
    out.push(b' ');
}

fn encode_escaped(text: &str, quotes: bool, out: &mut Vec<u8>) {
    for &byte in text.as_bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' if quotes => out.extend_from_slice(b"\\\""),
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
#[path = "exposition_tests.rs"]
mod tests;
