//! Requests by netlink(7): dumps of rtnetlink tables (links, neighbours, addresses, routes, queueing disciplines),
//! of sockets, and what `genetlink` asks.
//!
//! The socket stays open and the buffer is used again, so that a dump costs a `send` and two or three `recv`,
//! and allocates nothing once the buffer has grown. A dump is read whole before anybody looks at it: one that
//! the kernel marks as interrupted (NLM_F_DUMP_INTR) is thrown away and asked for again. One that may be very
//! large is handed on piece by piece instead. Nothing in a message is trusted to be as long as it says.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const HEADER: usize = 16;
/// A dump that is larger ends with an error.
pub const MAX_DUMP: usize = 64 << 20;
/// The kernel sends at most this in one piece, if it is offered so much.
const PIECE: usize = 32 << 10;
/// A request with its header is never longer.
const LONGEST_REQUEST: usize = 128;
/// How often an interrupted dump is asked for before it counts as failed.
const ATTEMPTS: usize = 4;
const RECEIVE_TIMEOUT: libc::timeval = libc::timeval { tv_sec: 2, tv_usec: 0 };

/// Leaves the counters of IPv6 out of a dump of links: the kernel would add them up over all CPUs, for each
/// interface, and they fill half of its message.
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
const IFLA_EXT_MASK: u16 = 29;

/// A table of the kernel that can be dumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Network interfaces. Messages begin with `ifinfomsg`, 16 bytes.
    Links,
    /// Neighbours of IPv4. Messages begin with `ndmsg`, 12 bytes.
    Neighbours4,
    /// Addresses of IPv4 and IPv6. Messages begin with `ifaddrmsg`, 8 bytes.
    Addresses,
    /// Routes of IPv4 and IPv6, of all tables. Messages begin with `rtmsg`, 12 bytes.
    Routes,
    /// Queueing disciplines. Messages begin with `tcmsg`, 20 bytes.
    Qdiscs,
}

const ANY_FAMILY: [u8; 20] = [0; 20];
const IPV4: [u8; 12] = {
    let mut header = [0; 12];
    header[0] = libc::AF_INET as u8;
    header
};
/// An empty `ifinfomsg`, and one attribute.
const WITHOUT_IPV6_COUNTERS: [u8; 24] = {
    let mut body = [0; 24];
    let (length, kind) = (8u16.to_ne_bytes(), IFLA_EXT_MASK.to_ne_bytes());
    let mask = RTEXT_FILTER_SKIP_STATS.to_ne_bytes();
    let attribute = [length[0], length[1], kind[0], kind[1], mask[0], mask[1], mask[2], mask[3]];
    let mut n = 0;
    while n < attribute.len() {
        body[16 + n] = attribute[n];
        n += 1;
    }
    body
};

impl Table {
    fn request(self) -> Request<'static> {
        let (kind, answer, header, body): (_, _, _, &'static [u8]) = match self {
            Table::Links => (libc::RTM_GETLINK, libc::RTM_NEWLINK, 16, &WITHOUT_IPV6_COUNTERS),
            Table::Neighbours4 => (libc::RTM_GETNEIGH, libc::RTM_NEWNEIGH, 12, &IPV4),
            Table::Addresses => (libc::RTM_GETADDR, libc::RTM_NEWADDR, 8, &ANY_FAMILY[..8]),
            Table::Routes => (libc::RTM_GETROUTE, libc::RTM_NEWROUTE, 12, &ANY_FAMILY[..12]),
            Table::Qdiscs => (libc::RTM_GETQDISC, libc::RTM_NEWQDISC, 20, &ANY_FAMILY),
        };
        Request { kind, answer, header, body }
    }
}

/// What is sent to the kernel, and what its answers look like.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub kind: u16,
    /// The kind of the messages that answer.
    pub answer: u16,
    /// The length of the fixed header within each of them.
    pub header: usize,
    pub body: &'a [u8],
}

/// Which part of the kernel a socket talks to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    Route,
    SocketDiagnostics,
    Generic,
}

/// A socket for requests, opened at its first use and again after an error.
#[derive(Debug, Default)]
pub struct Netlink {
    protocol: Protocol,
    socket: Option<OwnedFd>,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// A socket for rtnetlink.
    pub fn new() -> Self {
        Netlink::default()
    }

    pub fn of(protocol: Protocol) -> Self {
        Netlink { protocol, ..Netlink::default() }
    }

