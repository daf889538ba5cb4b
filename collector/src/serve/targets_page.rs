//! `/targets`: every target on a plain page, for people; what is wrong stands first.

use std::fmt::Write as _;

use bytes::Bytes;
use form_urlencoded::Serializer;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::routes::{Server, text};
use super::targets::{parameter, span};
use crate::logging::timestamp_ms;
use crate::sources::scrape::engine::{Entry, Health, PoolView};

/// Targets of one job that a page shows; `/api/v1/targets` has them all.
const MAX_SHOWN: usize = 1000;

const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Targets</title>\n\
    <style>body{font-family:sans-serif;margin:2em}table{border-collapse:collapse;margin-bottom:2em}\
    td,th{border:1px solid #ccc;padding:.2em .5em;text-align:left;vertical-align:top}\
    td.n{text-align:right}.down{background:#fdd}.unknown{background:#eee}</style></head>\n<body><h1>Targets</h1>\n";

impl Server {
    /// `scrapePool=NAME` shows one job alone.
    pub(super) fn targets_page(&self, query: &str) -> Response<Full<Bytes>> {
        let wanted = parameter(query, "scrapePool").filter(|name| !name.is_empty());
        let mut page = HEAD.to_owned();
        let pools = self.engine.view();
        if pools.is_empty() {
            page += "<p>There are no scrape_configs.</p>\n";
        }
        for pool in &pools {
            if wanted.as_ref().is_none_or(|name| *name == pool.job.config.job_name) {
                write_pool(pool, &mut page);
            }
        }
        page += "</body></html>\n";
        let mut response = text(StatusCode::OK, &page);
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, html);
        response
    }
}

fn write_pool(pool: &PoolView, page: &mut String) {
    let job = escape(&pool.job.config.job_name);
    let up = pool.active.iter().filter(|entry| entry.status().health == Health::Up).count();
    let all = pool.active.len();
    write!(
        page,
        "<h2>{job} ({up} of {all} up)</h2>\n<table><tr><th>URL<th>State<th>Labels<th>Last scrape\
        <th>Took<th>Samples<th>Bytes<th>Every<th>Error</tr>\n"
    )
    .expect("a string takes all");
    let mut entries: Vec<_> = pool.active.iter().collect();
    entries.sort_by_key(|entry| entry.status().health == Health::Up);
    entries.iter().take(MAX_SHOWN).for_each(|entry| write_target(entry, page));
    page.push_str("</table>\n");
    if all > MAX_SHOWN {
        writeln!(page, "<p>{} more are not shown.</p>", all - MAX_SHOWN).expect("so");
    }
    if pool.dropped_total == 0 {
        return;
    }
    let rule = "<th>Dropped by rule (counted from 0)";
    writeln!(page, "<h3>{} dropped</h3>\n<table><tr><th>Discovered labels{rule}</tr>", pool.dropped_total)
        .expect("so");
    for dropped in pool.dropped.iter().take(MAX_SHOWN) {
        let labels = labels(&dropped.discovered);
        writeln!(page, "<tr><td>{labels}<td class=\"n\">{}</tr>", dropped.rule).expect("so");
    }
    page.push_str("</table>\n");
}

fn write_target(entry: &Entry, page: &mut String) {
    let (target, status) = (&entry.target, entry.status());
    let link = Serializer::new(String::new())
        .append_pair("scrapePool", &entry.job.config.job_name)
        .append_pair("url", &target.url)
        .finish();
    let last =
        if status.last_scrape_ms == 0 { "never".to_owned() } else { timestamp_ms(status.last_scrape_ms) };
    let health = status.health.as_str();
    writeln!(
        page,
        "<tr class=\"{health}\"><td>{} (<a href=\"/targets/raw?{}\">raw</a>)<td>{health}<td>{}<td>{last}\
         <td class=\"n\">{:.1} ms<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td>{}</tr>",
        escape(&target.url),
        escape(&link),
        labels(&target.labels),
        status.duration.as_secs_f64() * 1e3,
        status.samples,
        status.body_size,
        span(target.interval),
        escape(&status.last_error),
    )
    .expect("a string takes all");
}

fn labels(pairs: &[(String, String)]) -> String {
    let all: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    escape(&all.join(" "))
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
