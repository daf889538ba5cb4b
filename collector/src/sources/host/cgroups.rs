//! The controllers of control groups and how many groups each has, from /proc/cgroups (cgroups(7)).
//! Cost a tick: one read.

use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

static CGROUPS: Family =
    Family::gauge("node_cgroups_cgroups", "Control groups that have this controller.", &["subsys_name"]);
static ENABLED: Family = Family::gauge(
    "node_cgroups_enabled",
    "Whether this controller is in use: 1 if so, 0 if it was switched off at boot.",
    &["subsys_name"],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "cgroups",
    default_enabled: false,
    flags: &[],
    families: &[&CGROUPS, &ENABLED],
    new: |setup| Ok(Box::new(Cgroups { file: KeptFile::whole(setup.paths.proc("cgroups")) })),
};

struct Cgroups {
    file: KeptFile,
}

impl Collector for Cgroups {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let text = self.file.read(&mut tick.buffer)?;
        let mut faults = Faults::default();
        // The last line is taken without its end too: the number that could be torn is a 0 or a 1.
        for (number, line) in text::lines(text).enumerate() {
            if line.starts_with(b"#") {
                continue;
            }
            let Some((name, groups, enabled)) = parse_line(line) else {
                let expected = "expected a name and three whole numbers, the last of them 0 or 1";
                faults.note(|| CollectError::malformed(self.file.path(), number + 1, expected));
                continue;
            };
            out.put(&CGROUPS, &[name], groups as f64);
            out.put(&ENABLED, &[name], enabled as f64);
        }
        faults.finish()
    }
}

/// `cpu 3 172 1`: name, hierarchy, groups, whether it is in use.
fn parse_line(line: &[u8]) -> Option<(&str, u64, u64)> {
    let mut words = text::words(line);
    let name = text::as_str(words.next()?)?;
    text::parse_u64(words.next()?)?;
    let groups = text::parse_u64(words.next()?)?;
    let enabled = text::parse_u64(words.next()?)?;
    (enabled <= 1 && words.next().is_none()).then_some((name, groups, enabled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_three_numbers() {
        assert_eq!(parse_line(b"cpu\t3\t172\t1"), Some(("cpu", 172, 1)));
        for wrong in ["cpu\t3\t172", "cpu\t3\t172\t", "cpu 3 x 1", "cpu 3 172 2", "cpu 3 172 1 1", ""] {
            assert_eq!(parse_line(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
