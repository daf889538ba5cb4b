//! Protobuf: `io.prometheus.client.MetricFamily` messages (client_model, metrics.proto), each behind its length.
//!
//! A counter, a gauge and an untyped sample always take the same number of bytes, since Go's client writes a value
//! of 0 too. So whole families are copied as they stand in the layout, and eight bytes a sample are written over.
//! Histograms and summaries have counts as varints and are put together anew for each page.

use super::super::protobuf::{encode_bytes, encode_double, encode_number, encode_varint, zigzag};
use super::rows::{Place, Row, own_labels, part_label};
use crate::model::{Batch, Kind, NativeHistogram, SeriesView};

// Fields of MetricFamily.
const FAMILY_NAME: u8 = 0x0a;
const FAMILY_HELP: u8 = 0x12;
const FAMILY_TYPE: u8 = 0x18;
const FAMILY_METRIC: u8 = 0x22;
// Fields of Metric.
const METRIC_LABEL: u8 = 0x0a;
const METRIC_GAUGE: u8 = 0x12;
const METRIC_COUNTER: u8 = 0x1a;
const METRIC_SUMMARY: u8 = 0x22;
const METRIC_UNTYPED: u8 = 0x2a;
const METRIC_HISTOGRAM: u8 = 0x3a;
/// The value of a gauge, counter or untyped sample: a double.
const VALUE: u8 = 0x09;

enum Part {
    /// Families that never change their length, and where the doubles in them are.
    Constant { bytes: Vec<u8>, values: Vec<(u32, Place)> },
    /// A family of histograms or summaries: what comes before its metrics, and these.
    Assembled { head: Vec<u8>, metrics: Vec<Assembled>, is_summary: bool },
}

/// A histogram or summary.
#[derive(Default)]
struct Assembled {
    labels: Vec<u8>,
    count: Option<Place>,
    sum: Option<Place>,
    /// Upper bounds or quantiles.
    parts: Vec<(f64, Place)>,
    native: Option<Place>,
}

/// The messages of a page, without their values.
#[derive(Default)]
pub(super) struct Layout {
    parts: Vec<Part>,
}

