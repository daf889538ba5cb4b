//! The file as it is typed: a mirror of its keys, without defaults. A key that is not here is refused.

mod discovery;
mod http;
mod scrape;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::duration::Span;
use crate::relabel::RuleSpec;

pub(super) use discovery::{
    AttachMetadata, ConsulSd, DnsSd, DockerSd, FileSd, HttpSd, KubernetesSd, Namespaces, Selector,
};
pub(super) use http::{Authorization, BasicAuth, HeaderValues, Http, OAuth2, TlsConfig};
pub(super) use scrape::{Global, ScrapeConfig, ScrapeConfigs, StaticConfig};

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    pub global: Option<Global>,
    pub host: Option<Host>,
    pub remote_write: Option<Vec<RemoteWrite>>,
    pub scrape_configs: Option<Vec<ScrapeConfig>>,
    pub scrape_config_files: Option<Vec<String>>,
    pub prom_scraper: Option<PromScraper>,
    pub target_api: Option<TargetApi>,
    // Of what Prometheus does besides collecting: taken, and said to have no effect.
    pub rule_files: Option<IgnoredAny>,
    pub alerting: Option<IgnoredAny>,
    pub storage: Option<IgnoredAny>,
    pub remote_read: Option<IgnoredAny>,
    pub runtime: Option<IgnoredAny>,
}

/// What this host pushes of itself.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Host {
    pub scrape_interval: Option<Span>,
    pub job_name: Option<String>,
    pub instance: Option<String>,
    pub labels: Option<BTreeMap<String, String>>,
    pub ebpf: Option<BTreeMap<String, bool>>,
}

/// The files of Cloud Foundry's prom_scraper.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct PromScraper {
    pub config_globs: Option<Vec<String>>,
    pub scrape_interval: Option<Span>,
    pub default_source_id: Option<String>,
    pub cert_path: Option<std::path::PathBuf>,
    pub key_path: Option<std::path::PathBuf>,
    pub ca_path: Option<std::path::PathBuf>,
    pub skip_ssl_validation: Option<bool>,
}

/// The API by which others post targets.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetApi {
    pub job_name: Option<String>,
    pub scrape_interval: Option<Span>,
    pub honor_labels: Option<bool>,
    pub bearer_token_file: Option<std::path::PathBuf>,
}

http::with_http! {
    pub(super) struct RemoteWrite {
        url: String,
        name: Option<String>,
        remote_timeout: Option<Span>,
        headers: Option<BTreeMap<String, String>>,
        protobuf_message: Option<String>,
        send_exemplars: Option<bool>,
        newest_first: Option<bool>,
        send_native_histograms: Option<bool>,
        write_relabel_configs: Option<Vec<RuleSpec>>,
        queue_config: Option<QueueConfig>,
        metadata_config: Option<MetadataConfig>,
        sigv4: Option<SigV4>,
        azuread: Option<AzureAd>,
        google_iam: Option<GoogleIam>,
        round_robin_dns: Option<bool>,
    }
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

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct MetadataConfig {
    pub send: Option<bool>,
    pub send_interval: Option<Span>,
    pub max_samples_per_send: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SigV4 {
    pub region: Option<String>,
    pub access_key: Option<String>,
    pub secret_key: Option<String>,
    pub profile: Option<String>,
    pub role_arn: Option<String>,
    pub external_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AzureAd {
    pub cloud: Option<String>,
    pub oauth: Option<AzureOAuth>,
    pub managed_identity: Option<AzureManaged>,
    pub workload_identity: Option<AzureWorkload>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AzureManaged {
    pub client_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AzureWorkload {
    pub client_id: Option<String>,
    pub tenant_id: Option<String>,
    pub token_file_path: Option<std::path::PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GoogleIam {
    pub credentials_file: Option<std::path::PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AzureOAuth {
    pub client_id: Option<String>,
    pub client_secret: Option<String>,
    pub tenant_id: Option<String>,
}
