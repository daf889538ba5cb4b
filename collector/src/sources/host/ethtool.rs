//! What the drivers of network devices say by ioctl(2) SIOCETHTOOL: the driver, what the link can do, and the
//! statistics, which the driver names. Off by default: many drivers have thousands.
//! Cost a tick: the dump of links that collectors share, and three system calls for each device. The names of
//! the statistics are asked for once, and again when the driver or their number changes.
//! Refuses a driver with more statistics than `sys/ethtool.rs` has room for.

mod fixtures;
mod names;
mod settings;

use std::io;

use fixtures::Fixtures;
use names::{Naming, Statistic, Target};
use regex::Regex;

use super::{CollectError, Collector, Filter, Flag, FlagDefault, Registration, SetupError, Tick};
use crate::model::{Dynamic, Family, Kind, Recorder};
use crate::sys::ethtool::{Driver, Ethtool, LinkSettings, MAX_STATISTICS};

const INCLUDE_FLAG: &str = "collector.ethtool.device-include";
const EXCLUDE_FLAG: &str = "collector.ethtool.device-exclude";
const METRICS_FLAG: &str = "collector.ethtool.metrics-include";
const FIXTURES_FLAG: &str = "collector.ethtool.fixtures";

static INFO: Family = Family::gauge(
    "node_ethtool_info",
    "The driver of a network device, its version and that of the firmware; always 1.",
    &["bus_info", "device", "driver", "expansion_rom_version", "firmware_version", "version"],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "ethtool",
    default_enabled: false,
    flags: &[
        Flag::include(INCLUDE_FLAG),
        Flag::exclude(EXCLUDE_FLAG),
        Flag::new(METRICS_FLAG, FlagDefault::Text(".*"), "Pattern of the statistics to take."),
        Flag::hidden(
            FIXTURES_FLAG,
            FlagDefault::Text(""),
            "Folder with a folder for each device, of what the program ethtool prints; for tests.",
        ),
    ],
    families: &settings::with_settings(&[
        &INFO,
        &names::KNOWN[0].1,
        &names::KNOWN[1].1,
        &names::KNOWN[2].1,
        &names::KNOWN[3].1,
        &names::KNOWN[4].1,
        &names::KNOWN[5].1,
        &names::KNOWN[6].1,
        &names::ANY,
    ]),
    new: |setup| {
        let fail = SetupError::of("ethtool");
        let filter =
            Filter::from_flags(setup.flags, (INCLUDE_FLAG, ""), (EXCLUDE_FLAG, "")).map_err(&fail)?;
        let pattern = setup.flags.text(METRICS_FLAG);
        let wanted =
            Regex::new(pattern).map_err(|error| fail(format!("bad pattern {pattern:?}: {error}")))?;
        let source = match setup.flags.text(FIXTURES_FLAG) {
            "" => Source::Kernel(Ethtool::default()),
            folder => Source::Fixtures(Fixtures::new(folder.into())),
        };
        Ok(Box::new(Devices { filter, naming: Naming::new(wanted), source, devices: Vec::new(), tick: 0 }))
    },
};

struct Devices {
    filter: Filter,
    naming: Naming,
    source: Source,
    /// In ascending order of their numbers.
    devices: Vec<Device>,
    tick: u64,
}

enum Source {
    Kernel(Ethtool),
    Fixtures(Fixtures),
}

/// The statistics of a device by name, valid for that driver with so many of them.
struct Device {
    index: u32,
    driver: Driver,
    statistics: Vec<Statistic>,
    /// The tick that last had it.
    seen: u64,
}

impl Collector for Devices {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        self.tick += 1;
        let mut found = false;
        if let Source::Fixtures(fixtures) = &mut self.source {
            fixtures.list()?;
            for index in 0..fixtures.devices() {
                let Source::Fixtures(fixtures) = &mut self.source else { break };
                let Some(name) = fixtures.open(index) else { continue };
                found = true;
                self.put_device(index, name.as_bytes(), out);
            }
        } else {
            for link in tick.links.read()? {
                found = true;
                self.put_device(link.index, link.name, out);
            }
        }
        let now = self.tick;
        self.devices.retain(|device| device.seen == now);
        if found { Ok(()) } else { Err(CollectError::Other("no network devices found".into())) }
    }
}

