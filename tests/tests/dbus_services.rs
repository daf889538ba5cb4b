//! systemd and logind as collectors see them: over a real dbus-daemon, with services of the test's in their place.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use collector_tests::bus::{Answers, Bus, Value, path};
use collector_tests::exposition::Page;
use collector_tests::process::{collector_binary, free_port, get, wait_for};
use rustbus::message_builder::MarshalledMessage;
use rustbus::wire::ObjectPath;

const LONG: Duration = Duration::from_secs(30);

#[derive(rustbus::Marshal, rustbus::Signature)]
struct Unit<'a> {
    name: &'a str,
    description: &'a str,
    load: &'a str,
    state: &'a str,
    sub_state: &'a str,
    follows: &'a str,
    object: ObjectPath<&'a str>,
    job: u32,
    job_type: &'a str,
    job_object: ObjectPath<&'a str>,
}

/// Name, load state, active state, object.
const UNITS: &[(&str, &str, &str, &str)] = &[
    ("web.service", "loaded", "active", "/u/web"),
    ("db.service", "loaded", "failed", "/u/db"),
    ("old.service", "not-found", "inactive", "/u/old"),
    ("ssh.socket", "loaded", "active", "/u/ssh"),
    ("tidy.timer", "loaded", "active", "/u/tidy"),
    ("data.mount", "loaded", "active", "/u/data"),
    ("x-reload.target", "loaded", "reloading", "/u/x"),
];

fn list_units(reply: &mut MarshalledMessage) {
    let unit =
        |&(name, load, state, object): &(&'static str, &'static str, &'static str, &'static str)| Unit {
            name,
            description: "Ä unit",
            load,
            state,
            sub_state: "x",
            follows: "",
            object: path(object),
            job: 0,
            job_type: "",
            job_object: path("/"),
        };
    reply.body.push_param(UNITS.iter().map(unit).collect::<Vec<_>>().as_slice()).unwrap();
}

fn properties(table: &[(&str, &str, Value)]) -> BTreeMap<(String, String), Value> {
    table
        .iter()
        .map(|(object, name, value)| (((*object).to_owned(), (*name).to_owned()), value.clone()))
        .collect()
}

fn systemd() -> Answers {
    let manager = "/org/freedesktop/systemd1";
    let table = [
        (manager, "org.freedesktop.systemd1.Manager.Version", Value::Text("252.38-1~deb12u1")),
        (manager, "org.freedesktop.systemd1.Manager.Virtualization", Value::Text("")),
        (manager, "org.freedesktop.systemd1.Manager.SystemState", Value::Text("running")),
        ("/u/web", "org.freedesktop.systemd1.Service.Type", Value::Text("notify")),
        ("/u/web", "org.freedesktop.systemd1.Service.NRestarts", Value::U32(3)),
        ("/u/web", "org.freedesktop.systemd1.Service.TasksCurrent", Value::U64(17)),
        ("/u/web", "org.freedesktop.systemd1.Service.TasksMax", Value::U64(u64::MAX)),
        ("/u/web", "org.freedesktop.systemd1.Unit.ActiveEnterTimestamp", Value::U64(1_700_000_000_500_000)),
        ("/u/db", "org.freedesktop.systemd1.Unit.ActiveEnterTimestamp", Value::U64(5)),
        ("/u/db", "org.freedesktop.systemd1.Service.NRestarts", Value::U32(0)),
        ("/u/data", "org.freedesktop.systemd1.Mount.Type", Value::Text("ext4")),
        ("/u/ssh", "org.freedesktop.systemd1.Socket.NAccepted", Value::U32(12)),
        ("/u/ssh", "org.freedesktop.systemd1.Socket.NConnections", Value::U32(2)),
        ("/u/tidy", "org.freedesktop.systemd1.Timer.LastTriggerUSec", Value::U64(1_699_999_999_250_000)),
    ];
    Answers { methods: [("ListUnits", list_units as fn(&mut _))].into(), properties: properties(&table) }
}

#[derive(rustbus::Marshal, rustbus::Signature)]
struct Session<'a> {
    name: &'a str,
    user: u32,
    user_name: &'a str,
    seat: &'a str,
    object: ObjectPath<&'a str>,
}

fn list_sessions(reply: &mut MarshalledMessage) {
    let session =
        |(name, seat, object)| Session { name, user: 1000, user_name: "me", seat, object: path(object) };
    let sessions =
        [("1", "seat0", "/s/a"), ("2", "", "/s/b"), ("3", "", "/s/b"), ("4", "", "/s/gone")].map(session);
    reply.body.push_param(sessions.as_slice()).unwrap();
}

