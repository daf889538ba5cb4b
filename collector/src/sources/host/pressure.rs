//! Pressure stall information, from /proc/pressure (Documentation/accounting/psi.rst). Cost a tick: four small
//! reads. Kernels before 4.20, and those booted with psi=0, have none.

use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::{KeptFile, ReadError};
use crate::sys::text;

static CPU_WAITING: Family = Family::counter(
    "node_pressure_cpu_waiting_seconds_total",
    "Time in which some task waited for a CPU.",
    &[],
);
static IO_WAITING: Family =
    Family::counter("node_pressure_io_waiting_seconds_total", "Time in which some task waited for I/O.", &[]);
static IO_STALLED: Family = Family::counter(
    "node_pressure_io_stalled_seconds_total",
    "Time in which all tasks that were not idle waited for I/O.",
    &[],
);
static MEMORY_WAITING: Family = Family::counter(
    "node_pressure_memory_waiting_seconds_total",
    "Time in which some task waited for memory.",
    &[],
);
static MEMORY_STALLED: Family = Family::counter(
    "node_pressure_memory_stalled_seconds_total",
    "Time in which all tasks that were not idle waited for memory.",
    &[],
);
static IRQ_STALLED: Family = Family::counter(
    "node_pressure_irq_stalled_seconds_total",
    "Time in which all tasks that were not idle waited for interrupts to be served.",
    &[],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "pressure",
    default_enabled: true,
    flags: &[],
    families: &[&CPU_WAITING, &IO_WAITING, &IO_STALLED, &MEMORY_WAITING, &MEMORY_STALLED, &IRQ_STALLED],
    new: |setup| {
        let resource = |name, some, full, optional| Resource {
            file: KeptFile::whole(setup.paths.proc("pressure").join(name)),
            some,
            full,
            optional,
        };
        Ok(Box::new(Pressure {
            resources: [
                resource("cpu", Some(&CPU_WAITING), None, false),
                resource("io", Some(&IO_WAITING), Some(&IO_STALLED), false),
                resource("memory", Some(&MEMORY_WAITING), Some(&MEMORY_STALLED), false),
                resource("irq", None, Some(&IRQ_STALLED), true),
            ],
        }))
    },
};

struct Pressure {
    resources: [Resource; 4],
}

struct Resource {
    file: KeptFile,
    /// The families of its two lines.
    some: Option<&'static Family>,
    full: Option<&'static Family>,
    /// Kernels built without accounting of interrupt time lack it.
    optional: bool,
}

impl Collector for Pressure {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        for Resource { file, some, full, optional } in &mut self.resources {
            let text = match file.read(&mut tick.buffer) {
                Err(error) if *optional && is_missing(&error) => continue,
                other => other.map_err(no_pressure)?,
            };
            for (kind, family) in [("some", *some), ("full", *full)] {
                let Some(family) = family else { continue };
                let total = parse_total(text, kind).ok_or_else(|| {
                    CollectError::malformed(
                        file.path(),
                        1,
                        format!("expected a line `{kind} ... total=number`"),
                    )
                })?;
                // In this order, so that the last digits are as in node_exporter.
                out.put(family, &[], total as f64 / 1000.0 / 1000.0);
            }
        }
        Ok(())
    }
}

/// The kernel answers EOPNOTSUPP where it was booted with psi=0.
fn is_missing(error: &ReadError) -> bool {
    matches!(error.source.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP))
}

fn no_pressure(error: ReadError) -> CollectError {
    if is_missing(&error) {
        return CollectError::Absent(error);
    }
    CollectError::Read(error)
}

/// Microseconds of the line that begins with `kind`.
fn parse_total(text: &[u8], kind: &str) -> Option<u64> {
    let line = text::lines(text).find(|line| text::words(line).next() == Some(kind.as_bytes()))?;
    text::words(line).find_map(|word| text::parse_u64(word.strip_prefix(b"total=")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_by_kind() {
        let text = b"some avg10=0.18 avg60=0.34 avg300=0.10 total=159886802\nfull avg10=0.18 total=7\n";
        assert_eq!(parse_total(text, "some"), Some(159_886_802));
        assert_eq!(parse_total(text, "full"), Some(7));
        assert_eq!(parse_total(b"full avg10=0.00 total=8494", "some"), None);
        assert_eq!(parse_total(b"some avg10=0.18 avg60=0", "some"), None);
    }
}
