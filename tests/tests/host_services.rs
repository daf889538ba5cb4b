//! Collectors that ask somebody over a network, against servers in this process: a time server, chronyd over UDP and a
//! Unix socket, and supervisord over TCP and a Unix socket.

mod render;

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use collector::model::SeriesTable;
use collector::sources::host::{FlagValues, HostReader, Paths, Selection};
use render::Exposition;

/// One tick of that collector alone.
fn tick(collector: &str, given: &[(&str, String)]) -> Exposition {
    let mut flags = FlagValues::default();
    given.iter().for_each(|(name, value)| flags.give(name, value.as_str()));
    let table = Arc::new(SeriesTable::default());
    let enabled = |name: &str, _: bool| name == collector;
    let mut reader = HostReader::new(&Paths::default(), &flags, enabled, &[], &table).unwrap();
    let mut exposition = Exposition::new();
    reader.run(&Selection::All, 0, Default::default, |batch| render::add(&batch, &table, &mut exposition));
    exposition
}

/// The value of the only series of a family.
fn value(exposition: &Exposition, family: &str) -> f64 {
    let (_, samples) = exposition.get(family).unwrap_or_else(|| panic!("{family} is missing"));
    assert_eq!(samples.len(), 1, "{family}");
    *samples.values().next().unwrap()
}

fn succeeded(exposition: &Exposition) -> bool {
    value(exposition, "node_scrape_collector_success") == 1.0
}

/// Seconds since 1900 and their fraction, now and so much later.
fn ntp_time(later: f64) -> [u8; 8] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(2_208_988_800);
    let moved = if later < 0.0 {
        now - Duration::from_secs_f64(-later)
    } else {
        now + Duration::from_secs_f64(later)
    };
    ((moved.as_secs() << 32) | ((u64::from(moved.subsec_nanos()) << 32) / 1_000_000_000)).to_be_bytes()
}

/// What a time server answers to a question; `change` may spoil it.
fn ask_time(change: impl Fn(&mut Vec<u8>) + Send + 'static) -> Exposition {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let mut question = [0; 64];
        let (length, client) = socket.recv_from(&mut question).unwrap();
        assert_eq!((length, question[0]), (48, 0b11_011_011), "a question of a client, version 3");
        let mut answer = vec![0; 48];
        answer[..4].copy_from_slice(&[0b00_011_100, 3, 6, 0xe8]);
        answer[4..8].copy_from_slice(&16_384u32.to_be_bytes());
        answer[8..12].copy_from_slice(&8192u32.to_be_bytes());
        answer[16..24].copy_from_slice(&ntp_time(-64.0));
        answer[24..32].copy_from_slice(&question[40..48]);
        answer[32..40].copy_from_slice(&ntp_time(0.0));
        answer[40..48].copy_from_slice(&ntp_time(0.0));
        change(&mut answer);
        socket.send_to(&answer, client).unwrap();
    });
    let given = [
        ("collector.ntp.server-port", port.to_string()),
        ("collector.ntp.protocol-version", "3".into()),
        // However busy this machine is: what is looked at is another limit.
        ("collector.ntp.local-offset-tolerance", "10s".into()),
    ];
    let exposition = tick("ntp", &given);
    server.join().unwrap();
    exposition
}

/// Changes an answer.
type Spoil = fn(&mut Vec<u8>);

