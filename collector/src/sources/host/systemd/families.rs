//! Flags and families of the systemd collector.

use super::super::{Flag, FlagDefault};
use crate::model::Family;

pub(super) const INCLUDE_FLAG: &str = "collector.systemd.unit-include";
pub(super) const EXCLUDE_FLAG: &str = "collector.systemd.unit-exclude";
pub(super) const OLD_INCLUDE_FLAG: &str = "collector.systemd.unit-whitelist";
pub(super) const OLD_EXCLUDE_FLAG: &str = "collector.systemd.unit-blacklist";
pub(super) const PRIVATE_FLAG: &str = "collector.systemd.private";
pub(super) const TASKS_FLAG: &str = "collector.systemd.enable-task-metrics";
pub(super) const RESTARTS_FLAG: &str = "collector.systemd.enable-restarts-metrics";
pub(super) const START_TIME_FLAG: &str = "collector.systemd.enable-start-time-metrics";

pub(super) const FLAGS: &[Flag] = &[
    Flag::new(INCLUDE_FLAG, FlagDefault::Text(".+"), "Pattern that the whole name of a unit must match."),
    Flag::alias(OLD_INCLUDE_FLAG, INCLUDE_FLAG),
    Flag::new(
        EXCLUDE_FLAG,
        FlagDefault::Text(r".+\.(automount|device|mount|scope|slice)"),
        "Pattern that the whole name of a unit must not match.",
    ),
    Flag::alias(OLD_EXCLUDE_FLAG, EXCLUDE_FLAG),
    Flag::hidden(
        PRIVATE_FLAG,
        FlagDefault::Switch(false),
        "Ask systemd at its own socket, without a bus; needs root.",
    ),
    Flag::new(
        TASKS_FLAG,
        FlagDefault::Switch(false),
        "Give the number and the limit of every service's tasks.",
    ),
    Flag::new(RESTARTS_FLAG, FlagDefault::Switch(false), "Give how often every service was restarted."),
    Flag::new(START_TIME_FLAG, FlagDefault::Switch(false), "Give when every unit became active."),
];

const NAME: &[&str] = &["name"];

pub(super) static UNIT_STATE: Family = Family::gauge(
    "node_systemd_unit_state",
    "Whether a unit is in that state: 1 if so, 0 if not.",
    &["name", "state", "type"],
);
pub(super) static UNITS: Family = Family::gauge(
    "node_systemd_units",
    "Units in each state, those that are not given one by one too.",
    &["state"],
);
pub(super) static VERSION: Family =
    Family::gauge("node_systemd_version", "The version of systemd.", &["version"]);
pub(super) static VIRTUALIZATION: Family = Family::gauge(
    "node_systemd_virtualization_info",
    "What systemd takes this host to run in; always 1.",
    &["virtualization_type"],
);
pub(super) static RUNNING: Family = Family::gauge(
    "node_systemd_system_running",
    "Whether the system is up and no unit has failed, as systemctl is-system-running tells.",
    &[],
);
pub(super) static START_TIME: Family = Family::gauge(
    "node_systemd_unit_start_time_seconds",
    "Seconds since 1970 when the unit became active, 0 while it is not.",
    NAME,
);
pub(super) static TASKS_CURRENT: Family =
    Family::gauge("node_systemd_unit_tasks_current", "Tasks of a service now.", NAME);
pub(super) static TASKS_MAX: Family =
    Family::gauge("node_systemd_unit_tasks_max", "Tasks that a service may have.", NAME);
pub(super) static RESTART_TOTAL: Family =
    Family::counter("node_systemd_service_restart_total", "How often systemd has restarted a service.", NAME);
pub(super) static LAST_TRIGGER: Family = Family::gauge(
    "node_systemd_timer_last_trigger_seconds",
    "Seconds since 1970 when a timer last triggered.",
    NAME,
);
pub(super) static ACCEPTED: Family = Family::counter(
    "node_systemd_socket_accepted_connections_total",
    "Connections that a socket unit has accepted.",
    NAME,
);
pub(super) static CONNECTIONS: Family =
    Family::gauge("node_systemd_socket_current_connections", "Connections of a socket unit now.", NAME);
pub(super) static REFUSED: Family = Family::gauge(
    "node_systemd_socket_refused_connections_total",
    "Connections that a socket unit has refused.",
    NAME,
);

pub(super) const FAMILIES: &[&Family] = &[
    &UNIT_STATE,
    &UNITS,
    &VERSION,
    &VIRTUALIZATION,
    &RUNNING,
    &START_TIME,
    &TASKS_CURRENT,
    &TASKS_MAX,
    &RESTART_TOTAL,
    &LAST_TRIGGER,
    &ACCEPTED,
    &CONNECTIONS,
    &REFUSED,
];
