//! The entries of mountstats: a line for each mount, and for those of NFS lines with their counters.

use crate::sys::text;

const BYTES: usize = 8;
const EVENTS: usize = 27;
const OPERATION: usize = 8;
/// Columns of a transport over TCP, of which the others have some.
const TRANSPORT: usize = 13;

/// A mount of NFS.
pub(super) struct Mount<'a> {
    pub(super) export: &'a str,
    pub(super) mountpoint: &'a str,
    /// In seconds.
    pub(super) age: Option<u64>,
    pub(super) bytes: Option<[u64; BYTES]>,
    pub(super) events: Option<[u64; EVENTS]>,
    version: &'a [u8],
    /// All lines of the mount, which were found to be good.
    body: &'a [u8],
}

/// How the mount talks to the server.
pub(super) struct Transport<'a> {
    pub(super) protocol: &'a str,
    /// Port, bind, connect, connect time, idle time, sends, receives, bad ids, active, backlog; and since version
    /// 1.1 slots, sending, pending.
    pub(super) numbers: [u64; TRANSPORT],
}

/// A kind of remote call.
pub(super) struct Operation<'a> {
    pub(super) name: &'a str,
    pub(super) numbers: [u64; OPERATION],
}

/// The file, mount by mount.
pub(super) struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Lines { rest: text, number: 0 }
    }

    /// Of the line that was looked at last, from 1.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    fn peek(&self) -> Option<(&'a [u8], &'a [u8])> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|&b| b == b'\n');
        // A line without its end is torn, and comes empty.
        Some(end.map_or((&[], &[]), |end| (&self.rest[..end], &self.rest[end + 1..])))
    }

    fn next_line(&mut self) -> Option<&'a [u8]> {
        let (line, rest) = self.peek()?;
        self.rest = rest;
        self.number += 1;
        Some(line)
    }

    /// The next mount, `None` for one of another file system.
    pub(super) fn next_mount(&mut self) -> Option<Result<Option<Mount<'a>>, &'static str>> {
        loop {
            let line = self.next_line()?;
            if is_mount(line) {
                return Some(self.parse_mount(line));
            }
        }
    }

    fn parse_mount(&mut self, line: &'a [u8]) -> Result<Option<Mount<'a>>, &'static str> {
        let Some(mut mount) = parse_device(line) else { return Ok(None) };
        let mut result = Ok(());
        let start = self.rest;
        let mut is_operation = false;
        while let Some((line, _)) = self.peek() {
            if is_mount(line) {
                break;
            }
            let is_torn = !self.rest.contains(&b'\n');
            self.next_line();
            if is_torn {
                result = result.and(Err("expected a whole line"));
            } else if text::trim(line).is_empty() {
                break;
            } else if is_operation {
                result = result.and(
                    parse_operation(line).map(|_| ()).ok_or("expected an operation and eight whole numbers"),
                );
            } else {
                result = result.and(mount.parse_line(line));
                is_operation = text::words(line).next() == Some(b"per-op");
            }
        }
        mount.body = &start[..start.len() - self.rest.len()];
        result.map(|()| Some(mount))
    }
}

fn is_mount(line: &[u8]) -> bool {
    line.starts_with(b"device ") || line.starts_with(b"no device ")
}

/// `device EXPORT mounted on MOUNTPOINT with fstype nfs4 statvers=1.1`.
fn parse_device(line: &[u8]) -> Option<Mount<'_>> {
    let mut words = text::words(line).skip(1);
    let export = text::as_str(words.next()?)?;
    let mountpoint = text::as_str(words.nth(2)?)?;
    let kind = words.nth(2)?;
    let version = words.next()?.strip_prefix(b"statvers=")?;
    let is_nfs = kind == b"nfs" || kind == b"nfs4";
    is_nfs.then_some(Mount { export, mountpoint, age: None, bytes: None, events: None, version, body: &[] })
}

impl<'a> Mount<'a> {
    fn parse_line(&mut self, line: &'a [u8]) -> Result<(), &'static str> {
        let mut words = text::words(line);
        let key = words.next().unwrap_or_default();
        let rest = words.rest();
        match key {
            b"age:" => self.age = Some(numbers::<1>(rest).ok_or("expected an age in seconds")?[0]),
            b"bytes:" => self.bytes = Some(numbers(rest).ok_or("expected eight whole numbers")?),
            b"events:" => self.events = Some(numbers(rest).ok_or("expected 27 whole numbers")?),
            b"xprt:" => {
                parse_transport(rest, self.version).ok_or("expected a known transport and its numbers")?;
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn transports(&self) -> impl Iterator<Item = Transport<'a>> {
        let version = self.version;
        text::lines(self.body).filter_map(move |line| {
            let mut words = text::words(line);
            (words.next() == Some(b"xprt:")).then(|| parse_transport(words.rest(), version))?
        })
    }

    pub(super) fn operations(&self) -> impl Iterator<Item = Operation<'a>> {
        let is_before = |line: &&[u8]| text::words(line).next() != Some(b"per-op");
        text::lines(self.body).skip_while(is_before).skip(1).filter_map(parse_operation)
    }
}

/// So many whole numbers, and no more.
fn numbers<const N: usize>(mut line: &[u8]) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = text::take_u64(&mut line)?;
    }
    text::trim(line).is_empty().then_some(numbers)
}

