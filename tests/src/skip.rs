//! Tests that need what a machine may lack skip aloud: by name, with the reason. `cargo xtask test` lists them
//! at its end, and where `COLLECTOR_TEST_NO_SKIP` is set a skip is a failure.

use std::io::Write as _;

/// Says that the test `name` was skipped, and why.
///
/// # Panics
/// Where nothing may be skipped.
pub fn skip(name: &str, reason: &str) {
    assert!(std::env::var_os("COLLECTOR_TEST_NO_SKIP").is_none(), "{name} may not be skipped here: {reason}");
    eprintln!("SKIPPED {name}: {reason}");
    if let Some(list) = std::env::var_os("COLLECTOR_TEST_SKIPS") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(list);
        let written = file.and_then(|mut file| writeln!(file, "{name}: {reason}"));
        written.expect("the list of skipped tests can be written");
    }
}

/// Whether this process is root; skips the test `name` aloud if not.
pub fn root_or_skip(name: &str) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs is mounted");
    let root =
        status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"));
    if !root {
        skip(name, "needs root");
    }
    root
}

/// The first of `programs` that is on the PATH; skips the test `name` aloud if there is none.
pub fn program_or_skip(name: &str, programs: &[&str]) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .flat_map(|folder| programs.iter().map(move |program| folder.join(program)))
        .find(|candidate| candidate.is_file());
    if found.is_none() {
        skip(name, &format!("{} is not installed", programs.join(" or ")));
    }
    found
}
