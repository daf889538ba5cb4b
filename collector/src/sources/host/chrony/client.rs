//! Where chronyd is asked, and how: a datagram there, a datagram back, within a time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::packet::{Answer, Command, PACKET_BYTES, Reply, encode_question, parse_reply};
use crate::sys::unix_socket::NamedDatagram;

/// Datagrams that are no answer to the question, before it is given up.
const MOST_FOREIGN: usize = 16;

/// An address of chronyd.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Address {
    Udp(SocketAddr),
    Unix {
        server: PathBuf,
        /// Where chronyd answers: in its own folder, as that may be all it sees.
        own: PathBuf,
    },
}

impl Address {
    /// `unix:/path`, `unix:///path`, or `address:port`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let server = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            let folder = server.parent().filter(|_| server.is_absolute());
            let folder = folder.ok_or_else(|| format!("expected a whole path after unix:, got {path:?}"))?;
            let own = folder.join(format!("collector.{}.sock", std::process::id()));
            return Ok(Address::Unix { server, own });
        }
        text.parse()
            .map(Address::Udp)
            .map_err(|_| format!("expected unix:/path or an IP address and a port, got {text:?}"))
    }

    /// # Errors
    /// Why there is no way to it.
    pub(super) fn connect(&self) -> io::Result<Socket<'_>> {
        match self {
            Address::Udp(server) => {
                let any: IpAddr = if server.is_ipv4() {
                    Ipv4Addr::UNSPECIFIED.into()
                } else {
                    Ipv6Addr::UNSPECIFIED.into()
                };
                let socket = UdpSocket::bind((any, 0))?;
                socket.connect(server)?;
                Ok(Socket::Udp(socket))
            }
            Address::Unix { server, own } => NamedDatagram::connect(server, own).map(Socket::Unix),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Udp(server) => write!(f, "{server}"),
            Address::Unix { server, .. } => write!(f, "unix:{}", server.display()),
        }
    }
}

/// A way to chronyd.
pub(super) enum Socket<'a> {
    Udp(UdpSocket),
    Unix(NamedDatagram<'a>),
}

impl Socket<'_> {
    fn send(&self, packet: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Udp(socket) => socket.send(packet),
            Socket::Unix(named) => named.socket().send(packet),
        }
    }

    fn receive(&self, deadline: Instant, packet: &mut [u8]) -> io::Result<usize> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left < Duration::from_micros(1) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match self {
            Socket::Udp(socket) => {
                socket.set_read_timeout(Some(left))?;
                socket.recv(packet)
            }
            Socket::Unix(named) => {
                named.socket().set_read_timeout(Some(left))?;
                named.socket().recv(packet)
            }
        }
    }

    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Socket::Udp(socket) => socket.set_write_timeout(Some(timeout)),
            Socket::Unix(named) => named.socket().set_write_timeout(Some(timeout)),
        }
    }

    /// Asks one question, and waits until `deadline` for its answer, which stays in `packet`.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn ask<'b>(
        &self,
        command: Command,
        number: u32,
        deadline: Instant,
        packet: &'b mut Vec<u8>,
    ) -> Result<Answer<'b>, String> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        packet.clear();
        encode_question(command, number, packet);
        let sent = self.set_write_timeout(left).and_then(|()| self.send(packet));
        sent.map_err(|error| error.to_string())?;
        // One byte more shows what is too long for an answer, but no more is needed of it.
        packet.resize(PACKET_BYTES + 1, 0);
        let mut length = 0;
        for _ in 0..MOST_FOREIGN {
            length = self.receive(deadline, packet).map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".to_owned(),
                _ => error.to_string(),
            })?;
            if parse_reply(&packet[..length], command, number) != Reply::Foreign {
                break;
            }
        }
        match parse_reply(&packet[..length], command, number) {
            Reply::Answer(answer) => Ok(answer),
            Reply::Refused(status) => Err(format!("refused with status {status}")),
            Reply::Malformed(why) => Err(why.to_owned()),
            Reply::Foreign => Err("answers to other questions only".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_paths_or_numbers() {
        for text in ["unix:/run/chrony/chronyd.sock", "unix:///run/chrony/chronyd.sock"] {
            let Ok(Address::Unix { server, own }) = Address::parse(text) else { panic!("{text} is a path") };
            assert_eq!(server.to_str(), Some("/run/chrony/chronyd.sock"));
            assert_eq!(own.parent(), server.parent());
        }
        assert_eq!(Address::parse("[::1]:323").unwrap().to_string(), "[::1]:323");
        for wrong in ["", "unix:", "unix:chronyd.sock", "unix:/", "localhost:323", "127.0.0.1"] {
            assert!(Address::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
