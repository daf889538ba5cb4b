//! Bonded network interfaces and how many of their members are up, from /sys/class/net. Cost a tick: a read,
//! one more for each bond, and one for each member. Without the kernel module there is nothing to read.
//! Refuses a list with a name twice, or with more than [`MOST_NAMES`]: a file is kept open for each.

use std::path::PathBuf;

use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::sysfs::Attribute;
use crate::sys::text;

/// Names in a list of bonds or members.
const MOST_NAMES: usize = 1024;

static MEMBERS: Family =
    Family::gauge("node_bonding_slaves", "Interfaces that a bond is made of.", &["master"]);
static ACTIVE: Family =
    Family::gauge("node_bonding_active", "Interfaces of a bond whose link is up.", &["master"]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "bonding",
    default_enabled: true,
    flags: &[],
    families: &[&MEMBERS, &ACTIVE],
    new: |setup| {
        let folder = setup.paths.sys("class/net");
        let names = KeptFile::whole(folder.join("bonding_masters"));
        Ok(Box::new(Bonding { folder, names, known: Vec::new(), bonds: Vec::new() }))
    },
};

struct Bonding {
    folder: PathBuf,
    names: KeptFile,
    /// What `names` said when `bonds` was made.
    known: Vec<u8>,
    bonds: Vec<Bond>,
}

struct Bond {
    name: String,
    folder: PathBuf,
    names: KeptFile,
    known: Vec<u8>,
    members: Vec<Member>,
}

struct Member {
    state: Attribute,
    /// Where kernels before 3.9 have it.
    old_state: Attribute,
}

impl Collector for Bonding {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let Bonding { folder, names, known, bonds } = self;
        let text = names.read(&mut tick.buffer).map_err(CollectError::absent_is_no_data)?;
        if remember(known, text) {
            bonds.clear();
            match parse_names(known) {
                Some(names) => bonds.extend(names.iter().map(|name| Bond::new(name, folder.join(name)))),
                None => return Err(refuse(names, known)),
            }
        }
        let mut faults = Faults::default();
        for bond in bonds {
            match bond.count(tick) {
                Ok((members, active)) => {
                    out.put(&MEMBERS, &[&bond.name], f64::from(members));
                    out.put(&ACTIVE, &[&bond.name], f64::from(active));
                }
                Err(error) => faults.note(|| error),
            }
        }
        faults.finish()
    }
}

impl Bond {
    fn new(name: &str, folder: PathBuf) -> Self {
        let names = KeptFile::whole(folder.join("bonding/slaves"));
        Bond { name: name.to_owned(), folder, names, known: Vec::new(), members: Vec::new() }
    }

    /// The members, and those that are up.
    fn count(&mut self, tick: &mut Tick) -> Result<(u32, u32), CollectError> {
        let text = self.names.read(&mut tick.buffer)?;
        if remember(&mut self.known, text) {
            self.members.clear();
            match parse_names(&self.known) {
                Some(names) => self.members.extend(names.iter().map(|name| Member::new(name, &self.folder))),
                None => return Err(refuse(&self.names, &mut self.known)),
            }
        }
        let (mut members, mut active) = (0, 0);
        for Member { state, old_state } in &mut self.members {
            let mut is_up = state.read(&mut tick.buffer)?.map(|state| state == b"up");
            if is_up.is_none() {
                is_up = old_state.read(&mut tick.buffer)?.map(|state| state == b"up");
            }
            let Some(is_up) = is_up else {
                return Err(state.absent().into());
            };
            members += 1;
            active += u32::from(is_up);
        }
        Ok((members, active))
    }
}

impl Member {
    fn new(name: &str, bond: &std::path::Path) -> Self {
        let state =
            |prefix| Attribute::new(bond.join(format!("{prefix}_{name}")).join("bonding_slave/mii_status"));
        Member { state: state("lower"), old_state: state("slave") }
    }
}

/// The names in a list; `None` where one stands there twice, or there are too many.
fn parse_names(list: &[u8]) -> Option<Vec<&str>> {
    let names: Vec<&str> = text::words(list).filter_map(text::as_str).take(MOST_NAMES + 1).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    let is_good = names.len() <= MOST_NAMES && sorted.is_sorted_by(|a, b| a < b);
    is_good.then_some(names)
}

/// The error for such a list, which is looked at again in the next tick.
fn refuse(file: &KeptFile, known: &mut Vec<u8>) -> CollectError {
    known.clear();
    CollectError::malformed(file.path(), 1, format!("expected at most {MOST_NAMES} names, each once"))
}

/// Keeps `text`; whether it is other than before.
fn remember(known: &mut Vec<u8>, text: &[u8]) -> bool {
    let is_new = known != text;
    if is_new {
        known.clear();
        known.extend_from_slice(text);
    }
    is_new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_each_name_once_and_an_end() {
        assert_eq!(parse_names(b"bond1 bond0\n"), Some(vec!["bond1", "bond0"]));
        assert_eq!(parse_names(b"\n"), Some(vec![]));
        assert_eq!(parse_names(b"bond0 bond1 bond0\n"), None);
        let many = |count: usize| (0..count).map(|n| format!("bond{n} ")).collect::<String>();
        assert!(parse_names(many(MOST_NAMES).as_bytes()).is_some());
        assert!(parse_names(many(MOST_NAMES + 1).as_bytes()).is_none());
    }
}
