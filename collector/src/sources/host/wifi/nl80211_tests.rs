//! Tests of the messages of nl80211, made here: hosts with such an interface are rare.

use super::*;

fn attributes(of: &[(u16, &[u8])]) -> Vec<u8> {
    let mut message = Vec::new();
    of.iter().for_each(|(kind, content)| push_attribute(&mut message, *kind, content));
    message
}

#[test]
fn an_interface_has_a_name() {
    let message =
        attributes(&[(ATTR_IFINDEX, &3u32.to_ne_bytes()), (ATTR_WIPHY_FREQ, &5180u32.to_ne_bytes())]);
    assert_eq!(parse_interface(Attributes::nested(&message)), None);
    let named = [message, attributes(&[(ATTR_IFNAME, b"wlp2s0\0")])].concat();
    let interface = parse_interface(Attributes::nested(&named)).unwrap();
    assert_eq!((interface.index, interface.frequency), (3, 5180));
    assert_eq!(netlink::string(&interface.name), b"wlp2s0");
}

#[test]
fn the_network_that_it_is_in_has_a_status() {
    let address = [0, 0x11, 0x22, 0x33, 0x44, 0x55];
    // Rates come before the name here.
    let elements = [&[1, 2, 0x82, 0x84][..], &[0, 4], b"caf\xe9"].concat();
    let seen = attributes(&[(BSS_BSSID, &address), (BSS_INFORMATION_ELEMENTS, &elements)]);
    let joined = [seen.clone(), attributes(&[(BSS_STATUS, &1u32.to_ne_bytes())])].concat();
    assert_eq!(parse_network(Attributes::nested(&attributes(&[(ATTR_BSS, &seen)]))), None);
    let message = attributes(&[(ATTR_IFINDEX, &[0; 4]), (ATTR_BSS, &joined)]);
    let network = parse_network(Attributes::nested(&message)).unwrap();
    assert_eq!(network, Network { address, name: b"caf\xe9", status: 1 });
    for end in 0..elements.len() {
        assert_eq!(find_name(&elements[..end]), None);
    }
}

#[test]
fn a_station_gives_its_largest_numbers() {
    let rate =
        attributes(&[(RATE_BITRATE, &u16::MAX.to_ne_bytes()), (RATE_BITRATE32, &70_000u32.to_ne_bytes())]);
    let info = attributes(&[
        (STA_RX_BYTES64, &(5u64 << 32).to_ne_bytes()),
        (STA_RX_BYTES, &7u32.to_ne_bytes()),
        (STA_TX_BYTES, &8u32.to_ne_bytes()),
        (STA_SIGNAL, &[(-52i8).cast_unsigned()]),
        (STA_INACTIVE_TIME, &2345u32.to_ne_bytes()),
        (STA_CONNECTED_TIME, &60u32.to_ne_bytes()),
        (STA_RX_BITRATE, &rate),
        (STA_BEACON_LOSS, &[1]),
    ]);
    let message = attributes(&[(ATTR_MAC, &[1, 2, 3, 4, 5, 6]), (ATTR_STA_INFO, &info)]);
    let station = parse_station(Attributes::nested(&message)).unwrap();
    assert_eq!(station.address, [1, 2, 3, 4, 5, 6]);
    assert_eq!((station.received_bytes, station.transmitted_bytes), ((5u64 << 32) as f64, 8.0));
    assert_eq!(
        (station.signal, station.inactive_seconds, station.connected_seconds),
        (-52.0, 2.0 + 0.345, 60.0)
    );
    assert_eq!((station.receive_bits, station.transmit_bits), (7e9, 0.0));
    assert_eq!(station.beacon_loss, 0.0, "a number cut short");
    assert_eq!(parse_station(Attributes::nested(&attributes(&[(ATTR_MAC, &[0; 6])]))), None);
}

/// A message with a network and a station in it.
fn everything() -> Vec<u8> {
    let elements = [&[1, 2, 0x82, 0x84][..], &[0, 4], b"caf\xe9"].concat();
    let network = attributes(&[
        (BSS_BSSID, &[1; 6]),
        (BSS_INFORMATION_ELEMENTS, &elements),
        (BSS_STATUS, &1u32.to_ne_bytes()),
    ]);
    let rate = attributes(&[(RATE_BITRATE, &[1, 2]), (RATE_BITRATE32, &[1, 2, 3, 4])]);
    let info = attributes(&[
        (STA_RX_BYTES64, &[5; 8]),
        (STA_SIGNAL, &[200]),
        (STA_TX_BITRATE, &rate),
        (STA_INACTIVE_TIME, &[0xff; 4]),
    ]);
    attributes(&[
        (ATTR_IFINDEX, &[3, 0, 0, 0]),
        (ATTR_IFNAME, b"wlp2s0\0"),
        (ATTR_MAC, &[2; 6]),
        (ATTR_BSS, &network),
        (ATTR_STA_INFO, &info),
    ])
}

proptest::proptest! {
    #![proptest_config(crate::sys::bent::inputs())]

    #[test]
    fn bent_messages_give_numbers_or_nothing(bytes in crate::sys::bent::bent(vec![everything()])) {
        if let Some(network) = parse_network(Attributes::nested(&bytes)) {
            proptest::prop_assert!(network.name.len() <= bytes.len());
        }
        if let Some(station) = parse_station(Attributes::nested(&bytes)) {
            proptest::prop_assert!(station.values().iter().all(|value| value.is_finite()));
        }
        if let Some(interface) = parse_interface(Attributes::nested(&bytes)) {
            proptest::prop_assert!(!netlink::string(&interface.name).is_empty());
        }
    }
}
