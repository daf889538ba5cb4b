//! The command line as node_exporter's users type it: the rules of its flag parser, the program's own flags in
//! one table, and those of the collectors from theirs.

mod help;
mod probes;

pub use help::usage;
pub use probes::PROBE_FLAGS;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use crate::config::parse_duration;
use crate::logging::LogFormat;
use crate::sources::ebpf::EbpfOptions;
use crate::sources::host::{COLLECTORS, Flag, FlagDefault, FlagValues, Paths, parse_go_duration};
use crate::sources::scrape::shard::Shard;

/// Arguments after `@file` expansion; more are refused.
const MAX_ARGUMENTS: usize = 10_000;

/// The program's own flags.
pub static PROGRAM_FLAGS: &[Flag] = &[
    Flag::new("config.file", FlagDefault::Text(""), "Configuration file; none is needed to serve /metrics."),
    Flag::new(
        "storage.path",
        FlagDefault::Text("/var/lib/collector"),
        "Folder of the batch log; empty for none: memory alone holds what is not sent. Without remote_write nothing is stored.",
    ),
    Flag::new(
        "storage.max-bytes",
        FlagDefault::Int(1 << 30),
        "Size of the batch log above which its oldest part is dropped.",
    ),
    Flag::new(
        "storage.max-age",
        FlagDefault::Text("7d"),
        "Age above which the oldest part of the batch log is dropped.",
    ),
    Flag::new(
        "scrape.threads",
        FlagDefault::Int(0),
        "Threads that scrape the targets of scrape_configs; 0 for as many as cores, up to four.",
    ),
    Flag::new(
        "web.listen-address",
        FlagDefault::List(&[":9100"]),
        "Address to listen on for HTTP: host:port, or vsock://:port. May be repeated.",
    ),
    Flag::new(
        "web.systemd-socket",
        FlagDefault::Switch(false),
        "Listen on the sockets that systemd hands over instead of --web.listen-address.",
    ),
    Flag::new(
        "web.config.file",
        FlagDefault::Text(""),
        "File with TLS, users, headers and rate limit, in the format that Prometheus' exporters share.",
    ),
    Flag::new("web.telemetry-path", FlagDefault::Text("/metrics"), "Path under which metrics are served."),
    Flag::new(
        "web.disable-exporter-metrics",
        FlagDefault::Switch(false),
        "Leave out metrics about the collector itself (promhttp_*, process_*, collector_*).",
    ),
    Flag::new(
        "web.enable-openmetrics",
        FlagDefault::Switch(false),
        "Give OpenMetrics to clients that like it best, as Prometheus does; without it, to those that take nothing else.",
    ),
    Flag::new(
        "web.enable-target-api",
        FlagDefault::Switch(false),
        "Let the configuration switch on /v1/scrape_targets, by which others post targets.",
    ),
    Flag::new(
        "web.max-requests",
        FlagDefault::Int(crate::limits::MAX_REQUESTS as i64),
        "Scrapes answered at the same time at the most. Use 0 for no limit.",
    ),
    Flag::new(
        "shard",
        FlagDefault::Text(""),
        "Scrape only a part of the targets: i/n with i from 0, or auto/n for the number at the end of the host's name.",
    ),
    Flag::new(
        "shard.replication-factor",
        FlagDefault::Int(1),
        "How many of the n collectors scrape each target.",
    ),
    Flag::new(
        "collector.disable-defaults",
        FlagDefault::Switch(false),
        "Switch off every collector that is not named on the command line.",
    ),
    Flag::new(
        "collector.deadline",
        FlagDefault::Duration("5s"),
        "How long a page or a tick waits for its collectors; those that have not ended are left out of it.",
    ),
    Flag::new(
        "runtime.gomaxprocs",
        FlagDefault::Int(1),
        "Taken for compatibility; it has no effect: one thread reads the host.",
    ),
    Flag::new("path.procfs", FlagDefault::Text("/proc"), "Where procfs is mounted."),
    Flag::new("path.sysfs", FlagDefault::Text("/sys"), "Where sysfs is mounted."),
    Flag::new("path.rootfs", FlagDefault::Text("/"), "Where the host's root file system is mounted."),
    Flag::new("path.udev.data", FlagDefault::Text("/run/udev/data"), "Where udev keeps its data."),
    Flag::new(
        "privileges.drop",
        FlagDefault::Switch(true),
        "Give up at the start what only the loading of the kernel probes needs: capabilities, and system calls.",
    ),
    Flag::new(
        "log.level",
        FlagDefault::Text("info"),
        "Least severe level that is logged: debug, info, warn, error.",
    ),
    Flag::new("log.format", FlagDefault::Text("logfmt"), "Form of the log: logfmt or json."),
];

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    Run(Box<Options>),
    /// `check FILE`
    Check(PathBuf),
    /// `ebpf list`, `doctor`
    Look(Look, Box<Options>),
    /// `health`: asks the collector that listens there.
    Health(String),
    /// Text for standard output, exit status 0.
    Print(String),
}

