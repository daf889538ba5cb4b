//! What the file comes to: every value checked, every default filled in, here and nowhere else.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::error::ConfigError;
use super::fault::{Fault, Resolved, each, fault, fault_at};
use super::prom_scraper::{self, ScraperMetrics};
use super::remote_write::{Endpoint, resolve_endpoint};
use super::scrape::ScrapeConfig;
use super::target_api::{self, TargetApi};
use super::{jobs, raw};
use crate::relabel::{Rule, RuleSpec, is_label_name};

const MAX_ENDPOINTS: usize = 64;
const MAX_LABELS: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub external_labels: Vec<(String, String)>,
    pub host: HostSection,
    pub endpoints: Vec<Endpoint>,
    /// Those of the file itself, of `scrape_config_files`, and what `prom_scraper` comes to.
    pub scrape: Vec<ScrapeConfig>,
    /// `None` where nobody looks for the metrics of prom_scraper.
    pub scraper_metrics: Option<ScraperMetrics>,
    /// `None` where nobody may post targets.
    pub target_api: Option<TargetApi>,
    /// What was taken and has no effect, one sentence each.
    pub warnings: Vec<String>,
}

/// How often this host is read for pushing, and as whom.
#[derive(Clone, Debug, PartialEq)]
pub struct HostSection {
    pub scrape_interval: Duration,
    /// `job`, `instance` and what else was given, sorted by name.
    pub labels: Vec<(String, String)>,
    /// Kernel probes, by name, that run or not, whatever their flags say.
    pub ebpf: Vec<(String, bool)>,
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
    let job = job.map_err(|fault| fault.under("prom_scraper"))?;
    let scraper_metrics = match &job {
        Some(_) => {
            prom_scraper::resolve_metrics(&environment).map_err(|fault| fault.under("prom_scraper"))?
        }
        None => None,
    };
    scrape.extend(job);
    let target_api = raw.target_api.map(|raw| target_api::resolve(raw, &defaults, folder)).transpose();
    let target_api = match target_api.map_err(|fault| fault.under("target_api"))? {
        Some((api, job)) => {
            scrape.push(job);
            Some(api)
        }
        None => None,
    };
    jobs::check_names(&scrape)?;
    Ok(Config { external_labels, host, endpoints, scrape, scraper_metrics, target_api, warnings })
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
    Ok(HostSection { scrape_interval, labels, ebpf: raw.ebpf.unwrap_or_default().into_iter().collect() })
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

/// A URL of http or https that names a host.
pub(super) fn check_url(key: &str, url: &str) -> Resolved<()> {
    let uri: hyper::Uri = url.parse().map_err(|error| Fault::new(key, format!("{url:?}: {error}")))?;
    let scheme = uri.scheme_str().unwrap_or_default();
    if uri.host().is_none() || !["http", "https"].contains(&scheme) {
        return fault_at(key, format!("{url:?} must begin with http:// or https:// and name a host"));
    }
    Ok(())
}
