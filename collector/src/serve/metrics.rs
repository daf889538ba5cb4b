//! `/metrics`: filters as node_exporter has them, one gather, one page, in the format and coding that is asked for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};

use super::negotiate::{self, Coding};
use super::press::Press;
use super::routes::{Server, text};
use crate::reader::{Gathered, Wanted};
use crate::self_metrics::Cell;

/// Says how many seconds the scraper waits for the page.
const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";
/// Of that, what is kept back for the page and its way.
const FOR_THE_PAGE: Duration = Duration::from_millis(500);

/// The encoder of pages with what it remembers, and the names that filters may use.
pub(super) struct Pages {
    press: Mutex<Press>,
    enabled: Vec<&'static str>,
}

impl Pages {
    pub(super) fn new(enabled: Vec<&'static str>) -> Self {
        Pages { press: Mutex::default(), enabled }
    }

    fn press(&self) -> MutexGuard<'_, Press> {
        self.press.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a scrape as under way while it lives.
struct InFlight<'a>(&'a Cell);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

impl Server {
    pub(super) async fn metrics<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        self.counters.http_in_flight.add(1);
        let _in_flight = InFlight(&self.counters.http_in_flight);
        if self.max_requests > 0 && self.counters.http_in_flight.get() > self.max_requests as u64 {
            self.counters.http_unavailable.add(1);
            let body =
                format!("Limit of concurrent requests reached ({}), try again later.\n", self.max_requests);
            return text(StatusCode::SERVICE_UNAVAILABLE, &body);
        }
        let query = request.uri().query().unwrap_or_default();
        let wanted = match self.pages.wanted(query) {
            Ok(wanted) => wanted,
            Err(message) => return text(StatusCode::BAD_REQUEST, &message),
        };
        let deadline = deadline(self.deadline, request.headers());
        let Some(gathered) = self.reader.gather(wanted, deadline).await else {
            self.counters.http_unavailable.add(1);
            return text(StatusCode::SERVICE_UNAVAILABLE, "The host is not being read, try again later.\n");
        };
        self.counters.http_ok.add(1);
        self.page(gathered, &family_names(query), request.headers())
    }

    /// The page; `only` the families of these names, or all.
    fn page(&self, gathered: Gathered, only: &[String], headers: &HeaderMap) -> Response<Full<Bytes>> {
        let format = negotiate::format(headers, self.open_metrics);
        let coding = negotiate::coding(headers);
        let (body, conflicts) = self.pages.press().print(&gathered.batches, format, only, coding);
        let faults = conflicts.duplicates + conflicts.types + gathered.duplicates;
        if faults > 0 {
            self.counters.http_gather_errors.add(1);
            log::error!(
                duplicates = conflicts.duplicates + gathered.duplicates, types = conflicts.types;
                "error gathering metrics: samples left out that contradict what came before them"
            );
        }
        gathered.batches.into_iter().for_each(|batch| self.ring.give_back(batch));
        let mut response = Response::new(Full::new(body));
        let headers = response.headers_mut();
        let content_type = HeaderValue::from_static(negotiate::content_type(format));
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        let name = match coding {
            Coding::Identity => None,
            Coding::Gzip => Some("gzip"),
            Coding::Zstd => Some("zstd"),
        };
        if let Some(name) = name {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        response
    }
}

impl Pages {
    /// What `collect[]` and `exclude[]` ask for. Several of a kind add up; both kinds at once are refused.
    fn wanted(&self, query: &str) -> Result<Wanted, String> {
        let (mut collect, mut exclude) = (Vec::new(), Vec::new());
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "collect[]" => collect.push(value.into_owned()),
                "exclude[]" => exclude.push(value.into_owned()),
                _ => {}
            }
        }
        if !collect.is_empty() && !exclude.is_empty() {
            return Err("Combined collect and exclude queries are not allowed.\n".into());
        }
        if let Some(unknown) = collect.iter().find(|name| !self.enabled.contains(&name.as_str())) {
            let known = crate::sources::host::COLLECTORS.iter().any(|collector| collector.name == *unknown);
            let state = if known { "disabled" } else { "missing" };
            return Err(format!(
                "Couldn't create filtered metrics handler: couldn't create collector: {state} collector: {unknown}\n"
            ));
        }
        exclude.retain(|name| self.enabled.contains(&name.as_str()));
        Ok(match (collect.is_empty(), exclude.is_empty()) {
            (false, _) => Wanted::Only(collect),
            // Leaving out every collector gives all of them, as node_exporter's users know it.
            (true, false) if self.enabled.iter().any(|name| !exclude.iter().any(|e| e == name)) => {
                Wanted::Without(exclude)
            }
            _ => Wanted::All,
        })
    }
}

/// What `name[]` asks for; nothing for every family.
fn family_names(query: &str) -> Vec<String> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    pairs.filter(|(key, _)| key == "name[]").map(|(_, name)| name.into_owned()).collect()
}

/// What is left for the collectors, so that the page is there before the scraper gives up: `ours`, or less where
/// Prometheus says how long it waits.
fn deadline(ours: Duration, headers: &HeaderMap) -> Duration {
    let header = headers.get(SCRAPE_TIMEOUT).and_then(|value| value.to_str().ok());
    let theirs = header.and_then(|text| Duration::try_from_secs_f64(text.parse().ok()?).ok());
    theirs.map_or(ours, |theirs| ours.min(theirs.saturating_sub(FOR_THE_PAGE).max(theirs / 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_node_exporters() {
        let pages = Pages::new(vec!["loadavg", "meminfo"]);
        let only = |names: &[&str]| Ok(Wanted::Only(names.iter().map(|&n| n.to_owned()).collect()));
        assert_eq!(pages.wanted(""), Ok(Wanted::All));
        assert_eq!(pages.wanted("collect[]=meminfo&collect%5B%5D=loadavg"), only(&["meminfo", "loadavg"]));
        assert_eq!(pages.wanted("exclude[]=meminfo"), Ok(Wanted::Without(vec!["meminfo".into()])));
        assert_eq!(pages.wanted("exclude[]=nothing"), Ok(Wanted::All));
        assert_eq!(pages.wanted("exclude[]=meminfo&exclude[]=loadavg"), Ok(Wanted::All));
        assert!(pages.wanted("collect[]=a&exclude[]=b").unwrap_err().starts_with("Combined"));
        assert!(pages.wanted("collect[]=x").unwrap_err().ends_with("missing collector: x\n"));
        let pages = Pages::new(vec!["loadavg"]);
        assert!(pages.wanted("collect[]=meminfo").unwrap_err().ends_with("disabled collector: meminfo\n"));
    }

    #[test]
    fn the_page_comes_before_the_scraper_gives_up() {
        let ms = Duration::from_millis;
        for (header, expected) in [("10", 5000), ("3", 2500), ("0.4", 200), ("x", 5000), ("-1", 5000)] {
            let mut headers = HeaderMap::new();
            headers.insert(SCRAPE_TIMEOUT, HeaderValue::from_static(header));
            assert_eq!(deadline(ms(5000), &headers), ms(expected), "{header}");
        }
        assert_eq!(deadline(ms(5000), &HeaderMap::new()), ms(5000));
    }
}
