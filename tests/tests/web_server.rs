//! The HTTP server as operators set it up: TLS, client certificates, users, HTTP/2, sockets of systemd, vsock; and the
//! formats and codings of the page.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use collector_tests::certificates::Certificates;
use collector_tests::process::{Process, collector_binary, free_port, wait_for};
use collector_tests::proto::client::{Metric, MetricFamily};
use collector_tests::skip::{program_or_skip, skip};
use prost::Message as _;

const LONG: Duration = Duration::from_secs(30);
/// bcrypt of "secret", cost 4.
const SECRET: &str = "$2b$04$HloKShWg52tMQ13.MSMdSuLp0Z8ItrfERok31qOk62hYbS9FwNMX6";

/// A collector with a web configuration, and curl to talk to it.
struct Subject {
    certificates: Certificates,
    curl: PathBuf,
    port: u16,
    process: Process,
}

impl Subject {
    fn new(name: &str, config: &str) -> Option<Self> {
        let curl = program_or_skip(name, &["curl"])?;
        let certificates = Certificates::new(name)?;
        let (port, folder) = (free_port(), certificates.path());
        std::fs::write(folder.join("web.yml"), config).unwrap();
        let file = format!("--web.config.file={}", folder.join("web.yml").display());
        let process = Process::start(&collector_binary(), &arguments(port, &[&file]), &folder.join("log"));
        let subject = Subject { certificates, curl, port, process };
        let is_up = wait_for(LONG, || subject.process.log().contains("TLS is"));
        assert!(is_up, "{}", subject.process.log());
        Some(subject)
    }

    /// Status, protocol and headers and body that curl sees; what curl says where it gets no answer.
    fn curl(&self, arguments: &str) -> Result<String, String> {
        let mut command = Command::new(&self.curl);
        let port = self.port;
        let target =
            format!("--silent --show-error --include --resolve receiver.test:{port}:127.0.0.1 --max-time 20");
        command
            .args(target.split_whitespace())
            .args(arguments.replace("PORT", &port.to_string()).split_whitespace());
        let run = command.current_dir(self.certificates.path()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if run.status.success() { Ok(text(run.stdout)) } else { Err(text(run.stderr)) }
    }

    fn write(&self, config: &str) {
        std::fs::write(self.certificates.path().join("web.yml"), config).unwrap();
    }
}

fn arguments(port: u16, more: &[&str]) -> Vec<String> {
    let always = ["--no-ebpf", "--collector.disable-defaults", "--collector.loadavg"];
    let listen = format!("--web.listen-address=127.0.0.1:{port}");
    [listen.as_str()].iter().chain(&always).chain(more).map(|&text| text.to_owned()).collect()
}

const TLS: &str = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";
const URL: &str = "https://receiver.test:PORT/metrics";

#[test]
fn tls_users_headers_and_http_2() {
    let users = format!("basic_auth_users:\n  alice: {SECRET}\n");
    let headers = "http_server_config:\n  headers:\n    X-Content-Type-Options: nosniff\n";
    let Some(subject) = Subject::new("tls_users_headers_and_http_2", &format!("{TLS}{users}{headers}"))
    else {
        return;
    };
    let page = subject.curl(&format!("--cacert ca.pem --user alice:secret {URL}")).unwrap();
    assert!(page.starts_with("HTTP/2 200"), "{page}");
    assert!(page.contains("x-content-type-options: nosniff") && page.contains("\nnode_load1 "), "{page}");
    let page = subject.curl(&format!("--cacert ca.pem --http1.1 --user alice:secret {URL}")).unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    let refused = subject.curl(&format!("--cacert ca.pem --user alice:other {URL}")).unwrap();
    assert!(refused.starts_with("HTTP/2 401") && refused.ends_with("Unauthorized\n"), "{refused}");
    assert!(refused.contains("www-authenticate: Basic") && refused.contains("nosniff"), "{refused}");
    assert!(subject.curl(&format!("--cacert other.pem {URL}")).unwrap_err().contains("certificate"));
    assert!(subject.curl("http://receiver.test:PORT/metrics").is_err(), "plain HTTP is not answered");

    // A renewed certificate counts at the next handshake, a bad file for nobody, a good one again for all.
    let folder = subject.certificates.path();
    subject.certificates.make("server", "server", Some("other"));
    assert!(subject.curl(&format!("--cacert ca.pem {URL}")).is_err(), "the new one is of another authority");
    let page = subject.curl(&format!("--cacert other.pem --user alice:secret {URL}")).unwrap();
    assert!(page.starts_with("HTTP/2 200"), "{page}");
    std::fs::write(folder.join("server.pem"), "no certificate").unwrap();
    assert!(subject.curl(&format!("--insecure {URL}")).is_err());
    assert!(subject.process.log().contains("no certificate in it"), "{}", subject.process.log());
    subject.certificates.make("server", "server", Some("ca"));
    subject.write(&format!("{TLS}http_server_config:\n  http2: false\n"));
    let page = subject.curl(&format!("--cacert ca.pem {URL}")).unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "no user is asked for any more, nor HTTP/2 spoken: {page}");
}

