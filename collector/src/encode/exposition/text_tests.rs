//! The page as Prometheus and Go's client write it.

use std::sync::Arc;

use super::super::*;
use crate::model::{Dynamic, Family, HistogramSnapshot, Kind, Recorder, SeriesTable, Source};

static CPU: Family = Family::counter("cpu_seconds_total", "Seconds, by\nmode \\.", &["cpu", "mode"]);
static LOAD: Family = Family::gauge("a_load", "Load.", &[]);
static WAIT: Family = Family::histogram("wait_seconds", "Waits.", &["cpu"]);

fn recorder(table: &Arc<SeriesTable>) -> Recorder {
    Recorder::new(Arc::new(Source { name: "test".into(), labels: Vec::new() }), table.clone())
}

fn page(batches: &[Batch]) -> (String, Conflicts) {
    let mut out = Vec::new();
    let conflicts = Exposition::default().encode(batches, Format::Text, &[], &mut out);
    (String::from_utf8(out).unwrap(), conflicts)
}

#[test]
fn families_and_samples_are_sorted_and_escaped() {
    let table = Arc::new(SeriesTable::default());
    let mut recorder = recorder(&table);
    recorder.begin(Batch::default(), 1);
    recorder.put(&CPU, &["2", "idle"], 1.5e6);
    recorder.put(&CPU, &["10", "a\"b\\c\nd"], 0.25);
    recorder.put(&LOAD, &[], 3.0);
    let (text, _) = page(&[recorder.finish()]);
    let expected = r#"# HELP a_load Load.
# TYPE a_load gauge
a_load 3
# HELP cpu_seconds_total Seconds, by\nmode \\.
# TYPE cpu_seconds_total counter
cpu_seconds_total{cpu="10",mode="a\"b\\c\nd"} 0.25
cpu_seconds_total{cpu="2",mode="idle"} 1.5e+06
"#;
    assert_eq!(text, expected);
}

#[test]
fn a_histogram_keeps_its_buckets_in_order() {
    let table = Arc::new(SeriesTable::default());
    let mut recorder = recorder(&table);
    recorder.begin(Batch::default(), 1);
    for cpu in ["1", "0"] {
        let snapshot = HistogramSnapshot {
            bounds: &["2", "10"],
            cumulative: &[1, 2],
            count: 3,
            sum: 21.5,
            native: None,
        };
        recorder.histogram(&WAIT, &[cpu], &snapshot);
    }
    let (text, _) = page(&[recorder.finish()]);
    let expected = r#"# HELP wait_seconds Waits.
# TYPE wait_seconds histogram
wait_seconds_bucket{cpu="0",le="2"} 1
wait_seconds_bucket{cpu="0",le="10"} 2
wait_seconds_bucket{cpu="0",le="+Inf"} 3
wait_seconds_sum{cpu="0"} 21.5
wait_seconds_count{cpu="0"} 3
wait_seconds_bucket{cpu="1",le="2"} 1
wait_seconds_bucket{cpu="1",le="10"} 2
wait_seconds_bucket{cpu="1",le="+Inf"} 3
wait_seconds_sum{cpu="1"} 21.5
wait_seconds_count{cpu="1"} 3
"#;
    assert_eq!(text, expected);
}

#[test]
fn the_first_of_two_sources_wins_and_the_other_is_counted() {
    let table = Arc::new(SeriesTable::default());
    let (mut one, mut two) = (recorder(&table), recorder(&table));
    one.begin(Batch::default(), 1);
    one.put(&LOAD, &[], 1.0);
    two.begin(Batch::default(), 1);
    let as_counter =
        |labels| Dynamic { name: &["a_load"], suffix: "", help: &["Other."], kind: Kind::Counter, labels };
    two.put_dynamic(&as_counter(&[]), 2.0);
    two.put_dynamic(&as_counter(&[("x", "y")]), 3.0);
    let (text, conflicts) = page(&[one.finish(), two.finish()]);
    assert_eq!(text, "# HELP a_load Load.\n# TYPE a_load gauge\na_load 1\n");
    assert_eq!(conflicts, Conflicts { duplicates: 1, types: 1 });
}

#[test]
fn a_kept_layout_shows_new_values_and_changed_shapes_a_new_page() {
    let table = Arc::new(SeriesTable::default());
    let (mut recorder, mut exposition) = (recorder(&table), Exposition::default());
    let mut sizes = Vec::new();
    for (value, extra) in [(1.0, false), (2.0, false), (3.0, true), (4.0, false)] {
        recorder.begin(Batch::default(), 1);
        recorder.put(&LOAD, &[], value);
        if extra {
            recorder.put(&CPU, &["0", "idle"], value);
        }
        let mut out = Vec::new();
        exposition.encode(&[recorder.finish()], Format::Text, &[], &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(&format!("a_load {value}\n")), "{text}");
        sizes.push(text.len());
    }
    assert_eq!(sizes[0], sizes[1]);
    assert_eq!(sizes[0], sizes[3]);
    assert!(sizes[2] > sizes[0]);
}
