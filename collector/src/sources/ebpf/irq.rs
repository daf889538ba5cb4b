//! The interrupt probe: how long the handlers of soft and hard interrupts take, and how long soft ones wait for theirs.
//!
//! Kernel interface: the tracepoints `softirq_raise`, `softirq_entry`, `softirq_exit`, `irq_handler_entry` and
//! `irq_handler_exit`, which need no offsets: it runs without BTF too, as raw tracepoints. /sys/kernel/irq/N/actions
//! once for each hard interrupt, for its name. Cost: some 60 ns each; off by default, because a router has millions.

use std::mem::offset_of;
use std::path::Path;

use collector_ebpf::irq::{HARD, HardCount, HostBank, SOFT, SoftBank};

use super::counts::{self, Histogram};
use super::ground::{Ground, Hook};
use super::kernel_map::KernelMap;
use super::layout::Constants;
use super::load::{ProbeError, RunningProgram};
use super::{Probe, Running};
use crate::model::{Family, Recorder};
use crate::sys::file::read_once;
use crate::sys::text;

static SOFT_LATENCY: Family = Family::histogram(
    "collector_softirq_latency_seconds",
    "Time from when a soft interrupt was raised until its handler began.",
    &["vector"],
);
static SOFT_DURATION: Family = Family::histogram(
    "collector_softirq_duration_seconds",
    "Time that the handler of a soft interrupt took.",
    &["vector"],
);
static HARD_DURATION: Family =
    Family::histogram("collector_irq_duration_seconds", "Time that a handler of a hard interrupt took.", &[]);
static HARD_RUNS: Family = Family::counter(
    "collector_irq_handlers_total",
    "How often a handler of a hard interrupt ran.",
    &["irq", "device"],
);
static HARD_TIME: Family = Family::counter(
    "collector_irq_handler_seconds_total",
    "Time that the handlers of a hard interrupt took.",
    &["irq", "device"],
);

pub(super) static PROBE: Probe = Probe {
    name: "irq",
    about: "time of soft and hard interrupts, and how long soft ones wait",
    default_on: false,
    hooks: &[HOOKS],
    needs: "nothing",
    families: &[&SOFT_LATENCY, &SOFT_DURATION, &HARD_DURATION, &HARD_RUNS, &HARD_TIME],
    start: |ground| Ok(Box::new(Irq::start(ground)?)),
};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../collector-ebpf/prebuilt/irq.o");

const HOOKS: &[Hook] = &[
    Hook::new("softirq_raise", "soft_raise", "raw_soft_raise"),
    Hook::new("softirq_entry", "soft_entry", "raw_soft_entry"),
    Hook::new("softirq_exit", "soft_exit", "raw_soft_exit"),
    Hook::new("irq_handler_entry", "hard_entry", "raw_hard_entry"),
    Hook::new("irq_handler_exit", "hard_end", "raw_hard_end"),
];

struct Irq {
    host: KernelMap,
    histogram: Histogram,
    /// Number and names of a hard interrupt that has run.
    lines: Vec<Option<(String, String)>>,
    programs: Vec<RunningProgram>,
}

impl Irq {
    fn start(ground: &mut Ground<'_>) -> Result<Self, ProbeError> {
        let loaded = ground.load(OBJECT, &Constants::new(), &[("HOST", ground.cpus)], HOOKS)?;
        Ok(Irq {
            host: loaded.map::<HostBank>("HOST", ground.cpus)?,
            histogram: Histogram::new(&counts::TIMES),
            lines: vec![None; HARD],
            programs: loaded.attach()?,
        })
    }
}

/// The names of those who handle a hard interrupt.
fn read_devices(irq: usize) -> String {
    let mut buffer = Vec::new();
    let path = format!("/sys/kernel/irq/{irq}/actions");
    let names = read_once(Path::new(&path), &mut buffer).unwrap_or_default();
    text::lossy(text::trim(names))
}

impl Running for Irq {
    fn programs(&self) -> &[RunningProgram] {
        &self.programs
    }

    fn read(&mut self, out: &mut Recorder) {
        for (family, within) in
            [(&SOFT_LATENCY, offset_of!(SoftBank, latency)), (&SOFT_DURATION, offset_of!(SoftBank, duration))]
        {
            for (number, vector) in SOFT.iter().enumerate() {
                let at = offset_of!(HostBank, soft) + number * size_of::<SoftBank>() + within;
                let snapshot = self.histogram.read(counts::rows(&self.host), at, at + 8);
                // A vector that is not used here stays away.
                if snapshot.count > 0 {
                    out.histogram(family, &[vector], &snapshot);
                }
            }
        }
        let at = offset_of!(HostBank, hard_duration);
        out.histogram(&HARD_DURATION, &[], &self.histogram.read(counts::rows(&self.host), at, at + 8));
        for (family, within) in
            [(&HARD_RUNS, offset_of!(HardCount, runs)), (&HARD_TIME, offset_of!(HardCount, ns))]
        {
            for irq in 0..HARD {
                let at = offset_of!(HostBank, hard) + irq * size_of::<HardCount>();
                if counts::total(&self.host, at + offset_of!(HardCount, runs)) == 0 {
                    continue;
                }
                let line = &mut self.lines[irq];
                let (number, device) = line.get_or_insert_with(|| (irq.to_string(), read_devices(irq)));
                let count = counts::total(&self.host, at + within);
                let value = if within == 0 { counts::number(count) } else { counts::seconds(count) };
                out.put(family, &[number, device], value);
            }
        }
    }

    fn lost(&self, lose: &mut dyn FnMut(&'static str, f64)) {
        lose("irq_numbers", counts::sum(&self.host, offset_of!(HostBank, hard_overflow)));
    }
}
