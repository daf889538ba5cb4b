//! Processes under supervisord, by XML-RPC (`supervisor.getAllProcessInfo`) over HTTP or a Unix socket.
//! Cost a tick: a connection, a question and its answer: at most five seconds once the name of the server is
//! resolved, and at most 4 MiB. Deprecated by node_exporter. Without TLS: an `https` address is refused.

mod client;
mod xml;

use client::Endpoint;
use xml::{Process, parse_answer};

use super::{CollectError, Collector, Flag, FlagDefault, Registration, SetupError, Tick};
use crate::model::{Family, Recorder};

const URL_FLAG: &str = "collector.supervisord.url";
const URL_VARIABLE: &str = "SUPERVISORD_URL";
const PROCESS: &[&str] = &["name", "group"];

static UP: Family = Family::gauge(
    "node_supervisord_up",
    "Whether a process runs, starts or stops: 1 if so, 0 if not.",
    PROCESS,
);
static STATE: Family = Family::gauge(
    "node_supervisord_state",
    "State of a process: 0 stopped, 10 starting, 20 running, 30 backoff, 40 stopping, 100 exited, 200 fatal, \
     1000 unknown.",
    PROCESS,
);
static EXIT_STATUS: Family =
    Family::gauge("node_supervisord_exit_status", "Exit status of the last run of a process.", PROCESS);
static START_TIME: Family = Family::counter(
    "node_supervisord_start_time_seconds",
    "When a process that is up was started, in seconds since 1970.",
    PROCESS,
);

/// Starting, running, stopping.
const UP_STATES: [i64; 3] = [10, 20, 40];

pub(super) static COLLECTOR: Registration = Registration {
    name: "supervisord",
    default_enabled: false,
    flags: &[Flag::new(
        URL_FLAG,
        FlagDefault::Text("http://localhost:9001/RPC2"),
        "Where supervisord answers XML-RPC: http://host:port/RPC2 or unix:///path (SUPERVISORD_URL).",
    )],
    families: &[&EXIT_STATUS, &START_TIME, &STATE, &UP],
    new: |setup| {
        log::warn!(collector = "supervisord"; "this collector is deprecated by node_exporter");
        let variable = std::env::var(URL_VARIABLE).ok().filter(|_| !setup.flags.is_given(URL_FLAG));
        let url = variable.as_deref().unwrap_or_else(|| setup.flags.text(URL_FLAG));
        let endpoint = Endpoint::parse(url).map_err(SetupError::of("supervisord"))?;
        Ok(Box::new(Supervisord { endpoint }))
    },
};

struct Supervisord {
    endpoint: Endpoint,
}

impl Collector for Supervisord {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let fail = |why: String| CollectError::Other(format!("supervisord at {}: {why}", self.endpoint));
        let body = self.endpoint.ask(client::DEADLINE, &mut tick.buffer).map_err(fail)?;
        for process in parse_answer(body).map_err(fail)? {
            put(&process, out);
        }
        Ok(())
    }
}

fn put(process: &Process, out: &mut Recorder) {
    let labels = [process.name.as_str(), process.group.as_str()];
    let is_up = UP_STATES.contains(&process.state);
    out.put(&STATE, &labels, process.state as f64);
    out.put(&EXIT_STATUS, &labels, process.exit_status as f64);
    out.put(&UP, &labels, f64::from(u8::from(is_up)));
    if is_up {
        out.put(&START_TIME, &labels, process.start as f64);
    }
}
