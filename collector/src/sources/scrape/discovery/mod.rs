//! Where targets come from: each provider gives groups of targets, and gives them again when they change.
//!
//! A provider runs once for all jobs that have it word for word; a reload leaves it running. A job unites the
//! groups of its providers, runs its rules over them, and gives what comes of it: at once the first time, and
//! then at most once in [`SETTLE`], however often its providers change. A provider that fails keeps its last
//! groups.

mod consul;
mod dns;
mod docker;
mod file;
mod group;
mod http;
mod kubernetes;
mod prom_scraper;
mod provider;
mod resolver;

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::provider::Provider;
use super::posted::Board;
use super::shard::Shard;
use super::target::{self, TargetGroup, Targets};
use crate::config::ScrapeConfig;
use crate::self_metrics::{DiscoveryStats, JobStats};

/// Between two updates of a job.
pub const SETTLE: Duration = Duration::from_secs(5);
/// After a reload a job waits so long for providers that are new before it speaks, lest targets end that come
/// back at once.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// Updates that wait for who reads them; a job that finds no room waits.
const UPDATES: usize = 64;

/// The targets of a job, as they are now.
#[derive(Debug)]
pub struct Update {
    pub job: String,
    pub targets: Targets,
}

/// Every job that looks for targets, and its providers.
pub struct Discovery {
    jobs: HashMap<String, Job>,
    shard: Option<Shard>,
    settle: Duration,
    updates: mpsc::Sender<Update>,
    stats: Arc<DiscoveryStats>,
    board: Arc<Board>,
}

