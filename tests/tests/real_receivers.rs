//! The loss test in its short form, against receivers that people run: Prometheus and VictoriaMetrics.
//!
//! A minute at one tick a second; in the middle Prometheus is down for twenty seconds, and the collector is
//! killed and started again. Afterwards every series has every tick, once and in order, but for the one tick
//! that the kill may have interrupted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use collector_tests::process::{Collector, Process, free_port, get, wait_for};
use collector_tests::skip::program_or_skip;

const TICK_MS: i64 = 1000;

/// The times of each series' samples, by `name{labels}`.
type Stored = BTreeMap<String, Vec<i64>>;

fn start_prometheus(program: &Path, port: u16, folder: &Path) -> Process {
    let config = folder.join("prometheus.yml");
    std::fs::write(&config, "global: {}\n").unwrap();
    let arguments = [
        "--web.enable-remote-write-receiver".to_owned(),
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", folder.join("prometheus").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let process = Process::start(program, &arguments, &folder.join("prometheus.log"));
    let ready = || get(&format!("http://127.0.0.1:{port}/-/ready")).is_some_and(|answer| answer.0 == 200);
    assert!(wait_for(Duration::from_secs(30), ready), "{}", process.log());
    process
}

fn start_victoria(program: &Path, port: u16, folder: &Path) -> Process {
    let arguments = [
        format!("-storageDataPath={}", folder.join("victoria").display()),
        format!("-httpListenAddr=127.0.0.1:{port}"),
    ];
    let process = Process::start(program, &arguments, &folder.join("victoria.log"));
    let ready = || get(&format!("http://127.0.0.1:{port}/health")).is_some_and(|answer| answer.0 == 200);
    assert!(wait_for(Duration::from_secs(30), ready), "{}", process.log());
    process
}

fn key(metric: &serde_json::Value) -> String {
    metric.to_string()
}

/// What Prometheus stored in the last minutes, raw.
fn in_prometheus(port: u16) -> Stored {
    let url = format!("http://127.0.0.1:{port}/api/v1/query?query=%7Bjob%3D%22node%22%7D%5B10m%5D");
    let json: serde_json::Value = serde_json::from_str(&get(&url).unwrap().1).unwrap();
    let mut stored = Stored::new();
    for series in json["data"]["result"].as_array().unwrap() {
        let points = series["values"].as_array().unwrap();
        let times = points.iter().map(|point| (point[0].as_f64().unwrap() * 1000.0).round() as i64).collect();
        stored.insert(key(&series["metric"]), times);
    }
    stored
}

/// What VictoriaMetrics stored, raw: duplicates would show.
fn in_victoria(port: u16) -> Stored {
    let base = format!("http://127.0.0.1:{port}");
    get(&format!("{base}/internal/force_flush")).unwrap();
    let text = get(&format!("{base}/api/v1/export?match%5B%5D=%7Bjob%3D%22node%22%7D")).unwrap().1;
    let mut stored = Stored::new();
    for line in text.lines() {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        let times = json["timestamps"].as_array().unwrap().iter().map(|t| t.as_i64().unwrap());
        stored.entry(key(&json["metric"])).or_default().extend(times);
    }
    for times in stored.values_mut() {
        // The export is by storage block; that each block is sorted is VictoriaMetrics' own doing.
        times.sort_unstable();
    }
    stored
}

fn assert_nothing_lost(receiver: &str, stored: &Stored) -> usize {
    let up = stored.iter().find(|(key, _)| key.contains("\"__name__\":\"up\"")).expect("there is `up`").1;
    let ticks: BTreeSet<i64> = up.iter().copied().collect();
    assert_eq!(ticks.len(), up.len(), "{receiver}: duplicate times in {up:?}");
    let (first, last) = (up[0], up[up.len() - 1]);
    let expected = usize::try_from((last - first + TICK_MS / 2) / TICK_MS).unwrap() + 1;
    assert!(expected >= 55, "{receiver}: a minute of ticks, not {expected}");
    assert!(expected - ticks.len() <= 1, "{receiver}: {} of {expected} ticks: {up:?}", ticks.len());
    let mut whole = 0;
    for (series, times) in stored {
        let unique: BTreeSet<i64> = times.iter().copied().collect();
        assert_eq!(unique.len(), times.len(), "{receiver}: {series} has a time twice: {times:?}");
        let lifetime = *unique.first().unwrap()..=*unique.last().unwrap();
        let wanted: BTreeSet<i64> = ticks.range(lifetime).copied().collect();
        assert_eq!(unique, wanted, "{receiver}: {series}");
        whole += usize::from(unique == ticks);
    }
    whole
}

#[test]
fn nothing_is_lost_while_a_receiver_is_down_and_the_collector_is_killed() {
    let name = "nothing_is_lost_while_a_receiver_is_down_and_the_collector_is_killed";
    let Some(prometheus) = program_or_skip(name, &["prometheus"]) else { return };
    let Some(victoria) = program_or_skip(name, &["victoria-metrics", "victoria-metrics-prod"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (prometheus_port, victoria_port, port) = (free_port(), free_port(), free_port());
    let mut prometheus_process = start_prometheus(&prometheus, prometheus_port, folder.path());
    let _victoria = start_victoria(&victoria, victoria_port, folder.path());
    let file = folder.path().join("c.yml");
    let config = format!(
        "global: {{scrape_interval: 1s}}\nremote_write:\n  \
         - {{url: 'http://127.0.0.1:{prometheus_port}/api/v1/write', name: prometheus}}\n  \
         - {{url: 'http://127.0.0.1:{victoria_port}/api/v1/write', name: victoria}}\n"
    );
    std::fs::write(&file, config).unwrap();
    let flag = format!("--config.file={}", file.display());
    let second = Duration::from_secs(1);

    // Without the probes: they load beside the first ticks, which may lack their series.
    let mut collector = Collector::start(port, folder.path(), &[&flag, "--no-ebpf"]);
    std::thread::sleep(15 * second);
    prometheus_process.terminate(30 * second).expect("prometheus ends");
    std::thread::sleep(10 * second);
    collector.process.kill();
    let mut collector = Collector::start(port, folder.path(), &[&flag, "--no-ebpf"]);
    std::thread::sleep(10 * second);
    let _prometheus = start_prometheus(&prometheus, prometheus_port, folder.path());
    std::thread::sleep(26 * second);
    let drained = || {
        let page = collector.metrics();
        let pending =
            |name| page.value("prometheus_remote_storage_samples_pending", &[("remote_name", name)]);
        pending("prometheus").is_some_and(|n| n < 1000.0) && pending("victoria").is_some_and(|n| n < 1000.0)
    };
    assert!(wait_for(20 * second, drained), "{}", collector.process.log());
    let status = collector.process.terminate(10 * second).expect("the collector ends");
    assert_eq!(status.code(), Some(0));
    for (receiver, stored) in
        [("prometheus", in_prometheus(prometheus_port)), ("victoria", in_victoria(victoria_port))]
    {
        let whole = assert_nothing_lost(receiver, &stored);
        println!("{receiver}: {} series, {whole} of them at every tick", stored.len());
        assert!(whole > 300, "{receiver}: only {whole} series lived through");
    }
}
