//! The NFS server, from /proc/net/rpc/nfsd. Cost a tick: one read. Without the kernel module there is no such file.

use super::Registration;
use super::nfs_rpc::{self, Columns, RpcFile, put_columns, put_procedures};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

macro_rules! families {
    ($($static:ident: $kind:ident $name:literal $labels:expr, $help:literal;)*) => {
        $(static $static: Family = Family::$kind(concat!("node_nfsd_", $name), $help, &$labels);)*
        static FAMILIES: &[&Family] = &[$(&$static),*];
    };
}

families! {
    CACHE_HITS: counter "reply_cache_hits_total" [], "Replies given from the cache: the client had lost the first.";
    CACHE_MISSES: counter "reply_cache_misses_total" [], "Operations whose replies had to be put into the cache.";
    UNCACHED: counter "reply_cache_nocache_total" [], "Operations whose replies are not cached.";
    STALE: counter "file_handles_stale_total" [], "File handles of clients that were stale.";
    READ: counter "disk_bytes_read_total" [], "Bytes read for clients.";
    WRITTEN: counter "disk_bytes_written_total" [], "Bytes written for clients.";
    THREADS: gauge "server_threads" [], "Threads of the NFS server.";
    AHEAD_SIZE: gauge "read_ahead_cache_size_blocks" [], "Size of the read-ahead cache in blocks.";
    AHEAD_MISSES: counter "read_ahead_cache_not_found_total" [], "Lookups that the read-ahead cache could not answer.";
    PACKETS: counter "packets_total" ["proto"], "Packets sent and received by the NFS server.";
    CONNECTIONS: counter "connections_total" [], "TCP connections that the NFS server took.";
    ERRORS: counter "rpc_errors_total" ["error"], "Remote calls that the NFS server refused, by reason.";
    CALLS: counter "server_rpcs_total" [], "Remote calls that the NFS server took.";
    REQUESTS: counter "requests_total" ["method", "proto"],
        "Requests to the NFS server, by version of the protocol and procedure.";
}

/// Keys of lines, and what their numbers are (fs/nfsd/stats.c).
static LINES: &[(&[u8], Columns)] = &[
    (b"rc", &[Some((&CACHE_HITS, &[])), Some((&CACHE_MISSES, &[])), Some((&UNCACHED, &[]))]),
    (b"fh", &[Some((&STALE, &[]))]),
    (b"io", &[Some((&READ, &[])), Some((&WRITTEN, &[]))]),
    (b"th", &[Some((&THREADS, &[]))]),
    (
        b"ra",
        &[
            Some((&AHEAD_SIZE, &[])),
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            Some((&AHEAD_MISSES, &[])),
        ],
    ),
    (b"net", &[None, Some((&PACKETS, &["udp"])), Some((&PACKETS, &["tcp"])), Some((&CONNECTIONS, &[]))]),
    (
        b"rpc",
        &[
            Some((&CALLS, &[])),
            None,
            Some((&ERRORS, &["fmt"])),
            Some((&ERRORS, &["auth"])),
            Some((&ERRORS, &["cInt"])),
        ],
    ),
    (b"wdeleg_getattr", &[Some((&REQUESTS, &["WdelegGetattr", "4"]))]),
];

/// The operations of version 4.0 (RFC 7530) in the order of their numbers, without those that node_exporter leaves
/// out; kernels print later ones behind them.
const V4: [&str; 40] = [
    "",
    "",
    "",
    "Access",
    "Close",
    "Commit",
    "Create",
    "DelegPurge",
    "DelegReturn",
    "GetAttr",
    "GetFH",
    "Link",
    "Lock",
    "Lockt",
    "Locku",
    "Lookup",
    "LookupRoot",
    "Nverify",
    "Open",
    "OpenAttr",
    "OpenConfirm",
    "OpenDgrd",
    "PutFH",
    "",
    "",
    "Read",
    "ReadDir",
    "ReadLink",
    "Remove",
    "Rename",
    "Renew",
    "RestoreFH",
    "SaveFH",
    "SecInfo",
    "SetAttr",
    "SetClientID",
    "SetClientIDConfirm",
    "Verify",
    "Write",
    "RelLockOwner",
];
/// The first kernels to print them lack the last one.
const FEWEST_V4: usize = 39;

pub(super) static COLLECTOR: Registration = Registration {
    name: "nfsd",
    default_enabled: true,
    flags: &[],
    families: FAMILIES,
    new: |setup| Ok(Box::new(RpcFile { file: KeptFile::whole(setup.paths.proc("net/rpc/nfsd")), put_line })),
};

fn put_line(line: &[u8], out: &mut Recorder) -> Option<()> {
    let mut words = text::words(line);
    let key = words.next()?;
    let rest = words.rest();
    let mut procedures =
        |version, names, fewest| put_procedures(&REQUESTS, version, (names, fewest), rest, out);
    match key {
        b"proc2" => procedures("2", &NAMED_V2, nfs_rpc::V2.len()),
        b"proc3" => procedures("3", &NAMED_V3, nfs_rpc::V3.len()),
        b"proc4ops" => procedures("4", &V4, FEWEST_V4),
        _ => match LINES.iter().find(|(name, _)| *name == key) {
            Some((_, columns)) => put_columns(columns, rest, out),
            None => Some(()),
        },
    }
}

const NAMED_V2: [&str; 18] = without_null(nfs_rpc::V2);
const NAMED_V3: [&str; 22] = without_null(nfs_rpc::V3);

/// The server does not give the procedure that does nothing.
const fn without_null<const N: usize>(mut names: [&'static str; N]) -> [&'static str; N] {
    names[0] = "";
    names
}
