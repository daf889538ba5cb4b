//! What a sender of remote write owes, in 1.0 and 2.0: the collector scrapes targets of ours and sends to a receiver
//! of ours; every duty is looked for in what came, and shown to be missed in a recording in which it is broken.

#[path = "remote_write_conformance/checks.rs"]
mod checks;
#[path = "remote_write_conformance/duties.rs"]
mod duties;
#[path = "remote_write_conformance/more.rs"]
mod more;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use collector_tests::process::{Collector, free_port, wait_for};
use collector_tests::recording::{Exchange, Recorder, Recording, Reply, Version};

use self::duties::{DUTIES, Run};

const LONG: Duration = Duration::from_secs(60);
const INTERVAL_MS: u64 = 400;
/// Series of the large target, and how many requests are looked at of which most are its.
const WIDE: usize = 28_000;
const WIDE_REQUESTS: usize = 80;

/// A target that gives a page by the number of the scrape, or none.
fn target(page: impl Fn(usize) -> Option<String> + Send + 'static) -> u16 {
    typed_target("text/plain; version=0.0.4", move |number| page(number).map(String::into_bytes))
}

fn typed_target(kind: &'static str, page: impl Fn(usize) -> Option<Vec<u8>> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (number, mut stream) in listener.incoming().flatten().enumerate() {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
                head.push(byte[0]);
            }
            let Some(page) = page(number) else { continue };
            let head = format!("Content-Type: {kind}\r\nConnection: close\r\nContent-Length: {}", page.len());
            // The collector may have ended.
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes());
            let _ = stream.write_all(&page);
        }
    });
    port
}

/// The page of the target that never fails.
fn page(number: usize) -> String {
    let mut page = format!(
        "# TYPE requests_total counter\nrequests_total{{path=\"/\",empty=\"\"}} {number}\n\
         # TYPE temperature gauge\ntemperature {number}.5\n\
         # TYPE latency_seconds histogram\nlatency_seconds_bucket{{le=\"1\"}} {number}\n\
         latency_seconds_bucket{{le=\"+Inf\"}} {number}\nlatency_seconds_sum 1\nlatency_seconds_count {number}\n\
         with_a_job{{job=\"own\"}} 1\nwith_own_time 1 1700000000123\nnot_a_number NaN\n\
         with_two_times 1 1700000000001\nwith_two_times 2 1700000000002\n\
         {{\"http.requests\",\"service.name\"=\"shop\"}} {number}\n"
    );
    if number < 3 {
        page += "vanishes 1\n";
    }
    // Without a newline at its end.
    page + &format!("counts_up {number}")
}

/// The page of a target of more than one block: after two scrapes its series stand the other way round, then most of them
/// are gone.
fn wide_page(number: usize) -> String {
    let line = |n: usize| format!("wide{{n=\"{n}\"}} {number}\n");
    match number / 2 % 3 {
        0 => (0..WIDE).map(line).collect(),
        1 => (0..WIDE).rev().map(line).collect(),
        _ => (0..WIDE).step_by(4).map(line).collect(),
    }
}

fn script(run: Run) -> impl Fn(usize, &Exchange) -> Reply + Send + Sync + 'static {
    move |at, request| match run {
        Run::Faults if at < 4 => Reply::status(503).body("try later"),
        Run::Refuses if at == 1 => {
            let reply = Reply::status(400).body("out of bounds");
            if request.is_two() { reply.written(0, 0) } else { reply }
        }
        Run::Throttles if at == 1 => Reply::status(429).header("Retry-After", "2"),
        Run::Slow => Reply::accepted(request).after(Duration::from_millis(400)),
        Run::Large => {
            let wait = if at.is_multiple_of(7) { 1400 } else { 400 };
            Reply::accepted(request).after(Duration::from_millis(wait))
        }
        Run::LearnsTwo if at == 0 => Reply::status(415),
        Run::OldBy415 if request.is_two() => Reply::status(415),
        Run::OldBy400 if request.is_two() => Reply::status(400).body("proto: wrong wireType"),
        Run::OldBySilence => Reply::status(204),
        Run::Nonsense => match at {
            0 => Reply::status(999).body("odd"),
            1 => Reply::status(500).body(vec![b'x'; 1 << 20]),
            2 => Reply::status(0),
            3 => Reply::status(500).header("Retry-After", "soon"),
            4 => Reply::status(302).header("Location", "nowhere:\\"),
            5 => Reply::status(503).body(b"\xff\xfe\0".as_slice()),
            _ => Reply::accepted(request),
        },
        _ => Reply::accepted(request),
    }
}