#[test]
fn client_certificates_and_their_names() {
    let more = "  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n";
    let Some(subject) = Subject::new("client_certificates_and_their_names", &format!("{TLS}{more}")) else {
        return;
    };
    let certificates = &subject.certificates;
    certificates.make("stranger", "client", Some("other"));
    let with =
        |client: &str| subject.curl(&format!("--cacert ca.pem --cert {client}.pem --key {client}.key {URL}"));
    let status = |answer: Result<String, String>| answer.map(|text| text.starts_with("HTTP/2 200"));
    let without = || subject.curl(&format!("--cacert ca.pem {URL}"));
    assert_eq!(status(with("client")), Ok(true));
    assert!(with("stranger").is_err());
    assert!(without().is_err());
    for name in ["scraper.test", "192.0.2.7", "ops@scraper.test", "spiffe://test/scraper"] {
        subject.write(&format!("{TLS}{more}  client_allowed_sans: [other.test, '{name}']\n"));
        assert_eq!(status(with("client")), Ok(true), "{name}");
    }
    subject.write(&format!("{TLS}{more}  client_allowed_sans: [other.test]\n"));
    assert!(with("client").is_err());
    subject.write(&format!("{TLS}  client_auth_type: RequireAnyClientCert\n"));
    assert_eq!(status(with("stranger")), Ok(true));
    assert!(without().is_err());
    subject.write(&format!("{TLS}  client_ca_file: ca.pem\n  client_auth_type: VerifyClientCertIfGiven\n"));
    assert!(with("stranger").is_err());
    assert_eq!(status(without()), Ok(true));
    subject.write(&format!("{TLS}  client_auth_type: RequestClientCert\n  min_version: TLS13\n"));
    assert_eq!(status(with("stranger")), Ok(true));
    let old = subject.curl(&format!("--cacert ca.pem --tls-max 1.2 {URL}"));
    assert!(old.is_err(), "{old:?}");
    subject.write(&format!(
        "{TLS}  max_version: TLS12\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n"
    ));
    assert_eq!(
        status(subject.curl(&format!("--cacert ca.pem --ciphers ECDHE-ECDSA-AES128-GCM-SHA256 {URL}"))),
        Ok(true)
    );
    assert!(subject.curl(&format!("--cacert ca.pem --ciphers ECDHE-ECDSA-AES256-GCM-SHA384 {URL}")).is_err());
}

#[test]
fn a_file_of_no_use_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.yml");
    for (config, expected) in [
        ("tls_server_config: {cert_file: none.pem, key_file: none.key}", "none.pem: No such file"),
        ("tls_server_config: {cert: x, key: y}", "no certificate in it"),
        ("basic_auth: {}", "unknown field `basic_auth`"),
        ("rate_limit: [", "web.yml"),
    ] {
        std::fs::write(&path, config).unwrap();
        let file = format!("--web.config.file={}", path.display());
        let run = Command::new(collector_binary()).args(arguments(free_port(), &[&file])).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(1), "{config}: {said}");
        assert!(said.contains(expected), "{config}: {said}");
    }
}

#[test]
fn sockets_of_systemd() {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let run = |script: &str, stdin: Stdio| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(collector_binary());
        command.args(arguments(1, &["--web.systemd-socket"]));
        command
            .stdin(stdin)
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap()
    };
    let mut child =
        run("exec 3<&0; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"", OwnedFd::from(listener).into());
    let url = format!("http://127.0.0.1:{port}/metrics");
    let answer = collector_tests::process::get(&url);
    child.kill().unwrap();
    child.wait().unwrap();
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert_eq!(answer.map(|answer| answer.0), Some(200), "{log}");
    assert!(log.contains("Listening on systemd activated listeners"), "{log}");

    let status = run("exec \"$0\" \"$@\"", Stdio::null()).wait().unwrap();
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("no socket activation file descriptors found"), "{log}");
}

