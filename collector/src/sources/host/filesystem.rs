//! Space and files of the mounted file systems, from /proc/1/mountinfo (proc_pid_mountinfo(5)) and statfs(2).
//! Cost a tick: two reads, one system call a mount whose type answers from memory, and two switches of threads
//! for all the others. The table is parsed again only when it reads differently.
//!
//! A server that is gone blocks statfs(2) for ever: see [`crate::sys::mounts`]. Such a mount costs the tick at
//! most the time-out, and after that nothing but its samples.

mod mountinfo;

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use mountinfo::{Mount, parse_mounts};

use super::{CollectError, Collector, Filter, Flag, FlagDefault, Paths, Registration, SetupError, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::mounts::{Guarded, Helpers, NoAnswer, Space, read_space};

const MOUNTS_EXCLUDE: &str = "collector.filesystem.mount-points-exclude";
const MOUNTS_INCLUDE: &str = "collector.filesystem.mount-points-include";
const OLD_MOUNTS_EXCLUDE: &str = "collector.filesystem.ignored-mount-points";
const TYPES_EXCLUDE: &str = "collector.filesystem.fs-types-exclude";
const TYPES_INCLUDE: &str = "collector.filesystem.fs-types-include";
const OLD_TYPES_EXCLUDE: &str = "collector.filesystem.ignored-fs-types";
/// Of the time that a tick has left, what is kept back to hand over the mounts that did answer.
const FOR_THE_REST: Duration = Duration::from_millis(250);
const TIMEOUT_FLAG: &str = "collector.filesystem.mount-timeout";
const WORKERS_FLAG: &str = "collector.filesystem.stat-workers";

const DEFAULT_MOUNTS: &str =
    "^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)";
const DEFAULT_TYPES: &str = "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|\
    hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|\
    sysfs|tracefs)$";

const LABELS: &[&str] = &["device", "mountpoint", "fstype", "device_error"];

static DEVICE_ERROR: Family = Family::gauge(
    "node_filesystem_device_error",
    "Whether a file system did not tell its state: 1 if not, with the reason as a label.",
    LABELS,
);
static READONLY: Family =
    Family::gauge("node_filesystem_readonly", "Whether a file system can't be written to.", LABELS);
static SIZE: Family = Family::gauge("node_filesystem_size_bytes", "Size of a file system.", LABELS);
static FREE: Family = Family::gauge(
    "node_filesystem_free_bytes",
    "Space that is free, what root alone may use among it.",
    LABELS,
);
static AVAILABLE: Family =
    Family::gauge("node_filesystem_avail_bytes", "Space that is free for users other than root.", LABELS);
static FILES: Family = Family::gauge("node_filesystem_files", "Files that a file system can hold.", LABELS);
static FILES_FREE: Family =
    Family::gauge("node_filesystem_files_free", "Files that a file system can still take.", LABELS);
static PURGEABLE: Family = Family::gauge(
    "node_filesystem_purgeable_bytes",
    "Space that the system would free by itself; always 0 on Linux.",
    LABELS,
);
static MOUNT_INFO: Family = Family::gauge(
    "node_filesystem_mount_info",
    "A mount and the numbers of its device; always 1.",
    &["device", "major", "minor", "mountpoint"],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "filesystem",
    default_enabled: true,
    flags: &[
        Flag::new(
            MOUNTS_EXCLUDE,
            FlagDefault::Text(DEFAULT_MOUNTS),
            "Pattern of the mount points to leave out (not with mount-points-include).",
        ),
        Flag::new(
            MOUNTS_INCLUDE,
            FlagDefault::Text(""),
            "Pattern of the mount points to take (not with mount-points-exclude).",
        ),
        Flag::alias(OLD_MOUNTS_EXCLUDE, MOUNTS_EXCLUDE),
        Flag::new(
            TYPES_EXCLUDE,
            FlagDefault::Text(DEFAULT_TYPES),
            "Pattern of the types to leave out (not with fs-types-include).",
        ),
        Flag::new(
            TYPES_INCLUDE,
            FlagDefault::Text(""),
            "Pattern of the types to take (not with fs-types-exclude).",
        ),
        Flag::alias(OLD_TYPES_EXCLUDE, TYPES_EXCLUDE),
        Flag::hidden(
            TIMEOUT_FLAG,
            FlagDefault::Duration("5s"),
            "How long a tick waits for mounts that do not answer.",
        ),
        Flag::hidden(WORKERS_FLAG, FlagDefault::Int(4), "Threads kept for mounts that may not answer."),
    ],
    families: &[
        &DEVICE_ERROR,
        &READONLY,
        &SIZE,
        &FREE,
        &AVAILABLE,
        &FILES,
        &FILES_FREE,
        &PURGEABLE,
        &MOUNT_INFO,
    ],
    new: |setup| Ok(Box::new(Filesystem::new(setup).map_err(SetupError::of("filesystem"))?)),
};

struct Filesystem {
    paths: Paths,
    /// That of process 1, and our own where we may not read it.
    tables: [KeptFile; 2],
    mount_points: Filter,
    types: Filter,
    helpers: Helpers,
    timeout: Duration,
    /// The table as it was parsed.
    parsed: Vec<u8>,
    /// The first line of it that is not as it should be.
    bad_line: Option<usize>,
    mounts: Vec<Watched>,
}

/// A mount that is given.
struct Watched {
    mount: Mount,
    way: Way,
}

/// How its space is asked for.
enum Way {
    /// By this thread.
    Direct(CString),
    /// By a helper: it may hang.
    Guarded(Guarded),
}

impl Filesystem {
    fn new(setup: &super::Setup<'_>) -> Result<Self, String> {
        let flags = setup.flags;
        let workers = flags.int(WORKERS_FLAG)?;
        let workers = usize::try_from(workers).ok().filter(|&workers| workers > 0);
        Ok(Filesystem {
            paths: setup.paths.clone(),
            tables: ["1/mountinfo", "self/mountinfo"].map(|file| KeptFile::new(setup.paths.proc(file))),
            mount_points: Filter::from_flags(
                flags,
                (MOUNTS_INCLUDE, ""),
                (MOUNTS_EXCLUDE, OLD_MOUNTS_EXCLUDE),
            )?,
            types: Filter::from_flags(flags, (TYPES_INCLUDE, ""), (TYPES_EXCLUDE, OLD_TYPES_EXCLUDE))?,
            helpers: Helpers::new(workers.ok_or_else(|| format!("--{WORKERS_FLAG}: expected 1 or more"))?),
            timeout: flags.duration(TIMEOUT_FLAG)?,
            parsed: Vec::new(),
            bad_line: None,
            mounts: Vec::new(),
        })
    }

    /// Brings `mounts` up to date. Returns which of the tables it was.
    fn read_table(&mut self, tick: &mut Tick) -> Result<usize, CollectError> {
        let [first, own] = &mut self.tables;
        let which = usize::from(first.read(&mut tick.buffer).is_err());
        if which == 1 {
            own.read(&mut tick.buffer)?;
        }
        if tick.buffer != self.parsed {
            let (mounts, bad_line) = parse_mounts(&tick.buffer, &self.paths.rootfs);
            self.watch(mounts);
            self.bad_line = bad_line;
            self.parsed.clone_from(&tick.buffer);
        }
        Ok(which)
    }

    /// Keeps what is known of mounts that stay: one that hangs must not be asked a second time.
    fn watch(&mut self, mounts: Vec<Mount>) {
        let mut before = std::mem::take(&mut self.mounts);
        for mount in mounts {
            let is_ignored = self.mount_points.ignores(&mount.mount_point) || self.types.ignores(&mount.kind);
            if is_ignored || self.mounts.iter().any(|watched| watched.mount.has_labels_of(&mount)) {
                continue;
            }
            let known = before.iter().position(|watched| watched.mount.is_same(&mount));
            let way = if let Some(at) = known {
                before.swap_remove(at).way
            } else {
                let path = self.paths.root(&mount.mount_point).into_os_string().into_vec();
                let Ok(path) = CString::new(path) else { continue };
                if mount.answers_from_memory { Way::Direct(path) } else { Way::Guarded(Guarded::new(path)) }
            };
            self.mounts.push(Watched { mount, way });
        }
    }
}

impl Collector for Filesystem {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let which = self.read_table(tick)?;
        let guarded = self.mounts.iter().filter_map(|watched| match &watched.way {
            Way::Guarded(guarded) => Some(guarded),
            Way::Direct(_) => None,
        });
        if guarded.clone().next().is_some() {
            let left = tick.time_left();
            let patience = self.timeout.min(left.saturating_sub(FOR_THE_REST).max(left / 2));
            self.helpers.ask(guarded, patience);
        }
        for Watched { mount, way } in &self.mounts {
            let answer = match way {
                Way::Direct(path) => read_space(path)
                    .map_err(|error| NoAnswer::Refused(error.raw_os_error().unwrap_or(libc::EIO))),
                Way::Guarded(guarded) => guarded.answer(),
            };
            mount.put(answer, out);
        }
        self.bad_line.map_or(Ok(()), |line| {
            let expected = "expected the ten columns or more of proc_pid_mountinfo(5)";
            Err(CollectError::malformed(self.tables[which].path(), line, expected))
        })
    }
}

