//! The interfaces as sysfs shows them, without its files: what rtnetlink says too comes from the dump of this
//! tick; what it does not say (how address and name came, device id, speed and duplex) is kept, and read again
//! for an interface that is new or whose facts in the dump changed, in that tick and the next; for those that
//! stand on it or that it belongs to; and for all of them in turn, so that nothing stays wrong for ever.
//!
//! All this only while sysfs shows the interfaces of the namespace that our socket is in: every interface that
//! comes is compared with its files, and at the start the list is too. Where they disagree, [`Kept::put`] gives
//! nothing and says so, and looks again later.
//!
//! Cost a tick: six system calls for every 120 interfaces (for fewer, in some ticks alone), in every fourth round nine; 24 for an interface that
//! is new. On a kernel before 5.19, three for each interface.

use std::io;
use std::path::PathBuf;

use super::super::filter::Filter;
use super::super::{Link, SharedLinks};
use super::sysfs::{AttributePath, trimmed};
use super::{ATTRIBUTE_SIZE, FILES, IFF_UP, NUMBERS, Number, View, parse_number};
use crate::sys::folder::Folder;
use crate::sys::text::HardwareAddress;

/// Ticks within which each interface has its turn.
const ROUND: usize = 120;
/// Of so many rounds one reads what hardly changes, the others speed and duplex.
const ROUNDS_OF_SPEED: u64 = 4;
/// Ticks before the namespaces are compared again, at the most.
const LONGEST_PAUSE: u32 = 64;
/// Levels of interfaces upon interfaces through which a change is followed.
const LEVELS: usize = 4;
/// `MAX_ADDR_LEN` of the kernel.
const ADDRESS_SIZE: usize = 32;
/// The dump adds these to what the interface's own flags are, and says by counts whether the last two are set.
const ADDED_FLAGS: u32 = (libc::IFF_RUNNING | libc::IFF_LOWER_UP | libc::IFF_DORMANT) as u32;
const COUNTED_FLAGS: u32 = (libc::IFF_PROMISC | libc::IFF_ALLMULTI) as u32;

/// Names of the states of RFC 2863, by number.
pub(super) const OPERSTATES: [&str; 7] =
    ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"];

pub(super) struct Kept {
    folder: PathBuf,
    path: AttributePath,
    buffer: Vec<u8>,
    /// In ascending order of their numbers.
    interfaces: Vec<Interface>,
    agreement: Agreement,
    tick: u64,
    /// Whose turn is next, and the rounds so far.
    turn: usize,
    round: u64,
    /// Interfaces whose turn it has been so far, in parts of [`ROUND`].
    due: usize,
}

/// Whether sysfs shows the namespace of our socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Agreement {
    Unknown,
    Yes,
    /// They are compared again after so many ticks, of the pause that was set.
    No {
        ticks: u32,
        pause: u32,
    },
}

/// What rtnetlink says that may bring along a change of what it does not say.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Facts {
    flags: u32,
    operstate: Option<u8>,
    carrier: [Option<u32>; 3],
    lower: Option<u32>,
    master: Option<u32>,
    mtu: Option<u32>,
    address: [u8; ADDRESS_SIZE],
    name: [u8; 16],
}

/// What only sysfs says.
#[derive(Clone, Copy, Default)]
struct Extra {
    address_assign_type: Option<i64>,
    name_assign_type: Option<i64>,
    device_id: Option<i64>,
    speed: Option<i64>,
    duplex: Duplex,
    /// Those of [`ADDED_FLAGS`] that the interface has set itself.
    own_flags: u32,
}

#[derive(Clone, Copy, Default)]
enum Duplex {
    #[default]
    None,
    Half,
    Full,
    Unknown,
}

