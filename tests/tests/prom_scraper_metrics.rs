//! What Cloud Foundry's prom_scraper says of itself, where and as it said it: on a port of its own, by mTLS.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use collector_tests::certificates::Certificates;
use collector_tests::process::{Process, collector_binary, free_port, wait_for};
use collector_tests::receiver::Receiver;
use collector_tests::skip::program_or_skip;
use collector_tests::target::{Manner, Target};

const LONG: Duration = Duration::from_secs(30);
const NAME: &str = "the_metrics_of_prom_scraper_are_served_to_certificates_alone";

#[test]
fn the_metrics_of_prom_scraper_are_served_to_certificates_alone() {
    let Some(curl) = program_or_skip(NAME, &["curl"]) else { return };
    let Some(certificates) = Certificates::new(NAME) else { return };
    let folder = certificates.path();
    let (receiver, good, dead) = (Receiver::start(), Target::page("a 1\n"), Target::start(Manner::Dead));
    for (name, target) in [("good", &good), ("dead", &dead)] {
        let text = format!("port: {}\nsource_id: the \"{name}\"\nscrape_interval: 200ms\n", target.port);
        std::fs::write(folder.join(format!("{name}.yml")), text).unwrap();
    }
    let config = format!(
        "remote_write: [{{url: '{}'}}]\nprom_scraper: {{config_globs: [good.yml, dead.yml]}}\n",
        receiver.url()
    );
    std::fs::write(folder.join("c.conf"), config).unwrap();
    let (port, metrics) = (free_port(), free_port());
    let file = |name: &str| folder.join(name).display().to_string();
    let arguments = [
        format!("METRICS_PORT={metrics}"),
        format!("METRICS_CA_FILE_PATH={}", file("ca.pem")),
        format!("METRICS_CERT_FILE_PATH={}", file("server.pem")),
        format!("METRICS_KEY_FILE_PATH={}", file("server.key")),
        collector_binary().display().to_string(),
        format!("--web.listen-address=127.0.0.1:{port}"),
        format!("--storage.path={}", file("storage")),
        format!("--config.file={}", file("c.conf")),
        "--collector.disable-defaults".to_owned(),
        "--no-ebpf.runqueue".to_owned(),
    ];
    let process = Process::start(Path::new("/usr/bin/env"), &arguments, &folder.join("log"));
    let ask = |more: &str| {
        let resolve = format!("receiver.test:{metrics}:127.0.0.1");
        let mut command = Command::new(&curl);
        command.args(["--silent", "--show-error", "--max-time", "20", "--resolve", &resolve]);
        command.args(more.split_whitespace()).arg(format!("https://receiver.test:{metrics}/metrics"));
        let run = command.current_dir(folder).output().unwrap();
        run.status.success().then(|| String::from_utf8_lossy(&run.stdout).into_owned())
    };
    let known = "--cacert ca.pem --cert client.pem --key client.key";
    let failed = "failed_scrapes_total{scrape_target_source_id=\"the \\\"dead\\\"\"}";
    let says =
        || ask(known).is_some_and(|page| page.contains("scrape_targets_total 2\n") && page.contains(failed));
    assert!(wait_for(LONG, says), "{:?}\n{}", ask(known), process.log());
    assert!(!ask(known).unwrap().contains("good"), "what never failed is not there");
    assert_eq!(ask("--cacert ca.pem"), None, "nobody without a certificate");
    assert_eq!(
        ask("--cacert ca.pem --cert other.pem --key other.key"),
        None,
        "nor with one of another authority"
    );
}
