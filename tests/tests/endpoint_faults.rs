//! An endpoint that misbehaves: what is sent again, what is dropped and counted, and that no other one notices.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use collector_tests::process::{Collector, free_port, wait_for};
use collector_tests::receiver::{Answer, Point, Receiver, slots};
use collector_tests::recording::{Exchange, Recorder, Reply};

const LONG: Duration = Duration::from_secs(20);

fn start(folder: &Path, endpoints: &str) -> Collector {
    let file = folder.join("c.yml");
    std::fs::write(&file, format!("global: {{scrape_interval: 200ms}}\nremote_write:\n{endpoints}")).unwrap();
    let flags = [format!("--config.file={}", file.display())];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Collector::start(free_port(), folder, &flags)
}

fn requests(receiver: &Receiver) -> usize {
    receiver.look(|taken| taken.requests.len())
}

/// The times at which `node_load1` arrived.
fn times(receiver: &Receiver) -> Vec<i64> {
    receiver.look(|taken| {
        let of_load =
            |(key, points): (&String, &Vec<Point>)| key.starts_with("node_load1{").then(|| points.clone());
        taken.series.iter().find_map(of_load).unwrap_or_default().iter().map(|point| point.0).collect()
    })
}

/// Every tick is there once and in order: no gap between the first and the last. A tick on a busy machine may
/// be late, but stays within its own interval.
fn assert_whole(times: &[i64]) {
    assert!(!times.is_empty());
    for pair in slots(times, 200).windows(2) {
        assert_eq!(pair[1] - pair[0], 1, "in {times:?}");
    }
}

fn value(collector: &Collector, name: &str, labels: &[(&str, &str)]) -> f64 {
    let page = collector.metrics();
    let full = format!("prometheus_remote_storage_{name}");
    page.value(&full, labels).unwrap_or_else(|| panic!("{full}{labels:?} is missing"))
}

#[test]
fn a_dead_endpoint_slows_no_other_and_gets_everything_when_it_returns() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (Receiver::start(), Receiver::start());
    bad.answer(Answer::Status(503, Vec::new(), "busy".into()));
    let config = format!(
        "  - {{url: '{}', name: good}}\n  - {{url: '{}', name: bad}}\n  - {{url: 'http://127.0.0.1:1/', name: dead}}\n  \
         - {{url: 'http://no-such-host.invalid/', name: nowhere}}\n",
        good.url(),
        bad.url()
    );
    let collector = start(folder.path(), &config);
    assert!(
        wait_for(LONG, || times(&good).len() >= 10 && requests(&bad) >= 3),
        "{}",
        collector.process.log()
    );
    assert_whole(&times(&good));
    assert!(times(&bad).is_empty());
    assert!(value(&collector, "samples_retried_total", &[("remote_name", "bad")]) > 0.0);
    assert_eq!(value(&collector, "samples_failed_total", &[("remote_name", "bad")]), 0.0);
    for name in ["dead", "nowhere"] {
        assert!(value(&collector, "requests_total", &[("remote_name", name), ("code", "0")]) > 0.0, "{name}");
    }
    assert!(value(&collector, "samples_pending", &[("remote_name", "bad")]) > 0.0);
    // What the alerts of Prometheus' mixin look at.
    let of_bad = |name: &str| value(&collector, name, &[("remote_name", "bad")]);
    let behind = of_bad("queue_highest_timestamp_seconds") - of_bad("queue_highest_sent_timestamp_seconds");
    assert!(behind > 120.0, "nothing was ever sent: {behind}");
    assert_eq!((of_bad("shards_max"), of_bad("shards_min"), of_bad("shards_desired")), (50.0, 1.0, 1.0));
    bad.answer(Answer::Accept);
    let first = times(&good)[0];
    assert!(wait_for(LONG, || times(&bad).len() >= 15), "{}", collector.process.log());
    assert_whole(&times(&bad));
    let is_up_to_date =
        || of_bad("queue_highest_timestamp_seconds") - of_bad("queue_highest_sent_timestamp_seconds") < 5.0;
    assert!(wait_for(LONG, is_up_to_date));
    assert_eq!(times(&bad)[0], first);
    let log = collector.process.log();
    let said = log.lines().filter(|line| line.contains("HTTP status 503") && line.contains("busy")).count();
    assert_eq!(said, 1, "the body is in the log, and not for every attempt: {log}");
}

#[test]
fn garbage_and_lost_answers_are_sent_again_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    receiver.answer(Answer::Garbage);
    let collector = start(folder.path(), &format!("  - {{url: '{}', name: r}}\n", receiver.url()));
    assert!(wait_for(LONG, || value(&collector, "samples_retried_total", &[]) > 0.0));
    receiver.answer(Answer::TakeAndHangUp);
    assert!(wait_for(LONG, || requests(&receiver) >= 2));
    receiver.answer(Answer::Accept);
    assert!(wait_for(LONG, || times(&receiver).last() > times(&receiver).first()));
    receiver.look(|taken| {
        assert_eq!(taken.faults, Vec::<String>::new());
        for (series, points) in &taken.series {
            let mut known: BTreeMap<i64, u64> = BTreeMap::new();
            for (time, bits) in points {
                let same = *known.entry(*time).or_insert(*bits) == *bits;
                assert!(same, "{series} has two values at {time}");
            }
        }
    });
    let mut unique = times(&receiver);
    unique.dedup();
    assert_whole(&unique);
}

