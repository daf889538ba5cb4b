//! Dumps of rtnetlink(7) tables: links and their statistics, neighbours, addresses.
//!
//! The socket stays open and the buffer is used again, so that a dump costs a `send` and two or three `recv`,
//! and allocates nothing once the buffer has grown. A dump is read whole before anybody looks at it: one that
//! the kernel marks as interrupted (NLM_F_DUMP_INTR) is thrown away and asked for again. Nothing in a message
//! is trusted to be as long as it says.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const HEADER: usize = 16;
/// A dump that is larger ends with an error.
pub const MAX_DUMP: usize = 64 << 20;
/// The kernel sends at most this in one piece, if it is offered so much.
const PIECE: usize = 32 << 10;
/// How often an interrupted dump is asked for before it counts as failed.
const ATTEMPTS: usize = 4;
const RECEIVE_TIMEOUT: libc::timeval = libc::timeval { tv_sec: 2, tv_usec: 0 };

/// A table of the kernel that can be dumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Network interfaces. Messages begin with `ifinfomsg`, 16 bytes.
    Links,
    /// Neighbours of IPv4. Messages begin with `ndmsg`, 12 bytes.
    Neighbours4,
    /// Addresses of IPv4 and IPv6. Messages begin with `ifaddrmsg`, 8 bytes.
    Addresses,
}

impl Table {
    /// The request, the kind of its answers, the family, and the length of the header within each message.
    fn facts(self) -> (u16, u16, i32, usize) {
        match self {
            Table::Links => (libc::RTM_GETLINK, libc::RTM_NEWLINK, libc::AF_UNSPEC, 16),
            Table::Neighbours4 => (libc::RTM_GETNEIGH, libc::RTM_NEWNEIGH, libc::AF_INET, 12),
            Table::Addresses => (libc::RTM_GETADDR, libc::RTM_NEWADDR, libc::AF_UNSPEC, 8),
        }
    }
}

/// A socket for dumps, opened at its first use and again after an error.
#[derive(Debug, Default)]
pub struct Netlink {
    socket: Option<OwnedFd>,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    pub fn new() -> Self {
        Netlink::default()
    }

    /// Asks for the whole of `table` and returns its messages.
    ///
    /// # Errors
    /// Those of the socket, what the kernel answered, or a dump that was interrupted again and again.
    pub fn dump(&mut self, table: Table) -> io::Result<Messages<'_>> {
        let (_, kind, _, header) = table.facts();
        for _ in 0..ATTEMPTS {
            let whole = self.exchange(table);
            if whole.is_err() {
                self.socket = None;
            }
            if whole? {
                return Ok(Messages { rest: &self.buffer, kind, header });
            }
        }
        Err(io::Error::other("the table changed during every attempt to dump it"))
    }

    /// The name of a network interface now, into `name`. Cost: one system call.
    ///
    /// # Errors
    /// ENODEV when it is gone.
    pub fn interface_name<'n>(&mut self, index: u32, name: &'n mut [u8; 16]) -> io::Result<&'n [u8]> {
        let socket = self.open()?;
        let mut request = [0u8; size_of::<libc::ifreq>()];
        request[16..20].copy_from_slice(&index.to_ne_bytes());
        // SAFETY: SIOCGIFNAME reads and writes one `ifreq`, which the array holds; bytes have no alignment that
        // the kernel asks for.
        if unsafe { libc::ioctl(socket, libc::SIOCGIFNAME as _, request.as_mut_ptr()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        name.copy_from_slice(&request[..16]);
        let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        Ok(&name[..end])
    }

    fn open(&mut self) -> io::Result<libc::c_int> {
        if let Some(socket) = &self.socket {
            return Ok(socket.as_raw_fd());
        }
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: no pointer is passed.
        let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
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
    fn exchange(&mut self, table: Table) -> io::Result<bool> {
        let socket = self.open()?;
        self.sequence = self.sequence.wrapping_add(1);
        send_request(socket, table, self.sequence)?;
        self.buffer.clear();
        let mut whole = true;
        loop {
            let start = self.buffer.len();
            receive(socket, &mut self.buffer)?;
            match scan(&mut self.buffer, start, self.sequence)? {
                Progress::More { interrupted } => whole &= !interrupted,
                Progress::Done { interrupted } => return Ok(whole && !interrupted),
            }
        }
    }
}

fn send_request(socket: libc::c_int, table: Table, sequence: u32) -> io::Result<()> {
    let (request, _, family, header) = table.facts();
    let mut message = [0u8; HEADER + 16];
    let length = HEADER + header;
    message[..4].copy_from_slice(&(length as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&request.to_ne_bytes());
    message[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    message[8..12].copy_from_slice(&sequence.to_ne_bytes());
    message[HEADER] = family as u8;
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
        match i32::from(message.kind) {
            libc::NLMSG_DONE => return Ok(Progress::Done { interrupted }),
            libc::NLMSG_ERROR => {
                let code = message.body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                return Err(io::Error::from_raw_os_error(-code));
            }
            _ => {}
        }
    }
    Ok(Progress::More { interrupted })
}

/// The messages of a dump.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
    kind: u16,
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
            if message.kind == self.kind && message.body.len() >= self.header {
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