#[test]
fn a_time_server_that_is_sane() {
    let exposition = ask_time(|_| {});
    assert!(succeeded(&exposition));
    for (family, expected) in [
        ("node_ntp_stratum", 3.0),
        ("node_ntp_leap", 0.0),
        ("node_ntp_root_delay_seconds", 0.25),
        ("node_ntp_root_dispersion_seconds", 0.125),
        ("node_ntp_sanity", 1.0),
    ] {
        assert_eq!(value(&exposition, family), expected, "{family}");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let reference = value(&exposition, "node_ntp_reference_timestamp_seconds");
    assert!((now - 1000.0..now).contains(&reference), "{reference}");
    assert!(value(&exposition, "node_ntp_rtt_seconds") >= 0.0);
    assert!(value(&exposition, "node_ntp_offset_seconds").abs() < 10.0, "the clock is the same");
}

#[test]
fn a_time_server_that_is_not_sane() {
    let spoil: [(&str, Spoil); 6] = [
        ("kiss of death", |answer| answer[1] = 0),
        ("not synchronised", |answer| answer[1] = 16),
        ("leap indicator", |answer| answer[0] |= 0b1100_0000),
        ("dispersion", |answer| answer[8] = 1),
        ("reference of two days ago", |answer| answer[16..24].copy_from_slice(&ntp_time(-172_800.0))),
        ("an hour ahead", |answer| {
            answer[32..40].copy_from_slice(&ntp_time(3600.0));
            answer[40..48].copy_from_slice(&ntp_time(3600.0));
        }),
    ];
    for (what, change) in spoil {
        let exposition = ask_time(change);
        assert!(succeeded(&exposition), "{what}");
        assert_eq!(value(&exposition, "node_ntp_sanity"), 0.0, "{what}");
    }
}

#[test]
fn a_time_server_that_answers_nonsense() {
    let spoil: [(&str, Spoil); 4] = [
        ("short", |answer| answer.truncate(47)),
        ("empty", Vec::clear),
        ("of a client", |answer| answer[0] = 0b00_011_011),
        ("to another question", |answer| answer[24] ^= 1),
    ];
    for (what, change) in spoil {
        let exposition = ask_time(change);
        assert!(!succeeded(&exposition), "{what}");
        assert!(!exposition.contains_key("node_ntp_stratum"), "{what}");
    }
}

#[test]
fn a_time_server_that_is_silent() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let exposition = tick("ntp", &[("collector.ntp.server-port", port.to_string())]);
    assert!(!succeeded(&exposition));
}

const PROCESSES: &str = "<?xml version='1.0'?><methodResponse><params><param><value><array><data>\
    <value><struct><member><name>name</name><value><string>web</string></value></member>\
    <member><name>group</name><value><string>site</string></value></member>\
    <member><name>start</name><value><int>1700000000</int></value></member>\
    <member><name>state</name><value><int>20</int></value></member>\
    <member><name>exitstatus</name><value><int>0</int></value></member></struct></value>\
    <value><struct><member><name>name</name><value><string>job</string></value></member>\
    <member><name>group</name><value><string>job</string></value></member>\
    <member><name>start</name><value><int>1600000000</int></value></member>\
    <member><name>state</name><value><int>100</int></value></member>\
    <member><name>exitstatus</name><value><int>3</int></value></member></struct></value>\
    </data></array></value></param></params></methodResponse>";

/// Takes one question and gives that body.
fn answer(mut stream: impl Read + Write, body: &str) {
    let mut question = Vec::new();
    let mut bytes = [0; 1024];
    while !question.ends_with(b"</methodCall>") {
        let n = stream.read(&mut bytes).unwrap();
        assert!(n > 0, "the question ends early");
        question.extend_from_slice(&bytes[..n]);
    }
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
}

fn over_tcp(body: &'static str) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/RPC2", listener.local_addr().unwrap());
    (url, std::thread::spawn(move || answer(listener.accept().unwrap().0, body)))
}

#[test]
fn supervisord_over_both_kinds_of_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("supervisor.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let unix = std::thread::spawn(move || answer(listener.accept().unwrap().0, PROCESSES));
    for (url, server) in [over_tcp(PROCESSES), (format!("unix://{}", path.display()), unix)] {
        let exposition = tick("supervisord", &[("collector.supervisord.url", url)]);
        server.join().unwrap();
        assert!(succeeded(&exposition));
        let of = |family: &str| -> Vec<(String, f64)> {
            let (_, samples) = &exposition[family];
            samples.iter().map(|(series, value)| (series.clone(), *value)).collect()
        };
        let series = |family: &str, labels: &str| format!("{family}{{{labels}}}");
        let (job, web) = ("group=\"job\",name=\"job\"", "group=\"site\",name=\"web\"");
        for (family, of_job, of_web) in [
            ("node_supervisord_up", 0.0, 1.0),
            ("node_supervisord_state", 100.0, 20.0),
            ("node_supervisord_exit_status", 3.0, 0.0),
        ] {
            assert_eq!(of(family), [(series(family, job), of_job), (series(family, web), of_web)]);
        }
        let start = "node_supervisord_start_time_seconds";
        assert_eq!(of(start), [(series(start, web), 1_700_000_000.0)], "of what is up alone");
    }
}

