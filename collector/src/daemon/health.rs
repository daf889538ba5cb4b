//! `collector health`: asks a running collector whether it is well, for a container's health check.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use crate::serve::{Address, parse_address};

const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks `/-/healthy` of the collector that listens on `address`, as `--web.listen-address` has it.
///
/// # Errors
/// Why it is not healthy, or did not answer.
pub fn ask(address: &str) -> Result<(), String> {
    let target = match parse_address(address)? {
        Address::Any(port) => format!("127.0.0.1:{port}"),
        Address::Host(host) => host,
        Address::Vsock(_) => return Err(format!("{address}: a vsock address can't be asked")),
    };
    let fail = |error: std::io::Error| format!("{target}: {error}");
    let mut addresses = target.to_socket_addrs().map_err(fail)?;
    let first = addresses.next().ok_or_else(|| format!("{target}: no address found"))?;
    let mut stream = TcpStream::connect_timeout(&first, TIMEOUT).map_err(fail)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(fail)?;
    let request = format!("GET /-/healthy HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(fail)?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).map_err(fail)?;
    if is_alive(&answer) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&answer);
    Err(format!("{target}: {}", text.lines().next().unwrap_or("no answer")))
}

/// Whether the answer tells of a collector that is well. One that wants a password (401), has had too many
/// requests (429) or speaks TLS alone (an alert, RFC 8446, section 6) is, but does not say so to strangers.
fn is_alive(answer: &[u8]) -> bool {
    [&b"HTTP/1.1 200"[..], b"HTTP/1.1 401", b"HTTP/1.1 429", b"\x15\x03"]
        .iter()
        .any(|start| answer.starts_with(start))
}
