//! Which path answers what.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use tokio::sync::{mpsc, oneshot};

use super::guard::{self, Guard};
use super::metrics::Pages;
use super::target_api::{self, TargetApiState};
use crate::reader::Reader;
use crate::ring;
use crate::self_metrics::Counters;
use crate::sources::scrape::engine::Engine;

/// A request to read the configuration again; the answer is the error, if there is one.
pub type Reload = oneshot::Sender<Result<(), String>>;

/// What the handlers share.
pub struct Server {
    pub(super) telemetry_path: String,
    pub(super) max_requests: usize,
    pub(super) deadline: Duration,
    pub(super) open_metrics: bool,
    pub(super) reader: Reader,
    pub(super) ring: ring::Sender,
    pub(super) counters: Arc<Counters>,
    pub(super) pages: Pages,
    pub(super) engine: Arc<Engine>,
    pub(super) target_api_allowed: bool,
    pub(super) target_api: Mutex<TargetApiState>,
    guard: Option<Guard>,
    reload: mpsc::Sender<Reload>,
    ready: AtomicBool,
}

/// What the server is made from.
pub struct Parts {
    pub telemetry_path: String,
    /// Scrapes under way at the most; 0 for no limit.
    pub max_requests: usize,
    /// How long a page waits for its collectors.
    pub deadline: Duration,
    /// Whether a client that likes OpenMetrics best gets it.
    pub open_metrics: bool,
    /// Names of the collectors that are switched on.
    pub collectors: Vec<&'static str>,
    pub reader: Reader,
    pub ring: ring::Sender,
    pub counters: Arc<Counters>,
    pub engine: Arc<Engine>,
    /// Whether a configuration may switch on the API by which targets are posted.
    pub target_api_allowed: bool,
    pub reload: mpsc::Sender<Reload>,
    /// The file of `--web.config.file`.
    pub web_config: Option<PathBuf>,
}

impl Server {
    /// # Errors
    /// When the file of `--web.config.file`, or a certificate that it names, is of no use.
    pub fn new(parts: Parts) -> Result<Arc<Self>, String> {
        Ok(Arc::new(Server {
            telemetry_path: parts.telemetry_path,
            max_requests: parts.max_requests,
            deadline: parts.deadline,
            open_metrics: parts.open_metrics,
            reader: parts.reader,
            ring: parts.ring,
            counters: parts.counters,
            pages: Pages::new(parts.collectors),
            engine: parts.engine,
            target_api_allowed: parts.target_api_allowed,
            target_api: Mutex::default(),
            guard: parts.web_config.map(Guard::open).transpose()?,
            reload: parts.reload,
            ready: AtomicBool::new(false),
        }))
    }

    pub(super) fn guard(&self) -> Option<&Guard> {
        self.guard.as_ref()
    }

    /// From now on `/-/ready` says so.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Some(guard) = &self.guard else { return self.route(request).await };
        match guard.admit(request.headers()).await {
            Ok(config) => {
                let mut response = self.route(request).await;
                guard::add_headers(&config, response.headers_mut());
                response
            }
            Err(refusal) => refusal,
        }
    }

    async fn route(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() == target_api::PATH {
            return self.scrape_targets(request).await;
        }
        let (request, path) = (&request, request.uri().path());
        if path == self.telemetry_path {
            return self.metrics(request).await;
        }
        let query = request.uri().query().unwrap_or_default();
        match path {
            "/" => landing(&self.telemetry_path),
            "/-/healthy" => text(StatusCode::OK, "collector is healthy.\n"),
            "/-/ready" if self.ready.load(Ordering::Acquire) => text(StatusCode::OK, "collector is ready.\n"),
            "/-/ready" => text(StatusCode::SERVICE_UNAVAILABLE, "collector is starting.\n"),
            "/-/reload" => self.reload(request.method()).await,
            "/targets" => self.targets_page(query),
            "/targets/raw" => self.raw_target(query).await,
            "/api/v1/targets" => self.api_targets(query),
            "/api/v1/targets/relabel_steps" => self.api_relabel_steps(query),
            "/api/v1/scrape_pools" => self.api_scrape_pools(),
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    async fn reload(&self, method: &Method) -> Response<Full<Bytes>> {
        if method != Method::POST && method != Method::PUT {
            return text(StatusCode::METHOD_NOT_ALLOWED, "This endpoint requires a POST or PUT request.\n");
        }
        let (reply, answer) = oneshot::channel();
        if self.reload.send(reply).await.is_err() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n");
        }
        match answer.await {
            Ok(Ok(())) => text(StatusCode::OK, ""),
            Ok(Err(error)) => {
                text(StatusCode::INTERNAL_SERVER_ERROR, &format!("failed to reload config: {error}\n"))
            }
            Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"),
        }
    }
}

pub(super) fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

fn landing(telemetry_path: &str) -> Response<Full<Bytes>> {
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>collector</title>\n\
         <style>body{{font-family:sans-serif;max-width:40em;margin:3em auto;padding:0 1em}}</style></head>\n\
         <body><h1>collector</h1><p>Version {}</p>\n<ul>\n\
         <li><a href=\"{telemetry_path}\">Metrics</a> of this host and its kernel</li>\n\
         <li><a href=\"/targets\">Targets</a> that are scraped</li>\n\
         <li><a href=\"/-/healthy\">Health</a>, <a href=\"/-/ready\">readiness</a></li>\n\
         </ul></body></html>\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut response = text(StatusCode::OK, &page);
    let html = header::HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    response
}
