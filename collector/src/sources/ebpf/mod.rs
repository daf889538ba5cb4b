//! Kernel probes: programs that count in the kernel, and the reader of what they counted.
//!
//! Kernel interface: bpf(2) once at start; then memory that is shared with the kernel. A probe that can't run says why
//! once in the log, and in `collector_ebpf_probe_up` at every tick; it never stops the collector.

mod btf;
mod cgroup_names;
mod kernel_map;
mod load;
mod runqueue;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::load::{ProbeError, RunningProgram};
use self::runqueue::Runqueue;
use crate::model::{Batch, Family, Recorder, SeriesTable, Source};
use crate::sys::file::{KeptFile, read_once};
use crate::sys::{memory, text};

static UP: Family = Family::gauge(
    "collector_ebpf_probe_up",
    "Whether a kernel probe runs: 1 if so; if not 0, and why in one word.",
    &["probe", "reason"],
);
static RUNS: Family = Family::counter(
    "collector_ebpf_program_runs_total",
    "How often a kernel program ran, while kernel.bpf_stats_enabled was 1.",
    &["probe", "program"],
);
static RUN_TIME: Family = Family::counter(
    "collector_ebpf_program_run_seconds_total",
    "Time that a kernel program took, while kernel.bpf_stats_enabled was 1.",
    &["probe", "program"],
);

/// Every family that the probes give.
pub fn families() -> impl Iterator<Item = &'static Family> {
    [&UP, &RUNS, &RUN_TIME].into_iter().chain(runqueue::FAMILIES.iter().copied())
}

/// Where a kernel describes its own types.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// How waits are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// The kernel's own account where it keeps one, else time stamps.
    #[default]
    Auto,
    /// From `sched_info`, at the switch alone: cheaper, and equal to `run_delay` in /proc/PID/schedstat.
    Accounted,
    /// From time stamps taken at wakeups: dearer, and right about waits below some 16 us.
    Stamped,
    /// Programs that do nothing, to measure what attaching costs.
    Empty,
}

/// As which type of program the probe is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attachment {
    #[default]
    Auto,
    /// `tp_btf`: plain loads.
    Typed,
    /// `raw_tp`: a helper call for each member. For kernels without BTF of their own.
    Raw,
}

/// By which hierarchy cgroups are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupChoice {
    /// `cpu` of version 1 where it is mounted, else version 2.
    #[default]
    Auto,
    Off,
    /// Version 2: the cgroup that a task is in.
    Unified,
    /// The group that the scheduler queues a task in.
    Scheduler,
}

/// What the probes are started with.
#[derive(Clone, Debug)]
pub struct EbpfOptions {
    /// Off: nothing is loaded, and `reason` is `disabled`.
    pub enabled: bool,
    pub method: Method,
    pub attachment: Attachment,
    pub cgroups: CgroupChoice,
    /// Where the cgroup hierarchy is mounted, when mountinfo does not say it.
    pub cgroup_mount: Option<PathBuf>,
    pub procfs: PathBuf,
    /// The kernel's BTF. With any other file than [`KERNEL_BTF`] the probe is attached as `raw_tp`.
    pub btf: PathBuf,
    /// Lets the kernel side write messages to the log, at debug level. While it is off they cost nothing.
    pub messages: bool,
    /// Another object than the one that is built in.
    pub object: Option<Vec<u8>>,
}

impl Default for EbpfOptions {
    fn default() -> Self {
        EbpfOptions {
            enabled: true,
            method: Method::default(),
            attachment: Attachment::default(),
            cgroups: CgroupChoice::default(),
            cgroup_mount: None,
            procfs: "/proc".into(),
            btf: KERNEL_BTF.into(),
            messages: false,
            object: None,
        }
    }
}

/// How often the reader looks whether the kernel counts the runs of its programs.
const STATISTICS_CHECK_MS: i64 = 60_000;

/// The probes, running or not.
pub struct EbpfReader {
    runqueue: Result<Runqueue, ProbeError>,
    recorder: Recorder,
    statistics: Statistics,
}

impl EbpfReader {
    /// Loads the probes, which may take 100 ms. `labels` are those of the target: job, instance.
    ///
    /// It always gives a reader: one whose probe does not run says so at every tick.
    pub fn start(options: &EbpfOptions, labels: &[(String, String)], table: &Arc<SeriesTable>) -> Self {
        let runqueue = start_checked(options);
        // The kernel's BTF takes some 20 MiB while it is looked at.
        memory::give_back();
        match &runqueue {
            Ok(_) => log::debug!(probe = runqueue::NAME; "kernel probe runs"),
            Err(ProbeError::Disabled) => log::debug!(probe = runqueue::NAME; "kernel probe is switched off"),
            Err(error) => {
                log::warn!(probe = runqueue::NAME, reason = error.reason(), err:% = error; "kernel probe does not run");
            }
        }
        let programs = runqueue.as_ref().map(Runqueue::programs).unwrap_or_default();
        let statistics = Statistics::new(&options.procfs, programs);
        let source = Source { name: format!("ebpf/{}", runqueue::NAME), labels: labels.to_vec() };
        EbpfReader { runqueue, recorder: Recorder::new(Arc::new(source), table.clone()), statistics }
    }