impl Duplex {
    fn parse(word: Option<&[u8]>) -> Self {
        match word {
            Some(b"half") => Duplex::Half,
            Some(b"full") => Duplex::Full,
            Some(b"unknown") => Duplex::Unknown,
            _ => Duplex::None,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Duplex::None => "",
            Duplex::Half => "half",
            Duplex::Full => "full",
            Duplex::Unknown => "unknown",
        }
    }
}

struct Interface {
    index: u32,
    facts: Facts,
    extra: Extra,
    /// The tick that last had it.
    seen: u64,
    /// Ticks in which its files are to be read again.
    dirty: u8,
}

impl Facts {
    fn of(link: &Link<'_>) -> Self {
        let mut facts = Facts {
            flags: link.flags,
            operstate: link.operstate,
            carrier: [link.carrier_changes, link.carrier_ups, link.carrier_downs],
            lower: link.lower,
            master: link.master,
            mtu: link.mtu,
            address: [0; ADDRESS_SIZE],
            name: [0; 16],
        };
        copy_start(&mut facts.address, link.address);
        copy_start(&mut facts.name, link.name);
        facts
    }
}

fn copy_start(to: &mut [u8], from: &[u8]) {
    let length = to.len().min(from.len());
    to[..length].copy_from_slice(&from[..length]);
}

impl Kept {
    pub(super) fn new(folder: PathBuf) -> Self {
        Kept {
            path: AttributePath::new(&folder),
            folder,
            buffer: Vec::new(),
            interfaces: Vec::new(),
            agreement: Agreement::Unknown,
            tick: 0,
            turn: 0,
            round: 0,
            due: 0,
        }
    }

    /// Gives each interface to `put`; false, and nothing given, where sysfs has to be read instead.
    pub(super) fn put(
        &mut self,
        links: &mut SharedLinks,
        filter: &mut Filter,
        put: &mut impl FnMut(&View<'_>),
    ) -> bool {
        if let Agreement::No { ticks, pause } = self.agreement
            && ticks > 0
        {
            self.agreement = Agreement::No { ticks: ticks - 1, pause };
            return false;
        }
        let Ok(all) = links.read() else { return false };
        self.tick += 1;
        let agrees = (self.agreement == Agreement::Yes || self.lists_agree(all.clone()))
            && self.note(all.clone(), filter).is_ok();
        if !agrees {
            let pause = match self.agreement {
                Agreement::No { pause, .. } => (pause * 2).min(LONGEST_PAUSE),
                Agreement::Unknown | Agreement::Yes => 1,
            };
            self.agreement = Agreement::No { ticks: pause, pause };
            self.interfaces.clear();
            return false;
        }
        self.agreement = Agreement::Yes;
        self.refresh();
        for link in all {
            let device = String::from_utf8_lossy(link.name);
            let known = self.interfaces.binary_search_by_key(&link.index, |interface| interface.index);
            if let Ok(at) = known
                && !filter.ignores(&device)
            {
                put_link(&link, &device, &self.interfaces[at].extra, &mut self.path, put);
            }
        }
        true
    }

    /// Whether sysfs has as many interfaces as the dump; [`Kept::note`] looks for each of them.
    fn lists_agree<'a>(&mut self, all: impl Iterator<Item = Link<'a>>) -> bool {
        let Ok(folder) = Folder::open(&self.folder) else { return false };
        let mut count = 0;
        while let Ok(entries) = folder.next_entries(&mut self.buffer) {
            if entries.is_end() {
                return count == all.count();
            }
            count += entries.filter(|entry| entry.may_be_folder).count();
        }
        false
    }

