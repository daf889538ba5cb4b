//! One question to supervisord: HTTP/1.0, so that the answer ends with the connection and comes in one piece.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine as _;

use crate::sys::unix_socket;

/// For connecting, asking and reading, together.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// An answer that is larger is an error.
pub(super) const MAX_ANSWER: usize = 4 << 20;
const READ_BYTES: usize = 16 << 10;

const QUESTION: &str = "<?xml version=\"1.0\"?><methodCall><methodName>supervisor.getAllProcessInfo</methodName>\
    <params></params></methodCall>";

/// Where supervisord listens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    address: Address,
    path: String,
    /// What the header `Authorization` says, if there is one.
    authorization: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Address {
    /// As in a URL: brackets around an IPv6 address.
    Tcp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp { host, port } => write!(f, "http://{host}:{port}{}", self.path),
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl Endpoint {
    /// `http://user:password@host:port/path`, or `unix:///path/to/socket`.
    ///
    /// # Errors
    /// Why it is no such URL.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        if let Some(path) = url.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let address = Address::Unix(path.into());
            return Ok(Endpoint { address, path: "/RPC2".into(), authorization: None });
        }
        let rest = url.strip_prefix("http://").ok_or_else(|| {
            // The URL may hold a password: it is not repeated.
            "expected a URL that begins with http:// or unix://".to_owned()
        })?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let port_at = host.rfind(':').filter(|at| host[*at..].find(']').is_none());
        let (host, port) = match port_at {
            Some(at) => (&host[..at], host[at + 1..].parse().map_err(|_| "expected a port after the colon")?),
            None => (host, 80),
        };
        if host.is_empty() || path.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err("expected a host, and a path without spaces".into());
        }
        let authorization = user.map(|user| {
            let user: Vec<u8> = percent_decode(user);
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(user))
        });
        let address = Address::Tcp { host: host.to_owned(), port };
        Ok(Endpoint { address, path: path.to_owned(), authorization })
    }

    /// Asks for all processes. Returns the body of the answer, in `buffer`.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn ask<'b>(&self, timeout: Duration, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], String> {
        let deadline = Instant::now() + timeout;
        let mut stream = self.connect(deadline).map_err(|error| error.to_string())?;
        self.exchange(&mut stream, deadline, buffer).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("no whole answer within {timeout:?}")
            }
            _ => error.to_string(),
        })?;
        body_of(buffer)
    }

    fn connect(&self, deadline: Instant) -> io::Result<Stream> {
        let (host, port) = match &self.address {
            Address::Unix(path) => return unix_socket::connect(path, left(deadline)?).map(Stream::Unix),
            Address::Tcp { host, port } => (host.trim_start_matches('[').trim_end_matches(']'), *port),
        };
        let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
        for address in (host, port).to_socket_addrs()? {
            result = TcpStream::connect_timeout(&address, left(deadline)?).map(Stream::Tcp);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn exchange(&self, stream: &mut Stream, deadline: Instant, buffer: &mut Vec<u8>) -> io::Result<()> {
        let host = match &self.address {
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix(_) => "unix".to_owned(),
        };
        let authorization = self.authorization.as_deref();
        let authorization = authorization.map_or(String::new(), |text| format!("Authorization: {text}\r\n"));
        let length = QUESTION.len();
        let question = format!(
            "POST {} HTTP/1.0\r\nHost: {host}\r\n{authorization}Content-Type: text/xml\r\n\
             Content-Length: {length}\r\n\r\n{QUESTION}",
            self.path
        );
        stream.set_timeouts(left(deadline)?)?;
        stream.write_all(question.as_bytes())?;
        buffer.clear();
        loop {
            stream.set_timeouts(left(deadline)?)?;
            let filled = buffer.len();
            buffer.resize(filled + READ_BYTES, 0);
            let result = stream.read(&mut buffer[filled..]);
            buffer.truncate(filled + result.as_ref().copied().unwrap_or(0));
            match result {
                Ok(0) => return Ok(()),
                Ok(_) if buffer.len() > MAX_ANSWER => {
                    return Err(io::Error::other(format!("an answer of more than {MAX_ANSWER} bytes")));
                }
                Ok(_) if is_whole(buffer) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// What is left of the time; an error if nothing is.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn set_timeouts(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => {
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }
}

/// Head and body of an answer, if its head has come.
fn split_head(answer: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    Some((&answer[..end], &answer[end + 4..]))
}

fn length_of(head: &[u8]) -> Option<usize> {
    let lines = head.split(|&b| b == b'\n').skip(1);
    lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

/// Whether as much came as the head says: a server may leave the connection open.
fn is_whole(answer: &[u8]) -> bool {
    split_head(answer).is_some_and(|(head, body)| length_of(head).is_some_and(|length| body.len() >= length))
}

fn body_of(answer: &[u8]) -> Result<&[u8], String> {
    let (head, body) = split_head(answer).ok_or("an answer that is not HTTP")?;
    let status = head.split(|&b| b == b'\r').next().unwrap_or_default();
    let mut words = status.split(|&b| b == b' ');
    let is_http = words.next().is_some_and(|word| word.starts_with(b"HTTP/1."));
    let code = words.next().and_then(|word| std::str::from_utf8(word).ok()).filter(|_| is_http);
    match (code, length_of(head)) {
        (None, _) => Err("an answer that is not HTTP".into()),
        (Some("200"), Some(length)) if body.len() < length => Err("an answer that ends early".into()),
        (Some("200"), length) => Ok(&body[..length.unwrap_or(body.len())]),
        (Some(code), _) => Err(format!("HTTP status {code}")),
    }
}

/// `%40` is an `@`; what is no such thing stays as it is.
fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        decoded.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    decoded
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
