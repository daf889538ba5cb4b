//! Time that tasks ran and waited, from /proc/schedstat (Documentation/scheduler/sched-stats.rst).
//! Cost a tick: one read, which grows with CPUs and scheduling domains.

use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

static RUNNING: Family = Family::counter(
    "node_schedstat_running_seconds_total",
    "Time in which a task ran on this CPU.",
    &["cpu"],
);
static WAITING: Family = Family::counter(
    "node_schedstat_waiting_seconds_total",
    "Time that tasks spent runnable, waiting for this CPU; tasks in sum.",
    &["cpu"],
);
static TIMESLICES: Family =
    Family::counter("node_schedstat_timeslices_total", "Time slices run on this CPU.", &["cpu"]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "schedstat",
    default_enabled: true,
    flags: &[],
    families: &[&RUNNING, &WAITING, &TIMESLICES],
    new: |setup| Ok(Box::new(Schedstat { file: KeptFile::new(setup.paths.proc("schedstat")) })),
};

struct Schedstat {
    file: KeptFile,
}

impl Collector for Schedstat {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let text = self.file.read(&mut tick.buffer).map_err(CollectError::absent_is_no_data)?;
        let mut faults = Faults::default();
        for (number, line) in text::ended_lines(text).enumerate() {
            if !line.starts_with(b"cpu") {
                continue;
            }
            let Some(cpu) = parse_cpu(line) else {
                let expected = "expected `cpuN` and nine whole numbers";
                faults.note(|| CollectError::malformed(self.file.path(), number + 1, expected));
                continue;
            };
            out.put(&RUNNING, &[cpu.number], cpu.running_ns as f64 / 1e9);
            out.put(&WAITING, &[cpu.number], cpu.waiting_ns as f64 / 1e9);
            out.put(&TIMESLICES, &[cpu.number], cpu.timeslices as f64);
        }
        faults.finish()
    }
}

struct Cpu<'a> {
    number: &'a str,
    running_ns: u64,
    waiting_ns: u64,
    timeslices: u64,
}

/// A line `cpuN` with nine numbers, of which the last three count here.
fn parse_cpu(line: &[u8]) -> Option<Cpu<'_>> {
    let mut words = text::words(line);
    let number = words.next()?.strip_prefix(b"cpu")?;
    text::parse_u64(number)?;
    let mut numbers = words.skip(6).map(text::parse_u64);
    Some(Cpu {
        number: text::as_str(number)?,
        running_ns: numbers.next()??,
        waiting_ns: numbers.next()??,
        timeslices: numbers.next()??,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_three_of_nine() {
        let cpu = parse_cpu(b"cpu12 1 2 3 4 5 6 7000000000 8 9").unwrap();
        assert_eq!((cpu.number, cpu.running_ns, cpu.waiting_ns, cpu.timeslices), ("12", 7_000_000_000, 8, 9));
        for wrong in ["cpu0 1 2 3 4 5 6 7 8", "cpux 1 2 3 4 5 6 7 8 9", "cpu0"] {
            assert!(parse_cpu(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }
}
