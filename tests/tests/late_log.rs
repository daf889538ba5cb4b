//! A batch log that can't be opened at the start, and can later: it is found without a reload, nothing that memory held
//! is lost by it, and from then on it outlives a kill. And a collector that is told to keep none.

use std::path::Path;
use std::time::Duration;

use collector_tests::process::{Collector, free_port, wait_for};
use collector_tests::receiver::{Answer, Receiver, slots};

const LONG: Duration = Duration::from_secs(40);

fn start(folder: &Path, url: &str, more: &[&str]) -> Collector {
    let file = folder.join("c.yml");
    let config = format!("global: {{scrape_interval: 200ms}}\nremote_write: [{{url: '{url}', name: r}}]\n");
    std::fs::write(&file, config).unwrap();
    Collector::start(free_port(), folder, &[&[&*format!("--config.file={}", file.display())], more].concat())
}

fn own(collector: &Collector, name: &str) -> Option<f64> {
    collector.metrics().value(name, &[])
}

/// The times at which `node_load1` arrived.
fn times(receiver: &Receiver) -> Vec<i64> {
    receiver.look(|taken| {
        let load = taken.series.iter().find(|(series, _)| series.starts_with("node_load1{"));
        load.map(|(_, points)| points.iter().map(|point| point.0).collect()).unwrap_or_default()
    })
}

#[test]
fn without_a_folder_memory_alone_holds_what_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    receiver.answer(Answer::Status(503, Vec::new(), String::new()));
    let collector = start(folder.path(), &receiver.url(), &["--storage.path="]);
    let pending = || own(&collector, "prometheus_remote_storage_samples_pending").unwrap_or(0.0);
    assert!(wait_for(LONG, || pending() > 5000.0), "{}", collector.process.log());
    receiver.answer(Answer::Accept);
    assert!(wait_for(LONG, || times(&receiver).len() >= 20), "{}", collector.process.log());
    assert!(slots(&times(&receiver), 200).windows(2).all(|pair| pair[1] - pair[0] == 1), "nothing is lost");
    assert_eq!(own(&collector, "collector_batch_log_healthy"), None, "there is no log that could be well");
    assert!(!collector.process.log().contains("batch log"), "{}", collector.process.log());
    let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
    let files: Vec<_> = files.filter(|name| name != "c.yml" && name != "collector.log").collect();
    assert!(files.is_empty(), "{files:?}");
}

#[test]
fn a_log_that_can_be_opened_later_is_opened_then() {
    let folder = tempfile::tempdir().unwrap();
    let storage = folder.path().join("storage");
    // No folder can be made where a file is.
    std::fs::write(&storage, "in the way").unwrap();
    let receiver = Receiver::start();
    let mut collector = start(folder.path(), &receiver.url(), &[]);
    let times = || times(&receiver);
    assert!(wait_for(LONG, || times().len() >= 5), "{}", collector.process.log());
    assert_eq!(own(&collector, "collector_batch_log_healthy"), Some(0.0));
    // What is not sent when the log is found is in memory alone.
    receiver.answer(Answer::Status(503, Vec::new(), String::new()));
    std::fs::remove_file(&storage).unwrap();
    let is_found = || own(&collector, "collector_batch_log_healthy") == Some(1.0);
    assert!(wait_for(LONG, is_found), "{}", collector.process.log());
    let bytes = || own(&collector, "collector_batch_log_bytes").unwrap_or(0.0);
    assert!(wait_for(LONG, || bytes() > 50_000.0), "{}", collector.process.log());
    receiver.answer(Answer::Accept);
    let before = times().len();
    assert!(wait_for(LONG, || times().len() > before + 20), "{}", collector.process.log());
    receiver.answer(Answer::Status(503, Vec::new(), String::new()));
    std::thread::sleep(Duration::from_secs(1));
    collector.process.kill();
    receiver.answer(Answer::Accept);
    let killed = times().len();
    let collector = start(folder.path(), &receiver.url(), &[]);
    assert!(wait_for(LONG, || times().len() > killed + 10), "{}", collector.process.log());
    let all = times();
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "each once and in order: {all:?}");
    // Of what was before the kill nothing is missing: the longest gap is the restart's.
    let steps: Vec<i64> = slots(&all, 200).windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.iter().filter(|step| **step != 1).count() <= 1, "{steps:?}");
    assert_eq!(own(&collector, "collector_batch_log_healthy"), Some(1.0));
}
