//! Sockets: bind, accept, and hand each connection to hyper.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket};

use super::routes::Server;
use crate::limits::{MAX_CONNECTIONS, MAX_REQUEST_HEAD};

/// Time in which a client must send its request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const BACKLOG: u32 = 1024;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Every address of both families, as Go does for `:9100`.
    Any(u16),
    Host(String),
}

/// `:9100`, `127.0.0.1:9100`, `[::1]:9100`, `host:9100`.
///
/// # Errors
/// The text, and what would be right.
pub fn parse_address(text: &str) -> Result<Address, String> {
    let wrong =
        || format!("--web.listen-address: {text:?} is not an address such as :9100 or 127.0.0.1:9100");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    if host.is_empty() { Ok(Address::Any(port)) } else { Ok(Address::Host(text.to_owned())) }
}

/// Binds the address.
///
/// # Errors
/// With the address, when it can't be bound.
pub async fn bind(address: &Address) -> std::io::Result<TcpListener> {
    let name = |error: std::io::Error, address: &dyn std::fmt::Debug| {
        std::io::Error::new(error.kind(), format!("listen {address:?}: {error}"))
    };
    match address {
        Address::Any(port) => {
            let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port));
            let only_v4 = SocketAddr::from(([0, 0, 0, 0], *port));
            match bind_one(both) {
                // A kernel without IPv6 says so at the socket.
                Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => bind_one(only_v4),
                other => other,
            }
            .map_err(|error| name(error, &format_args!(":{port}")))
        }
        Address::Host(host) => {
            let fail = |error| name(error, &format_args!("{host}"));
            let mut addresses = tokio::net::lookup_host(host).await.map_err(fail)?;
            let first = addresses.next().ok_or_else(|| fail(std::io::Error::other("no address found")))?;
            bind_one(first).map_err(fail)
        }
    }
}

fn bind_one(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Binds every address and answers on it until the runtime ends.
///
/// # Errors
/// When one of them can't be bound.
pub async fn serve(addresses: &[Address], server: &Arc<Server>) -> std::io::Result<()> {
    let connections = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    for address in addresses {
        let listener = bind(address).await?;
        log::info!(address = listener.local_addr()?.to_string().as_str(); "Listening on");
        tokio::spawn(accept(listener, server.clone(), connections.clone()));
    }
    Ok(())
}

async fn accept(listener: TcpListener, server: Arc<Server>, connections: Arc<tokio::sync::Semaphore>) {
    loop {
        // Above the limit the rest wait in the backlog. The semaphore is never closed.
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and whole: nothing is gained by waiting to fill a segment.
                let _ = stream.set_nodelay(true);
                let server = server.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| {
                        let server = server.clone();
                        async move { Ok::<_, std::convert::Infallible>(server.answer(request).await) }
                    });
                    let mut http = hyper::server::conn::http1::Builder::new();
                    http.timer(TokioTimer::new())
                        .header_read_timeout(HEAD_TIMEOUT)
                        .max_buf_size(MAX_REQUEST_HEAD);
                    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
                        log::debug!(err = error.to_string().as_str(); "connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                log::warn!(err = error.to_string().as_str(); "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_go_addresses() {
        assert_eq!(parse_address(":9100"), Ok(Address::Any(9100)));
        assert_eq!(parse_address("[::1]:80"), Ok(Address::Host("[::1]:80".into())));
        for wrong in ["", "9100", ":", ":http", "1.2.3.4", ":70000"] {
            assert!(parse_address(wrong).unwrap_err().contains("is not an address"), "{wrong}");
        }
    }
}
