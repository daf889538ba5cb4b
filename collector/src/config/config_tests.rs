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
  ebpf: {irq: true, tcp: false}
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
    assert_eq!(config.host.ebpf, [("irq".to_owned(), true), ("tcp".to_owned(), false)]);
    let label = |name: &str| config.host.labels.iter().find(|(n, _)| n == name).unwrap().1.clone();
    assert_eq!((label("job"), label("instance")), ("integrations/unix".into(), "box:9100".into()));
    let [prom, vm] = &config.endpoints[..] else { panic!("two endpoints") };
    assert_eq!((prom.name.as_str(), prom.protocol, prom.native_histograms), ("prom", Protocol::V1, None));
    let password = Secret::File("/etc/collector/secret".into());
    let username = Secret::Inline("u".into());
    assert_eq!(prom.http.authorization, Some(Authorization::Basic { username, password }));
    assert_eq!((vm.protocol, vm.native_histograms), (Protocol::V2, None));
    assert_eq!(vm.queue.max_samples_per_send, 500);
    assert_eq!(vm.http.tls.ca, Some(Secret::File("/ca.pem".into())));
}

#[test]
fn clouds_and_metadata() {
    let text = "
remote_write:
  - url: https://aps.example/
    name: aws
    sigv4: {region: eu-west-1, access_key: K, secret_key: S}
    metadata_config: {send: false, send_interval: 2m, max_samples_per_send: 7}
  - url: https://azure.example/
    name: azure
    azuread: {cloud: AzureChina, oauth: {client_id: c, client_secret: s, tenant_id: t-1}}
    queue_config: {min_shards: 2, max_shards: 9}
  - {url: 'https://two.example/', protobuf_message: io.prometheus.write.v2.Request}
";
    let config = parse_config(text, Path::new("c.yml")).unwrap();
    let [aws, azure, two] = &config.endpoints[..] else { panic!("three endpoints") };
    let sigv4 = aws.sigv4.as_ref().unwrap();
    assert_eq!((sigv4.region.as_str(), sigv4.access_key.as_deref()), ("eu-west-1", Some("K")));
    let span = Duration::from_secs(120);
    let metadata = MetadataConfig { send: false, send_interval: span, max_samples_per_send: 7 };
    assert_eq!(aws.metadata, metadata);
    let token = azure.http.oauth2.as_ref().unwrap();
    assert_eq!(token.token_url, "https://login.chinacloudapi.cn/t-1/oauth2/v2.0/token");
    assert_eq!(token.scopes, ["https://monitor.azure.cn//.default"]);
    assert_eq!((token.client_id.as_str(), azure.sigv4.is_none()), ("c", true));
    assert_eq!((azure.queue.min_shards, azure.queue.max_shards, aws.queue.max_shards), (2, 9, 50));
    assert_eq!((azure.metadata.send, azure.metadata.send_interval), (true, Duration::from_secs(60)));
    assert_eq!((two.metadata.send, two.metadata.send_interval), (true, Duration::from_secs(300)));
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
}

#[test]
fn wrong_values_say_what_would_be_right() {
    for (text, expected) in [
        ("global: {scrape_interval: 15}", "is not a duration such as 15s"),
        ("host: {scrape_interval: 1ms}", "at least 100ms"),
        ("host: {ebpf: {tcp: 1}}", "expected a boolean"),
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
        (
            "global: {external_labels: {__name__: x}}",
            "global.external_labels: \"__name__\" can't be used as a label name",
        ),
        ("global: [", "c.yml:"),
    ] {
        let message = error(text);
        assert!(message.contains(expected), "{text}: {message}");
    }
}

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/config");

/// Each wrong file of the fixture, and what is said of it: read it when it changes.
#[test]
fn wrong_files_and_their_messages() {
    let path = Path::new(FIXTURES).join("wrong.txt");
    let fixture = std::fs::read_to_string(&path).unwrap();
    let mut written = String::new();
    for block in fixture.split("### ").skip(1) {
        let (name, rest) = block.split_once('\n').expect("a name");
        let text = rest.split("\n=> ").next().unwrap_or(rest).trim_end();
        let message = error(&format!("{text}\n"));
        written.push_str(&format!("### {name}\n{text}\n=> {message}\n\n"));
    }
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    for (got, expected) in written.lines().zip(expected.lines()) {
        assert_eq!(got, expected);
    }
    assert_eq!(written, expected, "UPDATE_FIXTURES=1 writes it anew");
}

