//! Endpoints behind TLS: nginx with certificates of the test's own, in front of the tests' receiver.

use std::path::{Path, PathBuf};
use std::time::Duration;

use collector_tests::certificates::Certificates;
use collector_tests::process::{Collector, Process, free_port, wait_for};
use collector_tests::receiver::{Point, Receiver, slots};
use collector_tests::skip::program_or_skip;

const LONG: Duration = Duration::from_secs(30);

/// The name in the server's certificate; the URLs say 127.0.0.1, which is not in it.
const NAME: &str = "receiver.test";

/// The programs, and a folder with what they made.
struct Setup {
    certificates: Certificates,
    nginx: PathBuf,
}

impl Setup {
    fn new(name: &str) -> Option<Self> {
        let nginx = program_or_skip(name, &["nginx"])?;
        Some(Setup { certificates: Certificates::new(name)?, nginx })
    }

    fn path(&self) -> &Path {
        self.certificates.path()
    }

    /// An nginx that hands on to the receiver, in a folder of its own.
    fn front(&self, name: &str, receiver: &Receiver, more: &str) -> Front {
        let folder = self.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let port = free_port();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {what};\n"))
            .concat();
        // One process, so that ending it leaves no worker behind.
        let config = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log info;\n\
             events {{}}\nhttp {{\n{temporary}\
             log_format seen '$status $server_protocol $ssl_protocol [$ssl_client_s_dn] [$remote_user]';\n\
             access_log access.log seen;\nclient_max_body_size 100m;\n\
             server {{\nlisten 127.0.0.1:{port} ssl http2;\nssl_protocols TLSv1.2 TLSv1.3;\n\
             ssl_certificate {dir}/server.pem;\nssl_certificate_key {dir}/server.key;\n{more}\n\
             location / {{ proxy_pass http://127.0.0.1:{}; }}\n}}\n}}\n",
            receiver.port,
            dir = self.path().display(),
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let arguments = ["-p", folder.to_str().unwrap(), "-c", file.to_str().unwrap(), "-e", "error.log"];
        let arguments = arguments.map(str::to_owned);
        let process = Process::start(&self.nginx, &arguments, &folder.join("output.log"));
        let open = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        let error_log = || std::fs::read_to_string(folder.join("error.log")).unwrap_or_default();
        assert!(wait_for(LONG, open), "{}{}", process.log(), error_log());
        Front { _process: process, port, folder }
    }

    fn start(&self, endpoints: &[String]) -> Collector {
        let file = self.path().join("c.yml");
        let endpoints: String = endpoints.iter().map(|endpoint| format!("  - {{{endpoint}}}\n")).collect();
        std::fs::write(&file, format!("global: {{scrape_interval: 200ms}}\nremote_write:\n{endpoints}"))
            .unwrap();
        Collector::start(free_port(), self.path(), &[&format!("--config.file={}", file.display())])
    }
}

/// An nginx that runs.
struct Front {
    _process: Process,
    port: u16,
    folder: PathBuf,
}

impl Front {
    /// The keys of an endpoint, with those of its `tls_config`.
    fn endpoint(&self, name: &str, tls: &str) -> String {
        format!("name: {name}, url: 'https://127.0.0.1:{}/api/v1/write', tls_config: {{{tls}}}", self.port)
    }

    /// A line a request.
    fn requests(&self) -> String {
        std::fs::read_to_string(self.folder.join("access.log")).unwrap()
    }
}

/// The `tls_config` that is right.
fn verified() -> String {
    format!("ca_file: ca.pem, server_name: {NAME}")
}

/// The times at which `node_load1` arrived.
fn times(receiver: &Receiver) -> Vec<i64> {
    receiver.look(|taken| {
        let of_load =
            |(key, points): (&String, &Vec<Point>)| key.starts_with("node_load1{").then(|| points.clone());
        taken.series.iter().find_map(of_load).unwrap_or_default().iter().map(|point| point.0).collect()
    })
}

/// Waits for some ticks: each is there once and in order, and every request could be read.
fn assert_arrives(collector: &Collector, receiver: &Receiver) {
    assert!(wait_for(LONG, || times(receiver).len() >= 5), "{}", collector.process.log());
    let times = times(receiver);
    for pair in slots(&times, 200).windows(2) {
        assert_eq!(pair[1] - pair[0], 1, "in {times:?}");
    }
    receiver.look(|taken| assert_eq!(taken.faults, Vec::<String>::new()));
}

fn assert_nothing_came(receiver: &Receiver) {
    receiver.look(|taken| assert_eq!(taken.requests.len(), 0));
}

fn value(collector: &Collector, name: &str, endpoint: &str) -> f64 {
    let full = format!("prometheus_remote_storage_{name}");
    let found = collector.metrics().value(&full, &[("remote_name", endpoint)]);
    found.unwrap_or_else(|| panic!("{full} of {endpoint} is missing"))
}

/// The line of the log about this endpoint that holds `text`.
fn assert_logged(collector: &Collector, endpoint: &str, text: &str) {
    let log = collector.process.log();
    let said = log.lines().any(|line| line.contains(endpoint) && line.contains(text));
    assert!(said, "nothing of {text:?} and {endpoint} in:\n{log}");
}

#[test]
fn a_certificate_of_the_given_authority_for_the_given_name_is_taken() {
    let Some(setup) = Setup::new("a_certificate_of_the_given_authority_for_the_given_name_is_taken") else {
        return;
    };
    let (new, old) = (Receiver::start(), Receiver::start());
    let (new_front, old_front) = (setup.front("new", &new, ""), setup.front("old", &old, ""));
    let collector = setup.start(&[
        new_front.endpoint("new", &format!("{}, min_version: TLS13", verified())),
        old_front.endpoint("old", &format!("{}, max_version: TLS12", verified())) + ", enable_http2: false",
    ]);
    assert_arrives(&collector, &new);
    assert_arrives(&collector, &old);
    assert!(new_front.requests().contains("204 HTTP/2.0 TLSv1.3"), "{}", new_front.requests());
    assert!(old_front.requests().contains("204 HTTP/1.1 TLSv1.2"), "{}", old_front.requests());
}

#[test]
fn an_unknown_authority_and_a_wrong_name_are_refused_and_slow_no_other() {
    let Some(setup) = Setup::new("an_unknown_authority_and_a_wrong_name_are_refused_and_slow_no_other")
    else {
        return;
    };
    let (good, bad) = (Receiver::start(), Receiver::start());
    let (good_front, bad_front) = (setup.front("good", &good, ""), setup.front("bad", &bad, ""));
    let collector = setup.start(&[
        good_front.endpoint("good", &verified()),
        bad_front.endpoint("stranger", &format!("ca_file: other.pem, server_name: {NAME}")),
        bad_front.endpoint("misnamed", "ca_file: ca.pem"),
    ]);
    assert_arrives(&collector, &good);
    for endpoint in ["stranger", "misnamed"] {
        let pending = || value(&collector, "samples_pending", endpoint) > 0.0;
        assert!(wait_for(LONG, pending), "{}", collector.process.log());
        assert!(value(&collector, "samples_retried_total", endpoint) > 0.0);
        assert_eq!(value(&collector, "samples_failed_total", endpoint), 0.0);
    }
    assert_logged(&collector, "stranger", "UnknownIssuer");
    assert_logged(&collector, "misnamed", "not valid for name");
    assert_eq!(value(&collector, "samples_failed_total", "good"), 0.0);
    assert_nothing_came(&bad);
    assert_eq!(bad_front.requests(), "", "no request left the collector");
}

#[test]
fn a_client_certificate_is_shown_where_one_is_configured() {
    let Some(setup) = Setup::new("a_client_certificate_is_shown_where_one_is_configured") else { return };
    let (known, unknown) = (Receiver::start(), Receiver::start());
    let asking = format!("ssl_client_certificate {}/ca.pem;\nssl_verify_client on;", setup.path().display());
    let known_front = setup.front("known", &known, &asking);
    let unknown_front = setup.front("unknown", &unknown, &asking);
    let collector = setup.start(&[
        known_front
            .endpoint("known", &format!("{}, cert_file: client.pem, key_file: client.key", verified())),
        unknown_front.endpoint("unknown", &verified()),
    ]);
    assert_arrives(&collector, &known);
    assert!(known_front.requests().contains("[CN=client]"), "{}", known_front.requests());
    // nginx finishes the handshake and answers 400, which is for good.
    assert!(wait_for(LONG, || value(&collector, "samples_failed_total", "unknown") > 0.0));
    assert_logged(&collector, "unknown", "No required SSL certificate was sent");
    assert_nothing_came(&unknown);
}

#[test]
fn a_password_is_checked_by_the_far_side() {
    let Some(setup) = Setup::new("a_password_is_checked_by_the_far_side") else { return };
    let hash = setup.certificates.openssl("passwd -apr1 right");
    std::fs::write(setup.path().join("htpasswd"), format!("me:{hash}")).unwrap();
    let asking = format!("auth_basic x;\nauth_basic_user_file {}/htpasswd;", setup.path().display());
    let (known, unknown) = (Receiver::start(), Receiver::start());
    let known_front = setup.front("known", &known, &asking);
    let unknown_front = setup.front("unknown", &unknown, &asking);
    let password = |password: &str| format!(", basic_auth: {{username: me, password: {password}}}");
    let collector = setup.start(&[
        known_front.endpoint("known", &verified()) + &password("right"),
        unknown_front.endpoint("unknown", &verified()) + &password("wrong"),
    ]);
    assert_arrives(&collector, &known);
    assert!(known_front.requests().contains("[me]"), "{}", known_front.requests());
    assert!(wait_for(LONG, || value(&collector, "samples_failed_total", "unknown") > 0.0));
    assert_eq!(value(&collector, "samples_retried_total", "unknown"), 0.0);
    assert_logged(&collector, "unknown", "401 Unauthorized");
    assert!(!collector.process.log().contains("wrong"), "no password in the log");
    assert_nothing_came(&unknown);
}

#[test]
fn any_certificate_is_taken_where_it_is_asked_for() {
    let Some(setup) = Setup::new("any_certificate_is_taken_where_it_is_asked_for") else { return };
    let receiver = Receiver::start();
    let front = setup.front("front", &receiver, "");
    let collector = setup.start(&[front.endpoint("r", "ca_file: other.pem, insecure_skip_verify: true")]);
    assert_arrives(&collector, &receiver);
}
