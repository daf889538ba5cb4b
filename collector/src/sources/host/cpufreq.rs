//! Frequencies of the CPUs, from /sys/devices/system/cpu/cpu*/cpufreq. Cost a tick: a listing, and for each CPU
//! a read for each of the up to eight attributes that it has. On x86 the kernel asks the CPU itself for some.

use std::path::Path;

use super::devices::{Devices, Label, Normal, Numbers, families, number_after, read_labels, rows, unsigned};
use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::sysfs::Refusal;

static GOVERNOR: Family = Family::gauge(
    "node_cpu_scaling_governor",
    "Which governor sets a CPU's frequency: 1 for that one, 0 for the others that there are.",
    &["cpu", "governor"],
);

rows! { NUMBERS &["cpu"];
    gauge "cpuinfo_cur_freq" "node_cpu_frequency_hertz" kilohertz, "Frequency at which a CPU runs, as the hardware says, in hertz.";
    gauge "cpuinfo_avg_freq" "node_cpu_frequency_avg_hertz" kilohertz, "Average frequency of a CPU since it was last looked at, in hertz.";
    gauge "cpuinfo_min_freq" "node_cpu_frequency_min_hertz" kilohertz, "Lowest frequency of a CPU in hertz.";
    gauge "cpuinfo_max_freq" "node_cpu_frequency_max_hertz" kilohertz, "Highest frequency of a CPU in hertz.";
    gauge "scaling_cur_freq" "node_cpu_scaling_frequency_hertz" kilohertz, "Frequency that the kernel has chosen for a CPU, in hertz.";
    gauge "scaling_min_freq" "node_cpu_scaling_frequency_min_hertz" kilohertz, "Lowest frequency that the kernel may choose for a CPU, in hertz.";
    gauge "scaling_max_freq" "node_cpu_scaling_frequency_max_hertz" kilohertz, "Highest frequency that the kernel may choose for a CPU, in hertz.";
}

pub(super) static COLLECTOR: Registration = Registration {
    name: "cpufreq",
    default_enabled: true,
    flags: &[],
    families: &families::<8>(&[NUMBERS], &[&GOVERNOR]),
    new: |setup| Ok(Box::new(Cpufreq { cpus: Devices::new(setup.paths.sys("devices/system/cpu")) })),
};

/// `cpuinfo_cur_freq` is for root; a CPU that is offline is busy, one that idles has no value for now.
const NORMAL: Normal =
    Normal { refusals: &[Refusal::Denied, Refusal::Busy, Refusal::NotNow], texts: &["<unknown>"] };

struct Cpufreq {
    cpus: Devices<Cpu>,
}

struct Cpu {
    number: String,
    numbers: Numbers,
    governor: Label,
    governors: Label,
}

impl Collector for Cpufreq {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        for Cpu { number, numbers, governor, governors } in self.cpus.refresh_if_any(Cpu::new)? {
            numbers.put(&[number], &NORMAL, tick, out, &mut faults);
            read_labels([&mut *governor, &mut *governors], &NORMAL, tick, &mut faults);
            if governor.text().is_empty() {
                continue;
            }
            for name in governors.text().split(' ').filter(|name| !name.is_empty()) {
                let is_used = name == governor.text();
                out.put(&GOVERNOR, &[number, name], f64::from(u8::from(is_used)));
            }
        }
        faults.finish()
    }
}

impl Cpu {
    fn new(name: &str, folder: &Path) -> Option<Self> {
        let folder = folder.join("cpufreq");
        Some(Cpu {
            number: number_after(name, "cpu")?.to_owned(),
            numbers: Numbers::new(NUMBERS, &folder),
            governor: Label::changing(folder.join("scaling_governor")),
            governors: Label::changing(folder.join("scaling_available_governors")),
        })
    }
}

fn kilohertz(word: &[u8]) -> Option<f64> {
    unsigned(word).map(|number| number * 1000.0)
}
