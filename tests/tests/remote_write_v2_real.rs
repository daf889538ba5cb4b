//! Remote write against a Prometheus 3, which knows 2.0, native histograms, starts of counting and names of any character.
//!
//! Distributions carry none yet, so this runs only where a `prometheus3` is on the PATH or
//! `COLLECTOR_TEST_PROMETHEUS3` names one, and says nothing otherwise.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use collector_tests::process::{Collector, Process, free_port, get, wait_for};
use collector_tests::target::{Manner, Target};

const LONG: Duration = Duration::from_secs(30);
const HISTOGRAM: &str = "collector_runqueue_latency_seconds";

fn prometheus3() -> Option<PathBuf> {
    let named = std::env::var_os("COLLECTOR_TEST_PROMETHEUS3").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    named.or_else(|| {
        std::env::split_paths(&path).map(|folder| folder.join("prometheus3")).find(|file| file.is_file())
    })
}

const FEATURES: &str = "--enable-feature=native-histograms,metadata-wal-records,exemplar-storage,created-timestamp-zero-ingestion";

fn start(program: &Path, port: u16, folder: &Path) -> Process {
    let config = folder.join("prometheus.yml");
    std::fs::write(&config, "global: {}\n").unwrap();
    let arguments = [
        "--web.enable-remote-write-receiver".to_owned(),
        FEATURES.to_owned(),
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", folder.join("prometheus").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let process = Process::start(program, &arguments, &folder.join("prometheus.log"));
    let ready = || get(&format!("http://127.0.0.1:{port}/-/ready")).is_some_and(|answer| answer.0 == 200);
    assert!(wait_for(LONG, ready), "{}", process.log());
    process
}

/// The result of an instant query; the expression holds no character that a URL may not.
fn query(port: u16, expression: &str) -> Vec<serde_json::Value> {
    let url = format!("http://127.0.0.1:{port}/api/v1/query?query={expression}");
    let (status, text) = get(&url).unwrap();
    assert_eq!(status, 200, "{expression}: {text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["data"]["result"].as_array().unwrap().clone()
}

/// `name{label}` of every series of the job, without the labels that pushing adds.
fn stored(port: u16) -> BTreeSet<String> {
    let of_one = |series: serde_json::Value| {
        let labels = series["metric"].as_object().unwrap().iter();
        let texts = labels.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
        let mut labels: std::collections::BTreeMap<String, String> = texts.collect();
        let name = labels.remove("__name__").unwrap();
        labels.retain(|label, _| label != "job" && label != "instance");
        format!("{name}{labels:?}")
    };
    query(port, "%7Bjob%3D%22node%22%7D").into_iter().map(of_one).collect()
}

/// What the page has and pushing gives as it is: without empty labels, and without the classic form of histograms that
/// came natively.
fn on_page(collector: &Collector, stored: &BTreeSet<String>) -> BTreeSet<String> {
    let names: BTreeSet<&str> = stored.iter().filter_map(|series| series.split('{').next()).collect();
    let is_native = |name: &str| {
        let families = ["_bucket", "_sum", "_count"].iter().filter_map(|end| name.strip_suffix(end));
        families.into_iter().any(|family| names.contains(family))
    };
    let mut page = collector.metrics();
    page.samples.retain(|sample| !is_native(&sample.name));
    for sample in &mut page.samples {
        sample.labels.retain(|_, value| !value.is_empty());
    }
    page.series().into_iter().collect()
}

fn number(value: &serde_json::Value) -> f64 {
    value.as_str().unwrap().parse().unwrap()
}

/// The native histogram lies between what two pages, one before and one after it, say at every bound.
fn assert_histogram_agrees(collector: &Collector, port: u16) {
    let before = collector.metrics();
    let earlier = before.value(&format!("{HISTOGRAM}_count"), &[]).unwrap();
    let native = || query(port, HISTOGRAM).first().map(|series| series["histogram"][1].clone());
    let caught_up = || native().is_some_and(|native| number(&native["count"]) > earlier);
    assert!(wait_for(LONG, caught_up), "the histogram does not grow");
    let native = native().unwrap();
    let after = collector.metrics();
    let buckets: Vec<[f64; 3]> = native["buckets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bucket| [number(&bucket[1]), number(&bucket[2]), number(&bucket[3])])
        .collect();
    let bucket = format!("{HISTOGRAM}_bucket");
    for sample in before.samples.iter().filter(|sample| sample.name == bucket) {
        let bound = sample.labels["le"].parse().unwrap_or(f64::INFINITY);
        let surely: f64 = buckets.iter().filter(|b| b[1] <= bound).map(|b| b[2]).sum();
        let at_most: f64 = buckets.iter().filter(|b| b[0] < bound).map(|b| b[2]).sum();
        let later = after.value(&bucket, &[("le", &sample.labels["le"])]).unwrap();
        assert!(
            sample.value <= at_most && surely <= later,
            "le {bound}: {sample:?} {surely} {at_most} {later}"
        );
    }
    let sum = number(&native["sum"]);
    let of = |page: &collector_tests::exposition::Page| page.value(&format!("{HISTOGRAM}_sum"), &[]).unwrap();
    assert!(of(&before) <= sum && sum <= of(&after), "{} {sum} {}", of(&before), of(&after));
    let median = query(port, &format!("histogram_quantile(0.5,{HISTOGRAM})"));
    assert!(number(&median[0]["value"][1]) > 0.0, "{median:?}");
}

fn check(keys: &str) {
    let Some(program) = prometheus3() else { return };
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let prometheus = start(&program, port, folder.path());
    let file = folder.path().join("c.yml");
    let url = format!("http://127.0.0.1:{port}/api/v1/write");
    let config =
        format!("global: {{scrape_interval: 1s}}\nremote_write:\n  - {{url: '{url}', name: p, {keys}}}\n");
    std::fs::write(&file, config).unwrap();
    let flag = format!("--config.file={}", file.display());
    let collector = Collector::start(free_port(), folder.path(), &[&flag]);
    assert!(wait_for(LONG, || stored(port).contains("up{}")), "{}", collector.process.log());
    let missing = || {
        let stored = stored(port);
        on_page(&collector, &stored).difference(&stored).cloned().collect::<Vec<_>>()
    };
    assert!(wait_for(LONG, || missing().is_empty()), "not stored: {:?}", missing());
    if collector.metrics().value("collector_ebpf_probe_up", &[("probe", "runqueue")]) == Some(1.0) {
        assert_histogram_agrees(&collector, port);
    }
    let page = collector.metrics();
    for counter in ["samples_failed_total", "samples_retried_total"] {
        assert_eq!(page.value(&format!("prometheus_remote_storage_{counter}"), &[]), Some(0.0), "{counter}");
    }
    let log = collector.process.log();
    assert!(!log.contains("level=WARN") && !log.contains("sending 1.0"), "{log}");
    let log = prometheus.log();
    // A feature that a later version has anyway is said to be none.
    let complains = |line: &str| line.contains("level=WARN") && !line.contains("no-op");
    assert!(!log.lines().any(|line| complains(line) || line.contains("level=ERROR")), "{log}");
}

#[test]
fn remote_write_2_0_arrives_whole() {
    check("protobuf_message: io.prometheus.write.v2.Request");
}

#[test]
fn native_histograms_arrive_by_1_0_too() {
    check("send_native_histograms: true");
}

#[test]
fn starts_exemplars_custom_buckets_and_any_name_arrive_by_2_0() {
    let Some(program) = prometheus3() else { return };
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let _prometheus = start(&program, port, folder.path());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let (start, seen) = (now - 60, now - 5);
    let page = format!(
        "# TYPE hits counter\nhits_total 7 # {{trace_id=\"abc\"}} 0.5 {seen}.25\nhits_created {start}.125\n\
         # TYPE latency histogram\nlatency_bucket{{le=\"0.3\"}} 1\nlatency_bucket{{le=\"2.0\"}} 3\n\
         latency_bucket{{le=\"+Inf\"}} 4\nlatency_count 4\nlatency_sum 7.5\n\
         # TYPE \"http.requests\" gauge\n{{\"http.requests\",\"service.name\"=\"shop\"}} 9\n# EOF\n"
    );
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let target = Target::start(Manner::Typed(kind.into(), page.into_bytes()));
    let config = format!(
        "global: {{scrape_interval: 1s}}\nhost: {{scrape_interval: 1h}}\nremote_write:\n  \
         - {{url: 'http://127.0.0.1:{port}/api/v1/write', name: p, send_exemplars: true, \
         protobuf_message: io.prometheus.write.v2.Request}}\nscrape_configs:\n  \
         - {{job_name: t, convert_classic_histograms_to_nhcb: true, static_configs: [{{targets: ['{}']}}]}}\n",
        target.address()
    );
    let file = folder.path().join("c.yml");
    std::fs::write(&file, config).unwrap();
    let flag = format!("--config.file={}", file.display());
    let collector = Collector::start(free_port(), folder.path(), &[&flag, "--no-ebpf"]);
    assert!(wait_for(LONG, || !query(port, "hits_total").is_empty()), "{}", collector.process.log());

    // The receiver puts a zero where the counting began.
    let points = query(port, "hits_total%5B5m%5D");
    let first = &points[0]["values"][0];
    assert_eq!((first[0].as_f64(), first[1].as_str()), (Some(start as f64 + 0.125), Some("0")), "{points:?}");
    let url = format!(
        "http://127.0.0.1:{port}/api/v1/query_exemplars?query=hits_total&start={start}&end={}",
        now + 60
    );
    let exemplars: serde_json::Value = serde_json::from_str(&get(&url).unwrap().1).unwrap();
    let all = exemplars["data"][0]["exemplars"].as_array().unwrap();
    assert_eq!((all.len(), &all[0]["labels"]["trace_id"]), (1, &"abc".into()), "{exemplars}");
    assert_eq!(all[0]["timestamp"].as_f64(), Some(seen as f64 + 0.25));
    let of = |expression: &str| number(&query(port, expression)[0]["value"][1]);
    assert_eq!((of("histogram_count(latency)"), of("histogram_sum(latency)")), (4.0, 7.5));
    assert_eq!(of("histogram_fraction(0.3,2,latency)"), 0.5, "the bounds are the target's own");
    assert_eq!(of("%7B%22http.requests%22,%22service.name%22%3D%22shop%22%7D"), 9.0);
    let page = collector.metrics();
    for counter in ["samples_failed_total", "histograms_failed_total", "exemplars_failed_total"] {
        assert_eq!(page.value(&format!("prometheus_remote_storage_{counter}"), &[]), Some(0.0), "{counter}");
    }
}