#[test]
fn supervisord_that_answers_nonsense() {
    for body in ["", "<html/>", "<methodResponse><fault/></methodResponse>x<", &PROCESSES[..300]] {
        let (url, server) = over_tcp(body);
        let exposition = tick("supervisord", &[("collector.supervisord.url", url)]);
        server.join().unwrap();
        assert!(!succeeded(&exposition), "{body}");
        assert!(!exposition.contains_key("node_supervisord_up"), "{body}");
    }
}

/// What chronyd answers to a question: it follows 192.0.2.7, and has that server and a reference clock.
fn chrony_answer(question: &[u8]) -> Vec<u8> {
    let command = question[5];
    let mut data = vec![0; if command == 33 { 76 } else { 48 }];
    let mut put = |at: usize, bytes: &[u8]| data[at..at + bytes.len()].copy_from_slice(bytes);
    let reply: u8 = match command {
        14 => {
            put(0, &2u32.to_be_bytes());
            2
        }
        15 if question[23] == 0 => {
            put(0, &[192, 0, 2, 7]);
            // Family, padding, poll, stratum, state, mode, flags, reachability, age.
            put(16, &[0, 1, 0, 0, 0, 6, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0o17, 0, 0, 0, 12]);
            put(40, &0x0280_0000u32.to_be_bytes());
            put(44, &0x0080_0000u32.to_be_bytes());
            3
        }
        15 => {
            put(0, b"PPS");
            put(16, &[0, 1, 0, 0, 0xff, 0xff, 0, 0, 0, 5, 0, 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
            3
        }
        _ => {
            put(0, &[192, 0, 2, 7, 192, 0, 2, 7]);
            // Family, padding, stratum, leap second, time.
            put(20, &[0, 1, 0, 0, 0, 3, 0, 1, 0x7f, 0xff, 0xff, 0xff]);
            put(32, &1_700_000_000u32.to_be_bytes());
            for number in 0..9u8 {
                // 2^-1, 2^0 and so on: a coefficient of 2^23 and an exponent of two bits more.
                put(
                    40 + 4 * usize::from(number),
                    &((u32::from(number) + 1) << 25 | 0x0080_0000).to_be_bytes(),
                );
            }
            5
        }
    };
    let mut answer = vec![6, 2, 0, 0, 0, command, 0, reply];
    answer.resize(16, 0);
    answer.extend_from_slice(&question[8..12]);
    answer.resize(28, 0);
    answer.extend(data);
    answer
}

/// Answers so many questions over UDP; `change` may spoil an answer.
fn chrony_over_udp(
    questions: usize,
    change: impl Fn(&mut Vec<u8>) + Send + 'static,
) -> (String, JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        for _ in 0..questions {
            let mut question = [0; 512];
            let (length, client) = socket.recv_from(&mut question).unwrap();
            let mut answer = chrony_answer(&question[..length]);
            assert!(question[5] == 14 || length == answer.len(), "an answer is as long as its question");
            // One that came too late for an earlier question.
            let mut late = answer.clone();
            late[16] ^= 1;
            socket.send_to(&late, client).unwrap();
            change(&mut answer);
            socket.send_to(&answer, client).unwrap();
        }
    });
    (address, server)
}

fn check_tracking(exposition: &Exposition) {
    assert!(succeeded(exposition));
    for (family, expected) in [
        ("chrony_up", 1.0),
        ("chrony_sources", 2.0),
        ("chrony_tracking_stratum", 3.0),
        ("chrony_tracking_leap_status", 1.0),
        ("chrony_tracking_remote_reference", 1.0),
        ("chrony_tracking_reference_timestamp_seconds", 1_700_000_000.0),
        ("chrony_tracking_system_time_seconds", 0.5),
        ("chrony_tracking_last_offset_seconds", 1.0),
        ("chrony_tracking_rms_offset_seconds", 2.0),
        ("chrony_tracking_frequency_ppms", 4.0),
        ("chrony_tracking_residual_frequency_ppms", 8.0),
        ("chrony_tracking_skew_ppms", 16.0),
        ("chrony_tracking_root_delay_seconds", 32.0),
        ("chrony_tracking_root_dispersion_seconds", 64.0),
        ("chrony_tracking_update_interval_seconds", 128.0),
    ] {
        assert_eq!(value(exposition, family), expected, "{family}");
    }
    let labels = "tracking_address=\"192.0.2.7\",tracking_name=\"192.0.2.7\",tracking_refid=\"C0000207\"";
    assert!(exposition["chrony_tracking_info"].1.contains_key(&format!("chrony_tracking_info{{{labels}}}")));
}

