//! The configuration file: what is typed ([`raw`]) and what it comes to ([`resolved`], the only place with
//! defaults). Sections and keys are named as Prometheus names them; a key that is not known is refused with its
//! line and the nearest key that is.

mod discovery;
mod duration;
mod error;
mod fault;
mod glob;
mod http;
mod identity;
mod jobs;
mod keys;
mod prom_scraper;
mod raw;
mod remote_write;
mod resolved;
mod scrape;
mod target_api;
mod yaml;

pub use discovery::{
    ConsulSd, DnsKind, DnsSd, DockerSd, FileSd, HttpSd, KubernetesApi, KubernetesSd, ProviderConfig, Role,
    Selector,
};
pub use duration::{Span, parse_duration};
pub use error::ConfigError;
pub use glob::expand as expand_glob;
pub use identity::Identity;
pub use keys::{HTTP_KEYS, HTTP_SECTIONS, KEYS, Key, RELABEL_KEYS, RELABEL_SECTIONS};
pub use prom_scraper::{PROM_SCRAPER_JOB, PromScraper, PromScraperFile, ScraperMetrics};
pub use remote_write::{AssumedRole, Endpoint, MetadataConfig, Queue, SigV4};
pub use resolved::{Authorization, Config, HostSection, Secret, TlsSettings};
pub use scrape::{
    Escaping, HttpSettings, OAuth2, PageRules, Proxy, ScrapeConfig, ScrapeProtocol, StaticGroup,
};
pub use target_api::TargetApi;
pub use yaml::parse as parse_yaml;

use std::path::Path;

/// A configuration file larger than this is refused, in bytes.
pub const MAX_CONFIG_FILE: u64 = 16 << 20;

/// Reads and resolves the file.
///
/// # Errors
/// Where it is wrong and how to mend it.
pub fn read_config(path: &Path) -> Result<Config, ConfigError> {
    let config = parse_config(&read_text(path)?, path)?;
    config.warnings.iter().for_each(|warning| log::warn!("{}: {warning}", path.display()));
    Ok(config)
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let fail = |error: std::io::Error| ConfigError::file(path, format!("cannot be read: {error}"));
    let length = std::fs::metadata(path).map_err(fail)?.len();
    if length > MAX_CONFIG_FILE {
        return Err(ConfigError::file(path, format!("is larger than {MAX_CONFIG_FILE} bytes")));
    }
    std::fs::read_to_string(path).map_err(fail)
}

/// Resolves the text of a configuration; `path` names it in errors, and relative files in it are beside it.
///
/// # Errors
/// As [`read_config`].
pub fn parse_config(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let raw = if text.trim().is_empty() {
        raw::Config::default()
    } else {
        yaml::parse(text).map_err(|error| ConfigError::yaml(path, &error))?
    };
    resolved::resolve(raw, path)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
