//! What the command line prints instead of running: help, version, man page, completion; all from the tables.

use std::fmt::Write as _;

use super::{COLLECTORS, Flag, FlagDefault, every_flag};

/// Makes a text out of the words that follow its flag.
pub(super) type Print = fn(&[String]) -> String;

pub(super) const HELP: Print = |_| help(false);
const VERSION: Print = |_| format!("collector, version {}\n", env!("CARGO_PKG_VERSION"));

/// The text that a flag prints instead of a run.
pub(super) fn printed_by(name: &str) -> Option<Print> {
    Some(match name {
        "help" => HELP,
        "version" => VERSION,
        "help-long" => |_| help(true),
        "help-man" => |_| man(),
        "completion-bash" => |words| complete(words),
        "completion-script-bash" => |_| BASH.to_owned(),
        "completion-script-zsh" => |_| ZSH.to_owned(),
        _ => return None,
    })
}

const BASH: &str = "_collector_flags() {\n    local typed=\"${COMP_WORDS[COMP_CWORD]}\"\n    \
    COMPREPLY=($(compgen -W \"$(\"${COMP_WORDS[0]}\" --completion-bash \"${COMP_WORDS[@]:1:$COMP_CWORD}\")\" -- \"$typed\"))\n\
    }\ncomplete -F _collector_flags collector\n";
const ZSH: &str = "#compdef collector\nautoload -U compinit && compinit\nautoload -U bashcompinit && bashcompinit\n\n\
    _collector_flags() {\n    local typed=\"${COMP_WORDS[COMP_CWORD]}\"\n    \
    COMPREPLY=($(compgen -W \"$(${COMP_WORDS[1]} --completion-bash ${COMP_WORDS[@]:1:$COMP_CWORD})\" -- \"$typed\"))\n\
    }\ncomplete -F _collector_flags collector\n";

const USAGE: &str =
    "collector [<flags>]\n       collector check FILE\n       collector health [--web.listen-address=...]";

/// A row of the help: the flag as typed, and what it does.
fn rows(with_hidden: bool) -> Vec<(String, String)> {
    let mut rows = vec![
        ("-h, --help".into(), "Show this text.".into()),
        ("--version".into(), "Show the version.".into()),
    ];
    let shown = every_flag().filter(|flag| with_hidden || !flag.hidden);
    rows.extend(shown.map(|flag| (usage(flag), flag.help.to_owned())));
    rows.extend(COLLECTORS.iter().map(|collector| {
        let on = if collector.default_enabled { "on" } else { "off" };
        let help = format!("Switch the {} collector (default: {on}).", collector.name);
        (format!("--[no-]collector.{}", collector.name), help)
    }));
    rows
}

/// The text of `--help`.
pub(super) fn help(with_hidden: bool) -> String {
    let mut text = format!("usage: {USAGE}\n\nFlags:\n");
    for (left, help) in rows(with_hidden) {
        // Writing to a string succeeds.
        let _ = writeln!(text, "  {left:<44}  {help}");
    }
    text
}

/// A page for man(1).
fn man() -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('-', "\\-").replace("\n.", "\n\\&.");
    let mut text = format!(
        ".TH collector 1 {:?}\n.SH NAME\ncollector \\- host metrics for Prometheus\n.SH SYNOPSIS\n.nf\n{}\n.fi\n.SH OPTIONS\n",
        env!("CARGO_PKG_VERSION"),
        escape(USAGE)
    );
    for (left, help) in rows(false) {
        let _ = writeln!(text, ".TP\n\\fB{}\\fR\n{}", escape(&left), escape(&help));
    }
    text
}

/// The flags that the last of these words may become.
fn complete(words: &[String]) -> String {
    let typed = words.last().map_or("", String::as_str);
    let collectors = COLLECTORS
        .iter()
        .flat_map(|c| [format!("--collector.{}", c.name), format!("--no-collector.{}", c.name)]);
    let flags = every_flag().filter(|flag| !flag.hidden).flat_map(|flag| {
        let negation = matches!(flag.default, FlagDefault::Switch(_)).then(|| format!("--no-{}", flag.name));
        [Some(format!("--{}", flag.name)), negation].into_iter().flatten()
    });
    let own = ["--help", "--version"].map(str::to_owned);
    let fitting = own.into_iter().chain(flags).chain(collectors).filter(|flag| flag.starts_with(typed));
    fitting.map(|flag| flag + "\n").collect()
}

/// `--name=default` as `--help` and the reference show it.
pub fn usage(flag: &Flag) -> String {
    match flag.default {
        FlagDefault::Switch(_) => format!("--[no-]{}", flag.name),
        FlagDefault::Text(text) | FlagDefault::Duration(text) => format!("--{}={text:?}", flag.name),
        FlagDefault::Int(number) => format!("--{}={number}", flag.name),
        FlagDefault::List(values) => format!("--{}={} ...", flag.name, values.join(",")),
    }
}
