//! The file as it is typed: a mirror of its keys, without defaults. A key that is not here is refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::duration::Span;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    pub global: Option<Global>,
    pub host: Option<Host>,
    pub remote_write: Option<Vec<RemoteWrite>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Global {
    pub scrape_interval: Option<Span>,
    pub external_labels: Option<BTreeMap<String, String>>,
}

/// What this host pushes of itself.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Host {
    pub scrape_interval: Option<Span>,
    pub job_name: Option<String>,
    pub instance: Option<String>,
    pub labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoteWrite {
    pub url: String,
    pub name: Option<String>,
    pub remote_timeout: Option<Span>,
    pub headers: Option<BTreeMap<String, String>>,
    pub protobuf_message: Option<String>,
    pub send_native_histograms: Option<bool>,
    pub basic_auth: Option<BasicAuth>,
    pub authorization: Option<Authorization>,
    pub bearer_token: Option<String>,
    pub bearer_token_file: Option<PathBuf>,
    pub tls_config: Option<TlsConfig>,
    pub enable_http2: Option<bool>,
    pub queue_config: Option<QueueConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BasicAuth {
    pub username: Option<String>,
    pub username_file: Option<PathBuf>,
    pub password: Option<String>,
    pub password_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Authorization {
    #[serde(rename = "type")]
    pub scheme: Option<String>,
    pub credentials: Option<String>,
    pub credentials_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsConfig {
    pub ca: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub cert: Option<String>,
    pub cert_file: Option<PathBuf>,
    pub key: Option<String>,
    pub key_file: Option<PathBuf>,
    pub server_name: Option<String>,
    pub insecure_skip_verify: Option<bool>,
    pub min_version: Option<String>,
    pub max_version: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct QueueConfig {
    pub capacity: Option<u64>,
    pub max_shards: Option<u64>,
    pub min_shards: Option<u64>,
    pub max_samples_per_send: Option<usize>,
    pub batch_send_deadline: Option<Span>,
    pub min_backoff: Option<Span>,
    pub max_backoff: Option<Span>,
    pub retry_on_http_429: Option<bool>,
    pub sample_age_limit: Option<Span>,
}
