//! Where targets come from: each provider gives groups of targets, and gives them again when they change.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::shard::Shard;
use super::target::{self, TargetGroup, Targets};
use crate::config::ScrapeConfig;

/// Updates that wait for who reads them.
const UPDATES: usize = 4096;

/// The targets of a job, as they are now.
#[derive(Debug)]
pub struct Update {
    pub job: String,
    pub targets: Targets,
}

/// Every job that looks for targets.
pub struct Discovery {
    shard: Option<Shard>,
    updates: mpsc::Sender<Update>,
}

impl Discovery {
    /// Updates come from the receiver.
    pub fn new(shard: Option<Shard>) -> (Self, mpsc::Receiver<Update>) {
        let (updates, receiver) = mpsc::channel(UPDATES);
        (Discovery { shard, updates }, receiver)
    }

    /// Makes the jobs those of `configs`.
    ///
    /// # Errors
    /// Nobody takes the targets in time.
    pub fn apply(&mut self, configs: &[ScrapeConfig]) -> Result<(), String> {
        for config in configs {
            let groups = fixed_groups(config);
            let targets = target::build(config, self.shard, groups.iter().map(|group| &**group));
            let update = Update { job: config.job_name.clone(), targets };
            self.updates.try_send(update).map_err(|error| error.to_string())?;
        }
        Ok(())
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
