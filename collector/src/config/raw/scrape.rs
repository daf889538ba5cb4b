//! `global` and `scrape_configs` as typed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::http::with_http;
use super::{ConsulSd, DnsSd, DockerSd, FileSd, HttpSd, KubernetesSd};
use crate::config::duration::{Size, Span};
use crate::relabel::RuleSpec;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Global {
    pub scrape_interval: Option<Span>,
    pub scrape_timeout: Option<Span>,
    pub scrape_protocols: Option<Vec<String>>,
    pub external_labels: Option<BTreeMap<String, String>>,
    pub body_size_limit: Option<Size>,
    pub sample_limit: Option<usize>,
    pub target_limit: Option<usize>,
    pub label_limit: Option<usize>,
    pub label_name_length_limit: Option<usize>,
    pub label_value_length_limit: Option<usize>,
    pub keep_dropped_targets: Option<usize>,
    pub metric_name_validation_scheme: Option<String>,
    pub metric_name_escaping_scheme: Option<String>,
    pub scrape_native_histograms: Option<bool>,
    pub always_scrape_classic_histograms: Option<bool>,
    pub convert_classic_histograms_to_nhcb: Option<bool>,
    pub extra_scrape_metrics: Option<bool>,
    // Of rules and queries: taken, and said to have no effect.
    pub evaluation_interval: Option<IgnoredAny>,
    pub rule_query_offset: Option<IgnoredAny>,
    pub query_log_file: Option<IgnoredAny>,
}

/// A file of `scrape_config_files`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ScrapeConfigs {
    pub scrape_configs: Option<Vec<ScrapeConfig>>,
}

with_http! {
    pub(in crate::config) struct ScrapeConfig {
        job_name: String,
        scrape_interval: Option<Span>,
        scrape_timeout: Option<Span>,
        scrape_protocols: Option<Vec<String>>,
        fallback_scrape_protocol: Option<String>,
        scrape_native_histograms: Option<bool>,
        always_scrape_classic_histograms: Option<bool>,
        convert_classic_histograms_to_nhcb: Option<bool>,
        extra_scrape_metrics: Option<bool>,
        metrics_path: Option<String>,
        scheme: Option<String>,
        params: Option<BTreeMap<String, Vec<String>>>,
        honor_labels: Option<bool>,
        honor_timestamps: Option<bool>,
        track_timestamps_staleness: Option<bool>,
        enable_compression: Option<bool>,
        body_size_limit: Option<Size>,
        sample_limit: Option<usize>,
        series_limit: Option<usize>,
        target_limit: Option<usize>,
        label_limit: Option<usize>,
        label_name_length_limit: Option<usize>,
        label_value_length_limit: Option<usize>,
        native_histogram_bucket_limit: Option<usize>,
        native_histogram_min_bucket_factor: Option<f64>,
        keep_dropped_targets: Option<usize>,
        metric_name_validation_scheme: Option<String>,
        metric_name_escaping_scheme: Option<String>,
        relabel_configs: Option<Vec<RuleSpec>>,
        metric_relabel_configs: Option<Vec<RuleSpec>>,
        static_configs: Option<Vec<StaticConfig>>,
        file_sd_configs: Option<Vec<FileSd>>,
        http_sd_configs: Option<Vec<HttpSd>>,
        dns_sd_configs: Option<Vec<DnsSd>>,
        docker_sd_configs: Option<Vec<DockerSd>>,
        consul_sd_configs: Option<Vec<ConsulSd>>,
        kubernetes_sd_configs: Option<Vec<KubernetesSd>>,
    }
}

/// Targets that share labels: of `static_configs`, of files and answers of discovery.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct StaticConfig {
    pub targets: Option<Vec<String>>,
    pub labels: Option<BTreeMap<String, String>>,
}
