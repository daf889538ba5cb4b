//! Errors of the configuration file: the file, the line, what is wrong, and the nearest key that would be right.

use std::path::{Path, PathBuf};

/// Keys that Prometheus knows and this program does not, refused by name.
const PROMETHEUS_ONLY: &[&str] = &[
    "alerting",
    "azuread",
    "evaluation_interval",
    "follow_redirects",
    "google_iam",
    "http_headers",
    "metadata_config",
    "no_proxy",
    "oauth2",
    "otlp",
    "proxy_connect_header",
    "proxy_from_environment",
    "proxy_url",
    "query_log_file",
    "remote_read",
    "round_robin_dns",
    "rule_files",
    "rule_query_offset",
    "runtime",
    "scrape_config_files",
    "scrape_configs",
    "scrape_failure_log_file",
    "send_exemplars",
    "sigv4",
    "storage",
    "tracing",
    "write_relabel_configs",
];

/// A configuration that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {message}", path.display(), position.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default())]
pub struct ConfigError {
    pub path: PathBuf,
    /// Line and column, from 1.
    pub position: Option<(usize, usize)>,
    pub message: String,
}

impl ConfigError {
    pub(super) fn file(path: &Path, message: impl Into<String>) -> Self {
        ConfigError { path: path.to_owned(), position: None, message: message.into() }
    }

    pub(super) fn yaml(path: &Path, error: &serde_norway::Error) -> Self {
        let position = error.location().map(|at| (at.line(), at.column()));
        let text = error.to_string();
        // The position is ours to say; the library says it again at the end.
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
        ConfigError { path: path.to_owned(), position, message: explain(text) }
    }
}

/// Adds to "unknown field" what would help.
fn explain(text: &str) -> String {
    let Some((before, after)) = text.split_once("unknown field `") else { return text.to_owned() };
    let mut quoted = after.split('`');
    let unknown = quoted.next().unwrap_or_default();
    if PROMETHEUS_ONLY.contains(&unknown) {
        return format!(
            "{before}`{unknown}` is a key of Prometheus that this collector does not support: remove it"
        );
    }
    let known: Vec<&str> = quoted.skip(1).step_by(2).collect();
    let nearest = known.iter().min_by_key(|key| strsim::damerau_levenshtein(key, unknown));
    match nearest {
        Some(nearest) => format!("{before}unknown key `{unknown}`; did you mean `{nearest}`?"),
        None => format!("{before}unknown key `{unknown}`; none is known here"),
    }
}
