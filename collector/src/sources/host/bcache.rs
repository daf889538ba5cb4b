//! bcache: caches of block devices and what they cache, from /sys/fs/bcache/UUID. Cost a tick: a listing, ten
//! reads for each set of caches, nine for each backing device, and three for each cache; with
//! --collector.bcache.priorityStats one more, for which the kernel sorts all buckets of the cache.

mod human;

use std::path::Path;

use human::{magnitude, signed_magnitude};

use super::devices::{Devices, Normal, Numbers, families, number_after, rows};
use super::error::Faults;
use super::{CollectError, Collector, Flag, FlagDefault, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::sysfs::Attribute;
use crate::sys::text;

const PRIORITY_FLAG: &str = "collector.bcache.priorityStats";

rows! { SET &["uuid"];
    gauge "average_key_size" "node_bcache_average_key_size_sectors" magnitude, "Average data of a key of the tree, in sectors.";
    gauge "btree_cache_size" "node_bcache_btree_cache_size_bytes" magnitude, "Memory that caches the tree, in bytes.";
    gauge "cache_available_percent" "node_bcache_cache_available_percent" magnitude, "Part of the cache without dirty data, in percent.";
    gauge "congested" "node_bcache_congested" magnitude, "How congested the cache is.";
    gauge "root_usage_percent" "node_bcache_root_usage_percent" magnitude, "How full the root of the tree is, in percent.";
    gauge "tree_depth" "node_bcache_tree_depth" magnitude, "Depth of the tree.";
    gauge "internal/active_journal_entries" "node_bcache_active_journal_entries" magnitude, "Entries of the journal that are newer than the tree.";
    gauge "internal/btree_nodes" "node_bcache_btree_nodes" magnitude, "Nodes of the tree.";
    gauge "internal/btree_read_average_duration_us" "node_bcache_btree_read_average_duration_seconds" nanoseconds, "Average time to read a node of the tree, in seconds.";
    counter "internal/cache_read_races" "node_bcache_cache_read_races_total" magnitude, "Reads from the cache whose bucket was used anew meanwhile.";
}

const BACKING_LABELS: &[&str] = &["backing_device", "uuid"];

rows! { BACKING BACKING_LABELS;
    gauge "dirty_data" "node_bcache_dirty_data_bytes" magnitude, "Data in the cache that the backing device lacks, in bytes.";
    counter "stats_total/bypassed" "node_bcache_bypassed_bytes_total" magnitude, "Bytes read and written past the cache.";
    counter "stats_total/cache_hits" "node_bcache_cache_hits_total" magnitude, "Reads and writes that the cache served.";
    counter "stats_total/cache_misses" "node_bcache_cache_misses_total" magnitude, "Reads and writes that the cache could not serve.";
    counter "stats_total/cache_bypass_hits" "node_bcache_cache_bypass_hits_total" magnitude, "Reads and writes past the cache of what it had.";
    counter "stats_total/cache_bypass_misses" "node_bcache_cache_bypass_misses_total" magnitude, "Reads and writes past the cache of what it had not.";
    counter "stats_total/cache_miss_collisions" "node_bcache_cache_miss_collisions_total" magnitude, "Misses whose data a write had put into the cache meanwhile.";
    counter "stats_total/cache_readaheads" "node_bcache_cache_readaheads_total" magnitude, "Times that more was read ahead into the cache.";
}

/// Lines of writeback_rate_debug.
static WRITEBACK: &[(&str, Family)] = &[
    (
        "target",
        Family::gauge(
            "node_bcache_dirty_target_bytes",
            "Dirty data that is aimed at, in bytes.",
            BACKING_LABELS,
        ),
    ),
    (
        "rate",
        Family::gauge(
            "node_bcache_writeback_rate",
            "Rate at which dirty data is written back, in bytes per second.",
            BACKING_LABELS,
        ),
    ),
    (
        "proportional",
        Family::gauge(
            "node_bcache_writeback_rate_proportional_term",
            "What the distance from the target adds to the rate.",
            BACKING_LABELS,
        ),
    ),
    (
        "integral",
        Family::gauge(
            "node_bcache_writeback_rate_integral_term",
            "What the distance from the target over time adds to the rate.",
            BACKING_LABELS,
        ),
    ),
    (
        "change",
        Family::gauge(
            "node_bcache_writeback_change",
            "Last change of the rate at which dirty data is written back.",
            BACKING_LABELS,
        ),
    ),
];

const CACHE_LABELS: &[&str] = &["cache_device", "uuid"];

rows! { CACHE CACHE_LABELS;
    gauge "io_errors" "node_bcache_io_errors" magnitude, "Errors of the cache device; older ones count less.";
    counter "metadata_written" "node_bcache_metadata_written_bytes_total" magnitude, "Bytes written to the cache that are not data.";
    counter "written" "node_bcache_written_bytes_total" magnitude, "Bytes of data written to the cache.";
}

/// Lines of priority_stats.
static PRIORITY: &[(&str, Family)] = &[
    (
        "Unused",
        Family::gauge(
            "node_bcache_priority_stats_unused_percent",
            "Part of the cache that holds no data, in percent.",
            CACHE_LABELS,
        ),
    ),
    (
        "Metadata",
        Family::gauge(
            "node_bcache_priority_stats_metadata_percent",
            "Part of the cache that holds metadata, in percent.",
            CACHE_LABELS,
        ),
    ),
];

pub(super) static COLLECTOR: Registration = Registration {
    name: "bcache",
    default_enabled: true,
    flags: &[Flag::new(
        PRIORITY_FLAG,
        FlagDefault::Switch(false),
        "Give the statistics of priorities too, which are expensive.",
    )],
    families: &families::<28>(
        &[SET, BACKING, CACHE],
        &[
            &WRITEBACK[0].1,
            &WRITEBACK[1].1,
            &WRITEBACK[2].1,
            &WRITEBACK[3].1,
            &WRITEBACK[4].1,
            &PRIORITY[0].1,
            &PRIORITY[1].1,
        ],
    ),
    new: |setup| {
        let sets = Devices::new(setup.paths.sys("fs/bcache"));
        Ok(Box::new(Bcache { sets, priority: setup.flags.switch(PRIORITY_FLAG) }))
    },
};

struct Bcache {
    sets: Devices<CacheSet>,
    priority: bool,
}

struct CacheSet {
    uuid: String,
    numbers: Numbers,
    members: Devices<Member>,
}

/// A backing device or a cache.
struct Member {
    name: String,
    numbers: Numbers,
    /// A file of lines `Name: value`, and which of them are given.
    lines: Option<(Attribute, &'static [(&'static str, Family)])>,
}

