//! The paths of cgroups by the kernel's number for them, which is the inode of their directory.
//!
//! Kernel interface: /proc/self/mountinfo (once), and the directories of a cgroup file system. Cost: a walk opens and
//! lists every directory, about 5 us each; it is made when a number is seen for the first time, and once in a while to
//! find out which cgroups are gone. It refuses more than [`MAX_CGROUPS`] directories and [`MAX_DEPTH`] levels.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::cgroup_slots::CgroupSlots;
use crate::sys::text;

/// Directories that one walk looks at.
pub(super) const MAX_CGROUPS: usize = 16_384;
/// Levels below the mount point.
pub(super) const MAX_DEPTH: usize = 32;

/// Where cgroup hierarchies are mounted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hierarchies {
    /// Version 2.
    pub(super) unified: Option<PathBuf>,
    /// The hierarchy of version 1 that has the `cpu` controller.
    pub(super) cpu: Option<PathBuf>,
    /// The hierarchy of version 1 that has the `blkio` controller.
    pub(super) blkio: Option<PathBuf>,
}

impl Hierarchies {
    /// Reads the text of a mountinfo file (proc_pid_mountinfo(5)). Of several mounts of a kind that one counts which shows
    /// most of the hierarchy: a container has one of its own part too.
    pub(super) fn parse(mountinfo: &[u8]) -> Self {
        let mut found = Hierarchies::default();
        let mut best = [i64::MIN; 3];
        for line in text::lines(mountinfo) {
            let mut fields = text::words(line);
            let (Some(root), Some(mount)) = (fields.nth(3), fields.next()) else { continue };
            let height = height(root);
            let mut rest = fields.skip_while(|&word| word != b"-").skip(1);
            let (kind, options) = (rest.next(), rest.nth(1).unwrap_or_default());
            let has = |controller: &[u8]| options.split(|&b| b == b',').any(|option| option == controller);
            let slots: [(bool, &mut Option<PathBuf>); 3] = [
                (kind == Some(b"cgroup2"), &mut found.unified),
                (kind == Some(b"cgroup") && has(b"cpu"), &mut found.cpu),
                (kind == Some(b"cgroup") && has(b"blkio"), &mut found.blkio),
            ];
            for ((fits, slot), best) in slots.into_iter().zip(&mut best) {
                if fits && height > *best {
                    (*slot, *best) = (Some(unescape(mount)), height);
                }
            }
        }
        found
    }
}

/// How far above the cgroup namespace's root, or below it, the root of a mount lies: `/../..` is 2, `/docker/c` is -2.
fn height(root: &[u8]) -> i64 {
    let levels = root.split(|&b| b == b'/').filter(|level| !level.is_empty());
    levels.map(|level| if level == b".." { 1 } else { -1 }).sum()
}

/// A path of mountinfo, in which blanks and backslashes stand as `\040`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| byte == b'\\').and_then(text::as_str);
        if let Some(code) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            path.push(code);
            rest = &after[3..];
        } else {
            path.push(byte);
            rest = after;
        }
    }
    PathBuf::from(OsStr::from_bytes(&path))
}

/// Calls `found` with the number and the path, from `/`, of each cgroup under `mount`.
///
/// Returns whether it has seen all of them: not so when a bound was reached or a directory could not be read. One
/// that vanishes meanwhile is no fault.
///
/// # Errors
/// When the mount point itself can't be read.
pub(super) fn walk(mount: &Path, mut found: impl FnMut(u64, &str)) -> io::Result<bool> {
    found(std::fs::metadata(mount)?.ino(), "/");
    let mut complete = true;
    let mut seen = 1;
    let mut waiting = vec![(String::new(), 0)];
    while let Some((path, depth)) = waiting.pop() {
        let entries = match std::fs::read_dir(mount.join(path.trim_start_matches('/'))) {
            Ok(entries) => entries,
            Err(error) if depth > 0 => {
                complete &= error.kind() == io::ErrorKind::NotFound;
                continue;
            }
            Err(error) => return Err(error),
        };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if seen == MAX_CGROUPS || depth == MAX_DEPTH {
                return Ok(false);
            }
            seen += 1;
            let child = format!("{path}/{}", entry.file_name().to_string_lossy());
            found(entry.ino(), &child);
            waiting.push((child, depth + 1));
        }
    }
    Ok(complete)
}

/// The hierarchies that the probes take names from, each walked once for all of them.
#[derive(Default)]
pub(super) struct Names {
    mounts: Vec<Mount>,
}

struct Mount {
    path: PathBuf,
    next_walk_ms: i64,
    error: Option<String>,
}

/// How often the names are read again to find the cgroups that are gone.
const REFRESH_MS: i64 = 60_000;

