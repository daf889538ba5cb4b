//! The scrape engine and what it is given: jobs by the configuration, targets by discovery.

use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::mpsc::Receiver;

use crate::cli::Options;
use crate::config::{Config, ScrapeConfig};
use crate::limits::SCRAPE_THREADS;
use crate::model::SeriesTable;
use crate::ring;
use crate::self_metrics::Counters;
use crate::sources::scrape::discovery::{Discovery, Update};
use crate::sources::scrape::engine::{Engine, Job};
use crate::sources::scrape::posted::Board;

/// All that is scraped.
pub(super) struct Scraping {
    engine: Arc<Engine>,
    discovery: Discovery,
    pub updates: Receiver<Update>,
    /// What discovery looks for now.
    configs: Vec<ScrapeConfig>,
}

/// Jobs that were found to be right.
pub(super) struct Prepared {
    jobs: Vec<Arc<Job>>,
    configs: Vec<ScrapeConfig>,
}

impl Scraping {
    pub(super) fn new(
        options: &Options,
        ring: &ring::Sender,
        table: &Arc<SeriesTable>,
        counters: &Arc<Counters>,
    ) -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let threads = match options.scrape_threads {
            0 => cores.min(SCRAPE_THREADS),
            threads => threads,
        };
        let (discovery, updates) = Discovery::new(options.shard, counters.discovery.clone());
        let engine = Engine::new(threads, ring.clone(), table.clone(), counters.clone());
        Scraping { engine, discovery, updates, configs: Vec::new() }
    }

    pub(super) fn board(&self) -> &Arc<Board> {
        self.discovery.board()
    }

    pub(super) fn engine(&self) -> Arc<Engine> {
        self.engine.clone()
    }

    /// The jobs of `config`; none where nobody would take what they find. Nothing is changed by it.
    ///
    /// # Errors
    /// What is wrong with a job.
    pub(super) fn prepare(&self, config: &Config) -> Result<Prepared, String> {
        if config.endpoints.is_empty() && !config.scrape.is_empty() {
            log::warn!(
                "scrape_configs without remote_write: nothing is scraped, for there is nowhere to send it"
            );
            return Ok(Prepared { jobs: Vec::new(), configs: Vec::new() });
        }
        Ok(Prepared { jobs: self.engine.prepare(&config.scrape)?, configs: config.scrape.clone() })
    }

    /// Makes the jobs these. Their targets come as [`Update`]s.
    ///
    /// # Errors
    /// There is no thread to be had, or a provider can't be made; then the jobs are those before.
    pub(super) fn apply(&mut self, prepared: Prepared) -> Result<(), String> {
        let Prepared { jobs, configs } = prepared;
        self.discovery.apply(&configs)?;
        if let Err(error) = self.engine.set_jobs(jobs) {
            self.discovery.apply(&self.configs)?;
            return Err(error);
        }
        self.configs = configs;
        Ok(())
    }

    /// Hands the targets of a job to the engine.
    pub(super) fn update(&self, update: Update) {
        let targets = update.targets;
        self.engine.set_targets(&update.job, targets.active, targets.dropped, targets.dropped_total);
    }

    /// Ends the scrapes, and no series.
    pub(super) fn stop(self) {
        self.engine.stop();
    }
}
