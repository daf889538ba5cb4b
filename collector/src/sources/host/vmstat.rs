//! Virtual memory statistics, from /proc/vmstat: a name and a number a line. Cost a tick: three reads, of which
//! the lines that the pattern names are given.

use super::error::Faults;
use super::{CollectError, Collector, Flag, FlagDefault, OrderedFilter, Registration, SetupError, Tick};
use crate::model::{Dynamic, Family, Kind, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

const FIELDS_FLAG: &str = "collector.vmstat.fields";

static FIELDS: Family = Family::untyped("node_vmstat_*", "A field of /proc/vmstat.", &[]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "vmstat",
    default_enabled: true,
    flags: &[Flag::new(
        FIELDS_FLAG,
        FlagDefault::Text("^(oom_kill|pgpg|pswp|pg.*fault).*"),
        "Pattern of the fields of /proc/vmstat to give.",
    )],
    families: &[&FIELDS],
    new: |setup| {
        let fields = OrderedFilter::new(setup.flags.text(FIELDS_FLAG)).map_err(SetupError::of("vmstat"))?;
        Ok(Box::new(Vmstat { file: KeptFile::records(setup.paths.proc("vmstat"), LONGEST_LINE), fields }))
    },
};

/// A name and 20 digits.
const LONGEST_LINE: usize = 128;

struct Vmstat {
    file: KeptFile,
    fields: OrderedFilter,
}

impl Collector for Vmstat {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let text = self.file.read(&mut tick.buffer)?;
        let mut faults = Faults::default();
        self.fields.begin();
        for (number, line) in text::ended_lines(text).enumerate() {
            let name = line.split(|&b| b == b' ').next().unwrap_or_default();
            if !self.fields.passes(&[name]) {
                continue;
            }
            let Some((name, value)) = parse_line(line) else {
                let expected = "expected a name and a number";
                faults.note(|| CollectError::malformed(self.file.path(), number + 1, expected));
                continue;
            };
            let sample = Dynamic {
                name: &["node_vmstat_", name],
                suffix: "",
                help: &["Field ", name, " of /proc/vmstat."],
                kind: Kind::Untyped,
                labels: &[],
            };
            out.put_dynamic(&sample, value);
        }
        faults.finish()
    }
}

fn parse_line(line: &[u8]) -> Option<(&str, f64)> {
    let mut words = text::words(line);
    let name = text::as_str(words.next()?).filter(|name| text::is_name(name))?;
    Some((name, text::parse_f64(words.next()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_number() {
        assert_eq!(parse_line(b"pgfault 2320168809"), Some(("pgfault", 2_320_168_809.0)));
        assert_eq!(parse_line(b"pgfault"), None);
        assert_eq!(parse_line(b"pgfault x"), None);
        assert_eq!(parse_line(b"pg-fault 1"), None, "no name of a metric");
    }
}
