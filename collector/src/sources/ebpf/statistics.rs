//! What the kernel counts about its programs, while kernel.bpf_stats_enabled is 1: a read for each program and tick.
//! While it is 0: one read a minute.

use std::path::Path;

use super::load::RunningProgram;
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

pub(super) static RUNS: Family = Family::counter(
    "collector_ebpf_program_runs_total",
    "How often a kernel program ran, while kernel.bpf_stats_enabled was 1.",
    &["probe", "program"],
);
pub(super) static RUN_TIME: Family = Family::counter(
    "collector_ebpf_program_run_seconds_total",
    "Time that a kernel program took, while kernel.bpf_stats_enabled was 1.",
    &["probe", "program"],
);

/// How often the reader looks whether the kernel counts the runs of its programs.
const CHECK_MS: i64 = 60_000;

pub(super) struct Statistics {
    switch: KeptFile,
    programs: Vec<(&'static str, &'static str, KeptFile)>,
    buffer: Vec<u8>,
    on: bool,
    next_check_ms: i64,
}

impl Statistics {
    /// `programs` are those that run, each with the name of its probe.
    pub(super) fn new<'a>(
        procfs: &Path,
        programs: impl Iterator<Item = (&'static str, &'a RunningProgram)>,
    ) -> Self {
        Statistics {
            switch: KeptFile::new(procfs.join("sys/kernel/bpf_stats_enabled")),
            programs: programs.map(|(probe, p)| (probe, p.name, KeptFile::new(&p.fdinfo))).collect(),
            buffer: Vec::new(),
            on: false,
            next_check_ms: i64::MIN,
        }
    }

    pub(super) fn read(&mut self, time_ms: i64, out: &mut Recorder) {
        if time_ms >= self.next_check_ms {
            self.next_check_ms = time_ms.saturating_add(CHECK_MS);
            self.on = self.switch.read(&mut self.buffer).is_ok_and(|text| text::trim(text) == b"1");
        }
        if !self.on {
            return;
        }
        for (probe, name, file) in &mut self.programs {
            let Some((runs, seconds)) = file.read(&mut self.buffer).ok().and_then(parse_fdinfo) else {
                continue;
            };
            out.put(&RUNS, &[probe, name], runs);
            out.put(&RUN_TIME, &[probe, name], seconds);
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
}
