//! What `remote_write` comes to: where samples go, in which form, and how fast.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::fault::{Fault, Resolved, fault, fault_at};
use super::http::{check_header, resolve_http};
use super::identity::{Azure, resolve_azure, resolve_google};
use super::raw;
use super::resolved::{Secret, check_url, resolve_rules};
use super::scrape::HttpSettings;
use crate::encode::Protocol;
use crate::relabel::Rule;

const MAX_SAMPLES_PER_SEND: usize = 1_000_000;

#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    pub max_samples_per_send: usize,
    /// Requests under way at once, while that is enough and at the most.
    pub min_shards: usize,
    pub max_shards: usize,
    /// Only shown: what waits is in the batch log.
    pub capacity: usize,
    pub batch_send_deadline: Duration,
    pub min_backoff: Duration,
    pub max_backoff: Duration,
    pub retry_on_http_429: bool,
    /// Samples older than this are dropped unsent; zero for no limit.
    pub sample_age_limit: Duration,
}

/// Of what is told of families, in 1.0 in requests of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataConfig {
    pub send: bool,
    pub send_interval: Duration,
    pub max_samples_per_send: usize,
}

/// How requests are signed for AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigV4 {
    pub region: String,
    /// Given in place, both or none.
    pub access_key: Option<String>,
    pub secret_key: Option<Secret>,
    pub profile: Option<String>,
    pub role: Option<AssumedRole>,
}

/// A role that is assumed before anything is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumedRole {
    pub arn: String,
    pub external_id: Option<String>,
    /// The URL of the token service.
    pub service: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Unique: names the acknowledged position in the batch log, and the `remote_name` label.
    pub name: String,
    pub url: String,
    pub timeout: Duration,
    pub headers: Vec<(String, String)>,
    pub protocol: Protocol,
    /// `None` when nothing is said: native where 2.0 is spoken.
    pub native_histograms: Option<bool>,
    pub exemplars: bool,
    /// After an outage what is new goes before what was kept.
    pub newest_first: bool,
    pub http: HttpSettings,
    pub sigv4: Option<SigV4>,
    pub metadata: MetadataConfig,
    /// Of `write_relabel_configs`.
    pub relabel: Arc<[Rule]>,
    pub queue: Queue,
}

pub(super) fn resolve_endpoint(
    mut raw: raw::RemoteWrite,
    folder: &Path,
    legacy_names: bool,
) -> Resolved<Endpoint> {
    check_url("url", &raw.url)?;
    let protocol = match raw.protobuf_message.as_deref() {
        None | Some("prometheus.WriteRequest") => Protocol::V1,
        Some("io.prometheus.write.v2.Request") => Protocol::V2,
        Some(other) => {
            let why =
                format!("{other:?} is neither prometheus.WriteRequest nor io.prometheus.write.v2.Request");
            return fault_at("protobuf_message", why);
        }
    };
    let sigv4 = raw.sigv4.take().map(resolve_sigv4).transpose().map_err(|fault| fault.under("sigv4"))?;
    let azure = raw.azuread.take().map(|raw| resolve_azure(raw, folder)).transpose();
    let azure = azure.map_err(|fault| fault.under("azuread"))?;
    let google = raw.google_iam.take().map(|raw| resolve_google(raw, folder));
    let mut http = resolve_http(raw.take_http(), folder)?;
    let others = http.authorization.is_some() || http.oauth2.is_some();
    let given = [others, sigv4.is_some(), azure.is_some(), google.is_some()];
    if given.iter().filter(|given| **given).count() > 1 {
        let all = "basic_auth, authorization, oauth2, sigv4, azuread and google_iam";
        return fault(format!("at most one of {all} may be given"));
    }
    match azure {
        Some(Azure::OAuth2(oauth2)) => http.oauth2 = Some(oauth2),
        Some(Azure::Managed(identity)) => http.identity = Some(Box::new(identity)),
        None => http.identity = google.map(Box::new),
    }
    http.round_robin_dns = raw.round_robin_dns.unwrap_or(false);
    let name = raw.name.clone().unwrap_or_else(|| default_name(&raw.url, protocol));
    Ok(Endpoint {
        name,
        timeout: raw.remote_timeout.map_or(Duration::from_secs(30), |span| span.0),
        headers: resolve_headers(raw.headers.take().unwrap_or_default())?,
        protocol,
        native_histograms: raw.send_native_histograms,
        exemplars: raw.send_exemplars.unwrap_or(false),
        newest_first: raw.newest_first.unwrap_or(false),
        http,
        sigv4,
        metadata: resolve_metadata(&raw.metadata_config.unwrap_or_default(), protocol)
            .map_err(|fault| fault.under("metadata_config"))?,
        relabel: resolve_rules("write_relabel_configs", raw.write_relabel_configs, legacy_names)?,
        queue: resolve_queue(&raw.queue_config.unwrap_or_default(), protocol)
            .map_err(|fault| fault.under("queue_config"))?,
        url: raw.url,
    })
}

