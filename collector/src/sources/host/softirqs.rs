//! Soft interrupts by CPU and kind, from /proc/softirqs: a line a kind, a column a CPU. Cost a tick: one read a page.

use super::cpu_columns::CpuColumns;
use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

static FUNCTIONS: Family = Family::counter(
    "node_softirqs_functions_total",
    "Soft interrupts that a CPU served, by kind.",
    &["cpu", "type"],
);

/// The kinds, as include/linux/interrupt.h names them; others are left out.
const KINDS: [&str; 10] =
    ["HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU"];

pub(super) static COLLECTOR: Registration = Registration {
    name: "softirqs",
    default_enabled: false,
    flags: &[],
    families: &[&FUNCTIONS],
    new: |setup| {
        let file = KeptFile::whole(setup.paths.proc("softirqs"));
        Ok(Box::new(Softirqs { file, cpus: CpuColumns::default() }))
    },
};

struct Softirqs {
    file: KeptFile,
    cpus: CpuColumns,
}

impl Collector for Softirqs {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let Softirqs { file, cpus } = self;
        let text = file.read(&mut tick.buffer)?;
        let mut faults = Faults::default();
        let mut lines = text::ended_lines(text).enumerate();
        let Some((_, header)) = lines.next() else {
            return Err(CollectError::malformed(file.path(), 1, "expected a line of CPUs"));
        };
        cpus.refresh(header);
        for (number, line) in lines {
            if put_kind(line, cpus, out).is_none() {
                let expected = "expected `NAME:` and a whole number for each CPU";
                faults.note(|| CollectError::malformed(file.path(), number + 1, expected));
            }
        }
        faults.finish()
    }
}

/// `   NET_RX:      43066     104508`
fn put_kind(line: &[u8], cpus: &CpuColumns, out: &mut Recorder) -> Option<()> {
    let colon = line.iter().position(|&b| b == b':')?;
    let Some(kind) = KINDS.iter().find(|kind| kind.as_bytes() == text::trim(&line[..colon])) else {
        return Some(());
    };
    let mut rest = &line[colon + 1..];
    for cpu in cpus.iter() {
        out.put(&FUNCTIONS, &[cpu, kind], text::take_u64(&mut rest)? as f64);
    }
    Some(())
}
