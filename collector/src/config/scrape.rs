//! What a `scrape_configs` entry comes to: every value checked, every default filled in.

use std::sync::Arc;
use std::time::Duration;

use super::discovery::ProviderConfig;
use super::identity::Identity;
use super::resolved::{Authorization, Secret, TlsSettings};
use crate::relabel::Rule;

/// One entry of `scrape_configs`.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeConfig {
    pub job_name: String,
    pub scrape_interval: Duration,
    pub scrape_timeout: Duration,
    pub metrics_path: String,
    /// `http` or `https`.
    pub scheme: String,
    pub params: Vec<(String, Vec<String>)>,
    pub page: Arc<PageRules>,
    pub http: HttpSettings,
    pub enable_compression: bool,
    /// In the order of preference; becomes the header `Accept`.
    pub protocols: Vec<ScrapeProtocol>,
    /// How names outside `[a-zA-Z0-9_:]` are asked for, in the same header.
    pub escaping: Escaping,
    pub relabel: Arc<[Rule]>,
    pub target_limit: Option<usize>,
    pub keep_dropped_targets: Option<usize>,
    /// Targets listed in the file itself; other ways of discovery stand beside them.
    pub static_configs: Vec<StaticGroup>,
    pub discovery: Vec<ProviderConfig>,
}

/// What is done with the page of a target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageRules {
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    pub track_timestamps_staleness: bool,
    /// Format of a page whose `Content-Type` says nothing that is known.
    pub fallback_protocol: Option<ScrapeProtocol>,
    pub native_histograms: bool,
    pub always_classic_histograms: bool,
    /// `convert_classic_histograms_to_nhcb`: classic histograms become native ones with custom buckets.
    pub convert_classic_histograms: bool,
    pub extra_metrics: bool,
    pub metric_relabel: Arc<[Rule]>,
    /// `metric_name_validation_scheme: legacy`: names of metrics and labels outside `[a-zA-Z0-9_:]` fail a scrape.
    pub legacy_names: bool,
    /// 0 is no limit, here and below.
    pub body_size_limit: u64,
    pub sample_limit: usize,
    pub label_limit: usize,
    pub label_name_length_limit: usize,
    pub label_value_length_limit: usize,
    pub native_histogram_bucket_limit: usize,
    pub native_histogram_min_bucket_factor: f64,
    /// Ours: new series of a target beyond this many are dropped and counted.
    pub series_limit: usize,
}

/// How requests are made: of scrapes, of discovery, of remote write.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HttpSettings {
    pub authorization: Option<Authorization>,
    pub oauth2: Option<Box<OAuth2>>,
    pub identity: Option<Box<Identity>>,
    pub tls: TlsSettings,
    pub proxy: Proxy,
    pub follow_redirects: bool,
    pub http2: bool,
    /// Sent with each request.
    pub headers: Vec<(String, Vec<Secret>)>,
    /// Each connection goes to another address of the host's name, at random.
    pub round_robin_dns: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Proxy {
    #[default]
    None,
    Url {
        url: String,
        no_proxy: String,
        connect_headers: Vec<(String, Vec<Secret>)>,
    },
    FromEnvironment {
        connect_headers: Vec<(String, Vec<Secret>)>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth2 {
    pub client_id: String,
    pub client_secret: Secret,
    /// The secret is a signed assertion of who the client is (RFC 7523), and not a password.
    pub is_assertion: bool,
    pub scopes: Vec<String>,
    pub token_url: String,
    pub endpoint_params: Vec<(String, String)>,
    pub tls: TlsSettings,
    pub proxy: Proxy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrapeProtocol {
    PrometheusText0_0_4,
    PrometheusText1_0_0,
    OpenMetricsText0_0_1,
    OpenMetricsText1_0_0,
    PrometheusProto,
}

impl ScrapeProtocol {
    /// The media type, as an `Accept` header names it.
    pub fn media_type(self) -> &'static str {
        match self {
            ScrapeProtocol::PrometheusText0_0_4 => "text/plain;version=0.0.4",
            ScrapeProtocol::PrometheusText1_0_0 => "text/plain;version=1.0.0",
            ScrapeProtocol::OpenMetricsText0_0_1 => "application/openmetrics-text;version=0.0.1",
            ScrapeProtocol::OpenMetricsText1_0_0 => "application/openmetrics-text;version=1.0.0",
            ScrapeProtocol::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
        }
    }
}

/// How a target shall write names that old receivers do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Escaping {
    #[default]
    AllowUtf8,
    Underscores,
    Dots,
    Values,
}

impl Escaping {
    /// The value of `escaping=` in an `Accept` header.
    pub fn text(self) -> &'static str {
        match self {
            Escaping::AllowUtf8 => "allow-utf-8",
            Escaping::Underscores => "underscores",
            Escaping::Dots => "dots",
            Escaping::Values => "values",
        }
    }
}

/// Targets that share labels, as typed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct StaticGroup {
    pub targets: Vec<String>,
    pub labels: Vec<(String, String)>,
}
