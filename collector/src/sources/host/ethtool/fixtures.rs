//! What the program ethtool printed, in the place of the kernel: FOLDER/DEVICE with the files `driver` (ethtool
//! -i), `settings` and `statistics` (-S), any of which may be absent.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::CollectError;
use super::settings::{LINES, bit_of};
use crate::sys::ethtool::{Driver, LinkSettings, NAME_SIZE};
use crate::sys::file::KeptFile;
use crate::sys::text;

pub(super) struct Fixtures {
    folder: PathBuf,
    devices: Vec<Files>,
    /// The device whose files are asked for.
    current: usize,
    buffer: Vec<u8>,
    names: Vec<u8>,
    values: Vec<u64>,
}

struct Files {
    name: Arc<str>,
    driver: KeptFile,
    settings: KeptFile,
    statistics: KeptFile,
}

impl Fixtures {
    pub(super) fn new(folder: PathBuf) -> Self {
        Fixtures {
            folder,
            devices: Vec::new(),
            current: 0,
            buffer: Vec::new(),
            names: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Looks for the devices, once.
    pub(super) fn list(&mut self) -> Result<(), CollectError> {
        if !self.devices.is_empty() {
            return Ok(());
        }
        let fail = |error: io::Error| CollectError::call("reading the fixtures", &error);
        for entry in std::fs::read_dir(&self.folder).map_err(fail)? {
            let folder = entry.map_err(fail)?.path();
            let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { continue };
            if folder.is_dir() {
                let file = |name| KeptFile::new(folder.join(name));
                self.devices.push(Files {
                    name: name.into(),
                    driver: file("driver"),
                    settings: file("settings"),
                    statistics: file("statistics"),
                });
            }
        }
        self.devices.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    pub(super) fn devices(&self) -> u32 {
        self.devices.len() as u32
    }

    /// Reads the statistics of a device, and makes it the one that is asked for; gives its name.
    pub(super) fn open(&mut self, device: u32) -> Option<Arc<str>> {
        self.current = device as usize;
        let Fixtures { devices, current, buffer, names, values, .. } = self;
        let files = devices.get_mut(*current)?;
        names.clear();
        values.clear();
        if let Ok(text) = files.statistics.read(buffer) {
            parse_statistics(text, names, values);
        }
        Some(files.name.clone())
    }

    pub(super) fn names(&self) -> &[u8] {
        &self.names
    }

    pub(super) fn values(&self) -> &[u64] {
        &self.values
    }

    pub(super) fn driver(&mut self) -> io::Result<Driver> {
        let Fixtures { devices, current, buffer, values, .. } = self;
        let text = devices[*current].driver.read(buffer).map_err(|_| not_supported())?;
        let names = ["driver", "version", "firmware-version", "bus-info", "expansion-rom-version"];
        let value = |name| text::lines(text).find_map(|line| text::value_of(line, name)).unwrap_or_default();
        Ok(Driver::new(names.map(value), values.len() as u32))
    }

    pub(super) fn link_settings(&mut self) -> io::Result<LinkSettings> {
        let Fixtures { devices, current, buffer, .. } = self;
        let text = devices[*current].settings.read(buffer).map_err(|_| not_supported())?;
        Ok(parse_settings(text))
    }
}

fn not_supported() -> io::Error {
    io::Error::from_raw_os_error(libc::EOPNOTSUPP)
}

/// Lines such as `     rx_packets: 12`. What is longer than a name may be is cut, as drivers do.
fn parse_statistics(text: &[u8], names: &mut Vec<u8>, values: &mut Vec<u64>) {
    for line in text::lines(text) {
        let Some(colon) = line.iter().rposition(|&b| b == b':') else { continue };
        let (name, value) = (line.strip_prefix(b"     "), text::parse_u64(text::trim(&line[colon + 1..])));
        if let (Some(name), Some(value)) = (name, value) {
            let name = &name[..name.len() - (line.len() - colon)];
            let name = &name[..name.len().min(NAME_SIZE)];
            names.extend_from_slice(name);
            names.resize(names.len() + NAME_SIZE - name.len(), 0);
            values.push(value);
        }
    }
}

fn parse_settings(text: &[u8]) -> LinkSettings {
    let mut settings = LinkSettings { supported: 0, advertised: 0, autonegotiation: 0 };
    let mut key: &[u8] = b"";
    for line in text::lines(text) {
        let mut rest = text::trim(line);
        if let Some(colon) = rest.iter().position(|&b| b == b':') {
            (key, rest) = (&rest[..colon], &rest[colon + 1..]);
        }
        let bits = match () {
            () if key.starts_with(b"Support") => &mut settings.supported,
            () if key.starts_with(b"Advertised") => &mut settings.advertised,
            () if key == b"Auto-negotiation" => {
                settings.autonegotiation = u8::from(text::trim(rest) == b"on");
                continue;
            }
            () => continue,
        };
        for word in text::words(rest) {
            let line = LINES.iter().filter(|(line, said, _)| *line == key && *said == word);
            *bits |= line.fold(0, |bits, (_, _, bit)| bits | bit);
            *bits |= bit_of(word).map_or(0, |bit| 1 << bit);
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_printed() {
        let text = b"Settings for eth0:\n\tSupported ports: [ TP\t FIBRE ]\n\
            \tSupported link modes:   10baseT/Half 10baseT/Full\n\t                        1000baseT/Full\n\
            \tSupported pause frame use: Symmetric Receive-only\n\tSupports auto-negotiation: Yes\n\
            \tAdvertised link modes:  1000baseT/Full\n\tAdvertised pause frame use: No\n\
            \tAdvertised auto-negotiation: Yes\n\tSpeed: 1000Mb/s\n\tAuto-negotiation: on\n";
        let supported = 1 << 7 | 1 << 10 | 1 | 1 << 1 | 1 << 5 | 1 << 13 | 1 << 14 | 1 << 6;
        let settings = parse_settings(text);
        assert_eq!(settings, LinkSettings { supported, advertised: 1 << 5 | 1 << 6, autonegotiation: 1 });
    }

    #[test]
    fn statistics_are_read_as_printed() {
        let (mut names, mut values) = (Vec::new(), Vec::new());
        let text =
            b"NIC statistics:\n     [0]: rx: 7\n     tx_packets: 18446744073709551615\n     bad: x\nERROR: 1";
        parse_statistics(text, &mut names, &mut values);
        assert_eq!(values, [7, u64::MAX]);
        assert_eq!(&names[..8], b"[0]: rx\0");
        assert_eq!(names.len(), 2 * NAME_SIZE);
    }
}