#[test]
fn what_is_refused_for_good_is_dropped_and_counted_and_the_next_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    receiver.answer(Answer::Status(400, Vec::new(), "out of bounds".into()));
    let collector = start(folder.path(), &format!("  - {{url: '{}', name: r}}\n", receiver.url()));
    assert!(wait_for(LONG, || value(&collector, "samples_failed_total", &[]) > 0.0));
    assert_eq!(value(&collector, "samples_retried_total", &[]), 0.0);
    receiver.answer(Answer::Accept);
    assert!(wait_for(LONG, || times(&receiver).len() >= 3));
    assert!(collector.process.log().contains("out of bounds"));
}

#[test]
fn too_many_requests_waits_as_long_as_it_was_told() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    receiver.answer(Answer::Status(429, vec![("Retry-After".into(), "2".into())], String::new()));
    let _collector = start(folder.path(), &format!("  - {{url: '{}', name: r}}\n", receiver.url()));
    assert!(wait_for(LONG, || requests(&receiver) == 1));
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(requests(&receiver), 1, "nothing is sent before the two seconds are over");
    receiver.answer(Answer::Accept);
    assert!(wait_for(LONG, || times(&receiver).len() >= 10));
    assert_whole(&times(&receiver));
}

#[test]
fn requests_carry_the_headers_of_their_protocol_and_the_users() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two, aws) = (Receiver::start(), Receiver::start(), Receiver::start());
    std::fs::write(folder.path().join("token"), "s3cret\n").unwrap();
    let config = format!(
        "  - {{url: '{}', name: one, headers: {{X-Scope-OrgID: me}}, basic_auth: {{username: u, password: p}}}}\n  \
           - {{url: '{}', name: two, protobuf_message: io.prometheus.write.v2.Request, bearer_token_file: token}}\n  \
           - {{url: '{}?a=b', name: aws, sigv4: {{region: eu-west-1, access_key: K, secret_key: s3}}}}\n",
        one.url(),
        two.url(),
        aws.url()
    );
    let _collector = start(folder.path(), &config);
    assert!(wait_for(LONG, || [&one, &two, &aws].iter().all(|receiver| times(receiver).len() >= 2)));
    let header = |receiver: &Receiver, name: &str| {
        receiver.look(|taken| taken.requests[0].get(name).cloned().unwrap_or_default())
    };
    assert_eq!(header(&one, "content-type"), "application/x-protobuf");
    assert_eq!(header(&one, "x-prometheus-remote-write-version"), "0.1.0");
    assert_eq!(header(&one, "x-scope-orgid"), "me");
    assert_eq!(header(&one, "authorization"), "Basic dTpw");
    assert_eq!(header(&two, "content-type"), "application/x-protobuf;proto=io.prometheus.write.v2.Request");
    assert_eq!(header(&two, "x-prometheus-remote-write-version"), "2.0.0");
    assert_eq!(header(&two, "authorization"), "Bearer s3cret");
    let (date, signature) = (header(&aws, "x-amz-date"), header(&aws, "authorization"));
    let expected = format!(
        "AWS4-HMAC-SHA256 Credential=K/{}/eu-west-1/aps/aws4_request, SignedHeaders=host;x-amz-date, Signature=",
        &date[..8]
    );
    assert!(signature.starts_with(&expected) && signature.len() == expected.len() + 64, "{signature}");
    assert_eq!(header(&aws, "host"), format!("127.0.0.1:{}", aws.port), "as it was signed");
    for receiver in [&one, &two, &aws] {
        assert_eq!(header(receiver, "content-encoding"), "snappy");
        assert!(header(receiver, "user-agent").starts_with("collector/"));
        receiver.look(|taken| assert_eq!(taken.faults, Vec::<String>::new()));
        assert_whole(&times(receiver));
    }
}

#[test]
fn a_receiver_that_does_not_know_2_0_gets_1_0() {
    let folder = tempfile::tempdir().unwrap();
    let (silent, refusing) = (Receiver::start(), Receiver::start());
    silent.answer(Answer::AcceptSilently);
    refusing.answer(Answer::Status(415, Vec::new(), "unsupported".into()));
    let config: String = [&silent, &refusing]
        .iter()
        .map(|r| format!("  - {{url: '{}', protobuf_message: io.prometheus.write.v2.Request}}\n", r.url()))
        .collect();
    let collector = start(folder.path(), &config);
    let version = |receiver: &Receiver| {
        receiver.look(|taken| taken.requests.last().map(|r| r["x-prometheus-remote-write-version"].clone()))
    };
    assert!(wait_for(LONG, || version(&silent).as_deref() == Some("0.1.0")), "{}", collector.process.log());
    assert!(wait_for(LONG, || version(&refusing).as_deref() == Some("0.1.0")));
    refusing.answer(Answer::AcceptSilently);
    assert!(wait_for(LONG, || times(&refusing).len() >= 5));
    assert_whole(&times(&refusing));
    refusing.look(|taken| assert!(taken.histograms.is_empty(), "native histograms go with 2.0"));
    refusing.look(|taken| assert_eq!(taken.faults, Vec::<String>::new()));
}

