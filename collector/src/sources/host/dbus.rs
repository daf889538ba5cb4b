//! A client of D-Bus (D-Bus Specification) for those collectors that ask services: one connection that stays, many
//! calls under way at once, and a deadline over all of it.
//!
//! What messages look like is rustbus' business; the socket is ours, since nothing here may wait without end. Cost: a
//! write and a few reads for each [`WINDOW`] of calls.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustbus::MessageBuilder;
use rustbus::message_builder::{MarshalledMessage, MessageType};
use rustbus::wire::{marshal, unmarshal};

use super::CollectError;

/// Where the system's bus is, unless `DBUS_SYSTEM_BUS_ADDRESS` says otherwise.
const SYSTEM_BUS: &str = "/var/run/dbus/system_bus_socket";
const ADDRESS_VARIABLE: &str = "DBUS_SYSTEM_BUS_ADDRESS";
/// Calls under way at once: the system's bus refuses more than 128.
const WINDOW: usize = 64;
/// A message that is larger ends the connection.
const MAX_MESSAGE: usize = 16 << 20;
/// Bytes of the dialogue before the first message.
const MAX_GREETING: usize = 4096;
const FIRST_READ: usize = 16 << 10;
/// The fixed part of a message's header.
const HEADER: usize = 16;
/// An answer is not waited for longer, even where the tick has more time.
const PATIENCE: Duration = Duration::from_secs(4);

/// What a collector asks: a method of an object.
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) method: &'a str,
    /// Arguments, all strings.
    pub(super) arguments: &'a [&'a str],
}

impl<'a> Call<'a> {
    /// Asks for a property of an object; `arguments` are its interface and its name.
    pub(super) fn property(destination: &'a str, path: &'a str, arguments: &'a [&'a str; 2]) -> Self {
        let interface = "org.freedesktop.DBus.Properties";
        Call { destination, path, interface, method: "Get", arguments }
    }
}

/// An answer, or the name of the error that came in its place.
pub(super) type Answer = Result<MarshalledMessage, String>;

/// The string in a variant.
pub(super) fn text(answer: &Answer) -> Option<String> {
    variant(answer)?.get::<&str>().ok().map(str::to_owned)
}

/// The number or truth value in a variant.
pub(super) fn number(answer: &Answer) -> Option<u64> {
    let value = variant(answer)?;
    let small = value.get::<u32>().map(u64::from).or_else(|_| value.get::<bool>().map(u64::from));
    small.or_else(|_| value.get::<u64>()).ok()
}

fn variant(answer: &Answer) -> Option<unmarshal::traits::Variant<'_, '_>> {
    answer.as_ref().ok()?.body.parser().get().ok()
}

/// A bus, connected at the first call, and again after an error.
pub(super) struct Bus {
    address: Result<Address, String>,
    connection: Option<Connection>,
}

#[derive(Debug, PartialEq, Eq)]
enum Address {
    Path(PathBuf),
    Abstract(Vec<u8>),
    /// The socket of a service itself: no bus greets there.
    Private(PathBuf),
}

impl Bus {
    /// The system's bus.
    pub(super) fn system() -> Self {
        let address = match std::env::var(ADDRESS_VARIABLE) {
            Ok(text) if !text.is_empty() => parse_address(&text),
            _ => Ok(Address::Path(SYSTEM_BUS.into())),
        };
        Bus { address, connection: None }
    }

    /// A service's own socket.
    pub(super) fn private(path: &Path) -> Self {
        Bus { address: Ok(Address::Private(path.to_owned())), connection: None }
    }

    /// Makes all `calls` and hands each answer to `take` with the number of its call; within `time` and
    /// [`PATIENCE`].
    ///
    /// # Errors
    /// When there is no bus, or it does not answer in time: the connection is then made anew for the next calls.
    pub(super) fn call_all<'c>(
        &mut self,
        time: Duration,
        calls: impl Iterator<Item = Call<'c>>,
        mut take: impl FnMut(usize, Answer),
    ) -> Result<(), CollectError> {
        let end = Instant::now() + time.min(PATIENCE);
        let result = self.connect(end).and_then(|connection| connection.call_all(end, calls, &mut take));
        result.map_err(|error| {
            self.connection = None;
            CollectError::Other(format!("D-Bus: {error}"))
        })
    }

    /// Makes one call.
    ///
    /// # Errors
    /// As [`Bus::call_all`], and the error that came as the answer.
    pub(super) fn call(&mut self, time: Duration, call: Call<'_>) -> Result<MarshalledMessage, CollectError> {
        let name = format!("{}.{}", call.interface, call.method);
        let mut answer = None;
        self.call_all(time, std::iter::once(call), |_, came| answer = Some(came))?;
        let answer = answer.unwrap_or_else(|| Err("no answer".to_owned()));
        answer.map_err(|error| CollectError::Other(format!("D-Bus: {name}: {error}")))
    }

    fn connect(&mut self, end: Instant) -> Result<&mut Connection, String> {
        // Serial numbers must not wrap around while calls are under way.
        if self.connection.as_mut().is_some_and(|known| known.serial > u32::MAX / 2 || known.is_closed()) {
            self.connection = None;
        }
        match &mut self.connection {
            Some(connection) => Ok(connection),
            none => Ok(none.insert(Connection::open(self.address.as_ref().map_err(Clone::clone)?, end)?)),
        }
    }
}

