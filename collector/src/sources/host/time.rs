//! The host's clock, its time zone, and the kernel's clock sources. Cost a tick: two small reads.

use std::path::Path;

use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::{clock, text};

static SECONDS: Family = Family::gauge("node_time_seconds", "Time now, in seconds since 1970.", &[]);
static ZONE_OFFSET: Family = Family::gauge(
    "node_time_zone_offset_seconds",
    "Offset of the local time zone, in seconds east of UTC.",
    &["time_zone"],
);
static AVAILABLE: Family = Family::gauge(
    "node_time_clocksource_available_info",
    "A clock source that the kernel could use; always 1.",
    &["device", "clocksource"],
);
static CURRENT: Family = Family::gauge(
    "node_time_clocksource_current_info",
    "The clock source that the kernel uses; always 1.",
    &["device", "clocksource"],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "time",
    default_enabled: true,
    flags: &[],
    families: &[&SECONDS, &ZONE_OFFSET, &AVAILABLE, &CURRENT],
    new: |setup| Ok(Box::new(Time { sources: find_sources(&setup.paths.sys("devices/system/clocksource")) })),
};

struct Time {
    sources: Vec<Clocksource>,
}

struct Clocksource {
    /// The number at the end of its folder's name.
    device: String,
    available: KeptFile,
    current: KeptFile,
}

/// The folders `clocksourceN`, which are there from the boot on.
fn find_sources(folder: &Path) -> Vec<Clocksource> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut sources: Vec<Clocksource> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let device = name.strip_prefix("clocksource")?.to_owned();
            let file = |name: &str| KeptFile::whole(entry.path().join(name));
            Some(Clocksource {
                device,
                available: file("available_clocksource"),
                current: file("current_clocksource"),
            })
        })
        .collect();
    sources.sort_by(|a, b| a.device.cmp(&b.device));
    sources
}

impl Collector for Time {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let now = clock::now_seconds();
        out.put(&SECONDS, &[], now);
        if let Some(zone) = clock::Zone::at(now as i64) {
            out.put(&ZONE_OFFSET, &[zone.abbreviation()], zone.offset as f64);
        }
        let mut faults = Faults::default();
        for source in &mut self.sources {
            for (file, family) in [(&mut source.available, &AVAILABLE), (&mut source.current, &CURRENT)] {
                match file.read(&mut tick.buffer) {
                    Ok(text) => {
                        for name in text::words(text).filter_map(text::as_str) {
                            out.put(family, &[&source.device, name], 1.0);
                        }
                    }
                    Err(error) => faults.note(|| error.into()),
                }
            }
        }
        faults.finish()
    }
}
