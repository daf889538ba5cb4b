//! What is counted of discovery, as Prometheus names it.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Cell, Window};
use crate::model::{Family, Recorder};

macro_rules! discovery_families {
    ($($name:ident = $kind:ident $metric:literal $help:literal [$($label:literal),*];)*) => {
        $(static $name: Family = Family::$kind($metric, $help, &[$($label),*]);)*
        pub(super) static FAMILIES: &[&Family] = &[$(&$name),*];
    };
}

discovery_families! {
    DISCOVERED = gauge "prometheus_sd_discovered_targets" "Targets that a job finds now, before relabelling." ["name", "config"];
    RECEIVED = counter "prometheus_sd_received_updates_total" "Changes that providers told of." ["name"];
    UPDATES = counter "prometheus_sd_updates_total" "Lists of targets that jobs gave to the scrapes." ["name"];
    DELAYED = counter "prometheus_sd_updates_delayed_total" "Lists of targets that waited for who takes them." ["name"];
    DURATION = summary "prometheus_sd_refresh_duration_seconds" "Time that a provider took to look for targets." ["mechanism", "config"];
    FILE_ERRORS = counter "prometheus_sd_file_read_errors_total" "Files of file_sd_configs that could not be read." [];
    FILE_SCAN = summary "prometheus_sd_file_scan_duration_seconds" "Time that it took to look through the files of file_sd_configs." [];
    HTTP_FAILURES = counter "prometheus_sd_http_failures_total" "Requests of http_sd_configs that brought no targets." [];
    DNS_LOOKUPS = counter "prometheus_sd_dns_lookups_total" "Names that dns_sd_configs asked for." [];
    DNS_FAILURES = counter "prometheus_sd_dns_lookup_failures_total" "Names that could not be asked for." [];
    CONSUL_FAILURES = counter "prometheus_sd_consul_rpc_failures_total" "Requests to Consul that failed." [];
    KUBERNETES_FAILURES = counter "prometheus_sd_kubernetes_failures_total" "Lists and watches of Kubernetes that failed." [];
    REFRESHES = counter "collector_sd_refreshes_total" "Answers that a provider had, whether they changed anything or not." ["mechanism", "config"];
    FAILURES = counter "prometheus_sd_refresh_failures_total" "Times that a provider could not learn what targets there are." ["mechanism", "config"];
    ELSEWHERE = gauge "collector_sd_targets_elsewhere" "Targets of a job that other shards scrape." ["config"];
    SYNC_FAILED = counter "prometheus_target_sync_failed_total" "Targets that a job found and could not be scraped, each time it was given them." ["scrape_job"];
}

/// Those of Prometheus.
const QUANTILES: &super::Quantiles = &[("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99)];

/// As Prometheus calls what finds targets to scrape.
const NAME: &str = "scrape";

/// The counters of all discovery.
#[derive(Debug, Default)]
pub struct DiscoveryStats {
    pub received: Cell,
    pub updates: Cell,
    pub delayed: Cell,
    pub file_errors: Cell,
    pub file_scan: Window,
    pub http_failures: Cell,
    pub dns_lookups: Cell,
    pub dns_failures: Cell,
    pub consul_failures: Cell,
    pub kubernetes_failures: Cell,
    jobs: Mutex<Vec<Arc<JobStats>>>,
}

/// The counters of one job.
#[derive(Debug, Default)]
pub struct JobStats {
    pub job: String,
    /// Targets that the configuration itself lists.
    pub fixed: u64,
    pub elsewhere: Cell,
    /// Targets that can't be scraped, each time they were found.
    pub sync_failed: Cell,
    pub providers: Vec<Arc<ProviderStats>>,
}

/// The counters of one provider, which several jobs may have.
#[derive(Debug, Default)]
pub struct ProviderStats {
    /// `file`, `http`, `dns`, ...
    pub mechanism: &'static str,
    pub refreshes: Cell,
    pub failures: Cell,
    pub durations: Window,
    /// Targets that it knows now.
    pub targets: Cell,
}

impl JobStats {
    /// Targets before relabelling.
    pub fn discovered(&self) -> u64 {
        self.fixed + self.providers.iter().map(|provider| provider.targets.get()).sum::<u64>()
    }
}

impl DiscoveryStats {
    /// Shows these jobs from now on, and no others.
    pub fn set_jobs(&self, jobs: Vec<Arc<JobStats>>) {
        *self.jobs.lock().unwrap_or_else(PoisonError::into_inner) = jobs;
    }

    /// The jobs, by name.
    pub fn jobs(&self) -> Vec<Arc<JobStats>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nothing while no job is configured.
    pub(super) fn put(&self, out: &mut Recorder, sorted: &mut Vec<u64>) {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.is_empty() {
            return;
        }
        out.put(&RECEIVED, &[NAME], self.received.float());
        out.put(&UPDATES, &[NAME], self.updates.float());
        out.put(&DELAYED, &[NAME], self.delayed.float());
        let has = |mechanism| {
            jobs.iter().flat_map(|job| &job.providers).any(|provider| provider.mechanism == mechanism)
        };
        if has("file") {
            out.put(&FILE_ERRORS, &[], self.file_errors.float());
            super::put_summary(&FILE_SCAN, &[], QUANTILES, &self.file_scan, sorted, out);
        }
        for (mechanism, family, cell) in [
            ("http", &HTTP_FAILURES, &self.http_failures),
            ("dns", &DNS_LOOKUPS, &self.dns_lookups),
            ("dns", &DNS_FAILURES, &self.dns_failures),
            ("consul", &CONSUL_FAILURES, &self.consul_failures),
            ("kubernetes", &KUBERNETES_FAILURES, &self.kubernetes_failures),
        ] {
            if has(mechanism) {
                out.put(family, &[], cell.float());
            }
        }
        for job in jobs.iter() {
            out.put(&DISCOVERED, &[NAME, &job.job], job.discovered() as f64);
            out.put(&ELSEWHERE, &[&job.job], job.elsewhere.float());
            out.put(&SYNC_FAILED, &[&job.job], job.sync_failed.float());
            for (number, provider) in job.providers.iter().enumerate() {
                let mechanism = provider.mechanism;
                let alike = |other: &&Arc<ProviderStats>| other.mechanism == mechanism;
                // Several of one kind are one series.
                if job.providers[..number].iter().any(|other| alike(&other)) {
                    continue;
                }
                super::put_summary(
                    &DURATION,
                    &[mechanism, &job.job],
                    QUANTILES,
                    &provider.durations,
                    sorted,
                    out,
                );
                let sum = |cell: fn(&ProviderStats) -> &Cell| {
                    job.providers.iter().filter(alike).map(|provider| cell(provider).float()).sum()
                };
                out.put(&REFRESHES, &[mechanism, &job.job], sum(|provider| &provider.refreshes));
                out.put(&FAILURES, &[mechanism, &job.job], sum(|provider| &provider.failures));
            }
        }
    }
}