impl Layout {
    pub(super) fn new(rows: &[Row<'_>]) -> Self {
        let mut layout = Layout::default();
        for family in rows.chunk_by(|a, b| a.series.family() == b.series.family()) {
            let first = &family[0].series;
            match first.kind() {
                Kind::Histogram | Kind::GaugeHistogram | Kind::Summary => {
                    let is_summary = first.kind() == Kind::Summary;
                    let (head, metrics) = (family_head(first), assemble(family));
                    layout.parts.push(Part::Assembled { head, metrics, is_summary });
                }
                _ => layout.add_constant(family),
            }
        }
        layout
    }

    fn add_constant(&mut self, family: &[Row<'_>]) {
        let tag = match family[0].series.kind() {
            Kind::Counter => METRIC_COUNTER,
            Kind::Gauge | Kind::Info => METRIC_GAUGE,
            _ => METRIC_UNTYPED,
        };
        let mut message = family_head(&family[0].series);
        let mut places = Vec::new();
        for row in family {
            let mut metric = encode_labels(&row.series);
            metric.extend_from_slice(&[tag, 9, VALUE]);
            metric.extend_from_slice(&0f64.to_le_bytes());
            encode_bytes(FAMILY_METRIC, &metric, &mut message);
            places.push((message.len() - 8, row.place));
        }
        if !matches!(self.parts.last(), Some(Part::Constant { .. })) {
            self.parts.push(Part::Constant { bytes: Vec::new(), values: Vec::new() });
        }
        let Some(Part::Constant { bytes, values }) = self.parts.last_mut() else { return };
        encode_varint(message.len() as u64, bytes);
        let start = bytes.len();
        bytes.extend_from_slice(&message);
        let offset = |at: usize| u32::try_from(start + at).expect("a page stays below 4 GiB");
        values.extend(places.into_iter().map(|(at, place)| (offset(at), place)));
    }

    pub(super) fn encode(&self, batches: &[Batch], out: &mut Vec<u8>) {
        let (mut family, mut metric, mut value) = (Vec::new(), Vec::new(), Vec::new());
        for part in &self.parts {
            match part {
                Part::Constant { bytes, values } => {
                    let start = out.len();
                    out.extend_from_slice(bytes);
                    for &(at, place) in values {
                        let at = start + at as usize;
                        out[at..at + 8].copy_from_slice(&place.value(batches).to_le_bytes());
                    }
                }
                Part::Assembled { head, metrics, is_summary } => {
                    family.clear();
                    family.extend_from_slice(head);
                    for assembled in metrics {
                        value.clear();
                        let tag = match is_summary {
                            true => assembled.encode_summary(batches, &mut value),
                            false => assembled.encode_histogram(batches, &mut value),
                        };
                        metric.clear();
                        metric.extend_from_slice(&assembled.labels);
                        encode_bytes(tag, &value, &mut metric);
                        encode_bytes(FAMILY_METRIC, &metric, &mut family);
                    }
                    encode_varint(family.len() as u64, out);
                    out.extend_from_slice(&family);
                }
            }
        }
    }
}

/// Name, help and type.
fn family_head(series: &SeriesView<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode_bytes(FAMILY_NAME, series.family().as_bytes(), &mut out);
    encode_bytes(FAMILY_HELP, series.help().as_bytes(), &mut out);
    let kind = match series.kind() {
        Kind::Counter => 0,
        Kind::Gauge | Kind::Info => 1,
        Kind::Summary => 2,
        Kind::Untyped | Kind::StateSet => 3,
        Kind::Histogram => 4,
        Kind::GaugeHistogram => 5,
    };
    out.extend_from_slice(&[FAMILY_TYPE, kind]);
    out
}

fn encode_labels(series: &SeriesView<'_>) -> Vec<u8> {
    let (mut out, mut pair) = (Vec::new(), Vec::new());
    for (name, value) in own_labels(*series) {
        pair.clear();
        encode_bytes(0x0a, name.as_bytes(), &mut pair);
        encode_bytes(0x12, value.as_bytes(), &mut pair);
        encode_bytes(METRIC_LABEL, &pair, &mut out);
    }
    out
}

/// Puts the series of a family together that are of one histogram or summary. Rows of one stand together.
fn assemble(family: &[Row<'_>]) -> Vec<Assembled> {
    let is_same = |a: &Row<'_>, b: &Row<'_>| own_labels(a.series).eq(own_labels(b.series));
    let mut metrics = Vec::new();
    for rows in family.chunk_by(is_same) {
        let mut metric = Assembled { labels: encode_labels(&rows[0].series), ..Assembled::default() };
        for row in rows {
            let suffix = row.series.name().strip_prefix(row.series.family()).unwrap_or_default();
            let label = part_label(row.series.kind());
            let bound = row.series.labels().find(|(name, _)| *name == label);
            match (suffix, bound.and_then(|(_, value)| value.parse::<f64>().ok())) {
                _ if row.is_native => metric.native = Some(row.place),
                ("_count", _) => metric.count = Some(row.place),
                ("_sum", _) => metric.sum = Some(row.place),
                (_, Some(bound)) => metric.parts.push((bound, row.place)),
                _ => {}
            }
        }
        metrics.push(metric);
    }
    metrics
}

/// A count, which the text formats carry as a double.
fn whole(value: f64) -> u64 {
    value as u64
}

impl Assembled {
    fn encode_totals(&self, batches: &[Batch], out: &mut Vec<u8>) {
        if let Some(count) = self.count {
            out.push(0x08);
            encode_varint(whole(count.value(batches)), out);
        }
        if let Some(sum) = self.sum {
            out.push(0x11);
            out.extend_from_slice(&sum.value(batches).to_le_bytes());
        }
    }

    fn encode_summary(&self, batches: &[Batch], out: &mut Vec<u8>) -> u8 {
        self.encode_totals(batches, out);
        for &(quantile, place) in &self.parts {
            out.extend_from_slice(&[0x1a, 18, 0x09]);
            out.extend_from_slice(&quantile.to_le_bytes());
            out.push(0x11);
            out.extend_from_slice(&place.value(batches).to_le_bytes());
        }
        METRIC_SUMMARY
    }

    fn encode_histogram(&self, batches: &[Batch], out: &mut Vec<u8>) -> u8 {
        let native =
            self.native.map(|place| &batches[place.batch as usize].histograms()[place.position as usize]);
        match native {
            Some(native) if self.count.is_none() => {
                encode_number(0x08, native.count, out);
                encode_double(0x11, native.sum, out);
            }
            _ => self.encode_totals(batches, out),
        }
        let mut bucket = Vec::new();
        for &(bound, place) in &self.parts {
            bucket.clear();
            bucket.push(0x08);
            encode_varint(whole(place.value(batches)), &mut bucket);
            bucket.push(0x11);
            bucket.extend_from_slice(&bound.to_le_bytes());
            encode_bytes(0x1a, &bucket, out);
        }
        if let Some(native) = native {
            encode_native(native, out);
        }
        METRIC_HISTOGRAM
    }
}

/// The fields 5 to 13 of a histogram: its native form.
fn encode_native(native: &NativeHistogram, out: &mut Vec<u8>) {
    out.push(0x28);
    encode_varint(zigzag(i64::from(native.schema)), out);
    out.push(0x31);
    out.extend_from_slice(&native.zero_threshold.to_le_bytes());
    out.push(0x38);
    encode_varint(native.zero_count, out);
    let mut message = Vec::new();
    for span in &native.spans {
        message.clear();
        encode_number(0x08, zigzag(i64::from(span.offset)), &mut message);
        encode_number(0x10, u64::from(span.length), &mut message);
        encode_bytes(0x62, &message, out);
    }
    // Without a span, a native histogram that is empty would be taken for a classic one.
    if native.spans.is_empty() {
        out.extend_from_slice(&[0x62, 0]);
    }
    let mut before = 0u64;
    for &count in &native.buckets {
        out.push(0x68);
        encode_varint(zigzag(count.wrapping_sub(before) as i64), out);
        before = count;
    }
}

#[cfg(test)]
#[path = "metric_family_tests.rs"]
mod tests;