struct Job {
    config: ScrapeConfig,
    stats: Arc<JobStats>,
    providers: Vec<Arc<Provider>>,
    task: JoinHandle<()>,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Discovery {
    /// Updates come from the receiver.
    pub fn new(shard: Option<Shard>, stats: Arc<DiscoveryStats>) -> (Self, mpsc::Receiver<Update>) {
        Self::with_settle(shard, stats, SETTLE)
    }

    /// As [`Discovery::new`], with another time between updates.
    pub fn with_settle(
        shard: Option<Shard>,
        stats: Arc<DiscoveryStats>,
        settle: Duration,
    ) -> (Self, mpsc::Receiver<Update>) {
        let (updates, receiver) = mpsc::channel(UPDATES);
        (Discovery { jobs: HashMap::new(), shard, settle, updates, stats, board: Arc::default() }, receiver)
    }

    /// Where targets are posted.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Makes the jobs those of `configs`. What is unchanged goes on undisturbed. Must be called within the
    /// runtime.
    ///
    /// # Errors
    /// What is wrong with a provider; then nothing was changed.
    pub fn apply(&mut self, configs: &[ScrapeConfig]) -> Result<(), String> {
        let running: Vec<Arc<Provider>> =
            self.jobs.values().flat_map(|job| job.providers.iter().cloned()).collect();
        let mut pool = running;
        let mut next = Vec::new();
        for config in configs {
            let mut providers = Vec::new();
            for wanted in &config.discovery {
                let known = pool.iter().find(|provider| provider.config == *wanted).cloned();
                let provider = match known {
                    Some(known) => known,
                    None => {
                        let fresh = Provider::start(wanted.clone(), &self.stats, &self.board)
                            .map_err(|why| format!("scrape_configs {:?}: {why}", config.job_name))?;
                        pool.push(fresh.clone());
                        fresh
                    }
                };
                providers.push(provider);
            }
            next.push((config, providers));
        }
        let mut before = std::mem::take(&mut self.jobs);
        for (config, providers) in next {
            let known = before.remove(&config.job_name);
            let job = match known {
                Some(known) if known.config == *config => known,
                known => self.start(config, providers, known.is_some()),
            };
            self.jobs.insert(config.job_name.clone(), job);
        }
        let mut stats: Vec<_> = self.jobs.values().map(|job| job.stats.clone()).collect();
        stats.sort_by(|a, b| a.job.cmp(&b.job));
        self.stats.set_jobs(stats);
        Ok(())
    }

    fn start(&self, config: &ScrapeConfig, providers: Vec<Arc<Provider>>, again: bool) -> Job {
        let stats = Arc::new(JobStats {
            job: config.job_name.clone(),
            fixed: config.static_configs.iter().map(|group| group.targets.len() as u64).sum(),
            providers: providers.iter().map(|provider| provider.stats.clone()).collect(),
            ..JobStats::default()
        });
        let task = JobTask {
            config: config.clone(),
            fixed: fixed_groups(config),
            providers: providers.clone(),
            shard: self.shard,
            settle: self.settle,
            updates: self.updates.clone(),
            all: self.stats.clone(),
            stats: stats.clone(),
        };
        Job { config: config.clone(), stats, providers, task: tokio::spawn(task.run(again)) }
    }
}

fn fixed_groups(config: &ScrapeConfig) -> Vec<Arc<TargetGroup>> {
    let group = |(number, group): (usize, &crate::config::StaticGroup)| {
        let address = |target: &String| vec![("__address__".to_owned(), target.clone())];
        Arc::new(TargetGroup {
            source: number.to_string(),
            targets: group.targets.iter().map(address).collect(),
            labels: group.labels.clone(),
            http: None,
        })
    };
    config.static_configs.iter().enumerate().map(group).collect()
}

struct JobTask {
    config: ScrapeConfig,
    fixed: Vec<Arc<TargetGroup>>,
    providers: Vec<Arc<Provider>>,
    shard: Option<Shard>,
    settle: Duration,
    updates: mpsc::Sender<Update>,
    all: Arc<DiscoveryStats>,
    stats: Arc<JobStats>,
}

impl JobTask {
    async fn run(self, again: bool) {
        let mut watches: Vec<_> = self.providers.iter().map(|provider| provider.groups.watch()).collect();
        if again {
            let deadline = Instant::now() + FIRST_ANSWER;
            for watch in &mut watches {
                // A provider that has said nothing by then is one that knows nothing.
                let _ = tokio::time::timeout_at(deadline, watch.wait_for(|version| *version > 0)).await;
            }
        }
        loop {
            for watch in &mut watches {
                watch.borrow_and_update();
            }
            let groups: Vec<Arc<TargetGroup>> = self
                .fixed
                .iter()
                .cloned()
                .chain(self.providers.iter().flat_map(|provider| provider.groups.all()))
                .collect();
            let targets = target::build(&self.config, self.shard, groups.iter().map(|group| &**group));
            drop(groups);
            let job = self.config.job_name.as_str();
            if let Some(first) = targets.faults.first() {
                log::warn!(scrape_pool = job, targets = targets.faults.len(), err = first.as_str();
                    "targets that can't be scraped");
            }
            self.stats.elsewhere.set(targets.elsewhere as u64);
            self.stats.sync_failed.add(targets.faults.len() as u64);
            self.all.updates.add(1);
            let sent = self.updates.try_send(Update { job: job.to_owned(), targets });
            let sent = match sent {
                Err(TrySendError::Full(update)) => {
                    self.all.delayed.add(1);
                    self.updates.send(update).await.is_ok()
                }
                sent => sent.is_ok(),
            };
            if !sent {
                return;
            }
            let settled = Instant::now() + self.settle;
            if !any_changed(&mut watches).await {
                return;
            }
            tokio::time::sleep_until(settled).await;
        }
    }
}

/// Waits for a change of any of them; `false` where none can change any more.
async fn any_changed(watches: &mut [tokio::sync::watch::Receiver<u64>]) -> bool {
    if watches.is_empty() {
        return false;
    }
    let waits = watches.iter_mut().map(|watch| Box::pin(watch.changed()));
    let mut waits: Vec<_> = waits.collect();
    std::future::poll_fn(move |context| {
        let mut open = false;
        for wait in &mut waits {
            match wait.as_mut().poll(context) {
                std::task::Poll::Ready(Ok(())) => return std::task::Poll::Ready(true),
                std::task::Poll::Ready(Err(_)) => {}
                std::task::Poll::Pending => open = true,
            }
        }
        if open { std::task::Poll::Pending } else { std::task::Poll::Ready(false) }
    })
    .await
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
