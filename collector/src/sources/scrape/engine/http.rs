//! The short way to a page: HTTP/1.1 without TLS over a connection that is kept.
//!
//! Cost of a scrape in the steady state: one write, one wake-up when about as much has come as last time (SO_RCVLOWAT of
//! socket(7)), one read; nothing is allocated once the buffers have grown. It refuses what it was not asked for: interim answers without end, heads without end, bodies beyond the limit.

use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use hyper::Uri;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::body::Buffer;
use super::fault::Fault;
use crate::client::describe;
use crate::sys::sockets::set_low_water;

/// Bytes of a response head.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 96;
/// Answers of the kind 1xx before the real one.
const MAX_INTERIM: usize = 8;
/// While more than this is missing, the kernel is asked to wake us once for all of it.
const MIN_LOW_WATER: usize = 8 << 10;
/// And no more than this is left in the kernel: it would make each socket's buffer twice as large.
const MAX_LOW_WATER: usize = 1 << 20;
/// An answer that stays below the last one's size is looked at after this time.
const PATIENCE: Duration = Duration::from_millis(20);
/// Room for a read while it is not known how much comes.
const READ: usize = 32 << 10;

/// What an answer's head says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub status: u16,
    pub reason: String,
    pub content_type: String,
    pub content_encoding: String,
    pub location: bool,
    length: Length,
    keeps: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Length {
    #[default]
    UntilClosed,
    Known(usize),
    Chunked,
}

/// An answer in a buffer.
pub(super) struct Answer {
    pub head: Head,
    pub body: Range<usize>,
}

/// A connection to a target, and what was learned from its last answer.
pub(super) struct Connection {
    stream: TcpStream,
    /// Whether an answer has come over it: then a sudden end means that the server was tired of waiting.
    is_used: bool,
    /// Bytes of the last answer.
    expected: usize,
    /// The kernel wakes us when this much has come.
    low_water: usize,
}