/// A stream to this machine's own vsock port.
fn vsock(port: u32) -> std::io::Result<std::fs::File> {
    // SAFETY: the calls get numbers, and a pointer to a whole `sockaddr_vm` that outlives them.
    unsafe {
        let socket = libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(std::io::Error::last_os_error());
        }
        let stream = std::fs::File::from_raw_fd(socket);
        let mut address: libc::sockaddr_vm = std::mem::zeroed();
        address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
        address.svm_cid = libc::VMADDR_CID_LOCAL;
        address.svm_port = port;
        let size = size_of::<libc::sockaddr_vm>() as libc::socklen_t;
        match libc::connect(socket, (&raw const address).cast(), size) {
            0 => Ok(stream),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}

/// Where the kernel has no way to itself (`CONFIG_VSOCKETS_LOOPBACK`), that the port is taken is all that can be seen from
/// within.
#[test]
fn a_vsock_port() {
    let name = "a_vsock_port";
    if !std::path::Path::new("/dev/vsock").exists() {
        return skip(name, "this kernel has no vsock");
    }
    let folder = tempfile::tempdir().unwrap();
    let port = u32::from(free_port());
    let listen = format!("--web.listen-address=vsock://:{port}");
    let start = |log: &str| {
        Process::start(&collector_binary(), &arguments(free_port(), &[&listen]), &folder.path().join(log))
    };
    let process = start("log");
    assert!(wait_for(LONG, || process.log().contains("address=vsock")), "{}", process.log());
    let mut second = start("second");
    let status = second.wait(LONG).expect("it can't listen there too");
    assert!(status.code() == Some(1) && second.log().contains("vsock://"), "{}", second.log());
    let Ok(mut stream) = vsock(port) else { return };
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\nnode_load1 "), "{answer}");
}

/// Constant samples of every type, in the text format.
const EVERY_TYPE: &str = "# HELP a_info Facts \"in quotes\" \\\\ and\\nlines.\n# TYPE a_info gauge\na_info{of=\"x\\\"\\\\\\ny\"} 1\n\
    # HELP b_total Counts.\n# TYPE b_total counter\nb_total{n=\"1\"} 5e+20\nb_total{n=\"2\"} 0\n\
    # HELP c_count Odd.\n# TYPE c_count counter\nc_count 7\n\
    # HELP d_seconds Waits.\n# TYPE d_seconds histogram\nd_seconds_bucket{le=\"0.5\"} 3\nd_seconds_bucket{le=\"+Inf\"} 4\n\
    d_seconds_sum 2.5\nd_seconds_count 4\n\
    # HELP e_seconds Parts.\n# TYPE e_seconds summary\ne_seconds{quantile=\"0.9\"} 0.25\ne_seconds_sum 9\ne_seconds_count 40\n\
    # HELP f Unknown.\n# TYPE f untyped\nf NaN\n";

/// A collector over [`EVERY_TYPE`], and what it says to these headers.
struct Formats {
    _folder: tempfile::TempDir,
    _process: Process,
    port: u16,
}

impl Formats {
    fn new(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.prom"), EVERY_TYPE).unwrap();
        let port = free_port();
        let directory = format!("--collector.textfile.directory={}", folder.path().display());
        let mut flags = vec!["--web.disable-exporter-metrics", "--collector.textfile", &directory];
        flags.extend(more);
        let process =
            Process::start(&collector_binary(), &arguments(port, &flags), &folder.path().join("log"));
        let formats = Formats { _folder: folder, _process: process, port };
        assert!(wait_for(LONG, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()));
        formats
    }

    /// The content type, the content coding and the body of the families `a_info` to `f`.
    fn get(&self, headers: &str) -> (String, String, Vec<u8>) {
        let names =
            ["a_info", "b_total", "c_count", "d_seconds", "e_seconds", "f"].map(|n| format!("name[]={n}"));
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let query = names.join("&");
        write!(stream, "GET /metrics?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let header = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_default().to_owned()
        };
        (header("content-type"), header("content-encoding"), answer[end + 4..].to_vec())
    }
}

const DELIMITED: &str = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores";

#[test]
fn every_format_says_the_same() {
    let formats = Formats::new(&[]);
    let (kind, coding, text) = formats.get("");
    assert_eq!(
        (kind.as_str(), coding.as_str()),
        ("text/plain; version=0.0.4; charset=utf-8; escaping=underscores", "")
    );
    assert_eq!(String::from_utf8(text.clone()).unwrap(), EVERY_TYPE);

    let (kind, _, body) = formats.get(&format!("Accept: {}\r\n", DELIMITED.rsplit_once(';').unwrap().0));
    assert_eq!(kind, DELIMITED);
    let mut rest = body.as_slice();
    let mut lines = String::new();
    while !rest.is_empty() {
        write_family(&MetricFamily::decode_length_delimited(&mut rest).unwrap(), &mut lines);
    }
    assert_eq!(lines, EVERY_TYPE);

    let prometheus =
        "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n";
    assert_eq!(formats.get(prometheus).2, text, "as node_exporter answers");
    let (kind, _, _) = formats.get(
        "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text\r\n",
    );
    assert!(kind.contains("encoding=text"), "{kind}");
    let (_, coding, body) = formats.get("Accept-Encoding: gzip\r\n");
    assert_eq!(coding, "gzip");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(body.as_slice()).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, text);
    let (_, coding, body) = formats.get("Accept-Encoding: zstd\r\n");
    assert_eq!((coding.as_str(), zstd::bulk::decompress(&body, 1 << 20).unwrap()), ("zstd", text));
}

