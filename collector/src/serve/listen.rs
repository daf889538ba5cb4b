//! Where to listen: TCP, vsock, and the sockets that systemd hands over.

use std::net::{Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};

use crate::sys::sockets::{self, AsyncListener};

const BACKLOG: u32 = 1024;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Every address of both families, as Go does for `:9100`.
    Any(u16),
    Host(String),
    /// That port of every virtual machine context: `vsock://:9100`.
    Vsock(u32),
}

/// `:9100`, `127.0.0.1:9100`, `[::1]:9100`, `host:9100`, `vsock://:9100`.
///
/// # Errors
/// The text, and what would be right.
pub fn parse_address(text: &str) -> Result<Address, String> {
    let wrong = || {
        format!(
            "--web.listen-address: {text:?} is not an address such as :9100, 127.0.0.1:9100 or vsock://:9100"
        )
    };
    if let Some(rest) = text.strip_prefix("vsock://") {
        let (_, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        return port.parse().map(Address::Vsock).map_err(|_| wrong());
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    if host.is_empty() { Ok(Address::Any(port)) } else { Ok(Address::Host(text.to_owned())) }
}

/// A connection, whatever it runs over.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A socket that listens.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
    Vsock(AsyncListener),
}

impl Listener {
    /// # Errors
    /// With the address, when it can't be bound.
    pub(super) async fn bind(address: &Address) -> std::io::Result<Self> {
        let name = |error: std::io::Error, address: &dyn std::fmt::Display| {
            std::io::Error::new(error.kind(), format!("listen {address}: {error}"))
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
                .map(Listener::Tcp)
            }
            Address::Host(host) => {
                let fail = |error| name(error, host);
                let mut addresses = tokio::net::lookup_host(host).await.map_err(fail)?;
                let first =
                    addresses.next().ok_or_else(|| fail(std::io::Error::other("no address found")))?;
                bind_one(first).map_err(fail).map(Listener::Tcp)
            }
            Address::Vsock(port) => sockets::listen_vsock(*port)
                .and_then(AsyncListener::new)
                .map(Listener::Vsock)
                .map_err(|error| name(error, &format_args!("vsock://:{port}"))),
        }
    }

    /// The sockets that systemd has handed over.
    ///
    /// # Errors
    /// When there is none, or one that is not served.
    pub(super) fn inherited() -> std::io::Result<Vec<Self>> {
        let listeners: Vec<_> = sockets::inherited()?
            .into_iter()
            .map(|(domain, socket)| match domain {
                sockets::Domain::Inet => TcpListener::from_std(socket.into()).map(Listener::Tcp),
                sockets::Domain::Unix => UnixListener::from_std(socket.into()).map(Listener::Unix),
                sockets::Domain::Vsock => AsyncListener::new(socket).map(Listener::Vsock),
            })
            .collect::<Result<_, _>>()?;
        if listeners.is_empty() {
            return Err(std::io::Error::other("no socket activation file descriptors found"));
        }
        Ok(listeners)
    }

    /// As the log shows it.
    pub(super) fn address(&self) -> String {
        match self {
            Listener::Tcp(socket) => socket.local_addr().map_or_else(|e| e.to_string(), |a| a.to_string()),
            Listener::Unix(socket) => {
                let path =
                    socket.local_addr().ok().and_then(|a| a.as_pathname().map(|p| p.display().to_string()));
                path.unwrap_or_else(|| "unix".into())
            }
            Listener::Vsock(_) => "vsock".into(),
        }
    }

    pub(super) async fn accept(&self) -> std::io::Result<Box<dyn Connection>> {
        match self {
            Listener::Tcp(socket) => {
                let (stream, _) = socket.accept().await?;
                // Answers are small and whole: nothing is gained by waiting to fill a segment.
                let _ = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
            Listener::Unix(socket) => Ok(Box::new(socket.accept().await?.0)),
            Listener::Vsock(socket) => {
                // A stream is read and written in the same way, whatever its address family.
                let stream = std::os::unix::net::UnixStream::from(socket.accept().await?);
                Ok(Box::new(UnixStream::from_std(stream)?))
            }
        }
    }
}

fn bind_one(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_go_addresses() {
        assert_eq!(parse_address(":9100"), Ok(Address::Any(9100)));
        assert_eq!(parse_address("[::1]:80"), Ok(Address::Host("[::1]:80".into())));
        assert_eq!(parse_address("vsock://:70000"), Ok(Address::Vsock(70_000)));
        for wrong in ["", "9100", ":", ":http", "1.2.3.4", ":70000", "vsock://9100", "vsock://:x"] {
            assert!(parse_address(wrong).unwrap_err().contains("is not an address"), "{wrong}");
        }
    }
}
