//! Names of PCI vendors, devices and classes, from a pci.ids file (<https://pci-ids.ucw.cz>): a line of a number,
//! two blanks and a name; what belongs to it follows, further to the right by a tab.

use std::path::PathBuf;

use crate::sys::file::read_once;
use crate::sys::text;

/// The text of the file, empty if there is none.
#[derive(Default)]
pub(super) struct PciIds {
    text: String,
}

impl PciIds {
    /// Reads the first of the files that there is.
    pub(super) fn read(files: &[PathBuf]) -> Self {
        let mut buffer = Vec::new();
        let text = files.iter().find_map(|file| read_once(file, &mut buffer).map(text::lossy).ok());
        if text.is_none() {
            log::debug!("no pci.ids file");
        }
        PciIds { text: text.unwrap_or_default() }
    }

    /// Adds the names to the labels of a device, which end with class, vendor, device, vendor and device of the
    /// subsystem, and revision. What has no name is called by its number.
    pub(super) fn name(&self, info: &mut Vec<String>) {
        let start = info.len() - 6;
        let numbers: Vec<String> =
            info[start..].iter().map(|number| number.trim_start_matches("0x").to_owned()).collect();
        let [class, vendor, device, other_vendor, other_device, _] = numbers.as_slice() else { return };
        let subsystem = format!("{other_vendor} {other_device}");
        let or = |name: Option<&str>, number: &str| name.unwrap_or(number).to_owned();
        info.push(or(self.find(&[vendor]), vendor));
        info.push(or(self.find(&[vendor, device]), device));
        info.push(or(self.find(&[other_vendor]), other_vendor));
        info.push(or(self.find(&[vendor, device, &subsystem]), other_device));
        info.push(self.class_name(class).map_or_else(|| format!("Unknown class ({class})"), str::to_owned));
    }

    /// The most exact name of a class such as `010802`.
    fn class_name(&self, class: &str) -> Option<&str> {
        let (base, sub, interface) = (class.get(..2)?, class.get(2..4)?, class.get(4..6)?);
        let base = format!("C {base}");
        self.find(&[&base, sub, interface])
            .or_else(|| self.find(&[&base, sub]))
            .or_else(|| self.find(&[&base]))
    }

    /// The name at the end of a way: `keys[1]` is looked for below `keys[0]`.
    fn find(&self, keys: &[&str]) -> Option<&str> {
        let mut found = 0;
        for line in self.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let entry = line.trim_start_matches('\t');
            let depth = line.len() - entry.len();
            if depth > found {
                continue;
            }
            if depth < found {
                // What was found has ended.
                found = depth;
            }
            let Some((key, name)) = entry.split_once("  ") else { continue };
            if key == keys[depth] {
                if depth + 1 == keys.len() {
                    return Some(name.trim());
                }
                found = depth + 1;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_below_what_they_belong_to() {
        let text = "# A comment\n\
            C 01  Mass storage controller\n\t08  Non-Volatile memory controller\n\t\t02  NVM Express\n\
            1000  First\n\t0001  Card\n\t\t2000 0009  Board\n\
            2000  Second\n\t0001  Other card\n\t0002  Third card\n";
        let ids = PciIds { text: text.to_owned() };
        assert_eq!(ids.find(&["2000", "0001"]), Some("Other card"));
        assert_eq!(ids.find(&["1000", "0002"]), None);
        assert_eq!(ids.find(&["1000", "0001", "2000 0009"]), Some("Board"));
        assert_eq!(ids.find(&["2000", "0001", "2000 0009"]), None);
        assert_eq!(ids.class_name("010802"), Some("NVM Express"));
        assert_eq!(ids.class_name("010801"), Some("Non-Volatile memory controller"));
        assert_eq!(ids.class_name("01ff00"), Some("Mass storage controller"));
        assert_eq!(ids.class_name("ff0000"), None);
        let mut info =
            ["0x010802", "0x1000", "0x0001", "0x2000", "0x0009", "0x01"].map(str::to_owned).to_vec();
        ids.name(&mut info);
        assert_eq!(info[6..], ["First", "Card", "Second", "Board", "NVM Express"]);
        let mut info =
            ["0xff0000", "0x3000", "0x0001", "0x2000", "0x0008", "0x01"].map(str::to_owned).to_vec();
        PciIds::default().name(&mut info);
        assert_eq!(info[6..], ["3000", "0001", "2000", "0008", "Unknown class (ff0000)"]);
    }
}
