//! The table of mounts, and which of them answer statfs(2) from memory.

use std::path::Path;

use crate::sys::text;

/// A mount, with the texts that become labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) device: String,
    /// As seen from the host's root.
    pub(super) mount_point: String,
    pub(super) kind: String,
    pub(super) major: String,
    pub(super) minor: String,
    pub(super) readonly: bool,
    /// Neither it nor a mount above it can hang.
    pub(super) answers_from_memory: bool,
}

impl Mount {
    /// Whether the two can't both be given: their samples would be the same series.
    pub(super) fn has_labels_of(&self, other: &Mount) -> bool {
        (&self.device, &self.mount_point, &self.kind) == (&other.device, &other.mount_point, &other.kind)
    }

    /// Whether the two are one mount, perhaps with other options.
    pub(super) fn is_same(&self, other: &Mount) -> bool {
        self.has_labels_of(other)
            && (&self.major, &self.minor) == (&other.major, &other.minor)
            && self.answers_from_memory == other.answers_from_memory
    }
}

/// File systems that keep their numbers in memory: their statfs(2) waits for no device and no server.
const IN_MEMORY: &[&str] = &[
    "ext2",
    "ext3",
    "ext4",
    "xfs",
    "tmpfs",
    "ramfs",
    "rootfs",
    "devtmpfs",
    "squashfs",
    "erofs",
    "iso9660",
    "proc",
    "sysfs",
    "devpts",
    "cgroup",
    "cgroup2",
    "mqueue",
    "hugetlbfs",
    "securityfs",
    "debugfs",
    "tracefs",
    "bpf",
    "configfs",
    "pstore",
    "efivarfs",
    "nsfs",
    "binfmt_misc",
    "fusectl",
    "selinuxfs",
];

/// The mounts below `rootfs`, and the number of the first line that is not as it should be.
pub(super) fn parse_mounts(text: &[u8], rootfs: &Path) -> (Vec<Mount>, Option<usize>) {
    let (mut mounts, mut bad_line) = (Vec::new(), None);
    // Mount points of what may hang: a path through one of them may hang too.
    let mut perilous: Vec<String> = Vec::new();
    for (number, line) in text::ended_lines(text).enumerate() {
        match parse_mount(line, rootfs) {
            Some(mount) => {
                if !mount.answers_from_memory {
                    perilous.push(mount.mount_point.clone());
                }
                mounts.push(mount);
            }
            None => bad_line = bad_line.or(Some(number + 1)),
        }
    }
    for mount in &mut mounts {
        mount.answers_from_memory &= !perilous.iter().any(|above| is_within(&mount.mount_point, above));
    }
    (mounts, bad_line)
}

fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_mount(line: &[u8], rootfs: &Path) -> Option<Mount> {
    let mut words = text::words(line);
    let numbers = String::from_utf8_lossy(words.nth(2)?);
    let (major, minor) = numbers.split_once(':')?;
    words.next()?;
    let mount_point = decode(words.next()?);
    let mount_options = words.next()?;
    // Optional fields end with a hyphen.
    words.find(|&word| word == b"-")?;
    let kind = String::from_utf8_lossy(words.next()?).into_owned();
    let device = decode(words.next()?);
    let super_options = words.next()?;
    let has = |options: &[u8], option: &[u8]| options.split(|&b| b == b',').any(|one| one == option);
    Some(Mount {
        device,
        mount_point: strip_root(mount_point, rootfs),
        major: major.to_owned(),
        minor: minor.to_owned(),
        readonly: has(mount_options, b"ro")
            || has(super_options, b"ro")
            || has(super_options, b"emergency_ro"),
        answers_from_memory: IN_MEMORY.contains(&kind.as_str()),
        kind,
    })
}

/// Takes back the kernel's escapes of blank and tab, and of those alone, as node_exporter does.
fn decode(word: &[u8]) -> String {
    let text = String::from_utf8_lossy(word);
    if text.contains('\\') { text.replace("\\040", " ").replace("\\011", "\t") } else { text.into_owned() }
}

fn strip_root(mount_point: String, rootfs: &Path) -> String {
    let root = rootfs.to_string_lossy();
    if root == "/" {
        return mount_point;
    }
    match mount_point.strip_prefix(&*root) {
        Some("") => "/".to_owned(),
        Some(rest) => rest.to_owned(),
        None => mount_point,
    }
}

/// What Go calls the errors that statfs(2) gives: they are label values, on which alerts may match.
pub(super) fn error_text(number: i32) -> &'static str {
    match number {
        libc::EPERM => "operation not permitted",
        libc::ENOENT => "no such file or directory",
        libc::EINTR => "interrupted system call",
        libc::EIO => "input/output error",
        libc::ENOMEM => "cannot allocate memory",
        libc::EACCES => "permission denied",
        libc::ENODEV => "no such device",
        libc::ENOTDIR => "not a directory",
        libc::EINVAL => "invalid argument",
        libc::ENAMETOOLONG => "file name too long",
        libc::ENOSYS => "function not implemented",
        libc::ELOOP => "too many levels of symbolic links",
        libc::EOVERFLOW => "value too large for defined data type",
        libc::EOPNOTSUPP => "operation not supported",
        libc::ENETUNREACH => "network is unreachable",
        libc::ECONNABORTED => "software caused connection abort",
        libc::ECONNRESET => "connection reset by peer",
        libc::ENOTCONN => "transport endpoint is not connected",
        libc::ESHUTDOWN => "cannot send after transport endpoint shutdown",
        libc::ETIMEDOUT => "connection timed out",
        libc::ECONNREFUSED => "connection refused",
        libc::EHOSTDOWN => "host is down",
        libc::EHOSTUNREACH => "no route to host",
        libc::ESTALE => "stale NFS file handle",
        libc::EREMOTEIO => "remote I/O error",
        libc::EKEYEXPIRED => "key has expired",
        _ => "unknown error",
    }
}
