//! Collectors that end, hang, are slow and panic, side by side.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::crew::WORKER;
use super::*;

static ALIVE: Family = Family::gauge("alive", "", &["collector"]);

/// Gives a sample, after it has waited for a word if it is one that hangs.
struct Made {
    name: &'static str,
    hangs: Option<Receiver<()>>,
    panics: bool,
}

impl Collector for Made {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        assert!(tick.time_left() <= DEADLINE);
        if let Some(word) = &self.hangs {
            word.recv().map_err(|_| CollectError::NoData("left alone".into()))?;
        }
        assert!(!self.panics, "on purpose");
        out.put(&ALIVE, &[self.name], 1.0);
        Ok(())
    }
}

fn made(name: &'static str) -> Made {
    Made { name, hangs: None, panics: false }
}

fn hanging(name: &'static str) -> (Made, Sender<()>) {
    let (sender, receiver) = channel();
    (Made { name, hangs: Some(receiver), panics: false }, sender)
}

struct Subject {
    reader: HostReader,
    table: Arc<SeriesTable>,
}

impl Subject {
    fn new(collectors: Vec<Made>, deadline_ms: u64) -> Self {
        let table = Arc::new(SeriesTable::default());
        let boxed = collectors.into_iter().map(|c| (c.name, Box::new(c) as Box<dyn Collector>)).collect();
        let mut reader = HostReader::assemble(&Paths::default(), boxed, &[], &table);
        reader.set_deadline(Duration::from_millis(deadline_ms));
        Subject { reader, table }
    }

    /// What a tick gives, on this thread.
    fn tick(&mut self) -> Given {
        let mut given = Given::default();
        let table = self.table.clone();
        self.reader.run(&Selection::All, 1, Batch::default, |batch| given.take(&batch, &table));
        given
    }

    /// The same as a task, and how often another task had its turn meanwhile.
    fn tick_as_task(&mut self) -> (Given, u32) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (mut given, mut turns) = (Given::default(), 0);
        let table = self.table.clone();
        runtime.block_on(async {
            let other = async {
                loop {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    turns += 1;
                }
            };
            let send = |batch| given.take(&batch, &table);
            tokio::select! {
                () = self.reader.gather(&Selection::All, 1, Batch::default, send) => {}
                () = other => {}
            }
        });
        (given, turns)
    }
}

impl Given {
    fn take(&mut self, batch: &Batch, table: &SeriesTable) {
        let guard = table.lock();
        for (&(id, _), &value) in batch.shape().floats().iter().zip(&batch.values) {
            let view = guard.view(id);
            let collector = view.labels().next().unwrap().1.to_owned();
            match view.name() {
                "alive" => self.alive.push(collector),
                "node_scrape_collector_success" => self.success.push((collector, value)),
                _ => self.durations.push(value),
            }
        }
    }
}

#[derive(Debug, Default)]
struct Given {
    alive: Vec<String>,
    success: Vec<(String, f64)>,
    durations: Vec<f64>,
}

/// Threads of this process that run collectors.
fn workers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == WORKER).count()
}

/// The tests count threads, so they take turns; each begins when the workers of the last one have ended.
fn turn() -> MutexGuard<'static, ()> {
    static TURNS: Mutex<()> = Mutex::new(());
    let turn = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    while workers() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    turn
}

fn success(given: &Given) -> Vec<(&str, f64)> {
    given.success.iter().map(|(name, value)| (name.as_str(), *value)).collect()
}