impl Connection {
    /// # Errors
    /// Why the target can't be reached.
    pub(super) async fn open(uri: &Uri) -> Result<Self, Fault> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80)))
            .await
            .map_err(|error| Fault::other(format!("can't connect: {}", describe(&error))))?;
        // Requests are one write; without effect on them, but on nobody's patience either.
        let _ = stream.set_nodelay(true);
        Ok(Connection { stream, is_used: false, expected: 0, low_water: 1 })
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.stream.peer_addr().is_ok_and(|address| address.ip().is_loopback())
    }

    /// Sends the request and reads its answer. Gives the connection back where it can be used again, and says in the error
    /// whether a new one may help.
    pub(super) async fn exchange(
        mut self,
        request: &[u8],
        limit: usize,
    ) -> Result<(Buffer, Answer, Option<Self>), Broken> {
        let was_used = self.is_used;
        let stale = move |error: io::Error| Broken {
            is_stale: was_used,
            fault: Fault::other(format!("the connection broke: {}", describe(&error))),
        };
        let asked = Instant::now();
        self.write(request).await.map_err(stale)?;
        // The buffer is taken when there is something to put into it: waiting costs none.
        self.answered().await.map_err(stale)?;
        let mut buffer = Buffer::take();
        let (head, begin) = match self.head(&mut buffer).await {
            Ok(found) => found,
            Err(fault) => return Err(Broken { is_stale: was_used && buffer.bytes.is_empty(), fault }),
        };
        if head.status != 200 {
            // What a page of errors says is of no use, and not worth waiting for.
            return Ok((buffer, Answer { head, body: 0..0 }, None));
        }
        let body = self.body(&head, begin, limit, &mut buffer).await.map_err(Broken::from)?;
        self.is_used = true;
        self.forget_readiness();
        self.expect(buffer.bytes.len(), asked.elapsed());
        let keeps = head.keeps && head.length != Length::UntilClosed && buffer.bytes.len() == body.1;
        Ok((buffer, Answer { head, body: body.0 }, keeps.then_some(self)))
    }

    async fn write(&mut self, mut request: &[u8]) -> io::Result<()> {
        while !request.is_empty() {
            match self.stream.try_write(request) {
                Ok(n) => request = &request[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.stream.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Nothing more is expected before the next request. Were what woke us for this answer remembered, the next one
    /// would be read for in vain, before it comes. That the connection was closed is not forgotten.
    fn forget_readiness(&self) {
        let nothing = || Err::<(), _>(io::Error::from(io::ErrorKind::WouldBlock));
        let _ = self.stream.try_io(Interest::READABLE, nothing);
    }

    /// Waits until about as much has come as last time, or for anything once that takes too long.
    async fn answered(&mut self) -> io::Result<()> {
        if self.low_water > 1 {
            if let Ok(ready) = tokio::time::timeout(PATIENCE, self.stream.readable()).await {
                return ready;
            }
            self.wake_at(1);
        }
        self.stream.readable().await
    }

    /// The next answer will be like this one, give or take a few digits.
    fn expect(&mut self, bytes: usize, took: Duration) {
        self.expected = bytes;
        let is_worth_it = bytes >= MIN_LOW_WATER && took < PATIENCE / 2;
        let wanted = if is_worth_it { (bytes - bytes / 16).min(MAX_LOW_WATER) } else { 1 };
        // As long as what is set is near enough, nothing is set again.
        if self.low_water > wanted + wanted / 16 || self.low_water < wanted - wanted / 16 {
            self.wake_at(wanted);
        }
    }

    fn wake_at(&mut self, bytes: usize) {
        // Without it all works as well, at the cost of more wake-ups.
        self.low_water = set_low_water(&self.stream, bytes).map_or(1, |()| bytes);
    }

    /// Appends what there is; 0 at the end of the stream.
    async fn read(&mut self, room: usize, buffer: &mut Buffer) -> Result<usize, Fault> {
        if !buffer.reserve(room) {
            return Err(Fault::other("the bodies that are being read take too much memory"));
        }
        loop {
            match self.stream.try_read_buf(&mut buffer.bytes) {
                Ok(n) => return Ok(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.readable().await.map_err(|error| broke(&error))?;
                }
                Err(error) => return Err(broke(&error)),
            }
        }
    }

    /// The head, and where the body begins.
    async fn head(&mut self, buffer: &mut Buffer) -> Result<(Head, usize), Fault> {
        let (mut begin, mut interim) = (0, 0);
        loop {
            if let Some((head, length)) = parse_head(&buffer.bytes[begin..])? {
                begin += length;
                if (100..200).contains(&head.status) && head.status != 101 {
                    interim += 1;
                    if interim > MAX_INTERIM {
                        return Err(Fault::other("the answer never begins"));
                    }
                    continue;
                }
                return Ok((head, begin));
            }
            if buffer.bytes.len() > MAX_HEAD {
                return Err(Fault::other(format!("the head of the answer is larger than {MAX_HEAD} bytes")));
            }
            let nothing = buffer.bytes.is_empty();
            if !nothing && self.low_water > 1 {
                self.wake_at(1);
            }
            if self.read(READ.max(self.expected + self.expected / 16), buffer).await? == 0 {
                let what = if nothing { "without an answer" } else { "within the head of its answer" };
                return Err(Fault::other(format!("the target closed the connection {what}")));
            }
        }
    }

    /// Where the body stands, and where in the buffer the answer ends.
    async fn body(
        &mut self,
        head: &Head,
        begin: usize,
        limit: usize,
        buffer: &mut Buffer,
    ) -> Result<(Range<usize>, usize), Fault> {
        match head.length {
            Length::Known(length) => {
                if length > limit {
                    return Err(Fault::BodyTooLong(limit));
                }
                let end = begin + length;
                while buffer.bytes.len() < end {
                    let missing = end - buffer.bytes.len();
                    // To be woken for each portion costs more than to read it.
                    if missing > MIN_LOW_WATER || self.low_water > missing {
                        self.wake_at(missing.min(MAX_LOW_WATER));
                    }
                    if self.read(missing, buffer).await? == 0 {
                        return Err(Fault::other("the target closed the connection within the body"));
                    }
                }
                Ok((begin..end, end))
            }
            Length::UntilClosed => {
                self.wake_at(1);
                while self.read(READ, buffer).await? > 0 {
                    if buffer.bytes.len() - begin > limit {
                        return Err(Fault::BodyTooLong(limit));
                    }
                }
                let end = buffer.bytes.len();
                if end - begin > limit { Err(Fault::BodyTooLong(limit)) } else { Ok((begin..end, end)) }
            }
            Length::Chunked => {
                let mut chunks = Chunks::new(begin);
                let mut is_first = true;
                while !chunks.advance(&mut buffer.bytes).map_err(Fault::other)? {
                    if chunks.end - begin > limit {
                        return Err(Fault::BodyTooLong(limit));
                    }
                    // How much is missing is not known.
                    if std::mem::take(&mut is_first) && self.low_water > 1 {
                        self.wake_at(1);
                    }
                    if self.read(READ, buffer).await? == 0 {
                        return Err(Fault::other("the target closed the connection within the body"));
                    }
                }
                if chunks.end - begin > limit {
                    return Err(Fault::BodyTooLong(limit));
                }
                Ok((begin..chunks.end, chunks.scan))
            }
        }
    }
}

fn broke(error: &io::Error) -> Fault {
    Fault::other(format!("the connection broke: {error}"))
}

/// Why there is no answer, and whether the connection was simply too old.
pub(super) struct Broken {
    pub fault: Fault,
    pub is_stale: bool,
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Broken { fault, is_stale: false }
    }
}

/// The head and its length, once it is whole.
fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Fault> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(Fault::other(format!("the answer is no HTTP: {error}"))),
    };
    let mut head = Head {
        status: response.code.unwrap_or_default(),
        keeps: response.version == Some(1),
        ..Head::default()
    };
    if head.status != 200 {
        response.reason.unwrap_or_default().clone_into(&mut head.reason);
    }
    for header in response.headers.iter() {
        let value = || String::from_utf8_lossy(header.value);
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let text = value();
            let parsed: usize =
                text.trim().parse().map_err(|_| Fault::other(format!("the Content-Length {text:?}")))?;
            if matches!(head.length, Length::Known(other) if other != parsed) {
                return Err(Fault::other("two different Content-Length"));
            }
            if head.length != Length::Chunked {
                head.length = Length::Known(parsed);
            }
        } else if is("transfer-encoding") {
            if !value().trim().eq_ignore_ascii_case("chunked") {
                return Err(Fault::other(format!("the Transfer-Encoding {:?}", value())));
            }
            head.length = Length::Chunked;
        } else if is("content-type") {
            head.content_type = value().into_owned();
        } else if is("content-encoding") {
            head.content_encoding = value().into_owned();
        } else if is("location") {
            head.location = true;
        } else if is("connection") {
            let value = value().to_ascii_lowercase();
            head.keeps = (head.keeps || value.contains("keep-alive")) && !value.contains("close");
        }
    }
    if matches!(head.status, 204 | 304) {
        head.length = Length::Known(0);
    }
    Ok(Some((head, length)))
}

