//! Memory by zone, from /proc/zoneinfo (proc_zoneinfo(5)): a block a zone, a key and a number a line.
//! Cost a tick: one read a page, and one pass. Keys that are not in the table are left out.

use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick, tables};
use crate::model::{Family, Kind, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

const ZONE: &[&str] = &["node", "zone"];

macro_rules! fields {
    ($($key:literal => $kind:ident $name:literal, $help:literal;)*) => {
        /// A key of the file, and its family.
        static FIELDS: [(&str, Family); 34] =
            [$(($key, Family::new(Kind::$kind, concat!("node_zoneinfo_", $name), $help, ZONE))),*];
    };
}

fields! {
    "min" => Gauge "min_pages", "Watermark below which only urgent requests get pages.";
    "low" => Gauge "low_pages", "Watermark below which memory is reclaimed.";
    "high" => Gauge "high_pages", "Watermark above which reclaiming ends.";
    "scanned" => Gauge "scanned_pages", "Pages scanned since the last reclaim.";
    "spanned" => Gauge "spanned_pages", "Pages from the begin to the end of the zone, with its holes.";
    "present" => Gauge "present_pages", "Pages that are there, without holes.";
    "managed" => Gauge "managed_pages", "Pages that the allocator manages.";
    "nr_free_pages" => Gauge "nr_free_pages", "Free pages.";
    "nr_active_anon" => Gauge "nr_active_anon_pages", "Anonymous pages that were used lately.";
    "nr_inactive_anon" => Gauge "nr_inactive_anon_pages", "Anonymous pages that were not used lately.";
    "nr_isolated_anon" => Gauge "nr_isolated_anon_pages", "Anonymous pages that are off their list for a moment.";
    "nr_anon_pages" => Gauge "nr_anon_pages", "Anonymous pages that are mapped.";
    "nr_anon_transparent_hugepages" => Gauge "nr_anon_transparent_hugepages", "Transparent huge pages that are anonymous.";
    "nr_active_file" => Gauge "nr_active_file_pages", "Pages of files that were used lately.";
    "nr_inactive_file" => Gauge "nr_inactive_file_pages", "Pages of files that were not used lately.";
    "nr_isolated_file" => Gauge "nr_isolated_file_pages", "Pages of files that are off their list for a moment.";
    "nr_file_pages" => Gauge "nr_file_pages", "Pages of files.";
    "nr_slab_reclaimable" => Gauge "nr_slab_reclaimable_pages", "Pages of slabs that can be reclaimed.";
    "nr_slab_unreclaimable" => Gauge "nr_slab_unreclaimable_pages", "Pages of slabs that can't be reclaimed.";
    "nr_mlock_stack" => Gauge "nr_mlock_stack_pages", "Pages locked with mlock and taken off the lists of pages to reclaim.";
    "nr_kernel_stack" => Gauge "nr_kernel_stacks", "Kernel stacks, as the kernel counts them: KiB of them since Linux 4.8.";
    "nr_mapped" => Gauge "nr_mapped_pages", "Pages of files that are mapped.";
    "nr_dirty" => Gauge "nr_dirty_pages", "Pages that wait to be written.";
    "nr_writeback" => Gauge "nr_writeback_pages", "Pages that are being written.";
    "nr_unevictable" => Gauge "nr_unevictable_pages", "Pages that can't be evicted.";
    "nr_shmem" => Gauge "nr_shmem_pages", "Pages of shared memory and tmpfs.";
    "nr_dirtied" => Counter "nr_dirtied_total", "Pages that became dirty.";
    "nr_written" => Counter "nr_written_total", "Pages that were written.";
    "numa_hit" => Counter "numa_hit_total", "Pages allocated on the node that was asked for.";
    "numa_miss" => Counter "numa_miss_total", "Pages allocated here though another node was asked for.";
    "numa_foreign" => Counter "numa_foreign_total", "Pages allocated on another node though this one was asked for.";
    "numa_interleave" => Counter "numa_interleave_total", "Pages allocated here as interleaving wants it.";
    "numa_local" => Counter "numa_local_total", "Pages allocated by a process that ran on this node.";
    "numa_other" => Counter "numa_other_total", "Pages allocated by a process that ran on another node.";
}

macro_rules! protection {
    ($($number:literal)*) => {
        /// The numbers of the line `protection`, by their position. No kernel has more zones.
        static PROTECTION: [(u8, Family); 8] = [$((
            $number,
            Family::gauge(
                concat!("node_zoneinfo_protection_", $number),
                concat!("Pages kept from requests that could also be served by zone ", $number, " of this node."),
                ZONE,
            ),
        )),*];
    };
}

protection! { 0 1 2 3 4 5 6 7 }

static FAMILIES: [&Family; 42] = tables::join(&[&tables::families(&FIELDS), &tables::families(&PROTECTION)]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "zoneinfo",
    default_enabled: false,
    flags: &[],
    families: &FAMILIES,
    // A record is a whole node, longer than a page: the end of the file is proved by one more read.
    new: |setup| Ok(Box::new(Zoneinfo { file: KeptFile::new(setup.paths.proc("zoneinfo")) })),
};

struct Zoneinfo {
    file: KeptFile,
}

impl Collector for Zoneinfo {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let text = self.file.read(&mut tick.buffer)?;
        let mut faults = Faults::default();
        let mut zone = None;
        for (number, line) in text::lines(text).enumerate() {
            let fault = |expected: &str| CollectError::malformed(self.file.path(), number + 1, expected);
            if line.starts_with(b"Node") || zone.is_none() {
                zone = text::parse_node_zone(line).map(|(node, zone, _)| [node, zone]);
                if zone.is_none() {
                    faults.note(|| fault("expected `Node 0, zone Name`"));
                }
                continue;
            }
            // A last line without its end is torn, unless a bracket proves that it is whole.
            let is_last = std::ptr::eq(line.as_ptr_range().end, text.as_ptr_range().end);
            let is_torn = is_last && !line.ends_with(b")");
            if let Some(zone) = &zone
                && (is_torn || put_line(zone, line, out).is_none())
            {
                faults.note(|| fault("expected a key and a whole number, or `protection` and numbers"));
            }
        }
        faults.finish()
    }
}

/// `      nr_free_pages 2949`, or `        protection: (0, 2039, 31932)`.
fn put_line(zone: &[&str; 2], line: &[u8], out: &mut Recorder) -> Option<()> {
    let mut words = text::words(line);
    let Some(key) = words.next() else { return Some(()) };
    if key == b"protection:" {
        let numbers = text::trim(line).strip_prefix(b"protection:")?;
        let numbers = text::trim(numbers).strip_prefix(b"(")?.strip_suffix(b")")?;
        for (position, number) in numbers.split(|&b| b == b',').enumerate() {
            let (_, family) = PROTECTION.get(position)?;
            out.put(family, zone, text::parse_i64(text::trim(number))? as f64);
        }
        return Some(());
    }
    let Some((_, family)) = FIELDS.iter().find(|(name, _)| name.as_bytes() == key) else { return Some(()) };
    out.put(family, zone, text::parse_i64(words.next()?)? as f64);
    Some(())
}
