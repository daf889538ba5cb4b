//! Every TCP socket of the network namespace, by sock_diag(7): the state of each and what waits in its queues.
//!
//! One request (TCPDIAG_GETSOCK) for IPv4 and IPv6 together: a request for each, as there is a newer one, would
//! make the kernel walk its tables twice, which is most of the work on a host with few sockets. No extension is
//! asked for. A filter by state would not help: all states are counted, and the kernel adds up none of them.
//!
//! Cost: two system calls, and one for every 270 sockets. The answer is counted as it comes: no more than one
//! piece of 32 KiB is held.

use std::io;

use super::netlink::{self, Netlink, Protocol, Request};

const TCPDIAG_GETSOCK: u16 = 18;
/// `struct inet_diag_req`: family and extensions, 48 bytes that tell sockets apart, states, and a word for old
/// kernels.
const REQUEST_SIZE: usize = 60;
const STATES_OFFSET: usize = 52;
/// TCP_ESTABLISHED to TCP_CLOSING, numbered from 1.
pub const STATES: usize = 12;
const ALL_STATES: u32 = 0xfff;
/// `struct inet_diag_msg`: state at 1, then two words among others.
const ANSWER_SIZE: usize = 72;
const RECEIVE_OFFSET: usize = 56;
const SEND_OFFSET: usize = 60;

/// Sockets by state (by its number in the kernel), and the bytes in all queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub states: [u64; STATES],
    pub receive_queued: u64,
    pub send_queued: u64,
}

/// A socket to ask for sockets.
#[derive(Debug)]
pub struct TcpSockets {
    netlink: Netlink,
}

impl Default for TcpSockets {
    fn default() -> Self {
        TcpSockets { netlink: Netlink::of(Protocol::SocketDiagnostics) }
    }
}

impl TcpSockets {
    /// # Errors
    /// Those of the socket, or what the kernel answered: ENOENT where it can't show sockets.
    pub fn count(&mut self) -> io::Result<Counts> {
        let mut body = [0; REQUEST_SIZE];
        body[STATES_OFFSET..STATES_OFFSET + 4].copy_from_slice(&ALL_STATES.to_ne_bytes());
        let request =
            Request { kind: TCPDIAG_GETSOCK, answer: TCPDIAG_GETSOCK, header: ANSWER_SIZE, body: &body };
        let mut counts = Counts::default();
        self.netlink.stream(&request, |messages| {
            messages.for_each(|(header, _)| counts.add(header));
        })?;
        Ok(counts)
    }
}

impl Counts {
    fn add(&mut self, message: &[u8]) {
        if let Some(count) = message.get(1).and_then(|&state| self.states.get_mut(usize::from(state))) {
            *count += 1;
        }
        self.receive_queued += netlink::u32_at(message, RECEIVE_OFFSET).map_or(0, u64::from);
        self.send_queued += netlink::u32_at(message, SEND_OFFSET).map_or(0, u64::from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_our_own_is_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let counts = TcpSockets::default().count().unwrap();
        assert!(counts.states[10] >= 1, "listen");
        drop(listener);
    }

    #[test]
    fn an_unknown_state_and_a_cut_message_count_nowhere() {
        let mut counts = Counts::default();
        counts.add(&[2, 200]);
        counts.add(&[]);
        assert_eq!(counts, Counts::default());
    }
}
