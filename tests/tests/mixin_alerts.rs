//! The alerts of Prometheus' own mixin about remote write, with the expressions that it has for them, over the metrics of
//! a collector whose endpoints are well, refusing, and down: each fires for the one that it is for.

use std::collections::BTreeSet;
use std::time::Duration;

use collector_tests::process::{Collector, Process, free_port, get, wait_for};
use collector_tests::receiver::{Answer, Receiver};
use collector_tests::skip::program_or_skip;

const LONG: Duration = Duration::from_secs(60);

/// Name, expression, and the endpoints for which it fires.
const ALERTS: [(&str, &str, &[&str]); 3] = [
    (
        "PrometheusRemoteStorageFailures",
        "((rate(prometheus_remote_storage_failed_samples_total[5m]) or rate(prometheus_remote_storage_samples_failed_total[5m])) \
         / ((rate(prometheus_remote_storage_failed_samples_total[5m]) or rate(prometheus_remote_storage_samples_failed_total[5m])) \
         + (rate(prometheus_remote_storage_succeeded_samples_total[5m]) or rate(prometheus_remote_storage_samples_total[5m])))) \
         * 100 > 1",
        &["refusing"],
    ),
    (
        "PrometheusRemoteWriteBehind",
        "(max_over_time(prometheus_remote_storage_queue_highest_timestamp_seconds[5m]) \
         - max_over_time(prometheus_remote_storage_queue_highest_sent_timestamp_seconds[5m])) > 120",
        &["down", "refusing"],
    ),
    // The one of before Prometheus 3.7.
    (
        "PrometheusRemoteWriteBehind, older",
        "(max_over_time(prometheus_remote_storage_highest_timestamp_in_seconds[5m]) - ignoring(remote_name, url) group_right \
         max_over_time(prometheus_remote_storage_queue_highest_sent_timestamp_seconds[5m])) > 120",
        &["down", "refusing"],
    ),
];

/// Both sides of PrometheusRemoteWriteDesiredShards, which asks whether the first is more.
const SHARDS: [&str; 2] =
    ["prometheus_remote_storage_shards_desired", "prometheus_remote_storage_shards_max"];

/// The endpoints in the result of an instant query.
fn fires(port: u16, expression: &str) -> BTreeSet<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.".contains(&byte);
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    let escaped: String = expression.bytes().map(escape).collect();
    let (status, text) = get(&format!("http://127.0.0.1:{port}/api/v1/query?query={escaped}")).unwrap();
    assert_eq!(status, 200, "{expression}: {text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let found = json["data"]["result"].as_array().unwrap().iter();
    found.map(|series| series["metric"]["remote_name"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_alerts_about_remote_write_fire_for_whom_they_should() {
    let name = "the_alerts_about_remote_write_fire_for_whom_they_should";
    let Some(program) = program_or_skip(name, &["prometheus"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (well, refusing, down) = (Receiver::start(), Receiver::start(), Receiver::start());
    refusing.answer(Answer::Status(400, Vec::new(), "no".into()));
    down.answer(Answer::Status(503, Vec::new(), "no".into()));
    let endpoint =
        |name: &str, receiver: &Receiver| format!("  - {{url: '{}', name: {name}}}\n", receiver.url());
    let endpoints = endpoint("well", &well) + &endpoint("refusing", &refusing) + &endpoint("down", &down);
    let file = folder.path().join("c.yml");
    std::fs::write(&file, format!("global: {{scrape_interval: 500ms}}\nremote_write:\n{endpoints}")).unwrap();
    let flag = format!("--config.file={}", file.display());
    let collector = Collector::start(free_port(), folder.path(), &[&flag, "--no-ebpf"]);

    let (port, config) = (free_port(), folder.path().join("prometheus.yml"));
    let job =
        format!("{{job_name: collector, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}", collector.port);
    std::fs::write(&config, format!("global: {{scrape_interval: 1s}}\nscrape_configs: [{job}]\n")).unwrap();
    let arguments = [
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", folder.path().join("prometheus").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let prometheus = Process::start(&program, &arguments, &folder.path().join("prometheus.log"));
    let ready = || get(&format!("http://127.0.0.1:{port}/-/ready")).is_some_and(|answer| answer.0 == 200);
    assert!(wait_for(LONG, ready), "{}", prometheus.log());

    for (alert, expression, expected) in ALERTS {
        let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        let is_so = || fires(port, expression) == expected;
        assert!(wait_for(LONG, is_so), "{alert} fires for {:?}", fires(port, expression));
    }
    let all = BTreeSet::from(["down", "refusing", "well"].map(str::to_owned));
    assert_eq!(SHARDS.map(|side| fires(port, side)), [all.clone(), all]);
    let wants_more = format!("max_over_time({}[5m]) > max_over_time({}[5m])", SHARDS[0], SHARDS[1]);
    assert_eq!(fires(port, &wants_more), BTreeSet::new(), "one at once is enough for them");
}