impl Devices {
    fn put_device(&mut self, index: u32, name: &[u8], out: &mut Recorder) {
        let device = String::from_utf8_lossy(name);
        if self.filter.ignores(&device) {
            return;
        }
        match self.source.link_settings(name) {
            Ok(settings) => settings::put(&device, settings, out),
            Err(error) => tell("link settings", &device, &error),
        }
        let driver = match self.source.driver(name) {
            Ok(driver) => driver,
            Err(error) => return tell("driver", &device, &error),
        };
        let text = String::from_utf8_lossy;
        let (bus, rom) = (text(driver.bus()), text(driver.rom_version()));
        let (firmware, version) = (text(driver.firmware_version()), text(driver.version()));
        out.put(&INFO, &[&bus, &device, &text(driver.name()), &rom, &firmware, &version], 1.0);
        if driver.statistics == 0 || driver.statistics as usize > MAX_STATISTICS {
            return;
        }
        if let Err(error) = self.put_statistics(index, name, &device, driver, out) {
            tell("statistics", &device, &error);
        }
    }

    fn put_statistics(
        &mut self,
        index: u32,
        name: &[u8],
        device: &str,
        driver: Driver,
        out: &mut Recorder,
    ) -> io::Result<()> {
        let Devices { devices, naming, source, tick, .. } = self;
        let count = driver.statistics as usize;
        let at = match devices.binary_search_by_key(&index, |device| device.index) {
            Ok(at) => at,
            Err(at) => {
                let new = Device { index, driver, statistics: Vec::new(), seen: 0 };
                devices.insert(at, new);
                at
            }
        };
        let known = &mut devices[at];
        if known.driver != driver || known.seen == 0 {
            naming.name(source.names(name, count)?, &mut known.statistics);
            known.driver = driver;
        }
        let values = source.statistics(name, count)?;
        if values.len() != count {
            // The driver has changed its mind since it said how many: the names may be those of others.
            known.seen = 0;
            return Ok(());
        }
        known.seen = *tick;
        for statistic in &known.statistics {
            let Some(&value) = values.get(statistic.position) else { continue };
            put_statistic(&statistic.target, device, value as f64, out);
        }
        Ok(())
    }
}

fn put_statistic(target: &Target, device: &str, value: f64, out: &mut Recorder) {
    match target {
        Target::Known(family) => out.put(family, &[device], value),
        Target::Named { family, original } => {
            let sample = Dynamic {
                name: &["node_ethtool_", family],
                suffix: "",
                help: &["Statistic ", original, " of the driver of a network device."],
                kind: Kind::Untyped,
                labels: &[("device", device)],
            };
            out.put_dynamic(&sample, value);
        }
    }
}

/// As in node_exporter, a device that does not answer fails nothing.
fn tell(what: &str, device: &str, error: &io::Error) {
    if !matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENODEV)) {
        log::debug!(collector = "ethtool", device, error:%; "no {what}");
    }
}

impl Source {
    fn link_settings(&mut self, device: &[u8]) -> io::Result<LinkSettings> {
        match self {
            Source::Kernel(kernel) => kernel.link_settings(device),
            Source::Fixtures(fixtures) => fixtures.link_settings(),
        }
    }

    fn driver(&mut self, device: &[u8]) -> io::Result<Driver> {
        match self {
            Source::Kernel(kernel) => kernel.driver(device),
            Source::Fixtures(fixtures) => fixtures.driver(),
        }
    }

    fn names(&mut self, device: &[u8], count: usize) -> io::Result<&[u8]> {
        match self {
            Source::Kernel(kernel) => kernel.statistic_names(device, count),
            Source::Fixtures(fixtures) => Ok(fixtures.names()),
        }
    }

    fn statistics(&mut self, device: &[u8], count: usize) -> io::Result<&[u64]> {
        match self {
            Source::Kernel(kernel) => kernel.statistics(device, count),
            Source::Fixtures(fixtures) => Ok(fixtures.values()),
        }
    }
}
