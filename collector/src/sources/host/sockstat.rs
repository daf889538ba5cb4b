//! Sockets in use by protocol, from /proc/net/sockstat and sockstat6. Cost a tick: two small reads.
//!
//! Every pair of the files is given. Memory is in pages there; the families `*_mem_bytes` have it in bytes.

use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Dynamic, Family, Kind, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::{identity, text};

static FIELDS: Family = Family::gauge("node_sockstat_*", "A field of /proc/net/sockstat or sockstat6.", &[]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "sockstat",
    default_enabled: true,
    flags: &[],
    families: &[&FIELDS],
    new: |setup| {
        let file = |name: &str| KeptFile::whole(setup.paths.proc("net").join(name));
        Ok(Box::new(Sockstat {
            files: [file("sockstat"), file("sockstat6")],
            page_size: identity::page_size() as f64,
        }))
    },
};

struct Sockstat {
    files: [KeptFile; 2],
    page_size: f64,
}

impl Collector for Sockstat {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        for file in &mut self.files {
            let text = match file.read(&mut tick.buffer) {
                // A kernel without IPv4 or IPv6 has not both files.
                Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => continue,
                other => other?,
            };
            for (number, line) in text::ended_lines(text).enumerate() {
                if put_line(line, self.page_size, out).is_none() {
                    let expected = "expected `PROTOCOL:` and pairs of a name and a whole number";
                    faults.note(|| CollectError::malformed(file.path(), number + 1, expected));
                }
            }
        }
        faults.finish()
    }
}

/// A line such as `TCP: inuse 4 orphan 0 tw 4 alloc 17 mem 1`. `None` where it breaks off.
fn put_line(line: &[u8], page_size: f64, out: &mut Recorder) -> Option<()> {
    let mut words = text::words(line);
    let is_name = |name: &&str| text::is_name(name);
    let protocol = text::as_str(words.next()?)?.strip_suffix(':').filter(is_name)?;
    while let Some(name) = words.next() {
        let name = text::as_str(name).filter(is_name)?;
        let value = text::parse_u64(words.next()?)? as f64;
        let mut put = |unit: &str, value: f64| {
            let sample = Dynamic {
                name: &["node_sockstat_", protocol, "_", name, unit],
                suffix: "",
                help: &["Sockets of ", protocol, ": ", name, unit, "."],
                kind: Kind::Gauge,
                labels: &[],
            };
            out.put_dynamic(&sample, value);
        };
        put("", value);
        if name == "mem" {
            put("_bytes", value * page_size);
        }
    }
    Some(())
}