/// As the text format has it.
fn write_family(family: &MetricFamily, out: &mut String) {
    let name = family.name();
    let help = family.help().replace('\\', "\\\\").replace('\n', "\\n");
    let kind = format!("{:?}", family.r#type()).to_lowercase();
    out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    for metric in &family.metric {
        let mut line = |suffix: &str, more: Option<(&str, f64)>, value: f64| {
            out.push_str(&format!("{name}{suffix}{} {}\n", labels(metric, more), number(value)));
        };
        if let Some(value) = metric.gauge.as_ref().and_then(|v| v.value) {
            line("", None, value);
        }
        if let Some(value) = metric.counter.as_ref().and_then(|v| v.value) {
            line("", None, value);
        }
        if let Some(value) = metric.untyped.as_ref().and_then(|v| v.value) {
            line("", None, value);
        }
        if let Some(histogram) = &metric.histogram {
            for bucket in &histogram.bucket {
                line("_bucket", Some(("le", bucket.upper_bound())), bucket.cumulative_count() as f64);
            }
            line("_sum", None, histogram.sample_sum());
            line("_count", None, histogram.sample_count() as f64);
        }
        if let Some(summary) = &metric.summary {
            for quantile in &summary.quantile {
                line("", Some(("quantile", quantile.quantile())), quantile.value());
            }
            line("_sum", None, summary.sample_sum());
            line("_count", None, summary.sample_count() as f64);
        }
    }
}

fn labels(metric: &Metric, more: Option<(&str, f64)>) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
    let mut parts: Vec<_> =
        metric.label.iter().map(|label| format!("{}=\"{}\"", label.name(), escape(label.value()))).collect();
    parts.extend(more.map(|(name, value)| format!("{name}=\"{}\"", number(value))));
    if parts.is_empty() { String::new() } else { format!("{{{}}}", parts.join(",")) }
}

fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".into(),
        f64::INFINITY => "+Inf".into(),
        value if value >= 1e6 => format!("{value:e}").replace('e', "e+"),
        value => value.to_string(),
    }
}

#[test]
fn open_metrics_keeps_the_names_of_the_samples() {
    let formats = Formats::new(&["--web.enable-openmetrics"]);
    let (kind, _, page) =
        formats.get("Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n");
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores");
    let page = String::from_utf8(page).unwrap();
    assert!(page.ends_with("# EOF\n"));
    let is_sample = |line: &&str| !line.starts_with('#');
    let samples = |text: &str| text.lines().filter(is_sample).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(samples(&page), samples(EVERY_TYPE));
    let types: BTreeMap<_, _> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let expected = [
        ("a_info", "gauge"),
        ("b", "counter"),
        ("c_count", "unknown"),
        ("d_seconds", "histogram"),
        ("e_seconds", "summary"),
        ("f", "unknown"),
    ];
    assert_eq!(types, BTreeMap::from(expected));
    assert!(page.contains("# HELP a_info Facts \\\"in quotes\\\""), "{page}");
}