    /// Asks for the whole of `table` and returns its messages.
    ///
    /// # Errors
    /// Those of the socket, what the kernel answered, or a dump that was interrupted again and again.
    pub fn dump(&mut self, table: Table) -> io::Result<Messages<'_>> {
        self.dump_all(&table.request())
    }

    /// As [`Netlink::dump`], of any request.
    ///
    /// # Errors
    /// As [`Netlink::dump`].
    pub fn dump_all(&mut self, request: &Request<'_>) -> io::Result<Messages<'_>> {
        for _ in 0..ATTEMPTS {
            let whole = self.exchange(request, libc::NLM_F_DUMP);
            if whole.is_err() {
                self.socket = None;
            }
            if whole? {
                return Ok(self.messages(request));
            }
        }
        Err(io::Error::other("the table changed during every attempt to dump it"))
    }

    /// Asks for one thing and returns the answer.
    ///
    /// # Errors
    /// Those of the socket, or what the kernel answered.
    pub fn ask(&mut self, request: &Request<'_>) -> io::Result<Messages<'_>> {
        if let Err(error) = self.exchange(request, libc::NLM_F_ACK) {
            self.socket = None;
            return Err(error);
        }
        Ok(self.messages(request))
    }

    /// The messages of the last dump once more, which was of `table`.
    pub fn last(&self, table: Table) -> Messages<'_> {
        self.messages(&table.request())
    }

    /// Asks for a dump and hands on each piece of it as it comes, so that no more than one is ever held.
    /// False when the kernel says that it is not of one piece: the caller may ask again.
    ///
    /// # Errors
    /// As [`Netlink::dump`].
    pub fn stream(&mut self, request: &Request<'_>, mut each: impl FnMut(Messages<'_>)) -> io::Result<bool> {
        let result = self.exchange_pieces(request, libc::NLM_F_DUMP, |buffer, start| {
            each(Messages { rest: &buffer[start..], answer: request.answer, header: request.header });
            buffer.clear();
        });
        if result.is_err() {
            self.socket = None;
        }
        result
    }

    fn messages(&self, request: &Request<'_>) -> Messages<'_> {
        Messages { rest: &self.buffer, answer: request.answer, header: request.header }
    }

    fn open(&mut self) -> io::Result<libc::c_int> {
        if let Some(socket) = &self.socket {
            return Ok(socket.as_raw_fd());
        }
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let protocol = match self.protocol {
            Protocol::Route => libc::NETLINK_ROUTE,
            Protocol::SocketDiagnostics => libc::NETLINK_SOCK_DIAG,
            Protocol::Generic => libc::NETLINK_GENERIC,
        };
        // SAFETY: no pointer is passed.
        let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let owned = unsafe { OwnedFd::from_raw_fd(socket) };
        let timeout = RECEIVE_TIMEOUT;
        let size = size_of::<libc::timeval>() as libc::socklen_t;
        // SAFETY: the pointer is to a `timeval` of the size given, and outlives the call.
        unsafe {
            let value = (&raw const timeout).cast();
            libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, value, size);
        }
        self.socket = Some(owned);
        Ok(socket)
    }

    /// One request and all of its answer, into `buffer`. False when the kernel says that it is not of one piece.
    fn exchange(&mut self, request: &Request<'_>, flags: libc::c_int) -> io::Result<bool> {
        self.exchange_pieces(request, flags, |_, _| {})
    }

    /// As [`Netlink::exchange`]; `each` is told the buffer and where in it the piece begins that came.
    fn exchange_pieces(
        &mut self,
        request: &Request<'_>,
        flags: libc::c_int,
        mut each: impl FnMut(&mut Vec<u8>, usize),
    ) -> io::Result<bool> {
        let socket = self.open()?;
        self.sequence = self.sequence.wrapping_add(1);
        send_request(socket, request, flags, self.sequence)?;
        self.buffer.clear();
        let mut whole = true;
        loop {
            let start = self.buffer.len();
            receive(socket, &mut self.buffer)?;
            let progress = scan(&mut self.buffer, start, self.sequence)?;
            each(&mut self.buffer, start);
            match progress {
                Progress::More { interrupted } => whole &= !interrupted,
                Progress::Done { interrupted } => return Ok(whole && !interrupted),
            }
        }
    }
}