impl Collector for Bcache {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        for set in self.sets.refresh_if_any(CacheSet::new)? {
            let CacheSet { uuid, numbers, members } = set;
            numbers.put(&[uuid], &Normal::NEVER, tick, out, &mut faults);
            // Devices are attached and detached by hand: a listing is cheap beside what is read.
            match members.refresh(|name, folder| Member::new(name, folder, self.priority)) {
                Ok(members) => members.iter_mut().for_each(|member| member.put(uuid, tick, out, &mut faults)),
                Err(error) => faults.note(|| error),
            }
        }
        faults.finish()
    }
}

impl CacheSet {
    fn new(name: &str, folder: &Path) -> Option<Self> {
        // Beside the sets there are files to register devices with.
        name.contains('-').then(|| CacheSet {
            uuid: name.to_owned(),
            numbers: Numbers::new(SET, folder),
            members: Devices::new(folder),
        })
    }
}

impl Member {
    fn new(name: &str, folder: &Path, priority: bool) -> Option<Self> {
        let (rows, lines) = if number_after(name, "bdev").is_some() {
            (BACKING, Some((Attribute::new(folder.join("writeback_rate_debug")), WRITEBACK)))
        } else {
            number_after(name, "cache")?;
            (CACHE, priority.then(|| (Attribute::new(folder.join("priority_stats")), PRIORITY)))
        };
        Some(Member { name: name.to_owned(), numbers: Numbers::new(rows, folder), lines })
    }

    fn put(&mut self, uuid: &str, tick: &mut Tick, out: &mut Recorder, faults: &mut Faults) {
        let labels = [self.name.as_str(), uuid];
        self.numbers.put(&labels, &Normal::NEVER, tick, out, faults);
        let Some((file, families)) = &mut self.lines else { return };
        let text = match file.read(&mut tick.buffer) {
            Ok(text) => text.unwrap_or_default(),
            Err(error) => return faults.note(|| error.into()),
        };
        for (number, line) in text::lines(text).enumerate() {
            let known =
                families.iter().find_map(|(name, family)| Some((text::value_of(line, name)?, family)));
            let Some((value, family)) = known else { continue };
            match signed_magnitude(value) {
                Some(value) => out.put(family, &labels, value),
                None => faults.note(|| CollectError::malformed(file.path(), number + 1, "expected a number")),
            }
        }
    }
}

/// The file's name says microseconds, but these are nanoseconds.
fn nanoseconds(word: &[u8]) -> Option<f64> {
    magnitude(word).map(|number| number * 1e-9)
}
