//! Counters of the whole system, from /proc/stat (proc_stat(5)), which it shares with `cpu`.
//! Cost a tick: nothing beside that read.

use super::error::Faults;
use super::{CollectError, Collector, Flag, FlagDefault, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::text;

const SOFTIRQ_FLAG: &str = "collector.stat.softirq";

static INTERRUPTS: Family = Family::counter("node_intr_total", "Interrupts served.", &[]);
static SWITCHES: Family = Family::counter("node_context_switches_total", "Context switches.", &[]);
static FORKS: Family = Family::counter("node_forks_total", "Processes and threads created.", &[]);
static BOOT_TIME: Family =
    Family::gauge("node_boot_time_seconds", "When the host was booted, in seconds since 1970.", &[]);
static RUNNING: Family = Family::gauge("node_procs_running", "Tasks that run or could run.", &[]);
static BLOCKED: Family = Family::gauge("node_procs_blocked", "Tasks that wait for I/O.", &[]);
static SOFTIRQS: Family = Family::counter("node_softirqs_total", "Soft interrupts served.", &["vector"]);

/// Lines of one number, or of which the first number is the sum of the others.
static LINES: &[(&[u8], &Family)] = &[
    (b"intr", &INTERRUPTS),
    (b"ctxt", &SWITCHES),
    (b"processes", &FORKS),
    (b"btime", &BOOT_TIME),
    (b"procs_running", &RUNNING),
    (b"procs_blocked", &BLOCKED),
];

/// The vectors of the softirq line, after the sum; include/linux/interrupt.h.
const VECTORS: [&str; 10] =
    ["hi", "timer", "net_tx", "net_rx", "block", "block_iopoll", "tasklet", "sched", "hrtimer", "rcu"];

pub(super) static COLLECTOR: Registration = Registration {
    name: "stat",
    default_enabled: true,
    flags: &[Flag::new(SOFTIRQ_FLAG, FlagDefault::Switch(false), "Give the soft interrupts by vector too.")],
    families: &[&INTERRUPTS, &SWITCHES, &FORKS, &BOOT_TIME, &RUNNING, &BLOCKED, &SOFTIRQS],
    new: |setup| Ok(Box::new(Stat { softirqs: setup.flags.switch(SOFTIRQ_FLAG) })),
};

struct Stat {
    softirqs: bool,
}

impl Collector for Stat {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let (path, text) = tick.stat.read()?;
        let mut faults = Faults::default();
        for (number, line) in text::ended_lines(text).enumerate() {
            let mut words = text::words(line);
            let Some(key) = words.next() else { continue };
            if let Some((_, family)) = LINES.iter().find(|(name, _)| *name == key) {
                match words.next().and_then(text::parse_u64) {
                    Some(value) => out.put(family, &[], value as f64),
                    None => {
                        faults.note(|| CollectError::malformed(path, number + 1, "expected a whole number"));
                    }
                }
            } else if self.softirqs && key == b"softirq" {
                for (vector, word) in VECTORS.iter().zip(words.skip(1)) {
                    match text::parse_u64(word) {
                        Some(value) => out.put(&SOFTIRQS, &[vector], value as f64),
                        None => faults
                            .note(|| CollectError::malformed(path, number + 1, "expected whole numbers")),
                    }
                }
            }
        }
        faults.finish()
    }
}
