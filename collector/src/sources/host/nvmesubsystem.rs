//! NVMe subsystems and the paths to them, from /sys/class/nvme-subsystem. Cost a tick: a listing of the class
//! and of each subsystem, one read for each of these, and one for each path.

use std::path::Path;

use super::devices::{Devices, Label, number_after, read_required};
use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};

static INFO: Family = Family::gauge(
    "node_nvmesubsystem_info",
    "An NVMe subsystem and how its paths are used; always 1.",
    &["subsystem", "nqn", "model", "serial", "iopolicy"],
);
static NAMESPACE_INFO: Family = Family::gauge(
    "node_nvmesubsystem_namespace_info",
    "A block device and the NVMe subsystem that it belongs to; always 1.",
    &["subsystem", "device"],
);
static PATHS: Family = Family::gauge(
    "node_nvmesubsystem_paths",
    "Controllers through which a subsystem is reached.",
    &["subsystem"],
);
static PATHS_LIVE: Family = Family::gauge(
    "node_nvmesubsystem_paths_live",
    "Controllers through which a subsystem is reached and that are live.",
    &["subsystem"],
);
static PATH_STATE: Family = Family::gauge(
    "node_nvmesubsystem_path_state",
    "State of a controller: 1 for the one that it is in, 0 for the others.",
    &["subsystem", "controller", "transport", "state"],
);

const STATES: [&str; 5] = ["live", "connecting", "resetting", "dead", "unknown"];
/// States that are known, but not shown: none of the above is 1 then.
const PASSING_STATES: [&str; 3] = ["deleting", "deleting (no IO)", "new"];

pub(super) static COLLECTOR: Registration = Registration {
    name: "nvmesubsystem",
    default_enabled: false,
    flags: &[],
    families: &[&INFO, &NAMESPACE_INFO, &PATHS, &PATHS_LIVE, &PATH_STATE],
    new: |setup| Ok(Box::new(Subsystems { devices: Devices::new(setup.paths.sys("class/nvme-subsystem")) })),
};

struct Subsystems {
    devices: Devices<Subsystem>,
}

struct Subsystem {
    name: String,
    /// subsysnqn, model, serial, iopolicy
    labels: [Label; 4],
    members: Devices<Member>,
}

enum Member {
    Namespace(String),
    /// With its state and its transport.
    Controller(String, [Label; 2]),
}

impl Collector for Subsystems {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        for subsystem in self.devices.refresh(Subsystem::new)? {
            if let Err(error) = subsystem.put(tick, out, &mut faults) {
                faults.note(|| error);
            }
        }
        faults.finish()
    }
}

impl Subsystem {
    fn new(name: &str, folder: &Path) -> Option<Self> {
        let files = [("subsysnqn", true), ("model", true), ("serial", true), ("iopolicy", false)];
        name.starts_with("nvme-subsys").then(|| Subsystem {
            name: name.to_owned(),
            labels: files.map(|(file, is_fixed)| Label::new(folder.join(file), is_fixed)),
            members: Devices::new(folder),
        })
    }

    fn put(&mut self, tick: &mut Tick, out: &mut Recorder, faults: &mut Faults) -> Result<(), CollectError> {
        let Subsystem { name, labels, members } = self;
        if read_required(&mut *labels, tick, faults) {
            let [nqn, model, serial, policy] = labels.each_ref().map(Label::text);
            out.put(&INFO, &[name, nqn, model, serial, policy], 1.0);
        }
        let (mut paths, mut live) = (0u32, 0u32);
        for member in members.refresh(Member::new)? {
            let (controller, labels) = match member {
                Member::Namespace(device) => {
                    out.put(&NAMESPACE_INFO, &[name, device], 1.0);
                    continue;
                }
                Member::Controller(controller, labels) => (controller, labels),
            };
            if !read_required(&mut *labels, tick, faults) {
                continue;
            }
            let [state, transport] = labels.each_ref().map(Label::text);
            let state = match STATES.iter().chain(&PASSING_STATES).any(|known| *known == state) {
                true => state,
                false => "unknown",
            };
            for of in STATES {
                out.put(&PATH_STATE, &[name, controller, transport, of], f64::from(u8::from(of == state)));
            }
            paths += 1;
            live += u32::from(state == "live");
        }
        out.put(&PATHS, &[name], f64::from(paths));
        out.put(&PATHS_LIVE, &[name], f64::from(live));
        Ok(())
    }
}

impl Member {
    fn new(name: &str, folder: &Path) -> Option<Self> {
        if number_after(name, "nvme").is_some() {
            let labels = [Label::changing(folder.join("state")), Label::fixed(folder.join("transport"))];
            return Some(Member::Controller(name.to_owned(), labels));
        }
        let (controller, namespace) = name.strip_prefix("nvme")?.split_once('n')?;
        number_after(controller, "")?;
        number_after(namespace, "")?;
        Some(Member::Namespace(name.to_owned()))
    }
}
