//! The bytes of a small page, and the same as protobuf text. Whole pages are decoded in the end-to-end tests.

use std::sync::Arc;

use super::super::*;
use crate::model::{Family, HistogramSnapshot, NativeHistogram, Recorder, SeriesTable, Source, Span};

static SECONDS: Family = Family::counter("busy_seconds_total", "Busy \"time\".", &["cpu"]);
static LOAD: Family = Family::gauge("load", "", &[]);
static WAIT: Family = Family::histogram("wait", "Waits.", &["cpu"]);

fn batch() -> (Arc<SeriesTable>, Batch) {
    let table = Arc::new(SeriesTable::default());
    let mut recorder =
        Recorder::new(Arc::new(Source { name: "t".into(), labels: Vec::new() }), table.clone());
    recorder.begin(Batch::default(), 1);
    recorder.put(&SECONDS, &["1"], 0.5);
    recorder.put(&SECONDS, &["0"], 1e6);
    recorder.put(&LOAD, &[], f64::INFINITY);
    let native = NativeHistogram {
        schema: 3,
        zero_threshold: 1e-9,
        zero_count: 1,
        count: 4,
        sum: 7.0,
        spans: vec![Span { offset: -2, length: 2 }],
        buckets: vec![2, 1],
        ..NativeHistogram::default()
    };
    let snapshot =
        HistogramSnapshot { bounds: &["2"], cumulative: &[1], count: 4, sum: 7.0, native: Some(&native) };
    recorder.histogram(&WAIT, &["0"], &snapshot);
    (table, recorder.finish())
}

fn text(format: Format, only: &[String]) -> String {
    let (_table, batch) = batch();
    let mut out = Vec::new();
    Exposition::default().encode(&[batch], format, only, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn every_field_is_where_it_should_be() {
    let expected = r#"name:"busy_seconds_total" help:"Busy \"time\"." type:COUNTER metric:{label:{name:"cpu" value:"0"} counter:{value:1e+06}} metric:{label:{name:"cpu" value:"1"} counter:{value:0.5}}
name:"load" help:"" type:GAUGE metric:{gauge:{value:inf}}
name:"wait" help:"Waits." type:HISTOGRAM metric:{label:{name:"cpu" value:"0"} histogram:{sample_count:4 sample_sum:7 bucket:{cumulative_count:1 upper_bound:2} bucket:{cumulative_count:4 upper_bound:inf} schema:3 zero_threshold:1e-09 zero_count:1 positive_span:{offset:-2 length:2} positive_delta:2 positive_delta:-1}}
"#;
    assert_eq!(text(Format::ProtobufCompact, &[]), expected);
}

#[test]
fn a_field_a_line_for_people() {
    let expected =
        "name: \"load\"\nhelp: \"\"\ntype: GAUGE\nmetric: {\n  gauge: {\n    value: inf\n  }\n}\n\n";
    assert_eq!(text(Format::ProtobufText, &["load".into()]), expected);
}

#[test]
fn a_page_of_some_families() {
    let only = ["wait".to_owned(), "load".to_owned(), "none".to_owned()];
    let page = text(Format::Text, &only);
    let types: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE")).collect();
    assert_eq!(types, ["# TYPE load gauge", "# TYPE wait histogram"]);
    assert_eq!(text(Format::Text, &["none".to_owned()]), "");
}

#[test]
fn messages_take_new_values_without_a_new_layout() {
    let (_table, mut first) = batch();
    let mut exposition = Exposition::default();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    exposition.encode(std::slice::from_ref(&first), Format::Protobuf, &[], &mut before);
    first.values[2] = 3.25;
    exposition.encode(std::slice::from_ref(&first), Format::Protobuf, &[], &mut after);
    assert_eq!(exposition.layouts.len(), 1);
    assert_eq!(before.len(), after.len());
    assert!(after.windows(8).any(|bytes| bytes == 3.25f64.to_le_bytes()));
}
