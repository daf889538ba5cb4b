//! Kernel probes: programs that count in the kernel, and the reader of what they counted.
//!
//! Kernel interface: bpf(2) once at start; then memory that is shared with the kernel. A probe that can't run says why
//! once in the log, and in `collector_ebpf_probe_up` at every tick; it never stops the collector.

mod block;
mod btf;
mod cgroup_names;
mod cgroup_slots;
mod counts;
mod drops;
mod filesystem;
mod ground;
mod irq;
mod kernel_map;
mod layout;
pub mod list;
mod listen;
mod load;
mod network;
mod oom;
mod process;
mod reclaim;
mod runqueue;
mod settle;
mod statistics;
mod syscalls;
mod tcp;
mod throttle;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::cgroup_names::Names;
use self::cgroup_slots::CgroupSlots;
use self::ground::{Ground, Hook};
use self::load::{ProbeError, RunningProgram};
use self::statistics::Statistics;
use crate::model::{Batch, Family, Recorder, SeriesTable, Source};
use crate::sys::file::read_once;
use crate::sys::{clock, memory};

static UP: Family = Family::gauge(
    "collector_ebpf_probe_up",
    "Whether a kernel probe runs: 1 if so; if not 0, and why in one word.",
    &["probe", "reason"],
);
static LOST: Family = Family::counter(
    "collector_ebpf_lost_total",
    "Events that a probe could not count in full, by probe and by the limit that they met.",
    &["probe", "limit"],
);

/// A row of the table: what runs, and what it needs.
pub struct Probe {
    /// File, flag, label and object.
    pub name: &'static str,
    /// What it measures, in a few words.
    pub about: &'static str,
    pub default_on: bool,
    /// Sets of hooks, of which the kernel's state chooses one or more.
    hooks: &'static [&'static [Hook]],
    /// What it takes from the kernel's BTF.
    pub needs: &'static str,
    pub families: &'static [&'static Family],
    start: fn(&mut Ground<'_>) -> Result<Box<dyn Running>, ProbeError>,
}

/// Every probe, in the order of their names.
pub static PROBES: &[&Probe] = &[
    &block::PROBE,
    &drops::PROBE,
    &filesystem::PROBE,
    &irq::PROBE,
    &listen::PROBE,
    &network::PROBE,
    &oom::PROBE,
    &process::PROBE,
    &reclaim::PROBE,
    &runqueue::PROBE,
    &syscalls::PROBE,
    &tcp::PROBE,
    &throttle::PROBE,
];

