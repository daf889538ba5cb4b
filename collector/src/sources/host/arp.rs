//! Neighbours of IPv4 by interface, from a dump of rtnetlink(7), or from /proc/net/arp.
//! Cost a tick: three system calls and the dump of links that collectors share; or one read.

use std::io;

use super::error::Faults;
use super::{CollectError, Collector, Filter, Flag, FlagDefault, Registration, SetupError, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::netlink::{self, Netlink};
use crate::sys::text;

const INCLUDE_FLAG: &str = "collector.arp.device-include";
const EXCLUDE_FLAG: &str = "collector.arp.device-exclude";
const NETLINK_FLAG: &str = "collector.arp.netlink";

static ENTRIES: Family =
    Family::gauge("node_arp_entries", "Neighbours of IPv4 that the kernel knows.", &["device"]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "arp",
    default_enabled: true,
    flags: &[
        Flag::include(INCLUDE_FLAG),
        Flag::exclude(EXCLUDE_FLAG),
        Flag::new(
            NETLINK_FLAG,
            FlagDefault::Switch(true),
            "Ask the kernel by netlink instead of /proc/net/arp.",
        ),
    ],
    families: &[&ENTRIES],
    new: |setup| {
        let filter = Filter::from_flags(setup.flags, (INCLUDE_FLAG, ""), (EXCLUDE_FLAG, ""));
        let source = if setup.flags.switch(NETLINK_FLAG) {
            Source::Netlink { netlink: Netlink::new(), counts: Vec::new() }
        } else {
            let file = KeptFile::records(setup.paths.proc("net/arp"), LONGEST_LINE);
            Source::Proc { file, counts: Vec::new() }
        };
        Ok(Box::new(Arp { filter: filter.map_err(SetupError::of("arp"))?, source }))
    },
};

const LONGEST_LINE: usize = 256;
/// Devices come and go: above this, names without neighbours are forgotten.
const KEPT_NAMES: usize = 64;

struct Arp {
    filter: Filter,
    source: Source,
}

enum Source {
    /// Counts by the number of the interface, in ascending order.
    Netlink { netlink: Netlink, counts: Vec<(u32, u64)> },
    /// Counts by the name of the device, in ascending order; up to [`KEPT_NAMES`], those of devices without
    /// neighbours stay with 0.
    Proc { file: KeptFile, counts: Vec<(String, u64)> },
}

impl Collector for Arp {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        match &mut self.source {
            Source::Netlink { netlink, counts } => {
                count_neighbours(netlink, counts)
                    .map_err(|error| CollectError::call("netlink dump of neighbours", &error))?;
                let names = tick.links.names()?;
                for (index, count) in counts {
                    // An interface that comes or goes just now has its neighbours in the next tick, or none.
                    let Some(name) = names.of(*index) else { continue };
                    let device = String::from_utf8_lossy(name);
                    if !self.filter.ignores(&device) {
                        out.put(&ENTRIES, &[&device], *count as f64);
                    }
                }
                Ok(())
            }
            Source::Proc { file, counts } => {
                let mut faults = Faults::default();
                let text = file.read(&mut tick.buffer)?;
                if counts.len() > KEPT_NAMES {
                    counts.retain(|(_, count)| *count > 0);
                }
                counts.iter_mut().for_each(|(_, count)| *count = 0);
                for line in count_devices(text, counts) {
                    faults.note(|| CollectError::malformed(file.path(), line, "expected six columns"));
                }
                for (device, count) in counts.iter().filter(|(_, count)| *count > 0) {
                    if !self.filter.ignores(device) {
                        out.put(&ENTRIES, &[device], *count as f64);
                    }
                }
                faults.finish()
            }
        }
    }
}

/// Neighbours in the state NUD_NOARP (of loopback and the like) are no ARP entries.
fn count_neighbours(netlink: &mut Netlink, counts: &mut Vec<(u32, u64)>) -> io::Result<()> {
    counts.clear();
    for (header, _) in netlink.dump(netlink::Table::Neighbours4)? {
        // struct ndmsg: family, padding, then ifindex at 4 and state at 8.
        let (Some(index), Some(state)) = (netlink::u32_at(header, 4), header.get(8..10)) else { continue };
        if u16::from_ne_bytes([state[0], state[1]]) & libc::NUD_NOARP != 0 {
            continue;
        }
        match counts.binary_search_by_key(&index, |&(index, _)| index) {
            Ok(at) => counts[at].1 += 1,
            Err(at) => counts.insert(at, (index, 1)),
        }
    }
    Ok(())
}

/// Adds up the lines of each device. Gives the numbers of the lines that are not as they should be.
fn count_devices<'a>(text: &'a [u8], counts: &'a mut Vec<(String, u64)>) -> impl Iterator<Item = usize> + 'a {
    text::ended_lines(text).enumerate().skip(1).filter_map(|(number, line)| {
        let device = text::words(line).nth(5).map(String::from_utf8_lossy);
        let Some(device) = device else { return Some(number + 1) };
        match counts.binary_search_by(|(name, _)| name.as_str().cmp(&device)) {
            Ok(at) => counts[at].1 += 1,
            Err(at) => counts.insert(at, (device.into_owned(), 1)),
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_by_device() {
        let text = b"IP address       HW type     Flags       HW address            Mask     Device\n\
            192.0.2.1        0x1         0x2         00:50:56:c0:00:08     *        eth1\n\
            192.0.2.2        0x1         0x2         00:50:56:c0:00:09     *        eth0\n\
            192.0.2.3        0x1\n\
            192.0.2.4        0x1         0x2         00:50:56:c0:00:0a     *        eth1\n";
        let mut counts = Vec::new();
        assert_eq!(count_devices(text, &mut counts).collect::<Vec<_>>(), [4]);
        assert_eq!(counts, [("eth0".to_owned(), 1), ("eth1".to_owned(), 2)]);
    }

    #[test]
    fn this_host_can_be_asked() {
        let mut counts = vec![(7, 7)];
        count_neighbours(&mut Netlink::new(), &mut counts).unwrap();
        assert!(counts.iter().all(|&(index, count)| index > 0 && count > 0 && count != 7));
    }
}