/// What is looked at, instead of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The kernel probes, and what they cost so far.
    Probes,
    /// What this host lets the collector do.
    Host,
}

/// The flags of a run, checked.
#[derive(Debug)]
pub struct Options {
    pub flags: FlagValues,
    pub paths: Paths,
    pub config_file: Option<PathBuf>,
    pub storage_path: PathBuf,
    pub storage_max_bytes: u64,
    pub storage_max_age: Duration,
    /// 0 for what the machine suggests.
    pub scrape_threads: usize,
    pub listen: Vec<String>,
    pub systemd_socket: bool,
    pub web_config: Option<PathBuf>,
    pub telemetry_path: String,
    pub exporter_metrics: bool,
    pub max_requests: usize,
    pub deadline: Duration,
    pub open_metrics: bool,
    pub target_api: bool,
    pub ebpf: EbpfOptions,
    /// Whether what only the loading of probes needs is given up.
    pub drop_privileges: bool,
    pub shard: Option<Shard>,
    pub log_level: LevelFilter,
    pub log_format: LogFormat,
    /// What to warn of, once there is a log.
    pub warnings: Vec<String>,
}

impl Options {
    /// Whether a collector runs: as the command line says, else by default.
    pub fn is_enabled(&self, name: &str, default: bool) -> bool {
        let flag = format!("collector.{name}");
        if self.flags.is_given(&flag) {
            self.flags.switch(&flag)
        } else {
            default && !self.flags.switch("collector.disable-defaults")
        }
    }
}

/// # Errors
/// A message for standard error; the exit status is then 1.
pub fn parse(arguments: Vec<String>) -> Result<Command, String> {
    let mut arguments = expand_files(arguments)?;
    match arguments.front().map(String::as_str) {
        Some("check") => match (arguments.get(1), arguments.len()) {
            (Some(file), 2) => return Ok(Command::Check(file.into())),
            _ => return Err("usage: collector check FILE".into()),
        },
        Some("ebpf") => {
            if arguments.get(1).map(String::as_str) != Some("list") {
                return Err("usage: collector ebpf list".into());
            }
            arguments.drain(..2);
            return look(Look::Probes, arguments);
        }
        Some("doctor") => {
            arguments.pop_front();
            return look(Look::Host, arguments);
        }
        Some("health") => {
            arguments.pop_front();
            let values = parse_flags(arguments)?.values;
            let address = values.list("web.listen-address").first().map_or(":9100", |a| *a).to_owned();
            return Ok(Command::Health(address));
        }
        _ => {}
    }
    let parsed = parse_flags(arguments)?;
    if let Some(print) = parsed.print {
        return Ok(Command::Print(print(&parsed.rest)));
    }
    resolve(parsed).map(|options| Command::Run(Box::new(options)))
}

/// A command that takes the flags of a run.
fn look(what: Look, arguments: VecDeque<String>) -> Result<Command, String> {
    let options = resolve(parse_flags(arguments)?)?;
    Ok(Command::Look(what, Box::new(options)))
}