impl Mount {
    fn put(&self, answer: Result<Space, NoAnswer>, out: &mut Recorder) {
        let error = match answer {
            Ok(_) => "",
            Err(NoAnswer::TimedOut) => "mountpoint timeout",
            Err(NoAnswer::Refused(number)) => mountinfo::error_text(number),
        };
        let labels = [self.device.as_str(), &self.mount_point, &self.kind, error];
        out.put(&DEVICE_ERROR, &labels, f64::from(u8::from(answer.is_err())));
        out.put(&READONLY, &labels, f64::from(u8::from(self.readonly)));
        let Ok(space) = answer else { return };
        let block = space.block_size as f64;
        out.put(&SIZE, &labels, space.blocks as f64 * block);
        out.put(&FREE, &labels, space.blocks_free as f64 * block);
        out.put(&AVAILABLE, &labels, space.blocks_available as f64 * block);
        out.put(&FILES, &labels, space.files as f64);
        out.put(&FILES_FREE, &labels, space.files_free as f64);
        out.put(&PURGEABLE, &labels, 0.0);
        out.put(&MOUNT_INFO, &[&self.device, &self.major, &self.minor, &self.mount_point], 1.0);
    }
}

#[cfg(test)]
#[path = "filesystem_tests.rs"]
mod tests;