/// As Prometheus does, a name that follows from what makes the endpoint another one.
fn default_name(url: &str, protocol: Protocol) -> String {
    let mut hash = crc32fast::Hasher::new();
    hash.update(url.as_bytes());
    hash.update(&[protocol as u8]);
    format!("{:06x}", hash.finalize() & 0xff_ffff)
}

fn resolve_headers(raw: std::collections::BTreeMap<String, String>) -> Resolved<Vec<(String, String)>> {
    for (name, value) in &raw {
        check_header(name, value).map_err(|why| Fault::new("headers", why))?;
    }
    Ok(raw.into_iter().collect())
}

/// Samples in one request. Each costs both sides as much as a thousand samples do, but what is in one is refused
/// together; in 2.0 sources that chance puts together have no plan.
fn most_samples(protocol: Protocol) -> usize {
    match protocol {
        Protocol::V1 => 10_000,
        Protocol::V2 => 2_000,
    }
}

fn resolve_queue(raw: &raw::QueueConfig, protocol: Protocol) -> Resolved<Queue> {
    let span = |value: Option<super::Span>, default: Duration| value.map_or(default, |span| span.0);
    let whole =
        |value: Option<u64>, default| value.map_or(default, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let queue = Queue {
        max_samples_per_send: raw.max_samples_per_send.unwrap_or_else(|| most_samples(protocol)),
        min_shards: whole(raw.min_shards, 1),
        max_shards: whole(raw.max_shards, 50),
        capacity: whole(raw.capacity, 10_000),
        batch_send_deadline: span(raw.batch_send_deadline, Duration::from_secs(5)),
        min_backoff: span(raw.min_backoff, Duration::from_millis(30)),
        max_backoff: span(raw.max_backoff, Duration::from_secs(5)),
        retry_on_http_429: raw.retry_on_http_429.unwrap_or(true),
        sample_age_limit: span(raw.sample_age_limit, Duration::ZERO),
    };
    if !(1..=MAX_SAMPLES_PER_SEND).contains(&queue.max_samples_per_send) {
        return fault_at("max_samples_per_send", format!("must lie in 1..{MAX_SAMPLES_PER_SEND}"));
    }
    if queue.max_shards == 0 || queue.min_shards == 0 || queue.min_shards > queue.max_shards {
        return fault_at("min_shards", "must be above 0 and not above max_shards");
    }
    if queue.capacity == 0 {
        return fault_at("capacity", "must be above 0");
    }
    if queue.min_backoff.is_zero() || queue.min_backoff > queue.max_backoff {
        return fault_at("min_backoff", "must be above 0 and not above max_backoff");
    }
    Ok(queue)
}

/// Between two times that families are told. In 2.0 it is their series that have more to say then.
fn metadata_interval(protocol: Protocol) -> Duration {
    match protocol {
        Protocol::V1 => Duration::from_secs(60),
        Protocol::V2 => Duration::from_secs(300),
    }
}

fn resolve_metadata(raw: &raw::MetadataConfig, protocol: Protocol) -> Resolved<MetadataConfig> {
    let metadata = MetadataConfig {
        send: raw.send.unwrap_or(true),
        send_interval: raw.send_interval.map_or(metadata_interval(protocol), |span| span.0),
        max_samples_per_send: raw.max_samples_per_send.unwrap_or(2000),
    };
    if metadata.send_interval < Duration::from_secs(1) {
        return fault_at("send_interval", "must be at least 1s");
    }
    if !(1..=MAX_SAMPLES_PER_SEND).contains(&metadata.max_samples_per_send) {
        return fault_at("max_samples_per_send", format!("must lie in 1..{MAX_SAMPLES_PER_SEND}"));
    }
    Ok(metadata)
}

fn resolve_sigv4(raw: raw::SigV4) -> Resolved<SigV4> {
    if raw.access_key.is_some() != raw.secret_key.is_some() {
        return fault("access_key and secret_key go together");
    }
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let region = raw.region.filter(|region| !region.is_empty());
    let region = region.or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION"));
    let Some(region) = region else {
        return fault_at("region", "region must be given, here or in AWS_REGION");
    };
    let secret_key = raw.secret_key.map(Secret::Inline);
    // As the AWS SDKs have it.
    let service = variable("AWS_ENDPOINT_URL_STS").unwrap_or_else(|| {
        let end = if region.starts_with("cn-") { ".cn" } else { "" };
        format!("https://sts.{region}.amazonaws.com{end}/")
    });
    let external_id = raw.external_id;
    if external_id.is_some() && raw.role_arn.is_none() {
        return fault_at("external_id", "external_id goes with role_arn");
    }
    let role = raw.role_arn.map(|arn| AssumedRole { arn, external_id, service });
    Ok(SigV4 { region, access_key: raw.access_key, secret_key, profile: raw.profile, role })
}
