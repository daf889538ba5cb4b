//! The ways in of Cloud Foundry's prom_scraper: its variables of the environment, and its files, of which each
//! names one target on this host.
//!
//! Unlike it, a file that is wrong costs itself alone, files are read again when they change, and a client
//! certificate needs no `server_name`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_norway::Value;

use super::discovery::ProviderConfig;
use super::duration::{Span, parse_duration};
use super::fault::{Fault, Resolved, fault_at};
use super::jobs::{Defaults, default_job};
use super::raw;
use super::resolved::{Secret, TlsSettings};
use super::scrape::{HttpSettings, PageRules, ScrapeConfig};
use super::yaml;

/// The job of its files.
pub const PROM_SCRAPER_JOB: &str = "prom_scraper";
/// Where that program serves its own metrics.
const METRICS_PORT: u16 = 14_821;
const DEFAULT_INTERVAL: Duration = Duration::from_secs(15);

/// Where files are looked for, and what holds for all of their targets.
#[derive(Clone, Debug, PartialEq)]
pub struct PromScraper {
    pub globs: Vec<PathBuf>,
    pub default_source_id: String,
    /// That of the job; a target that is scraped more often has its interval for one.
    pub timeout: Duration,
    /// With the certificates that a file may replace.
    pub http: HttpSettings,
}

/// How the metrics of that program are served: on loopback, by mTLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScraperMetrics {
    pub port: u16,
    /// Who signs the certificates of clients.
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// What `METRICS_{CA,CERT,KEY}_FILE_PATH` and `METRICS_PORT` say; `None` where they say nothing.
pub(super) fn resolve_metrics(
    environment: &dyn Fn(&str) -> Option<String>,
) -> Resolved<Option<ScraperMetrics>> {
    const FILES: [&str; 3] = ["METRICS_CA_FILE_PATH", "METRICS_CERT_FILE_PATH", "METRICS_KEY_FILE_PATH"];
    let given = FILES.map(|name| environment(name).map(PathBuf::from));
    let [Some(ca), Some(cert), Some(key)] = given.clone() else {
        let missing = given.iter().position(Option::is_none).unwrap_or_default();
        return match given.iter().any(Option::is_some) {
            true => fault_at(FILES[missing], "is missing: the three files of METRICS_* belong together"),
            false => Ok(None),
        };
    };
    let port = match environment("METRICS_PORT") {
        Some(text) => text.parse().ok().filter(|port| *port > 0),
        None => Some(METRICS_PORT),
    };
    let port = port.ok_or_else(|| Fault::new("METRICS_PORT", "must be a number from 1 to 65535"))?;
    Ok(Some(ScraperMetrics { port, ca, cert, key }))
}

/// What one file comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct PromScraperFile {
    /// `__address__` and what else begins with two underscores, and the labels of the target.
    pub labels: Vec<(String, String)>,
    pub http: HttpSettings,
}

/// The job, if the section or `CONFIG_GLOBS` asks for it. What the section says comes before the environment.
pub(super) fn resolve(
    raw: Option<raw::PromScraper>,
    environment: &dyn Fn(&str) -> Option<String>,
    defaults: &Defaults,
    folder: &Path,
) -> Resolved<Option<ScrapeConfig>> {
    let from_environment = environment("CONFIG_GLOBS");
    if raw.is_none() && from_environment.is_none() {
        return Ok(None);
    }
    let raw = raw.unwrap_or_default();
    let listed = from_environment.iter().flat_map(|list| list.split(',')).map(|glob| glob.trim().to_owned());
    let globs: Vec<String> = raw.config_globs.unwrap_or_else(|| listed.collect());
    let globs: Vec<PathBuf> =
        globs.iter().filter(|glob| !glob.is_empty()).map(|glob| folder.join(glob)).collect();
    if globs.is_empty() {
        return fault_at("config_globs", "must name at least one file or pattern");
    }
    let scrape_interval = match (raw.scrape_interval, environment("SCRAPE_INTERVAL")) {
        (Some(Span(interval)), _) => interval,
        (None, Some(text)) => parse_duration(&text).map_err(|why| Fault::new("SCRAPE_INTERVAL", why))?,
        (None, None) => DEFAULT_INTERVAL,
    };
    if scrape_interval < Duration::from_millis(10) {
        return fault_at("scrape_interval", "must be at least 10ms");
    }
    let file = |own: Option<PathBuf>, name: &str| {
        own.map(|path| folder.join(path)).or_else(|| environment(name).map(PathBuf::from)).map(Secret::File)
    };
    let tls = TlsSettings {
        ca: file(raw.ca_path, "SCRAPE_CA_CERT_PATH"),
        cert: file(raw.cert_path, "SCRAPE_CERT_PATH"),
        key: file(raw.key_path, "SCRAPE_KEY_PATH"),
        insecure_skip_verify: raw.skip_ssl_validation.unwrap_or_else(|| {
            environment("SKIP_SSL_VALIDATION").is_some_and(|text| text == "true" || text == "1")
        }),
        ..TlsSettings::default()
    };
    if tls.cert.is_some() != tls.key.is_some() {
        return fault_at("cert_path", "a client certificate needs both cert_path and key_path");
    }
    let http = HttpSettings { tls, follow_redirects: true, ..HttpSettings::default() };
    let default_source_id =
        raw.default_source_id.or_else(|| environment("DEFAULT_SOURCE_ID")).unwrap_or_default();
    let job = default_job(PROM_SCRAPER_JOB, defaults)?;
    let timeout = job.scrape_timeout.min(scrape_interval);
    Ok(Some(ScrapeConfig {
        scrape_interval,
        scrape_timeout: timeout,
        // A metric that names its own source keeps it, as it does there.
        page: Arc::new(PageRules { honor_labels: true, ..(*job.page).clone() }),
        http: http.clone(),
        discovery: vec![ProviderConfig::PromScraper(PromScraper { globs, default_source_id, timeout, http })],
        ..job
    }))
}

