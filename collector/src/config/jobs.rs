//! From a `scrape_configs` entry as typed to what it comes to, by the rules of Prometheus 3.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::discovery::resolve_providers;
use super::duration::Span;
use super::error::ConfigError;
use super::fault::{Fault, Resolved, each, fault_at};
use super::http::resolve_http;
use super::raw;
use super::resolved::resolve_rules;
use super::scrape::{Escaping, PageRules, ScrapeConfig, ScrapeProtocol, StaticGroup};
use super::{read_text, yaml};
use crate::relabel::is_label_name;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// A shorter one would ask for more than a scrape can be.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

const PROTOCOLS: [(&str, ScrapeProtocol); 5] = [
    ("OpenMetricsText0.0.1", ScrapeProtocol::OpenMetricsText0_0_1),
    ("OpenMetricsText1.0.0", ScrapeProtocol::OpenMetricsText1_0_0),
    ("PrometheusProto", ScrapeProtocol::PrometheusProto),
    ("PrometheusText0.0.4", ScrapeProtocol::PrometheusText0_0_4),
    ("PrometheusText1.0.0", ScrapeProtocol::PrometheusText1_0_0),
];

const TEXT_FIRST: [ScrapeProtocol; 4] = [
    ScrapeProtocol::OpenMetricsText1_0_0,
    ScrapeProtocol::OpenMetricsText0_0_1,
    ScrapeProtocol::PrometheusText1_0_0,
    ScrapeProtocol::PrometheusText0_0_4,
];

const SCHEMES: [(&str, Escaping); 4] = [
    ("allow-utf-8", Escaping::AllowUtf8),
    ("underscores", Escaping::Underscores),
    ("dots", Escaping::Dots),
    ("values", Escaping::Values),
];

/// What `global` says of every job that does not say it itself.
pub(super) struct Defaults {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) legacy_names: bool,
    protocols: Option<Vec<ScrapeProtocol>>,
    escaping: Option<Escaping>,
    raw: raw::Global,
}

pub(super) fn resolve_global(raw: raw::Global) -> Resolved<Defaults> {
    let given = |span: Option<Span>| span.map(|span| span.0).filter(|span| !span.is_zero());
    let interval = given(raw.scrape_interval).unwrap_or(DEFAULT_INTERVAL);
    if interval < MIN_INTERVAL {
        return fault_at("scrape_interval", format!("must be at least {MIN_INTERVAL:?}"));
    }
    let timeout = given(raw.scrape_timeout);
    if timeout.is_some_and(|timeout| timeout > interval) {
        return fault_at(
            "scrape_timeout",
            "is greater than scrape_interval: lower it, or raise scrape_interval",
        );
    }
    Ok(Defaults {
        interval,
        timeout: timeout.unwrap_or(DEFAULT_TIMEOUT.min(interval)),
        legacy_names: resolve_validation(raw.metric_name_validation_scheme.as_deref(), false)?,
        protocols: raw.scrape_protocols.as_deref().map(resolve_protocols).transpose()?,
        escaping: resolve_escaping(raw.metric_name_escaping_scheme.as_deref())?,
        raw,
    })
}

fn resolve_validation(typed: Option<&str>, default: bool) -> Resolved<bool> {
    match typed {
        None | Some("") => Ok(default),
        Some("utf8") => Ok(false),
        Some("legacy") => Ok(true),
        Some(other) => {
            fault_at("metric_name_validation_scheme", format!("{other:?} is neither utf8 nor legacy"))
        }
    }
}

fn resolve_escaping(typed: Option<&str>) -> Resolved<Option<Escaping>> {
    let Some(typed) = typed.filter(|typed| !typed.is_empty()) else { return Ok(None) };
    match SCHEMES.iter().find(|(name, _)| *name == typed) {
        Some((_, escaping)) => Ok(Some(*escaping)),
        None => {
            let known = SCHEMES.map(|(name, _)| name).join(", ");
            fault_at("metric_name_escaping_scheme", format!("{typed:?} is none of {known}"))
        }
    }
}

fn resolve_protocol(typed: &str) -> Result<ScrapeProtocol, String> {
    let known = PROTOCOLS.iter().find(|(name, _)| *name == typed).map(|(_, protocol)| *protocol);
    known.ok_or_else(|| {
        format!(
            "unknown scrape protocol {typed:?}: it is one of {}",
            PROTOCOLS.map(|(name, _)| name).join(", ")
        )
    })
}

fn resolve_protocols(typed: &[String]) -> Resolved<Vec<ScrapeProtocol>> {
    let mut protocols = Vec::new();
    for name in typed {
        let protocol = resolve_protocol(name).map_err(|why| Fault::new("scrape_protocols", why))?;
        if protocols.contains(&protocol) {
            return fault_at("scrape_protocols", format!("{name} is in it twice"));
        }
        protocols.push(protocol);
    }
    if protocols.is_empty() {
        return fault_at("scrape_protocols", "may not be empty: remove it for the default");
    }
    Ok(protocols)
}

