//! The groups that are open, and their totals.

use std::io;

use super::super::CollectError;
use super::events::Kind;
use crate::model::{Dynamic, Family, Kind as FamilyKind, Recorder};
use crate::sys::perf::{self, Event, Group, Reading};
use crate::sys::text::Decimal;

/// What an event is given as.
#[derive(Clone)]
pub(super) enum Target {
    Known(&'static Family),
    /// `subsystem_event`.
    Tracepoint(String),
}

#[derive(Default)]
pub(super) struct Groups {
    open: Vec<Open>,
}

/// A group on a CPU, and what it had counted at the last tick.
struct Open {
    cpu: u32,
    label: Decimal,
    group: Group,
    enabled: u64,
    running: u64,
    counters: Vec<Counter>,
}

struct Counter {
    target: Target,
    value: u64,
    total: u64,
}

impl Groups {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Opens the events on those of `cpus` that have none open, and closes those of other CPUs. Returns why one
    /// was refused, where that is not because the machine lacks it.
    pub(super) fn open(&mut self, cpus: &[u32], events: &[(Kind, u8, Event, Target)]) -> Option<io::Error> {
        self.open.retain(|open| cpus.contains(&open.cpu));
        let known = self.open.len();
        let mut refused = None;
        for &cpu in cpus {
            if self.open[..known].iter().any(|open| open.cpu == cpu) {
                continue;
            }
            for together in events.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
                for part in together.chunks(perf::MAX_GROUP) {
                    if let Err(error) = self.open_group(cpu, part) {
                        refused = Some(error);
                    }
                }
            }
        }
        refused
    }

    /// What can't be counted with the others is counted alone.
    fn open_group(&mut self, cpu: u32, events: &[(Kind, u8, Event, Target)]) -> io::Result<()> {
        let mut leader: Option<Open> = None;
        let mut result = Ok(());
        for (_, _, event, target) in events {
            let counter = Counter { target: target.clone(), value: 0, total: 0 };
            if let Some(leader) = &mut leader
                && leader.group.join(*event).is_ok()
            {
                leader.counters.push(counter);
                continue;
            }
            match Group::open(cpu, *event) {
                Ok(group) => {
                    let label = Decimal::new(u64::from(cpu));
                    let counters = vec![counter];
                    let open = Open { cpu, label, group, enabled: 0, running: 0, counters };
                    self.open.extend(leader.replace(open));
                }
                Err(error) if is_lacking(&error) => {
                    let name = target.name();
                    log::debug!(collector = "perf", cpu, event = name, error:%; "the machine lacks an event");
                }
                Err(error) => result = Err(error),
            }
        }
        self.open.extend(leader);
        result
    }

    pub(super) fn put(&mut self, out: &mut Recorder) -> Result<(), CollectError> {
        let mut buffer = perf::buffer();
        for open in &mut self.open {
            let reading = open.group.read(&mut buffer);
            // A CPU that has just been taken off is gone from the list in the next tick.
            let Some(reading) = reading.map_err(|error| CollectError::call("read of perf events", &error))?
            else {
                continue;
            };
            open.take(&reading);
            let cpu = open.label.as_str();
            for Counter { target, total, .. } in &open.counters {
                match target {
                    Target::Known(family) => out.put(family, &[cpu], *total as f64),
                    Target::Tracepoint(name) => {
                        let sample = Dynamic {
                            name: &["node_perf_", name],
                            suffix: "",
                            help: &["Times that the tracepoint ", name, " was passed."],
                            kind: FamilyKind::Counter,
                            labels: &[("cpu", cpu)],
                        };
                        out.put_dynamic(&sample, *total as f64);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Target {
    fn name(&self) -> &str {
        match self {
            Target::Known(family) => family.name,
            Target::Tracepoint(name) => name,
        }
    }
}

/// Whether it says that there is no such event, or none on this CPU now.
fn is_lacking(error: &io::Error) -> bool {
    let lacking = [libc::ENOENT, libc::ENODEV, libc::EOPNOTSUPP, libc::EINVAL, libc::ENXIO];
    error.raw_os_error().is_some_and(|code| lacking.contains(&code))
}

impl Open {
    fn take(&mut self, reading: &Reading<'_>) {
        let enabled = reading.enabled.saturating_sub(self.enabled);
        let running = reading.running.saturating_sub(self.running);
        (self.enabled, self.running) = (reading.enabled, reading.running);
        for (counter, &value) in self.counters.iter_mut().zip(reading.values) {
            let grown = value.saturating_sub(counter.value);
            counter.value = value;
            counter.total = counter.total.wrapping_add(scale(grown, enabled, running));
        }
    }
}

/// What would have been counted in `enabled`, of which only `running` was.
fn scale(grown: u64, enabled: u64, running: u64) -> u64 {
    if running == 0 || running >= enabled {
        return grown;
    }
    let scaled = u128::from(grown) * u128::from(enabled) / u128::from(running);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_scaled_by_the_time_that_was_counted() {
        for (grown, enabled, running, scaled) in [
            (7, 100, 100, 7),
            (7, 100, 50, 14),
            (7, 100, 0, 7),
            (7, 0, 0, 7),
            (0, 100, 1, 0),
            (u64::MAX, u64::MAX, 1, u64::MAX),
        ] {
            assert_eq!(scale(grown, enabled, running), scaled);
        }
    }
}