/// Keys of a file. What is not among them is left alone: the files are written for another program too.
#[derive(Deserialize, Default)]
struct RawFile {
    port: Option<Value>,
    source_id: Option<String>,
    instance_id: Option<String>,
    scheme: Option<String>,
    server_name: Option<String>,
    path: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
    scrape_interval: Option<String>,
    ca_path: Option<PathBuf>,
    client_key_path: Option<PathBuf>,
    client_cert_path: Option<PathBuf>,
}

impl PromScraper {
    /// Reads the text of a file. `None` where it asks not to be scraped.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_file(&self, text: &str) -> Result<Option<PromScraperFile>, String> {
        let raw: RawFile = yaml::parse(text).map_err(|error| error.to_string())?;
        let port: u16 = match &raw.port {
            Some(Value::Number(number)) => number.to_string().parse().ok(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            _ => None,
        }
        .filter(|port| *port > 0)
        .ok_or("port: must be a number from 1 to 65535")?;
        let mut labels = vec![("__address__".to_owned(), format!("127.0.0.1:{port}"))];
        let mut add = |name: &str, value: Option<String>| {
            labels.extend(value.filter(|text| !text.is_empty()).map(|value| (name.to_owned(), value)));
        };
        if let Some(text) = raw.scrape_interval.as_deref().filter(|text| !text.is_empty()) {
            if text.starts_with('-') {
                return Ok(None);
            }
            let interval = parse_duration(text.trim()).map_err(|why| format!("scrape_interval: {why}"))?;
            if interval.is_zero() {
                return Ok(None);
            }
            add("__scrape_interval__", Some(text.trim().to_owned()));
            if interval < self.timeout {
                add("__scrape_timeout__", Some(text.trim().to_owned()));
            }
        }
        let scheme = raw.scheme.filter(|scheme| !scheme.is_empty()).unwrap_or_else(|| "http".to_owned());
        if !["http", "https"].contains(&scheme.as_str()) {
            return Err(format!("scheme: {scheme:?} is neither http nor https"));
        }
        add("__scheme__", Some(scheme));
        add("__metrics_path__", raw.path);
        let own = raw.labels.unwrap_or_default();
        let source =
            raw.source_id.filter(|id| !id.is_empty()).unwrap_or_else(|| self.default_source_id.clone());
        for (name, value) in [("source_id", Some(source)), ("instance_id", raw.instance_id)] {
            if !own.contains_key(name) {
                add(name, value);
            }
        }
        own.into_iter().for_each(|(name, value)| add(&name, Some(value)));
        let mut http = self.http.clone();
        for (name, value) in raw.headers.unwrap_or_default() {
            super::http::check_header(&name, &value).map_err(|why| format!("headers: {why}"))?;
            http.headers.push((name, vec![Secret::Inline(value)]));
        }
        let secret = |own: Option<PathBuf>, default: Option<Secret>| own.map(Secret::File).or(default);
        http.tls = TlsSettings {
            ca: secret(raw.ca_path, http.tls.ca),
            cert: secret(raw.client_cert_path, http.tls.cert),
            key: secret(raw.client_key_path, http.tls.key),
            server_name: raw.server_name.filter(|name| !name.is_empty()),
            ..http.tls
        };
        if http.tls.cert.is_some() != http.tls.key.is_some() {
            return Err("client_cert_path: a client certificate needs client_key_path too".to_owned());
        }
        Ok(Some(PromScraperFile { labels, http }))
    }
}
