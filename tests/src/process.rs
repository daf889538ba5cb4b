//! Starts the real binary and real peers, talks to them, and ends them with the test.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to begin to answer.
const START: Duration = Duration::from_secs(20);

/// A port that was free a moment ago.
///
/// # Panics
/// When the machine has none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// The collector that was built with these tests.
///
/// # Panics
/// When it was not built.
pub fn collector_binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    let folder = test.ancestors().find(|folder| folder.join("collector").is_file());
    folder
        .expect("run `cargo build -p collector` before the tests, as `cargo xtask test` does")
        .join("collector")
}

/// A process that ends with its owner.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; what it prints goes to `log`, after what is there.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(program: &Path, arguments: &[String], log: &Path) -> Self {
        Self::start_in(program, arguments, &[], log)
    }

    /// The same with more in its environment.
    ///
    /// # Panics
    /// As [`Process::start`].
    pub fn start_in(program: &Path, arguments: &[String], more: &[(&str, String)], log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("the log can be written");
        let err = out.try_clone().expect("a descriptor can be copied");
        let child = Command::new(program)
            .args(arguments)
            .envs(more.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Process { child, log: log.to_owned() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a process id");
        // SAFETY: kill(2) takes numbers; the child has not been waited for, so the number is still its own.
        unsafe { libc::kill(pid, signal) };
    }

    /// SIGTERM, and the exit status; `None` if it does not end in time.
    pub fn terminate(&mut self, within: Duration) -> Option<ExitStatus> {
        self.signal(libc::SIGTERM);
        self.wait(within)
    }

    pub fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + within;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The collector under test.
pub struct Collector {
    pub process: Process,
    pub port: u16,
}

impl Collector {
    /// Starts it on `port` and waits until it answers.
    ///
    /// # Panics
    /// When it does not, with its log.
    pub fn start(port: u16, folder: &Path, arguments: &[&str]) -> Self {
        Self::start_in(port, folder, arguments, &[])
    }

    /// The same with more in its environment.
    ///
    /// # Panics
    /// As [`Collector::start`].
    pub fn start_in(port: u16, folder: &Path, arguments: &[&str], more: &[(&str, String)]) -> Self {
        let mut all = vec![format!("--web.listen-address=127.0.0.1:{port}")];
        if !arguments.iter().any(|argument| argument.starts_with("--storage.path=")) {
            all.push(format!("--storage.path={}", folder.join("storage").display()));
        }
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let process = Process::start_in(&collector_binary(), &all, more, &folder.join("collector.log"));
        let collector = Collector { process, port };
        let ready = wait_for(START, || get(&collector.url("/-/ready")).is_some_and(|answer| answer.0 == 200));
        assert!(ready, "the collector did not get ready:\n{}", collector.process.log());
        collector
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The page of metrics.
    ///
    /// # Panics
    /// When there is none.
    pub fn metrics(&self) -> crate::exposition::Page {
        let (status, text) = get(&self.url("/metrics")).expect("the collector answers");
        assert_eq!(status, 200, "{text}");
        crate::exposition::parse(&text).expect("the page is right")
    }
}

/// The status and body of a GET; `None` when nobody answers.
pub fn get(url: &str) -> Option<(u16, String)> {
    answer(agent().get(url).call())
}

/// The status and the packed body of a GET that asks for gzip; `None` when nobody answers.
pub fn get_gzip(url: &str) -> Option<(u16, Vec<u8>)> {
    let mut response = agent().get(url).header("Accept-Encoding", "gzip").call().ok()?;
    let body = response.body_mut().with_config().limit(256 << 20).read_to_vec().ok()?;
    Some((response.status().as_u16(), body))
}

/// The status and body of an empty POST.
pub fn post(url: &str) -> Option<(u16, String)> {
    answer(agent().post(url).send_empty())
}

/// The status and body of any request, with a bearer token where one is given.
///
/// # Panics
/// When it is no request.
pub fn ask(method: &str, url: &str, token: Option<&str>, body: &str) -> Option<(u16, String)> {
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    if body.is_empty() {
        return answer(agent().run(request.body(()).expect("a request")));
    }
    answer(agent().run(request.body(body.to_owned()).expect("a request")))
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(30)))
        .http_status_as_error(false)
        .build()
        .into()
}

fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Option<(u16, String)> {
    let mut response = result.ok()?;
    let body = response.body_mut().with_config().limit(256 << 20).read_to_string().ok()?;
    Some((response.status().as_u16(), body))
}

/// Asks again and again until it is so or the time is up.
pub fn wait_for(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
