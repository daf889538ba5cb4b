//! The rules of node_exporter's command line.

use super::*;

fn run(arguments: &[&str]) -> Result<Options, String> {
    match parse(arguments.iter().map(|&a| a.to_owned()).collect())? {
        Command::Run(options) => Ok(*options),
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults_are_node_exporters() {
    let options = run(&[]).unwrap();
    assert_eq!(options.listen, [":9100"]);
    assert_eq!((options.telemetry_path.as_str(), options.max_requests), ("/metrics", 40));
    assert!(options.exporter_metrics);
    assert_eq!(options.paths.udev_data, PathBuf::from("/run/udev/data"));
    assert!(options.is_enabled("loadavg", true));
}

#[test]
fn values_follow_an_equals_sign_or_a_space_and_lists_repeat() {
    let options = run(&[
        "--path.procfs",
        "/p",
        "--path.sysfs=/s",
        "--web.listen-address=:1",
        "--web.listen-address",
        ":2",
    ])
    .unwrap();
    assert_eq!((options.paths.procfs, options.paths.sysfs), ("/p".into(), "/s".into()));
    assert_eq!(options.listen, [":1", ":2"]);
}

#[test]
fn switches_are_negated_and_defaults_disabled() {
    let options = run(&["--no-collector.loadavg", "--web.disable-exporter-metrics"]).unwrap();
    assert!(!options.is_enabled("loadavg", true));
    assert!(!options.exporter_metrics);
    let options = run(&["--collector.disable-defaults", "--collector.meminfo"]).unwrap();
    assert!(options.is_enabled("meminfo", true));
    assert!(!options.is_enabled("loadavg", true));
}

#[test]
fn faults_are_named() {
    for (arguments, expected) in [
        (&["--nope"][..], "unknown long flag '--nope', try --help"),
        (&["--no-path.procfs"], "unknown long flag '--no-path.procfs', try --help"),
        (&["--collector.loadavg=false"], "unexpected false, try --help"),
        (&["--path.procfs"], "expected argument for flag '--path.procfs', try --help"),
        (&["--path.procfs=a", "--path.procfs=b"], "flag 'path.procfs' cannot be repeated, try --help"),
        (
            &["--collector.loadavg", "--no-collector.loadavg"],
            "flag 'collector.loadavg' cannot be repeated, try --help",
        ),
        (&["--collector.load"], "unknown long flag '--collector.load', try --help"),
        (&["-x"], "unknown short flag '-x', try --help"),
        (&["stray"], "unexpected stray, try --help"),
        (&["--log.level=loud"], "unrecognized log level loud, try --help"),
        (&["--web.max-requests=many"], "--web.max-requests: expected integer, got \"many\""),
        (&["--web.max-requests=-1"], "--web.max-requests: must not be negative"),
        (
            &["--storage.max-age=soon"],
            "--storage.max-age: \"soon\" is not a duration such as 15s, 1m30s or 500ms",
        ),
        (
            &["--ebpf.runqueue.method=guess"],
            "--ebpf.runqueue.method: unrecognized choice \"guess\", try --help",
        ),
        (&["--path.procfs", "--path.sysfs=/s"], "expected argument for flag '--path.procfs', try --help"),
        (
            &["--collector.filesystem.mount-timeout=7d"],
            "--collector.filesystem.mount-timeout: expected a duration such as 5s, got \"7d\"",
        ),
        (&["--", "--collector.cpu"], "unexpected --collector.cpu, try --help"),
        (&["check"], "usage: collector check FILE"),
    ] {
        assert_eq!(run(arguments).unwrap_err(), expected, "{arguments:?}");
    }
}

#[test]
fn arguments_may_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flags");
    std::fs::write(&file, "# mine\n--path.procfs=/p\n\n--no-collector.loadavg\n").unwrap();
    let options = run(&[&format!("@{}", file.display())]).unwrap();
    assert_eq!(options.paths.procfs, PathBuf::from("/p"));
    assert!(run(&["@/nowhere"]).unwrap_err().starts_with("/nowhere: "));
}

#[test]
fn help_names_every_flag_that_is_not_hidden() {
    let text = help::help(false);
    for flag in every_flag() {
        assert_eq!(
            text.contains(&format!("--{}", flag.name)) || text.contains(&format!("--[no-]{}", flag.name)),
            !flag.hidden,
            "{}",
            flag.name
        );
    }
    assert!(text.contains("--[no-]collector.loadavg"));
}

/// What is printed instead of a run.
fn printed(arguments: &[&str]) -> String {
    match parse(arguments.iter().map(|&a| a.to_owned()).collect()) {
        Ok(Command::Print(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn texts_instead_of_a_run() {
    assert_eq!(printed(&["--version"]), format!("collector, version {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(printed(&["-h"]), printed(&["--help"]));
    let long = printed(&["--help-long"]);
    assert!(long.contains("--collector.filesystem.mount-timeout"), "hidden flags too");
    let man = printed(&["--help-man"]);
    assert!(man.starts_with(".TH collector 1") && man.contains("\\-\\-web.listen\\-address"), "{man}");
    let flags = printed(&["--completion-bash", "--nope", "--no-collector.cpu"]);
    assert!(flags.lines().all(|flag| flag.starts_with("--no-collector.cpu")), "{flags}");
    assert!(flags.lines().any(|flag| flag == "--no-collector.cpu.guest"), "{flags}");
    assert!(printed(&["--completion-bash"]).lines().count() > 100);
    for shell in ["bash", "zsh"] {
        assert!(printed(&[&format!("--completion-script-{shell}")]).contains("--completion-bash"));
    }
}
