//! The whole way of scraped samples, with the real binary: targets that die, return, change and misbehave, and what
//! arrives of them.

use std::io::Write as _;
use std::time::Duration;

use collector_tests::process::{Collector, free_port, get, post, wait_for};
use collector_tests::receiver::{Point, Receiver};
use collector_tests::target::{Manner, Target};

const LONG: Duration = Duration::from_secs(30);
/// Prometheus' stale marker.
const STALE: u64 = 0x7ff0_0000_0000_0002;

struct Rig {
    collector: Collector,
    receiver: Receiver,
    folder: tempfile::TempDir,
}

impl Rig {
    /// Scrapes these targets, with `more` among the keys of the job.
    fn start(targets: &[&Target], more: &str) -> Self {
        let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config(&receiver, targets, more)).unwrap();
        let config = format!("--config.file={}", file.display());
        let flags = ["--collector.disable-defaults", "--web.disable-exporter-metrics", "--no-ebpf"];
        let arguments = [&[config.as_str()], &flags[..]].concat();
        let collector = Collector::start(free_port(), folder.path(), &arguments);
        Rig { collector, receiver, folder }
    }

    fn reload(&self, targets: &[&Target], more: &str) {
        let file = self.folder.path().join("prometheus.yml");
        std::fs::write(file, config(&self.receiver, targets, more)).unwrap();
        assert_eq!(
            post(&self.collector.url("/-/reload")).unwrap().0,
            200,
            "{}",
            self.collector.process.log()
        );
    }

    /// What came of a series of a target: its name, or its name and a label, as in `a|x="y"`.
    fn points(&self, target: &Target, series: &str) -> Vec<Point> {
        let (name, label) = series.split_once('|').unwrap_or((series, ""));
        let instance = format!("instance={:?}", target.address());
        self.receiver.look(|taken| {
            assert_eq!(taken.faults, Vec::<String>::new());
            let is_it = |key: &str| {
                key.split('{').next() == Some(name) && key.contains(&instance) && key.contains(label)
            };
            let found = taken.series.iter().filter(|(key, _)| is_it(key));
            found.flat_map(|(_, points)| points.clone()).collect()
        })
    }

    fn values(&self, target: &Target, series: &str) -> Vec<f64> {
        self.points(target, series).iter().map(|point| f64::from_bits(point.1)).collect()
    }

    /// Waits until the newest value of a series is this one.
    fn wait_value(&self, target: &Target, series: &str, value: f64) {
        let is_so = || self.points(target, series).last().is_some_and(|point| point.1 == value.to_bits());
        assert!(
            wait_for(LONG, is_so),
            "{series} of {} is not {value}: {:?}\n{}",
            target.address(),
            self.values(target, series),
            self.collector.process.log()
        );
    }

    fn wait_stale(&self, target: &Target, series: &str) {
        self.wait_value(target, series, f64::from_bits(STALE));
    }

    /// What `/api/v1/targets` says of a target: health, and the last error.
    fn health(&self, target: &Target) -> (String, String) {
        let (status, body) = get(&self.collector.url("/api/v1/targets?state=active")).unwrap();
        assert_eq!(status, 200, "{body}");
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        let all = answer["data"]["activeTargets"].as_array().unwrap();
        let one = all.iter().find(|one| one["labels"]["instance"] == target.address()).unwrap();
        (one["health"].as_str().unwrap().to_owned(), one["lastError"].as_str().unwrap().to_owned())
    }
}

fn config(receiver: &Receiver, targets: &[&Target], more: &str) -> String {
    let targets: Vec<String> = targets.iter().map(|target| format!("'{}'", target.address())).collect();
    format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nhost: {{scrape_interval: 1h}}\n\
         remote_write: [{{url: '{}'}}]\nscrape_configs:\n- job_name: test\n  {more}\n  \
         static_configs: [{{targets: [{}]}}]\n",
        receiver.url(),
        targets.join(", ")
    )
}

#[test]
fn a_target_dies_and_returns() {
    let (target, other) = (Target::page("a 1\nb{x=\"y\"} 2.5\n"), Target::page("c 3\n"));
    let rig = Rig::start(&[&target, &other], "");
    rig.wait_value(&target, "up", 1.0);
    rig.wait_value(&target, "b", 2.5);
    assert_eq!(rig.values(&target, "scrape_samples_scraped").last(), Some(&2.0));
    assert_eq!(rig.values(&target, "scrape_series_added").first(), Some(&2.0));
    target.become_so(Manner::Dead);
    rig.wait_value(&target, "up", 0.0);
    rig.wait_stale(&target, "a");
    rig.wait_stale(&target, "b");
    target.show("a 7\n");
    rig.wait_value(&target, "a", 7.0);
    rig.wait_value(&target, "up", 1.0);
    let a = rig.points(&target, "a");
    let marks = a.iter().filter(|point| point.1 == STALE).count();
    assert_eq!(marks, 1, "one marker an end: {a:?}");
    let up = rig.points(&other, "up");
    assert!(up.iter().all(|point| f64::from_bits(point.1) == 1.0), "{up:?}");
    assert!(up.windows(2).all(|pair| pair[0].0 < pair[1].0), "{up:?}");
}

