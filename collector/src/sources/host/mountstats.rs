//! NFS mounts, from /proc/self/mountstats (fs/nfs/super.c, net/sunrpc/stats.c), and their servers' addresses from
//! /proc/self/mountinfo. Cost a tick: two reads, each a page at a time.
//!
//! Mounts of one export from one server over one protocol share their counters: the first of them is given.

mod mount;

use mount::{Lines, Mount};

use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick, tables};
use crate::model::{Family, Kind, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

const EXPORT: &[&str] = &["export", "protocol", "mountaddr"];
const OPERATION: &[&str] = &["export", "protocol", "mountaddr", "operation"];
const TRANSPORT: &[&str] = &["export", "protocol", "mountaddr", "transport"];

static INFO: Family = Family::gauge(
    "node_mountstats_nfs_mountpoint_info",
    "Where an export is mounted; always 1.",
    &["export", "protocol", "mountaddr", "mountpoint"],
);
static AGE: Family =
    Family::counter("node_mountstats_nfs_age_seconds_total", "Time since the mount.", EXPORT);

/// What a number counts.
enum Unit {
    One,
    Seconds,
    Milliseconds,
}

macro_rules! columns {
    ($table:ident: $count:literal, $labels:expr, $prefix:literal;
     $($column:literal $unit:ident => $kind:ident $name:literal, $help:literal;)*) => {
        /// A column, its unit, and its family.
        static $table: [((usize, Unit), Family); $count] = [$((
            ($column, Unit::$unit),
            Family::new(Kind::$kind, concat!("node_mountstats_nfs_", $prefix, $name), $help, $labels),
        )),*];
    };
}

columns! {
    BYTES: 8, EXPORT, "";
    0 One => Counter "read_bytes_total", "Bytes that applications read.";
    1 One => Counter "write_bytes_total", "Bytes that applications wrote.";
    2 One => Counter "direct_read_bytes_total", "Bytes that applications read with O_DIRECT.";
    3 One => Counter "direct_write_bytes_total", "Bytes that applications wrote with O_DIRECT.";
    4 One => Counter "total_read_bytes_total", "Bytes read from the server.";
    5 One => Counter "total_write_bytes_total", "Bytes written to the server.";
    6 One => Counter "read_pages_total", "Pages read for mappings and the cache.";
    7 One => Counter "write_pages_total", "Pages written from mappings and the cache.";
}

// Column 18 is not used by the kernel.
columns! {
    EVENTS: 26, EXPORT, "event_";
    0 One => Counter "inode_revalidate_total", "Times that cached attributes of inodes were compared with the server's.";
    1 One => Counter "dnode_revalidate_total", "Times that cached names were compared with the server's.";
    2 One => Counter "data_invalidate_total", "Times that cached data of an inode were thrown away.";
    3 One => Counter "attribute_invalidate_total", "Times that cached attributes of an inode were thrown away.";
    4 One => Counter "vfs_open_total", "Files and folders opened.";
    5 One => Counter "vfs_lookup_total", "Names looked up.";
    6 One => Counter "vfs_access_total", "Permissions checked.";
    7 One => Counter "vfs_update_page_total", "Pages changed, which may be written later.";
    8 One => Counter "vfs_read_page_total", "Calls to read one page.";
    9 One => Counter "vfs_read_pages_total", "Calls to read some pages.";
    10 One => Counter "vfs_write_page_total", "Calls to write one page.";
    11 One => Counter "vfs_write_pages_total", "Calls to write some pages.";
    12 One => Counter "vfs_getdents_total", "Calls to list folders.";
    13 One => Counter "vfs_setattr_total", "Attributes set.";
    14 One => Counter "vfs_flush_total", "Calls to flush what was to be written.";
    15 One => Counter "vfs_fsync_total", "Calls to fsync files and folders.";
    16 One => Counter "vfs_lock_total", "Calls to lock files.";
    17 One => Counter "vfs_file_release_total", "Files closed.";
    19 One => Counter "truncation_total", "Files cut off.";
    20 One => Counter "write_extension_total", "Files that grew by a write behind their end.";
    21 One => Counter "silly_rename_total", "Files removed while they were open.";
    22 One => Counter "short_read_total", "Reads for which the server gave less than it should.";
    23 One => Counter "short_write_total", "Writes of which the server took less than it should.";
    24 One => Counter "jukebox_delay_total", "Answers of the server that it has to fetch the data first (EJUKEBOX).";
    25 One => Counter "pnfs_read_total", "Reads with parallel NFS.";
    26 One => Counter "pnfs_write_total", "Writes with parallel NFS.";
}

columns! {
    TRANSPORTS: 10, TRANSPORT, "transport_";
    1 One => Counter "bind_total", "Times that a connection was made from scratch.";
    2 One => Counter "connect_total", "Times that a TCP connection was made.";
    4 Seconds => Gauge "idle_time_seconds", "Time since anything was sent or received.";
    5 One => Counter "sends_total", "Requests sent.";
    6 One => Counter "receives_total", "Answers received.";
    7 One => Counter "bad_transaction_ids_total", "Answers with the number of no request.";
    9 One => Counter "backlog_queue_total", "Length of the queue for a slot, summed up at each request.";
    10 One => Gauge "maximum_rpc_slots", "Requests that were under way at one time at most.";
    11 One => Counter "sending_queue_total", "Length of the queue to send, summed up at each request.";
    12 One => Counter "pending_queue_total", "Length of the queue for an answer, summed up at each request.";
}
columns! {
    OPERATIONS: 8, OPERATION, "operations_";
    0 One => Counter "requests_total", "Requests of an operation.";
    1 One => Counter "transmissions_total", "Times that a request of an operation was sent.";
    2 One => Counter "major_timeouts_total", "Requests of an operation that timed out at last.";
    3 One => Counter "sent_bytes_total", "Bytes sent for an operation, with headers.";
    4 One => Counter "received_bytes_total", "Bytes received for an operation, with headers.";
    5 Milliseconds => Counter "queue_time_seconds_total", "Time that requests of an operation waited to be sent.";
    6 Milliseconds => Counter "response_time_seconds_total", "Time from sending requests of an operation to their answer.";
    7 Milliseconds => Counter "request_time_seconds_total", "Time that requests of an operation took in all.";
}

static FAMILIES: [&Family; 54] = tables::join(&[
    &[&INFO, &AGE],
    &tables::families(&BYTES),
    &tables::families(&EVENTS),
    &tables::families(&TRANSPORTS),
    &tables::families(&OPERATIONS),
]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "mountstats",
    default_enabled: false,
    flags: &[],
    families: &FAMILIES,
    new: |setup| {
        // A record is a mount, longer than a page: the end of the files is proved by one more read.
        let file = |name| KeptFile::new(setup.paths.proc("self").join(name));
        Ok(Box::new(Mountstats { stats: file("mountstats"), info: file("mountinfo"), seen: Vec::new() }))
    },
};

struct Mountstats {
    stats: KeptFile,
    info: KeptFile,
    seen: Vec<Seen>,
}

/// An export whose counters were given in this tick: a hash of its labels.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen(u64);

impl Collector for Mountstats {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let Tick { buffer, scratch, .. } = tick;
        let stats = self.stats.read(buffer)?;
        let infos = self.info.read(scratch)?;
        self.seen.clear();
        let mut faults = Faults::default();
        // Both files list the mounts in the same order.
        let mut in_step = text::ended_lines(infos);
        let mut lines = Lines::new(stats);
        while let Some(parsed) = lines.next_mount() {
            let info = in_step.next().unwrap_or_default();
            match parsed {
                Ok(Some(mount)) => {
                    let is_of = |line: &&[u8]| mountpoint_of(line) == Some(mount.mountpoint.as_bytes());
                    match Some(info).filter(is_of).or_else(|| text::ended_lines(infos).find(is_of)) {
                        Some(info) => put_mount(&mount, address_of(info), &mut self.seen, out),
                        // It came between the two reads, or the file is torn.
                        None => faults.note(|| {
                            let path = self.info.path().display();
                            CollectError::Other(format!("{path}: no line for {}", mount.mountpoint))
                        }),
                    }
                }
                Ok(None) => {}
                Err(expected) => {
                    faults.note(|| CollectError::malformed(self.stats.path(), lines.number(), expected));
                }
            }
        }
        faults.finish()
    }
}

