//! Endpoints of clouds: what the collector asks their token services for, what it shows the receivers, that it asks anew
//! before a token ends, and what happens while there are none.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use collector_tests::process::{Collector, free_port, wait_for};
use collector_tests::receiver::slots;
use collector_tests::recording::{Exchange, Recorder, Reply};

const LONG: Duration = Duration::from_secs(40);
/// A token is fetched anew ten seconds before its end: two seconds after it was given.
const SECONDS: u64 = 12;

/// Who asks, by the first line of the request.
const SERVICES: [(&str, &str); 5] = [
    ("role", "POST / "),
    ("managed", "GET /metadata/identity/oauth2/token?"),
    ("workload", "POST /t-1/oauth2/v2.0/token "),
    ("secret", "POST /t-2/oauth2/v2.0/token "),
    ("google", "GET /computeMetadata/v1/instance/service-accounts/default/token?"),
];

/// The token services of all clouds. Tokens are numbered for each who asks.
struct Tokens {
    recorder: Recorder,
    refuses: Arc<AtomicBool>,
}

fn name_of(request: &Exchange) -> &'static str {
    let found = SERVICES.iter().find(|(_, first_line)| request.first_line.starts_with(first_line));
    found.map_or("nobody", |(name, _)| *name)
}

impl Tokens {
    fn start() -> Self {
        let (refuses, given) = (Arc::new(AtomicBool::new(false)), Mutex::new(Vec::new()));
        let told = refuses.clone();
        let recorder = Recorder::start(move |_, request| {
            if told.load(Ordering::Relaxed) {
                return Reply::status(503).body("no tokens today");
            }
            let name = name_of(request);
            let mut given = given.lock().unwrap();
            given.push(name);
            let number = given.iter().filter(|known| **known == name).count();
            Reply::status(200).body(match name {
                "role" => format!(
                    "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA{number}</AccessKeyId>\
                     <SecretAccessKey>secret</SecretAccessKey><SessionToken>session-{number}</SessionToken>\
                     </Credentials></AssumeRoleResult></AssumeRoleResponse>"
                ),
                // As Azure's machines have it, a number in quotes.
                "managed" => format!(r#"{{"access_token":"{name}-{number}","expires_in":"{SECONDS}"}}"#),
                _ => format!(
                    r#"{{"access_token":"{name}-{number}","token_type":"Bearer","expires_in":{SECONDS}}}"#
                ),
            })
        });
        Tokens { recorder, refuses }
    }

    /// What they were asked for by `name`.
    fn asked(&self, name: &str) -> Vec<Exchange> {
        self.recorder.look(|all| all.iter().filter(|request| name_of(request) == name).cloned().collect())
    }
}

fn endpoints(receivers: &[(&'static str, Recorder)]) -> String {
    let identity = |name| match name {
        "role" => {
            "sigv4: {region: eu-west-1, access_key: AKID, secret_key: s3, role_arn: 'arn:aws:iam::1:role/metrics', \
             external_id: 'x 1'}"
        }
        "managed" => "azuread: {managed_identity: {client_id: 1-2}}",
        "workload" => {
            "azuread: {workload_identity: {client_id: app, tenant_id: t-1, token_file_path: token}}"
        }
        "secret" => "azuread: {oauth: {client_id: app, client_secret: 's/2', tenant_id: t-2}}",
        _ => "google_iam: {}",
    };
    let endpoint = |(name, receiver): &(&'static str, Recorder)| {
        format!("  - {{url: '{}', name: {name}, {}}}\n", receiver.url(), identity(*name))
    };
    receivers.iter().map(endpoint).collect()
}

fn start(folder: &Path, receivers: &[(&'static str, Recorder)], tokens: &Tokens) -> Collector {
    let config = format!("global: {{scrape_interval: 200ms}}\nremote_write:\n{}", endpoints(receivers));
    std::fs::write(folder.join("c.yml"), config).unwrap();
    std::fs::write(folder.join("token"), "e30.e30.c2ln\n").unwrap();
    let host = format!("127.0.0.1:{}", tokens.recorder.port);
    let services = [
        ("AWS_ENDPOINT_URL_STS", format!("http://{host}/")),
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", format!("http://{host}")),
        ("AZURE_AUTHORITY_HOST", format!("http://{host}/")),
        ("GCE_METADATA_HOST", host),
        ("GOOGLE_APPLICATION_CREDENTIALS", String::new()),
    ];
    let flag = format!("--config.file={}", folder.join("c.yml").display());
    Collector::start_in(free_port(), folder, &[&flag, "--no-ebpf"], &services)
}

/// The headers `name` of all requests, the same ones once.
fn shown(receiver: &Recorder, name: &str) -> Vec<String> {
    let mut all: Vec<String> =
        receiver.look(|all| all.iter().map(|request| request.header(name).to_owned()).collect());
    all.dedup();
    all
}

/// The times at which `node_load1` was taken.
fn times(receiver: &Recorder) -> Vec<i64> {
    let taken = receiver.recording();
    let series = taken.iter().filter(|request| request.is_accepted()).flat_map(|r| r.wire().unwrap().series);
    series.filter(|series| series.name() == "node_load1").map(|series| series.samples[0].0).collect()
}

fn form(request: &Exchange) -> String {
    String::from_utf8(request.body.clone()).unwrap()
}

/// What each of them was asked for.
fn assert_asked(tokens: &Tokens) {
    let first = |name| tokens.asked(name).swap_remove(0);
    let role = first("role");
    let expected = "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fmetrics&\
                    RoleSessionName=collector&DurationSeconds=3600&ExternalId=x+1";
    assert_eq!(form(&role), expected);
    let day = &role.header("x-amz-date")[..8];
    let begin = format!(
        "AWS4-HMAC-SHA256 Credential=AKID/{day}/eu-west-1/sts/aws4_request, SignedHeaders=host;x-amz-date, "
    );
    assert!(role.header("authorization").starts_with(&begin), "{:?}", role.headers);
    let managed = first("managed");
    let query = "?api-version=2018-02-01&resource=https%3A%2F%2Fmonitor.azure.com%2F&client_id=1-2 HTTP/1.1";
    assert!(managed.first_line.ends_with(query), "{}", managed.first_line);
    assert_eq!(managed.header("metadata"), "true");
    let scope = "grant_type=client_credentials&scope=https%3A%2F%2Fmonitor.azure.com%2F%2F.default";
    let assertion = "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&\
                     client_assertion=e30.e30.c2ln";
    assert_eq!(form(&first("workload")), format!("{scope}&client_id=app&{assertion}"));
    let secret = first("secret");
    assert_eq!(form(&secret), scope);
    assert_eq!(secret.header("authorization"), "Basic YXBwOnMlMkYy", "app:s%2F2");
    let google = first("google");
    let query = "?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fmonitoring.write HTTP/1.1";
    assert!(google.first_line.ends_with(query), "{}", google.first_line);
    assert_eq!(google.header("metadata-flavor"), "Google");
}

#[test]
fn tokens_are_asked_for_shown_and_renewed_and_nothing_is_lost_while_there_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = Tokens::start();
    let receivers = SERVICES.map(|(name, _)| (name, Recorder::start(|_, request| Reply::accepted(request))));
    let collector = start(folder.path(), &receivers, &tokens);
    // The keys of a role hold for an hour.
    let of_tokens = &receivers[1..];
    let renewed = || of_tokens.iter().all(|(_, receiver)| shown(receiver, "authorization").len() >= 2);
    assert!(wait_for(LONG, renewed), "{}", collector.process.log());
    assert_asked(&tokens);
    for (name, receiver) in of_tokens {
        let expected = [format!("Bearer {name}-1"), format!("Bearer {name}-2")];
        assert_eq!(shown(receiver, "authorization")[..2], expected);
    }
    let role = &receivers[0].1;
    assert_eq!(shown(role, "x-amz-security-token"), ["session-1"]);
    let signed =
        "/eu-west-1/aps/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token, Signature=";
    for header in shown(role, "authorization") {
        assert!(
            header.starts_with("AWS4-HMAC-SHA256 Credential=ASIA1/") && header.contains(signed),
            "{header}"
        );
    }
    assert_eq!(tokens.asked("role").len(), 1, "it is asked once");

    tokens.refuses.store(true, Ordering::Relaxed);
    let retried = |name: &str| {
        let page = collector.metrics();
        page.value("prometheus_remote_storage_samples_retried_total", &[("remote_name", name)]).unwrap_or(0.0)
    };
    assert!(wait_for(LONG, || of_tokens.iter().all(|(name, _)| retried(name) > 0.0)));
    let log = collector.process.log();
    for of in ["azuread.managed_identity", "google_iam", "/t-1/oauth2/v2.0/token", "/t-2/oauth2/v2.0/token"] {
        let said = |line: &str| line.contains(of) && line.contains("no tokens today");
        assert!(log.lines().any(said), "nothing of {of} in\n{log}");
    }
    assert_eq!(retried("role"), 0.0, "it has its keys");
    tokens.refuses.store(false, Ordering::Relaxed);
    let counts: Vec<usize> = receivers.iter().map(|(_, receiver)| times(receiver).len()).collect();
    let goes_on = || receivers.iter().zip(&counts).all(|((_, r), count)| times(r).len() >= count + 10);
    assert!(wait_for(LONG, goes_on), "{}", collector.process.log());
    for (name, receiver) in &receivers {
        let times = times(receiver);
        let whole = slots(&times, 200).windows(2).all(|pair| pair[1] - pair[0] == 1);
        assert!(whole, "{name}: each once and in order: {times:?}");
        assert!(!shown(receiver, "authorization").contains(&String::new()), "{name}: none goes without");
    }
}
