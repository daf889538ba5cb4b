//! From a listening socket to answers: accept, TLS, HTTP/1.1 or HTTP/2.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use super::guard::Guard;
use super::listen::{Address, Connection, Listener};
use super::routes::Server;
use crate::limits::{MAX_CONNECTIONS, MAX_HTTP2_STREAMS, MAX_REQUEST_HEAD};

/// Time in which a client must send its request head, counted from the answer before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Time in which a client must end its part of the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where connections come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Addresses(Vec<Address>),
    /// The sockets that systemd hands over.
    Systemd,
}

/// Listens, and answers until the runtime ends.
///
/// # Errors
/// When one of the addresses can't be bound, or systemd has handed over nothing.
pub async fn serve(listen: &Listen, server: &Arc<Server>) -> std::io::Result<()> {
    let listeners = match listen {
        Listen::Systemd => {
            log::info!("Listening on systemd activated listeners instead of port listeners.");
            Listener::inherited()?
        }
        Listen::Addresses(addresses) => {
            let mut listeners = Vec::new();
            for address in addresses {
                listeners.push(Listener::bind(address).await?);
            }
            listeners
        }
    };
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    for listener in listeners {
        let address = listener.address();
        log::info!(address = address.as_str(); "Listening on");
        let tls = server.guard().map_or(Ok(None), Guard::tls).map_err(std::io::Error::other)?;
        let http2 = tls.as_ref().is_some_and(|tls| tls.alpn_protocols.len() > 1);
        let state = if tls.is_some() { "TLS is enabled." } else { "TLS is disabled." };
        log::info!(http2, address = address.as_str(); "{state}");
        tokio::spawn(accept(listener, tls.is_some(), server.clone(), connections.clone()));
    }
    Ok(())
}

async fn accept(listener: Listener, is_tls: bool, server: Arc<Server>, connections: Arc<Semaphore>) {
    loop {
        // Above the limit the rest wait in the backlog. The semaphore is never closed.
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok(stream) => {
                let server = server.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, is_tls, server, permit).await {
                        log::debug!(err = error.as_str(); "connection ended");
                    }
                });
            }
            Err(error) => {
                log::warn!(err = error.to_string().as_str(); "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection, from its first byte to its last.
async fn converse(
    stream: Box<dyn Connection>,
    is_tls: bool,
    server: Arc<Server>,
    _permit: OwnedSemaphorePermit,
) -> Result<(), String> {
    if !is_tls {
        return http1(stream, server).await;
    }
    // Read anew for each handshake: a renewed certificate counts at once, a bad one lets nobody in.
    let tls = server.guard().map_or(Ok(None), Guard::tls);
    let config = match tls {
        Ok(Some(config)) => config,
        Ok(None) => {
            return Err("tls_server_config has gone from the file: restart to serve plain HTTP".into());
        }
        Err(error) => {
            log::error!(err = error.as_str(); "no TLS handshake is possible");
            return Err(error);
        }
    };
    let handshake = TlsAcceptor::from(config).accept(stream);
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
        .await
        .map_err(|_| "TLS handshake: timed out".to_owned())?
        .map_err(|error| format!("TLS handshake: {error}"))?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2(stream, server).await
    } else {
        http1(stream, server).await
    }
}

async fn http1(stream: impl Connection, server: Arc<Server>) -> Result<(), String> {
    let patience = Patience::default();
    let service = service_fn(|request| {
        let (server, patience) = (server.clone(), &patience);
        async move {
            let _busy = patience.answering();
            Ok::<_, Infallible>(server.answer(request).await)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .max_buf_size(MAX_REQUEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = connection => ended.map_err(|error| error.to_string()),
        () = patience.run_out() => Err("no request came in time".to_owned()),
    }
}

/// How long a connection has waited for a request. (hyper could say so too, but with a timer that is set for every
/// request, which wakes the runtime each time: two system calls a scrape.)
struct Patience {
    /// Since when, by the clock of `start`, in milliseconds; [`Patience::BUSY`] while a request is answered.
    since: AtomicU64,
    start: Instant,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { since: AtomicU64::new(0), start: Instant::now() }
    }
}

impl Patience {
    const BUSY: u64 = u64::MAX;

    /// Nothing runs out until what this gives is dropped.
    fn answering(&self) -> impl Drop {
        struct Busy<'a>(&'a Patience);
        impl Drop for Busy<'_> {
            fn drop(&mut self) {
                self.0.since.store(self.0.now(), Ordering::Relaxed);
            }
        }
        self.since.store(Self::BUSY, Ordering::Relaxed);
        Busy(self)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(Self::BUSY - 1)
    }

    /// Ends when no request has come for [`HEAD_TIMEOUT`] since the last was answered.
    async fn run_out(&self) {
        let mut wait = HEAD_TIMEOUT;
        loop {
            tokio::time::sleep(wait).await;
            wait = match self.since.load(Ordering::Relaxed) {
                Self::BUSY => HEAD_TIMEOUT,
                since => HEAD_TIMEOUT.saturating_sub(Duration::from_millis(self.now() - since)),
            };
            if wait.is_zero() {
                return;
            }
        }
    }
}

async fn http2(stream: impl Connection + 'static, server: Arc<Server>) -> Result<(), String> {
    let service = service_fn(move |request| {
        let server = server.clone();
        async move { Ok::<_, Infallible>(server.answer(request).await) }
    });
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD_TIMEOUT)
        .max_header_list_size(u32::try_from(MAX_REQUEST_HEAD).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_HTTP2_STREAMS)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(|error| error.to_string())
}
