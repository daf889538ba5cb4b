//! A provider at work: the groups that it knows, and what it counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{consul, dns, docker, file, http, kubernetes, prom_scraper};
use crate::config::ProviderConfig;
use crate::self_metrics::{DiscoveryStats, ProviderStats};
use crate::sources::scrape::posted::{self, Board};
use crate::sources::scrape::target::TargetGroup;

/// Targets of one provider; what goes beyond is left out, said in the log.
const MAX_TARGETS: usize = 1_000_000;

/// A provider that runs until it is dropped.
pub(super) struct Provider {
    pub config: ProviderConfig,
    pub groups: Groups,
    pub stats: Arc<ProviderStats>,
    task: JoinHandle<()>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Provider {
    /// # Errors
    /// What is wrong with its settings.
    pub fn start(
        config: ProviderConfig,
        all: &Arc<DiscoveryStats>,
        board: &Arc<Board>,
    ) -> Result<Arc<Self>, String> {
        let stats = Arc::new(ProviderStats { mechanism: mechanism(&config), ..ProviderStats::default() });
        let groups = Groups(Arc::new(Shared { known: Mutex::default(), version: watch::channel(0).0 }));
        let out = Updates { groups: groups.clone(), stats: stats.clone(), all: all.clone() };
        let task = match &config {
            ProviderConfig::File(config) => tokio::spawn(file::run(config.clone(), out)),
            ProviderConfig::Http(config) => tokio::spawn(http::Http::new(config)?.run(out)),
            ProviderConfig::Dns(config) => tokio::spawn(dns::run(config.clone(), out)),
            ProviderConfig::Docker(config) => tokio::spawn(docker::Docker::new(config)?.run(out)),
            ProviderConfig::Consul(config) => {
                tokio::spawn(consul::run(config.clone(), consul::client(config)?, out))
            }
            ProviderConfig::Kubernetes(config) => tokio::spawn(kubernetes::run(config.clone(), out)),
            ProviderConfig::PromScraper(config) => tokio::spawn(prom_scraper::run(config.clone(), out)),
            ProviderConfig::Posted { timeout } => {
                tokio::spawn(posted::run(board.clone(), *timeout, move |groups| out.replace_all(groups)))
            }
        };
        Ok(Arc::new(Provider { config, groups, stats, task }))
    }
}

fn mechanism(config: &ProviderConfig) -> &'static str {
    match config {
        ProviderConfig::File(_) => "file",
        ProviderConfig::Http(_) => "http",
        ProviderConfig::Dns(_) => "dns",
        ProviderConfig::Docker(_) => "docker",
        ProviderConfig::Consul(_) => "consul",
        ProviderConfig::Kubernetes(_) => "kubernetes",
        ProviderConfig::PromScraper(_) => "prom_scraper",
        ProviderConfig::Posted { .. } => "posted",
    }
}

/// The groups of a provider, by their source.
#[derive(Clone)]
pub(super) struct Groups(Arc<Shared>);

struct Shared {
    known: Mutex<BTreeMap<String, Arc<TargetGroup>>>,
    /// Raised by each change, and by the first answer even where it is a failure.
    version: watch::Sender<u64>,
}

impl Groups {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<TargetGroup>>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn all(&self) -> Vec<Arc<TargetGroup>> {
        self.lock().values().cloned().collect()
    }

    fn targets(&self) -> usize {
        self.lock().values().map(|group| group.targets.len()).sum()
    }

    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }
}

/// Where a provider says what it found.
#[derive(Clone)]
pub(super) struct Updates {
    groups: Groups,
    stats: Arc<ProviderStats>,
    all: Arc<DiscoveryStats>,
}

impl Updates {
    /// These are all groups there are.
    pub fn replace_all(&self, groups: impl IntoIterator<Item = TargetGroup>) {
        let mut next = BTreeMap::new();
        let mut targets = 0;
        let mut known = self.groups.lock();
        for group in groups.into_iter().filter(|group| !group.targets.is_empty()) {
            targets += group.targets.len();
            if targets > MAX_TARGETS {
                log::error!(mechanism = self.stats.mechanism; "more than {MAX_TARGETS} targets; the rest is left out");
                break;
            }
            // What is equal stays the same, so that memory is not held twice.
            let kept = known.get(&group.source).filter(|old| ***old == group).cloned();
            next.insert(group.source.clone(), kept.unwrap_or_else(|| Arc::new(group)));
        }
        let same = known.len() == next.len()
            && known.iter().zip(&next).all(|(old, new)| old.0 == new.0 && Arc::ptr_eq(old.1, new.1));
        *known = next;
        drop(known);
        self.answered(!same);
    }

    /// One group; an empty one ends it.
    pub fn set(&self, group: TargetGroup) {
        let mut known = self.groups.lock();
        let changed = if group.targets.is_empty() {
            known.remove(&group.source).is_some()
        } else if known.get(&group.source).is_some_and(|old| **old == group) {
            false
        } else {
            known.insert(group.source.clone(), Arc::new(group));
            true
        };
        drop(known);
        self.answered(changed);
    }

    /// A provider that has looked once.
    fn answered(&self, changed: bool) {
        self.stats.refreshes.add(1);
        if changed {
            self.all.received.add(1);
            self.stats.targets.set(self.groups.targets() as u64);
        }
        self.groups.0.version.send_if_modified(|version| {
            let tell = changed || *version == 0;
            *version += u64::from(tell);
            tell
        });
    }

    /// A provider has looked, for this long.
    pub fn looked(&self, since: Instant) {
        let took = since.elapsed();
        self.stats.durations.observe(took);
        match self.stats.mechanism {
            "file" => self.all.file_scan.observe(took),
            "dns" => self.all.dns_lookups.add(1),
            _ => {}
        }
    }

    /// Nothing could be learned; what is known stays.
    pub fn failed(&self, name: &str, why: &str) {
        self.stats.failures.add(1);
        let counted = match self.stats.mechanism {
            "file" => Some(&self.all.file_errors),
            "http" => Some(&self.all.http_failures),
            "dns" => Some(&self.all.dns_failures),
            "consul" => Some(&self.all.consul_failures),
            "kubernetes" => Some(&self.all.kubernetes_failures),
            _ => None,
        };
        if let Some(cell) = counted {
            cell.add(1);
        }
        log::warn!(mechanism = self.stats.mechanism, name = name, err = why;
            "discovery failed; the targets last found stay");
        self.groups.0.version.send_if_modified(|version| {
            let first = *version == 0;
            *version += u64::from(first);
            first
        });
    }
}
