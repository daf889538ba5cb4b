//! The made-up trees of /proc, /sys and the like: fixtures/host/COLLECTOR/CASE.
//!
//! A case may hold `proc`, `sys`, `udev`, `root`, and `flags` with a flag a line, in which `@` stands for the
//! folder of the case.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use collector::model::SeriesTable;
use collector::sources::host::{FlagValues, HostReader, Paths};

/// Families that a fixture does not settle: clocks, and what the reader itself measures.
pub const MOVING: &[&str] = &[
    "node_scrape_collector_duration_seconds",
    "node_textfile_mtime_seconds",
    "node_time_seconds",
    "node_time_zone_offset_seconds",
];

/// A case, and the collector that it is for.
pub struct Case {
    pub folder: PathBuf,
    pub collector: String,
}

/// Every case, in order.
pub fn cases() -> Vec<Case> {
    let list = |folder: &Path| {
        let mut entries: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries
    };
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/host");
    let mut cases = Vec::new();
    for collector in list(&fixtures) {
        let name = collector.file_name().unwrap().to_str().unwrap().to_owned();
        cases.extend(list(&collector).into_iter().map(|folder| Case { folder, collector: name.clone() }));
    }
    cases
}

/// A reader with that collector alone, over the tree in `folder`, and the table of its series.
pub fn reader(folder: &Path, collector: &str) -> (HostReader, Arc<SeriesTable>) {
    let paths = Paths {
        procfs: folder.join("proc"),
        sysfs: folder.join("sys"),
        rootfs: folder.join("root"),
        udev_data: folder.join("udev"),
    };
    let mut flags = FlagValues::default();
    for line in std::fs::read_to_string(folder.join("flags")).unwrap_or_default().lines() {
        let line = line.replace('@', folder.to_str().unwrap());
        let flag = line.strip_prefix("--").unwrap();
        match (flag.split_once('='), flag.strip_prefix("no-")) {
            (Some((name, value)), _) => flags.give(name, value),
            (None, Some(name)) => flags.give(name, "false"),
            (None, None) => flags.give(flag, "true"),
        }
    }
    let table = Arc::new(SeriesTable::default());
    let reader = HostReader::new(&paths, &flags, |name, _| name == collector, &[], &table).unwrap();
    (reader, table)
}

/// Copies a tree, without what is neither file nor folder.
///
/// # Panics
/// When it can't.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, path) = (entry.file_type().unwrap(), entry.path());
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy(&path, &target);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&path).unwrap(), &target).unwrap();
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// The files of a tree, in order. Links are not followed, as they lead in circles.
///
/// # Panics
/// When it can't be listed.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// Gives a file another content, in place: one that is emptied first is flushed to the disk by some file systems when
/// it is closed.
///
/// # Panics
/// When it can't be written.
pub fn overwrite(file: &Path, content: &[u8]) {
    let file = std::fs::File::options().write(true).open(file).unwrap();
    file.set_len(content.len() as u64).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, content, 0).unwrap();
}

/// A folder that ends with its owner, in memory where this host has such a file system.
///
/// # Panics
/// When there is no room for one.
pub fn memory_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
