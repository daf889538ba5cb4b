//! What people ask of a target: why its labels are as they are, and what it answers.

use std::borrow::Cow;
use std::sync::Arc;

use hyper::header::{self, HeaderMap, HeaderValue};

use super::Engine;
use super::content;
use super::state::{Entry, Job};
use crate::relabel::{self, Labels, RuleSpec};

/// Bytes of a page that are shown.
const MAX_SHOWN: usize = 64 << 20;

/// One rule, and what it made of the labels.
pub struct RelabelStep {
    pub rule: RuleSpec,
    pub output: Vec<(String, String)>,
    pub kept: bool,
}

/// A page as its target gave it.
pub struct RawPage {
    pub content_type: String,
    pub body: Vec<u8>,
}

impl Engine {
    /// What the rules of a job make of `labels`, rule by rule; `None` where there is no such job.
    pub fn relabel_steps(&self, job: &str, labels: &[(String, String)]) -> Option<Vec<RelabelStep>> {
        let job = self.job(job)?;
        let rules = &job.config.relabel;
        let mut set: Labels<'_> =
            labels.iter().map(|(name, value)| (Cow::from(name), Cow::from(value))).collect();
        set.sort_unstable();
        let mut steps = Vec::new();
        let record = |number: usize, labels: &Labels<'_>, kept: bool| {
            let output = labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            steps.push(RelabelStep { rule: rules[number].spec().clone(), output, kept });
        };
        // That a rule dropped the set is in the last step.
        let _ = relabel::apply_recording(rules, &mut set, record);
        Some(steps)
    }

    fn job(&self, name: &str) -> Option<Arc<Job>> {
        self.lock().pools.get(name).map(|pool| pool.job.clone())
    }

    /// The active target of a job with this URL. Nothing else may be asked for through the collector.
    pub fn find(&self, job: &str, url: &str) -> Option<Arc<Entry>> {
        let guard = self.lock();
        let pool = guard.pools.get(job)?;
        pool.active.values().find(|entry| entry.target.url == url).cloned()
    }
}

impl Entry {
    /// Fetches the page now, as a scrape would.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn raw_page(&self) -> Result<RawPage, String> {
        let config = &self.job.config;
        let mut headers = HeaderMap::new();
        let accept = content::accept(&config.protocols, config.escaping);
        headers.insert(header::ACCEPT, HeaderValue::from_str(&accept).map_err(|error| error.to_string())?);
        let url = &self.target.url;
        let answer = self.client()?.get(url, headers, MAX_SHOWN, self.target.timeout).await?;
        if answer.status != 200 {
            return Err(format!("server returned HTTP status {}", answer.status));
        }
        let kind = answer.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        Ok(RawPage { content_type: String::from_utf8_lossy(kind).into_owned(), body: answer.body })
    }
}
