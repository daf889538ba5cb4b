//! The configuration file: what is typed ([`raw`]) and what it comes to ([`resolved`], the only place with
//! defaults). Sections and keys are named as Prometheus names them; a key that is not known is refused with its
//! line and the nearest key that is.

mod duration;
mod error;
mod keys;
mod raw;
mod resolved;
mod scrape;

pub use duration::{Span, parse_duration};
pub use error::ConfigError;
pub use keys::{KEYS, Key};
pub use resolved::{Authorization, Config, Endpoint, HostSection, Queue, Secret, TlsSettings};
pub use scrape::{HttpSettings, OAuth2, PageRules, Proxy, ScrapeConfig, ScrapeProtocol, StaticGroup};

use std::path::Path;

/// A configuration file larger than this is refused, in bytes.
pub const MAX_CONFIG_FILE: u64 = 16 << 20;

/// Reads and resolves the file.
///
/// # Errors
/// Where it is wrong and how to mend it.
pub fn read_config(path: &Path) -> Result<Config, ConfigError> {
    let fail = |error: std::io::Error| ConfigError::file(path, format!("cannot be read: {error}"));
    let length = std::fs::metadata(path).map_err(fail)?.len();
    if length > MAX_CONFIG_FILE {
        return Err(ConfigError::file(path, format!("is larger than {MAX_CONFIG_FILE} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(fail)?;
    parse_config(&text, path)
}

/// Resolves the text of a configuration; `path` names it in errors, and relative files in it are beside it.
///
/// # Errors
/// As [`read_config`].
pub fn parse_config(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let raw = if text.trim().is_empty() {
        raw::Config::default()
    } else {
        serde_norway::from_str(text).map_err(|error| ConfigError::yaml(path, &error))?
    };
    resolved::resolve(raw, path)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
