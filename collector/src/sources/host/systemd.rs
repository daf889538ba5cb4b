//! Units of systemd over D-Bus (org.freedesktop.systemd1(5)).
//! Cost a tick: one call for all units, one for each timer, three for each socket; and one for each service when it is
//! first seen and every [`TYPES_FOR`]. Up to 64 calls share a write and a few reads.

mod families;

use std::path::Path;
use std::time::{Duration, Instant};

use families::*;
use hashbrown::HashMap;
use regex::Regex;
use rustbus::wire::ObjectPath;

use super::dbus::{self, Answer, Bus, Call};
use super::{CollectError, Collector, FlagValues, Registration, SetupError, Tick};
use crate::model::{Family, Recorder};

const SERVICE: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PRIVATE: &str = "/run/systemd/private";
const STATES: [&str; 5] = ["active", "activating", "deactivating", "inactive", "failed"];
/// Units that are looked at; more are left out, and the tick is an error.
const MOST_UNITS: usize = 50_000;
/// How long the type of a service is taken for known: it changes only when somebody edits the unit.
const TYPES_FOR: Duration = Duration::from_secs(300);
/// The first version that knows the state of the system and when a timer last triggered.
const FIRST_WITH_STATE: f64 = 212.0;

pub(super) static COLLECTOR: Registration = Registration {
    name: "systemd",
    default_enabled: false,
    flags: FLAGS,
    families: FAMILIES,
    new: |setup| Ok(Box::new(Systemd::new(setup.flags).map_err(SetupError::of("systemd"))?)),
};

struct Systemd {
    bus: Bus,
    include: Regex,
    exclude: Regex,
    restarts: bool,
    tasks: bool,
    start_time: bool,
    /// Types of services and mounts, and since when they are known.
    types: HashMap<String, String>,
    types_since: Instant,
    units: Vec<Unit>,
}

/// A unit that is given.
struct Unit {
    name: String,
    state: String,
    path: String,
}

impl Unit {
    fn is(&self, suffix: &str) -> bool {
        self.name.ends_with(suffix)
    }
}

/// What ListUnits gives of one.
#[derive(rustbus::Unmarshal, rustbus::Signature)]
struct Listed<'a> {
    name: &'a str,
    _description: &'a str,
    load: &'a str,
    state: &'a str,
    _sub_state: &'a str,
    _follows: &'a str,
    object: ObjectPath<&'a str>,
    _job: u32,
    _job_type: &'a str,
    _job_object: ObjectPath<&'a str>,
}

