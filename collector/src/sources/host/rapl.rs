//! Energy that the processor's power zones have used, from /sys/class/powercap. Cost a tick: a listing, and a
//! read for each zone. Since Linux 5.10 only root may read them.

use std::path::Path;

use hashbrown::HashMap;

use super::devices::{Devices, Normal, read_number, read_text, sanitize, unsigned};
use super::error::Faults;
use super::{CollectError, Collector, Flag, FlagDefault, Registration, Tick};
use crate::model::{Dynamic, Family, Kind, Recorder};
use crate::sys::sysfs::{Attribute, Refusal};
use crate::sys::text;

const ZONE_LABEL_FLAG: &str = "collector.rapl.enable-zone-label";

const HELP: &str = "Energy that a power zone of the processor has used, in joules.";
static BY_NAME: Family = Family::counter("node_rapl_*_joules_total", HELP, &["index", "path"]);
static BY_LABEL: Family = Family::counter("node_rapl_joules_total", HELP, &["index", "path", "rapl_zone"]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "rapl",
    default_enabled: true,
    flags: &[Flag::new(
        ZONE_LABEL_FLAG,
        FlagDefault::Switch(false),
        "Put the zone into a label and not into the name of the metric.",
    )],
    families: &[&BY_NAME, &BY_LABEL],
    new: |setup| {
        let zones = Devices::new(setup.paths.sys("class/powercap"));
        Ok(Box::new(Rapl { zones, by_label: setup.flags.switch(ZONE_LABEL_FLAG) }))
    },
};

const NORMAL: Normal = Normal { refusals: &[Refusal::Denied], texts: &[] };

struct Rapl {
    zones: Devices<Zone>,
    by_label: bool,
}

struct Zone {
    name: String,
    /// As it stands in a metric's name.
    part: String,
    index: String,
    path: String,
    energy: Attribute,
}

impl Collector for Rapl {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut used = HashMap::new();
        let zones = self.zones.refresh(|_, folder| Zone::new(folder, &mut used))?;
        let mut faults = Faults::default();
        let mut is_denied = false;
        for Zone { name, part, index, path, energy } in zones {
            let Some(microjoules) = read_number(energy, unsigned, &NORMAL, tick, &mut faults) else {
                is_denied = true;
                continue;
            };
            let joules = microjoules / 1_000_000.0;
            if self.by_label {
                out.put(&BY_LABEL, &[index, path, name], joules);
                continue;
            }
            let sample = Dynamic {
                name: &["node_rapl_", part, "_joules_total"],
                suffix: "",
                help: &[HELP],
                kind: Kind::Counter,
                labels: &[("index", index), ("path", path)],
            };
            out.put_dynamic(&sample, joules);
        }
        faults.finish()?;
        match is_denied {
            true => Err(CollectError::NoData("energy_uj is absent or may not be read".into())),
            false => Ok(()),
        }
    }
}

impl Zone {
    /// `used` counts the zones of each name, which tells those apart whose name has no number.
    fn new(folder: &Path, used: &mut HashMap<String, u64>) -> Option<Self> {
        // What has no name is the whole of a control type.
        let name = read_text(folder.join("name")).ok()??;
        let (name, index) = split_index(&name);
        let index = index.unwrap_or_else(|| used.get(name).copied().unwrap_or(0));
        used.insert(name.to_owned(), index.saturating_add(1));
        Some(Zone {
            name: name.to_owned(),
            part: sanitize(name),
            index: index.to_string(),
            path: folder.to_string_lossy().into_owned(),
            energy: Attribute::new(folder.join("energy_uj")),
        })
    }
}

/// `package-1` -> `package` and 1.
fn split_index(name: &str) -> (&str, Option<u64>) {
    match name.split_once('-') {
        Some((start, number)) if text::parse_u64(number.as_bytes()).is_some() => {
            (start, text::parse_u64(number.as_bytes()))
        }
        _ => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_in_a_name_is_its_index() {
        assert_eq!(split_index("package-1"), ("package", Some(1)));
        for name in ["core", "package-0-die-1", "psys-", "dram-x"] {
            assert_eq!(split_index(name), (name, None), "{name}");
        }
    }
}
