//! The loops that fetch pages: schedule, connections, what every target says of itself.
//!
//! A few threads `scrape-N`, each with a share of the targets by the hash of their labels. A page is fetched,
//! read and turned into a batch on one thread, in one buffer, which the next target uses again; the batch goes
//! through the ring. A target that hangs costs a connection and a timer, and delays nobody.

mod body;
mod content;
mod explain;
mod fault;
mod fetch;
mod http;
mod schedule;
mod scraper;
mod state;
mod thread;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hashbrown::HashMap;
use tokio::sync::Semaphore;

use self::scraper::Surroundings;
use self::thread::{Command, ScrapeThread};
use super::target::{DroppedTarget, Target};
use crate::client::Client;
use crate::config::ScrapeConfig;
use crate::limits::SCRAPES_UNDER_WAY;
use crate::model::SeriesTable;
use crate::ring;
use crate::self_metrics::{Counters, PoolStats};

pub use explain::{RawPage, RelabelStep};
pub use state::{Entry, Health, Job, PoolView, Status};

/// All that scrapes.
pub struct Engine {
    around: Surroundings,
    wanted_threads: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Started with the first job.
    threads: Vec<ScrapeThread>,
    pools: BTreeMap<String, Pool>,
}

struct Pool {
    job: Arc<Job>,
    /// By the hashes of the targets.
    active: HashMap<u64, Arc<Entry>>,
    dropped: Vec<DroppedTarget>,
    dropped_total: usize,
    stats: Arc<PoolStats>,
}