fn send_request(
    socket: libc::c_int,
    request: &Request<'_>,
    flags: libc::c_int,
    sequence: u32,
) -> io::Result<()> {
    let mut message = [0u8; LONGEST_REQUEST];
    let length = HEADER + request.body.len();
    let Some(room) = message.get_mut(HEADER..length) else {
        return Err(io::Error::other(format!("a request longer than {LONGEST_REQUEST} bytes")));
    };
    room.copy_from_slice(request.body);
    message[..4].copy_from_slice(&(length as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&request.kind.to_ne_bytes());
    message[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    message[8..12].copy_from_slice(&sequence.to_ne_bytes());
    // SAFETY: the pointer and the length are of the array, which outlives the call.
    let sent = unsafe { libc::send(socket, message.as_ptr().cast(), length, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Appends one datagram.
fn receive(socket: libc::c_int, buffer: &mut Vec<u8>) -> io::Result<()> {
    let start = buffer.len();
    if start > MAX_DUMP {
        return Err(io::Error::other(format!("a dump larger than {MAX_DUMP} bytes")));
    }
    buffer.reserve(PIECE);
    let room = buffer.capacity() - start;
    loop {
        // SAFETY: the spare capacity of the vector begins at `start` and is `room` bytes long.
        let got = unsafe { libc::recv(socket, buffer.as_mut_ptr().add(start).cast(), room, libc::MSG_TRUNC) };
        let Ok(got) = usize::try_from(got) else {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        };
        if got > room {
            return Err(io::Error::other("a message was cut off"));
        }
        // SAFETY: the kernel has written `got` bytes from `start` on, and `got <= room`.
        unsafe { buffer.set_len(start + got) };
        return Ok(());
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    More { interrupted: bool },
    Done { interrupted: bool },
}

/// Looks through the datagram that begins at `start`; one that answers an older request is dropped.
fn scan(buffer: &mut Vec<u8>, start: usize, sequence: u32) -> io::Result<Progress> {
    let mut interrupted = false;
    let mut rest = &buffer[start..];
    while let Some(message) = Message::cut(&mut rest) {
        if message.sequence != sequence {
            buffer.truncate(start);
            return Ok(Progress::More { interrupted: false });
        }
        interrupted |= i32::from(message.flags) & libc::NLM_F_DUMP_INTR != 0;
        if matches!(i32::from(message.kind), libc::NLMSG_DONE | libc::NLMSG_ERROR) {
            // Both carry a code: what went wrong, negative, or nothing.
            let code = message.body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
            if code < 0 {
                return Err(io::Error::from_raw_os_error(code.wrapping_neg()));
            }
            return Ok(Progress::Done { interrupted });
        }
    }
    Ok(Progress::More { interrupted })
}

/// The messages of a dump.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
    answer: u16,
    header: usize,
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Takes the first message off `rest`; `None` at the end, or where the length makes no sense.
    fn cut(rest: &mut &'a [u8]) -> Option<Self> {
        let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
        let whole = rest.get(..length).filter(|whole| whole.len() >= HEADER)?;
        *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([whole[4], whole[5]]),
            flags: u16::from_ne_bytes([whole[6], whole[7]]),
            sequence: u32::from_ne_bytes([whole[8], whole[9], whole[10], whole[11]]),
            body: &whole[HEADER..],
        })
    }
}

impl<'a> Iterator for Messages<'a> {
    /// The fixed header of the message, and its attributes.
    type Item = (&'a [u8], Attributes<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let message = Message::cut(&mut self.rest)?;
            if message.kind == self.answer && message.body.len() >= self.header {
                let (header, attributes) = message.body.split_at(self.header);
                return Some((header, Attributes { rest: attributes }));
            }
        }
    }
}

/// The attributes of a message: kind and content. Ends early where a length makes no sense.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Those within an attribute that holds others.
    pub fn nested(content: &'a [u8]) -> Self {
        Attributes { rest: content }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let head: [u8; 4] = *self.rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let content = self.rest.get(4..length)?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The two highest bits are flags: nested, and network byte order.
        Some((u16::from_ne_bytes([head[2], head[3]]) & 0x3fff, content))
    }
}

/// A 16-bit number of the host's byte order at `offset`.
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// A 32-bit number of the host's byte order at `offset`.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// A 64-bit number of the host's byte order at `offset`.
pub fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// A string attribute without the NUL at its end.
pub fn string(content: &[u8]) -> &[u8] {
    content.split(|&b| b == 0).next().unwrap_or_default()
}

#[cfg(test)]
#[path = "netlink_tests.rs"]
mod tests;
