//! Answers of a server that the tests play.

use super::*;

fn answer(records: &[(u16, &[u8])]) -> Vec<u8> {
    let mut message = encode_query(7, "a.example", 1).unwrap();
    message.truncate(message.len() - 11);
    message[7] = records.len() as u8;
    message[11] = 0;
    for (kind, data) in records {
        // The name of the question, by a pointer to it.
        message.extend([0xc0, 12]);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 60]);
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(*data);
    }
    message
}

fn records(kind: u16, data: &[(u16, &[u8])]) -> Option<Vec<Record>> {
    parse_records(&answer(data), kind)
}

#[test]
fn records_of_every_kind() {
    assert_eq!(
        records(1, &[(5, &[0xc0, 12]), (1, &[10, 0, 0, 1])]),
        Some(vec![Record::Address([10, 0, 0, 1].into())])
    );
    let mut v6 = [0; 16];
    v6[15] = 1;
    assert_eq!(records(28, &[(28, &v6)]), Some(vec![Record::Address(v6.into())]));
    let service = Record::Service { host: "h.a.example.".into(), port: 9100 };
    assert_eq!(records(33, &[(33, &[0, 1, 0, 2, 0x23, 0x8c, 1, b'h', 0xc0, 12])]), Some(vec![service]));
    assert_eq!(records(15, &[(15, &[0, 10, 0xc0, 12])]), Some(vec![Record::Host("a.example.".into())]));
    assert_eq!(records(2, &[(2, &[2, b'n', b's', 0])]), Some(vec![Record::Host("ns.".into())]));
}

#[test]
fn bad_answers_are_refused() {
    assert_eq!(records(1, &[(1, &[10, 0, 0])]), None, "too short for an address");
    assert_eq!(records(2, &[(2, &[0xc0, 200])]), None, "a pointer forward");
    assert_eq!(records(2, &[(2, &[5, b'x'])]), None, "a label beyond the end");
    let whole = answer(&[(33, &[0, 1, 0, 2, 0x23, 0x8c, 1, b'h', 0xc0, 12])]);
    for length in 12..whole.len() {
        assert_eq!(parse_records(&whole[..length], 33), None, "cut at {length}");
    }
}

#[test]
fn the_systems_file_and_search_domains() {
    let resolver = Resolver::parse(
        "# comment\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch a.example b.example.\noptions ndots:2 timeout:1 attempts:3\n",
    );
    assert_eq!(resolver.servers, ["10.0.0.1:53".parse().unwrap(), "[fe80::1]:53".parse().unwrap()]);
    assert_eq!((resolver.timeout, resolver.attempts), (Duration::from_secs(1), 3));
    assert_eq!(resolver.candidates("x"), ["x.a.example.", "x.b.example.", "x."]);
    assert_eq!(resolver.candidates("x.y.z"), ["x.y.z.", "x.y.z.a.example.", "x.y.z.b.example."]);
    assert_eq!(resolver.candidates("x."), ["x."]);
    assert_eq!(Resolver::parse("").servers, ["127.0.0.1:53".parse().unwrap()]);
}

#[tokio::test]
async fn a_server_is_asked_and_a_cut_answer_had_by_tcp() {
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).await.unwrap();
    let server = tokio::spawn(async move {
        let mut buffer = [0; 512];
        for round in 0..3 {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            let mut reply = answer(&[(1, &[10, 0, 0, 1])]);
            reply[..2].copy_from_slice(&buffer[..2]);
            reply[2] |= 0x80;
            assert!(length > 12);
            match round {
                // To another question first.
                0 => {
                    let mut other = reply.clone();
                    other[0] ^= 0xff;
                    udp.send_to(&other, from).await.unwrap();
                }
                1 => reply[2] |= 0x02,
                _ => reply[3] = NAME_ERROR,
            }
            udp.send_to(&reply, from).await.unwrap();
            if round == 1 {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let length = stream.read_u16().await.unwrap();
                let mut question = vec![0; usize::from(length)];
                stream.read_exact(&mut question).await.unwrap();
                let mut reply = answer(&[(1, &[10, 0, 0, 1]), (1, &[10, 0, 0, 2])]);
                reply[..2].copy_from_slice(&question[..2]);
                stream.write_u16(reply.len() as u16).await.unwrap();
                stream.write_all(&reply).await.unwrap();
            }
        }
    });
    let mut resolver = Resolver::parse("");
    resolver.servers = vec![address];
    assert_eq!(resolver.lookup("a.example", DnsKind::A).await.unwrap().len(), 1);
    assert_eq!(resolver.lookup("a.example", DnsKind::A).await.unwrap().len(), 2);
    assert_eq!(resolver.lookup("a.example", DnsKind::A).await.unwrap(), []);
    server.await.unwrap();
    for name in ["a..b", &"x".repeat(64), &"abc.".repeat(70)] {
        assert!(resolver.lookup(name, DnsKind::A).await.unwrap_err().contains("DNS"), "{name}");
    }
}