    /// Compares the interfaces with those of the last tick. Fails where one that is new is not the one that
    /// sysfs shows under its name.
    fn note<'a>(&mut self, all: impl Iterator<Item = Link<'a>>, filter: &mut Filter) -> io::Result<()> {
        let mut has_dirty = false;
        for link in all.filter(|link| !filter.ignores(&String::from_utf8_lossy(link.name))) {
            let facts = Facts::of(&link);
            let found = self.interfaces.binary_search_by_key(&link.index, |interface| interface.index);
            match found {
                Ok(at) => {
                    let interface = &mut self.interfaces[at];
                    interface.seen = self.tick;
                    if interface.facts != facts {
                        interface.facts = facts;
                        interface.dirty = 2;
                    }
                    has_dirty |= interface.dirty > 0;
                }
                Err(at) => {
                    if !is_the_same(&link, &mut self.path)? {
                        return Err(io::ErrorKind::NotFound.into());
                    }
                    let new = Interface {
                        index: link.index,
                        facts,
                        extra: Extra::default(),
                        seen: self.tick,
                        dirty: 2,
                    };
                    self.interfaces.insert(at, new);
                    has_dirty = true;
                }
            }
        }
        let tick = self.tick;
        self.interfaces.retain(|interface| interface.seen == tick);
        if has_dirty {
            self.spread();
        }
        Ok(())
    }

    /// What stands on an interface that changed, or what it belongs to (a bond, a bridge), may have changed too.
    fn spread(&mut self) {
        for _ in 0..LEVELS {
            let mut found = false;
            for n in 0..self.interfaces.len() {
                let Interface { facts: Facts { lower, master, .. }, dirty, .. } = self.interfaces[n];
                let position = |index: Option<u32>| {
                    self.interfaces.binary_search_by_key(&index?, |interface| interface.index).ok()
                };
                let (lower, master) = (position(lower), position(master));
                if dirty < 2 && lower.is_some_and(|lower| self.interfaces[lower].dirty == 2) {
                    self.interfaces[n].dirty = 2;
                    found = true;
                }
                if let Some(master) = master
                    && dirty == 2
                    && self.interfaces[master].dirty < 2
                {
                    self.interfaces[master].dirty = 2;
                    found = true;
                }
            }
            if !found {
                return;
            }
        }
    }

    /// Reads the files of those that changed, and of those whose turn it is.
    fn refresh(&mut self) {
        let Kept { interfaces, path, turn, round, due, .. } = self;
        for interface in interfaces.iter_mut().filter(|interface| interface.dirty > 0) {
            interface.dirty -= 1;
            interface.read_settings(path);
            interface.read_speed(path);
        }
        *due += interfaces.len();
        for _ in 0..std::mem::replace(due, *due % ROUND) / ROUND {
            if *turn >= interfaces.len() {
                *turn = 0;
                *round += 1;
            }
            let interface = &mut interfaces[*turn];
            if *round % ROUNDS_OF_SPEED == ROUNDS_OF_SPEED - 1 {
                interface.read_settings(path);
            } else {
                interface.read_speed(path);
            }
            *turn += 1;
        }
    }
}

impl Interface {
    fn read_settings(&mut self, path: &mut AttributePath) {
        let name = crate::sys::netlink::string(&self.facts.name);
        let mut number = |which| read_number(path, name, which);
        self.extra.address_assign_type = number(Number::AddressAssignType);
        self.extra.name_assign_type = number(Number::NameAssignType);
        self.extra.device_id = number(Number::DeviceId);
        // Seldom more than none: a driver may set what the kernel else only shows.
        self.extra.own_flags = number(Number::Flags).map_or(0, |flags| flags as u32 & ADDED_FLAGS);
    }

    /// Only an interface that is up has a speed.
    fn read_speed(&mut self, path: &mut AttributePath) {
        (self.extra.speed, self.extra.duplex) = (None, Duplex::None);
        if i64::from(self.facts.flags) & IFF_UP != 0 {
            let name = crate::sys::netlink::string(&self.facts.name);
            self.extra.speed = read_number(path, name, Number::Speed);
            let mut buffer = [0; ATTRIBUTE_SIZE];
            self.extra.duplex = Duplex::parse(path.read(name, "duplex", &mut buffer).ok().flatten());
        }
    }
}

