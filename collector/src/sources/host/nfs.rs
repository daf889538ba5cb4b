//! The NFS client, from /proc/net/rpc/nfs. Cost a tick: one read. Without the kernel module there is no such file.

use super::Registration;
use super::nfs_rpc::{self, Columns, RpcFile, put_columns, put_procedures};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

static PACKETS: Family =
    Family::counter("node_nfs_packets_total", "Packets sent and received by the NFS client.", &["protocol"]);
static CONNECTIONS: Family =
    Family::counter("node_nfs_connections_total", "TCP connections that the NFS client made.", &[]);
static CALLS: Family = Family::counter("node_nfs_rpcs_total", "Remote calls that the NFS client made.", &[]);
static RETRANSMISSIONS: Family = Family::counter(
    "node_nfs_rpc_retransmissions_total",
    "Remote calls that the NFS client sent again.",
    &[],
);
static REFRESHES: Family = Family::counter(
    "node_nfs_rpc_authentication_refreshes_total",
    "Times that the NFS client renewed its credentials.",
    &[],
);
static REQUESTS: Family = Family::counter(
    "node_nfs_requests_total",
    "Requests of the NFS client, by version of the protocol and procedure.",
    &["method", "proto"],
);

/// Keys of lines, and what their numbers are.
static LINES: &[(&[u8], Columns)] = &[
    (b"net", &[None, Some((&PACKETS, &["udp"])), Some((&PACKETS, &["tcp"])), Some((&CONNECTIONS, &[]))]),
    (b"rpc", &[Some((&CALLS, &[])), Some((&RETRANSMISSIONS, &[])), Some((&REFRESHES, &[]))]),
];

/// The procedures of version 4, in the order of fs/nfs/nfs4xdr.c; older kernels have fewer.
const V4: [&str; 59] = [
    "Null",
    "Read",
    "Write",
    "Commit",
    "Open",
    "OpenConfirm",
    "OpenNoattr",
    "OpenDowngrade",
    "Close",
    "Setattr",
    "FsInfo",
    "Renew",
    "SetClientID",
    "SetClientIDConfirm",
    "Lock",
    "Lockt",
    "Locku",
    "Access",
    "Getattr",
    "Lookup",
    "LookupRoot",
    "Remove",
    "Rename",
    "Link",
    "Symlink",
    "Create",
    "Pathconf",
    "StatFs",
    "ReadLink",
    "ReadDir",
    "ServerCaps",
    "DelegReturn",
    "GetACL",
    "SetACL",
    "FsLocations",
    "ReleaseLockowner",
    "Secinfo",
    "FsidPresent",
    "ExchangeID",
    "CreateSession",
    "DestroySession",
    "Sequence",
    "GetLeaseTime",
    "ReclaimComplete",
    "GetDeviceInfo",
    "LayoutGet",
    "LayoutCommit",
    "LayoutReturn",
    "SecinfoNoName",
    "TestStateID",
    "FreeStateID",
    "GetDeviceList",
    "BindConnToSession",
    "DestroyClientID",
    "Seek",
    "Allocate",
    "DeAllocate",
    "LayoutStats",
    "Clone",
];

pub(super) static COLLECTOR: Registration = Registration {
    name: "nfs",
    default_enabled: true,
    flags: &[],
    families: &[&CONNECTIONS, &PACKETS, &REQUESTS, &REFRESHES, &RETRANSMISSIONS, &CALLS],
    new: |setup| Ok(Box::new(RpcFile { file: KeptFile::whole(setup.paths.proc("net/rpc/nfs")), put_line })),
};

fn put_line(line: &[u8], out: &mut Recorder) -> Option<()> {
    let mut words = text::words(line);
    let key = words.next()?;
    let rest = words.rest();
    match key {
        b"proc2" => put_procedures(&REQUESTS, "2", (&nfs_rpc::V2, nfs_rpc::V2.len()), rest, out),
        b"proc3" => put_procedures(&REQUESTS, "3", (&nfs_rpc::V3, nfs_rpc::V3.len()), rest, out),
        b"proc4" => put_procedures(&REQUESTS, "4", (&V4, 1), rest, out),
        _ => match LINES.iter().find(|(name, _)| *name == key) {
            Some((_, columns)) => put_columns(columns, rest, out),
            None => Some(()),
        },
    }
}