/// Replaces each `@file` by the lines of that file.
fn expand_files(arguments: Vec<String>) -> Result<VecDeque<String>, String> {
    let mut out = VecDeque::new();
    for argument in arguments {
        match argument.strip_prefix('@') {
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
                let lines =
                    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
                out.extend(lines.map(str::to_owned));
            }
            None => out.push_back(argument),
        }
        if out.len() > MAX_ARGUMENTS {
            return Err(format!("more than {MAX_ARGUMENTS} arguments"));
        }
    }
    Ok(out)
}

#[derive(Default)]
struct Parsed {
    values: FlagValues,
    warnings: Vec<String>,
    /// What is asked for instead of a run, and the words after it.
    print: Option<help::Print>,
    rest: Vec<String>,
}

fn every_flag() -> impl Iterator<Item = &'static Flag> {
    let program = PROGRAM_FLAGS.iter().chain(PROBE_FLAGS);
    program.chain(COLLECTORS.iter().flat_map(|collector| collector.flags))
}

/// The flag of that name: what it takes when not given, and of which it is the old name.
fn find_flag(name: &str) -> Option<(FlagDefault, Option<&'static str>)> {
    let collector = name.strip_prefix("collector.");
    if let Some(found) = COLLECTORS.iter().find(|known| Some(known.name) == collector) {
        return Some((FlagDefault::Switch(found.default_enabled), None));
    }
    every_flag().find(|flag| flag.name == name).map(|flag| (flag.default, flag.alias_of))
}

fn parse_flags(mut arguments: VecDeque<String>) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    every_flag().for_each(|flag| parsed.values.declare(flag));
    while let Some(argument) = arguments.pop_front() {
        let Some(long) = argument.strip_prefix("--").filter(|long| !long.is_empty()) else {
            if argument == "-h" {
                parsed.print = Some(help::HELP);
                continue;
            }
            return Err(match argument.strip_prefix('-') {
                // What follows two dashes is no flag any more, and nothing else is taken.
                Some("-") => match arguments.pop_front() {
                    Some(next) => format!("unexpected {next}, try --help"),
                    None => return Ok(parsed),
                },
                Some(short) => format!("unknown short flag '-{short}', try --help"),
                None => format!("unexpected {argument}, try --help"),
            });
        };
        let (name, inline) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        if let Some(print) = help::printed_by(name) {
            // The first counts; completion is asked with the words typed so far, which need not make sense.
            parsed.print.get_or_insert(print);
            if name == "completion-bash" {
                parsed.rest.extend(arguments.drain(..));
            }
            continue;
        }
        parsed.take(name, inline, &mut arguments)?;
    }
    Ok(parsed)
}

impl Parsed {
    fn take(
        &mut self,
        name: &str,
        inline: Option<String>,
        rest: &mut VecDeque<String>,
    ) -> Result<(), String> {
        let unknown = || format!("unknown long flag '--{name}', try --help");
        let negated = || {
            let positive = name.strip_prefix("no-")?;
            let (default, _) = find_flag(positive)?;
            matches!(default, FlagDefault::Switch(_)).then_some((positive, default))
        };
        let (name, default, value) = match (find_flag(name), negated()) {
            (Some((default @ FlagDefault::Switch(_), _)), _) => (name, default, Some("true".to_owned())),
            (Some((default, alias_of)), _) => {
                let is_value = |next: &String| !next.starts_with('-') || next.len() == 1;
                let next = || if rest.front().is_some_and(is_value) { rest.pop_front() } else { None };
                let value = inline.clone().or_else(next);
                let value =
                    value.ok_or_else(|| format!("expected argument for flag '--{name}', try --help"))?;
                return self.give_value(name, alias_of, default, value);
            }
            (None, Some((positive, default))) => (positive, default, Some("false".to_owned())),
            (None, None) => return Err(unknown()),
        };
        if let Some(value) = inline {
            return Err(format!("unexpected {value}, try --help"));
        }
        self.give_value(name, None, default, value.unwrap_or_default())
    }

