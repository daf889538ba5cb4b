//! Memory pages that the kernel merged, from /sys/kernel/mm/ksm (Documentation/admin-guide/mm/ksm.rst).
//! Cost a tick: ten small reads. A file that an older kernel lacks is left out; one that is no number is an error.

use super::error::Faults;
use super::number_file::read_i64;
use super::{CollectError, Collector, Registration, Tick, tables};
use crate::model::{Family, Kind, Recorder};
use crate::sys::file::KeptFile;

macro_rules! files {
    ($($file:literal / $divisor:literal, $kind:ident $name:literal, $help:literal;)*) => {
        /// A file, its divisor, and its family.
        static FILES: [((&str, f64), Family); 10] = [$((
            ($file, $divisor),
            Family::new(Kind::$kind, concat!("node_ksmd_", $name), $help, &[]),
        )),*];
    };
}

files! {
    "full_scans" / 1.0, Counter "full_scans_total", "Times that all mergeable memory was scanned.";
    "general_profit" / 1.0, Gauge "general_profit_bytes",
        "Memory that merging saves, less what its own records take, in bytes; negative if it costs more.";
    "merge_across_nodes" / 1.0, Gauge "merge_across_nodes",
        "Whether pages of different NUMA nodes are merged: 1 if so, 0 if not.";
    "pages_shared" / 1.0, Gauge "pages_shared", "Merged pages in use.";
    "pages_sharing" / 1.0, Gauge "pages_sharing", "Places that use a merged page instead of one of their own.";
    "pages_to_scan" / 1.0, Gauge "pages_to_scan", "Pages to scan before the scanner sleeps.";
    "pages_unshared" / 1.0, Gauge "pages_unshared", "Pages that were compared and found unique.";
    "pages_volatile" / 1.0, Gauge "pages_volatile", "Pages that change too fast to be merged.";
    "run" / 1.0, Gauge "run", "What the scanner does: 0 stopped, 1 runs, 2 stopped and all pages unmerged.";
    "sleep_millisecs" / 1000.0, Gauge "sleep_seconds", "Time that the scanner sleeps between two runs.";
}

static FAMILIES: [&Family; 10] = tables::families(&FILES);

pub(super) static COLLECTOR: Registration = Registration {
    name: "ksmd",
    default_enabled: false,
    flags: &[],
    families: &FAMILIES,
    new: |setup| {
        let folder = setup.paths.sys("kernel/mm/ksm");
        let files = FILES.iter().map(|((name, _), _)| KeptFile::whole(folder.join(name))).collect();
        Ok(Box::new(Ksmd { files }))
    },
};

struct Ksmd {
    /// In the order of [`FILES`].
    files: Vec<KeptFile>,
}

impl Collector for Ksmd {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        let mut absent = None;
        let mut found = false;
        for (((_, divisor), family), file) in FILES.iter().zip(&mut self.files) {
            match read_i64(file, &mut tick.buffer) {
                Ok(number) => {
                    out.put(family, &[], number as f64 / divisor);
                    found = true;
                }
                Err(error) if error.is_no_data() => absent = Some(error),
                Err(error) => faults.note(|| error),
            }
        }
        if let Some(error) = absent.filter(|_| !found) {
            faults.note(|| error);
        }
        faults.finish()
    }
}
