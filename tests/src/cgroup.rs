//! Cgroups of a test's own, and programs that run in them.

use std::borrow::Borrow;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::skip::skip;

/// A hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// Version 2.
    Unified,
    /// Version 1 with that controller where it is mounted, else version 2.
    Of(&'static str),
}

/// A cgroup that is removed when it is dropped.
pub struct Cgroup {
    pub folder: PathBuf,
    /// As the probes name it.
    pub path: String,
    /// Whether it is of version 1.
    pub first_version: bool,
}

impl Cgroup {
    /// `None` after saying why the test is skipped.
    ///
    /// # Panics
    /// Without procfs.
    pub fn create_or_skip(test: &str, hierarchy: Hierarchy) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::named_or_skip(test, hierarchy, &format!("collector-test-{}-{number}", std::process::id()))
    }

    /// As [`Cgroup::create_or_skip`], with a name.
    ///
    /// # Panics
    /// Without procfs.
    pub fn named_or_skip(test: &str, hierarchy: Hierarchy, name: &str) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("procfs is mounted");
        let mount = |line: &str| line.split(' ').nth(4).map(PathBuf::from);
        let first = |controller: &str| {
            let has = |line: &&str| {
                line.contains(" - cgroup ")
                    && line
                        .rsplit(' ')
                        .next()
                        .is_some_and(|last| last.split(',').any(|word| word == controller))
            };
            mounts.lines().find(has).and_then(mount)
        };
        let version_1 = match hierarchy {
            Hierarchy::Unified => None,
            Hierarchy::Of(controller) => first(controller),
        };
        let unified = || mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(mount);
        let Some(mount) = version_1.clone().or_else(unified) else {
            skip(test, "no such cgroup hierarchy is mounted");
            return None;
        };
        if let (None, Hierarchy::Of(controller)) = (&version_1, hierarchy) {
            // What is switched on already, or can't be, is said by the kernel.
            let name = if controller == "blkio" { "io" } else { controller };
            let _ = std::fs::write(mount.join("cgroup.subtree_control"), format!("+{name}"));
        }
        let folder = mount.join(name);
        if let Err(error) = std::fs::create_dir(&folder) {
            skip(test, &format!("{}: {error}", folder.display()));
            return None;
        }
        Some(Cgroup { folder, path: format!("/{name}"), first_version: version_1.is_some() })
    }

    /// A cgroup of the hierarchy of `memory` with that limit; and, where it is of version 1, one of the hierarchy of
    /// `cpu`, by which the probes name cgroups then.
    ///
    /// # Panics
    /// Without procfs.
    pub fn limited_or_skip(test: &str, name: &str, limit: &str) -> Option<Vec<Self>> {
        let memory = Self::named_or_skip(test, Hierarchy::Of("memory"), name)?;
        let file = if memory.first_version { "memory.limit_in_bytes" } else { "memory.max" };
        if let Err(error) = std::fs::write(memory.folder.join(file), limit) {
            skip(test, &format!("{file}: {error}"));
            return None;
        }
        let mut cgroups = vec![memory];
        if cgroups[0].first_version {
            cgroups.push(Self::named_or_skip(test, Hierarchy::Of("cpu"), name)?);
        }
        Some(cgroups)
    }

    /// Moves a process into it.
    ///
    /// # Panics
    /// When the kernel does not let it.
    pub fn take(&self, pid: u32) {
        std::fs::write(self.folder.join("cgroup.procs"), pid.to_string()).expect("a process can be moved");
    }
}

/// A shell that joins these cgroups, and then runs `script`; `$0` and so on are `arguments`.
pub fn shell_in<C: Borrow<Cgroup>>(cgroups: &[C], script: &str, arguments: &[&str]) -> Command {
    let mut text = String::new();
    for cgroup in cgroups {
        text.push_str(&format!("echo $$ > '{}/cgroup.procs'\n", cgroup.borrow().folder.display()));
    }
    text.push_str(script);
    let mut command = Command::new("sh");
    command.arg("-c").arg(text).args(arguments).stdin(Stdio::null());
    command
}

/// An ignored test of this program that runs in a cgroup, says things in lines of its output, and is told some.
pub struct Worker {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts it, with these variables in its environment.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(cgroup: &Cgroup, test: &str, variables: &[(&str, &str)]) -> Self {
        let this = std::env::current_exe().unwrap();
        let script = "exec \"$0\" --exact \"$1\" --ignored --nocapture";
        let mut command = shell_in(&[cgroup], script, &[this.to_str().unwrap(), test]);
        command.envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Worker { child, said }
    }

    /// What follows a word at the start of a line.
    ///
    /// # Panics
    /// When it ends without having said that.
    pub fn wait_for(&mut self, word: &str) -> String {
        let mut line = String::new();
        while !line.starts_with(word) {
            line.clear();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "the child said no {word}");
        }
        line[word.len()..].trim().to_owned()
    }

    /// Writes a line to its input.
    ///
    /// # Panics
    /// When it reads no more.
    pub fn tell(&mut self, what: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{what}").unwrap();
    }

    /// Closes its input, and waits until it ends.
    ///
    /// # Panics
    /// When it fails.
    pub fn end(mut self) {
        drop(self.child.stdin.take());
        // What it still says must have somewhere to go.
        std::io::copy(&mut self.said, &mut std::io::sink()).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its last task may still be dying.
        for _ in 0..50 {
            if std::fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Runs an ignored test of this program with the privileges that setpriv(1) leaves, and returns its output.
///
/// # Panics
/// When the program can't be copied to where every user may run it.
pub fn rerun(test: &str, privileges: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("copy");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut command = Command::new("setpriv");
    command.args(privileges).arg(&copy).args(["--exact", test, "--ignored", "--nocapture"]);
    let output = command.current_dir("/").output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}