#[test]
fn series_that_go_end_and_those_that_come_begin() {
    let target = Target::page("a{v=\"1\"} 1\nkept 1\n");
    let rig = Rig::start(&[&target], "");
    rig.wait_value(&target, "a|v=\"1\"", 1.0);
    target.show("a{v=\"2\"} 2\nkept 1\n");
    rig.wait_value(&target, "a|v=\"2\"", 2.0);
    rig.wait_stale(&target, "a|v=\"1\"");
    assert!(rig.values(&target, "kept").iter().all(|&value| value == 1.0));
    // The target keeps a time of its own: such a series is not ended, for it may be late.
    target.show("timed 5 1700000000000\n");
    rig.wait_value(&target, "timed", 5.0);
    rig.wait_stale(&target, "kept");
    assert!(rig.points(&target, "timed").iter().all(|point| point.0 == 1_700_000_000_000));
}

#[test]
fn targets_that_misbehave_are_down_and_touch_nobody() {
    let good = Target::page("a 1\n");
    let bomb = gzip(&vec![b'\n'; 200 << 20]);
    let bad = [
        (Target::start(Manner::Hangs), "no whole answer within 200ms"),
        (Target::start(Manner::Drips), "no whole answer within 200ms"),
        (Target::start(Manner::Endless), ""),
        (Target::start(Manner::Gzip(bomb)), "body size limit exceeded"),
        (Target::start(Manner::Status(503)), "server returned HTTP status 503"),
        (Target::start(Manner::Dead), "closed the connection"),
        (Target::start(Manner::Bytes(b"a{x=\"\xff\xfe\"} 1\n".to_vec())), "line 1"),
        (Target::page("a 1\na{ 2\n"), "line 2"),
        (Target::start(Manner::Typed("text/html".into(), b"<html>".to_vec())), "Content-Type"),
        (Target::page(&format!("a{{x=\"{}\"}} 1\n", "y".repeat(10 << 20))), "body size limit exceeded"),
    ];
    let all: Vec<&Target> = std::iter::once(&good).chain(bad.iter().map(|(target, _)| target)).collect();
    let rig = Rig::start(&all, "body_size_limit: 5MB");
    for (target, expected) in &bad {
        rig.wait_value(target, "up", 0.0);
        // On a busy machine a scrape may run out of time before it meets what is wrong.
        let says = || rig.health(target).0 == "down" && rig.health(target).1.contains(expected);
        assert!(wait_for(LONG, says), "{:?} does not say {expected:?}", rig.health(target));
        assert_eq!(rig.points(target, "a"), [], "{expected}");
    }
    rig.wait_value(&good, "a", 1.0);
    assert_eq!(rig.health(&good), ("up".to_owned(), String::new()));
    assert!(rig.values(&good, "up").iter().all(|&value| value == 1.0));
    let (status, page) = get(&rig.collector.url("/targets")).unwrap();
    assert!(status == 200 && page.contains("1 of 11 up"), "{page}");
    let url = format!("/targets/raw?scrapePool=test&url=http://{}/metrics", good.address());
    assert_eq!(get(&rig.collector.url(&url)), Some((200, "a 1\n".to_owned())));
    let other = "/targets/raw?scrapePool=test&url=http://127.0.0.1:1/metrics";
    assert_eq!(get(&rig.collector.url(other)).unwrap().0, 404, "only targets may be asked");
}

#[test]
fn odd_values_arrive_as_they_are() {
    let page = "nan NaN\ninf +Inf\nneg -Inf\nzero -0\nlong 5.0229008e+07\ntiny 4.9e-324\ntwice 1\ntwice 2\n";
    let target = Target::page(page);
    let rig = Rig::start(&[&target], "");
    rig.wait_value(&target, "tiny", 4.9e-324);
    let bits = |series: &str| rig.points(&target, series)[0].1;
    assert_eq!(bits("nan"), 0x7ff8_0000_0000_0001, "a NaN that no stale marker can be taken for");
    assert_eq!(bits("inf"), f64::INFINITY.to_bits());
    assert_eq!(bits("neg"), f64::NEG_INFINITY.to_bits());
    assert_eq!(bits("zero"), (-0.0_f64).to_bits());
    assert_eq!(bits("long"), 50_229_008.0_f64.to_bits());
    assert!(rig.values(&target, "twice").iter().all(|&value| value == 1.0), "the first of a scrape counts");
    assert_eq!(rig.values(&target, "up")[0], 1.0);
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_target_that_is_taken_away_ends_and_a_shutdown_ends_nothing() {
    let (goes, stays) = (Target::page("a 1\n"), Target::page("b 2\n"));
    let mut rig = Rig::start(&[&goes, &stays], "");
    rig.wait_value(&goes, "a", 1.0);
    rig.wait_value(&stays, "b", 2.0);
    rig.reload(&[&stays], "");
    rig.wait_stale(&goes, "a");
    rig.wait_stale(&goes, "up");
    rig.wait_stale(&goes, "scrape_duration_seconds");
    let status = rig.collector.process.terminate(LONG).unwrap();
    assert!(status.success(), "{}", rig.collector.process.log());
    for series in ["b", "up"] {
        assert!(rig.points(&stays, series).iter().all(|point| point.1 != STALE), "{series}");
    }
}
