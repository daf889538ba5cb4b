//! Traffic of the network interfaces, from the dump of rtnetlink(7) that collectors share, or from /proc/net/dev.
//! Cost a tick: that dump; or one read.
//!
//! The names are those of /proc/net/dev, which adds some of the kernel's counters up; with
//! --collector.netdev.enable-detailed-metrics they are the kernel's own.

mod addresses;
pub(super) mod columns;

use std::borrow::Cow;
use std::path::PathBuf;

use addresses::Addresses;
use columns::Column;
use hashbrown::HashMap;

use super::error::Faults;
use super::{CollectError, Collector, Filter, Flag, FlagDefault, Registration, SetupError, Tick};
use crate::model::{Dynamic, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::netlink;
use crate::sys::text;

const INCLUDE_FLAG: &str = "collector.netdev.device-include";
const EXCLUDE_FLAG: &str = "collector.netdev.device-exclude";
const OLD_INCLUDE_FLAG: &str = "collector.netdev.device-whitelist";
const OLD_EXCLUDE_FLAG: &str = "collector.netdev.device-blacklist";
const ADDRESS_FLAG: &str = "collector.netdev.address-info";
const DETAILED_FLAG: &str = "collector.netdev.enable-detailed-metrics";
const ALIAS_FLAG: &str = "collector.netdev.label-ifalias";
const NETLINK_FLAG: &str = "collector.netdev.netlink";

pub(super) static COLLECTOR: Registration = Registration {
    name: "netdev",
    default_enabled: true,
    flags: &[
        Flag::include(INCLUDE_FLAG),
        Flag::exclude(EXCLUDE_FLAG),
        Flag::alias(OLD_INCLUDE_FLAG, INCLUDE_FLAG),
        Flag::alias(OLD_EXCLUDE_FLAG, EXCLUDE_FLAG),
        Flag::new(ADDRESS_FLAG, FlagDefault::Switch(false), "Give the addresses of every device too."),
        Flag::new(
            DETAILED_FLAG,
            FlagDefault::Switch(false),
            "Give the kernel's own counters, under other names.",
        ),
        Flag::new(ALIAS_FLAG, FlagDefault::Switch(false), "Label every device with its alias."),
        Flag::new(
            NETLINK_FLAG,
            FlagDefault::Switch(true),
            "Ask the kernel by netlink instead of /proc/net/dev.",
        ),
    ],
    families: columns::FAMILIES,
    new: |setup| {
        let flags = setup.flags;
        let filter =
            Filter::from_flags(flags, (INCLUDE_FLAG, OLD_INCLUDE_FLAG), (EXCLUDE_FLAG, OLD_EXCLUDE_FLAG));
        let detailed = flags.switch(DETAILED_FLAG);
        let from_netlink = flags.switch(NETLINK_FLAG);
        let columns = match (from_netlink, detailed) {
            (true, false) => columns::LEGACY,
            (true, true) => columns::DETAILED,
            (false, false) => columns::PROC_LEGACY,
            (false, true) => columns::PROC_DETAILED,
        };
        Ok(Box::new(Netdev {
            filter: filter.map_err(SetupError::of("netdev"))?,
            proc: (!from_netlink).then(|| KeptFile::records(setup.paths.proc("net/dev"), LONGEST_LINE)),
            columns,
            alias: flags
                .switch(ALIAS_FLAG)
                .then(|| AliasFiles { folder: setup.paths.sys("class/net"), kept: HashMap::new() }),
            addresses: flags.switch(ADDRESS_FLAG).then(Addresses::default),
        }))
    },
};

/// A name and 16 numbers.
const LONGEST_LINE: usize = 512;
/// `struct rtnl_link_stats64` begins with so many counters that we know.
const KNOWN: usize = 24;

struct Netdev {
    filter: Filter,
    /// /proc/net/dev, where netlink is not wanted.
    proc: Option<KeptFile>,
    columns: &'static [Column],
    /// Where the alias is wanted as a label.
    alias: Option<AliasFiles>,
    addresses: Option<Addresses>,
}

impl Collector for Netdev {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        if self.proc.is_some() {
            self.put_proc(tick, out, &mut faults)?;
        } else {
            self.put_links(tick, out)?;
        }
        if let Some(addresses) = &mut self.addresses {
            addresses.put(&mut tick.links, out)?;
        }
        faults.finish()
    }
}