fn read_number(path: &mut AttributePath, name: &[u8], number: Number) -> Option<i64> {
    let mut buffer = [0; ATTRIBUTE_SIZE];
    path.read(name, FILES[number as usize].0, &mut buffer).ok().flatten().and_then(parse_number)
}

/// Whether sysfs shows the same interface under this name: the number alone may be the same by chance.
fn is_the_same(link: &Link<'_>, path: &mut AttributePath) -> io::Result<bool> {
    let lower = i64::from(link.lower.unwrap_or(link.index));
    let same = read_number(path, link.name, Number::Index) == Some(i64::from(link.index))
        && read_number(path, link.name, Number::Lower) == Some(lower);
    let mut buffer = [0; ATTRIBUTE_SIZE];
    let address = path.read(link.name, "address", &mut buffer)?;
    Ok(same && address == Some(HardwareAddress::new(link.address).as_str().as_bytes()))
}

fn put_link(
    link: &Link<'_>,
    device: &str,
    extra: &Extra,
    path: &mut AttributePath,
    put: &mut impl FnMut(&View<'_>),
) {
    let alias = trimmed(&link.alias[..link.alias.len().min(ATTRIBUTE_SIZE)]);
    let state = link.operstate.and_then(|state| OPERSTATES.get(usize::from(state)));
    put(&View {
        device,
        address: HardwareAddress::new(link.address).as_str(),
        broadcast: HardwareAddress::new(link.broadcast).as_str(),
        duplex: extra.duplex.text(),
        operstate: state.copied().unwrap_or_default(),
        alias: &alias,
        numbers: numbers_of(link, extra, path),
    });
}

fn numbers_of(link: &Link<'_>, extra: &Extra, path: &mut AttributePath) -> [Option<i64>; NUMBERS] {
    let unsigned = i64::from;
    // sysfs shows these through "%d".
    let signed = |number: u32| i64::from(number.cast_signed());
    let is_up = i64::from(link.flags) & IFF_UP != 0;
    let flags = own_flags(link).map(|flags| i64::from(flags | extra.own_flags));
    let mut numbers = [None; NUMBERS];
    for (which, number) in [
        (Number::AddressAssignType, extra.address_assign_type),
        (Number::Carrier, link.carrier.filter(|_| is_up).map(i64::from)),
        (Number::CarrierChanges, link.carrier_changes.map(signed)),
        (Number::CarrierUps, link.carrier_ups.map(signed)),
        (Number::CarrierDowns, link.carrier_downs.map(signed)),
        (Number::DeviceId, extra.device_id),
        (Number::Dormant, is_up.then(|| i64::from(link.flags & libc::IFF_DORMANT as u32 != 0))),
        (Number::Flags, flags.or_else(|| read_number(path, link.name, Number::Flags))),
        (Number::Index, Some(unsigned(link.index))),
        (Number::Lower, Some(signed(link.lower.unwrap_or(link.index)))),
        (Number::LinkMode, link.link_mode.map(i64::from)),
        (Number::Mtu, link.mtu.map(signed)),
        (Number::NameAssignType, extra.name_assign_type),
        (Number::Group, link.group.map(signed)),
        (Number::Speed, extra.speed),
        (Number::QueueLength, link.queue_length.map(signed)),
        (Number::Hardware, Some(i64::from(link.hardware))),
    ] {
        numbers[which as usize] = number;
    }
    numbers
}

/// The interface's own flags, where the kernel says all that it takes (since 5.19).
fn own_flags(link: &Link<'_>) -> Option<u32> {
    let (promiscuous, all_multicast) = (link.promiscuity? > 0, link.allmulti? > 0);
    let counted = [(promiscuous, libc::IFF_PROMISC), (all_multicast, libc::IFF_ALLMULTI)];
    let set = counted.iter().filter(|(is_set, _)| *is_set).fold(0, |flags, &(_, flag)| flags | flag as u32);
    Some(link.flags & !(ADDED_FLAGS | COUNTED_FLAGS) | set)
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