/// A probe in the kernel, and the reader of what it counts.
trait Running: Send {
    fn programs(&self) -> &[RunningProgram];
    /// Its slots, where it tells cgroups apart.
    fn cgroups(&mut self) -> Option<&mut CgroupSlots> {
        None
    }
    /// Gives what was counted until now; slots of cgroups have been summed before.
    fn read(&mut self, out: &mut Recorder);
    /// Calls with the name of each limit, and with how many events have met it.
    fn lost(&self, lose: &mut dyn FnMut(&'static str, f64));
}

/// The families that all probes share.
pub fn shared_families() -> impl Iterator<Item = &'static Family> {
    [&UP, &LOST, &statistics::RUNS, &statistics::RUN_TIME].into_iter()
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

/// What the probes are started with. By default it is the run queue alone.
#[derive(Clone, Debug)]
pub struct EbpfOptions {
    /// Names of the probes that run. Of the others nothing is loaded, and nothing is said.
    pub probes: Vec<String>,
    /// Nothing is loaded, whoever asks for it.
    pub off: bool,
    pub method: Method,
    /// Whether the run-queue probe counts time on a CPU, sleep and migrations too.
    pub times: bool,
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
            probes: vec!["runqueue".to_owned()],
            off: false,
            method: Method::default(),
            times: true,
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

impl EbpfOptions {
    /// Switches probes on and off by name.
    ///
    /// # Errors
    /// Where there is no probe of a name.
    pub fn choose(&mut self, choices: &[(String, bool)]) -> Result<(), String> {
        for (name, on) in choices {
            if !PROBES.iter().any(|probe| probe.name == name) {
                let names: Vec<_> = PROBES.iter().map(|probe| probe.name).collect();
                return Err(format!("no kernel probe {name:?}: there are {}", names.join(", ")));
            }
            self.probes.retain(|own| own != name);
            if *on && !self.off {
                self.probes.push(name.clone());
            }
        }
        Ok(())
    }
}

/// A probe that was asked for.
struct Slot {
    probe: &'static Probe,
    state: Result<Box<dyn Running>, ProbeError>,
    recorder: Recorder,
}

/// The probes, running or not.
pub struct EbpfReader {
    slots: Vec<Slot>,
    names: Names,
    recorder: Recorder,
    statistics: Statistics,
}

fn source(name: &str, labels: &[(String, String)]) -> Arc<Source> {
    Arc::new(Source { name: name.to_owned(), labels: labels.to_vec() })
}

/// Whether the series of a family count since the probes were loaded. Those of a cgroup begin anew when its name comes back.
fn counts_from_the_start(family: &str) -> bool {
    !family.starts_with("collector_cgroup_")
}

impl EbpfReader {
    /// Loads the probes, which may take some 100 ms. `labels` are those of the target: job, instance.
    ///
    /// It always gives a reader: one whose probes do not run says so at every tick.
    pub fn start(options: &EbpfOptions, labels: &[(String, String)], table: &Arc<SeriesTable>) -> Self {
        let start_ms = clock::now_ms();
        let wanted = PROBES.iter().filter(|probe| options.probes.iter().any(|name| name == probe.name));
        let (states, names) = start_all(options, &wanted.copied().collect::<Vec<_>>());
        // The kernel's BTF takes some 6 MiB while it is looked at.
        memory::give_back();
        let mut slots = Vec::new();
        for (probe, state) in states {
            match &state {
                Ok(_) => log::debug!(probe = probe.name; "kernel probe runs"),
                Err(error) => {
                    let (probe, reason) = (probe.name, error.reason());
                    log::log!(error.level(), probe, reason, err:% = error; "kernel probe does not run");
                }
            }
            let source = source(&format!("ebpf/{}", probe.name), labels);
            let mut recorder = Recorder::new(source, table.clone());
            recorder.set_start(start_ms, counts_from_the_start);
            slots.push(Slot { probe, state, recorder });
        }
        let programs = slots.iter().filter_map(|slot| Some((slot.probe.name, slot.state.as_ref().ok()?)));
        let programs = programs.flat_map(|(probe, state)| state.programs().iter().map(move |p| (probe, p)));
        let statistics = Statistics::new(&options.procfs, programs);
        let mut recorder = Recorder::new(source("ebpf", labels), table.clone());
        recorder.set_start(start_ms, counts_from_the_start);
        EbpfReader { slots, names, recorder, statistics }
    }

    /// Pushes under other target labels from the next tick on.
    pub fn set_labels(&mut self, labels: &[(String, String)]) {
        for slot in &mut self.slots {
            slot.recorder.set_source(source(&format!("ebpf/{}", slot.probe.name), labels));
        }
        self.recorder.set_source(source("ebpf", labels));
    }

    /// Which of the probes that were asked for do not run, and why: the word of the label `reason`, and a sentence.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &'static str, String)> {
        self.slots.iter().filter_map(|slot| {
            let error = slot.state.as_ref().err()?;
            Some((slot.probe.name, error.reason(), error.to_string()))
        })
    }

    /// Reads what the probes have counted until `time_ms`; `slab` gives empty batches, `send` takes full ones. Without
    /// a probe it does nothing.
    pub fn read(&mut self, time_ms: i64, mut slab: impl FnMut() -> Batch, mut send: impl FnMut(Batch)) {
        if self.slots.is_empty() {
            return;
        }
        let slots = &mut self.slots;
        self.names.read(time_ms, |each| {
            for running in slots.iter_mut().filter_map(|slot| slot.state.as_mut().ok()) {
                running.cgroups().map(&mut *each);
            }
        });
        for Slot { state, recorder, .. } in slots.iter_mut() {
            let Ok(running) = state else { continue };
            recorder.begin(slab(), time_ms);
            running.read(recorder);
            send(recorder.finish());
        }
        let out = &mut self.recorder;
        out.begin(slab(), time_ms);
        for slot in slots.iter() {
            let reason = slot.state.as_ref().err().map(ProbeError::reason);
            out.put(
                &UP,
                &[slot.probe.name, reason.unwrap_or_default()],
                f64::from(u8::from(reason.is_none())),
            );
        }
        for slot in slots.iter() {
            let Ok(running) = &slot.state else { continue };
            running.lost(&mut |limit, count| out.put(&LOST, &[slot.probe.name, limit], count));
        }
        self.statistics.read(time_ms, out);
        send(out.finish());
    }
}

type Started = Vec<(&'static Probe, Result<Box<dyn Running>, ProbeError>)>;

/// Starts probes: each alone, so that what one meets costs the others nothing.
fn start_all(options: &EbpfOptions, probes: &[&'static Probe]) -> (Started, Names) {
    let mut buffer = Vec::new();
    if let Ok(status) = read_once(Path::new("/proc/thread-self/status"), &mut buffer)
        && let Some(missing) = load::missing_capabilities(status)
    {
        let refused = |probe: &&'static Probe| (*probe, Err(ProbeError::NotPermitted(missing.to_owned())));
        return (probes.iter().map(refused).collect(), Names::default());
    }
    if probes.is_empty() {
        return (Vec::new(), Names::default());
    }
    let mut file = Vec::new();
    // What can't be read is said by those who need it.
    let _ = read_once(&options.btf, &mut file);
    let mut ground = match Ground::new(options, &file) {
        Ok(ground) => ground,
        Err(error) => {
            let text = error.to_string();
            let failed = |probe: &&'static Probe| (*probe, Err(ProbeError::Object(text.clone())));
            return (probes.iter().map(failed).collect(), Names::default());
        }
    };
    let states = probes.iter().map(|&probe| (probe, start_one(probe, &mut ground))).collect();
    (states, ground.names)
}

fn start_one(probe: &'static Probe, ground: &mut Ground<'_>) -> Result<Box<dyn Running>, ProbeError> {
    // A library that trips over a damaged object costs the probe, not the collector.
    let start = std::panic::AssertUnwindSafe(|| (probe.start)(ground));
    std::panic::catch_unwind(start)
        .unwrap_or_else(|_| Err(ProbeError::Object("loading it panicked".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_probe_nothing_is_said() {
        let options = EbpfOptions { probes: Vec::new(), ..EbpfOptions::default() };
        let mut reader = EbpfReader::start(&options, &[], &Arc::default());
        reader.read(1, || panic!("no batch"), |_| panic!("no batch"));
        assert_eq!(reader.failures().count(), 0);
    }

    #[test]
    fn probes_are_chosen_by_name() {
        let chosen = |off, choices: &[(&str, bool)]| {
            let mut options = EbpfOptions { off, ..EbpfOptions::default() };
            let choices: Vec<_> = choices.iter().map(|&(name, on)| (name.to_owned(), on)).collect();
            options.choose(&choices).map(|()| options.probes)
        };
        assert_eq!(chosen(false, &[("irq", true)]).unwrap(), ["runqueue", "irq"]);
        assert_eq!(chosen(false, &[("runqueue", true)]).unwrap(), ["runqueue"]);
        assert!(chosen(false, &[("runqueue", false), ("tcp", false)]).unwrap().is_empty());
        assert_eq!(chosen(true, &[("irq", true)]).unwrap(), ["runqueue"]);
        assert!(
            chosen(false, &[("irqs", true)])
                .unwrap_err()
                .contains("no kernel probe \"irqs\": there are block,")
        );
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(PROBES.is_sorted_by_key(|probe| probe.name));
        let names = PROBES.iter().flat_map(|probe| probe.hooks.iter().copied().flatten());
        // The kernel keeps 15 bytes of a program's name.
        assert!(names.flat_map(|hook| [hook.typed, hook.raw]).all(|name| name.len() <= 16));
    }
}
