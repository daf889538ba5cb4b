//! The agents that are compared, each as its users start it, and what they take from the machine.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use super::load::Load;
use super::{PEER_CORE, TOOL_CORE};

/// An agent that scrapes and sends on.
pub struct Peer {
    pub name: &'static str,
    /// Names under which it may be installed. Ours is given by its path.
    programs: &'static [&'static str],
    arguments: fn(&Files) -> Vec<String>,
}

/// What an agent is given.
struct Files {
    config: PathBuf,
    storage: PathBuf,
    port: u16,
    write_url: String,
}

pub const PEERS: &[Peer] = &[
    Peer { name: "collector", programs: &[], arguments: collector },
    Peer { name: "vmagent", programs: &["vmagent"], arguments: vmagent },
    Peer { name: "prometheus", programs: &["prometheus"], arguments: prometheus },
];

fn collector(files: &Files) -> Vec<String> {
    vec![
        "--collector.disable-defaults".into(),
        format!("--config.file={}", files.config.display()),
        format!("--storage.path={}", files.storage.display()),
        format!("--web.listen-address=127.0.0.1:{}", files.port),
    ]
}

fn vmagent(files: &Files) -> Vec<String> {
    vec![
        format!("-promscrape.config={}", files.config.display()),
        format!("-remoteWrite.url={}", files.write_url),
        format!("-remoteWrite.tmpDataPath={}", files.storage.display()),
        format!("-httpListenAddr=127.0.0.1:{}", files.port),
    ]
}

fn prometheus(files: &Files) -> Vec<String> {
    vec![
        "--enable-feature=agent".into(),
        format!("--config.file={}", files.config.display()),
        format!("--storage.agent.path={}", files.storage.display()),
        format!("--web.listen-address=127.0.0.1:{}", files.port),
    ]
}

/// An agent at work. It ends with its owner.
pub struct Running {
    child: Child,
    /// Holds its configuration, its queue and its log.
    pub folder: tempfile::TempDir,
    /// The control group that bounds its processor time.
    group: Option<PathBuf>,
}

impl Peer {
    /// Where it is installed; `own` is where ours was built.
    pub fn find(&self, own: &Path) -> Option<PathBuf> {
        if self.programs.is_empty() {
            return own.is_file().then(|| own.to_owned());
        }
        let path = std::env::var_os("PATH")?;
        let candidates =
            std::env::split_paths(&path).flat_map(|folder| self.programs.iter().map(move |p| folder.join(p)));
        candidates.into_iter().find(|file| file.is_file())
    }

    /// Starts it on its core, with every target of `load`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(
        &self,
        program: &Path,
        load: &Load,
        targets: u16,
        write_url: &str,
    ) -> anyhow::Result<Running> {
        let folder = tempfile::tempdir()?;
        let files = Files {
            config: folder.path().join("config.yml"),
            storage: folder.path().join("storage"),
            port: TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
            write_url: write_url.to_owned(),
        };
        let mut config = fs::File::create(&files.config)?;
        writeln!(config, "global:\n  scrape_interval: {}ms", load.interval.as_millis())?;
        writeln!(config, "  scrape_timeout: {}ms", load.interval.min(Duration::from_secs(10)).as_millis())?;
        if self.name != "vmagent" {
            writeln!(config, "remote_write:\n- url: {write_url}")?;
        }
        writeln!(config, "scrape_configs:\n- job_name: bench\n  static_configs:\n  - targets:")?;
        for target in 0..load.targets {
            writeln!(config, "    - '{}:{targets}'", Load::address(target))?;
        }
        let log = fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new(program);
        command.args((self.arguments)(&files)).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Go counts the cores that it may use, so it knows of one, as in a container that is pinned.
        // SAFETY: the closure calls sched_setaffinity alone, which is safe between fork and exec.
        unsafe { command.pre_exec(|| pin(PEER_CORE)) };
        let child = command.spawn().with_context(|| program.display().to_string())?;
        Ok(Running { child, folder, group: None })
    }
}

/// Keeps this thread, and what it starts, on one core.
///
/// # Errors
/// When the machine has no such core.
pub fn pin(core: usize) -> std::io::Result<()> {
    // SAFETY: a cpu_set_t is plain bits, for which zero is a valid value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: CPU_SET writes within the set, for cores below 1024.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set lives during the call, and its size is given.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Keeps this process on the core of the tools. Call it before any thread is started.
///
/// # Errors
/// When the machine has no such core.
pub fn pin_tools() -> std::io::Result<()> {
    pin(TOOL_CORE)
}

/// The period of a bound on processor time: the kernel grants no less than a millisecond in one.
const PERIOD_US: u64 = 20_000;

impl Running {
    /// Bounds its processor time to so many percent of a core, so that a load can be more than it carries.
    ///
    /// # Errors
    /// Where there is no controller of cpu(7), or no leave to use it.
    pub fn bound_cpu(&mut self, percent: u64) -> anyhow::Result<()> {
        let quota = PERIOD_US * percent / 100;
        let name = format!("collector-bench-{}", self.child.id());
        let old = Path::new("/sys/fs/cgroup/cpu");
        let group = if old.is_dir() { old.join(name) } else { Path::new("/sys/fs/cgroup").join(name) };
        fs::create_dir(&group).with_context(|| group.display().to_string())?;
        self.group = Some(group.clone());
        if old.is_dir() {
            fs::write(group.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
            fs::write(group.join("cpu.cfs_quota_us"), quota.to_string())?;
        } else {
            fs::write(group.join("cpu.max"), format!("{quota} {PERIOD_US}"))?;
        }
        fs::write(group.join("cgroup.procs"), self.child.id().to_string())?;
        Ok(())
    }

    /// What is resident now, in bytes.
    pub fn rss(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// Seconds of CPU of the process and those it started: in all, and of these the kernel's.
    pub fn cpu(&self) -> (f64, f64) {
        cpu_of(self.child.id())
    }

    /// The most memory that was resident at a time, in bytes.
    pub fn peak_rss(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(group) = &self.group {
            let _ = fs::remove_dir(group);
        }
    }
}

/// Seconds of CPU of this process alone.
pub fn own_cpu() -> f64 {
    cpu_of_one(std::process::id()).0
}

fn cpu_of(pid: u32) -> (f64, f64) {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let below = children.split_whitespace().flat_map(str::parse).map(cpu_of);
    below.fold(cpu_of_one(pid), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

fn cpu_of_one(pid: u32) -> (f64, f64) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    // SAFETY: sysconf takes a number and returns one.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    // Times of user and system, then those of children that have ended: proc_pid_stat(5).
    let (user, system) = (ticks(11) + ticks(13), ticks(12) + ticks(14));
    ((user + system) as f64 / per_second.max(1) as f64, system as f64 / per_second.max(1) as f64)
}
