//! Wireless interfaces, the network that each is in, and the stations that it talks to, from nl80211(4) by generic
//! netlink. Off by default. No data where the kernel has no nl80211.
//! Cost a tick: three system calls, and six for each interface or more where many networks are in reach.
//! With the flag `fixtures`, from files (`wifi/fixtures.rs`).

mod fixtures;
mod nl80211;

use fixtures::Fixtures;
use nl80211::Nl80211;

use super::error::Faults;
use super::{CollectError, Collector, Flag, FlagDefault, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::text::HardwareAddress;

const FIXTURES_FLAG: &str = "collector.wifi.fixtures";

const STATION: &[&str] = &["device", "mac_address"];

static FREQUENCY: Family = Family::gauge(
    "node_wifi_interface_frequency_hertz",
    "Frequency that a wireless interface is tuned to, in hertz; 0 where it is tuned to none.",
    &["device"],
);
static INFO: Family = Family::gauge(
    "node_wifi_station_info",
    "The wireless network that an interface is in; always 1.",
    &["device", "bssid", "ssid", "mode"],
);

/// In the order of [`Station::values`].
static STATION_FAMILIES: [Family; 12] = [
    Family::counter(
        "node_wifi_station_connected_seconds_total",
        "Time since the station connected.",
        STATION,
    ),
    Family::gauge("node_wifi_station_inactive_seconds", "Time since the station was last heard.", STATION),
    Family::gauge(
        "node_wifi_station_receive_bits_per_second",
        "Rate of the last frame from the station, in bits a second.",
        STATION,
    ),
    Family::gauge(
        "node_wifi_station_transmit_bits_per_second",
        "Rate of the last frame to the station, in bits a second.",
        STATION,
    ),
    Family::counter("node_wifi_station_receive_bytes_total", "Bytes from the station.", STATION),
    Family::counter("node_wifi_station_transmit_bytes_total", "Bytes to the station.", STATION),
    Family::gauge("node_wifi_station_signal_dbm", "Strength of the last frame received, in dBm.", STATION),
    Family::counter("node_wifi_station_transmit_retries_total", "Frames sent once more.", STATION),
    Family::counter("node_wifi_station_transmit_failed_total", "Frames that could not be sent.", STATION),
    Family::counter("node_wifi_station_beacon_loss_total", "Times that beacons stayed away.", STATION),
    Family::counter("node_wifi_station_transmitted_packets_total", "Packets to the station.", STATION),
    Family::counter("node_wifi_station_received_packets_total", "Packets from the station.", STATION),
];

static FAMILIES: &[&Family] = &{
    let mut families = [&FREQUENCY; 14];
    families[1] = &INFO;
    let mut n = 0;
    while n < STATION_FAMILIES.len() {
        families[2 + n] = &STATION_FAMILIES[n];
        n += 1;
    }
    families
};

pub(super) static COLLECTOR: Registration = Registration {
    name: "wifi",
    default_enabled: false,
    flags: &[Flag::new(
        FIXTURES_FLAG,
        FlagDefault::Text(""),
        "Folder of an interfaces.json and others to read, for tests.",
    )],
    families: FAMILIES,
    new: |setup| {
        Ok(Box::new(match setup.flags.text(FIXTURES_FLAG) {
            "" => Wifi::Kernel(Nl80211::default()),
            folder => Wifi::Fixtures(Fixtures::new(folder.into())),
        }))
    },
};

enum Wifi {
    Kernel(Nl80211),
    Fixtures(Fixtures),
}

impl Collector for Wifi {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        match self {
            Wifi::Kernel(kernel) => kernel.put(&mut faults, out)?,
            Wifi::Fixtures(fixtures) => fixtures.put(&mut tick.buffer, &mut faults, out)?,
        }
        faults.finish()
    }
}

/// A station, which for a client is its access point.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Station {
    address: [u8; 6],
    connected_seconds: f64,
    inactive_seconds: f64,
    receive_bits: f64,
    transmit_bits: f64,
    received_bytes: f64,
    transmitted_bytes: f64,
    signal: f64,
    retries: f64,
    failed: f64,
    beacon_loss: f64,
    transmitted_packets: f64,
    received_packets: f64,
}

impl Station {
    fn values(&self) -> [f64; 12] {
        [
            self.connected_seconds,
            self.inactive_seconds,
            self.receive_bits,
            self.transmit_bits,
            self.received_bytes,
            self.transmitted_bytes,
            self.signal,
            self.retries,
            self.failed,
            self.beacon_loss,
            self.transmitted_packets,
            self.received_packets,
        ]
    }

    fn put(&self, device: &str, out: &mut Recorder) {
        let address = HardwareAddress::new(&self.address);
        for (family, value) in STATION_FAMILIES.iter().zip(self.values()) {
            out.put(family, &[device, address.as_str()], value);
        }
    }
}

fn put_frequency(device: &str, megahertz: i64, out: &mut Recorder) {
    out.put(&FREQUENCY, &[device], megahertz as f64 * 1000.0 * 1000.0);
}

/// `status` is `enum nl80211_bss_status`.
fn put_network(device: &str, address: &[u8; 6], name: &str, status: i64, out: &mut Recorder) {
    let mode = match status {
        0 | 1 => "client",
        2 => "ad-hoc",
        _ => "unknown",
    };
    out.put(&INFO, &[device, HardwareAddress::new(address).as_str(), name, mode], 1.0);
}
