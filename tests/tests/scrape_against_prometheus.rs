//! The same targets scraped by Debian's Prometheus in agent mode and by us: the same series, the same values, the same
//! ends arrive in a receiver.
//!
//! The two never scrape at the same moment, so the pages go through stages, each of which both have seen before the
//! next begins; what is compared is the course of each series: its values, repeats left out. `COLLECTOR_SCRAPE_STAGES` says
//! how many stages there are; three hundred take some five minutes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use collector_tests::process::{Collector, Process, free_port, wait_for};
use collector_tests::receiver::Receiver;
use collector_tests::skip::program_or_skip;
use collector_tests::target::{Manner, Target};

const LONG: Duration = Duration::from_secs(60);
const STALE: u64 = 0x7ff0_0000_0000_0002;
/// What takes its value from the moment, not from the page.
const OF_THE_MOMENT: &[&str] = &["scrape_duration_seconds", "scrape_series_added"];

/// A page like one that an exporter gives, awkward in places; it says itself which stage it is.
fn page(stage: usize) -> String {
    let mut page = format!(
        "# HELP stage Which page this is.\n# TYPE stage gauge\nstage {stage}\n\
         # TYPE requests_total counter\nrequests_total{{code=\"200\",path=\"/a\\\"b\\\\c\\n\"}} {}\n\
         requests_total{{code=\"500\",job=\"own\",instance=\"mine\"}} {}.5\n\
         # TYPE latency histogram\nlatency_bucket{{le=\"0.1\"}} {stage}\nlatency_bucket{{le=\"+Inf\"}} {}\n\
         latency_sum 1.25e-3\nlatency_count {}\n\
         # TYPE size summary\nsize{{quantile=\"0.5\"}} NaN\nsize_sum +Inf\nsize_count 0\n\
         empty{{a=\"\",b=\"x\"}} -0\nspaced{{a=\"b\",}}   7\nno_type 5.0229008e+07\n",
        stage * 3,
        stage,
        stage + 1,
        stage + 1,
    );
    // Series that come and go, and labels that change.
    if stage.is_multiple_of(2) {
        page += "even 1\n";
    }
    page += &format!("turns{{at=\"{}\"}} 1\n", stage % 3);
    page
}

/// The course of every series: its values in order, without repeats.
fn courses(receiver: &Receiver) -> BTreeMap<String, Vec<u64>> {
    receiver.look(|taken| {
        assert_eq!(taken.faults, Vec::<String>::new());
        let mut all = BTreeMap::new();
        for (key, points) in &taken.series {
            let name = key.split('{').next().unwrap_or_default();
            if OF_THE_MOMENT.contains(&name) || !key.contains("zone=\"z\"") {
                continue;
            }
            let mut points = points.clone();
            points.sort_by_key(|point| point.0);
            // Prometheus' protobuf leaves out what equals zero, and with it the sign of a negative one.
            let plain = |bits: u64| if f64::from_bits(bits) == 0.0 { 0 } else { bits };
            let mut values: Vec<u64> = points.iter().map(|point| plain(point.1)).collect();
            values.dedup();
            all.insert(key.clone(), values);
        }
        all
    })
}

/// Whether the newest sample of a series of the target is this one.
fn shows(receiver: &Receiver, target: &Target, name: &str, value: f64) -> bool {
    let instance = format!("instance={:?}", target.address());
    receiver.look(|taken| {
        let mut of_it = taken
            .series
            .iter()
            .filter(|(key, _)| key.split('{').next() == Some(name) && key.contains(&instance));
        of_it.any(|(_, points)| points.iter().max_by_key(|p| p.0).is_some_and(|p| p.1 == value.to_bits()))
    })
}

fn config(path: &Path, receiver: &Receiver, targets: &[&Target]) -> String {
    let addresses: Vec<String> = targets.iter().map(|target| format!("'{}'", target.address())).collect();
    let text = format!(
        "global: {{scrape_interval: 250ms, scrape_timeout: 250ms}}\n\
         remote_write: [{{url: '{}', queue_config: {{batch_send_deadline: 100ms}}}}]\n\
         scrape_configs:\n- job_name: test\n  static_configs: [{{targets: [{}], labels: {{zone: z}}}}]\n  \
         metric_relabel_configs: [{{source_labels: [code], regex: '(.)..', target_label: class, \
         replacement: '${{1}}xx'}}]\n",
        receiver.url(),
        addresses.join(", ")
    );
    std::fs::write(path, text).unwrap();
    path.display().to_string()
}

#[test]
fn what_prometheus_sends_we_send() {
    let Some(program) = program_or_skip("what_prometheus_sends_we_send", &["prometheus"]) else { return };
    let stages =
        std::env::var("COLLECTOR_SCRAPE_STAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Receiver::start(), Receiver::start());
    let (steady, dies) = (Target::page(&page(0)), Target::page(&page(0)));
    let targets = [&steady, &dies];
    let file = config(&folder.path().join("theirs.yml"), &theirs, &targets);
    let arguments = [
        "--enable-feature=agent".to_owned(),
        format!("--config.file={file}"),
        format!("--storage.agent.path={}", folder.path().join("agent").display()),
        format!("--web.listen-address=127.0.0.1:{}", free_port()),
    ];
    let peer = Process::start(&program, &arguments, &folder.path().join("theirs.log"));
    let file = config(&folder.path().join("ours.yml"), &ours, &targets);
    let config = format!("--config.file={file}");
    let flags = [config.as_str(), "--collector.disable-defaults", "--no-ebpf"];
    let collector = Collector::start(free_port(), folder.path(), &flags);
    let both = |target: &Target, name: &str, value: f64| {
        let is_so = || shows(&ours, target, name, value) && shows(&theirs, target, name, value);
        let logs = || format!("{}\n{}", collector.process.log(), peer.log());
        assert!(wait_for(LONG, is_so), "{name} is not {value} on both sides\n{}", logs());
    };
    for stage in 0..stages {
        steady.show(&page(stage));
        if stage % 4 == 2 {
            dies.become_so(Manner::Dead);
            both(&dies, "up", 0.0);
            both(&dies, "stage", f64::from_bits(STALE));
        } else {
            dies.show(&page(stage));
            both(&dies, "stage", stage as f64);
        }
        both(&steady, "stage", stage as f64);
        // What ends with a stage has its marker before the next one brings it back.
        let ended = format!("turns of stage {}", stage % 3);
        let markers = || marked(&ours) && marked(&theirs);
        assert!(wait_for(LONG, markers), "{ended}");
    }
    let (ours, theirs) = (courses(&ours), courses(&theirs));
    let keys = |of: &BTreeMap<String, Vec<u64>>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&ours), keys(&theirs));
    for (key, values) in &ours {
        assert_eq!(values, &theirs[key], "{key}");
    }
}

/// Whether, of each target, at most one of the series that take turns goes on.
fn marked(receiver: &Receiver) -> bool {
    receiver.look(|taken| {
        let mut alive: BTreeMap<&str, usize> = BTreeMap::new();
        for (key, points) in taken.series.iter().filter(|(key, _)| key.starts_with("turns{")) {
            let newest = points.iter().max_by_key(|point| point.0);
            let instance = key.split("instance=").nth(1).and_then(|rest| rest.split(',').next());
            if newest.is_some_and(|point| point.1 != STALE) {
                *alive.entry(instance.unwrap_or_default()).or_default() += 1;
            }
        }
        alive.values().all(|&count| count <= 1)
    })
}
