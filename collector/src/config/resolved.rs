//! What the file comes to: every value checked, every default filled in, here and nowhere else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::ConfigError;
use super::raw;
use crate::encode::Protocol;

const MAX_ENDPOINTS: usize = 64;
const MAX_SAMPLES_PER_SEND: usize = 1_000_000;
const MAX_LABELS: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub external_labels: Vec<(String, String)>,
    pub host: HostSection,
    pub endpoints: Vec<Endpoint>,
}

/// How often this host is read for pushing, and as whom.
#[derive(Clone, Debug, PartialEq)]
pub struct HostSection {
    pub scrape_interval: Duration,
    /// `job`, `instance` and what else was given, sorted by name.
    pub labels: Vec<(String, String)>,
}

/// A secret given in place, or the file it is read from each time it is needed.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    Inline(String),
    File(PathBuf),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Secret::Inline(_) => f.write_str("<secret>"),
            Secret::File(path) => write!(f, "<file {}>", path.display()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorization {
    Basic { username: Secret, password: Secret },
    Header { scheme: String, credentials: Secret },
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TlsSettings {
    pub ca: Option<Secret>,
    pub cert: Option<Secret>,
    pub key: Option<Secret>,
    pub server_name: Option<String>,
    pub insecure_skip_verify: bool,
    pub only_tls13: bool,
    pub only_tls12: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    pub max_samples_per_send: usize,
    pub batch_send_deadline: Duration,
    pub min_backoff: Duration,
    pub max_backoff: Duration,
    pub retry_on_http_429: bool,
    /// Samples older than this are dropped unsent; zero for no limit.
    pub sample_age_limit: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Unique: names the acknowledged position in the batch log, and the `remote_name` label.
    pub name: String,
    pub url: String,
    pub timeout: Duration,
    pub headers: Vec<(String, String)>,
    pub protocol: Protocol,
    /// `None` when nothing is said: native where 2.0 is spoken.
    pub native_histograms: Option<bool>,
    pub authorization: Option<Authorization>,
    pub tls: TlsSettings,
    pub http2: bool,
    pub queue: Queue,
}

impl Default for Config {
    fn default() -> Self {
        resolve(raw::Config::default(), Path::new("")).expect("the empty configuration is right")
    }
}

pub(super) fn resolve(raw: raw::Config, path: &Path) -> Result<Config, ConfigError> {
    let fail = |message: String| ConfigError::file(path, message);
    let folder = path.parent().unwrap_or(Path::new(""));
    let global = raw.global.unwrap_or_default();
    let interval = global.scrape_interval.map_or(Duration::from_secs(60), |span| span.0);
    let external: Vec<_> = global.external_labels.unwrap_or_default().into_iter().collect();
    check_labels(&external).map_err(|error| fail(format!("global.external_labels: {error}")))?;
    let external_labels =
        external.into_iter().map(|(name, value)| (name, expand_variables(&value))).collect();
    let host =
        resolve_host(raw.host.unwrap_or_default(), interval).map_err(|e| fail(format!("host: {e}")))?;
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for (number, entry) in raw.remote_write.unwrap_or_default().into_iter().enumerate() {
        let at = |error: String| fail(format!("remote_write[{number}]: {error}"));
        let endpoint = resolve_endpoint(entry, folder).map_err(at)?;
        if endpoints.iter().any(|other| other.name == endpoint.name) {
            return Err(at(format!(
                "a second endpoint named {:?}: give it a `name` of its own",
                endpoint.name
            )));
        }
        if endpoints.len() == MAX_ENDPOINTS {
            return Err(at(format!("more than {MAX_ENDPOINTS} endpoints")));
        }
        endpoints.push(endpoint);
    }
    Ok(Config { external_labels, host, endpoints })
}

fn resolve_host(raw: raw::Host, interval: Duration) -> Result<HostSection, String> {
    let scrape_interval = raw.scrape_interval.map_or(interval, |span| span.0);
    if scrape_interval < Duration::from_millis(100) {
        return Err("scrape_interval: must be at least 100ms".into());
    }
    let mut labels: Vec<_> = raw.labels.unwrap_or_default().into_iter().collect();
    check_labels(&labels).map_err(|error| format!("labels: {error}"))?;
    labels.retain(|(name, _)| name != "job" && name != "instance");
    labels.push(("job".into(), raw.job_name.unwrap_or_else(|| "node".into())));
    labels.push(("instance".into(), raw.instance.unwrap_or_else(host_name)));
    labels.sort();
    Ok(HostSection { scrape_interval, labels })
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".into())
}

fn check_labels(labels: &[(String, String)]) -> Result<(), String> {
    if labels.len() > MAX_LABELS {
        return Err(format!("more than {MAX_LABELS} labels"));
    }
    match labels.iter().find(|(name, _)| name.is_empty() || name == "__name__") {
        Some((name, _)) => Err(format!("{name:?} can't be used as a label name")),
        None => Ok(()),
    }
}

/// `$NAME` and `${NAME}` stand for a variable of the environment, `$$` for a dollar, as in Prometheus 3.
fn expand_variables(value: &str) -> String {
    let (mut out, mut rest) = (String::new(), value);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            out.push_str(&std::env::var(name).unwrap_or_default());
            rest = after;
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            out.push_str(&std::env::var(&rest[..end]).unwrap_or_default());
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    out
}

fn resolve_endpoint(raw: raw::RemoteWrite, folder: &Path) -> Result<Endpoint, String> {
    let url: hyper::Uri = raw.url.parse().map_err(|error| format!("url: {:?}: {error}", raw.url))?;
    let scheme = url.scheme_str().unwrap_or_default();
    if url.host().is_none() || !["http", "https"].contains(&scheme) {
        return Err(format!("url: {:?} must begin with http:// or https:// and name a host", raw.url));
    }
    let protocol = match raw.protobuf_message.as_deref() {
        None | Some("prometheus.WriteRequest") => Protocol::V1,
        Some("io.prometheus.write.v2.Request") => Protocol::V2,
        Some(other) => {
            return Err(format!(
                "protobuf_message: {other:?} is neither prometheus.WriteRequest nor io.prometheus.write.v2.Request"
            ));
        }
    };
    let name = raw.name.clone().unwrap_or_else(|| default_name(&raw.url, protocol));
    Ok(Endpoint {
        name,
        timeout: raw.remote_timeout.map_or(Duration::from_secs(30), |span| span.0),
        headers: resolve_headers(raw.headers.clone().unwrap_or_default())?,
        protocol,
        native_histograms: raw.send_native_histograms,
        authorization: resolve_authorization(&raw, folder)?,
        tls: raw.tls_config.map_or(Ok(TlsSettings::default()), |tls| resolve_tls(tls, folder))?,
        http2: raw.enable_http2.unwrap_or(true),
        queue: resolve_queue(&raw.queue_config.unwrap_or_default())?,
        url: raw.url,
    })
}

/// As Prometheus does, a name that follows from what makes the endpoint another one.
fn default_name(url: &str, protocol: Protocol) -> String {
    let mut hash = crc32fast::Hasher::new();
    hash.update(url.as_bytes());
    hash.update(&[protocol as u8]);
    format!("{:06x}", hash.finalize() & 0xff_ffff)
}

/// Headers that are the protocol's own, which a user must not replace (remote write specification, "Protocol").
const RESERVED_HEADERS: &[&str] = &[
    "authorization",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "user-agent",
    "x-prometheus-remote-write-version",
];

fn resolve_headers(raw: std::collections::BTreeMap<String, String>) -> Result<Vec<(String, String)>, String> {
    for (name, value) in &raw {
        if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(format!(
                "headers: {name} is set by the protocol or by its own key, and can't be set here"
            ));
        }
        let valid = hyper::header::HeaderName::from_bytes(name.as_bytes()).is_ok();
        if !valid || hyper::header::HeaderValue::from_str(value).is_err() {
            return Err(format!("headers: {name:?} is not a header that HTTP allows"));
        }
    }
    Ok(raw.into_iter().collect())
}

fn resolve_authorization(raw: &raw::RemoteWrite, folder: &Path) -> Result<Option<Authorization>, String> {
    let bearer = raw.bearer_token.is_some() || raw.bearer_token_file.is_some();
    if usize::from(raw.basic_auth.is_some()) + usize::from(raw.authorization.is_some()) + usize::from(bearer)
        > 1
    {
        return Err("at most one of basic_auth, authorization and bearer_token may be given".into());
    }
    let header = |scheme: &str, inline: &Option<String>, file: &Option<PathBuf>, key: &str| {
        let credentials = one_secret(inline, file, folder, key)?
            .ok_or_else(|| format!("{key} or {key}_file must be given"))?;
        Ok(Some(Authorization::Header { scheme: scheme.to_owned(), credentials }))
    };
    if let Some(basic) = &raw.basic_auth {
        let secret = |inline, file, key: &str| {
            one_secret(inline, file, folder, key)
                .map(|secret| secret.unwrap_or(Secret::Inline(String::new())))
        };
        let username = secret(&basic.username, &basic.username_file, "basic_auth.username")?;
        let password = secret(&basic.password, &basic.password_file, "basic_auth.password")?;
        return Ok(Some(Authorization::Basic { username, password }));
    }
    if let Some(authorization) = &raw.authorization {
        let scheme = authorization.scheme.as_deref().unwrap_or("Bearer");
        if scheme.eq_ignore_ascii_case("basic") {
            return Err("authorization.type: for Basic use basic_auth".into());
        }
        let (inline, file) = (&authorization.credentials, &authorization.credentials_file);
        return header(scheme, inline, file, "authorization.credentials");
    }
    if bearer {
        return header("Bearer", &raw.bearer_token, &raw.bearer_token_file, "bearer_token");
    }
    Ok(None)
}

fn one_secret(
    inline: &Option<String>,
    file: &Option<PathBuf>,
    folder: &Path,
    key: &str,
) -> Result<Option<Secret>, String> {
    match (inline, file) {
        (Some(_), Some(_)) => Err(format!("at most one of {key} and {key}_file may be given")),
        (Some(text), None) => Ok(Some(Secret::Inline(text.clone()))),
        (None, Some(path)) => Ok(Some(Secret::File(folder.join(path)))),
        (None, None) => Ok(None),
    }
}

fn resolve_tls(raw: raw::TlsConfig, folder: &Path) -> Result<TlsSettings, String> {
    let version = |key: &str, text: &Option<String>| match text.as_deref() {
        None => Ok(None),
        Some("TLS12") => Ok(Some(12)),
        Some("TLS13") => Ok(Some(13)),
        Some(other) => Err(format!("tls_config.{key}: {other:?} is neither TLS12 nor TLS13")),
    };
    let (min, max) = (version("min_version", &raw.min_version)?, version("max_version", &raw.max_version)?);
    if min == Some(13) && max == Some(12) {
        return Err("tls_config: min_version is above max_version".into());
    }
    let settings = TlsSettings {
        ca: one_secret(&raw.ca, &raw.ca_file, folder, "tls_config.ca")?,
        cert: one_secret(&raw.cert, &raw.cert_file, folder, "tls_config.cert")?,
        key: one_secret(&raw.key, &raw.key_file, folder, "tls_config.key")?,
        server_name: raw.server_name,
        insecure_skip_verify: raw.insecure_skip_verify.unwrap_or(false),
        only_tls13: min == Some(13),
        only_tls12: max == Some(12),
    };
    if settings.cert.is_some() != settings.key.is_some() {
        return Err("tls_config: a client certificate needs both cert and key".into());
    }
    Ok(settings)
}

fn resolve_queue(raw: &raw::QueueConfig) -> Result<Queue, String> {
    let span = |value: Option<super::Span>, default: Duration| value.map_or(default, |span| span.0);
    if raw.capacity.is_some() || raw.max_shards.is_some() || raw.min_shards.is_some() {
        log::info!(
            "queue_config: capacity, min_shards and max_shards have no effect here: the batch log is the queue"
        );
    }
    let queue = Queue {
        max_samples_per_send: raw.max_samples_per_send.unwrap_or(2000),
        batch_send_deadline: span(raw.batch_send_deadline, Duration::from_secs(5)),
        min_backoff: span(raw.min_backoff, Duration::from_millis(30)),
        max_backoff: span(raw.max_backoff, Duration::from_secs(5)),
        retry_on_http_429: raw.retry_on_http_429.unwrap_or(true),
        sample_age_limit: span(raw.sample_age_limit, Duration::ZERO),
    };
    if !(1..=MAX_SAMPLES_PER_SEND).contains(&queue.max_samples_per_send) {
        return Err(format!("queue_config.max_samples_per_send: must lie in 1..{MAX_SAMPLES_PER_SEND}"));
    }
    if queue.min_backoff.is_zero() || queue.min_backoff > queue.max_backoff {
        return Err("queue_config: min_backoff must be above 0 and not above max_backoff".into());
    }
    Ok(queue)
}
