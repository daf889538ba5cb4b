//! Names and version of the running kernel, by uname(2). Cost a tick: one system call.

use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::identity::Uname;

static INFO: Family = Family::gauge(
    "node_uname_info",
    "What uname(2) says of the running kernel; always 1.",
    &["sysname", "release", "version", "machine", "nodename", "domainname"],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "uname",
    default_enabled: true,
    flags: &[],
    families: &[&INFO],
    new: |_| Ok(Box::new(UnameCollector)),
};

struct UnameCollector;

impl Collector for UnameCollector {
    fn update(&mut self, _: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let uname = Uname::read().map_err(|error| CollectError::call("uname", &error))?;
        let text = [
            uname.sysname(),
            uname.release(),
            uname.version(),
            uname.machine(),
            uname.nodename(),
            uname.domainname(),
        ]
        .map(String::from_utf8_lossy);
        out.put(&INFO, &text.each_ref().map(AsRef::as_ref), 1.0);
        Ok(())
    }
}
