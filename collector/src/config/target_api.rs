//! The section `target_api`: others post the targets of one job.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::discovery::ProviderConfig;
use super::fault::{Resolved, fault_at};
use super::jobs::{Defaults, default_job};
use super::raw;
use super::scrape::{PageRules, ScrapeConfig};

const JOB: &str = "scrape_targets";

/// The API by which targets are posted, as far as it is not its job.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TargetApi {
    /// Has the token that lets a request in; without it the users and certificates of the web configuration do.
    pub bearer_token_file: Option<PathBuf>,
}

/// The API and the job whose targets are posted.
pub(super) fn resolve(
    raw: raw::TargetApi,
    defaults: &Defaults,
    folder: &Path,
) -> Resolved<(TargetApi, ScrapeConfig)> {
    let name = raw.job_name.unwrap_or_else(|| JOB.to_owned());
    if name.is_empty() {
        return fault_at("job_name", "must not be empty");
    }
    let job = default_job(JOB, defaults)?;
    let scrape_interval = raw.scrape_interval.map_or(job.scrape_interval, |span| span.0);
    if scrape_interval < Duration::from_millis(10) {
        return fault_at("scrape_interval", "must be at least 10ms");
    }
    let page = PageRules { honor_labels: raw.honor_labels.unwrap_or(false), ..(*job.page).clone() };
    let timeout = job.scrape_timeout.min(scrape_interval);
    let job = ScrapeConfig {
        job_name: name,
        scrape_interval,
        scrape_timeout: timeout,
        page: Arc::new(page),
        discovery: vec![ProviderConfig::Posted { timeout }],
        ..job
    };
    let bearer_token_file = raw.bearer_token_file.map(|path| folder.join(path));
    Ok((TargetApi { bearer_token_file }, job))
}
