//! Connections: to a host, through a proxy, to a unix socket; and TLS over them.

use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::proxy::{Proxies, Via};
use crate::config::HttpSettings;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What a proxy may answer to `CONNECT`, in bytes.
const MAX_CONNECT_ANSWER: usize = 8 << 10;

/// Where connections go.
#[derive(Clone)]
pub(super) enum Route {
    Unix(PathBuf),
    Network(Arc<Proxies>),
}

/// Makes connections for hyper's pool.
#[derive(Clone)]
pub(super) struct Connector {
    route: Route,
    tcp: HttpConnector,
    tls: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    round_robin_dns: bool,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that stands.
pub(super) struct Link {
    stream: TokioIo<Box<dyn Stream>>,
    is_h2: bool,
    /// Requests must name the whole URL.
    is_proxied: bool,
}

impl Connector {
    pub(super) fn new(route: Route, tls: Arc<ClientConfig>, settings: &HttpSettings) -> Result<Self, String> {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let server_name = match &settings.tls.server_name {
            Some(name) => Some(
                ServerName::try_from(name.clone())
                    .map_err(|error| format!("tls_config.server_name: {name:?}: {error}"))?,
            ),
            None => None,
        };
        Ok(Connector { route, tcp, tls, server_name, round_robin_dns: settings.round_robin_dns })
    }

    async fn connect(mut self, uri: Uri) -> io::Result<Link> {
        let is_tls = uri.scheme_str() == Some("https");
        let proxies = match &self.route {
            Route::Unix(path) => {
                let stream = UnixStream::connect(path)
                    .await
                    .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
                return Ok(Link::new(Box::new(stream), false, false));
            }
            Route::Network(proxies) => proxies.clone(),
        };
        let via = proxies.for_uri(&uri);
        let mut tcp = self.tcp(via.map_or(&uri, |via| &via.uri)).await?;
        match via {
            Some(_) if !is_tls => return Ok(Link::new(Box::new(tcp), false, true)),
            Some(via) => {
                let tunnel = tunnel(&mut tcp, &uri, via, &proxies);
                let timed = tokio::time::timeout(CONNECT_TIMEOUT, tunnel).await;
                timed.unwrap_or_else(|_| Err(io::Error::other("the proxy did not answer in time")))?;
            }
            None => {}
        }
        if is_tls { self.encrypt(tcp, &uri).await } else { Ok(Link::new(Box::new(tcp), false, false)) }
    }

    async fn tcp(&mut self, uri: &Uri) -> io::Result<TcpStream> {
        if self.round_robin_dns {
            let timed = tokio::time::timeout(CONNECT_TIMEOUT, connect_at_random(uri)).await;
            return timed.unwrap_or_else(|_| Err(io::Error::other("no connection in time")));
        }
        let stream = self.tcp.call(uri.clone()).await.map_err(|error| {
            // The cause stays in the chain; a kind lets nobody act on it here.
            io::Error::other(error)
        })?;
        Ok(stream.into_inner())
    }

    async fn encrypt(&self, tcp: TcpStream, uri: &Uri) -> io::Result<Link> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => {
                let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
                ServerName::try_from(host.to_owned()).map_err(io::Error::other)?
            }
        };
        let handshake = TlsConnector::from(self.tls.clone()).connect(name, tcp);
        let timed = tokio::time::timeout(CONNECT_TIMEOUT, handshake).await;
        let tls = timed.unwrap_or_else(|_| Err(io::Error::other("no TLS handshake in time")))?;
        let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Link::new(Box::new(tls), is_h2, false))
    }
}

/// Connects to one of the addresses of the host's name: with many connections, and many who connect, each gets its
/// share.
async fn connect_at_random(uri: &Uri) -> io::Result<TcpStream> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let mut all: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    // The resolver may say an address once for each kind of socket.
    all.sort_unstable();
    all.dedup();
    if all.is_empty() {
        return Err(io::Error::other(format!("{host} has no address")));
    }
    let chosen = all[RandomState::new().hash_one(port) as usize % all.len()];
    let stream = TcpStream::connect(chosen)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("{chosen}: {error}")))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Link {
    fn new(stream: Box<dyn Stream>, is_h2: bool, is_proxied: bool) -> Self {
        Link { stream: TokioIo::new(stream), is_h2, is_proxied }
    }
}

/// Asks the proxy for a connection to the host of `uri` (RFC 9110, section 9.3.6).
async fn tunnel(tcp: &mut TcpStream, uri: &Uri, via: &Via, proxies: &Proxies) -> io::Result<()> {
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(443);
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
    let mut add = |name: &str, value: &HeaderValue| {
        request.extend_from_slice(name.as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    };
    if let Some(authorization) = &via.authorization {
        add("Proxy-Authorization", authorization);
    }
    for (name, value) in proxies.connect_headers().map_err(io::Error::other)? {
        add(name.as_str(), &value);
    }
    request.extend_from_slice(b"\r\n");
    tcp.write_all(&request).await?;
    let mut answer = Vec::new();
    // One byte at a time: what follows the head belongs to TLS.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == MAX_CONNECT_ANSWER {
            return Err(io::Error::other("the proxy's answer has no end"));
        }
        answer.push(tcp.read_u8().await?);
    }
    let line = answer.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let status = line.split(' ').nth(1).unwrap_or_default();
    if line.starts_with("HTTP/1.") && status.len() == 3 && status.starts_with('2') {
        Ok(())
    } else {
        Err(io::Error::other(format!("the proxy answered {line:?}")))
    }
}

impl Service<Uri> for Connector {
    type Response = Link;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Link>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.is_proxied);
        if self.is_h2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
