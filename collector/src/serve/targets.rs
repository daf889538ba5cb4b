//! `/api/v1/targets` and what belongs to it, as Prometheus' HTTP API has them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::routes::{Server, text};
use crate::logging::timestamp_ms;
use crate::sources::scrape::engine::{Entry, PoolView, RelabelStep};

impl Server {
    /// `state=active|dropped|any`, `scrapePool=NAME`.
    pub(super) fn api_targets(&self, query: &str) -> Response<Full<Bytes>> {
        let state = parameter(query, "state").unwrap_or_default().to_ascii_lowercase();
        let (active, dropped) = match state.as_str() {
            "" | "any" => (true, true),
            "active" => (true, false),
            "dropped" => (false, true),
            // Prometheus shows nothing for a word that it does not know.
            _ => (false, false),
        };
        let wanted = parameter(query, "scrapePool").filter(|name| !name.is_empty());
        let pools = self.engine.view();
        let pools: Vec<_> =
            pools.iter().filter(|pool| wanted.as_ref().is_none_or(|name| *name == name_of(pool))).collect();
        let shown = |yes: bool| pools.iter().copied().filter(move |_| yes);
        let entries: Vec<Value> =
            shown(active).flat_map(|pool| pool.active.iter().map(|entry| active_target(entry))).collect();
        let left_out: Vec<Value> = shown(dropped)
            .flat_map(|pool| {
                pool.dropped.iter().map(
                    |target| json!({"discoveredLabels": labels(&target.discovered), "scrapePool": name_of(pool)}),
                )
            })
            .collect();
        let counts: Map<String, Value> =
            shown(dropped).map(|pool| (name_of(pool).to_owned(), pool.dropped_total.into())).collect();
        success(&json!({"activeTargets": entries, "droppedTargets": left_out, "droppedTargetCounts": counts}))
    }

    pub(super) fn api_scrape_pools(&self) -> Response<Full<Bytes>> {
        let pools = self.engine.view();
        success(&json!({"scrapePools": pools.iter().map(name_of).collect::<Vec<_>>()}))
    }

    /// `scrapePool=NAME`, `labels={"__address__": ...}`.
    pub(super) fn api_relabel_steps(&self, query: &str) -> Response<Full<Bytes>> {
        let (Some(pool), Some(given)) = (parameter(query, "scrapePool"), parameter(query, "labels")) else {
            return bad_data(StatusCode::BAD_REQUEST, "scrapePool and labels must be given");
        };
        let given: BTreeMap<String, String> = match serde_json::from_str(&given) {
            Ok(given) => given,
            Err(error) => return bad_data(StatusCode::BAD_REQUEST, &format!("labels: {error}")),
        };
        let given: Vec<_> = given.into_iter().collect();
        match self.engine.relabel_steps(&pool, &given) {
            Some(steps) => success(&json!({"steps": steps.iter().map(step).collect::<Vec<_>>()})),
            None => bad_data(StatusCode::NOT_FOUND, &format!("no scrape pool {pool:?}")),
        }
    }

    /// The page of an active target, as it answers now: `scrapePool=NAME`, `url=URL`.
    pub(super) async fn raw_target(&self, query: &str) -> Response<Full<Bytes>> {
        let pool = parameter(query, "scrapePool").unwrap_or_default();
        let url = parameter(query, "url").unwrap_or_default();
        let Some(entry) = self.engine.find(&pool, &url) else {
            return text(StatusCode::NOT_FOUND, "no active target of this job has this URL\n");
        };
        match entry.raw_page().await {
            Ok(page) => {
                let mut response = Response::new(Full::new(page.body.into()));
                // Never as what it says it is: a target must not speak to a browser in our name.
                let plain = HeaderValue::from_static("text/plain; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, plain);
                if let Ok(kind) = HeaderValue::from_str(&page.content_type) {
                    response.headers_mut().insert("x-original-content-type", kind);
                }
                let nosniff = HeaderValue::from_static("nosniff");
                response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
                response
            }
            Err(error) => text(StatusCode::BAD_GATEWAY, &format!("{error}\n")),
        }
    }
}

fn name_of(pool: &PoolView) -> &str {
    &pool.job.config.job_name
}

fn active_target(entry: &Entry) -> Value {
    let (target, status) = (&entry.target, entry.status());
    let last = if status.last_scrape_ms == 0 {
        "0001-01-01T00:00:00Z".to_owned()
    } else {
        timestamp_ms(status.last_scrape_ms)
    };
    json!({
        "discoveredLabels": labels(&target.discovered),
        "labels": labels(&target.labels),
        "scrapePool": entry.job.config.job_name,
        "scrapeUrl": target.url,
        "globalUrl": target.url,
        "lastError": status.last_error,
        "lastScrape": last,
        "lastScrapeDuration": status.duration.as_secs_f64(),
        "health": status.health.as_str(),
        "scrapeInterval": span(target.interval),
        "scrapeTimeout": span(target.timeout),
    })
}

fn step(step: &RelabelStep) -> Value {
    let rule = &step.rule;
    json!({
        "rule": {
            "source_labels": rule.source_labels,
            "separator": rule.separator,
            "regex": rule.regex,
            "modulus": rule.modulus,
            "target_label": rule.target_label,
            "replacement": rule.replacement,
            "action": rule.action,
        },
        "output": labels(&step.output),
        "keep": step.kept,
    })
}

fn labels(pairs: &[(String, String)]) -> Map<String, Value> {
    pairs.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect()
}

/// As Prometheus writes a span: `1m30s`, `500ms`.
pub(super) fn span(span: Duration) -> String {
    let mut rest = span.as_millis();
    if rest == 0 {
        return "0s".into();
    }
    let mut out = String::new();
    for (unit, length, only_whole) in [
        ("y", 365 * 86_400_000, true),
        ("w", 7 * 86_400_000, true),
        ("d", 86_400_000, false),
        ("h", 3_600_000, false),
        ("m", 60_000, false),
        ("s", 1000, false),
        ("ms", 1, false),
    ] {
        // Years and weeks stand only where nothing else does.
        if rest >= length && (!only_whole || rest.is_multiple_of(length)) {
            out += &format!("{}{unit}", rest / length);
            rest %= length;
        }
    }
    out
}

pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
}

pub(super) fn success(data: &Value) -> Response<Full<Bytes>> {
    answer(StatusCode::OK, &json!({"status": "success", "data": data}))
}

pub(super) fn bad_data(status: StatusCode, error: &str) -> Response<Full<Bytes>> {
    answer(status, &json!({"status": "error", "errorType": "bad_data", "error": error}))
}

fn answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = text(status, &body.to_string());
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_prometheus_writes_them() {
        for (millis, expected) in [
            (15_000, "15s"),
            (90_000, "1m30s"),
            (500, "500ms"),
            (3_600_000, "1h"),
            (0, "0s"),
            (604_800_000, "1w"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), expected);
        }
    }
}