/// The fifth word of a line of mountinfo, written as in mountstats.
fn mountpoint_of(line: &[u8]) -> Option<&[u8]> {
    text::words(line).nth(4)
}

/// The option `addr` of the server, at the end of a line of mountinfo; empty if there is none.
fn address_of(line: &[u8]) -> &str {
    let options = text::words(line).last().unwrap_or_default();
    let address = options.split(|&b| b == b',').find_map(|option| option.strip_prefix(b"addr="));
    address.and_then(text::as_str).unwrap_or_default()
}

fn put_mount(mount: &Mount<'_>, address: &str, seen: &mut Vec<Seen>, out: &mut Recorder) {
    for transport in mount.transports() {
        let export = [mount.export, transport.protocol, address];
        let [a, b, c] = export;
        let with_mountpoint = [a, b, c, mount.mountpoint];
        if is_new(seen, &with_mountpoint) {
            out.put(&INFO, &with_mountpoint, 1.0);
        }
        if !is_new(seen, &export) {
            break;
        }
        put_export(mount, export, out);
    }
}

/// Whether no such labels came before in this tick.
fn is_new(seen: &mut Vec<Seen>, labels: &[&str]) -> bool {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    labels.hash(&mut hasher);
    let labels = Seen(hasher.finish());
    let is_new = !seen.contains(&labels);
    if is_new {
        seen.push(labels);
    }
    is_new
}

fn put_export(mount: &Mount<'_>, export: [&str; 3], out: &mut Recorder) {
    let [a, b, c] = export;
    if let Some(age) = mount.age {
        out.put(&AGE, &export, age as f64);
    }
    if let Some(bytes) = &mount.bytes {
        put_row(&BYTES, bytes, &export, out);
    }
    if let Some(events) = &mount.events {
        put_row(&EVENTS, events, &export, out);
    }
    for (position, transport) in mount.transports().enumerate() {
        let position = text::Decimal::new(position as u64);
        let labels = [a, b, c, position.as_str()];
        put_row(&TRANSPORTS, &transport.numbers, &labels, out);
    }
    for operation in mount.operations() {
        put_row(&OPERATIONS, &operation.numbers, &[a, b, c, operation.name], out);
    }
}

fn put_row(table: &'static [((usize, Unit), Family)], row: &[u64], labels: &[&str], out: &mut Recorder) {
    for ((column, unit), family) in table {
        let number = row[*column];
        let value = match unit {
            Unit::One => number as f64,
            Unit::Seconds => wrap(number) as f64,
            // By division, so that the last digits are as in node_exporter.
            Unit::Milliseconds => wrap(number) as f64 / 1000.0,
        };
        out.put(family, labels, value);
    }
}

/// As node_exporter does it for times, which the kernel may give as negative numbers without sign.
fn wrap(number: u64) -> u64 {
    number % (1 << 53)
}