fn logind() -> Answers {
    let table = [
        ("/s/a", "org.freedesktop.login1.Session.Remote", Value::Bool(false)),
        ("/s/a", "org.freedesktop.login1.Session.Type", Value::Text("wayland")),
        ("/s/a", "org.freedesktop.login1.Session.Class", Value::Text("user")),
        ("/s/b", "org.freedesktop.login1.Session.Remote", Value::Bool(true)),
        ("/s/b", "org.freedesktop.login1.Session.Type", Value::Text("tty")),
        ("/s/b", "org.freedesktop.login1.Session.Class", Value::Text("manager-early")),
    ];
    let seats = |reply: &mut MarshalledMessage| {
        reply.body.push_param([("seat0", path("/seat/0"))].as_slice()).unwrap();
    };
    let methods = [("ListSeats", seats as fn(&mut _)), ("ListSessions", list_sessions)];
    Answers { methods: methods.into(), properties: properties(&table) }
}

/// A collector with these flags, on that bus.
struct Subject {
    child: std::process::Child,
    port: u16,
    log: std::path::PathBuf,
}

impl Subject {
    fn new(address: &str, folder: &Path, flags: &[&str]) -> Self {
        let (port, log) = (free_port(), folder.join("collector.log"));
        let child = Command::new(collector_binary())
            .args(["--no-ebpf", "--collector.disable-defaults", "--collector.deadline=1s"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(flags)
            .env("DBUS_SYSTEM_BUS_ADDRESS", address)
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let subject = Subject { child, port, log };
        let is_up = wait_for(LONG, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        assert!(is_up, "{}", subject.log());
        subject
    }

    fn page(&self) -> Page {
        let (status, text) = get(&format!("http://127.0.0.1:{}/metrics", self.port)).unwrap();
        assert_eq!(status, 200);
        collector_tests::exposition::parse(&text).unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every sample whose name begins so, as text.
fn samples(page: &Page, start: &str) -> Vec<String> {
    let mut found: Vec<_> = page
        .samples
        .iter()
        .filter(|sample| sample.name.starts_with(start))
        .map(|sample| {
            let labels: Vec<_> =
                sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{}{{{}}} {}", &sample.name[start.len()..], labels.join(","), sample.value)
        })
        .collect();
    found.sort();
    found
}

fn success(page: &Page, collector: &str) -> Option<f64> {
    page.value("node_scrape_collector_success", &[("collector", collector)])
}

#[test]
fn units_of_systemd() {
    let Some(bus) = Bus::new("units_of_systemd") else { return };
    let _service = bus.serve("org.freedesktop.systemd1", systemd());
    let more = ["enable-task-metrics", "enable-restarts-metrics", "enable-start-time-metrics"];
    let mut flags: Vec<String> = more.iter().map(|flag| format!("--collector.systemd.{flag}")).collect();
    flags.extend(["--collector.systemd".into(), "--collector.systemd.unit-exclude=x-.*".into()]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let subject = Subject::new(&bus.address(), bus.folder(), &flags);
    for _ in 0..3 {
        let page = subject.page();
        assert_eq!(success(&page, "systemd"), Some(1.0), "{}", subject.log());
        // What does not tell when it became active has no such sample.
        let expected = [
            "service_restart_total{name=db.service} 0",
            "service_restart_total{name=web.service} 3",
            "socket_accepted_connections_total{name=ssh.socket} 12",
            "socket_current_connections{name=ssh.socket} 2",
            "system_running{} 1",
            "timer_last_trigger_seconds{name=tidy.timer} 1699999999.25",
            "unit_start_time_seconds{name=db.service} 0",
            "unit_start_time_seconds{name=web.service} 1700000000.5",
            "unit_tasks_current{name=web.service} 17",
            "units{state=activating} 0",
            "units{state=active} 4",
            "units{state=deactivating} 0",
            "units{state=failed} 1",
            "units{state=inactive} 1",
            "units{state=reloading} 1",
            "version{version=252.38-1~deb12u1} 252.38",
            "virtualization_info{virtualization_type=none} 1",
        ];
        let given = samples(&page, "node_systemd_");
        let without_states: Vec<_> = given.iter().filter(|line| !line.starts_with("unit_state")).collect();
        assert_eq!(format!("{without_states:?}"), format!("{expected:?}"));
        let states: Vec<_> =
            given.iter().filter(|line| line.starts_with("unit_state") && line.ends_with(" 1")).collect();
        let expected = [
            "unit_state{name=data.mount,state=active,type=ext4} 1",
            "unit_state{name=db.service,state=failed,type=} 1",
            "unit_state{name=ssh.socket,state=active,type=} 1",
            "unit_state{name=tidy.timer,state=active,type=} 1",
            "unit_state{name=web.service,state=active,type=notify} 1",
        ];
        assert_eq!(format!("{states:?}"), format!("{expected:?}"));
        assert_eq!(given.iter().filter(|line| line.starts_with("unit_state")).count(), 5 * 5);
    }
}

#[test]
fn sessions_of_logind() {
    let Some(bus) = Bus::new("sessions_of_logind") else { return };
    let _service = bus.serve("org.freedesktop.login1", logind());
    let subject = Subject::new(&bus.address(), bus.folder(), &["--collector.logind"]);
    let page = subject.page();
    assert_eq!(success(&page, "logind"), Some(1.0), "{}", subject.log());
    let given = samples(&page, "node_logind_");
    assert_eq!(given.len(), 2 * 7 * 5 * 2, "each remote, type, class and seat");
    let some: Vec<_> = given.iter().filter(|line| !line.ends_with(" 0")).collect();
    let expected = [
        "sessions{class=other,remote=true,seat=,type=tty} 2",
        "sessions{class=user,remote=false,seat=seat0,type=wayland} 1",
    ];
    assert_eq!(format!("{some:?}"), format!("{expected:?}"));
}

/// More calls than the bus lets be under way at once, and an answer of many pieces.
#[test]
fn many_units() {
    fn list(reply: &mut MarshalledMessage) {
        let names: Vec<_> = (0..3000).map(|n| (format!("s{n:04}.service"), format!("/u/s{n}"))).collect();
        let unit = |(name, object): &'static (String, String)| Unit {
            name,
            description: "one of many",
            load: "loaded",
            state: "active",
            sub_state: "running",
            follows: "",
            object: path(object),
            job: 0,
            job_type: "",
            job_object: path("/"),
        };
        let units: Vec<_> = names.leak().iter().map(unit).collect();
        reply.body.push_param(units.as_slice()).unwrap();
    }
    let Some(bus) = Bus::new("many_units") else { return };
    let mut answers = systemd();
    answers.methods.insert("ListUnits", list);
    for n in 0..3000 {
        let key = (format!("/u/s{n}"), "org.freedesktop.systemd1.Service.Type".to_owned());
        answers.properties.insert(key, Value::Text("simple"));
    }
    let _service = bus.serve("org.freedesktop.systemd1", answers);
    let subject = Subject::new(&bus.address(), bus.folder(), &["--collector.systemd"]);
    let is_whole = |page: &Page| {
        let states = page.samples.iter().filter(|sample| sample.name == "node_systemd_unit_state");
        states.filter(|sample| sample.labels["type"] == "simple").count() == 5 * 3000
    };
    assert!(wait_for(LONG, || is_whole(&subject.page())), "{}", subject.log());
}

#[test]
fn a_service_that_hangs_and_a_bus_that_goes() {
    let Some(bus) = Bus::new("a_service_that_hangs_and_a_bus_that_goes") else { return };
    let service = bus.serve("org.freedesktop.systemd1", systemd());
    let flags = ["--collector.systemd", "--collector.logind", "--collector.loadavg"];
    let folder = tempfile::tempdir().unwrap();
    let subject = Subject::new(&bus.address(), folder.path(), &flags);
    let outcome = |page: &Page| ["systemd", "logind", "loadavg"].map(|name| success(page, name).unwrap());
    assert_eq!(outcome(&subject.page()), [1.0, 0.0, 1.0], "nobody plays logind");
    assert!(subject.log().contains("ServiceUnknown"), "{}", subject.log());
    service.set_hangs(true);
    assert_eq!(outcome(&subject.page()), [0.0, 0.0, 1.0]);
    service.set_hangs(false);
    assert!(wait_for(LONG, || outcome(&subject.page())[0] == 1.0), "{}", subject.log());
    let address = bus.address();
    drop(bus);
    assert!(wait_for(LONG, || outcome(&subject.page())[0] == 0.0), "the bus has gone");
    let log = subject.log();
    assert!(log.contains("D-Bus:"), "{address}: {log}");
}

#[test]
fn no_bus_at_all() {
    let folder = tempfile::tempdir().unwrap();
    for (address, expected) in [
        ("unix:path=/nowhere/bus", "/nowhere/bus: No such file"),
        ("tcp:host=localhost", "is not unix:path=... or unix:abstract=..."),
        ("unix:abstract=/nowhere/at/all", "Connection refused"),
    ] {
        let subject = Subject::new(address, folder.path(), &["--collector.logind"]);
        assert_eq!(success(&subject.page(), "logind"), Some(0.0));
        assert!(subject.log().contains(expected), "{address}: {}", subject.log());
    }
}