impl Engine {
    /// An engine without a job. It has no thread yet.
    pub fn new(
        threads: usize,
        ring: ring::Sender,
        table: Arc<SeriesTable>,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let under_way = Arc::new(Semaphore::new(SCRAPES_UNDER_WAY));
        let around = Surroundings { ring, table, counters, under_way };
        Arc::new(Engine { around, wanted_threads: threads.max(1), inner: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The jobs of `configs`, with what can be kept of those that run. Nothing is changed by it.
    ///
    /// # Errors
    /// What is wrong with a job.
    pub fn prepare(&self, configs: &[ScrapeConfig]) -> Result<Vec<Arc<Job>>, String> {
        let guard = self.lock();
        let job =
            |config: &ScrapeConfig| next_job(config, guard.pools.get(&config.job_name).map(|pool| &pool.job));
        configs.iter().map(job).collect()
    }

    /// Makes the jobs these. Targets of jobs that are gone end; those of jobs that have changed go on by the new
    /// rules; the rest is left alone.
    ///
    /// # Errors
    /// There is no thread to be had; then nothing was changed.
    pub fn set_jobs(&self, jobs: Vec<Arc<Job>>) -> Result<(), String> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.threads.is_empty() && !jobs.is_empty() {
            for number in 0..self.wanted_threads {
                let thread = ScrapeThread::start(number, self.around.clone());
                inner.threads.push(thread.map_err(|error| format!("no thread to scrape with: {error}"))?);
            }
        }
        let Inner { threads, pools } = inner;
        pools.retain(|name, pool| {
            let is_kept = jobs.iter().any(|job| job.config.job_name == *name);
            if !is_kept {
                pool.active.values().for_each(|entry| tell(threads, entry, Command::End(entry.id)));
            }
            is_kept
        });
        for job in jobs {
            match pools.get_mut(&job.config.job_name) {
                Some(pool) => pool.become_job(job, threads),
                None => {
                    pools.insert(job.config.job_name.clone(), Pool::new(job));
                }
            }
        }
        self.around.counters.scrape.set_pools(pools.values().map(|pool| pool.stats.clone()).collect());
        Ok(())
    }

    /// The targets of a job are now these. Those that it had before go on undisturbed.
    pub fn set_targets(
        &self,
        job: &str,
        targets: Vec<Target>,
        dropped: Vec<DroppedTarget>,
        dropped_total: usize,
    ) {
        let mut guard = self.lock();
        let Inner { threads, pools } = &mut *guard;
        // A job that a reload has ended may have found targets just before.
        let Some(pool) = pools.get_mut(job) else { return };
        let started = Instant::now();
        pool.set_targets(targets, threads);
        pool.stats.sync_length.observe(started.elapsed());
        (pool.dropped, pool.dropped_total) = (dropped, dropped_total);
    }

    /// Every job, by name, and its targets as they are now.
    pub fn view(&self) -> Vec<PoolView> {
        let guard = self.lock();
        let view = |pool: &Pool| {
            let mut active: Vec<_> = pool.active.values().cloned().collect();
            active.sort_by(|a, b| a.target.labels.cmp(&b.target.labels));
            PoolView {
                job: pool.job.clone(),
                active,
                dropped: pool.dropped.clone(),
                dropped_total: pool.dropped_total,
            }
        };
        guard.pools.values().map(view).collect()
    }

    /// Ends the threads, and no series. Scrapes under way are given up.
    pub fn stop(&self) {
        let threads = std::mem::take(&mut self.lock().threads);
        threads.iter().for_each(|thread| thread.tell(Command::Stop));
        threads.into_iter().for_each(ScrapeThread::join);
    }
}

/// The job of `config`, with what can be kept of the one before it.
fn next_job(config: &ScrapeConfig, known: Option<&Arc<Job>>) -> Result<Arc<Job>, String> {
    if let Some(known) = known
        && *known.config == *config
    {
        return Ok(known.clone());
    }
    let client = match known.filter(|known| known.config.http == config.http) {
        Some(known) => known.client.clone(),
        None => {
            let client = Client::new(&config.http);
            Arc::new(client.map_err(|error| format!("scrape_configs {:?}: {error}", config.job_name))?)
        }
    };
    let layouts = match known.filter(|known| known.config.page == config.page) {
        Some(known) => known.layouts.clone(),
        None => Arc::default(),
    };
    Ok(Arc::new(Job { config: Arc::new(config.clone()), layouts, client }))
}

fn tell(threads: &[ScrapeThread], entry: &Entry, command: Command) {
    // By labels, so that a target whose URL alone has changed stays with its thread.
    let mut hash = crc32fast::Hasher::new();
    for (name, value) in &entry.target.labels {
        hash.update(name.as_bytes());
        hash.update(value.as_bytes());
    }
    let number = hash.finalize() as usize % threads.len().max(1);
    if let Some(thread) = threads.get(number) {
        thread.tell(command);
    }
}

impl Pool {
    fn new(job: Arc<Job>) -> Self {
        let stats = Arc::new(PoolStats::new(&job.config.job_name));
        let limit = job.config.target_limit.unwrap_or(0);
        stats.target_limit.set(limit as u64);
        Pool { job, active: HashMap::new(), dropped: Vec::new(), dropped_total: 0, stats }
    }

    fn become_job(&mut self, job: Arc<Job>, threads: &[ScrapeThread]) {
        if Arc::ptr_eq(&self.job, &job) {
            return;
        }
        self.stats.target_limit.set(job.config.target_limit.unwrap_or(0) as u64);
        for entry in self.active.values_mut() {
            let next = Entry::new(job.clone(), entry.target.clone());
            tell(threads, entry, Command::Replace(entry.id, next.clone()));
            *entry = next;
        }
        self.job = job;
    }

    fn set_targets(&mut self, mut targets: Vec<Target>, threads: &[ScrapeThread]) {
        self.stats.syncs.add(1);
        if let Some(limit) = self.job.config.target_limit.filter(|&limit| limit > 0 && targets.len() > limit)
        {
            // As Prometheus does: a job beyond its limit is not scraped at all, rather than by chance.
            let job = self.job.config.job_name.as_str();
            log::error!(scrape_pool = job, targets = targets.len(), limit = limit;
                "more targets than target_limit allows; none of them is scraped");
            self.stats.target_limit_exceeded.add(1);
            targets.clear();
        }
        let mut gone = std::mem::take(&mut self.active);
        let mut fresh = Vec::new();
        for target in targets {
            match gone.remove(&target.hash) {
                Some(entry) if entry.target == target => {
                    self.active.insert(target.hash, entry);
                }
                Some(entry) => {
                    let next = Entry::new(self.job.clone(), target);
                    tell(threads, &entry, Command::Replace(entry.id, next.clone()));
                    self.active.insert(next.target.hash, next);
                }
                None => fresh.push(target),
            }
        }
        let mut by_labels: HashMap<_, _> =
            gone.into_values().map(|entry| (entry.target.labels.clone(), entry)).collect();
        for target in fresh {
            // Two targets of one hash are one target.
            if self.active.contains_key(&target.hash) {
                continue;
            }
            let next = Entry::new(self.job.clone(), target);
            match by_labels.remove(&next.target.labels) {
                Some(entry) => tell(threads, &entry, Command::Replace(entry.id, next.clone())),
                None => tell(threads, &next, Command::Add(next.clone())),
            }
            self.active.insert(next.target.hash, next);
        }
        by_labels.values().for_each(|entry| tell(threads, entry, Command::End(entry.id)));
        self.stats.targets.set(self.active.len() as u64);
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