#[test]
fn a_receiver_with_native_histograms_disabled_gets_classic_ones() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    receiver.answer(Answer::Status(500, Vec::new(), "native histograms are disabled".into()));
    let endpoint = format!(
        "  - {{url: '{}', name: r, protobuf_message: io.prometheus.write.v2.Request}}\n",
        receiver.url()
    );
    let collector = start(folder.path(), &endpoint);
    assert!(wait_for(LONG, || requests(&receiver) >= 2), "{}", collector.process.log());
    receiver.answer(Answer::Accept);
    assert!(wait_for(LONG, || times(&receiver).len() >= 5), "{}", collector.process.log());
    assert_whole(&times(&receiver));
    assert!(collector.process.log().contains("sending classic ones"));
    if collector.metrics().value("collector_ebpf_probe_up", &[("probe", "runqueue")]) == Some(1.0) {
        let classic = || {
            receiver.look(|taken| {
                taken.series.keys().any(|key| key.starts_with("collector_runqueue_latency_seconds_bucket{"))
            })
        };
        assert!(wait_for(LONG, classic), "the histogram does not arrive");
    }
    receiver.look(|taken| {
        assert!(taken.histograms.is_empty());
        assert_eq!(taken.faults, Vec::<String>::new());
        let last = taken.requests.last().unwrap();
        assert_eq!(last["x-prometheus-remote-write-version"], "2.0.0", "only the form falls back");
    });
}

#[test]
fn a_slow_endpoint_gets_one_request_at_a_time_and_everything_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    receiver.answer(Answer::Slow(Duration::from_millis(700)));
    let mut collector = start(folder.path(), &format!("  - {{url: '{}', name: r}}\n", receiver.url()));
    assert!(wait_for(LONG, || times(&receiver).len() >= 8), "{}", collector.process.log());
    assert_eq!(collector.process.terminate(Duration::from_secs(10)).and_then(|s| s.code()), Some(0));
    assert_whole(&times(&receiver));
}

#[test]
fn what_was_written_in_part_is_counted_for_the_rest_and_not_sent_again() {
    // Five samples less than there are, first with a refusal and then with success.
    let recorder = Recorder::start(|at, request| {
        let reply = Reply::accepted(request);
        let samples: usize = reply.headers[0].1.parse().unwrap();
        match at {
            1 => Reply::status(400).written(samples - 5, 0).body("five are out of order"),
            2 => Reply::status(204).written(samples - 5, 0),
            _ => reply,
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let two = format!(
        "  - {{url: '{}', name: r, protobuf_message: io.prometheus.write.v2.Request, send_native_histograms: false}}\n",
        recorder.url()
    );
    let collector = start(folder.path(), &two);
    assert!(wait_for(LONG, || recorder.look(|all| all.len() >= 6)), "{}", collector.process.log());
    assert_eq!(value(&collector, "samples_failed_total", &[]), 10.0);
    assert_eq!(value(&collector, "samples_retried_total", &[]), 0.0);
    let recording = recorder.recording();
    let bodies: BTreeSet<&[u8]> = recording.iter().map(|exchange| exchange.body.as_slice()).collect();
    assert_eq!(bodies.len(), recording.len(), "none is sent again");
    assert!(recording.iter().all(Exchange::is_two), "a receiver that says what it wrote knows 2.0");
    assert!(collector.process.log().contains("five are out of order"), "{}", collector.process.log());
}

#[test]
fn an_endpoint_that_never_answers_holds_up_no_end() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::start(|_, _| Reply::status(204).after(Duration::from_secs(3600)));
        let config = format!("  - {{url: '{}', name: r, remote_timeout: 1h}}\n", recorder.url());
        let mut collector = start(folder.path(), &config);
        assert!(wait_for(LONG, || recorder.look(|all| !all.is_empty())), "{}", collector.process.log());
        collector.process.signal(signal);
        let status = collector.process.wait(Duration::from_secs(15));
        assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", collector.process.log());
        // What it had is still there.
        let receiver = Receiver::start();
        let _collector = start(folder.path(), &format!("  - {{url: '{}', name: r}}\n", receiver.url()));
        let first = recorder.recording()[0].wire().unwrap().series[0].samples[0].0;
        assert!(
            wait_for(LONG, || times(&receiver).first() == Some(&first)),
            "{first}: {:?}",
            times(&receiver)
        );
    }
}
