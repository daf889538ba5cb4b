//! The text formats: Prometheus' 0.0.4 (Prometheus documentation, "Exposition formats") and OpenMetrics 1.0.0.

use super::super::gzip_plan::Number;
use super::super::number::encode_number;
use super::rows::{Place, Row};
use crate::model::{Batch, Kind, SeriesView};

struct Line {
    place: Place,
    /// End of this line's prefix in `text`; it begins where the one before it ends.
    prefix_end: u32,
}

/// The lines of a page, without their values.
pub(super) struct Layout {
    text: Vec<u8>,
    lines: Vec<Line>,
    /// What ends the page.
    end: &'static [u8],
}

impl Layout {
    pub(super) fn new(rows: &[Row<'_>], open_metrics: bool) -> Self {
        let end: &[u8] = if open_metrics { b"# EOF\n" } else { b"" };
        let mut layout = Layout { text: Vec::new(), lines: Vec::new(), end };
        let mut family = None;
        for row in rows.iter().filter(|row| !row.is_native) {
            if family != Some(row.series.family()) {
                family = Some(row.series.family());
                let (name, kind) = match open_metrics {
                    true => open_metrics_type(&row.series, rows),
                    false => (row.series.family(), row.series.kind().text()),
                };
                encode_header(name, kind, row.series.help(), open_metrics, &mut layout.text);
            }
            encode_prefix(&row.series, &mut layout.text);
            let prefix_end = u32::try_from(layout.text.len()).expect("a page stays below 4 GiB");
            layout.lines.push(Line { place: row.place, prefix_end });
        }
        layout
    }

    /// Appends the page, and to `numbers` where in it each number stands.
    pub(super) fn encode(&self, batches: &[Batch], out: &mut Vec<u8>, numbers: &mut Vec<Number>) {
        out.reserve(self.text.len() + self.lines.len() * 12);
        let mut start = 0;
        for line in &self.lines {
            out.extend_from_slice(&self.text[start..line.prefix_end as usize]);
            start = line.prefix_end as usize;
            let number = out.len() as u32;
            encode_number(line.place.value(batches), out);
            numbers.push(Number { start: number, end: out.len() as u32 });
            out.push(b'\n');
        }
        out.extend_from_slice(self.end);
    }
}

/// The name and type in the header of a family. OpenMetrics wants every counter to end in `_total` and leaves
/// that out of the header. A counter that is called otherwise, or that would get the name of another family,
/// becomes `unknown`, so that its samples keep their name.
fn open_metrics_type<'a>(series: &SeriesView<'a>, rows: &[Row<'_>]) -> (&'a str, &'static str) {
    let family = series.family();
    match (series.kind(), family.strip_suffix("_total")) {
        (Kind::Counter, Some(short)) => {
            let is_taken = rows.binary_search_by(|row| row.series.family().cmp(short)).is_ok();
            if is_taken { (family, "unknown") } else { (short, "counter") }
        }
        (Kind::Counter | Kind::Untyped | Kind::StateSet, _) => (family, "unknown"),
        (kind, _) => (family, kind.text()),
    }
}

fn encode_header(name: &str, kind: &str, help: &str, escape_quotes: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"# HELP ");
    out.extend_from_slice(name.as_bytes());
    out.push(b' ');
    encode_escaped(help, escape_quotes, out);
    out.extend_from_slice(b"\n# TYPE ");
    out.extend_from_slice(name.as_bytes());
    out.push(b' ');
    out.extend_from_slice(kind.as_bytes());
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
#[path = "text_tests.rs"]
mod tests;
