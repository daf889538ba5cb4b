//! What is known of every target, for people and for `/api/v1/targets`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::client::Client;
use crate::config::ScrapeConfig;
use crate::sources::scrape::page::Layouts;
use crate::sources::scrape::target::{DroppedTarget, Target};

/// A `scrape_configs` entry at work.
pub struct Job {
    pub config: Arc<ScrapeConfig>,
    /// What the targets have in common.
    pub(super) layouts: Arc<Layouts>,
    /// For what is not plain HTTP, and for people who want to see a page.
    pub client: Arc<Client>,
}

/// A target that is scraped.
pub struct Entry {
    pub(super) id: u64,
    pub job: Arc<Job>,
    pub target: Target,
    status: Mutex<Status>,
}

/// How the last scrape went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    pub health: Health,
    /// Empty where it went well.
    pub last_error: String,
    /// Milliseconds since 1970; 0 before the first scrape.
    pub last_scrape_ms: i64,
    pub duration: Duration,
    /// Samples on the page.
    pub samples: usize,
    /// Bytes of the page, unpacked.
    pub body_size: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Unknown,
    Up,
    Down,
}

impl Health {
    /// As Prometheus' API says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        }
    }
}

impl Entry {
    pub(super) fn new(job: Arc<Job>, target: Target) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Entry { id, job, target, status: Mutex::default() })
    }

    /// By which the target is asked: of its job, unless it has settings of its own.
    ///
    /// # Errors
    /// What is wrong with those.
    pub(super) fn client(&self) -> Result<Arc<Client>, String> {
        match &self.target.http {
            Some(http) => Client::new(http).map(Arc::new),
            None => Ok(self.job.client.clone()),
        }
    }

    pub fn status(&self) -> Status {
        self.lock().clone()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job and its targets as they are now.
pub struct PoolView {
    pub job: Arc<Job>,
    /// In the order of their labels.
    pub active: Vec<Arc<Entry>>,
    pub dropped: Vec<DroppedTarget>,
    /// With those that `keep_dropped_targets` leaves out.
    pub dropped_total: usize,
}