fn config(folder: &Path, run: Run, version: Version, url: &str) -> String {
    let whole = target(|number| Some(page(number)));
    let fails = target(|number| (number < 3).then(|| "of_the_one_that_fails 1\n".into()));
    let bent = target(|_| Some("before 1\nof_the_bent_one{label=\"1\",label=\"2\"} 1\n".into()));
    // Enough targets for many lanes, where requests shall go in parallel.
    let more: Vec<String> = (0..if run == Run::Slow { 24 } else { 0 })
        .map(|n| {
            let text: String = (0..150).map(|series| format!("filler_{n}{{s=\"{series}\"}} 1\n")).collect();
            format!("'127.0.0.1:{}'", target(move |_| Some(text.clone())))
        })
        .collect();
    let size = if run == Run::Slow { 100 } else { 2000 };
    let (mut asked, mut jobs) = ("", String::new());
    if run == Run::More {
        asked = "send_exemplars: true\n    send_native_histograms: true\n    ";
        let open = typed_target(more::OPEN, |number| Some(more::open_page(number)));
        let native = typed_target(more::MESSAGES, |_| Some(more::messages()));
        jobs = format!(
            "  - {{job_name: open, convert_classic_histograms_to_nhcb: true, \
             static_configs: [{{targets: ['127.0.0.1:{open}']}}]}}\n  \
             - {{job_name: native, scrape_native_histograms: true, \
             static_configs: [{{targets: ['127.0.0.1:{native}']}}]}}\n"
        );
    }
    if run == Run::Large {
        let wide = target(|number| Some(wide_page(number)));
        jobs = format!(
            "  - {{job_name: wide, scrape_interval: 2s, static_configs: [{{targets: ['127.0.0.1:{wide}']}}]}}\n"
        );
    }
    let text = format!(
        "global: {{scrape_interval: {INTERVAL_MS}ms, external_labels: {{cluster: test}}}}\n\
         host: {{scrape_interval: 1h}}\n\
         remote_write:\n  - url: '{url}'\n    name: r\n    protobuf_message: {}\n    {asked}\
         metadata_config: {{send_interval: 1s}}\n    queue_config: {{max_samples_per_send: {size}}}\n\
         scrape_configs:\n  - {{job_name: whole, static_configs: [{{targets: ['127.0.0.1:{whole}']}}]}}\n  \
         - {{job_name: fails, static_configs: [{{targets: ['127.0.0.1:{fails}']}}]}}\n  \
         - {{job_name: bent, static_configs: [{{targets: ['127.0.0.1:{bent}']}}]}}\n  \
         - {{job_name: more, static_configs: [{{targets: [{}]}}]}}\n{jobs}",
        version.message(),
        more.join(", ")
    );
    let file = folder.join("c.yml");
    std::fs::write(&file, text).unwrap();
    format!("--config.file={}", file.display())
}