/// A property that is asked for, and what becomes of the answer.
#[derive(Clone, Copy)]
struct Question {
    /// Ends the names of the units that have it.
    suffix: &'static str,
    property: [&'static str; 2],
    family: &'static Family,
    scale: f64,
}

const fn question(
    suffix: &'static str,
    property: [&'static str; 2],
    family: &'static Family,
    scale: f64,
) -> Question {
    Question { suffix, property, family, scale }
}

const TIMER: &str = "org.freedesktop.systemd1.Timer";
const SOCKET: &str = "org.freedesktop.systemd1.Socket";
const UNIT_SERVICE: &str = "org.freedesktop.systemd1.Service";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const MICRO: f64 = 1e6;
static SOCKETS: [Question; 3] = [
    question(".socket", [SOCKET, "NAccepted"], &ACCEPTED, 1.0),
    question(".socket", [SOCKET, "NConnections"], &CONNECTIONS, 1.0),
    question(".socket", [SOCKET, "NRefused"], &REFUSED, 1.0),
];
static TIMERS: [Question; 1] = [question(".timer", [TIMER, "LastTriggerUSec"], &LAST_TRIGGER, MICRO)];
static RESTARTS: [Question; 1] = [question(".service", [UNIT_SERVICE, "NRestarts"], &RESTART_TOTAL, 1.0)];
static TASKS: [Question; 2] = [
    question(".service", [UNIT_SERVICE, "TasksCurrent"], &TASKS_CURRENT, 1.0),
    question(".service", [UNIT_SERVICE, "TasksMax"], &TASKS_MAX, 1.0),
];
static STARTS: [Question; 1] = [question("", [UNIT, "ActiveEnterTimestamp"], &START_TIME, MICRO)];

impl Systemd {
    fn new(flags: &FlagValues) -> Result<Self, String> {
        let pattern = |name: &str, alias: &str| {
            let text = flags.text_or_alias(name, alias)?;
            Regex::new(&format!("^(?:{text})$"))
                .map_err(|error| format!("--{name}: bad pattern {text:?}: {error}"))
        };
        let private = flags.switch(PRIVATE_FLAG);
        Ok(Systemd {
            bus: if private { Bus::private(Path::new(PRIVATE)) } else { Bus::system() },
            include: pattern(INCLUDE_FLAG, OLD_INCLUDE_FLAG)?,
            exclude: pattern(EXCLUDE_FLAG, OLD_EXCLUDE_FLAG)?,
            restarts: flags.switch(RESTARTS_FLAG),
            tasks: flags.switch(TASKS_FLAG),
            start_time: flags.switch(START_TIME_FLAG),
            types: HashMap::new(),
            types_since: Instant::now(),
            units: Vec::new(),
        })
    }

    /// Version, virtualization, and whether the system runs. Returns the version as a number, 0 if not known.
    fn put_manager(&mut self, tick: &Tick, out: &mut Recorder) -> Result<f64, CollectError> {
        const ASKED: [[&str; 2]; 3] =
            [[MANAGER, "Version"], [MANAGER, "Virtualization"], [MANAGER, "SystemState"]];
        let calls = ASKED.iter().map(|property| Call::property(SERVICE, PATH, property));
        let mut said: [Option<String>; 3] = Default::default();
        self.bus.call_all(tick.time_left(), calls, |number, answer| said[number] = dbus::text(&answer))?;
        let [version, virtualization, state] = said;
        let version = version.unwrap_or_default();
        let number = parse_version(&version);
        let version = if number > 0.0 { version.as_str() } else { "" };
        out.put(&VERSION, &[version], number);
        let virtualization = match virtualization.as_deref() {
            None => "unknown",
            Some("") => "none",
            Some(name) => name,
        };
        out.put(&VIRTUALIZATION, &[virtualization], 1.0);
        if number >= FIRST_WITH_STATE {
            let state =
                state.ok_or_else(|| CollectError::Other("systemd does not tell its SystemState".into()))?;
            out.put(&RUNNING, &[], f64::from(u8::from(state == "running")));
        }
        Ok(number)
    }

    /// Asks for all units; keeps those that the filters take, in the order of their names.
    fn list_units(&mut self, tick: &Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let call = Call {
            destination: SERVICE,
            path: PATH,
            interface: MANAGER,
            method: "ListUnits",
            arguments: &[],
        };
        let answer = self.bus.call(tick.time_left(), call)?;
        let listed: Vec<Listed<'_>> = parse_units(&answer).map_err(|error| {
            CollectError::Other(format!("systemd: ListUnits is not as documented: {error}"))
        })?;
        let mut counts: Vec<(&str, u32)> = STATES.iter().map(|state| (*state, 0)).collect();
        self.units.clear();
        for unit in listed.iter().take(MOST_UNITS) {
            match counts.iter_mut().find(|(known, _)| *known == unit.state) {
                Some((_, count)) => *count += 1,
                None => counts.push((unit.state, 1)),
            }
            let is_taken = self.include.is_match(unit.name) && !self.exclude.is_match(unit.name);
            if unit.load == "loaded" && is_taken {
                let (name, state, path) =
                    (unit.name.to_owned(), unit.state.to_owned(), unit.object.as_ref().to_owned());
                self.units.push(Unit { name, state, path });
            }
        }
        self.units.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        for (state, count) in counts {
            out.put(&UNITS, &[state], f64::from(count));
        }
        if listed.len() > MOST_UNITS {
            return Err(CollectError::Other(format!("systemd: more than {MOST_UNITS} units")));
        }
        Ok(())
    }

    /// Learns the types of those services and mounts that are not known.
    fn learn_types(&mut self, tick: &Tick) -> Result<(), CollectError> {
        if self.types_since.elapsed() > TYPES_FOR || self.types.len() > MOST_UNITS {
            self.types.clear();
            self.types_since = Instant::now();
        }
        let Self { units, types, bus, .. } = self;
        let unknown: Vec<(&Unit, &[&str; 2])> = units
            .iter()
            .filter(|unit| !types.contains_key(&unit.name))
            .filter_map(|unit| Some((unit, type_property(unit)?)))
            .collect();
        let calls = unknown.iter().map(|(unit, property)| Call::property(SERVICE, &unit.path, property));
        let mut learned = Vec::new();
        bus.call_all(tick.time_left(), calls, |number, answer| {
            if let Some(kind) = dbus::text(&answer) {
                learned.push((unknown[number].0.name.clone(), kind));
            }
        })?;
        types.extend(learned);
        Ok(())
    }

