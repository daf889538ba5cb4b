//! The messages a person sees for each kind of fault, and what a right file comes to.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::encode::Protocol;

fn error(text: &str) -> String {
    parse_config(text, Path::new("c.yml")).unwrap_err().to_string()
}

#[test]
fn a_whole_file() {
    let text = "
global:
  scrape_interval: 15s
  external_labels: {cluster: home}
host:
  job_name: integrations/unix
  instance: box:9100
remote_write:
  - url: http://127.0.0.1:9090/api/v1/write
    name: prom
    headers: {X-Scope-OrgID: tenant}
    basic_auth: {username: u, password_file: secret}
  - url: https://vm.example/api/v1/write
    protobuf_message: io.prometheus.write.v2.Request
    authorization: {credentials: t}
    tls_config: {ca_file: /ca.pem, server_name: vm}
    queue_config: {max_samples_per_send: 500}
";
    let config = parse_config(text, Path::new("/etc/collector/c.yml")).unwrap();
    assert_eq!(config.external_labels, [("cluster".to_owned(), "home".to_owned())]);
    assert_eq!(config.host.scrape_interval, Duration::from_secs(15));
    let label = |name: &str| config.host.labels.iter().find(|(n, _)| n == name).unwrap().1.clone();
    assert_eq!((label("job"), label("instance")), ("integrations/unix".into(), "box:9100".into()));
    let [prom, vm] = &config.endpoints[..] else { panic!("two endpoints") };
    assert_eq!((prom.name.as_str(), prom.protocol, prom.native_histograms), ("prom", Protocol::V1, None));
    let password = Secret::File("/etc/collector/secret".into());
    let username = Secret::Inline("u".into());
    assert_eq!(prom.authorization, Some(Authorization::Basic { username, password }));
    assert_eq!((vm.protocol, vm.native_histograms), (Protocol::V2, None));
    assert_eq!(vm.queue.max_samples_per_send, 500);
    assert_eq!(vm.tls.ca, Some(Secret::File("/ca.pem".into())));
}

#[test]
fn an_empty_file_is_the_default() {
    let config = parse_config("\n", Path::new("c.yml")).unwrap();
    assert_eq!(config, Config::default());
    assert!(config.endpoints.is_empty());
    assert_eq!(config.host.scrape_interval, Duration::from_secs(60));
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest() {
    assert_eq!(
        error("global:\n  scrape_intervall: 15s\n"),
        "c.yml:2:3: global: unknown key `scrape_intervall`; did you mean `scrape_interval`?"
    );
    let text = error("remote_write:\n  - url: http://x/\n    bearer_tokn: y\n");
    assert!(text.starts_with("c.yml:3:5: "), "{text}");
    assert!(text.ends_with("unknown key `bearer_tokn`; did you mean `bearer_token`?"), "{text}");
    let text = error("scrape_configs: []\n");
    assert!(
        text.contains("`scrape_configs` is a key of Prometheus that this collector does not support"),
        "{text}"
    );
}

#[test]
fn wrong_values_say_what_would_be_right() {
    for (text, expected) in [
        ("global: {scrape_interval: 15}", "is not a duration such as 15s"),
        ("host: {scrape_interval: 1ms}", "at least 100ms"),
        ("remote_write: [{url: 'ftp://x'}]", "must begin with http:// or https://"),
        ("remote_write: [{name: x}]", "missing field `url`"),
        ("remote_write: [{url: 'http://x'}, {url: 'http://x'}]", "a second endpoint named"),
        ("remote_write: [{url: 'http://x', protobuf_message: v3}]", "neither prometheus.WriteRequest"),
        ("remote_write: [{url: 'http://x', headers: {Content-Type: y}}]", "can't be set here"),
        ("remote_write: [{url: 'http://x', bearer_token: a, basic_auth: {}}]", "at most one of"),
        (
            "remote_write: [{url: 'http://x', bearer_token: a, bearer_token_file: b}]",
            "at most one of bearer_token and",
        ),
        ("remote_write: [{url: 'http://x', tls_config: {cert_file: a}}]", "needs both cert and key"),
        ("remote_write: [{url: 'http://x', tls_config: {min_version: TLS9}}]", "neither TLS12 nor TLS13"),
        ("remote_write: [{url: 'http://x', queue_config: {max_samples_per_send: 0}}]", "must lie in"),
        ("global: {external_labels: {__name__: x}}", "can't be used as a label name"),
        ("global: [", "c.yml:"),
    ] {
        let message = error(text);
        assert!(message.contains(expected), "{text}: {message}");
    }
}
