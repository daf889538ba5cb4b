//! Counters of the CPUs and of the kernel by perf_event_open(2): cycles, caches, page faults, tracepoints. Off by
//! default; needs CAP_PERFMON or a kernel.perf_event_paranoid of at most 0, and for most of it a CPU whose
//! counters are shown (few virtual machines do).
//!
//! Cost a tick: one system call for the list of CPUs, and for each CPU one for all software events, one for all
//! tracepoints, and one for every two events of the CPU's own: these are read in pairs, since a group that needs
//! more counters than the CPU has free would never count. Where counters are shared in turn, each tick's growth
//! is scaled by the time in which it was counted, so that totals never fall.
//! Refuses more than [`MAX_TRACEPOINTS`] tracepoints, and CPUs above [`MAX_CPU`].

mod cpus;
mod events;
mod groups;

use std::path::PathBuf;

use cpus::Cpus;
use events::{CACHE, HARDWARE, Kind, Profiler, SOFTWARE};
use groups::{Groups, Target};

use super::{CollectError, Collector, Flag, FlagDefault, Registration, Setup, SetupError, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::read_attribute;
use crate::sys::perf::Event;
use crate::sys::text;

const CPUS_FLAG: &str = "collector.perf.cpus";
const TRACEPOINT_FLAG: &str = "collector.perf.tracepoint";

const MAX_TRACEPOINTS: usize = 256;
const MAX_CPU: u32 = 65_535;
/// Ticks after which events are tried again, where none could be opened.
const RETRY: u32 = 60;

/// A kind of profilers, whether it is wanted, and which of them.
struct KindFlags {
    kind: Kind,
    disable: &'static str,
    names: &'static str,
    profilers: &'static [Profiler],
}

static KINDS: [KindFlags; 3] = [
    KindFlags {
        kind: Kind::Hardware,
        disable: "collector.perf.disable-hardware-profilers",
        names: "collector.perf.hardware-profilers",
        profilers: HARDWARE,
    },
    KindFlags {
        kind: Kind::Software,
        disable: "collector.perf.disable-software-profilers",
        names: "collector.perf.software-profilers",
        profilers: SOFTWARE,
    },
    KindFlags {
        kind: Kind::Cache,
        disable: "collector.perf.disable-cache-profilers",
        names: "collector.perf.cache-profilers",
        profilers: CACHE,
    },
];

static TRACEPOINT: Family =
    Family::counter("node_perf_*", "Times that a tracepoint of the kernel was passed.", &["cpu"]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "perf",
    default_enabled: false,
    flags: &[
        Flag::new(CPUS_FLAG, FlagDefault::Text(""), "CPUs to watch, such as 0,2-5,8-16:4; all if empty."),
        Flag::new(
            TRACEPOINT_FLAG,
            FlagDefault::List(&[]),
            "A tracepoint to count, such as sched:sched_switch.",
        ),
        Flag::new(KINDS[0].disable, FlagDefault::Switch(false), "Leave the CPU's own events out."),
        Flag::new(KINDS[0].names, FlagDefault::List(&[]), "An event of the CPU to count; all if not given."),
        Flag::new(KINDS[1].disable, FlagDefault::Switch(false), "Leave the kernel's events out."),
        Flag::new(
            KINDS[1].names,
            FlagDefault::List(&[]),
            "An event of the kernel to count; all if not given.",
        ),
        Flag::new(KINDS[2].disable, FlagDefault::Switch(false), "Leave the events of the caches out."),
        Flag::new(KINDS[2].names, FlagDefault::List(&[]), "An event of a cache to count; all if not given."),
    ],
    families: &events::with_profilers(&TRACEPOINT),
    new: |setup| Ok(Box::new(Perf::new(setup).map_err(SetupError::of("perf"))?)),
};

struct Perf {
    profilers: Vec<(Kind, &'static Profiler)>,
    tracepoints: Vec<Tracepoint>,
    cpus: Cpus,
    groups: Groups,
    /// Where tracefs may be, and the file that says who may count.
    tracefs: [PathBuf; 2],
    paranoid: PathBuf,
    /// What keeps events from being opened, told at each tick.
    trouble: Option<String>,
    ticks_to_retry: u32,
}

/// `subsystem:event`.
struct Tracepoint {
    subsystem: String,
    event: String,
}

impl Perf {
    fn new(setup: &Setup<'_>) -> Result<Self, String> {
        let flags = setup.flags;
        let mut profilers = Vec::new();
        for KindFlags { kind, disable, names, profilers: all } in &KINDS {
            let wanted = flags.list(names);
            let is_known = |profiler: &&Profiler| wanted.contains(&profiler.flag);
            // A name that is not known is passed over, as in node_exporter; if none is, all are taken.
            let takes_all = !all.iter().any(|profiler| is_known(&profiler));
            if !flags.switch(disable) {
                let taken = all.iter().filter(|profiler| takes_all || is_known(profiler));
                profilers.extend(taken.map(|profiler| (*kind, profiler)));
            }
        }
        let tracepoints = flags.list(TRACEPOINT_FLAG);
        if tracepoints.len() > MAX_TRACEPOINTS {
            return Err(format!("more than {MAX_TRACEPOINTS} tracepoints"));
        }
        let tracepoints: Result<Vec<_>, String> = tracepoints
            .into_iter()
            .map(|flag| match flag.split(':').collect::<Vec<_>>()[..] {
                [subsystem, event] => {
                    Ok(Tracepoint { subsystem: subsystem.to_owned(), event: event.to_owned() })
                }
                _ => Err(format!("invalid tracepoint config {flag}")),
            })
            .collect();
        Ok(Perf {
            profilers,
            tracepoints: tracepoints?,
            cpus: Cpus::new(flags.text(CPUS_FLAG), setup.paths)?,
            groups: Groups::default(),
            tracefs: ["kernel/tracing", "kernel/debug/tracing"].map(|folder| setup.paths.sys(folder)),
            paranoid: setup.paths.proc("sys/kernel/perf_event_paranoid"),
            trouble: None,
            ticks_to_retry: 0,
        })
    }

    /// Opens what is not open on the CPUs that are on.
    fn open(&mut self) {
        self.ticks_to_retry = RETRY;
        if self.groups.is_empty() {
            // Else it is of those that are not open still.
            self.trouble = None;
        }
        let mut events: Vec<(Kind, u8, Event, Target)> = Vec::new();
        for &(kind, profiler) in &self.profilers {
            events.push((kind, profiler.pair, profiler.event, Target::Known(&profiler.family)));
        }
        for tracepoint in &self.tracepoints {
            match tracepoint.number(&self.tracefs) {
                Some(config) => {
                    let name = format!("{}_{}", tracepoint.subsystem, tracepoint.event);
                    let event = Event { kind: events::TYPE_TRACEPOINT, config };
                    events.push((Kind::Tracepoint, 0, event, Target::Tracepoint(name)));
                }
                None => {
                    let Tracepoint { subsystem, event } = tracepoint;
                    let folder = self.tracefs[0].display();
                    self.trouble = Some(format!("no tracepoint {subsystem}:{event} in {folder}"));
                }
            }
        }
        let refused = self.groups.open(self.cpus.online(), &events);
        if let Some(error) = refused {
            self.trouble = Some(self.explain(&error));
        }
    }

    fn explain(&self, error: &std::io::Error) -> String {
        let mut buffer = [0; 16];
        let paranoid = read_attribute(&self.paranoid, &mut buffer).unwrap_or_default();
        let paranoid = String::from_utf8_lossy(text::trim(paranoid));
        match error.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => format!(
                "perf_event_open: {error}: needs CAP_PERFMON, or kernel.perf_event_paranoid at most 0 (it is {paranoid})"
            ),
            Some(libc::EMFILE) => format!("perf_event_open: {error}: raise the limit of open files"),
            _ => format!("perf_event_open: {error}"),
        }
    }
}

impl Collector for Perf {
    fn update(&mut self, _: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let changed = self.cpus.refresh();
        if changed || (self.groups.is_empty() && self.ticks_to_retry == 0) {
            self.open();
        }
        self.ticks_to_retry = self.ticks_to_retry.saturating_sub(1);
        self.groups.put(out)?;
        match &self.trouble {
            Some(trouble) => Err(CollectError::Other(trouble.clone())),
            None if self.groups.is_empty() => Err(CollectError::NoData(
                "no event could be opened: this machine shows no counters of its CPUs".into(),
            )),
            None => Ok(()),
        }
    }
}

impl Tracepoint {
    fn number(&self, tracefs: &[PathBuf]) -> Option<u64> {
        let mut buffer = [0; 32];
        tracefs.iter().find_map(|folder| {
            let path = folder.join("events").join(&self.subsystem).join(&self.event).join("id");
            text::parse_u64(text::trim(read_attribute(&path, &mut buffer).ok()?))
        })
    }
}
