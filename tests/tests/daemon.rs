//! The binary as a person meets it: flags, pages, health, reload, exit statuses.

use std::process::Command;
use std::time::Duration;

use collector_tests::process::{Collector, collector_binary, free_port, get, post, wait_for};
use collector_tests::receiver::Receiver;

fn output(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(collector_binary()).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn command_line_faults_end_with_status_1_and_a_message() {
    let (status, _, error) = output(&["--nope"]);
    assert_eq!(
        (status, error.as_str()),
        (Some(1), "collector: error: unknown long flag '--nope', try --help\n")
    );
    let (status, text, _) = output(&["--help"]);
    assert_eq!(status, Some(0));
    assert!(text.contains("--web.listen-address=:9100"), "{text}");
    let (status, text, _) = output(&["--version"]);
    assert_eq!((status, text.starts_with("collector, version ")), (Some(0), true));
}

#[test]
fn check_names_the_line_and_the_nearest_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.yml");
    std::fs::write(&file, "remote_write:\n  - ulr: http://127.0.0.1:1/\n").unwrap();
    let (status, _, error) = output(&["check", file.to_str().unwrap()]);
    assert_eq!(status, Some(1));
    assert!(
        error.contains("c.yml:2:5: ") && error.contains("unknown key `ulr`; did you mean `url`?"),
        "{error}"
    );
    std::fs::write(&file, "remote_write:\n  - url: http://127.0.0.1:1/\n").unwrap();
    assert_eq!(output(&["check", file.to_str().unwrap()]).0, Some(0));
}

#[test]
fn a_page_has_what_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(free_port(), folder.path(), &[]);
    let page = collector.metrics();
    for (name, labels) in [
        ("node_load1", &[][..]),
        ("node_memory_MemTotal_bytes", &[]),
        ("node_scrape_collector_success", &[("collector", "meminfo")]),
        ("process_resident_memory_bytes", &[]),
        ("node_exporter_build_info", &[]),
    ] {
        assert!(page.value(name, labels).is_some(), "{name} is missing");
    }
    let names = |path: &str| {
        let page = collector_tests::exposition::parse(&get(&collector.url(path)).unwrap().1).unwrap();
        (page.value("node_load1", &[]).is_some(), page.value("node_memory_MemTotal_bytes", &[]).is_some())
    };
    assert_eq!(names("/metrics?collect[]=loadavg"), (true, false));
    assert_eq!(names("/metrics?exclude%5B%5D=loadavg"), (false, true));
    assert_eq!(get(&collector.url("/metrics?collect[]=a&exclude[]=b")).unwrap().0, 400);
    let (status, text) = get(&collector.url("/metrics?collect[]=nope")).unwrap();
    assert_eq!((status, text.contains("missing collector: nope")), (400, true));
    assert_eq!(get(&collector.url("/other")).unwrap().0, 404);
    assert!(get(&collector.url("/")).unwrap().1.contains("href=\"/metrics\""));
    assert_eq!(get(&collector.url("/-/healthy")).unwrap().0, 200);
    let address = format!("--web.listen-address=127.0.0.1:{}", collector.port);
    assert_eq!(output(&["health", &address]).0, Some(0));
    let nobody = format!("--web.listen-address=127.0.0.1:{}", free_port());
    assert_eq!(output(&["health", &nobody]).0, Some(1));
}

#[test]
fn the_exporters_own_metrics_can_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--web.disable-exporter-metrics", "--collector.disable-defaults", "--collector.loadavg"];
    let collector = Collector::start(free_port(), folder.path(), &flags);
    let page = collector.metrics();
    let families: Vec<&str> = page.types.keys().map(String::as_str).collect();
    let expected = [
        "node_load1",
        "node_load15",
        "node_load5",
        "node_scrape_collector_duration_seconds",
        "node_scrape_collector_success",
    ];
    assert_eq!(families, expected);
}

#[test]
fn a_taken_port_is_named() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let (status, _, error) = output(&[&format!("--web.listen-address={address}")]);
    assert_eq!(status, Some(1));
    assert!(error.contains(&format!("listen {address}: Address already in use")), "{error}");
}

#[test]
fn reload_takes_a_good_file_and_keeps_the_last_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Receiver::start(), Receiver::start());
    let file = folder.path().join("c.yml");
    let write = |url: &str| {
        let text = format!("global: {{scrape_interval: 200ms}}\nremote_write: [{{url: '{url}', name: r}}]\n");
        std::fs::write(&file, text).unwrap();
    };
    write(&first.url());
    let flag = format!("--config.file={}", file.display());
    let mut collector = Collector::start(free_port(), folder.path(), &[&flag]);
    let came = |receiver: &Receiver| receiver.look(|taken| taken.requests.len());
    assert!(wait_for(Duration::from_secs(10), || came(&first) > 0));

    std::fs::write(&file, "remote_write: [{url: nowhere}]\n").unwrap();
    let (status, text) = post(&collector.url("/-/reload")).unwrap();
    assert_eq!((status, text.contains("must begin with http://")), (500, true), "{text}");
    assert_eq!(collector.metrics().value("collector_config_last_reload_successful", &[]), Some(0.0));
    let before = came(&first);
    assert!(wait_for(Duration::from_secs(10), || came(&first) > before), "the last good one goes on");
    assert_eq!(get(&collector.url("/-/reload")).unwrap().0, 405);

    write(&second.url());
    collector.process.signal(libc::SIGHUP);
    assert!(wait_for(Duration::from_secs(10), || came(&second) > 0), "{}", collector.process.log());
    assert_eq!(collector.metrics().value("collector_config_last_reload_successful", &[]), Some(1.0));
    let status = collector.process.terminate(Duration::from_secs(10)).unwrap();
    assert_eq!(status.code(), Some(0), "SIGTERM ends with 0");
}

#[test]
fn a_text_file_that_repeats_a_collector_costs_only_its_own_sample() {
    let folder = tempfile::tempdir().unwrap();
    let texts = folder.path().join("texts");
    std::fs::create_dir(&texts).unwrap();
    std::fs::write(texts.join("mine.prom"), "# TYPE node_load1 gauge\nnode_load1 99999\nmine 7\n").unwrap();
    let receiver = Receiver::start();
    let file = folder.path().join("c.yml");
    let config = format!(
        "global: {{scrape_interval: 200ms}}\nremote_write: [{{url: '{}', name: r}}]\n",
        receiver.url()
    );
    std::fs::write(&file, config).unwrap();
    let flags = [
        format!("--config.file={}", file.display()),
        format!("--collector.textfile.directory={}", texts.display()),
    ];
    let collector = Collector::start(free_port(), folder.path(), &[&flags[0], &flags[1]]);
    let points = |name: &str| {
        receiver.look(|taken| {
            let found = taken.series.iter().find(|(series, _)| series.starts_with(name));
            found.map(|(_, points)| points.clone()).unwrap_or_default()
        })
    };
    assert!(wait_for(Duration::from_secs(10), || points("mine{").len() >= 3));
    let load = points("node_load1{");
    assert!(load.len() >= 3);
    assert!(load.windows(2).all(|pair| pair[0].0 < pair[1].0), "one sample a time: {load:?}");
    assert!(load.iter().all(|point| f64::from_bits(point.1) < 99_999.0), "the collector's own came first");
    let page = collector.metrics();
    assert!(page.value("node_load1", &[]).is_some_and(|value| value < 99_999.0));
    assert!(page.value("collector_duplicate_samples_total", &[]).is_some_and(|count| count >= 3.0));
    assert!(page.value("promhttp_metric_handler_errors_total", &[("cause", "gathering")]).is_some());
}