    fn give_value(
        &mut self,
        name: &str,
        alias_of: Option<&'static str>,
        default: FlagDefault,
        value: String,
    ) -> Result<(), String> {
        let target = alias_of.unwrap_or(name);
        if let Some(new_name) = alias_of {
            self.warnings.push(format!("--{name} is deprecated, use --{new_name}"));
            if self.values.is_given(new_name) {
                return Err(format!("--{name} and --{new_name} are mutually exclusive"));
            }
        }
        if !matches!(default, FlagDefault::List(_)) && self.values.is_given(target) {
            return Err(format!("flag '{target}' cannot be repeated, try --help"));
        }
        let wrong = |what: &str| Err(format!("--{name}: expected {what}, got {value:?}"));
        match default {
            FlagDefault::Int(_) if value.parse::<i64>().is_err() => return wrong("integer"),
            FlagDefault::Duration(_) if parse_go_duration(&value).is_none() => {
                return wrong("a duration such as 5s");
            }
            _ => self.values.give(target, value),
        }
        Ok(())
    }
}

fn resolve(parsed: Parsed) -> Result<Options, String> {
    let Parsed { values, warnings, .. } = parsed;
    let log_level = match values.text("log.level") {
        "debug" => LevelFilter::Debug,
        "info" => LevelFilter::Info,
        "warn" => LevelFilter::Warn,
        "error" => LevelFilter::Error,
        other => return Err(format!("unrecognized log level {other}, try --help")),
    };
    let log_format = match values.text("log.format") {
        "logfmt" => LogFormat::Logfmt,
        "json" => LogFormat::Json,
        other => return Err(format!("unrecognized log format {other}, try --help")),
    };
    let telemetry_path = values.text("web.telemetry-path").to_owned();
    if !telemetry_path.starts_with('/') {
        return Err(format!("--web.telemetry-path: {telemetry_path:?} must begin with a slash"));
    }
    let file = |name: &str| Some(values.text(name)).filter(|path| !path.is_empty()).map(PathBuf::from);
    let at_least_0 =
        |name: &str| u64::try_from(values.int(name)?).map_err(|_| format!("--{name}: must not be negative"));
    let paths = Paths {
        procfs: values.text("path.procfs").into(),
        sysfs: values.text("path.sysfs").into(),
        rootfs: values.text("path.rootfs").into(),
        udev_data: values.text("path.udev.data").into(),
    };
    Ok(Options {
        paths,
        config_file: file("config.file"),
        storage_path: values.text("storage.path").into(),
        storage_max_bytes: at_least_0("storage.max-bytes")?,
        storage_max_age: parse_duration(values.text("storage.max-age"))
            .map_err(|error| format!("--storage.max-age: {error}"))?,
        scrape_threads: usize::try_from(at_least_0("scrape.threads")?).unwrap_or(usize::MAX),
        listen: values.list("web.listen-address").iter().map(|&a| a.to_owned()).collect(),
        systemd_socket: values.switch("web.systemd-socket"),
        web_config: file("web.config.file"),
        telemetry_path,
        exporter_metrics: !values.switch("web.disable-exporter-metrics"),
        ebpf: probes::resolve(&values, log_level)?,
        drop_privileges: values.switch("privileges.drop"),
        shard: resolve_shard(&values)?,
        max_requests: usize::try_from(at_least_0("web.max-requests")?).unwrap_or(usize::MAX),
        open_metrics: values.switch("web.enable-openmetrics"),
        target_api: values.switch("web.enable-target-api"),
        deadline: values.duration("collector.deadline")?,
        log_level,
        log_format,
        warnings,
        flags: values,
    })
}

fn resolve_shard(values: &FlagValues) -> Result<Option<Shard>, String> {
    let text = values.text("shard");
    if text.is_empty() {
        return Ok(None);
    }
    let replicas = u32::try_from(values.int("shard.replication-factor")?).unwrap_or(0);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Shard::parse(text, replicas, host.trim()).map(Some)
}

#[cfg(test)]
mod tests;
