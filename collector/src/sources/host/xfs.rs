//! Statistics of XFS file systems, from /sys/fs/xfs/DEVICE/stats/stats: lines of a word and numbers.
//! Cost a tick: a listing, and a read for each file system.

use std::path::Path;

use super::devices::Devices;
use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::sysfs::Attribute;
use crate::sys::text;

/// A line of the file, and a family for each of its first numbers.
macro_rules! lines {
    ($($line:literal: [$($name:literal $help:literal;)*])*) => {
        static LINES: &[(&str, &[Family])] = &[$(($line, &[$(
            Family::counter(concat!("node_xfs_", $name, "_total"), $help, &["device"])
        ),*])),*];
        static FAMILIES: [&Family; NUMBERS] = families();
        const NUMBERS: usize = [$($($name),*),*].len();
    };
}

lines! {
    "extent_alloc": [
    "extent_allocation_extents_allocated" "Extents allocated.";
    "extent_allocation_blocks_allocated" "Blocks allocated.";
    "extent_allocation_extents_freed" "Extents freed.";
    "extent_allocation_blocks_freed" "Blocks freed.";
    ]
    "abt": [
    "allocation_btree_lookups" "Lookups in the tree of free extents.";
    "allocation_btree_compares" "Compares in the tree of free extents.";
    "allocation_btree_records_inserted" "Records put into the tree of free extents.";
    "allocation_btree_records_deleted" "Records taken out of the tree of free extents.";
    ]
    "blk_map": [
    "block_mapping_reads" "Lookups of a file's blocks for a read.";
    "block_mapping_writes" "Lookups of a file's blocks for a write.";
    "block_mapping_unmaps" "Blocks of files unmapped.";
    "block_mapping_extent_list_insertions" "Extents put into files.";
    "block_mapping_extent_list_deletions" "Extents taken out of files.";
    "block_mapping_extent_list_lookups" "Lookups of extents of files.";
    "block_mapping_extent_list_compares" "Compares of extents of files.";
    ]
    "bmbt": [
    "block_map_btree_lookups" "Lookups in the trees of files' extents.";
    "block_map_btree_compares" "Compares in the trees of files' extents.";
    "block_map_btree_records_inserted" "Records put into the trees of files' extents.";
    "block_map_btree_records_deleted" "Records taken out of the trees of files' extents.";
    ]
    "dir": [
    "directory_operation_lookup" "Lookups of names that the cache of names did not have.";
    "directory_operation_create" "Names put into directories.";
    "directory_operation_remove" "Names taken out of directories.";
    "directory_operation_getdents" "Reads of directories.";
    ]
    "ig": [
    "inode_operation_attempts" "Lookups in the cache of inodes.";
    "inode_operation_found" "Inodes found in the cache.";
    "inode_operation_recycled" "Inodes found in the cache that were about to be given up.";
    "inode_operation_missed" "Inodes not found in the cache.";
    "inode_operation_duplicates" "Inodes not found in the cache that another put there meanwhile.";
    "inode_operation_reclaims" "Inodes taken out of the cache.";
    "inode_operation_attribute_changes" "Changes of the attributes of inodes.";
    ]
    "rw": [
    "write_calls" "Writes to files.";
    "read_calls" "Reads of files.";
    ]
    "vnodes": [
    "vnode_active" "Inodes that are not on a free list.";
    "vnode_allocate" "Inodes (vnodes) allocated.";
    "vnode_get" "References taken to inodes (vnodes) that were not in use.";
    "vnode_hold" "References taken to inodes (vnodes).";
    "vnode_release" "References to inodes (vnodes) given up.";
    "vnode_reclaim" "Inodes (vnodes) reclaimed.";
    "vnode_remove" "Inodes (vnodes) removed.";
    ]
}

const fn families() -> [&'static Family; NUMBERS] {
    let (mut all, mut count) = ([&LINES[0].1[0]; NUMBERS], 0);
    let mut line = 0;
    while line < LINES.len() {
        let mut number = 0;
        while number < LINES[line].1.len() {
            all[count] = &LINES[line].1[number];
            (count, number) = (count + 1, number + 1);
        }
        line += 1;
    }
    all
}

pub(super) static COLLECTOR: Registration = Registration {
    name: "xfs",
    default_enabled: true,
    flags: &[],
    families: &FAMILIES,
    new: |setup| Ok(Box::new(Xfs { file_systems: Devices::new(setup.paths.sys("fs/xfs")) })),
};

struct Xfs {
    file_systems: Devices<FileSystem>,
}

struct FileSystem {
    device: String,
    stats: Attribute,
}

impl Collector for Xfs {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        let file_systems = self.file_systems.refresh_if_any(|name: &str, folder: &Path| {
            Some(FileSystem { device: name.to_owned(), stats: Attribute::new(folder.join("stats/stats")) })
        })?;
        for FileSystem { device, stats } in file_systems {
            let text = match stats.read(&mut tick.buffer) {
                Ok(Some(text)) => text,
                Ok(None) => continue,
                Err(error) => {
                    faults.note(|| error.into());
                    continue;
                }
            };
            for (number, line) in text::lines(text).enumerate() {
                if put_line(line, device, out).is_none() {
                    let expected = "expected a word and as many numbers as it has";
                    faults.note(|| CollectError::malformed(stats.path(), number + 1, expected));
                }
            }
        }
        faults.finish()
    }
}

/// Gives the numbers of a line, if it is one that is given. `None` where it is not as it should be.
fn put_line(line: &[u8], device: &str, out: &mut Recorder) -> Option<()> {
    let mut words = text::words(line);
    let name = words.next()?;
    let Some((_, families)) = LINES.iter().find(|(known, _)| known.as_bytes() == name) else {
        return Some(());
    };
    // All or none: a line that was cut must not count as a shorter one.
    let mut rest = words.clone();
    families.iter().try_for_each(|_| text::parse_u64(rest.next()?).map(drop))?;
    for (family, word) in families.iter().zip(words) {
        out.put(family, &[device], text::parse_u64(word)? as f64);
    }
    Some(())
}
