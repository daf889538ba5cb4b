//! Sessions of users, from systemd-logind over D-Bus (org.freedesktop.login1(5)).
//! Cost a tick: a few system calls, and three properties a session.

use rustbus::message_builder::MarshalledMessage;
use rustbus::wire::ObjectPath;

use super::dbus::{self, Bus, Call};
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};

static SESSIONS: Family = Family::gauge(
    "node_logind_sessions",
    "Sessions that logind knows.",
    &["seat", "remote", "type", "class"],
);

const SERVICE: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SESSION: &str = "org.freedesktop.login1.Session";
/// Of what else a session may be, the first is said.
const TYPES: &[&str] = &["other", "unspecified", "tty", "x11", "wayland", "mir", "web"];
const CLASSES: &[&str] = &["other", "user", "greeter", "lock-screen", "background"];
const REMOTE: &[&str] = &["true", "false"];
/// Seats, and sessions; more are left out.
const MOST: usize = 4096;

pub(super) static COLLECTOR: Registration = Registration {
    name: "logind",
    default_enabled: false,
    flags: &[],
    families: &[&SESSIONS],
    new: |_| Ok(Box::new(Logind { bus: Bus::system() })),
};

struct Logind {
    bus: Bus,
}

/// Where a session counts: its seat, and the places in [`REMOTE`], [`TYPES`] and [`CLASSES`].
#[derive(Clone, Default)]
struct Session {
    seat: String,
    remote: Option<usize>,
    kind: Option<usize>,
    class: Option<usize>,
}

/// What ListSessions gives of one.
#[derive(rustbus::Unmarshal, rustbus::Signature)]
struct Listed<'a> {
    _name: &'a str,
    _user: u32,
    _user_name: &'a str,
    seat: &'a str,
    object: ObjectPath<&'a str>,
}

impl Logind {
    fn list(&mut self, tick: &Tick, method: &str) -> Result<MarshalledMessage, CollectError> {
        let call = Call { destination: SERVICE, path: PATH, interface: MANAGER, method, arguments: &[] };
        self.bus.call(tick.time_left(), call)
    }
}

impl Collector for Logind {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let wrong =
            |error| CollectError::Other(format!("logind: an answer that is not as documented: {error:?}"));
        let answer = self.list(tick, "ListSeats")?;
        let seats: Vec<(&str, ObjectPath<&str>)> = answer.body.parser().get().map_err(wrong)?;
        // Sessions without a seat, such as those of ssh.
        let mut seats: Vec<&str> = seats.iter().take(MOST).map(|(seat, _)| *seat).chain([""]).collect();
        seats.sort_unstable();
        seats.dedup();
        let listed = self.list(tick, "ListSessions")?;
        let listed: Vec<Listed<'_>> = listed.body.parser().get().map_err(wrong)?;
        let listed = &listed[..listed.len().min(MOST)];
        let mut sessions: Vec<_> = listed
            .iter()
            .map(|listed| Session { seat: listed.seat.to_owned(), ..Session::default() })
            .collect();
        const PROPERTIES: [[&str; 2]; 3] = [[SESSION, "Remote"], [SESSION, "Type"], [SESSION, "Class"]];
        let calls = listed.iter().flat_map(|listed| {
            PROPERTIES.iter().map(move |property| Call::property(SERVICE, listed.object.as_ref(), property))
        });
        self.bus.call_all(tick.time_left(), calls, |number, answer| {
            let session = &mut sessions[number / PROPERTIES.len()];
            // What logind calls by a name that we do not know is "other", the first of each list.
            let known = |list: &[&str]| {
                dbus::text(&answer).map(|text| list.iter().position(|name| *name == text).unwrap_or(0))
            };
            match number % PROPERTIES.len() {
                0 => session.remote = dbus::number(&answer).map(|yes| usize::from(yes == 0)),
                1 => session.kind = known(TYPES),
                _ => session.class = known(CLASSES),
            }
        })?;
        put(&seats, &sessions, out);
        Ok(())
    }
}

/// Every combination of what a session may be, also where none is.
fn put(seats: &[&str], sessions: &[Session], out: &mut Recorder) {
    let place = |session: &Session| {
        let seat = seats.binary_search(&session.seat.as_str()).ok()?;
        let within = (session.remote? * TYPES.len() + session.kind?) * CLASSES.len() + session.class?;
        Some(within * seats.len() + seat)
    };
    let mut counts = vec![0u32; REMOTE.len() * TYPES.len() * CLASSES.len() * seats.len()];
    sessions.iter().filter_map(place).for_each(|place| counts[place] += 1);
    let mut counts = counts.iter();
    for remote in REMOTE {
        for kind in TYPES {
            for class in CLASSES {
                for (seat, count) in seats.iter().zip(counts.by_ref().take(seats.len())) {
                    out.put(&SESSIONS, &[seat, remote, kind, class], f64::from(*count));
                }
            }
        }
    }
}
