//! ZFS, from /proc/spl/kstat/zfs: a file a subsystem, and for each pool a folder with its I/O, its state, and a file
//! a dataset. Cost a tick: the folders are listed (three system calls each), and one read a file, or three for each
//! dataset beyond [`MOST_KEPT`], whose files do not stay open. Without the kernel module there is nothing to read.

mod kstat;

use std::path::Path;

use kstat::{put_dataset, put_io, put_state, put_subsystem};

use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::{KeptFile, ReadError};
use crate::sys::kept_entries::KeptEntries;

/// A subsystem in the names of metrics, and its file.
const SUBSYSTEMS: [(&str, &str); 11] = [
    ("abd", "abdstats"),
    ("arc", "arcstats"),
    ("dbuf", "dbufstats"),
    ("dmu_tx", "dmu_tx"),
    ("dnode", "dnodestats"),
    ("fm", "fm"),
    ("vdev_cache", "vdev_cache_stats"),
    ("vdev_mirror", "vdev_mirror_stats"),
    ("xuio", "xuio_stats"),
    ("zfetch", "zfetchstats"),
    ("zil", "zil"),
];

static SUBSYSTEM_FIELDS: Family =
    Family::untyped("node_zfs_*", "A field of a file of /proc/spl/kstat/zfs.", &[]);
static POOL_FIELDS: Family =
    Family::untyped("node_zfs_zpool_*", "A column of the I/O statistics of a pool.", &["zpool"]);
static DATASET_FIELDS: Family = Family::untyped(
    "node_zfs_zpool_dataset_*",
    "A field of the statistics of a dataset.",
    &["zpool", "dataset"],
);
static STATE: Family = Family::gauge(
    "node_zfs_zpool_state",
    "The state of a pool: 1 for the one it is in.",
    &["zpool", "state"],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "zfs",
    default_enabled: true,
    flags: &[],
    families: &[&SUBSYSTEM_FIELDS, &POOL_FIELDS, &DATASET_FIELDS, &STATE],
    new: |setup| {
        let folder = setup.paths.proc("spl/kstat/zfs");
        let subsystem = |(name, file): (&'static str, &'static str)| Subsystem {
            name,
            help: file,
            file: KeptFile::records(folder.join(file), LONGEST_LINE),
        };
        Ok(Box::new(Zfs {
            subsystems: SUBSYSTEMS.map(subsystem),
            pools: KeptEntries::new(&folder, MOST_POOLS),
        }))
    },
};

/// A name of up to 256 bytes, its type, and a value.
const LONGEST_LINE: usize = 512;
const MOST_POOLS: usize = 1024;
/// Datasets of one pool; further ones are left out, with an error.
const MOST_DATASETS: usize = 65_536;
/// Files of datasets that stay open, of all pools together.
const MOST_KEPT: usize = 256;

struct Zfs {
    subsystems: [Subsystem; SUBSYSTEMS.len()],
    pools: KeptEntries<Pool>,
}

struct Subsystem {
    name: &'static str,
    help: &'static str,
    file: KeptFile,
}

struct Pool {
    io: KeptFile,
    state: KeptFile,
    datasets: KeptEntries<KeptFile>,
}

impl Pool {
    fn new(folder: &Path) -> Self {
        Pool {
            io: KeptFile::records(folder.join("io"), LONGEST_LINE),
            state: KeptFile::records(folder.join("state"), LONGEST_LINE),
            datasets: KeptEntries::new(folder, MOST_DATASETS),
        }
    }

