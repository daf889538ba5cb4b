//! What the run-queue tests measure: a child process that switches a lot, and the kernel's account of its threads.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write, pipe};
use std::ops::Sub;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// There and back again, in one run.
const ROUNDS: usize = 20_000;
const WARM_UP_ROUNDS: usize = 200;
const OVERSUBSCRIBED: Duration = Duration::from_millis(2_500);

/// What the tasks of a cgroup, or the threads of a process, did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Account {
    pub(crate) wait_s: f64,
    pub(crate) runs: f64,
    pub(crate) voluntary: f64,
    pub(crate) involuntary: f64,
}

impl Account {
    pub(crate) fn switches(&self) -> f64 {
        self.voluntary + self.involuntary
    }

    /// Adds a thread, from the texts of its schedstat and status.
    fn add(&mut self, schedstat: &str, status: &str) {
        let mut fields = schedstat.split_whitespace().map(|field| field.parse::<f64>().unwrap());
        self.wait_s += fields.nth(1).unwrap() / 1e9;
        self.runs += fields.next().unwrap();
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().parse::<f64>().unwrap()
        };
        self.voluntary += value("voluntary_ctxt_switches:");
        self.involuntary += value("nonvoluntary_ctxt_switches:");
    }
}

impl Sub for Account {
    type Output = Account;

    fn sub(self, before: Account) -> Account {
        Account {
            wait_s: self.wait_s - before.wait_s,
            runs: self.runs - before.runs,
            voluntary: self.voluntary - before.voluntary,
            involuntary: self.involuntary - before.involuntary,
        }
    }
}

/// What the child does.
pub(crate) enum Load {
    /// Two threads on one CPU that wake each other in turn.
    PingPong,
    /// On all CPUs, more busy threads than CPUs, and some that sleep a little again and again.
    Oversubscribed,
}

impl Load {
    /// Starts the child, which waits for [`Worker::warm_up`].
    pub(crate) fn spawn(&self) -> Worker {
        let this = std::env::current_exe().unwrap();
        let mut command = match self {
            Load::PingPong => {
                let mut command = Command::new("taskset");
                command.args(["-c", "0"]).arg(this).env("LOAD", "ping-pong");
                command
            }
            Load::Oversubscribed => {
                let mut command = Command::new(this);
                command.env("LOAD", "oversubscribed");
                command
            }
        };
        command.args(["--exact", "worker", "--ignored", "--nocapture"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut worker = Worker { child, input, output };
        worker.wait_for("READY");
        worker
    }
}

/// The child process, which sleeps but for [`Worker::warm_up`] and [`Worker::run`].
pub(crate) struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets every thread run a little, so that the probe has seen each of them.
    pub(crate) fn warm_up(&mut self) {
        self.ask("warm-up");
    }

    pub(crate) fn run(&mut self) {
        self.ask("run");
    }

    fn ask(&mut self, what: &str) {
        writeln!(self.input, "{what}").unwrap();
        self.wait_for("DONE");
        // The thread that said so has yet to fall asleep.
        std::thread::sleep(Duration::from_millis(50));
    }

    fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        while !line.trim_end().ends_with(word) {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the worker ended");
        }
    }

    /// The kernel's account of all its threads.
    pub(crate) fn account(&self) -> Account {
        let mut account = Account::default();
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap() {
            let read = |file| std::fs::read_to_string(thread.as_ref().unwrap().path().join(file)).unwrap();
            account.add(&read("schedstat"), &read("status"));
        }
        account
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's side: does what stdin says.
pub(crate) fn work() {
    let load: Box<dyn Fn(bool)> = match std::env::var("LOAD").as_deref() {
        Ok("ping-pong") => ping_pong(),
        _ => oversubscribed(),
    };
    println!("\nREADY");
    for line in std::io::stdin().lines() {
        load(line.unwrap() == "run");
        println!("DONE");
    }
}

/// A thread that does a piece of work each time it is told to, and says when it has.
fn thread<T: Send + 'static>(mut work: impl FnMut(T) + Send + 'static) -> (Sender<T>, Receiver<()>) {
    let (tell, told) = channel::<T>();
    let (say, said) = channel();
    std::thread::spawn(move || {
        while let Ok(what) = told.recv() {
            work(what);
            let _ = say.send(());
        }
    });
    (tell, said)
}

fn ping_pong() -> Box<dyn Fn(bool)> {
    fn pass(rounds: usize, mut from: &PipeReader, mut to: &PipeWriter, first: bool) {
        let mut byte = [0];
        for _ in 0..rounds {
            if first {
                to.write_all(&byte).unwrap();
            }
            from.read_exact(&mut byte).unwrap();
            if !first {
                to.write_all(&byte).unwrap();
            }
        }
    }
    let (a_in, b_out) = pipe().unwrap();
    let (b_in, a_out) = pipe().unwrap();
    let (tell_a, a_said) = thread(move |rounds| pass(rounds, &a_in, &a_out, true));
    let (tell_b, b_said) = thread(move |rounds| pass(rounds, &b_in, &b_out, false));
    Box::new(move |run| {
        let rounds = if run { ROUNDS } else { WARM_UP_ROUNDS };
        tell_a.send(rounds).unwrap();
        tell_b.send(rounds).unwrap();
        a_said.recv().unwrap();
        b_said.recv().unwrap();
    })
}

fn oversubscribed() -> Box<dyn Fn(bool)> {
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    let busy = (0..2 * cpus + 1).map(|_| {
        thread(|until: Instant| {
            while Instant::now() < until {
                std::hint::black_box((0..10_000).sum::<u64>());
            }
        })
    });
    let sleepers = (0..4).map(|number| {
        thread(move |until: Instant| {
            while Instant::now() < until {
                std::thread::sleep(Duration::from_micros(500 + 300 * number));
            }
        })
    });
    let threads: Vec<_> = busy.chain(sleepers).collect();
    Box::new(move |run| {
        let time = if run { OVERSUBSCRIBED } else { Duration::from_millis(300) };
        let until = Instant::now() + time;
        threads.iter().for_each(|(tell, _)| tell.send(until).unwrap());
        threads.iter().for_each(|(_, said)| said.recv().unwrap());
    })
}