/// Runs the collector until enough came, and ends it as a service manager does.
fn record(run: Run, version: Version) -> Recording {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(script(run));
    let flag = config(folder.path(), run, version, &recorder.url());
    let mut collector = Collector::start(free_port(), folder.path(), &[&flag]);
    let enough = || {
        recorder.look(|all| {
            if run == Run::Large {
                return all.len() >= WIDE_REQUESTS;
            }
            let last = checks::accepted(all).unwrap_or_default();
            let counts = last.iter().find(|(key, _)| key.contains("\"counts_up\""));
            let marked = checks::what_fails_is_marked(all, version).is_ok();
            let metadata = run != Run::Plain
                || version == Version::Two
                || checks::metadata_is_sent(all, version).is_ok();
            let learnt = run != Run::LearnsTwo || checks::is_asked_for_two_again(all, version).is_ok();
            let said = match version {
                Version::One => checks::metadata_says_what_families_are(all, version),
                Version::Two => checks::help_and_unit_are_said(all, version),
            };
            let rises = run != Run::More || checks::histograms_rise(all, version).is_ok() && said.is_ok();
            let parallel = run != Run::Slow || checks::requests_go_in_parallel(all, version).is_ok();
            counts.is_some_and(|(_, points)| points.len() >= 8)
                && marked
                && metadata
                && parallel
                && learnt
                && rises
        })
    };
    assert!(wait_for(LONG, enough), "{run:?} {version:?}: {}", collector.process.log());
    let status = collector.process.terminate(Duration::from_secs(10));
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", collector.process.log());
    recorder.recording()
}

/// Every duty of this run holds, and none of the broken recordings passes.
fn hold(run: Run, version: Version) {
    let recording = record(run, version);
    let mut faults = Vec::new();
    for duty in DUTIES.iter().filter(|duty| duty.run == run && duty.of.contains(&version)) {
        if let Err(why) = (duty.check)(&recording, version) {
            faults.push(format!("{}: {why}", duty.name));
            continue;
        }
        for (number, break_it) in duty.breaks.iter().enumerate() {
            let mut broken = recording.clone();
            break_it(&mut broken);
            if (duty.check)(&broken, version).is_ok() {
                faults.push(format!("{}: the broken recording {number} passes", duty.name));
            }
        }
    }
    assert!(faults.is_empty(), "{run:?} {version:?}, {} requests:\n{}", recording.len(), faults.join("\n"));
}

macro_rules! runs {
    ($($name:ident: $run:ident $($version:ident)*;)*) => {
        $(#[test]
        fn $name() {
            $(hold(Run::$run, Version::$version);)*
        })*
    };
}

runs! {
    what_every_request_owes: Plain One Two;
    a_receiver_in_trouble_gets_it_all_again: Faults One Two;
    what_is_refused_is_given_up: Refuses One Two;
    one_that_asks_for_patience_gets_it: Throttles One Two;
    a_slow_one_gets_more_at_once_and_each_series_in_order: Slow One Two;
    a_slow_one_gets_a_large_target_at_once_and_each_series_in_order: Large One Two;
    one_without_2_0_says_415: OldBy415 Two;
    one_without_2_0_says_400: OldBy400 Two;
    one_without_2_0_says_nothing: OldBySilence Two;
    one_that_learns_2_0_is_asked_again: LearnsTwo Two;
    nonsense_is_survived: Nonsense One Two;
    exemplars_starts_and_native_histograms: More One Two;
}

/// What is known of the endpoint outlives the process: it is not asked for 2.0 anew.
#[test]
fn a_restart_goes_on_in_1_0() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(script(Run::OldBy415));
    let flag = config(folder.path(), Run::OldBy415, Version::Two, &recorder.url());
    let mut asked = Vec::new();
    for _ in 0..2 {
        let before = recorder.look(Vec::len);
        let mut collector = Collector::start(free_port(), folder.path(), &[&flag]);
        let enough =
            || recorder.look(|all| all[before..].iter().filter(|one| one.is_accepted()).count() >= 3);
        assert!(wait_for(LONG, enough), "{}", collector.process.log());
        let status = collector.process.terminate(Duration::from_secs(10));
        assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", collector.process.log());
        asked.push(recorder.look(|all| all[before..].iter().filter(|one| one.is_two()).count()));
    }
    assert_eq!(asked, [1, 0], "requests in 2.0");
}

#[test]
fn every_duty_has_a_recording_that_breaks_it() {
    let unbroken: Vec<_> =
        DUTIES.iter().filter(|duty| duty.breaks.is_empty()).map(|duty| duty.name).collect();
    assert!(unbroken.is_empty(), "{unbroken:?}");
}