    /// `kept` counts the files of datasets that stay open.
    fn put(
        &mut self,
        name: &str,
        kept: &mut usize,
        tick: &mut Tick,
        out: &mut Recorder,
        faults: &mut Faults,
    ) {
        let is_dataset = |name: &str, _| name.starts_with("objset-");
        match self.datasets.refresh(is_dataset, |path| KeptFile::records(path, LONGEST_LINE)) {
            Ok(0) => {}
            Ok(left_out) => faults.note(|| {
                CollectError::Other(format!("{left_out} datasets of pool {name} beyond {MOST_DATASETS}"))
            }),
            Err(error) => return note_unless_gone(error, faults),
        }
        put_file(&mut self.io, tick, faults, |text, _| put_io(name, text, out));
        for (_, file) in self.datasets.iter_mut() {
            put_file(file, tick, faults, |text, scratch| put_dataset(name, text, scratch, out));
            if *kept < MOST_KEPT {
                *kept += 1;
            } else {
                file.close();
            }
        }
        put_file(&mut self.state, tick, faults, |text, _| put_state(name, text, out));
    }
}

/// Reads a file that need not be there: subsystems and pools come and go.
fn put_file(
    file: &mut KeptFile,
    tick: &mut Tick,
    faults: &mut Faults,
    put: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<(), usize>,
) {
    let Tick { buffer, scratch, .. } = tick;
    match file.read(buffer) {
        Ok(text) => {
            if let Err(line) = put(text, scratch) {
                let expected = "expected names, types and whole numbers, after a line that says so";
                faults.note(|| CollectError::malformed(file.path(), line, expected));
            }
        }
        Err(error) => note_unless_gone(error, faults),
    }
}

fn note_unless_gone(error: ReadError, faults: &mut Faults) {
    if error.source.kind() != std::io::ErrorKind::NotFound {
        faults.note(|| error.into());
    }
}

impl Collector for Zfs {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        let left_out = self.pools.refresh(|_, may_be_folder| may_be_folder, Pool::new);
        let left_out = left_out.map_err(CollectError::absent_is_no_data)?;
        for Subsystem { name, help, file } in &mut self.subsystems {
            put_file(file, tick, &mut faults, |text, scratch| put_subsystem(name, help, text, scratch, out));
        }
        let mut kept = 0;
        for (name, pool) in self.pools.iter_mut() {
            pool.put(name, &mut kept, tick, out, &mut faults);
        }
        if left_out > 0 {
            faults.note(|| CollectError::Other(format!("{left_out} pools beyond {MOST_POOLS}")));
        }
        faults.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{FlagValues, HostReader, Paths, Selection};
    use super::*;
    use crate::model::SeriesTable;

    /// Descriptors of this process below that folder; other tests have theirs elsewhere.
    fn open_below(folder: &Path) -> usize {
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        descriptors
            .filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|file| file.starts_with(folder)))
            .count()
    }

    #[test]
    fn many_datasets_leave_few_files_open() {
        let folder = tempfile::tempdir().unwrap();
        let datasets = MOST_KEPT + 100;
        for pool in ["one", "two"] {
            let pool = folder.path().join("spl/kstat/zfs").join(pool);
            std::fs::create_dir_all(&pool).unwrap();
            std::fs::write(pool.join("state"), "ONLINE\n").unwrap();
            for n in 0..datasets / 2 {
                let text = format!("0 1\nname type data\ndataset_name 7 d{n}\nreads 4 {n}\n");
                std::fs::write(pool.join(format!("objset-{n:#x}")), text).unwrap();
            }
        }
        let paths = Paths { procfs: folder.path().to_owned(), ..Paths::default() };
        let table = Arc::new(SeriesTable::default());
        let enabled = |name: &str, _: bool| name == "zfs";
        let mut reader = HostReader::new(&paths, &FlagValues::default(), enabled, &[], &table).unwrap();
        for _ in 0..3 {
            let mut batches = Vec::new();
            reader.run(&Selection::All, 0, Default::default, |batch| batches.push(batch));
            // A value a dataset, and seven states a pool.
            assert_eq!(batches[0].values.len(), datasets + 2 * 7);
            // The states, the folder of the pools, and that of each pool.
            assert_eq!(open_below(folder.path()), MOST_KEPT + 2 + 3);
        }
    }
}
