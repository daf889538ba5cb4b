//! Tests of the rtnetlink reader: against this host's own tables, and against messages cut and bent.

use super::*;

fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + content.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[test]
fn this_host_has_a_loopback_and_no_dump_allocates_twice() {
    let mut netlink = Netlink::new();
    let index = netlink
        .dump(Table::Links)
        .unwrap()
        .find(|(_, attributes)| {
            attributes.clone().any(|(kind, name)| kind == libc::IFLA_IFNAME && name == b"lo\0")
        })
        .and_then(|(header, _)| u32_at(header, 4))
        .unwrap();
    assert!(index > 0);
    let capacity = netlink.buffer.capacity();
    for _ in 0..3 {
        assert!(netlink.dump(Table::Links).unwrap().count() >= 1);
        netlink.dump(Table::Neighbours4).unwrap();
        for table in [Table::Addresses, Table::Routes, Table::Qdiscs] {
            assert!(netlink.dump(table).is_ok(), "{table:?}");
        }
    }
    assert_eq!(netlink.buffer.capacity(), capacity);
}

#[test]
fn an_interrupted_dump_is_told_and_a_late_answer_dropped() {
    let intr = libc::NLM_F_DUMP_INTR as u16;
    let done = libc::NLMSG_DONE as u16;
    let mut buffer = message(libc::RTM_NEWLINK, intr, 7, &[0; 16]);
    assert_eq!(scan(&mut buffer, 0, 7).unwrap(), Progress::More { interrupted: true });
    let start = buffer.len();
    buffer.extend(message(done, 0, 6, &[0; 4]));
    assert_eq!(scan(&mut buffer, start, 7).unwrap(), Progress::More { interrupted: false });
    assert_eq!(buffer.len(), start, "the answer to an older request is gone");
    buffer.extend(message(done, intr, 7, &[0; 4]));
    assert_eq!(scan(&mut buffer, start, 7).unwrap(), Progress::Done { interrupted: true });
    let mut refused = message(libc::NLMSG_ERROR as u16, 0, 7, &(-libc::EPERM).to_ne_bytes());
    assert_eq!(scan(&mut refused, 0, 7).unwrap_err().raw_os_error(), Some(libc::EPERM));
    let mut failed = message(done, 0, 7, &(-libc::EMSGSIZE).to_ne_bytes());
    assert_eq!(scan(&mut failed, 0, 7).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
    let mut acknowledged = message(libc::NLMSG_ERROR as u16, 0, 7, &0i32.to_ne_bytes());
    assert_eq!(scan(&mut acknowledged, 0, 7).unwrap(), Progress::Done { interrupted: false });
}

#[test]
fn messages_cut_anywhere_give_less_and_never_panic() {
    let mut body = vec![0; 16];
    body.extend(attribute(libc::IFLA_IFNAME, b"eth0\0"));
    body.extend(attribute(libc::IFLA_STATS64, &[1; 64]));
    let mut all = message(libc::RTM_NEWLINK, 0, 1, &body);
    all.extend(message(libc::RTM_NEWLINK, 0, 1, &body));
    let count = |bytes: &[u8]| {
        let messages = Messages { rest: bytes, answer: libc::RTM_NEWLINK, header: 16 };
        messages.map(|(_, attributes)| attributes.count()).sum::<usize>()
    };
    assert_eq!(count(&all), 4);
    for end in 0..all.len() {
        assert!(count(&all[..end]) < 4);
        for byte in [0, 3, 0x7f, 0xff] {
            let mut bent = all.clone();
            bent[end] = byte;
            count(&bent);
        }
    }
}

#[test]
fn a_dump_in_pieces_is_the_dump() {
    let mut netlink = Netlink::new();
    let whole = netlink.dump(Table::Links).unwrap().count();
    let mut pieces = 0;
    assert!(netlink.stream(&Table::Links.request(), |messages| pieces += messages.count()).unwrap());
    assert_eq!(pieces, whole);
    assert!(netlink.buffer.is_empty());
}

/// The dumps of this host, as they came.
fn dumps() -> Vec<Vec<u8>> {
    let mut netlink = Netlink::new();
    [Table::Links, Table::Neighbours4, Table::Addresses, Table::Routes, Table::Qdiscs]
        .map(|table| {
            netlink.dump(table).unwrap();
            // Some thousand bytes hold every kind of message.
            netlink.buffer[..netlink.buffer.len().min(8192)].to_vec()
        })
        .into()
}

proptest::proptest! {
    #![proptest_config(crate::sys::bent::inputs())]

    #[test]
    fn bent_dumps_give_no_more_than_they_hold(bytes in crate::sys::bent::bent(dumps())) {
        for table in [Table::Links, Table::Neighbours4, Table::Addresses, Table::Routes, Table::Qdiscs] {
            let Request { answer, header, .. } = table.request();
            let mut held = 0;
            for (header, attributes) in (Messages { rest: &bytes, answer, header }) {
                held += header.len();
                for (_, content) in attributes {
                    held += 4 + content.len();
                    let within: usize = Attributes::nested(content).map(|(_, content)| 4 + content.len()).sum();
                    proptest::prop_assert!(within <= content.len());
                }
            }
            proptest::prop_assert!(held <= bytes.len());
        }
        let _ = scan(&mut bytes.clone(), 0, 1);
    }
}