#[test]
fn a_prometheus_file_runs_unchanged() {
    let path = Path::new(FIXTURES).join("prometheus.yml");
    let config = read_config(&path).unwrap();
    let names: Vec<&str> = config.scrape.iter().map(|job| job.job_name.as_str()).collect();
    assert_eq!(names, ["prometheus", "node", "containers", "pods", "more"]);
    let said = "alerting, rule_files, storage, remote_read, runtime, global.evaluation_interval";
    for key in said.split(", ") {
        assert_eq!(config.warnings.iter().filter(|warning| warning.starts_with(key)).count(), 1, "{key}");
    }
    let [prometheus, node, containers, pods, more] = &config.scrape[..] else { panic!("five jobs") };
    assert_eq!(prometheus.scrape_interval, Duration::from_secs(15));
    assert_eq!((prometheus.metrics_path.as_str(), prometheus.scheme.as_str()), ("/metrics", "http"));
    assert_eq!(prometheus.static_configs[0].targets, ["localhost:9090"]);
    assert_eq!(prometheus.protocols.len(), 4, "no protobuf unless native histograms are asked for");
    assert!(prometheus.page.honor_timestamps && prometheus.http.follow_redirects);
    assert_eq!((node.scrape_interval, node.scrape_timeout), (Duration::from_secs(5), Duration::from_secs(4)));
    assert_eq!(node.page.body_size_limit, 10 << 20);
    assert_eq!((node.page.sample_limit, node.target_limit), (5000, Some(100)));
    assert_eq!(node.relabel.len(), 2);
    assert_eq!(node.page.metric_relabel.len(), 1);
    assert_eq!(node.protocols[0], ScrapeProtocol::PrometheusProto);
    assert_eq!(node.http.headers[0].0, "X-Tenant");
    let files = vec![path.with_file_name("targets/*.json"), "/etc/targets.yml".into()];
    let refresh = Duration::from_secs(30);
    assert_eq!(node.discovery, [ProviderConfig::File(FileSd { files, refresh })]);
    assert!(matches!(&containers.discovery[0], ProviderConfig::Docker(docker) if docker.port == 8080));
    assert_eq!(containers.escaping, Escaping::Underscores);
    let [
        ProviderConfig::Http(_),
        ProviderConfig::Dns(dns),
        ProviderConfig::Consul(consul),
        ProviderConfig::Kubernetes(kubernetes),
    ] = &pods.discovery[..]
    else {
        panic!("four ways")
    };
    assert_eq!((dns.kind, dns.port), (DnsKind::A, 9100));
    assert_eq!(consul.url, "http://consul.example:8500");
    assert_eq!((kubernetes.role, &kubernetes.api), (Role::Pod, &KubernetesApi::InCluster));
    assert!(pods.http.oauth2.is_some() && pods.http.authorization.is_none());
    assert_eq!(more.static_configs[0].targets, ["more:1"]);
    assert_eq!(config.endpoints[0].relabel.len(), 1);
}

