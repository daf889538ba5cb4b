//! What is counted of scrapes, as Prometheus names it where it has a name for it.

use std::sync::{Arc, Mutex, PoisonError};

use super::Cell;
use crate::model::{Family, Recorder};

macro_rules! scrape_families {
    ($($name:ident = $kind:ident $metric:literal $help:literal [$($label:literal),*];)*) => {
        $(static $name: Family = Family::$kind($metric, $help, &[$($label),*]);)*
        pub(super) static FAMILIES: &[&Family] = &[$(&$name),*];
    };
}

scrape_families! {
    SCRAPES = counter "collector_scrapes_total" "Scrapes that were made, whatever became of them." [];
    FAILED = counter "collector_scrapes_failed_total" "Scrapes that gave no page, or one that could not be taken." [];
    SKIPPED = counter "collector_scrapes_skipped_total" "Scrapes left out because the one before them took longer than the interval." [];
    SAMPLE_LIMIT = counter "prometheus_target_scrapes_exceeded_sample_limit_total" "Scrapes refused because the page had more samples than sample_limit allows." [];
    BODY_LIMIT = counter "prometheus_target_scrapes_exceeded_body_size_limit_total" "Scrapes refused because the body was longer than body_size_limit allows." [];
    TARGETS = gauge "prometheus_target_scrape_pool_targets" "Targets that are scraped, by job." ["scrape_job"];
    TARGET_LIMIT = gauge "prometheus_target_scrape_pool_target_limit" "Targets that a job may have; 0 for any number." ["scrape_job"];
    TARGET_LIMIT_EXCEEDED = counter "prometheus_target_scrape_pool_exceeded_target_limit_total" "Times that a job had more targets than target_limit allows." [];
    SYNCS = counter "prometheus_target_scrape_pool_sync_total" "Times that a job was given its targets." ["scrape_job"];
}

/// The counters of all scrapes.
#[derive(Debug, Default)]
pub struct ScrapeStats {
    pub scrapes: Cell,
    pub failed: Cell,
    pub skipped: Cell,
    pub sample_limit: Cell,
    pub body_size_limit: Cell,
    pools: Mutex<Vec<Arc<PoolStats>>>,
}

/// The counters of one job.
#[derive(Debug, Default)]
pub struct PoolStats {
    job: String,
    pub targets: Cell,
    pub target_limit: Cell,
    pub target_limit_exceeded: Cell,
    pub syncs: Cell,
}

impl PoolStats {
    pub fn new(job: &str) -> Self {
        PoolStats { job: job.to_owned(), ..PoolStats::default() }
    }
}

impl ScrapeStats {
    /// Shows these jobs from now on, and no others.
    pub fn set_pools(&self, pools: Vec<Arc<PoolStats>>) {
        *self.pools.lock().unwrap_or_else(PoisonError::into_inner) = pools;
    }

    /// Nothing while no job is configured.
    pub(super) fn put(&self, out: &mut Recorder) {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if pools.is_empty() {
            return;
        }
        for (family, cell) in [
            (&SCRAPES, &self.scrapes),
            (&FAILED, &self.failed),
            (&SKIPPED, &self.skipped),
            (&SAMPLE_LIMIT, &self.sample_limit),
            (&BODY_LIMIT, &self.body_size_limit),
        ] {
            out.put(family, &[], cell.float());
        }
        out.put(
            &TARGET_LIMIT_EXCEEDED,
            &[],
            pools.iter().map(|pool| pool.target_limit_exceeded.float()).sum(),
        );
        for pool in pools.iter() {
            out.put(&TARGETS, &[&pool.job], pool.targets.float());
            out.put(&TARGET_LIMIT, &[&pool.job], pool.target_limit.float());
            out.put(&SYNCS, &[&pool.job], pool.syncs.float());
        }
    }
}
