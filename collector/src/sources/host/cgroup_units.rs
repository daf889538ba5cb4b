//! CPU, memory, tasks and I/O of systemd's units and of other groups right below the root, from the tree of cgroup v2
//! and, where a host has v1 controllers, from theirs (Documentation/admin-guide/cgroup-v2.rst and cgroup-v1).
//!
//! Cost a tick: two system calls for the root and each slice of a hierarchy, and one for each file of a unit (six with
//! v2). What is deeper than asked for, or one unit too many, is not read but counted. A unit below a user's manager has
//! the name of that manager before its own, as both of two users may have an `app.slice`. Groups that are no units are
//! not looked into: containers are not named here.

mod files;
mod tree;

use std::path::Path;

use files::{File, V1, V2};
use tree::{Group, Walk};

use super::error::Faults;
use super::{
    CollectError, Collector, Filter, Flag, FlagDefault, FlagValues, Paths, Registration, SetupError, Tick,
};
use crate::model::{Family, Recorder};

const INCLUDE_FLAG: &str = "collector.cgroup_units.unit-include";
const EXCLUDE_FLAG: &str = "collector.cgroup_units.unit-exclude";
const DEPTH_FLAG: &str = "collector.cgroup_units.depth";
const COUNT_FLAG: &str = "collector.cgroup_units.count";

const MOST_DEPTH: i64 = 16;
const MOST_UNITS: i64 = 4096;

static UNITS: Family = Family::gauge(
    "node_cgroup_units",
    "Units of a hierarchy of control groups that are shown.",
    &["hierarchy"],
);
static LEFT_OUT: Family = Family::gauge(
    "node_cgroup_units_left_out",
    "Units of a hierarchy of control groups that were one too many and are not shown.",
    &["hierarchy"],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "cgroup_units",
    default_enabled: false,
    flags: &[
        Flag::new(
            INCLUDE_FLAG,
            FlagDefault::Text(".+"),
            "Pattern of the units to take; it has to match the whole name.",
        ),
        Flag::new(
            EXCLUDE_FLAG,
            FlagDefault::Text(""),
            "Pattern of the units to leave out; it has to match the whole name.",
        ),
        Flag::new(DEPTH_FLAG, FlagDefault::Int(3), "How far below the root units are looked for."),
        Flag::new(
            COUNT_FLAG,
            FlagDefault::Int(512),
            "Units of a hierarchy that are shown; more are counted.",
        ),
    ],
    families: &[
        &UNITS,
        &LEFT_OUT,
        &files::CPU,
        &files::THROTTLED,
        &files::MEMORY,
        &files::MEMORY_LIMIT,
        &files::FAULTS,
        &files::MAJOR_FAULTS,
        &files::TASKS,
        &files::READ_BYTES,
        &files::WRITTEN_BYTES,
        &files::READS,
        &files::WRITES,
    ],
    new: |setup| {
        CgroupUnits::new(setup.paths, setup.flags)
            .map(|units| Box::new(units) as Box<dyn Collector>)
            .map_err(SetupError::of("cgroup_units"))
    },
};

struct CgroupUnits {
    hierarchies: Vec<Hierarchy>,
    filter: Filter,
    depth: usize,
    count: usize,
    devices: files::Devices,
}

/// A tree of groups, and the files of it that are read.
struct Hierarchy {
    name: &'static str,
    files: Vec<File>,
    root: Group,
}

impl CgroupUnits {
    fn new(paths: &Paths, flags: &FlagValues) -> Result<Self, String> {
        let number = |flag: &str, most: i64| {
            let number = flags.int(flag)?;
            let number = usize::try_from(number).ok().filter(|_| (1..=most).contains(&number));
            number.ok_or_else(|| format!("--{flag}: expected 1 to {most}"))
        };
        let whole = |flag: &str| match flags.text(flag) {
            "" => String::new(),
            pattern => format!("^(?:{pattern})$"),
        };
        Ok(CgroupUnits {
            hierarchies: hierarchies(&paths.sys("fs/cgroup")),
            filter: Filter::new(&whole(INCLUDE_FLAG), &whole(EXCLUDE_FLAG))?,
            depth: number(DEPTH_FLAG, MOST_DEPTH)?,
            count: number(COUNT_FLAG, MOST_UNITS)?,
            devices: files::Devices::new(paths.sys("dev/block")),
        })
    }
}

/// What is mounted: a tree of v2 alone, or one for each controller of v1 and beside them one of v2 for the others.
fn hierarchies(folder: &Path) -> Vec<Hierarchy> {
    let hierarchy = |name: &'static str, folder: &Path, files: Vec<File>| Hierarchy {
        name,
        files,
        root: Group::root(folder),
    };
    if folder.join("cgroup.controllers").exists() {
        return vec![hierarchy("unified", folder, V2.iter().map(|(_, file)| *file).collect())];
    }
    let has = |controller: &str| folder.join(controller).is_dir();
    let mut found: Vec<Hierarchy> = V1
        .iter()
        .filter(|(controller, _)| has(controller))
        .map(|(controller, files)| hierarchy(controller, &folder.join(controller), files.to_vec()))
        .collect();
    if has("unified") {
        let others = V2.iter().filter(|(controller, _)| !has(controller)).map(|(_, file)| *file).collect();
        found.push(hierarchy("unified", &folder.join("unified"), others));
    }
    found.retain(|hierarchy| !hierarchy.files.is_empty());
    found
}

impl Collector for CgroupUnits {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let CgroupUnits { hierarchies, filter, depth, count, devices } = self;
        if hierarchies.is_empty() {
            return Err(CollectError::NoData("no control groups are mounted".into()));
        }
        let mut faults = Faults::default();
        for Hierarchy { name, files, root } in hierarchies {
            let mut shown = 0;
            let mut left_out = 0;
            let mut each = |unit: &mut tree::Unit| {
                if shown == *count {
                    left_out += 1;
                    return;
                }
                shown += 1;
                for (attribute, content) in &mut unit.attributes {
                    match attribute.read(&mut tick.buffer) {
                        Ok(Some(text)) => {
                            if let Err((line, what)) = content.put(text, &unit.name, devices, out) {
                                faults.note(|| CollectError::malformed(attribute.path(), line, what));
                            }
                        }
                        Ok(None) => {}
                        Err(error) => faults.note(|| error.into()),
                    }
                }
            };
            let walked = Walk { files, filter, depth: *depth }.run(root, &mut each);
            match walked {
                Ok(too_many) => {
                    out.put(&UNITS, &[name], shown as f64);
                    out.put(&LEFT_OUT, &[name], (left_out + too_many) as f64);
                }
                Err(error) => faults.note(|| CollectError::absent_is_no_data(error)),
            }
        }
        devices.finish();
        faults.finish()
    }
}
