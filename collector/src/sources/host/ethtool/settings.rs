//! What a link can do and offers to its other end. Only the first 32 modes are told by this question: those of
//! 2.5 and 5 Gbit/s over copper and most above 40 Gbit/s are not among them.

use crate::model::{Family, Recorder};
use crate::sys::ethtool::LinkSettings;

const DEVICE: &[&str] = &["device"];
const MODE: &[&str] = &["device", "duplex", "mode"];

static PORT: Family = Family::gauge(
    "node_network_supported_port_info",
    "A kind of port that a network device has; always 1.",
    &["device", "type"],
);
static AUTONEGOTIATE: Family =
    Family::gauge("node_network_autonegotiate", "Whether the device agrees on its speed: 1 if so.", DEVICE);

/// What is given of the modes that a device supports, and of those that it offers.
struct Families {
    speed: Family,
    autonegotiate: Family,
    pause: Family,
    asymmetric_pause: Family,
}

static SUPPORTED: Families = Families {
    speed: Family::gauge(
        "node_network_supported_speed_bytes",
        "A mode that the device supports: its speed in bytes a second.",
        MODE,
    ),
    autonegotiate: Family::gauge(
        "node_network_autonegotiate_supported",
        "Whether the device can agree on a speed with the other end: 1 if so.",
        DEVICE,
    ),
    pause: Family::gauge(
        "node_network_pause_supported",
        "Whether the device supports pause frames: 1 if so.",
        DEVICE,
    ),
    asymmetric_pause: Family::gauge(
        "node_network_asymmetricpause_supported",
        "Whether the device supports pause frames in one direction: 1 if so.",
        DEVICE,
    ),
};
static ADVERTISED: Families = Families {
    speed: Family::gauge(
        "node_network_advertised_speed_bytes",
        "A mode that the device offers to the other end: its speed in bytes a second.",
        MODE,
    ),
    autonegotiate: Family::gauge(
        "node_network_autonegotiate_advertised",
        "Whether the device offers to agree on a speed: 1 if so.",
        DEVICE,
    ),
    pause: Family::gauge(
        "node_network_pause_advertised",
        "Whether the device offers pause frames: 1 if so.",
        DEVICE,
    ),
    asymmetric_pause: Family::gauge(
        "node_network_asymmetricpause_advertised",
        "Whether the device offers pause frames in one direction: 1 if so.",
        DEVICE,
    ),
};

/// The families of a collector, and those of this file.
pub(super) const fn with_settings(others: &[&'static Family; 9]) -> [&'static Family; 19] {
    let mut families = [&PORT; 19];
    let mut n = 0;
    while n < others.len() {
        families[n] = others[n];
        n += 1;
    }
    families[9] = &AUTONEGOTIATE;
    let mut set = &SUPPORTED;
    n = 10;
    while n < 18 {
        families[n] = &set.speed;
        families[n + 1] = &set.autonegotiate;
        families[n + 2] = &set.pause;
        families[n + 3] = &set.asymmetric_pause;
        set = &ADVERTISED;
        n += 4;
    }
    families
}

/// A mode of the link: its bit, Mbit/s, duplex, and what it runs over.
struct Mode {
    bit: u32,
    megabits: u32,
    duplex: &'static str,
    name: &'static str,
}

macro_rules! modes {
    ($($bit:literal $megabits:literal $medium:literal $duplex:ident;)*) => {
        &[$(Mode {
            bit: $bit,
            megabits: $megabits,
            duplex: stringify!($duplex),
            name: concat!($megabits, "base", $medium),
        }),*]
    };
}

// linux/ethtool.h, ETHTOOL_LINK_MODE_*_BIT; bit 15 (2500baseX) is left out, as node_exporter does.
static MODES: &[Mode] = modes! {
    0 10 "T" half;
    1 10 "T" full;
    2 100 "T" half;
    3 100 "T" full;
    4 1000 "T" half;
    5 1000 "T" full;
    12 10000 "T" full;
    17 1000 "KX" full;
    18 10000 "KX4" full;
    19 10000 "KR" full;
    20 10000 "R_FEC" full;
    21 20000 "MLD2" full;
    22 20000 "KR2" full;
    23 40000 "KR4" full;
    24 40000 "CR4" full;
    25 40000 "SR4" full;
    26 40000 "LR4" full;
    27 56000 "KR4" full;
    28 56000 "CR4" full;
    29 56000 "SR4" full;
    30 56000 "LR4" full;
    31 25000 "CR" full;
};

const AUTONEGOTIATE_BIT: u32 = 6;
const PAUSE_BIT: u32 = 13;
const ASYMMETRIC_PAUSE_BIT: u32 = 14;

static PORTS: [(u32, &str); 6] =
    [(7, "TP"), (8, "AUI"), (9, "MII"), (10, "FIBRE"), (11, "BNC"), (16, "Backplane")];

const MEGABIT_BYTES: f64 = 1_000_000.0 / 8.0;

pub(super) fn put(device: &str, settings: LinkSettings, out: &mut Recorder) {
    for (bit, name) in PORTS {
        if settings.supported >> bit & 1 != 0 {
            out.put(&PORT, &[device, name], 1.0);
        }
    }
    for (families, modes) in [(&SUPPORTED, settings.supported), (&ADVERTISED, settings.advertised)] {
        let has = |bit: u32| f64::from(modes >> bit & 1);
        for mode in MODES.iter().filter(|mode| modes >> mode.bit & 1 != 0) {
            let speed = f64::from(mode.megabits) * MEGABIT_BYTES;
            out.put(&families.speed, &[device, mode.duplex, mode.name], speed);
        }
        out.put(&families.autonegotiate, &[device], has(AUTONEGOTIATE_BIT));
        out.put(&families.pause, &[device], has(PAUSE_BIT));
        out.put(&families.asymmetric_pause, &[device], has(ASYMMETRIC_PAUSE_BIT));
    }
    out.put(&AUTONEGOTIATE, &[device], f64::from(settings.autonegotiation));
}

/// The bits of what the program ethtool prints of a link: `10baseT/Half`, `TP`, and so on.
pub(super) fn bit_of(word: &[u8]) -> Option<u32> {
    let word = std::str::from_utf8(word).ok()?;
    let port = PORTS.iter().find(|(_, name)| *name == word).map(|&(bit, _)| bit);
    port.or_else(|| {
        let (name, duplex) = word.split_once('/')?;
        let is_it = |mode: &&Mode| mode.name == name && mode.duplex.eq_ignore_ascii_case(duplex);
        MODES.iter().find(is_it).map(|mode| mode.bit)
    })
}

/// Bits that lines of their own stand for: negotiation, and pauses in both directions or one.
pub(super) const LINES: [(&[u8], &[u8], u32); 6] = [
    (b"Supports auto-negotiation", b"Yes", 1 << AUTONEGOTIATE_BIT),
    (b"Advertised auto-negotiation", b"Yes", 1 << AUTONEGOTIATE_BIT),
    (b"Supported pause frame use", b"Symmetric", 1 << PAUSE_BIT),
    (b"Advertised pause frame use", b"Symmetric", 1 << PAUSE_BIT),
    (b"Supported pause frame use", b"Receive-only", 1 << ASYMMETRIC_PAUSE_BIT),
    (b"Advertised pause frame use", b"Receive-only", 1 << ASYMMETRIC_PAUSE_BIT),
];