#[test]
fn prom_scraper_by_section_and_by_environment() {
    let config = parse_config(
        "prom_scraper: {config_globs: ['jobs/*/x.yml'], scrape_interval: 5s, default_source_id: me}",
        Path::new("/etc/c.yml"),
    )
    .unwrap();
    let [job] = &config.scrape[..] else { panic!("one job") };
    assert_eq!((job.job_name.as_str(), job.scrape_interval), ("prom_scraper", Duration::from_secs(5)));
    assert_eq!(job.scrape_timeout, Duration::from_secs(5));
    assert!(job.page.honor_labels);
    let ProviderConfig::PromScraper(files) = &job.discovery[0] else { panic!("its provider") };
    assert_eq!(files.globs, [Path::new("/etc/jobs/*/x.yml")]);
    let text = "port: 9001\nsource_id: s\nscheme: https\nserver_name: sni\npath: /m\nheaders: {X-A: b}\n\
                labels: {zone: z}\nscrape_interval: 20s\nca_path: /ca\nclient_cert_path: /c\nclient_key_path: /k\n\
                something_else: 1\n";
    let file = files.parse_file(text).unwrap().unwrap();
    let shown: Vec<String> = file.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        shown.join(" "),
        "__address__=127.0.0.1:9001 __scrape_interval__=20s __scheme__=https __metrics_path__=/m source_id=s zone=z"
    );
    assert_eq!(file.http.tls.server_name.as_deref(), Some("sni"));
    assert_eq!(file.http.tls.cert, Some(Secret::File("/c".into())));
    let plain = files.parse_file("port: '80'\ninstance_id: i").unwrap().unwrap();
    assert!(plain.labels.contains(&("source_id".into(), "me".into())));
    assert!(plain.labels.contains(&("instance_id".into(), "i".into())));
    let often = files.parse_file("port: 80\nscrape_interval: 1s").unwrap().unwrap();
    assert!(often.labels.contains(&("__scrape_timeout__".into(), "1s".into())));
    assert_eq!(files.parse_file("port: 80\nscrape_interval: 0s").unwrap(), None);
    assert_eq!(files.parse_file("port: 80\nscrape_interval: -1s").unwrap(), None);
    for (text, why) in [
        ("{}", "port: must be"),
        ("port: 0", "port: must be"),
        ("port: 70000", "port: must be"),
        ("port: [", "did not find"),
        ("port: 1\nscheme: ftp", "neither http nor https"),
        ("port: 1\nscrape_interval: soon", "scrape_interval: "),
        ("port: 1\nclient_cert_path: x", "needs client_key_path"),
    ] {
        assert!(files.parse_file(text).unwrap_err().contains(why), "{text}: {:?}", files.parse_file(text));
    }
    let environment = |name: &str| {
        let value = match name {
            "CONFIG_GLOBS" => "/a/*.yml, /b.yml",
            "SCRAPE_INTERVAL" => "30s",
            "DEFAULT_SOURCE_ID" => "env",
            "SCRAPE_CERT_PATH" => "/cert",
            "SCRAPE_KEY_PATH" => "/key",
            "SKIP_SSL_VALIDATION" => "true",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let defaults = jobs::resolve_global(raw::Global::default()).unwrap();
    let job = prom_scraper::resolve(None, &environment, &defaults, Path::new("")).unwrap().unwrap();
    let ProviderConfig::PromScraper(files) = &job.discovery[0] else { panic!("its provider") };
    assert_eq!(files.globs, [Path::new("/a/*.yml"), Path::new("/b.yml")]);
    assert_eq!((files.default_source_id.as_str(), job.scrape_interval), ("env", Duration::from_secs(30)));
    assert!(files.http.tls.insecure_skip_verify && files.http.tls.cert.is_some());
    let none = prom_scraper::resolve(None, &|_| None, &defaults, Path::new("")).unwrap();
    assert!(none.is_none(), "nothing asks for it");
}

#[test]
fn the_metrics_of_prom_scraper_need_all_of_their_files() {
    let metrics = |given: &'static [(&str, &str)]| {
        prom_scraper::resolve_metrics(&|name| {
            given.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    };
    assert_eq!(metrics(&[("METRICS_PORT", "1")]).unwrap(), None);
    let all =
        [("METRICS_CA_FILE_PATH", "/ca"), ("METRICS_CERT_FILE_PATH", "/c"), ("METRICS_KEY_FILE_PATH", "/k")];
    let [ca, cert, key] = all;
    assert!(metrics(&[("METRICS_CA_FILE_PATH", "/ca")]).is_err());
    let asked = prom_scraper::resolve_metrics(&|name| {
        [ca, cert, key].iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    });
    assert_eq!(asked.unwrap().map(|metrics| metrics.port), Some(14_821));
}
