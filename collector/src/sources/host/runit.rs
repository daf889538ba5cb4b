//! Services that runit supervises, from SERVICE/supervise/status below its folder of services (runsv(8)).
//! Cost a tick: the folder is listed, and five system calls a service: runsv puts a new file in the place of the old.
//! Deprecated by node_exporter.

use std::path::{Path, PathBuf};

use super::error::Faults;
use super::{CollectError, Collector, Flag, FlagDefault, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::kept_entries::KeptEntries;

const FOLDER_FLAG: &str = "collector.runit.servicedir";
const SERVICE: &[&str] = &["service", "supervisor"];
const SUPERVISOR: &str = "runit";

static STATE: Family =
    Family::gauge("node_service_state", "What a service does: 0 down, 1 runs, 2 finishes.", SERVICE);
static DESIRED: Family =
    Family::gauge("node_service_desired_state", "What a service should do: 0 be down, 1 run.", SERVICE);
static NORMAL: Family = Family::gauge(
    "node_service_normal_state",
    "Whether a service is started with its supervisor: 1 if so, 0 if not.",
    SERVICE,
);
static CHANGED: Family = Family::gauge(
    "node_service_state_last_change_timestamp_seconds",
    "When the state of a service changed last, in seconds since 1970.",
    SERVICE,
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "runit",
    default_enabled: false,
    flags: &[Flag::new(FOLDER_FLAG, FlagDefault::Text("/etc/service"), "Folder of the services of runit.")],
    families: &[&DESIRED, &NORMAL, &STATE, &CHANGED],
    new: |setup| {
        log::warn!(collector = "runit"; "this collector is deprecated by node_exporter");
        let folder = Path::new(setup.flags.text(FOLDER_FLAG));
        Ok(Box::new(Runit { services: KeptEntries::new(folder, MOST_SERVICES) }))
    },
};

/// runsvdir takes a thousand.
const MOST_SERVICES: usize = 4096;

struct Runit {
    services: KeptEntries<Service>,
}

struct Service {
    status: KeptFile,
    /// A file that keeps the service down when its supervisor starts.
    down: PathBuf,
}

impl Service {
    fn new(folder: &Path) -> Self {
        Service { status: KeptFile::whole(folder.join("supervise/status")), down: folder.join("down") }
    }
}

impl Collector for Runit {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        let left_out = self.services.refresh(|_, may_be_folder| may_be_folder, Service::new)?;
        for (name, service) in self.services.iter_mut() {
            let file = &mut service.status;
            let status = match file.read(&mut tick.buffer) {
                Ok(text) => parse_status(text),
                // Not a service, or one that was never started.
                Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    faults.note(|| error.into());
                    continue;
                }
            };
            file.close();
            let Some(status) = status else {
                faults.note(|| CollectError::malformed(file.path(), 1, "expected 20 bytes"));
                continue;
            };
            let labels = [name, SUPERVISOR];
            out.put(&STATE, &labels, f64::from(status.state));
            out.put(&DESIRED, &labels, f64::from(u8::from(status.is_wanted)));
            out.put(&CHANGED, &labels, status.changed as f64);
            out.put(&NORMAL, &labels, f64::from(u8::from(!service.down.exists())));
        }
        if left_out > 0 {
            faults.note(|| CollectError::Other(format!("{left_out} services beyond {MOST_SERVICES}")));
        }
        faults.finish()
    }
}

/// What runsv says of a service.
#[derive(Debug, PartialEq, Eq)]
struct Status {
    /// In seconds since 1970.
    changed: i64,
    is_wanted: bool,
    state: u8,
}

/// 1970 in TAI64, with the ten seconds that TAI was ahead then.
const TAI_1970: i64 = (1 << 62) + 10;

/// Twelve bytes of time (TAI64N), four of the process, and then whether it is paused, what is wanted of it, whether
/// it was told to end, and what it does.
fn parse_status(text: &[u8]) -> Option<Status> {
    let status: &[u8; 20] = text.try_into().ok()?;
    let (seconds, _) = status.split_first_chunk::<8>()?;
    let changed = i64::from_be_bytes(*seconds).checked_sub(TAI_1970)?;
    let (wanted, state) = (status[17], status[19]);
    (state <= 2).then_some(Status { changed, is_wanted: wanted == b'u', state })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_bytes() {
        let mut text = ((1i64 << 62) + 10 + 1_700_000_000).to_be_bytes().to_vec();
        text.extend([0, 0, 0, 1, 7, 0, 0, 0, 0, b'u', 0, 1]);
        let status = Status { changed: 1_700_000_000, is_wanted: true, state: 1 };
        assert_eq!(parse_status(&text), Some(status));
        text[17] = b'd';
        text[19] = 0;
        assert_eq!(parse_status(&text).map(|status| (status.is_wanted, status.state)), Some((false, 0)));
        text[19] = 9;
        assert_eq!(parse_status(&text), None);
        assert_eq!(parse_status(&text[..18]), None);
    }
}