impl Netdev {
    fn put_links(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let Netdev { filter, columns, alias: wants_alias, .. } = self;
        for link in tick.links.read()? {
            let counters = link.counters64.map(counters64).or_else(|| link.counters32.map(counters32));
            let device = String::from_utf8_lossy(link.name);
            let Some(counters) = counters.filter(|_| !filter.ignores(&device)) else { continue };
            let alias = wants_alias.as_ref().map(|_| String::from_utf8_lossy(link.alias));
            put_device(columns, &counters, &device, alias.as_deref(), out);
        }
        Ok(())
    }

    fn put_proc(
        &mut self,
        tick: &mut Tick,
        out: &mut Recorder,
        faults: &mut Faults,
    ) -> Result<(), CollectError> {
        let Netdev { filter, proc: Some(file), columns, alias: aliases, .. } = self else { return Ok(()) };
        let text = file.read(&mut tick.buffer)?;
        for (number, line) in text::ended_lines(text).enumerate().skip(2) {
            let Some((device, counters)) = parse_line(line) else {
                let expected = "expected `device:` and 16 whole numbers";
                faults.note(|| CollectError::malformed(file.path(), number + 1, expected));
                continue;
            };
            let device = String::from_utf8_lossy(device);
            if filter.ignores(&device) {
                continue;
            }
            let alias = aliases.as_mut().map(|files| files.read(&device, &mut tick.scratch));
            put_device(columns, &counters, &device, alias.as_deref(), out);
        }
        Ok(())
    }
}

/// The files `ifalias` of /sys/class/net.
struct AliasFiles {
    folder: PathBuf,
    kept: HashMap<String, KeptFile>,
}

/// Devices whose file is kept open; with more, all are opened anew.
const MOST_ALIASES: usize = 4096;

impl AliasFiles {
    /// The alias of that device, empty where it has none.
    fn read<'b>(&mut self, device: &str, buffer: &'b mut Vec<u8>) -> Cow<'b, str> {
        if self.kept.len() > MOST_ALIASES {
            self.kept.clear();
        }
        let path = || KeptFile::whole(self.folder.join(device).join("ifalias"));
        let file = self.kept.entry_ref(device).or_insert_with(path);
        String::from_utf8_lossy(text::trim(file.read(buffer).unwrap_or_default()))
    }
}

fn put_device(
    columns: &'static [Column],
    counters: &[u64; KNOWN],
    device: &str,
    alias: Option<&str>,
    out: &mut Recorder,
) {
    for column in columns {
        let value = column.of.iter().fold(0u64, |sum, &counter| sum.wrapping_add(counters[counter])) as f64;
        match alias {
            None => out.put(&column.family, &[device], value),
            Some(alias) => {
                let sample = Dynamic {
                    name: &[column.family.name],
                    suffix: "",
                    help: &[column.family.help],
                    kind: column.family.kind,
                    labels: &[("device", device), ("ifalias", alias)],
                };
                out.put_dynamic(&sample, value);
            }
        }
    }
}

/// `struct rtnl_link_stats64`; what an older kernel has not counts as 0.
fn counters64(content: &[u8]) -> [u64; KNOWN] {
    std::array::from_fn(|n| netlink::u64_at(content, n * 8).unwrap_or(0))
}

/// `struct rtnl_link_stats`, with the same members in 32 bits.
fn counters32(content: &[u8]) -> [u64; KNOWN] {
    std::array::from_fn(|n| netlink::u32_at(content, n * 4).map_or(0, u64::from))
}

/// A line of /proc/net/dev: the device, and its counters in the order of the file.
fn parse_line(line: &[u8]) -> Option<(&[u8], [u64; KNOWN])> {
    // The name of a device may hold a colon; its numbers may not.
    let colon = line.iter().rposition(|&b| b == b':')?;
    let (device, numbers) = (text::trim(&line[..colon]), &line[colon + 1..]);
    let mut counters = [0; KNOWN];
    let mut words = text::words(numbers);
    for counter in &mut counters[..columns::PROC_COLUMNS] {
        *counter = text::parse_u64(words.next()?)?;
    }
    Some((device, counters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_sixteen_numbers() {
        let line = b"veth:1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16";
        let (device, counters) = parse_line(line).unwrap();
        assert_eq!((device, counters[0], counters[15], counters[16]), (&b"veth:1"[..], 1, 16, 0));
        for end in 0..line.len() - 2 {
            assert!(parse_line(&line[..end]).is_none(), "{end}");
        }
    }

    #[test]
    fn short_statistics_count_as_zero() {
        let counters = counters64(&7u64.to_ne_bytes().repeat(23));
        assert_eq!((counters[22], counters[23]), (7, 0));
        assert_eq!(counters32(&7u32.to_ne_bytes().repeat(24))[23], 7);
        assert_eq!(counters64(b"cut"), [0; KNOWN]);
    }
}