#[test]
fn chronyd_over_udp_tells_its_sources() {
    let (address, server) = chrony_over_udp(4, |_| {});
    // The first address is that of nobody.
    let given = [
        ("collector.chrony.address", format!("unix:/nowhere/chronyd.sock,{address}")),
        ("collector.chrony.sources", "true".into()),
    ];
    let exposition = tick("chrony", &given);
    server.join().unwrap();
    check_tracking(&exposition);
    let server = "source_address=\"192.0.2.7\",source_name=\"192.0.2.7\"";
    let clock = "source_address=\"80.80.83.0\",source_name=\"PPS\"";
    for (family, of_server, of_clock) in [
        ("chrony_sources_last_sample_age_seconds", 12.0, None),
        ("chrony_sources_last_sample_offset_seconds", 0.5, None),
        ("chrony_sources_last_sample_error_margin_seconds", 0.25, None),
        ("chrony_sources_polling_interval_seconds", 64.0, Some(0.5)),
        ("chrony_sources_reachability_ratio", 0.5, Some(0.0)),
        ("chrony_sources_stratum", 2.0, Some(0.0)),
    ] {
        let samples = &exposition[family].1;
        assert_eq!(samples[&format!("{family}{{{server}}}")], of_server, "{family}");
        assert_eq!(samples.get(&format!("{family}{{{clock}}}")).copied(), of_clock, "{family}");
    }
    let states: Vec<&String> = exposition["chrony_sources_state_info"].1.keys().collect();
    assert!(states[0].contains("source_mode=\"client\"") && states[0].contains("source_state=\"sync\""));
    assert!(states[1].contains("source_mode=\"reference clock\"") && states[1].contains("\"outlier\""));
}

#[test]
fn chronyd_over_its_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chronyd.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let mut question = [0; 512];
            let (length, client) = socket.recv_from(&mut question).unwrap();
            socket.send_to(&chrony_answer(&question[..length]), client.as_pathname().unwrap()).unwrap();
        }
    });
    let exposition = tick("chrony", &[("collector.chrony.address", format!("unix:{}", path.display()))]);
    server.join().unwrap();
    check_tracking(&exposition);
    assert!(!exposition.contains_key("chrony_sources_stratum"), "nobody asked for each source");
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["chronyd.sock"], "nothing is left behind");
}

#[test]
fn chronyd_that_answers_nonsense() {
    let spoil: [(&str, Spoil); 6] = [
        ("short", |answer| answer.truncate(103)),
        ("empty", Vec::clear),
        ("of version 5", |answer| answer[0] = 5),
        ("a question", |answer| answer[1] = 1),
        ("of another kind", |answer| answer[7] = 2),
        ("a refusal", |answer| answer[9] = 2),
    ];
    for (what, change) in spoil {
        let (address, server) = chrony_over_udp(1, change);
        let exposition = tick("chrony", &[("collector.chrony.address", address)]);
        server.join().unwrap();
        assert!(!succeeded(&exposition), "{what}");
        assert_eq!(value(&exposition, "chrony_up"), 0.0, "{what}");
        assert!(!exposition.contains_key("chrony_tracking_stratum"), "{what}");
    }
}

#[test]
fn chronyd_that_is_silent_or_absent() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = socket.local_addr().unwrap().to_string();
    for address in [silent, "unix:/nowhere/chronyd.sock".to_owned()] {
        let exposition = tick("chrony", &[("collector.chrony.address", address)]);
        assert!(!succeeded(&exposition));
        assert_eq!(value(&exposition, "chrony_up"), 0.0);
    }
}
