//! What is counted of discovery, as Prometheus names it.

use std::sync::{Arc, Mutex, PoisonError};

use super::Cell;
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
    REFRESHES = counter "collector_sd_refreshes_total" "Answers that a provider had, whether they changed anything or not." ["mechanism", "config"];
    FAILURES = counter "prometheus_sd_refresh_failures_total" "Times that a provider could not learn what targets there are." ["mechanism", "config"];
    ELSEWHERE = gauge "collector_sd_targets_elsewhere" "Targets of a job that other shards scrape." ["config"];
}

/// As Prometheus calls what finds targets to scrape.
const NAME: &str = "scrape";

/// The counters of all discovery.
#[derive(Debug, Default)]
pub struct DiscoveryStats {
    pub received: Cell,
    pub updates: Cell,
    jobs: Mutex<Vec<Arc<JobStats>>>,
}

/// The counters of one job.
#[derive(Debug, Default)]
pub struct JobStats {
    pub job: String,
    /// Targets that the configuration itself lists.
    pub fixed: u64,
    pub elsewhere: Cell,
    pub providers: Vec<Arc<ProviderStats>>,
}

/// The counters of one provider, which several jobs may have.
#[derive(Debug, Default)]
pub struct ProviderStats {
    /// `file`, `http`, `dns`, ...
    pub mechanism: &'static str,
    pub refreshes: Cell,
    pub failures: Cell,
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
    pub(super) fn put(&self, out: &mut Recorder) {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.is_empty() {
            return;
        }
        out.put(&RECEIVED, &[NAME], self.received.float());
        out.put(&UPDATES, &[NAME], self.updates.float());
        for job in jobs.iter() {
            out.put(&DISCOVERED, &[NAME, &job.job], job.discovered() as f64);
            out.put(&ELSEWHERE, &[&job.job], job.elsewhere.float());
            for (number, provider) in job.providers.iter().enumerate() {
                let mechanism = provider.mechanism;
                let alike = |other: &&Arc<ProviderStats>| other.mechanism == mechanism;
                // Several of one kind are one series.
                if job.providers[..number].iter().any(|other| alike(&other)) {
                    continue;
                }
                let sum = |cell: fn(&ProviderStats) -> &Cell| {
                    job.providers.iter().filter(alike).map(|provider| cell(provider).float()).sum()
                };
                out.put(&REFRESHES, &[mechanism, &job.job], sum(|provider| &provider.refreshes));
                out.put(&FAILURES, &[mechanism, &job.job], sum(|provider| &provider.failures));
            }
        }
    }
}
