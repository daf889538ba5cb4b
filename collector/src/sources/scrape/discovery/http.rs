//! Targets that a web service names (`http_sd_configs`): JSON, asked for at the refresh interval. What can't be
//! had or read changes nothing.

use std::time::{Duration, Instant};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::group::{Listed, groups};
use super::provider::Updates;
use crate::client::Client;
use crate::config::HttpSd;
use crate::sources::scrape::target::TargetGroup;

/// Bytes of an answer.
const MAX_ANSWER: usize = 256 << 20;

pub(super) struct Http {
    config: HttpSd,
    client: Client,
}

impl Http {
    pub(super) fn new(config: &HttpSd) -> Result<Self, String> {
        Ok(Http { config: config.clone(), client: Client::new(&config.http)? })
    }

    pub(super) async fn run(self, out: Updates) {
        loop {
            let started = Instant::now();
            let answer = self.ask().await;
            out.looked(started);
            match answer {
                Ok(groups) => out.replace_all(groups),
                Err(why) => out.failed(&self.config.url, &why),
            }
            tokio::time::sleep(self.config.refresh).await;
        }
    }

    async fn ask(&self) -> Result<Vec<TargetGroup>, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let seconds = self.config.refresh.as_secs_f64().to_string();
        if let Ok(seconds) = HeaderValue::from_str(&seconds) {
            headers.insert(HeaderName::from_static("x-prometheus-refresh-interval-seconds"), seconds);
        }
        let timeout = self.config.refresh.max(Duration::from_secs(1));
        let answer = self.client.get(&self.config.url, headers, MAX_ANSWER, timeout).await?;
        if answer.status != 200 {
            return Err(format!("server returned HTTP status {}", answer.status));
        }
        let kind =
            answer.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
            return Err(format!("unsupported content type {kind:?}: it must be application/json"));
        }
        let listed: Vec<Listed> = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        groups(listed, &self.config.url, ("__meta_url", &self.config.url))
    }
}
