//! What the file comes to: every value checked, every default filled in, here and nowhere else.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::error::ConfigError;
use super::fault::{Fault, Resolved, each, fault, fault_at};
use super::http::{check_header, resolve_http};
use super::scrape::{HttpSettings, ScrapeConfig};
use super::{jobs, prom_scraper, raw};
use crate::encode::Protocol;
use crate::relabel::{Rule, RuleSpec, is_label_name};

const MAX_ENDPOINTS: usize = 64;
const MAX_SAMPLES_PER_SEND: usize = 1_000_000;
const MAX_LABELS: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub external_labels: Vec<(String, String)>,
    pub host: HostSection,
    pub endpoints: Vec<Endpoint>,
    /// Those of the file itself, of `scrape_config_files`, and what `prom_scraper` comes to.
    pub scrape: Vec<ScrapeConfig>,
    /// What was taken and has no effect, one sentence each.
    pub warnings: Vec<String>,
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
    /// Requests under way at once, while that is enough and at the most.
    pub min_shards: usize,
    pub max_shards: usize,
    /// Only shown: what waits is in the batch log.
    pub capacity: usize,
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
    pub http: HttpSettings,
    /// Of `write_relabel_configs`.
    pub relabel: Arc<[Rule]>,
    pub queue: Queue,
}

impl Default for Config {
    fn default() -> Self {
        resolve(raw::Config::default(), Path::new("")).expect("the empty configuration is right")
    }
}

pub(super) fn resolve(raw: raw::Config, path: &Path) -> Result<Config, ConfigError> {
    resolve_sections(raw, path).map_err(|error| match error {
        Error::Here(fault) => ConfigError::file(path, fault.to_string()),
        Error::Other(error) => error,
    })
}

/// A fault of this file, or of one that it names.
enum Error {
    Here(Fault),
    Other(ConfigError),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Error::Here(fault)
    }
}

fn resolve_sections(mut raw: raw::Config, path: &Path) -> Result<Config, Error> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let warnings = without_effect(&raw);
    let mut global = raw.global.take().unwrap_or_default();
    let external: Vec<_> = global.external_labels.take().unwrap_or_default().into_iter().collect();
    check_labels(&external).map_err(|fault| fault.under("global.external_labels"))?;
    let external_labels =
        external.into_iter().map(|(name, value)| (name, expand_variables(&value))).collect();
    let defaults = jobs::resolve_global(global).map_err(|fault| fault.under("global"))?;
    let host =
        resolve_host(raw.host.unwrap_or_default(), defaults.interval).map_err(|fault| fault.under("host"))?;
    let mut endpoints: Vec<Endpoint> = Vec::new();
    each("remote_write", raw.remote_write, |entry| {
        let endpoint = resolve_endpoint(entry, folder, defaults.legacy_names)?;
        if endpoints.iter().any(|other| other.name == endpoint.name) {
            return fault_at(
                "name",
                format!("a second endpoint named {:?}: give it a `name` of its own", endpoint.name),
            );
        }
        if endpoints.len() == MAX_ENDPOINTS {
            return fault(format!("more than {MAX_ENDPOINTS} endpoints"));
        }
        endpoints.push(endpoint);
        Ok(())
    })?;
    let mut scrape =
        each("scrape_configs", raw.scrape_configs, |job| jobs::resolve_job(job, &defaults, folder))?;
    for (number, pattern) in raw.scrape_config_files.iter().flatten().enumerate() {
        let at = |why: String| Fault::new(format!("scrape_config_files[{number}]"), why);
        for file in super::glob::expand(&folder.join(pattern)).map_err(at)? {
            let more = jobs::read_file(&file, &defaults, &scrape).map_err(Error::Other)?;
            scrape.extend(more);
        }
    }
    let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let job = prom_scraper::resolve(raw.prom_scraper, &environment, &defaults, folder);
    scrape.extend(job.map_err(|fault| fault.under("prom_scraper"))?);
    jobs::check_names(&scrape)?;
    Ok(Config { external_labels, host, endpoints, scrape, warnings })
}

/// Sections of an unchanged prometheus.yml that concern storing, querying and alerting.
fn without_effect(raw: &raw::Config) -> Vec<String> {
    let global = raw.global.as_ref();
    let sections = [
        ("rule_files", raw.rule_files.is_some(), "no rules are evaluated here"),
        ("alerting", raw.alerting.is_some(), "no alerts are made here"),
        ("storage", raw.storage.is_some(), "samples are kept until they are sent, not stored"),
        ("remote_read", raw.remote_read.is_some(), "nothing is queried here"),
        ("runtime", raw.runtime.is_some(), "it speaks of Go's garbage collector"),
        (
            "global.evaluation_interval",
            global.is_some_and(|global| global.evaluation_interval.is_some()),
            "no rules are evaluated here",
        ),
        (
            "global.rule_query_offset",
            global.is_some_and(|global| global.rule_query_offset.is_some()),
            "no rules are evaluated here",
        ),
        (
            "global.query_log_file",
            global.is_some_and(|global| global.query_log_file.is_some()),
            "nothing is queried here",
        ),
    ];
    let given = sections.iter().filter(|(_, given, _)| *given);
    given.map(|(key, _, why)| format!("{key} has no effect: {why}")).collect()
}