/// `tcp 832 0 1 0 11 6428 ...`. What a protocol or an old version lacks counts as 0.
fn parse_transport<'a>(line: &'a [u8], version: &[u8]) -> Option<Transport<'a>> {
    let mut words = text::words(line);
    let protocol = text::as_str(words.next()?)?;
    let rest = words.rest();
    let mut columns = [0; TRANSPORT];
    match (protocol, version) {
        ("tcp", b"1.1") => columns = numbers(rest)?,
        ("tcp", b"1.0") => columns[..10].copy_from_slice(&numbers::<10>(rest)?),
        ("udp", b"1.0" | b"1.1") => {
            // There is no connection: the three columns of it are missing.
            let given = numbers::<10>(rest).or_else(|| {
                let mut padded = [0; 10];
                padded[..7].copy_from_slice(&numbers::<7>(rest).filter(|_| version == b"1.0")?);
                Some(padded)
            })?;
            columns[..2].copy_from_slice(&given[..2]);
            columns[5..].copy_from_slice(&given[2..]);
        }
        // The columns after the first ten are of RDMA alone.
        ("rdma", b"1.1") => {
            let mut rest = rest;
            for column in &mut columns[..10] {
                *column = text::take_u64(&mut rest)?;
            }
        }
        _ => return None,
    }
    Some(Transport { protocol, numbers: columns })
}

/// `        READ: 1298 1298 0 207680 1210292152 6 79386 79407`, and since Linux 5.3 a count of errors.
fn parse_operation(line: &[u8]) -> Option<Operation<'_>> {
    let mut words = text::words(line);
    let name = text::as_str(words.next()?.strip_suffix(b":")?)?;
    let mut rest = words.rest();
    let mut numbers = [0; OPERATION];
    for number in &mut numbers {
        *number = text::take_u64(&mut rest)?;
    }
    Some(Operation { name, numbers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_one_after_the_other() {
        let text = b"no device mounted on /x with fstype none\ndevice a:/e mounted on /m with fstype nfs4 \
            statvers=1.1\n\tage:\t7\n\txprt:\ttcp 1 2 3 4 5 6 7 8 9 10 11 12 13\n\txprt:\tlocal 1\n\n\
            device a:/e mounted on /n with fstype nfs statvers=1.0\n\tage:\t9\n\
            \txprt:\tudp 1 2 6 7 8 9 10\n\tper-op statistics\n\t  NULL: 1 2 3 4 5 6 7 8 9\n\ndevice x mounted on / with fstype x\n";
        let mut lines = Lines::new(text);
        assert!(matches!(lines.next_mount(), Some(Ok(None))));
        assert!(matches!(lines.next_mount(), Some(Err(expected)) if expected.contains("transport")));
        let Some(Ok(Some(mount))) = lines.next_mount() else { panic!("a mount of NFS") };
        assert_eq!((mount.mountpoint, mount.age), ("/n", Some(9)));
        let transports: Vec<_> = mount.transports().map(|t| (t.protocol, t.numbers)).collect();
        assert_eq!(transports, [("udp", [1, 2, 0, 0, 0, 6, 7, 8, 9, 10, 0, 0, 0])]);
        let operations: Vec<_> = mount.operations().map(|o| (o.name, o.numbers)).collect();
        assert_eq!(operations, [("NULL", [1, 2, 3, 4, 5, 6, 7, 8])]);
        assert!(matches!(lines.next_mount(), Some(Ok(None))));
        assert!(lines.next_mount().is_none());
    }

    #[test]
    fn transports_by_protocol_and_version() {
        let rdma = b"rdma 1 2 3 4 5 6 7 8 9 10 20 21 22 23 24 25 26 27 28 29";
        let numbers = parse_transport(rdma, b"1.1").unwrap().numbers;
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0, 0]);
        assert_eq!(parse_transport(b"tcp 1 2 3 4 5 6 7 8 9 10", b"1.0").unwrap().numbers[9], 10);
        for (wrong, version) in
            [(&b"tcp 1 2 3"[..], &b"1.1"[..]), (b"udp 1 2 6 7 8 9 10", b"1.1"), (b"", b"1.1"), (rdma, b"2.0")]
        {
            assert!(parse_transport(wrong, version).is_none());
        }
    }
}
