//! /proc/net/ip_vs: virtual services and the servers behind them, added up by the labels that are wanted. Labels
//! are made when a server comes; while all stay, each is found by the words of its line.

use std::net::{Ipv4Addr, Ipv6Addr};

use hashbrown::HashMap;

use crate::sys::text;

/// In the order of their values in [`Backends::for_each`].
pub(super) const LABELS: [&str; 6] =
    ["local_address", "local_port", "remote_address", "remote_port", "proto", "local_mark"];

/// Further servers are an error.
const MOST_BACKENDS: usize = 65_536;

/// Weight, active and inactive connections.
pub(super) type Sums = [u64; 3];

pub(super) struct Backends {
    wanted: [bool; LABELS.len()],
    groups: Vec<Group>,
    /// By protocol, address of the service, and address of the server, as in the file.
    by_words: HashMap<Box<[u8]>, usize>,
    seen: usize,
}

struct Group {
    labels: Vec<(&'static str, String)>,
    sums: Sums,
    is_seen: bool,
}

impl Backends {
    pub(super) fn new(wanted: [bool; LABELS.len()]) -> Self {
        Backends { wanted, groups: Vec::new(), by_words: HashMap::new(), seen: 0 }
    }

    /// Takes in the file of this tick. Error: the first line that is not as it should be. The others are taken, unless
    /// servers are added up: a sum that lacks one would be wrong.
    pub(super) fn refresh(&mut self, text: &[u8], key: &mut Vec<u8>) -> Result<(), (usize, &'static str)> {
        if self.by_words.len() > self.seen {
            // Servers have gone: what is kept is made anew, in the order of the file.
            self.by_words.clear();
            self.groups.clear();
        }
        self.seen = 0;
        for group in &mut self.groups {
            group.sums = [0; 3];
            group.is_seen = false;
        }
        let mut result = Ok(());
        let mut service = None;
        for (number, line) in text::ended_lines(text).enumerate() {
            let mut words = text::words(line);
            let (Some(first), second) = (words.next(), words.next()) else {
                result = result.and(Err((number + 1, "expected a service or a server")));
                continue;
            };
            match first {
                b"IP" | b"Prot" => {}
                b"->" if second == Some(b"RemoteAddress:Port") => {}
                b"->" => {
                    let added = service
                        .zip(second)
                        .and_then(|(service, remote)| self.add(service, remote, words.clone(), key));
                    if added.is_none() {
                        result = result.and(Err((number + 1, "expected an address and three whole numbers")));
                    }
                }
                protocol => service = second.map(|address| (protocol, address)),
            }
        }
        if result.is_err() && self.wanted.contains(&false) {
            self.groups.iter_mut().for_each(|group| group.is_seen = false);
        }
        result
    }

    /// `words` are the method of forwarding, and then the numbers.
    fn add(
        &mut self,
        (protocol, local): (&[u8], &[u8]),
        remote: &[u8],
        mut words: text::Words<'_>,
        key: &mut Vec<u8>,
    ) -> Option<()> {
        let mut number = |skip| text::parse_u64(words.nth(skip)?);
        let numbers = [number(1)?, number(0)?, number(0)?];
        key.clear();
        for word in [protocol, local, remote] {
            key.extend_from_slice(word);
            key.push(b' ');
        }
        let at = match self.by_words.get(key.as_slice()) {
            Some(&at) => at,
            None => self.make(protocol, local, remote, key)?,
        };
        self.seen += 1;
        let group = &mut self.groups[at];
        group.is_seen = true;
        for (sum, number) in group.sums.iter_mut().zip(numbers) {
            *sum = sum.wrapping_add(number);
        }
        Some(())
    }

    fn make(&mut self, protocol: &[u8], local: &[u8], remote: &[u8], key: &[u8]) -> Option<usize> {
        let (remote_address, remote_port) = parse_address(remote)?;
        let is_mark = protocol == b"FWM";
        let (local_address, local_port) = if is_mark { (String::new(), 0) } else { parse_address(local)? };
        let mark = if is_mark { text::as_str(local)? } else { "" };
        let values = [
            local_address,
            local_port.to_string(),
            remote_address,
            remote_port.to_string(),
            text::as_str(protocol)?.to_owned(),
            mark.to_owned(),
        ];
        if self.by_words.len() == MOST_BACKENDS {
            return None;
        }
        let labels: Vec<_> = LABELS
            .into_iter()
            .zip(values)
            .zip(self.wanted)
            .filter(|(_, wanted)| *wanted)
            .map(|(label, _)| label)
            .collect();
        let at = self.groups.iter().position(|group| group.labels == labels).unwrap_or_else(|| {
            self.groups.push(Group { labels, sums: [0; 3], is_seen: false });
            self.groups.len() - 1
        });
        self.by_words.insert(key.into(), at);
        Some(at)
    }