#[test]
fn one_that_hangs_costs_one_thread_and_nothing_else() {
    let _turn = turn();
    let (stuck, release) = hanging("b");
    let mut subject = Subject::new(vec![made("a"), stuck, made("c")], 400);
    let first = subject.tick();
    assert_eq!(first.alive, ["a", "c"], "the rest went on");
    assert_eq!(success(&first), [("a", 1.0), ("b", 0.0), ("c", 1.0)]);
    assert!(first.durations[1] >= 0.4, "{first:?}");
    for _ in 0..50 {
        let start = Instant::now();
        let next = subject.tick();
        assert_eq!(
            (next.alive.as_slice(), next.success[1].1),
            (["a", "c"].map(String::from).as_slice(), 0.0)
        );
        assert!(start.elapsed() < Duration::from_millis(400), "nobody waited for it once more");
    }
    assert_eq!(workers(), 2);
    subject.reader.set_labels(&[("job".into(), "other".into())]);
    release.send(()).unwrap();
    let start = Instant::now();
    // It ended for an old tick; in the next one it runs again, and hangs again.
    while subject.reader.slots[1].running.is_none() && start.elapsed() < DEADLINE {
        subject.reader.crew.take_back(|late| subject.reader.returned.push(late));
        subject.reader.put_back(None);
    }
    drop(release);
    let last = subject.tick();
    assert_eq!(success(&last), [("a", 1.0), ("b", 0.0), ("c", 1.0)], "left alone is an error too");
    assert!(last.durations[1] < 0.4, "but it ended");
    let labels = &subject.reader.slots[1].running.as_ref().unwrap().recorder.source().labels;
    assert_eq!(labels[0].1, "other", "labels changed while it was away");
}

#[test]
fn a_slow_one_holds_up_nobody_and_is_in_time() {
    let _turn = turn();
    let (slow, word) = hanging("a");
    let mut subject = Subject::new(vec![slow, made("b")], 5000);
    let helper = std::thread::spawn(move || {
        std::thread::sleep(3 * super::super::crew::PATIENCE);
        word.send(()).unwrap();
        word
    });
    let given = subject.tick();
    assert_eq!(given.alive, ["a", "b"]);
    assert_eq!(success(&given), [("a", 1.0), ("b", 1.0)]);
    drop(helper.join().unwrap());
}

#[test]
fn as_many_as_hang_so_many_threads() {
    let _turn = turn();
    let (stuck, words): (Vec<_>, Vec<_>) = ["a", "b", "c", "d"].into_iter().map(hanging).unzip();
    let mut subject = Subject::new(stuck.into_iter().chain([made("e")]).collect(), 1000);
    for _ in 0..3 {
        let given = subject.tick();
        assert_eq!((given.alive.len(), given.success.len()), (1, 5), "{given:?}");
    }
    assert_eq!(workers(), 5);
    drop(words);
    let start = Instant::now();
    while workers() > 1 + super::super::crew::SPARE && start.elapsed() < DEADLINE {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(workers() <= 1 + super::super::crew::SPARE, "those that nobody needs end");
    assert_eq!(subject.tick().alive, ["e"]);
}

#[test]
fn one_without_its_turn_says_so() {
    let _turn = turn();
    let (stuck, word) = hanging("a");
    let mut subject = Subject::new(vec![stuck, made("b")], 20);
    let given = subject.tick();
    assert_eq!(success(&given), [("a", 0.0), ("b", 0.0)], "the deadline is shorter than the patience");
    subject.reader.set_deadline(DEADLINE);
    let given = subject.tick();
    assert_eq!(success(&given), [("a", 0.0), ("b", 1.0)]);
    drop(word);
}

#[test]
fn one_that_panics_loses_its_tick() {
    let _turn = turn();
    let panics = Made { panics: true, ..made("a") };
    let mut subject = Subject::new(vec![panics, made("b")], 5000);
    for _ in 0..2 {
        assert_eq!(success(&subject.tick()), [("a", 0.0), ("b", 1.0)]);
    }
    let names = Selection::Some(vec![1]);
    let mut batches = 0;
    subject.reader.run(&names, 1, Batch::default, |_| batches += 1);
    assert_eq!(batches, 2, "the selected one and the outcomes");
}

#[test]
fn as_a_task_it_ends_at_its_deadline_and_keeps_nobody_waiting() {
    let _turn = turn();
    let (stuck, release) = hanging("b");
    let mut subject = Subject::new(vec![made("a"), stuck, made("c")], 400);
    let (given, turns) = subject.tick_as_task();
    assert_eq!(success(&given), [("a", 1.0), ("b", 0.0), ("c", 1.0)]);
    assert!(turns > 10, "others had their turn: {turns}");
    for _ in 0..50 {
        assert_eq!(subject.tick_as_task().0.alive, ["a", "c"], "nobody waited for it once more");
    }
    assert_eq!(subject.tick().alive, ["a", "c"], "both ways may take turns");
    assert_eq!(workers(), 2);
    drop(release);
}
