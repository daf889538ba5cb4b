//! What the positional cache must hold to: same order, same shape; anything else, the right series.

use super::*;
use crate::model::NativeHistogram;

static CPU: Family = Family::counter("cpu_seconds_total", "Seconds.", &["cpu", "mode"]);
static WAIT: Family = Family::histogram("wait_seconds", "Waits.", &["cpu"]);

fn recorder() -> (Arc<SeriesTable>, Recorder) {
    let table = Arc::new(SeriesTable::default());
    let source = Arc::new(Source { name: "test".into(), labels: Vec::new() });
    (table.clone(), Recorder::new(source, table))
}

fn tick(recorder: &mut Recorder, cpus: &[&str]) -> Batch {
    recorder.begin(Batch::default(), 1);
    for (n, cpu) in cpus.iter().enumerate() {
        recorder.put(&CPU, &[cpu, "idle"], n as f64);
    }
    recorder.finish()
}

fn names(batch: &Batch) -> Vec<String> {
    let table = batch.shape().table().lock();
    let labels = |id| table.view(id).labels().map(|(_, v)| v.to_owned()).collect::<Vec<_>>().join(",");
    batch.shape().floats().iter().map(|&(id, _)| labels(id)).collect()
}

#[test]
fn the_same_order_keeps_its_shape_and_another_gets_its_own() {
    let (table, mut recorder) = recorder();
    let first = tick(&mut recorder, &["0", "1", "2"]);
    let again = tick(&mut recorder, &["0", "1", "2"]);
    assert_eq!(first.shape().id(), again.shape().id());
    assert_eq!(again.values, [0.0, 1.0, 2.0]);

    let shorter = tick(&mut recorder, &["0", "2"]);
    assert_ne!(first.shape().id(), shorter.shape().id());
    assert_eq!(names(&shorter), ["0,idle", "2,idle"]);
    let longer = tick(&mut recorder, &["0", "1", "2", "3"]);
    assert_eq!(names(&longer), ["0,idle", "1,idle", "2,idle", "3,idle"]);
    let back = tick(&mut recorder, &["0", "1", "2"]);
    assert_eq!(first.shape().id(), back.shape().id(), "a recent shape is taken again");

    drop((first, again, shorter, longer, back, recorder));
    assert!(table.is_empty(), "every use was given back");
}

#[test]
fn label_values_that_only_join_alike_are_told_apart() {
    let (_, mut recorder) = recorder();
    let mut ids = Vec::new();
    for (cpu, mode) in [("1", "2x"), ("12", "x"), ("1", "2x")] {
        recorder.begin(Batch::default(), 1);
        recorder.put(&CPU, &[cpu, mode], 0.0);
        ids.push(recorder.finish().shape().floats()[0].0);
    }
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids[0], ids[2]);
}

#[test]
fn a_repeated_series_is_dropped_and_counted_on_every_tick() {
    let (_, mut recorder) = recorder();
    for _ in 0..3 {
        let batch = tick(&mut recorder, &["0", "0", "1"]);
        assert_eq!(recorder.duplicates(), 1);
        assert_eq!(batch.values, [0.0, 2.0]);
        assert_eq!(names(&batch), ["0,idle", "1,idle"]);
    }
}

#[test]
fn an_empty_tick_has_an_empty_shape() {
    let (_, mut recorder) = recorder();
    assert_eq!(tick(&mut recorder, &[]).shape().floats().len(), 0);
    tick(&mut recorder, &["0"]);
    let none = tick(&mut recorder, &[]);
    assert_eq!((none.shape().floats().len(), none.values.len()), (0, 0));
}

#[test]
fn dynamic_families_join_their_pieces_once() {
    let (_, mut recorder) = recorder();
    let mut shapes = Vec::new();
    for _ in 0..2 {
        recorder.begin(Batch::default(), 1);
        let sample = Dynamic {
            name: &["node_netstat_", "Tcp", "_", "InSegs"],
            suffix: "",
            help: &["Statistic ", "TcpInSegs."],
            kind: Kind::Untyped,
            labels: &[("a", "b")],
        };
        recorder.put_dynamic(&sample, 7.0);
        shapes.push(recorder.finish().shape().clone());
    }
    assert_eq!(shapes[0].id(), shapes[1].id());
    let table = shapes[0].table().lock();
    let view = table.view(shapes[0].floats()[0].0);
    assert_eq!((view.name(), view.help()), ("node_netstat_Tcp_InSegs", "Statistic TcpInSegs."));
}

#[test]
fn a_histogram_gives_classic_series_and_its_native_form() {
    let (table, mut recorder) = recorder();
    let native = NativeHistogram { count: 3, sum: 1.5, ..NativeHistogram::default() };
    for _ in 0..2 {
        recorder.begin(Batch::default(), 1);
        let snapshot = HistogramSnapshot {
            bounds: &["0.1", "1"],
            cumulative: &[1, 2],
            count: 3,
            sum: 1.5,
            native: Some(&native),
        };
        recorder.histogram(&WAIT, &["0"], &snapshot);
        recorder.put(&CPU, &["0", "idle"], 9.0);
        let batch = recorder.finish();
        assert_eq!(batch.values, [1.0, 2.0, 3.0, 1.5, 3.0, 9.0]);
        assert_eq!(batch.histograms(), std::slice::from_ref(&native));
        let forms: Vec<Form> = batch.shape().floats().iter().map(|f| f.1).collect();
        assert_eq!(forms[..5], [Form::ClassicOnly; 5]);
        assert_eq!(forms[5], Form::Always);
        let guard = table.lock();
        assert_eq!(guard.view(batch.shape().floats()[0].0).name(), "wait_seconds_bucket");
        assert_eq!(guard.view(batch.shape().histograms()[0]).name(), "wait_seconds");
    }
}