/// `unix:path=...` or `unix:abstract=...`; of several the first of these kinds (D-Bus Specification, "Server
/// Addresses").
fn parse_address(text: &str) -> Result<Address, String> {
    let parts = text.split(';').filter_map(|address| address.strip_prefix("unix:"));
    let mut keys = parts.flat_map(|part| part.split(',')).filter_map(|pair| pair.split_once('='));
    let found = keys.find_map(|(key, value)| match key {
        "path" => Some(Address::Path(value.into())),
        "abstract" => Some(Address::Abstract(value.as_bytes().to_vec())),
        _ => None,
    });
    found.ok_or_else(|| format!("{ADDRESS_VARIABLE}: {text:?} is not unix:path=... or unix:abstract=..."))
}

struct Connection {
    stream: UnixStream,
    serial: u32,
    /// What was read and not yet taken.
    buffer: Vec<u8>,
}

impl Connection {
    fn open(address: &Address, end: Instant) -> Result<Self, String> {
        let stream = match address {
            Address::Path(path) | Address::Private(path) => {
                UnixStream::connect(path).map_err(|error| format!("{}: {error}", path.display()))?
            }
            Address::Abstract(name) => {
                use std::os::linux::net::SocketAddrExt as _;
                let address = std::os::unix::net::SocketAddr::from_abstract_name(name);
                address.and_then(|address| UnixStream::connect_addr(&address)).map_err(|e| e.to_string())?
            }
        };
        let mut connection = Connection { stream, serial: 0, buffer: Vec::with_capacity(FIRST_READ) };
        connection.authenticate(end)?;
        if !matches!(address, Address::Private(_)) {
            let bus = "org.freedesktop.DBus";
            let path = "/org/freedesktop/DBus";
            let hello = Call { destination: bus, path, interface: bus, method: "Hello", arguments: &[] };
            let mut refusal = None;
            connection.call_all(end, std::iter::once(hello), &mut |_, answer| refusal = answer.err())?;
            if let Some(error) = refusal {
                return Err(format!("Hello: {error}"));
            }
        }
        Ok(connection)
    }

    /// The dialogue before the first message: we are who the socket says we are ("Authentication Protocol", EXTERNAL).
    fn authenticate(&mut self, end: Instant) -> Result<(), String> {
        let user = crate::sys::identity::user_id().to_string();
        let hex: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.send(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes(), end)?;
        loop {
            if let Some(line) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let answer = String::from_utf8_lossy(&self.buffer[..line]).into_owned();
                self.buffer.drain(..line + 2);
                if !answer.starts_with("OK") {
                    return Err(format!("the bus does not let us in: {answer}"));
                }
                return self.send(b"BEGIN\r\n", end);
            }
            if self.buffer.len() > MAX_GREETING {
                return Err("the bus greets without end".into());
            }
            self.receive(end)?;
        }
    }

    /// Whether the other side has gone, as far as can be seen without waiting.
    fn is_closed(&mut self) -> bool {
        let mut one = [0];
        let peeked = self.stream.set_nonblocking(true).and_then(|()| self.stream.read(&mut one));
        let back = self.stream.set_nonblocking(false);
        match peeked {
            // A signal that nobody asked for: NameAcquired after the greeting.
            Ok(1) => {
                self.buffer.push(one[0]);
                back.is_err()
            }
            Ok(_) => true,
            Err(error) => error.kind() != ErrorKind::WouldBlock || back.is_err(),
        }
    }

    fn call_all<'c>(
        &mut self,
        end: Instant,
        mut calls: impl Iterator<Item = Call<'c>>,
        take: &mut impl FnMut(usize, Answer),
    ) -> Result<(), String> {
        let (mut first, mut bytes) = (0, Vec::new());
        loop {
            bytes.clear();
            let first_serial = self.serial + 1;
            let mut count = 0;
            for call in calls.by_ref().take(WINDOW) {
                self.serial += 1;
                encode_call(&call, self.serial, &mut bytes)?;
                count += 1;
            }
            if count == 0 {
                return Ok(());
            }
            self.send(&bytes, end)?;
            let mut answered = 0;
            while answered < count {
                let message = self.next_message(end)?;
                let Some(serial) = message.dynheader.response_serial else { continue };
                let number = serial.wrapping_sub(first_serial) as usize;
                if number >= count {
                    continue;
                }
                answered += 1;
                let error = message.dynheader.error_name.clone().unwrap_or_default();
                let is_error = message.typ == MessageType::Error;
                take(first + number, if is_error { Err(error) } else { Ok(message) });
            }
            first += count;
        }
    }

    /// The next whole message.
    fn next_message(&mut self, end: Instant) -> Result<MarshalledMessage, String> {
        loop {
            if let Some(length) = message_length(&self.buffer)? {
                if length > MAX_MESSAGE {
                    return Err(format!("a message of {length} bytes, more than {MAX_MESSAGE}"));
                }
                if self.buffer.len() >= length {
                    let message = parse_message(&self.buffer[..length]);
                    self.buffer.drain(..length);
                    return message;
                }
            }
            self.receive(end)?;
        }
    }

    fn send(&mut self, bytes: &[u8], end: Instant) -> Result<(), String> {
        self.stream.set_write_timeout(Some(left(end)?)).map_err(|error| error.to_string())?;
        self.stream.write_all(bytes).map_err(|error| in_words(&error))
    }

    fn receive(&mut self, end: Instant) -> Result<(), String> {
        self.stream.set_read_timeout(Some(left(end)?)).map_err(|error| error.to_string())?;
        let filled = self.buffer.len();
        self.buffer.resize(filled + FIRST_READ.max(filled), 0);
        let read = self.stream.read(&mut self.buffer[filled..]);
        self.buffer.truncate(filled + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => Err("the bus has closed the connection".into()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(in_words(&error)),
        }
    }
}