    /// The servers of this tick.
    pub(super) fn for_each(&self, mut each: impl FnMut(&[(&str, &str)], &Sums)) {
        for group in self.groups.iter().filter(|group| group.is_seen) {
            let mut labels = [("", ""); LABELS.len()];
            for (slot, (name, value)) in labels.iter_mut().zip(&group.labels) {
                *slot = (name, value);
            }
            each(&labels[..group.labels.len()], &group.sums);
        }
    }
}

/// `C0A80016:0CEA`, or `[2620:0000:0000:0000:0000:0000:0000:0001]:0050`.
fn parse_address(word: &[u8]) -> Option<(String, u16)> {
    let colon = word.iter().rposition(|&b| b == b':')?;
    let port = u16::try_from(text::parse_hex(&word[colon + 1..])?).ok()?;
    let address = &word[..colon];
    if let Some(inner) = address.strip_prefix(b"[") {
        let address: Ipv6Addr = text::as_str(inner.strip_suffix(b"]")?)?.parse().ok()?;
        let text = address.to_ipv4_mapped().map_or_else(|| address.to_string(), |v4| v4.to_string());
        return Some((text, port));
    }
    let number = text::parse_hex(address).filter(|_| address.len() == 8)?;
    Some((Ipv4Addr::from_bits(u32::try_from(number).ok()?).to_string(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "IP Virtual Server version 1.2.1 (size=4096)\n\
        Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n\
        TCP  C0A80016:0CEA wlc  \n  -> C0A85216:0CEA      Tunnel  100    248        2\n  \
        -> C0A85318:0CEA      Tunnel  50     8          1\n\
        FWM  10001000 wlc\n  -> C0A8321A:0CEA      Route   20     64         1\n";

    fn given(backends: &Backends) -> Vec<(String, Sums)> {
        let mut given = Vec::new();
        backends.for_each(|labels, sums| {
            let values: Vec<_> = labels.iter().map(|(_, value)| *value).collect();
            given.push((values.join(" "), *sums));
        });
        given
    }

    #[test]
    fn servers_come_go_and_are_added_up() {
        let mut all = Backends::new([true; 6]);
        let mut key = Vec::new();
        let expected = [
            ("192.168.0.22 3306 192.168.82.22 3306 TCP ".to_owned(), [100, 248, 2]),
            ("192.168.0.22 3306 192.168.83.24 3306 TCP ".to_owned(), [50, 8, 1]),
            (" 0 192.168.50.26 3306 FWM 10001000".to_owned(), [20, 64, 1]),
        ];
        for _ in 0..2 {
            all.refresh(TEXT.as_bytes(), &mut key).unwrap();
            assert_eq!(given(&all), expected);
        }
        let fewer = TEXT.replace("  -> C0A85318:0CEA      Tunnel  50     8          1\n", "");
        for _ in 0..2 {
            all.refresh(fewer.as_bytes(), &mut key).unwrap();
            assert_eq!(given(&all), [expected[0].clone(), expected[2].clone()]);
        }
        let mut by_protocol = Backends::new([false, false, false, false, true, false]);
        by_protocol.refresh(TEXT.as_bytes(), &mut key).unwrap();
        assert_eq!(given(&by_protocol), [("TCP".to_owned(), [150, 256, 3]), ("FWM".to_owned(), [20, 64, 1])]);
    }

    #[test]
    fn bad_lines_are_named_and_the_others_taken() {
        let mut key = Vec::new();
        for (bad, line) in [("  -> X:0CEA Tunnel 1 2 3\n", 4), ("  -> C0A85216:0CEA Tunnel 1 2\n", 4)] {
            let text = TEXT.replace("TCP  C0A80016", &format!("{bad}TCP  C0A80016"));
            let mut backends = Backends::new([true; 6]);
            assert_eq!(backends.refresh(text.as_bytes(), &mut key).unwrap_err().0, line, "{bad}");
            assert_eq!(given(&backends).len(), 3);
            let mut by_protocol = Backends::new([false, false, false, false, true, false]);
            assert!(by_protocol.refresh(text.as_bytes(), &mut key).is_err());
            assert_eq!(given(&by_protocol), [], "a sum that lacks a server");
        }
    }

    #[test]
    fn addresses_of_both_kinds() {
        let v6 = parse_address(b"[2620:0000:0000:0000:0000:0000:0000:0001]:0050");
        assert_eq!(v6, Some(("2620::1".to_owned(), 80)));
        for wrong in ["C0A80016", "C0A8001:0CEA", "[2620::1:0050", "C0A80016:1FFFF"] {
            assert_eq!(parse_address(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