    /// Pushes under other target labels from the next tick on.
    pub fn set_labels(&mut self, labels: &[(String, String)]) {
        let source = Source { name: format!("ebpf/{}", runqueue::NAME), labels: labels.to_vec() };
        self.recorder.set_source(Arc::new(source));
    }

    /// Why the run-queue probe does not run: the word of the label `reason`, and a sentence.
    pub fn failure(&self) -> Option<(&'static str, String)> {
        self.runqueue.as_ref().err().map(|error| (error.reason(), error.to_string()))
    }

    /// Reads what the probes have counted until `time_ms`; `slab` gives empty batches, `send` takes full ones.
    pub fn read(&mut self, time_ms: i64, slab: impl FnOnce() -> Batch, send: impl FnOnce(Batch)) {
        let out = &mut self.recorder;
        out.begin(slab(), time_ms);
        match &mut self.runqueue {
            Ok(probe) => {
                out.put(&UP, &[runqueue::NAME, ""], 1.0);
                probe.read(time_ms, out);
                self.statistics.read(time_ms, out);
            }
            Err(error) => out.put(&UP, &[runqueue::NAME, error.reason()], 0.0),
        }
        send(out.finish());
    }
}

fn start_checked(options: &EbpfOptions) -> Result<Runqueue, ProbeError> {
    if !options.enabled {
        return Err(ProbeError::Disabled);
    }
    let mut buffer = Vec::new();
    if let Ok(status) = read_once(Path::new("/proc/self/status"), &mut buffer)
        && let Some(missing) = load::missing_capabilities(status)
    {
        return Err(ProbeError::NotPermitted(missing.to_owned()));
    }
    // A library that trips over a damaged object costs the probe, not the collector.
    let start = std::panic::AssertUnwindSafe(|| Runqueue::start(options));
    std::panic::catch_unwind(start)
        .unwrap_or_else(|_| Err(ProbeError::Object("loading it panicked".to_owned())))
}

/// What the kernel counts about its programs, while kernel.bpf_stats_enabled is 1: a read for each program and tick.
/// While it is 0: one read a minute.
struct Statistics {
    switch: KeptFile,
    programs: Vec<(&'static str, KeptFile)>,
    buffer: Vec<u8>,
    on: bool,
    next_check_ms: i64,
}

impl Statistics {
    fn new(procfs: &Path, programs: &[RunningProgram]) -> Self {
        Statistics {
            switch: KeptFile::new(procfs.join("sys/kernel/bpf_stats_enabled")),
            programs: programs.iter().map(|p| (p.name, KeptFile::new(&p.fdinfo))).collect(),
            buffer: Vec::new(),
            on: false,
            next_check_ms: i64::MIN,
        }
    }

    fn read(&mut self, time_ms: i64, out: &mut Recorder) {
        if time_ms >= self.next_check_ms {
            self.next_check_ms = time_ms.saturating_add(STATISTICS_CHECK_MS);
            self.on = self.switch.read(&mut self.buffer).is_ok_and(|text| text::trim(text) == b"1");
        }
        if !self.on {
            return;
        }
        for (name, file) in &mut self.programs {
            let Some((runs, seconds)) = file.read(&mut self.buffer).ok().and_then(parse_fdinfo) else {
                continue;
            };
            out.put(&RUNS, &[runqueue::NAME, name], runs);
            out.put(&RUN_TIME, &[runqueue::NAME, name], seconds);
        }
    }
}

/// Number of runs and seconds, from the text of a program's fdinfo.
fn parse_fdinfo(info: &[u8]) -> Option<(f64, f64)> {
    let value = |key: &[u8]| {
        let line = text::lines(info).find_map(|line| line.strip_prefix(key))?;
        text::parse_f64(text::trim(line))
    };
    Some((value(b"run_cnt:")?, value(b"run_time_ns:")? / 1e9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fdinfo_gives_runs_and_time() {
        let text = b"pos:\t0\nprog_type:\t26\nrun_time_ns:\t1500000000\nrun_cnt:\t12\nrecursion_misses:\t0\n";
        assert_eq!(parse_fdinfo(text), Some((12.0, 1.5)));
        assert_eq!(parse_fdinfo(b"run_cnt:\t12\n"), None);
    }

    #[test]
    fn a_probe_that_is_switched_off_says_so() {
        let options = EbpfOptions { enabled: false, ..EbpfOptions::default() };
        let mut reader = EbpfReader::start(&options, &[], &Arc::default());
        let mut batch = Batch::default();
        reader.read(1, Batch::default, |full| batch = full);
        assert_eq!(batch.values, [0.0]);
        assert_eq!(reader.failure().unwrap().0, "disabled");
    }
}
