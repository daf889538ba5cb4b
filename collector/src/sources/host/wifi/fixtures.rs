//! Files in the place of nl80211, as node_exporter's tests have them: `interfaces.json`, and for each interface
//! a folder with `bss.json` and `stationinfo.json`, or without.

use std::path::PathBuf;

use base64::Engine as _;
use hashbrown::HashMap;
use serde::{Deserialize, Deserializer};

use super::super::CollectError;
use super::super::error::Faults;
use super::super::fixture::Fixture;
use super::{Station, put_frequency, put_network};
use crate::model::Recorder;

pub(super) struct Fixtures {
    folder: PathBuf,
    interfaces: Fixture<Vec<Interface>>,
    of: HashMap<String, Files>,
}

struct Files {
    network: Fixture<Network>,
    stations: Fixture<Vec<StationRecord>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Interface {
    name: String,
    frequency: i64,
}

#[derive(Deserialize)]
struct Network {
    #[serde(default)]
    ssid: String,
    #[serde(deserialize_with = "address")]
    bssid: [u8; 6],
    #[serde(default)]
    status: i64,
}

/// Times are in nanoseconds.
#[derive(Deserialize)]
struct StationRecord {
    #[serde(deserialize_with = "address")]
    hardwareaddr: [u8; 6],
    #[serde(default)]
    connected: u64,
    #[serde(default)]
    inactive: u64,
    #[serde(flatten)]
    counters: Counters,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Counters {
    receivebitrate: u64,
    transmitbitrate: u64,
    receivedbytes: u64,
    transmittedbytes: u64,
    signal: i64,
    transmitretries: u64,
    transmitfailed: u64,
    beaconloss: u64,
    transmittedpackets: u64,
    receivedpackets: u64,
}

/// Six bytes in base64.
fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 6], D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    bytes.try_into().map_err(|_| serde::de::Error::custom("expected six bytes in base64"))
}

impl StationRecord {
    fn station(&self) -> Station {
        let Counters { receivebitrate, transmitbitrate, receivedbytes, transmittedbytes, .. } = self.counters;
        let Counters { signal, transmitretries, transmitfailed, beaconloss, .. } = self.counters;
        let Counters { transmittedpackets, receivedpackets, .. } = self.counters;
        Station {
            address: self.hardwareaddr,
            connected_seconds: seconds(self.connected),
            inactive_seconds: seconds(self.inactive),
            receive_bits: receivebitrate as f64,
            transmit_bits: transmitbitrate as f64,
            received_bytes: receivedbytes as f64,
            transmitted_bytes: transmittedbytes as f64,
            signal: signal as f64,
            retries: transmitretries as f64,
            failed: transmitfailed as f64,
            beacon_loss: beaconloss as f64,
            transmitted_packets: transmittedpackets as f64,
            received_packets: receivedpackets as f64,
        }
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    (nanoseconds / 1_000_000_000) as f64 + (nanoseconds % 1_000_000_000) as f64 / 1e9
}

impl Fixtures {
    pub(super) fn new(folder: PathBuf) -> Self {
        Fixtures { interfaces: Fixture::new(folder.join("interfaces.json")), folder, of: HashMap::new() }
    }

    pub(super) fn put(
        &mut self,
        buffer: &mut Vec<u8>,
        faults: &mut Faults,
        out: &mut Recorder,
    ) -> Result<(), CollectError> {
        let Fixtures { folder, interfaces, of } = self;
        let interfaces = interfaces.read(buffer)?;
        if of.len() > interfaces.len() {
            of.retain(|name, _| interfaces.iter().any(|interface| interface.name == *name));
        }
        // Some virtual devices have no name.
        for interface in interfaces.iter().filter(|interface| !interface.name.is_empty()) {
            let device = interface.name.as_str();
            put_frequency(device, interface.frequency, out);
            let files = of.entry_ref(device).or_insert_with(|| Files {
                network: Fixture::new(folder.join(device).join("bss.json")),
                stations: Fixture::new(folder.join(device).join("stationinfo.json")),
            });
            match files.network.read(buffer) {
                Ok(network) => put_network(device, &network.bssid, &network.ssid, network.status, out),
                Err(error) if error.is_no_data() => {}
                Err(error) => faults.note(|| error),
            }
            match files.stations.read(buffer) {
                Ok(stations) => stations.iter().for_each(|record| record.station().put(device, out)),
                Err(error) if error.is_no_data() => {}
                Err(error) => faults.note(|| error),
            }
        }
        Ok(())
    }
}
