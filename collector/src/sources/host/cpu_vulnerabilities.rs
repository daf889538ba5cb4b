//! Vulnerabilities of the CPUs and what the kernel does about them, from
//! /sys/devices/system/cpu/vulnerabilities. Cost a tick: a listing, and a read for each of some twenty files.

use std::path::Path;

use super::devices::{Devices, Label, Normal, read_labels};
use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};

static INFO: Family = Family::gauge(
    "node_cpu_vulnerabilities_info",
    "A vulnerability of the CPUs, whether they are affected, and what is done about it; always 1.",
    &["codename", "state", "mitigation"],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "cpu_vulnerabilities",
    default_enabled: false,
    flags: &[],
    families: &[&INFO],
    new: |setup| {
        let files = Devices::new(setup.paths.sys("devices/system/cpu/vulnerabilities"));
        Ok(Box::new(Vulnerabilities { files }))
    },
};

struct Vulnerabilities {
    files: Devices<(String, Label)>,
}

impl Collector for Vulnerabilities {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        let make = |name: &str, path: &Path| Some((name.to_owned(), Label::changing(path)));
        for (name, text) in self.files.refresh_if_any(make)? {
            if !read_labels([&mut *text], &Normal::NEVER, tick, &mut faults) {
                continue;
            }
            match parse_vulnerability(text.text()) {
                Some((state, mitigation)) => out.put(&INFO, &[name, state, mitigation], 1.0),
                None => {
                    faults.note(|| CollectError::malformed(text.path(), 1, "a state that is not known"));
                }
            }
        }
        faults.finish()
    }
}

/// `Mitigation: PTI` -> `mitigation` and `PTI`. The kernel puts `KVM: ` before what matters for guests only.
fn parse_vulnerability(text: &str) -> Option<(&'static str, &str)> {
    let text = text.strip_prefix("KVM: ").unwrap_or(text);
    if text == "Not affected" {
        return Some(("not affected", ""));
    }
    let states = [("Vulnerable", "vulnerable"), ("Mitigation", "mitigation"), ("Unknown", "unknown")];
    states.iter().find_map(|(start, state)| {
        let rest = text.strip_prefix(start)?;
        Some((*state, rest.strip_prefix(": ").unwrap_or(rest)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_mitigations() {
        for (text, expected) in [
            ("Not affected", Some(("not affected", ""))),
            ("Vulnerable", Some(("vulnerable", ""))),
            ("Vulnerable: No microcode", Some(("vulnerable", "No microcode"))),
            ("Mitigation: PTI", Some(("mitigation", "PTI"))),
            ("KVM: Mitigation: Split huge pages", Some(("mitigation", "Split huge pages"))),
            ("Unknown: No mitigations", Some(("unknown", "No mitigations"))),
            ("Fine", None),
            ("", None),
        ] {
            assert_eq!(parse_vulnerability(text), expected, "{text}");
        }
    }
}