/// The jobs of a file that `scrape_config_files` names.
pub(super) fn read_file(
    path: &Path,
    defaults: &Defaults,
    before: &[ScrapeConfig],
) -> Result<Vec<ScrapeConfig>, ConfigError> {
    let text = read_text(path)?;
    let raw: raw::ScrapeConfigs = if text.trim().is_empty() {
        raw::ScrapeConfigs::default()
    } else {
        yaml::parse(&text).map_err(|error| ConfigError::yaml(path, &error))?
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let fail = |fault: Fault| ConfigError::file(path, fault.to_string());
    let jobs =
        each("scrape_configs", raw.scrape_configs, |job| resolve_job(job, defaults, folder)).map_err(fail)?;
    let twice = jobs.iter().position(|job| before.iter().any(|other| other.job_name == job.job_name));
    match twice {
        Some(number) => Err(fail(same_name(number, &jobs[number].job_name))),
        None => Ok(jobs),
    }
}

fn same_name(number: usize, name: &str) -> Fault {
    Fault::new(
        format!("scrape_configs[{number}].job_name"),
        format!("a second job named {name:?}: give it a name of its own"),
    )
}

/// Names are told apart within all jobs.
pub(super) fn check_names(jobs: &[ScrapeConfig]) -> Resolved<()> {
    let mut names = HashSet::new();
    match jobs.iter().position(|job| !names.insert(&job.job_name)) {
        Some(number) => Err(same_name(number, &jobs[number].job_name)),
        None => Ok(()),
    }
}

pub(super) fn resolve_job(
    mut raw: raw::ScrapeConfig,
    defaults: &Defaults,
    folder: &Path,
) -> Resolved<ScrapeConfig> {
    if raw.job_name.is_empty() {
        return fault_at("job_name", "may not be empty");
    }
    let (scrape_interval, scrape_timeout) = resolve_times(&raw, defaults)?;
    let legacy = resolve_validation(raw.metric_name_validation_scheme.as_deref(), defaults.legacy_names)?;
    let scheme = raw.scheme.take().filter(|scheme| !scheme.is_empty()).unwrap_or_else(|| "http".to_owned());
    if !["http", "https"].contains(&scheme.as_str()) {
        return fault_at("scheme", format!("{scheme:?} is neither http nor https"));
    }
    let relabel = resolve_rules("relabel_configs", raw.relabel_configs.take(), legacy)?;
    let static_configs = resolve_static(raw.static_configs.take(), relabel.is_empty())?;
    let http = resolve_http(raw.take_http(), folder)?;
    let limit =
        |own: Option<usize>, global: Option<usize>| own.filter(|n| *n > 0).or(global.filter(|n| *n > 0));
    Ok(ScrapeConfig {
        scrape_interval,
        scrape_timeout,
        metrics_path: raw
            .metrics_path
            .take()
            .filter(|path| !path.is_empty())
            .unwrap_or_else(|| "/metrics".to_owned()),
        scheme,
        params: raw.params.take().unwrap_or_default().into_iter().collect(),
        http,
        enable_compression: raw.enable_compression.unwrap_or(true),
        protocols: job_protocols(&raw, defaults)?,
        escaping: job_escaping(&raw, defaults, legacy)?,
        target_limit: limit(raw.target_limit, defaults.raw.target_limit),
        keep_dropped_targets: limit(raw.keep_dropped_targets, defaults.raw.keep_dropped_targets),
        discovery: resolve_providers(&mut raw, folder)?,
        page: Arc::new(resolve_page(&mut raw, defaults, legacy)?),
        relabel,
        static_configs,
        job_name: raw.job_name,
    })
}

fn resolve_times(raw: &raw::ScrapeConfig, defaults: &Defaults) -> Resolved<(Duration, Duration)> {
    let given = |span: Option<Span>| span.map(|span| span.0).filter(|span| !span.is_zero());
    let interval = given(raw.scrape_interval).unwrap_or(defaults.interval);
    if interval < MIN_INTERVAL {
        return fault_at("scrape_interval", format!("must be at least {MIN_INTERVAL:?}"));
    }
    let timeout = given(raw.scrape_timeout);
    if timeout.is_some_and(|timeout| timeout > interval) {
        let why = format!(
            "is greater than the scrape_interval of {interval:?}: lower it, or raise scrape_interval"
        );
        return fault_at("scrape_timeout", why);
    }
    Ok((interval, timeout.unwrap_or(defaults.timeout.min(interval))))
}

fn job_protocols(raw: &raw::ScrapeConfig, defaults: &Defaults) -> Resolved<Vec<ScrapeProtocol>> {
    if let Some(typed) = &raw.scrape_protocols {
        return resolve_protocols(typed);
    }
    if let Some(protocols) = &defaults.protocols {
        return Ok(protocols.clone());
    }
    let native = raw.scrape_native_histograms.or(defaults.raw.scrape_native_histograms).unwrap_or(false);
    let first = native.then_some(ScrapeProtocol::PrometheusProto);
    Ok(first.into_iter().chain(TEXT_FIRST).collect())
}

fn job_escaping(raw: &raw::ScrapeConfig, defaults: &Defaults, legacy: bool) -> Resolved<Escaping> {
    let inherited = if legacy { Escaping::Underscores } else { Escaping::AllowUtf8 };
    let own_validation = raw.metric_name_validation_scheme.as_deref().is_some_and(|typed| !typed.is_empty());
    let global = defaults.escaping.filter(|_| !own_validation);
    let escaping =
        resolve_escaping(raw.metric_name_escaping_scheme.as_deref())?.or(global).unwrap_or(inherited);
    if legacy && escaping == Escaping::AllowUtf8 {
        return fault_at(
            "metric_name_escaping_scheme",
            "allow-utf-8 needs metric_name_validation_scheme: utf8",
        );
    }
    Ok(escaping)
}

fn resolve_page(raw: &mut raw::ScrapeConfig, defaults: &Defaults, legacy_names: bool) -> Resolved<PageRules> {
    let global = &defaults.raw;
    let limit = |own: Option<usize>, global: Option<usize>| own.filter(|n| *n > 0).or(global).unwrap_or(0);
    let switch = |own: Option<bool>, global: Option<bool>| own.or(global).unwrap_or(false);
    let fallback = raw.fallback_scrape_protocol.as_deref().filter(|typed| !typed.is_empty());
    let factor = raw.native_histogram_min_bucket_factor.unwrap_or(0.0);
    if !factor.is_finite() || factor < 0.0 {
        return fault_at("native_histogram_min_bucket_factor", "must be 0 or a factor such as 1.1");
    }
    let body_size = raw.body_size_limit.map(|size| size.0).filter(|size| *size > 0);
    Ok(PageRules {
        honor_labels: raw.honor_labels.unwrap_or(false),
        honor_timestamps: raw.honor_timestamps.unwrap_or(true),
        track_timestamps_staleness: raw.track_timestamps_staleness.unwrap_or(false),
        fallback_protocol: fallback
            .map(resolve_protocol)
            .transpose()
            .map_err(|why| Fault::new("fallback_scrape_protocol", why))?,
        native_histograms: switch(raw.scrape_native_histograms, global.scrape_native_histograms),
        always_classic_histograms: switch(
            raw.always_scrape_classic_histograms,
            global.always_scrape_classic_histograms,
        ),
        convert_classic_histograms: switch(
            raw.convert_classic_histograms_to_nhcb,
            global.convert_classic_histograms_to_nhcb,
        ),
        extra_metrics: switch(raw.extra_scrape_metrics, global.extra_scrape_metrics),
        metric_relabel: resolve_rules(
            "metric_relabel_configs",
            raw.metric_relabel_configs.take(),
            legacy_names,
        )?,
        legacy_names,
        body_size_limit: body_size.or(global.body_size_limit.map(|size| size.0)).unwrap_or(0),
        sample_limit: limit(raw.sample_limit, global.sample_limit),
        label_limit: limit(raw.label_limit, global.label_limit),
        label_name_length_limit: limit(raw.label_name_length_limit, global.label_name_length_limit),
        label_value_length_limit: limit(raw.label_value_length_limit, global.label_value_length_limit),
        native_histogram_bucket_limit: raw.native_histogram_bucket_limit.unwrap_or(0),
        native_histogram_min_bucket_factor: factor,
        series_limit: raw.series_limit.unwrap_or(0),
    })
}

/// Without relabelling an address is what is asked, so a path in it is a mistake.
fn resolve_static(raw: Option<Vec<raw::StaticConfig>>, plain: bool) -> Resolved<Vec<StaticGroup>> {
    each("static_configs", raw, |group| {
        let targets = group.targets.unwrap_or_default();
        if let Some(bad) = targets.iter().find(|target| plain && target.contains('/')) {
            let why = format!(
                "{bad:?} is not a host and port: put its scheme into `scheme`, its path into `metrics_path`"
            );
            return fault_at("targets", why);
        }
        Ok(StaticGroup { targets, labels: resolve_labels(group.labels)? })
    })
}

fn resolve_labels(raw: Option<BTreeMap<String, String>>) -> Resolved<Vec<(String, String)>> {
    let labels = raw.unwrap_or_default();
    match labels.keys().find(|name| !is_label_name(name)) {
        Some(bad) => fault_at("labels", format!("{bad:?} is not a valid label name")),
        None => Ok(labels.into_iter().collect()),
    }
}

/// A list of texts of which at least one is needed.
pub(super) fn some_of(key: &str, list: Option<Vec<String>>) -> Resolved<Vec<String>> {
    match list {
        Some(list) if !list.is_empty() => Ok(list),
        _ => fault_at(key, "must name at least one"),
    }
}

/// A job of which nothing is said but its name.
pub(super) fn default_job(name: &str, defaults: &Defaults) -> Resolved<ScrapeConfig> {
    let text = format!("{{job_name: {name}}}");
    let raw: raw::ScrapeConfig =
        yaml::parse(&text).map_err(|error| Fault::new("job_name", error.to_string()))?;
    resolve_job(raw, defaults, Path::new(""))
}
