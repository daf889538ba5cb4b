//! The scrape engine and what it is given: jobs by the configuration, targets by discovery.

use std::sync::Arc;
use std::thread::available_parallelism;

use crate::cli::Options;
use crate::config::Config;
use crate::limits::SCRAPE_THREADS;
use crate::model::SeriesTable;
use crate::ring;
use crate::self_metrics::Counters;
use crate::sources::scrape::engine::{Engine, Job};

/// All that is scraped.
pub(super) struct Scraping {
    engine: Arc<Engine>,
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
        Scraping { engine: Engine::new(threads, ring.clone(), table.clone(), counters.clone()) }
    }

    pub(super) fn engine(&self) -> Arc<Engine> {
        self.engine.clone()
    }

    /// The jobs of `config`; none where nobody would take what they find.
    ///
    /// # Errors
    /// What is wrong with a job.
    pub(super) fn prepare(&self, config: &Config) -> Result<Vec<Arc<Job>>, String> {
        if config.endpoints.is_empty() && !config.scrape.is_empty() {
            log::warn!(
                "scrape_configs without remote_write: nothing is scraped, for there is nowhere to send it"
            );
            return Ok(Vec::new());
        }
        self.engine.prepare(&config.scrape)
    }

    /// Makes the jobs these.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn apply(&mut self, config: &Config, jobs: Vec<Arc<Job>>) -> Result<(), String> {
        self.engine.set_jobs(jobs)?;
        Ok(())
    }

    /// Ends the scrapes, and no series.
    pub(super) fn stop(self) {
        self.engine.stop();
    }
}
