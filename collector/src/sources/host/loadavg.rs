//! Load averages, from /proc/loadavg (proc_loadavg(5)). Cost a tick: one small read.

use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

static LOAD1: Family = Family::gauge("node_load1", "Load average over 1 minute.", &[]);
static LOAD5: Family = Family::gauge("node_load5", "Load average over 5 minutes.", &[]);
static LOAD15: Family = Family::gauge("node_load15", "Load average over 15 minutes.", &[]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "loadavg",
    default_enabled: true,
    flags: &[],
    families: &[&LOAD1, &LOAD5, &LOAD15],
    new: |setup| Ok(Box::new(Loadavg { file: KeptFile::whole(setup.paths.proc("loadavg")) })),
};

struct Loadavg {
    file: KeptFile,
}

impl Collector for Loadavg {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let loads = parse_loads(self.file.read(&mut tick.buffer)?)
            .ok_or_else(|| CollectError::malformed(self.file.path(), 1, "expected three load averages"))?;
        for (family, load) in [&LOAD1, &LOAD5, &LOAD15].into_iter().zip(loads) {
            out.put(family, &[], load);
        }
        Ok(())
    }
}

/// The load averages over 1, 5 and 15 minutes.
fn parse_loads(text: &[u8]) -> Option<[f64; 3]> {
    let mut words = text::words(text).map(text::parse_f64);
    Some([words.next()??, words.next()??, words.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_numbers_or_nothing() {
        assert_eq!(parse_loads(b"0.21 0.37 0.39 1/719 19737\n"), Some([0.21, 0.37, 0.39]));
        for cut in ["", "0.21", "0.21 0.37", "0.21 0.37 x"] {
            assert_eq!(parse_loads(cut.as_bytes()), None, "{cut:?}");
        }
    }
}
