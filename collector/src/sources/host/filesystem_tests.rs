//! Tests of the table of mounts.

use std::path::Path;

use super::*;

const TABLE: &str = "\
36 35 98:0 / / rw,noatime shared:1 - ext4 /dev/vda1 rw,errors=continue
37 36 0:50 / /data\\040set rw - xfs /dev/vdb ro
38 36 0:51 / /net/a rw master:1 propagate_from:2 - nfs4 server:/a rw,vers=4.2
39 38 0:52 / /net/a/scratch rw - tmpfs tmpfs rw
40 36 0:53 / /net/ab ro - tmpfs tmpfs rw
41 36 8:1 / /x\\134y rw - ext4 /dev/sda1 rw,emergency_ro
";

fn parse(text: &str, root: &str) -> Vec<Mount> {
    parse_mounts(text.as_bytes(), Path::new(root)).0
}

#[test]
fn a_table_of_mounts() {
    let mounts = parse(TABLE, "/");
    let points: Vec<_> = mounts.iter().map(|mount| mount.mount_point.as_str()).collect();
    assert_eq!(points, ["/", "/data set", "/net/a", "/net/a/scratch", "/net/ab", "/x\\134y"]);
    let readonly: Vec<_> = mounts.iter().map(|mount| mount.readonly).collect();
    assert_eq!(readonly, [false, true, false, false, true, true]);
    let from_memory: Vec<_> = mounts.iter().map(|mount| mount.answers_from_memory).collect();
    assert_eq!(from_memory, [true, true, false, false, true, true], "nfs, and what lies below it");
    assert_eq!(
        (mounts[2].major.as_str(), mounts[2].minor.as_str(), mounts[2].device.as_str()),
        ("0", "51", "server:/a")
    );
}

#[test]
fn a_bad_line_loses_itself() {
    let (mounts, bad_line) =
        parse_mounts(b"36 35 98:0 / / rw - ext4\n37 36 0:50 / /a rw - xfs /dev/vdb rw\n", Path::new("/"));
    assert_eq!((mounts.len(), bad_line), (1, Some(1)));
    for end in 0..TABLE.len() {
        parse_mounts(&TABLE.as_bytes()[..end], Path::new("/"));
    }
}

#[test]
fn the_prefix_of_the_root_is_taken_off() {
    let table = "1 0 8:1 / /host rw - ext4 /dev/sda1 rw\n2 1 8:2 / /host/var rw - ext4 /dev/sda2 rw\n3 0 8:3 / /other rw - ext4 /dev/sda3 rw\n";
    let points: Vec<_> = parse(table, "/host").into_iter().map(|mount| mount.mount_point).collect();
    assert_eq!(points, ["/", "/var", "/other"]);
}

#[test]
fn the_default_patterns_leave_out_what_holds_no_files() {
    let mut points = Filter::new("", DEFAULT_MOUNTS).unwrap();
    let mut types = Filter::new("", DEFAULT_TYPES).unwrap();
    for (point, ignored) in [
        ("/", false),
        ("/dev", true),
        ("/device", false),
        ("/var/lib/docker/x", true),
        ("/run/credentials/a.service", true),
    ] {
        assert_eq!(points.ignores(point), ignored, "{point}");
    }
    for (kind, ignored) in
        [("ext4", false), ("cgroup2", true), ("nsfs", true), ("overlay", true), ("nfs4", false)]
    {
        assert_eq!(types.ignores(kind), ignored, "{kind}");
    }
}
