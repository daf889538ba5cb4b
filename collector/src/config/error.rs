//! Errors of the configuration file: the file, the line, what is wrong, and the nearest key that would be right.

use std::path::{Path, PathBuf};

/// Keys that Prometheus knows and this program does not, refused by name, and why.
const PROMETHEUS_ONLY: &[(&str, &str)] = &[
    ("ca_ref", SECRETS),
    ("cert_ref", SECRETS),
    ("client_certificate_key", GRANTS),
    ("client_certificate_key_file", GRANTS),
    ("client_certificate_key_id", GRANTS),
    ("client_secret_ref", SECRETS),
    ("credentials_ref", SECRETS),
    ("grant_type", GRANTS),
    ("health_filter", "write the condition into `filter`, or drop such targets by relabel_configs"),
    ("key_ref", SECRETS),
    ("sdk", "of Azure a client secret, a managed identity and a workload identity are built here"),
    ("use_fips_sts_endpoint", ROLES),
    ("otlp", "nothing is received by OTLP here"),
    ("password_ref", SECRETS),
    ("scrape_classic_histograms", "its name is always_scrape_classic_histograms since Prometheus 3"),
    ("scrape_classes", "it is a key of the Prometheus Operator; write its settings into each job"),
    ("scrape_failure_log_file", "failed scrapes are shown under /targets and in the log"),
    ("tracing", "no traces are written"),
    ("username_ref", SECRETS),
];

const SECRETS: &str = "there is no manager of secrets; use the key that ends in _file";
const ROLES: &str = "the token service is asked at its usual name; AWS_ENDPOINT_URL_STS names another";
const GRANTS: &str = "only client credentials are granted tokens here";
const DISCOVERY: &str =
    "write such targets to a file for file_sd_configs, or let something serve them to http_sd_configs";

/// Ways of discovery of Prometheus that are not built here.
const OTHER_DISCOVERY: &[&str] = &[
    "aws",
    "azure",
    "digitalocean",
    "dockerswarm",
    "ec2",
    "eureka",
    "gce",
    "hetzner",
    "ionos",
    "kuma",
    "lightsail",
    "linode",
    "marathon",
    "nerve",
    "nomad",
    "oci",
    "openstack",
    "ovhcloud",
    "puppetdb",
    "scaleway",
    "serverset",
    "stackit",
    "triton",
    "uyuni",
    "vultr",
];

/// Why a key of Prometheus is not taken.
fn prometheus_only(key: &str) -> Option<&'static str> {
    if key.strip_suffix("_sd_configs").is_some_and(|kind| OTHER_DISCOVERY.contains(&kind)) {
        return Some(DISCOVERY);
    }
    PROMETHEUS_ONLY.iter().find(|(known, _)| *known == key).map(|(_, why)| *why)
}

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
    if let Some(why) = prometheus_only(unknown) {
        return format!(
            "{before}`{unknown}` is a key of Prometheus that this collector does not support: {why}; remove it"
        );
    }
    let known: Vec<&str> = quoted.skip(1).step_by(2).collect();
    let nearest = known.iter().min_by_key(|key| strsim::damerau_levenshtein(key, unknown));
    match nearest {
        Some(nearest) => format!("{before}unknown key `{unknown}`; did you mean `{nearest}`?"),
        None => format!("{before}unknown key `{unknown}`; none is known here"),
    }
}
