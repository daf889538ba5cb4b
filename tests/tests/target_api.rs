//! The API by which targets are posted, with the real binary.

use std::path::Path;
use std::time::Duration;

use collector_tests::process::{Collector, Process, ask, collector_binary, free_port, post, wait_for};
use collector_tests::receiver::Receiver;
use collector_tests::target::Target;

const LONG: Duration = Duration::from_secs(30);
const FLAGS: [&str; 4] = [
    "--collector.disable-defaults",
    "--web.disable-exporter-metrics",
    "--no-ebpf.runqueue",
    "--web.enable-target-api",
];

fn write_config(folder: &Path, receiver: &Receiver, api: &str) -> String {
    let config = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nhost: {{scrape_interval: 1h}}\n\
         remote_write: [{{url: '{}'}}]\n{api}",
        receiver.url()
    );
    std::fs::write(folder.join("token"), "secret\n").unwrap();
    std::fs::write(folder.join("c.yml"), config).unwrap();
    format!("--config.file={}", folder.join("c.yml").display())
}

fn start(folder: &Path, receiver: &Receiver) -> Collector {
    let file = write_config(folder, receiver, "target_api: {bearer_token_file: token}\n");
    Collector::start(free_port(), folder, &[&[file.as_str()], &FLAGS[..]].concat())
}

fn newest(receiver: &Receiver, name: &str, instance: &str) -> Option<f64> {
    receiver.look(|taken| {
        let is_it = |key: &str| key.starts_with(&format!("{name}{{")) && key.contains(instance);
        let points = taken.series.iter().find(|(key, _)| is_it(key)).map(|(_, points)| points);
        points.and_then(|points| points.last()).map(|point| f64::from_bits(point.1))
    })
}

#[test]
fn a_posted_target_is_scraped_until_it_expires_and_over_a_restart() {
    let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
    let (target, brief) = (Target::page("a 1\n"), Target::page("b 2\n"));
    let mut collector = start(folder.path(), &receiver);
    let url = collector.url("/v1/scrape_targets");
    let body = format!(
        r#"[{{"target":"{}","labels":{{"team":"x"}},"expiry":"1h"}},{{"target":"{}","expiry":"1s"}}]"#,
        target.address(),
        brief.address()
    );
    let (status, answer) = ask("POST", &url, Some("secret"), &body).unwrap();
    assert_eq!((status, answer.contains("\"posted\":2")), (200, true), "{answer}");
    let came = || newest(&receiver, "a", &target.address()) == Some(1.0);
    assert!(wait_for(LONG, came), "{}", collector.process.log());
    receiver.look(|taken| {
        let key = taken.series.keys().find(|key| key.starts_with("a{")).unwrap();
        assert!(key.contains("job=\"scrape_targets\"") && key.contains("team=\"x\""), "{key}");
    });
    // The brief one ends with stale markers, or was never seen.
    let gone = || newest(&receiver, "up", &brief.address()).is_none_or(f64::is_nan);
    let listed = || ask("GET", &url, Some("secret"), "").unwrap().1;
    assert!(wait_for(LONG, || gone() && !listed().contains(&brief.address())), "{}", listed());
    assert!(listed().contains(&target.address()) && listed().contains("\"expires_in\":\"59m"));
    collector.process.kill();
    let collector = start(folder.path(), &receiver);
    target.show("a 7\n");
    let came = || newest(&receiver, "a", &target.address()) == Some(7.0);
    assert!(wait_for(LONG, came), "a restart forgets nothing: {}", collector.process.log());
    let url = collector.url(&format!("/v1/scrape_targets?target={}", target.address()));
    assert_eq!(ask("DELETE", &url, Some("secret"), "").unwrap().0, 200);
    assert_eq!(ask("DELETE", &url, Some("secret"), "").unwrap().0, 404);
    assert!(wait_for(LONG, || newest(&receiver, "up", &target.address()).is_some_and(f64::is_nan)));
}

#[test]
fn it_is_closed_to_strangers_and_says_what_is_wrong() {
    let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
    let collector = start(folder.path(), &receiver);
    let url = collector.url("/v1/scrape_targets");
    let body = r#"[{"target":"a:1"}]"#;
    for token in [None, Some("wrong"), Some("secretly"), Some("")] {
        let (status, answer) = ask("POST", &url, token, body).unwrap();
        assert_eq!(status, 401, "{answer}");
        assert_eq!(ask("GET", &url, token, "").unwrap().0, 401);
    }
    for (body, expected) in [
        ("{", "not a JSON list of targets"),
        (r#"[{"target":"a:1"},{"target":"b:1","expiry":"never"}]"#, "[1].expiry"),
    ] {
        let (status, answer) = ask("POST", &url, Some("secret"), body).unwrap();
        assert!(status == 400 && answer.contains(expected), "{status} {answer}");
    }
    let long = format!("[{}]", " ".repeat(5 << 20));
    assert_eq!(ask("POST", &url, Some("secret"), &long).map(|answer| answer.0), Some(413));
    assert_eq!(ask("PUT", &url, Some("secret"), body).unwrap().0, 405);
    assert_eq!(ask("DELETE", &url, Some("secret"), "").unwrap().0, 400);
    let (_, listed) = ask("GET", &url, Some("secret"), "").unwrap();
    assert!(listed.contains("\"targets\":[]"), "{listed}");
    // Without its section it is not there at all; one that would be open to all is refused by a reload.
    write_config(folder.path(), &receiver, "target_api: {}\n");
    let (status, answer) = post(&collector.url("/-/reload")).unwrap();
    assert!(status == 500 && answer.contains("everybody could post targets"), "{answer}");
    assert_eq!(ask("GET", &url, Some("secret"), "").unwrap().0, 200, "the last good one stays");
    write_config(folder.path(), &receiver, "");
    assert_eq!(post(&collector.url("/-/reload")).unwrap().0, 200);
    assert_eq!(ask("GET", &url, Some("secret"), "").unwrap().0, 404);
}

#[test]
fn it_does_not_start_open_or_by_halves() {
    let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
    for (api, flags, expected) in [
        ("target_api: {}\n", &FLAGS[..], "everybody could post targets"),
        ("target_api: {bearer_token_file: token}\n", &FLAGS[..3], "--web.enable-target-api"),
        ("target_api: {bearer_token_file: none}\n", &FLAGS[..], "target_api.bearer_token_file"),
    ] {
        let file = write_config(folder.path(), &receiver, api);
        let listen = format!("--web.listen-address=127.0.0.1:{}", free_port());
        let storage = format!("--storage.path={}", folder.path().display());
        let mut arguments = vec![file, listen, storage];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let log = folder.path().join(format!("{}.log", expected.len()));
        let mut process = Process::start(&collector_binary(), &arguments, &log);
        let status = process.wait(LONG).expect("it ends");
        assert!(!status.success() && process.log().contains(expected), "{}", process.log());
    }
}
