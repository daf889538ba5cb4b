//! Time that each CPU spent in each mode, from /proc/stat (which it shares with `stat`), and what sysfs says of
//! CPUs: online, isolated, throttled. With --collector.cpu.info also /proc/cpuinfo.
//! Cost a tick: that read, one more for the CPUs that are online, and one for each count of throttles.
//!
//! The kernel's idle and iowait times jump back now and then: a time is never given smaller than before, unless
//! idle time falls by three seconds, which says that the CPU was unplugged and came back.

mod info;
mod sysfs;

use info::CpuInfo;
use sysfs::Topology;

use super::error::Faults;
use super::{CollectError, Collector, Flag, FlagDefault, Registration, SetupError, Tick};
use crate::model::{Family, Recorder};
use crate::sys::text;

const GUEST_FLAG: &str = "collector.cpu.guest";
const INFO_FLAG: &str = "collector.cpu.info";
const FLAGS_FLAG: &str = "collector.cpu.info.flags-include";
const BUGS_FLAG: &str = "collector.cpu.info.bugs-include";

static SECONDS: Family =
    Family::counter("node_cpu_seconds_total", "Time that a CPU spent in each mode.", &["cpu", "mode"]);
static GUEST: Family = Family::counter(
    "node_cpu_guest_seconds_total",
    "Time that a CPU ran guests (virtual machines); it is in the modes user and nice as well.",
    &["cpu", "mode"],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "cpu",
    default_enabled: true,
    flags: &[
        Flag::new(GUEST_FLAG, FlagDefault::Switch(true), "Give the time spent in guests too."),
        Flag::new(INFO_FLAG, FlagDefault::Switch(false), "Give what /proc/cpuinfo says of each CPU."),
        Flag::new(
            FLAGS_FLAG,
            FlagDefault::Text(""),
            "Pattern of the flags of the first CPU to give; implies info.",
        ),
        Flag::new(
            BUGS_FLAG,
            FlagDefault::Text(""),
            "Pattern of the bugs of the first CPU to give; implies info.",
        ),
    ],
    families: &[
        &SECONDS,
        &GUEST,
        &info::INFO,
        &info::FREQUENCY,
        &info::FLAG_INFO,
        &info::BUG_INFO,
        &sysfs::ISOLATED,
        &sysfs::ONLINE,
        &sysfs::CORE_THROTTLES,
        &sysfs::PACKAGE_THROTTLES,
    ],
    new: |setup| {
        let (flags, bugs) = (setup.flags.text(FLAGS_FLAG), setup.flags.text(BUGS_FLAG));
        let wanted = setup.flags.switch(INFO_FLAG) || !flags.is_empty() || !bugs.is_empty();
        let info = CpuInfo::new(setup.paths.proc("cpuinfo"), flags, bugs).map_err(SetupError::of("cpu"))?;
        Ok(Box::new(Cpu {
            guest: setup.flags.switch(GUEST_FLAG),
            info: wanted.then_some(info),
            cpus: Vec::new(),
            topology: Topology::new(&setup.paths.sys("devices/system/cpu")),
        }))
    },
};

/// The modes in the order of the columns of /proc/stat; the last two are of [`GUEST`].
const MODES: [&str; 10] =
    ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "user", "nice"];
const IDLE: usize = 3;
const GUESTS_FROM: usize = 8;
/// Kernels before 2.6 printed no more.
const FEWEST_COLUMNS: usize = 4;
/// USER_HZ, which is 100 on every architecture that has Prometheus exporters.
const TICKS_A_SECOND: f64 = 100.0;
/// Idle time that falls by so many seconds tells of a CPU that was unplugged.
const REPLUGGED: f64 = 3.0;

struct Cpu {
    guest: bool,
    info: Option<CpuInfo>,
    /// In ascending order of their numbers.
    cpus: Vec<Times>,
    topology: Topology,
}

/// What was given of a CPU, seconds by mode.
struct Times {
    number: u64,
    seconds: [f64; 10],
    /// How many columns the kernel prints.
    columns: usize,
    /// Whether the CPU is in this tick's file.
    present: bool,
}

impl Collector for Cpu {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        if let Some(info) = &mut self.info {
            info.put(tick, out)?;
        }
        let (path, text) = tick.stat.read()?;
        let plugged = self.take_in(text, |line| {
            faults.note(|| {
                CollectError::malformed(path, line, "expected `cpuN` and four whole numbers or more")
            });
        });
        self.put_times(out);
        self.topology.put(plugged, tick, out);
        faults.finish()
    }
}

impl Cpu {
    /// Takes in the lines of all CPUs. Returns whether CPUs came or went.
    fn take_in(&mut self, text: &[u8], mut bad_line: impl FnMut(usize)) -> bool {
        let mut changed = false;
        for (number, line) in text::ended_lines(text).enumerate() {
            let Some(rest) = line.strip_prefix(b"cpu").filter(|rest| !rest.starts_with(b" ")) else {
                continue;
            };
            let Some((cpu, seconds, columns)) = parse_cpu(rest) else {
                bad_line(number + 1);
                continue;
            };
            let at = self.cpus.binary_search_by_key(&cpu, |times| times.number).unwrap_or_else(|at| {
                self.cpus.insert(at, Times { number: cpu, seconds: [0.0; 10], columns, present: true });
                changed = true;
                at
            });
            self.cpus[at].take_in(&seconds, columns);
        }
        let before = self.cpus.len();
        self.cpus.retain_mut(|times| std::mem::take(&mut times.present));
        changed || before != self.cpus.len()
    }

    fn put_times(&self, out: &mut Recorder) {
        for times in &self.cpus {
            let cpu = text::Decimal::new(times.number);
            let columns = if self.guest { times.columns } else { times.columns.min(GUESTS_FROM) };
            for (column, seconds) in times.seconds[..columns].iter().enumerate() {
                let family = if column < GUESTS_FROM { &SECONDS } else { &GUEST };
                out.put(family, &[cpu.as_str(), MODES[column]], *seconds);
            }
        }
    }
}

impl Times {
    fn take_in(&mut self, seconds: &[f64; 10], columns: usize) {
        if self.seconds[IDLE] - seconds[IDLE] >= REPLUGGED {
            self.seconds = [0.0; 10];
        }
        for (kept, new) in self.seconds.iter_mut().zip(seconds) {
            *kept = kept.max(*new);
        }
        self.columns = columns;
        self.present = true;
    }
}

/// What follows `cpu`: its number, seconds by mode, and how many modes there are.
fn parse_cpu(line: &[u8]) -> Option<(u64, [f64; 10], usize)> {
    let mut words = text::words(line);
    let number = text::parse_u64(words.next()?)?;
    let mut seconds = [0.0; 10];
    let mut columns = 0;
    for (slot, word) in seconds.iter_mut().zip(words) {
        *slot = text::parse_u64(word)? as f64 / TICKS_A_SECOND;
        columns += 1;
    }
    (columns >= FEWEST_COLUMNS).then_some((number, seconds, columns))
}

#[cfg(test)]
#[path = "cpu_tests.rs"]
mod tests;