impl Names {
    /// The index of a hierarchy.
    pub(super) fn hierarchy(&mut self, path: &Path) -> usize {
        if let Some(known) = self.mounts.iter().position(|mount| mount.path == path) {
            return known;
        }
        self.mounts.push(Mount { path: path.to_owned(), next_walk_ms: i64::MIN, error: None });
        self.mounts.len() - 1
    }

    /// Brings the slots of all probes up to date, and reads the names again where one needs it, or it is time.
    pub(super) fn read<'a>(
        &mut self,
        time_ms: i64,
        mut tables: impl FnMut(&mut dyn FnMut(&mut CgroupSlots)) + 'a,
    ) {
        // Hierarchies are few: a bit for each.
        let mut wanted = 0u32;
        tables(&mut |slots| wanted |= u32::from(slots.read()) << slots.hierarchy);
        for (index, mount) in self.mounts.iter_mut().enumerate() {
            if wanted & 1 << index == 0 && time_ms < mount.next_walk_ms {
                continue;
            }
            mount.next_walk_ms = time_ms.saturating_add(REFRESH_MS);
            let result = walk(&mount.path, |id, path| {
                tables(&mut |slots| {
                    if slots.hierarchy == index {
                        slots.offer(id, path);
                    }
                });
            });
            let complete = mount.report(result);
            tables(&mut |slots| {
                if slots.hierarchy == index {
                    slots.end_walk(time_ms, complete);
                }
            });
        }
    }
}

impl Mount {
    /// Whether the walk has seen every cgroup. Says once what went wrong.
    fn report(&mut self, result: io::Result<bool>) -> bool {
        let text = match result {
            Ok(true) => {
                self.error = None;
                return true;
            }
            Ok(false) => "it has more directories than are looked at, or some that can't be read".to_owned(),
            Err(error) => error.to_string(),
        };
        if self.error.as_ref() != Some(&text) {
            let mount = self.path.display().to_string();
            log::warn!(path = mount.as_str(), err = text.as_str(); "cgroup names are incomplete");
            self.error = Some(text);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_on_pure_and_hybrid_hosts() {
        let hybrid = b"20 1 0:1 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
            21 20 0:2 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
            22 20 0:3 / /sys/fs/cgroup/cpu,cpuacct rw shared:4 master:1 - cgroup cgroup rw,cpu,cpuacct\n\
            23 20 0:4 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = Hierarchies::parse(hybrid);
        assert_eq!(found.cpu.as_deref(), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(found.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        let pure =
            Hierarchies::parse(b"23 20 0:4 / /c\\040g rw - cgroup2 none rw\ncut\n25 1 0:2 / /x rw -\n");
        assert_eq!(pure, Hierarchies { unified: Some("/c g".into()), ..Hierarchies::default() });
    }

    #[test]
    fn a_container_takes_the_hosts_hierarchy_where_it_sees_it() {
        // Its own part comes first, as a subtree or as the root of a namespace.
        for (own, host) in [("/docker/c", "/"), ("/", "/../.."), ("/", "/")] {
            let text = format!(
                "22 20 0:3 {own} /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n\
                 30 20 0:3 {host} /host/sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n"
            );
            let expected = if own == host { "/sys/fs/cgroup/cpu" } else { "/host/sys/fs/cgroup/cpu" };
            assert_eq!(
                Hierarchies::parse(text.as_bytes()).cpu.as_deref(),
                Some(Path::new(expected)),
                "{host}"
            );
        }
    }

    #[test]
    fn a_walk_gives_each_directory_its_inode_and_path() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::fs::write(root.path().join("a/cgroup.procs"), "").unwrap();
        let mut seen = Vec::new();
        assert!(walk(root.path(), |id, path| seen.push((id, path.to_owned()))).unwrap());
        let inode = |path: &str| std::fs::metadata(root.path().join(path)).unwrap().ino();
        seen.sort_by(|a, b| a.1.cmp(&b.1));
        assert_eq!(seen, [(inode(""), "/".into()), (inode("a"), "/a".into()), (inode("a/b"), "/a/b".into())]);
        assert!(walk(&root.path().join("none"), |_, _| {}).is_err());
    }

    #[test]
    fn a_walk_stops_at_its_depth() {
        let root = tempfile::tempdir().unwrap();
        let deep = vec!["d"; MAX_DEPTH + 1].join("/");
        std::fs::create_dir_all(root.path().join(deep)).unwrap();
        let mut seen = 0;
        assert!(!walk(root.path(), |_, _| seen += 1).unwrap());
        assert_eq!(seen, MAX_DEPTH + 1);
    }
}
