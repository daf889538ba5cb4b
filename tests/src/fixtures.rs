//! The made-up trees of /proc, /sys and the like: fixtures/host/COLLECTOR/CASE.
//!
//! A case may hold `proc`, `sys`, `udev`, `root`, and `flags` with a flag a line, in which `@` stands for the
//! folder of the case.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use collector::model::SeriesTable;
use collector::sources::host::{FlagValues, HostReader, Paths};

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