/// Rules as typed, checked; a fault names the number of the rule and the key.
pub(super) fn resolve_rules(
    section: &str,
    specs: Option<Vec<RuleSpec>>,
    legacy_names: bool,
) -> Resolved<Arc<[Rule]>> {
    let rule = |spec| Rule::new(spec, legacy_names).map_err(|fault| Fault::new(fault.key, fault.why));
    each(section, specs, rule).map(Into::into)
}

fn resolve_host(raw: raw::Host, interval: Duration) -> Resolved<HostSection> {
    let scrape_interval = raw.scrape_interval.map_or(interval, |span| span.0);
    if scrape_interval < Duration::from_millis(100) {
        return fault_at("scrape_interval", "must be at least 100ms");
    }
    let mut labels: Vec<_> = raw.labels.unwrap_or_default().into_iter().collect();
    check_labels(&labels).map_err(|fault| fault.under("labels"))?;
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

fn check_labels(labels: &[(String, String)]) -> Resolved<()> {
    if labels.len() > MAX_LABELS {
        return fault(format!("more than {MAX_LABELS} labels"));
    }
    match labels.iter().find(|(name, _)| !is_label_name(name) || name == "__name__") {
        Some((name, _)) => fault(format!("{name:?} can't be used as a label name")),
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

fn resolve_endpoint(mut raw: raw::RemoteWrite, folder: &Path, legacy_names: bool) -> Resolved<Endpoint> {
    check_url("url", &raw.url)?;
    let protocol = match raw.protobuf_message.as_deref() {
        None | Some("prometheus.WriteRequest") => Protocol::V1,
        Some("io.prometheus.write.v2.Request") => Protocol::V2,
        Some(other) => {
            let why =
                format!("{other:?} is neither prometheus.WriteRequest nor io.prometheus.write.v2.Request");
            return fault_at("protobuf_message", why);
        }
    };
    let name = raw.name.clone().unwrap_or_else(|| default_name(&raw.url, protocol));
    Ok(Endpoint {
        name,
        timeout: raw.remote_timeout.map_or(Duration::from_secs(30), |span| span.0),
        headers: resolve_headers(raw.headers.take().unwrap_or_default())?,
        protocol,
        native_histograms: raw.send_native_histograms,
        http: resolve_http(raw.take_http(), folder)?,
        relabel: resolve_rules("write_relabel_configs", raw.write_relabel_configs, legacy_names)?,
        queue: resolve_queue(&raw.queue_config.unwrap_or_default())
            .map_err(|fault| fault.under("queue_config"))?,
        url: raw.url,
    })
}

/// A URL of http or https that names a host.
pub(super) fn check_url(key: &str, url: &str) -> Resolved<()> {
    let uri: hyper::Uri = url.parse().map_err(|error| Fault::new(key, format!("{url:?}: {error}")))?;
    let scheme = uri.scheme_str().unwrap_or_default();
    if uri.host().is_none() || !["http", "https"].contains(&scheme) {
        return fault_at(key, format!("{url:?} must begin with http:// or https:// and name a host"));
    }
    Ok(())
}

/// As Prometheus does, a name that follows from what makes the endpoint another one.
fn default_name(url: &str, protocol: Protocol) -> String {
    let mut hash = crc32fast::Hasher::new();
    hash.update(url.as_bytes());
    hash.update(&[protocol as u8]);
    format!("{:06x}", hash.finalize() & 0xff_ffff)
}

fn resolve_headers(raw: std::collections::BTreeMap<String, String>) -> Resolved<Vec<(String, String)>> {
    for (name, value) in &raw {
        check_header(name, value).map_err(|why| Fault::new("headers", why))?;
    }
    Ok(raw.into_iter().collect())
}

fn resolve_queue(raw: &raw::QueueConfig) -> Resolved<Queue> {
    let span = |value: Option<super::Span>, default: Duration| value.map_or(default, |span| span.0);
    let queue = Queue {
        max_samples_per_send: raw.max_samples_per_send.unwrap_or(2000),
        min_shards: raw.min_shards.unwrap_or(1),
        max_shards: raw.max_shards.unwrap_or(50),
        capacity: raw.capacity.unwrap_or(10_000),
        batch_send_deadline: span(raw.batch_send_deadline, Duration::from_secs(5)),
        min_backoff: span(raw.min_backoff, Duration::from_millis(30)),
        max_backoff: span(raw.max_backoff, Duration::from_secs(5)),
        retry_on_http_429: raw.retry_on_http_429.unwrap_or(true),
        sample_age_limit: span(raw.sample_age_limit, Duration::ZERO),
    };
    if !(1..=MAX_SAMPLES_PER_SEND).contains(&queue.max_samples_per_send) {
        return fault_at("max_samples_per_send", format!("must lie in 1..{MAX_SAMPLES_PER_SEND}"));
    }
    if queue.max_shards == 0 || queue.min_shards == 0 || queue.min_shards > queue.max_shards {
        return fault_at("min_shards", "must be above 0 and not above max_shards");
    }
    if queue.capacity == 0 {
        return fault_at("capacity", "must be above 0");
    }
    if queue.min_backoff.is_zero() || queue.min_backoff > queue.max_backoff {
        return fault_at("min_backoff", "must be above 0 and not above max_backoff");
    }
    Ok(queue)
}
