//! Replicated block devices, from /proc/drbd (DRBD 8): words with a key and a value, after the number of the device
//! that they are of. Cost a tick: one read. DRBD 9 does not write devices there.

use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick, tables};
use crate::model::{Family, Kind, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

const DEVICE: &[&str] = &["device"];
const KIBIBYTE: f64 = 1024.0;

static CONNECTED: Family =
    Family::gauge("node_drbd_connected", "Whether a device is connected to its peer.", DEVICE);

macro_rules! numbers {
    ($($key:literal => $kind:ident $name:literal * $factor:expr, $help:literal;)*) => {
        /// A key of a number, what one of it is worth, and its family.
        static NUMBERS: [((&str, f64), Family); 12] =
            [$((($key, $factor), Family::new(Kind::$kind, concat!("node_drbd_", $name), $help, DEVICE))),*];
    };
}

// `nr` is in KiB too, but node_exporter gives it as it is.
numbers! {
    "ns" => Counter "network_sent_bytes_total" * KIBIBYTE, "Bytes sent to the peer.";
    "nr" => Counter "network_received_bytes_total" * 1.0, "KiB received from the peer (as node_exporter gives them).";
    "dw" => Counter "disk_written_bytes_total" * KIBIBYTE, "Bytes written to the local disk.";
    "dr" => Counter "disk_read_bytes_total" * KIBIBYTE, "Bytes read from the local disk.";
    "al" => Counter "activitylog_writes_total" * 1.0, "Writes to the activity log.";
    "bm" => Counter "bitmap_writes_total" * 1.0, "Writes to the bitmap.";
    "lo" => Gauge "local_pending" * 1.0, "Requests that the local disk has not answered.";
    "pe" => Gauge "remote_pending" * 1.0, "Requests that the peer has not answered.";
    "ua" => Gauge "remote_unacknowledged" * 1.0, "Requests of the peer that were not answered.";
    "ap" => Gauge "application_pending" * 1.0, "Requests of applications that were not answered.";
    "ep" => Gauge "epochs" * 1.0, "Epochs under way.";
    "oos" => Gauge "out_of_sync_bytes" * KIBIBYTE, "Bytes known to differ from those of the peer.";
}

macro_rules! pairs {
    ($($key:literal => $name:literal $good:literal, $help:literal;)*) => {
        /// A key of a pair of states (local and remote), the good one, and its family.
        static PAIRS: [((&str, &str), Family); 2] =
            [$((($key, $good), Family::gauge(concat!("node_drbd_", $name), $help, &["device", "node"]))),*];
    };
}

pairs! {
    "ro" => "node_role_is_primary" "Primary", "Whether a node has the primary role: 1 if so, 0 if not.";
    "ds" => "disk_state_is_up_to_date" "UpToDate", "Whether the disk of a node is up to date: 1 if so, 0 if not.";
}

static FAMILIES: [&Family; 15] =
    tables::join(&[&[&CONNECTED], &tables::families(&NUMBERS), &tables::families(&PAIRS)]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "drbd",
    default_enabled: false,
    flags: &[],
    families: &FAMILIES,
    new: |setup| {
        let file = KeptFile::whole(setup.paths.proc("drbd"));
        Ok(Box::new(Drbd { file, device: String::new() }))
    },
};

struct Drbd {
    file: KeptFile,
    /// The device at hand; its room is used again.
    device: String,
}

impl Collector for Drbd {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let Drbd { file, device } = self;
        let text = file.read(&mut tick.buffer).map_err(CollectError::absent_is_no_data)?;
        let mut faults = Faults::default();
        device.clear();
        for (number, line) in text::ended_lines(text).enumerate() {
            for word in text::words(line) {
                if put_word(word, device, out).is_none() {
                    let expected = "expected a number, or a pair of states, after the device that has it";
                    faults.note(|| CollectError::malformed(file.path(), number + 1, expected));
                }
            }
        }
        faults.finish()
    }
}

/// `1:` begins device 1, `cs:Connected`, `ro:Primary/Secondary` and `ns:123` are of it; what is of another form, or
/// has another key, is passed over.
fn put_word(word: &[u8], device: &mut String, out: &mut Recorder) -> Option<()> {
    let mut parts = word.split(|&b| b == b':');
    let (Some(key), Some(value), None) = (parts.next(), parts.next(), parts.next()) else {
        return Some(());
    };
    if value.is_empty() {
        if let Some(number) = text::parse_u64(key) {
            device.clear();
            device.push_str("drbd");
            device.push_str(text::Decimal::new(number).as_str());
        }
        return Some(());
    }
    let is_key = |name: &str| name.as_bytes() == key;
    if let Some(((_, factor), family)) = NUMBERS.iter().find(|((name, _), _)| is_key(name)) {
        let number = text::parse_u64(value).filter(|_| !device.is_empty())?;
        out.put(family, &[device], number as f64 * factor);
    } else if let Some(((_, good), family)) = PAIRS.iter().find(|((name, _), _)| is_key(name)) {
        let slash = value.iter().position(|&b| b == b'/').filter(|_| !device.is_empty())?;
        for (node, state) in [("local", &value[..slash]), ("remote", &value[slash + 1..])] {
            out.put(family, &[device, node], f64::from(u8::from(state == good.as_bytes())));
        }
    } else if is_key("cs") && !device.is_empty() {
        out.put(&CONNECTED, &[device], f64::from(u8::from(value == b"Connected")));
    }
    Some(())
}