    fn put_states(&self, out: &mut Recorder) {
        for unit in &self.units {
            let kind = self.types.get(&unit.name).map_or("", String::as_str);
            for state in STATES {
                out.put(&UNIT_STATE, &[&unit.name, state, kind], f64::from(u8::from(state == unit.state)));
            }
        }
    }

    /// Asks every unit that has them for some properties.
    fn put_answers(
        &mut self,
        tick: &Tick,
        questions: &'static [Question],
        out: &mut Recorder,
    ) -> Result<(), CollectError> {
        let Self { units, bus, .. } = self;
        let has = |unit: &&Unit| unit.is(questions[0].suffix);
        let asked: Vec<(&Unit, &Question)> = units
            .iter()
            .filter(has)
            .flat_map(|unit| questions.iter().map(move |question| (unit, question)))
            .collect();
        let mut values: Vec<Option<f64>> = vec![None; asked.len()];
        let calls =
            asked.iter().map(|(unit, question)| Call::property(SERVICE, &unit.path, &question.property));
        bus.call_all(tick.time_left(), calls, |number, answer| {
            values[number] = value_of(asked[number], &answer);
        })?;
        for ((unit, question), value) in asked.iter().zip(values) {
            if let Some(value) = value {
                out.put(question.family, &[&unit.name], value);
            }
        }
        Ok(())
    }
}

/// The number in an answer. One that systemd says is not set, by the highest number there is, is none; and what is not
/// active has not started.
fn value_of((unit, question): (&Unit, &Question), answer: &Answer) -> Option<f64> {
    let number = dbus::number(answer)?;
    if question.suffix.is_empty() && unit.state != "active" {
        return Some(0.0);
    }
    let is_tasks = question.suffix == ".service" && question.family.name != RESTART_TOTAL.name;
    (!is_tasks || number != u64::MAX).then_some(number as f64 / question.scale)
}

fn type_property(unit: &Unit) -> Option<&'static [&'static str; 2]> {
    if unit.is(".service") {
        Some(&[UNIT_SERVICE, "Type"])
    } else if unit.is(".mount") {
        Some(&["org.freedesktop.systemd1.Mount", "Type"])
    } else {
        None
    }
}

/// The answer to ListUnits: `a(ssssssouso)`.
fn parse_units(answer: &rustbus::message_builder::MarshalledMessage) -> Result<Vec<Listed<'_>>, String> {
    answer.body.parser().get().map_err(|error| format!("{error:?}"))
}

/// The first number of three digits or more, with what follows a point; 0 where there is none.
fn parse_version(text: &str) -> f64 {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = 0;
    while at < bytes.len() {
        let whole = digits(at);
        if whole >= 3 {
            let end = at + whole;
            let fraction = if bytes.get(end) == Some(&b'.') { digits(end + 1) } else { 0 };
            let end = if fraction > 0 { end + 1 + fraction } else { end };
            return text[at..end].parse().unwrap_or(0.0);
        }
        at += whole.max(1);
    }
    0.0
}

impl Collector for Systemd {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let version = self.put_manager(tick, out)?;
        self.list_units(tick, out)?;
        self.learn_types(tick)?;
        self.put_states(out);
        let has_state = version >= FIRST_WITH_STATE;
        for (is_wanted, questions) in [
            (self.restarts, &RESTARTS[..]),
            (self.start_time, &STARTS),
            (self.tasks, &TASKS),
            (has_state, &TIMERS),
            (true, &SOCKETS),
        ] {
            if is_wanted {
                self.put_answers(tick, questions, out)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, expected) in [
            ("252.38-1~deb12u1", 252.38),
            ("v239", 239.0),
            ("systemd 249.11-0ubuntu3", 249.11),
            ("249.", 249.0),
            ("12", 0.0),
            ("", 0.0),
            ("1.2.3456é", 3456.0),
        ] {
            assert_eq!(parse_version(text), expected, "{text}");
        }
    }
}
