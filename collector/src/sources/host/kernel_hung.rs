//! Tasks that hung, from /proc/sys/kernel/hung_task_detect_count (Linux 6.13 and newer, with the detector of hung
//! tasks built in). Cost a tick: one read.

use super::number_file::read_u64;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;

static HUNG: Family = Family::counter(
    "node_kernel_hung_tasks_total",
    "Tasks that the kernel found blocked for longer than kernel.hung_task_timeout_secs.",
    &[],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "kernel_hung",
    default_enabled: true,
    flags: &[],
    families: &[&HUNG],
    new: |setup| {
        let file = KeptFile::whole(setup.paths.proc("sys/kernel/hung_task_detect_count"));
        Ok(Box::new(KernelHung { file }))
    },
};

struct KernelHung {
    file: KeptFile,
}

impl Collector for KernelHung {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        out.put(&HUNG, &[], read_u64(&mut self.file, &mut tick.buffer)? as f64);
        Ok(())
    }
}