fn left(end: Instant) -> Result<Duration, String> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err("no answer in time".into()) } else { Ok(left) }
}

fn in_words(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer in time".into(),
        _ => error.to_string(),
    }
}

fn encode_call(call: &Call<'_>, serial: u32, out: &mut Vec<u8>) -> Result<(), String> {
    let mut builder = MessageBuilder::new().call(call.method).on(call.path).with_interface(call.interface);
    if !call.destination.is_empty() {
        builder = builder.at(call.destination);
    }
    let mut message = builder.build();
    for argument in call.arguments {
        message.body.push_param(*argument).map_err(|error| error.to_string())?;
    }
    let mut header = Vec::new();
    marshal::marshal(&message, serial, &mut header).map_err(|error| error.to_string())?;
    out.extend_from_slice(&header);
    out.extend_from_slice(message.get_buf());
    Ok(())
}

/// The length of the message that begins here, `None` while its header is not there ("Message Format").
fn message_length(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let number = |at: usize| {
        let four = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        match header[0] {
            b'l' => Ok(u32::from_le_bytes(four) as usize),
            b'B' => Ok(u32::from_be_bytes(four) as usize),
            _ => Err("what came is no message".to_owned()),
        }
    };
    let (body, fields) = (number(4)?, number(12)?);
    Ok(Some((HEADER + fields).next_multiple_of(8) + body))
}

fn parse_message(bytes: &[u8]) -> Result<MarshalledMessage, String> {
    let wrong = |error| format!("a message that is not as it should be: {error:?}");
    let (used, header) = unmarshal::unmarshal_header(bytes, 0).map_err(wrong)?;
    let (more, fields) = unmarshal::unmarshal_dynamic_header(&header, bytes, used).map_err(wrong)?;
    let (_, message) =
        unmarshal::unmarshal_next_message(&header, fields, bytes, used + more).map_err(wrong)?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(parse_address("unix:path=/a/b"), Ok(Address::Path("/a/b".into())));
        let several = parse_address("tcp:host=x;unix:guid=1,abstract=/tmp/x");
        assert_eq!(several, Ok(Address::Abstract(b"/tmp/x".to_vec())));
        assert!(parse_address("tcp:host=x").unwrap_err().contains("is not unix:path"));
    }

    #[test]
    fn a_call_is_read_back_and_its_every_part_is_not() {
        let mut bytes = Vec::new();
        let call = Call::property("a.b", "/c", &["d.e", "F"]);
        encode_call(&call, 7, &mut bytes).unwrap();
        assert_eq!(message_length(&bytes), Ok(Some(bytes.len())));
        let message = parse_message(&bytes).unwrap();
        assert_eq!(message.body.parser().get2::<&str, &str>().unwrap(), ("d.e", "F"));
        for end in 0..bytes.len() {
            let length = message_length(&bytes[..end]).unwrap();
            assert!(length.is_none_or(|length| length == bytes.len()));
            let _ = parse_message(&bytes[..end]);
        }
        assert!(message_length(&[b'x'; 16]).is_err());
    }

    #[test]
    fn every_bent_byte_is_an_error_or_another_message() {
        let mut bytes = Vec::new();
        encode_call(&Call::property("a.b", "/c", &["d.e", "F"]), 7, &mut bytes).unwrap();
        for at in 0..bytes.len() {
            for bent in [0, 1, 0x7f, 0x80, 0xff] {
                let mut copy = bytes.clone();
                copy[at] = bent;
                if message_length(&copy) == Ok(Some(copy.len()))
                    && let Ok(message) = parse_message(&copy)
                {
                    let _ = message.body.parser().get::<&str>();
                }
            }
        }
    }
}