/// A chunked body that is joined where it lies, as it comes.
struct Chunks {
    /// What is joined ends here.
    end: usize,
    /// What is not looked at begins here.
    scan: usize,
    /// Bytes of the chunk under way that are still to come.
    left: usize,
    state: ChunkState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ChunkState {
    Size,
    Data,
    AfterData,
    Trailer,
}

/// A line of a chunk's size, or of a trailer, in bytes.
const MAX_CHUNK_LINE: usize = 4096;

impl Chunks {
    fn new(begin: usize) -> Self {
        Chunks { end: begin, scan: begin, left: 0, state: ChunkState::Size }
    }

    /// Works through what has come. `true` when the body is whole.
    fn advance(&mut self, bytes: &mut Vec<u8>) -> Result<bool, &'static str> {
        loop {
            match self.state {
                ChunkState::Data => {
                    let ready = self.left.min(bytes.len() - self.scan);
                    bytes.copy_within(self.scan..self.scan + ready, self.end);
                    self.end += ready;
                    self.scan += ready;
                    self.left -= ready;
                    if self.left > 0 {
                        // What was moved leaves its place to what comes.
                        bytes.truncate(self.end);
                        self.scan = self.end;
                        return Ok(false);
                    }
                    self.state = ChunkState::AfterData;
                }
                state => {
                    let Some(line) = self.line(bytes)? else { return Ok(false) };
                    match state {
                        ChunkState::AfterData if line.is_empty() => self.state = ChunkState::Size,
                        ChunkState::AfterData => return Err("a chunk without an end"),
                        ChunkState::Trailer if line.is_empty() => return Ok(true),
                        ChunkState::Trailer | ChunkState::Data => {}
                        ChunkState::Size => {
                            let text = std::str::from_utf8(&bytes[line]).unwrap_or_default();
                            let digits = text.split(';').next().unwrap_or_default().trim();
                            self.left =
                                usize::from_str_radix(digits, 16).map_err(|_| "a chunk without a size")?;
                            self.state = if self.left == 0 { ChunkState::Trailer } else { ChunkState::Data };
                        }
                    }
                }
            }
        }
    }

    /// The next line, without its end, once it is whole.
    fn line(&mut self, bytes: &[u8]) -> Result<Option<Range<usize>>, &'static str> {
        let rest = &bytes[self.scan..];
        let Some(end) = rest.iter().take(MAX_CHUNK_LINE).position(|&byte| byte == b'\n') else {
            return if rest.len() >= MAX_CHUNK_LINE { Err("a chunk without a size") } else { Ok(None) };
        };
        let begin = self.scan;
        self.scan += end + 1;
        let end = begin + end;
        Ok(Some(begin..if bytes[begin..end].ends_with(b"\r") { end - 1 } else { end }))
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
