//! `process_*` as Go's client gives them, from /proc/self (proc_pid_stat(5), proc_pid_limits(5)). Cost a tick:
//! two small reads, and /proc/self/net/netstat where no collector has just read it.

use std::path::Path;
use std::sync::Arc;

use crate::model::{Family, Recorder};
use crate::sys::clock;
use crate::sys::file::KeptFile;
use crate::sys::network_octets::NetworkOctets;
use crate::sys::text;

static CPU: Family =
    Family::counter("process_cpu_seconds_total", "User and system CPU time spent, in seconds.", &[]);
static OPEN_FDS: Family = Family::gauge("process_open_fds", "Open file descriptors.", &[]);
static MAX_FDS: Family = Family::gauge("process_max_fds", "Open file descriptors at the most.", &[]);
static VIRTUAL: Family = Family::gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", &[]);
static VIRTUAL_MAX: Family = Family::gauge(
    "process_virtual_memory_max_bytes",
    "Virtual memory at the most, in bytes; 2^64-1 for no limit.",
    &[],
);
static RESIDENT: Family =
    Family::gauge("process_resident_memory_bytes", "Resident memory size in bytes.", &[]);
static START: Family =
    Family::gauge("process_start_time_seconds", "When the process began, in seconds since 1970.", &[]);
static RECEIVED: Family = Family::counter(
    "process_network_receive_bytes_total",
    "Bytes received by the network namespace of the process.",
    &[],
);
static TRANSMITTED: Family = Family::counter(
    "process_network_transmit_bytes_total",
    "Bytes sent by the network namespace of the process.",
    &[],
);

pub(super) static FAMILIES: &[&Family] =
    &[&CPU, &OPEN_FDS, &MAX_FDS, &VIRTUAL, &VIRTUAL_MAX, &RESIDENT, &START, &RECEIVED, &TRANSMITTED];

/// Reads what the kernel says of this process.
pub(super) struct Process {
    stat: KeptFile,
    netstat: KeptFile,
    /// What a collector found in the same file, which need then not be read again.
    shared: Arc<NetworkOctets>,
    /// What was shown last: what is shared may have been read before it.
    octets: (u64, u64),
    buffer: Vec<u8>,
    start_seconds: f64,
    max_fds: f64,
    max_virtual: f64,
    ticks_a_second: f64,
    page_bytes: f64,
}

impl Process {
    pub(super) fn new(shared: Arc<NetworkOctets>) -> Self {
        let limits = procfs::process::Process::myself().and_then(|me| me.limits()).ok();
        let limit = |value: Option<procfs::process::LimitValue>| match value {
            #[expect(clippy::cast_precision_loss, reason = "a double is what the protocol has")]
            Some(procfs::process::LimitValue::Value(value)) => value as f64,
            // As other programs that are scraped have it.
            Some(procfs::process::LimitValue::Unlimited) => u64::MAX as f64,
            None => -1.0,
        };
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let (ticks_a_second, page_bytes) = (procfs::ticks_per_second() as f64, procfs::page_size() as f64);
        Process {
            stat: KeptFile::new("/proc/self/stat"),
            netstat: KeptFile::new("/proc/self/net/netstat"),
            shared,
            octets: (0, 0),
            buffer: Vec::new(),
            start_seconds: clock::now_seconds(),
            max_fds: limit(limits.as_ref().map(|limits| limits.max_open_files.soft_limit)),
            max_virtual: limit(limits.as_ref().map(|limits| limits.max_address_space.soft_limit)),
            ticks_a_second,
            page_bytes,
        }
    }

    /// Hands over what could be read; what could not is missing.
    pub(super) fn read(&mut self, out: &mut Recorder) {
        if let Some(stat) = self.stat.read(&mut self.buffer).ok().and_then(parse_stat) {
            out.put(&CPU, &[], stat.cpu_ticks / self.ticks_a_second);
            out.put(&VIRTUAL, &[], stat.virtual_bytes);
            out.put(&RESIDENT, &[], stat.resident_pages * self.page_bytes);
        }
        if let Some(count) = open_fds() {
            out.put(&OPEN_FDS, &[], count);
        }
        out.put(&MAX_FDS, &[], self.max_fds);
        out.put(&VIRTUAL_MAX, &[], self.max_virtual);
        out.put(&START, &[], self.start_seconds);
        if let Some((received, sent)) = self.shared.take().or_else(|| self.read_octets()) {
            self.octets = (received.max(self.octets.0), sent.max(self.octets.1));
            #[expect(clippy::cast_precision_loss, reason = "a double is what the protocol has")]
            {
                out.put(&RECEIVED, &[], self.octets.0 as f64);
                out.put(&TRANSMITTED, &[], self.octets.1 as f64);
            }
        }
    }

    fn read_octets(&mut self) -> Option<(u64, u64)> {
        parse_octets(self.netstat.read(&mut self.buffer).ok()?)
    }
}

/// Linux 6.2 and later give the count as the size of the folder; older ones must be asked for every entry.
fn open_fds() -> Option<f64> {
    let folder = Path::new("/proc/self/fd");
    let count = match folder.metadata().ok()?.len() {
        0 => std::fs::read_dir(folder).ok()?.count() as u64,
        count => count,
    };
    #[expect(clippy::cast_precision_loss, reason = "a process has few descriptors")]
    Some(count as f64)
}

struct Stat {
    cpu_ticks: f64,
    virtual_bytes: f64,
    resident_pages: f64,
}

/// The fields 14 (utime), 15 (stime), 23 (vsize) and 24 (rss), counted after the name in brackets.
fn parse_stat(stat: &[u8]) -> Option<Stat> {
    let after_name = stat.iter().rposition(|&b| b == b')')? + 1;
    let mut fields = text::words(&stat[after_name..]).map(text::parse_f64);
    let user = fields.nth(11)??;
    let system = fields.next()??;
    let virtual_bytes = fields.nth(7)??;
    Some(Stat { cpu_ticks: user + system, virtual_bytes, resident_pages: fields.next()?? })
}

/// `InOctets` and `OutOctets` of the two lines that begin with `IpExt:`.
fn parse_octets(netstat: &[u8]) -> Option<(u64, u64)> {
    let mut lines = text::lines(netstat).filter(|line| line.starts_with(b"IpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |wanted: &[u8]| {
        let at = text::words(names).position(|name| name == wanted)?;
        text::parse_u64(text::words(values).nth(at)?)
    };
    Some((value(b"InOctets")?, value(b"OutOctets")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_brackets_and_spaces() {
        let line = b"42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 4 0 1234 1048576 300 18446744073709551615";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.cpu_ticks, stat.virtual_bytes, stat.resident_pages), (12.0, 1_048_576.0, 300.0));
        assert!(parse_stat(b"42 (a) S 1").is_none());
    }

    #[test]
    fn octets_are_found_by_name() {
        let text = b"TcpExt: A B\nTcpExt: 1 2\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 10 20\n";
        assert_eq!(parse_octets(text), Some((10, 20)));
        assert_eq!(parse_octets(b"IpExt: InOctets\n"), None);
    }
}
