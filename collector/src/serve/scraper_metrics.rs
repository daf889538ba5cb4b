//! The metrics of Cloud Foundry's prom_scraper where those who knew that program look for them: on loopback, for
//! clients with a certificate alone.
//!
//! The certificates are read again for each handshake.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::routes::text;
use super::tls;
use super::web_config::{ClientAuth, Pem, TlsSettings};
use crate::config::{PROM_SCRAPER_JOB, ScraperMetrics};
use crate::limits::MAX_REQUEST_HEAD;
use crate::self_metrics::Counters;
use crate::sources::scrape::engine::Engine;

/// Connections at once; more wait in the kernel's backlog.
const CONNECTIONS: usize = 16;
/// How long a connection may take for its handshake and all of its requests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Listens, and answers until the runtime ends.
///
/// # Errors
/// When the port is taken, or a certificate is of no use.
pub async fn serve_scraper_metrics(
    config: &ScraperMetrics,
    engine: Arc<Engine>,
    counters: Arc<Counters>,
) -> Result<(), String> {
    let settings = Arc::new(TlsSettings {
        cert: Pem::File(config.cert.clone()),
        key: Pem::File(config.key.clone()),
        client_ca: Some(Pem::File(config.ca.clone())),
        client_auth: ClientAuth::RequireAndVerify,
        client_allowed_sans: None,
        tls12: true,
        tls13: true,
        cipher_suites: Vec::new(),
        curves: Vec::new(),
    });
    let fail = |why: String| format!("metrics of prom_scraper (METRICS_PORT {}): {why}", config.port);
    tls::server_config(&settings, false).map_err(fail)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, config.port)).await;
    let listener = listener.map_err(|error| fail(error.to_string()))?;
    log::info!(port = config.port; "serving the metrics of prom_scraper over mTLS");
    tokio::spawn(async move {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (settings, engine, counters) = (settings.clone(), engine.clone(), counters.clone());
            tokio::spawn(async move {
                let conversation = converse(stream, &settings, &engine, &counters);
                if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, conversation).await {
                    log::debug!(err = error.as_str(); "a connection to the metrics of prom_scraper ended");
                }
                drop(permit);
            });
        }
    });
    Ok(())
}

async fn converse(
    stream: TcpStream,
    settings: &TlsSettings,
    engine: &Engine,
    counters: &Counters,
) -> Result<(), String> {
    let config = tls::server_config(settings, false)?;
    let stream = TlsAcceptor::from(config).accept(stream).await.map_err(|error| error.to_string())?;
    let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
        Ok::<_, Infallible>(match request.uri().path() {
            "/metrics" => text(StatusCode::OK, &page(engine, counters)),
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        })
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    let connection = http.max_buf_size(MAX_REQUEST_HEAD).serve_connection(TokioIo::new(stream), service);
    connection.await.map_err(|error| error.to_string())
}

fn page(engine: &Engine, counters: &Counters) -> String {
    let pools = engine.view();
    let pool = pools.iter().find(|pool| pool.job.config.job_name == PROM_SCRAPER_JOB);
    let mut page = format!(
        "# HELP scrape_targets_total Targets that the files of prom_scraper name.\n\
         # TYPE scrape_targets_total gauge\nscrape_targets_total {}\n\
         # HELP failed_scrapes_total Scrapes that gave no page, or one that could not be taken, by the source of the target.\n\
         # TYPE failed_scrapes_total counter\n",
        pool.map_or(0, |pool| pool.active.len())
    );
    for (source, count) in counters.scrape.failed_sources() {
        let source = source.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        // Writing to a text does not fail.
        let _ = writeln!(page, "failed_scrapes_total{{scrape_target_source_id=\"{source}\"}} {count}");
    }
    page
}
