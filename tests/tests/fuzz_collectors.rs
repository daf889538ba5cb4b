//! Bends the made-up trees of /proc, /sys and the like, and holds every collector to what it must do with any input:
//! no panic, no hang, few open files, memory and samples in proportion to the input, names that may be exposed, and
//! the right page again as soon as the files are right again.
//!
//! `COLLECTOR_FUZZ_SECONDS` says for how long (all cases take turns), `COLLECTOR_FUZZ_SEED` where to begin: a failure
//! names the seed that shows it again at once.

mod render;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use collector::model::{Batch, SeriesTable};
use collector::sources::host::{HostReader, Selection};
use collector_tests::allocation::{Counting, in_use, peak_of, turn};
use collector_tests::fixtures::{self, Case, MOVING, overwrite};
use collector_tests::mutate::{Random, mutate, rename};
use render::Exposition;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How long the fuzzing takes unless the environment says otherwise.
const SECONDS: u64 = 15;
const FIRST_SEED: u64 = 1;
/// Ticks of one reader over bent files.
const MOST_TICKS: usize = 12;
/// Files that are bent at once.
const MOST_FILES: usize = 3;
/// A tick that takes longer hangs. Nothing that is right comes near it.
const HANGS: Duration = Duration::from_secs(60);

/// What a tick may allocate: so much whatever it reads (buffers of their first size, listings of folders), and for
/// each byte of the largest input since the reader was made. A sample of two bytes is a series with strings of its
/// own, and a name that takes the whole file stands in each of some dozens of series, and in what is kept of them.
const MEMORY: usize = 768 << 10;
const MEMORY_PER_BYTE: usize = 1024;
/// Samples of a tick: so many whatever is read (states of a set, the page of a clock), and for each byte of input.
const SAMPLES: usize = 2000;
const SAMPLES_PER_BYTE: f64 = 0.5;

/// Files that may be open: no tree has more.
const MOST_OPEN: usize = 500;

/// Panics of collectors, which the reader catches.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Collectors whose page depends on what they read before: the counters of a CPU never fall, the names of a network
/// driver's statistics are asked for once, and a state that a process was in stays, with 0.
const REMEMBERS: &[&str] = &["cpu", "ethtool", "process_groups", "processes"];

/// A copy of a case, whose files are bent.
struct Tree {
    folder: tempfile::TempDir,
    collector: String,
    name: String,
    /// Those that may be bent, with what they say in the fixture.
    files: Vec<(PathBuf, Vec<u8>)>,
    /// Bytes of all files as they are now.
    size: usize,
}

impl Tree {
    fn new(case: &Case) -> Self {
        let folder = fixtures::memory_folder();
        fixtures::copy(&case.folder, folder.path());
        let is_input =
            |file: &PathBuf| !file.file_name().is_some_and(|name| name == "flags" || name == "expected.prom");
        let files = fixtures::files(folder.path()).into_iter().filter(is_input);
        let files: Vec<_> = files.map(|file| (file.clone(), std::fs::read(file).unwrap())).collect();
        let name = case.folder.file_name().unwrap().to_str().unwrap();
        let name = format!("{}/{name}", case.collector);
        let size = files.iter().map(|(_, content)| content.len()).sum();
        Tree { folder, collector: case.collector.clone(), name, files, size }
    }

    /// Bends some files, from what they say in the fixture.
    fn bend(&mut self, others: &[Vec<u8>], random: &mut Random) {
        self.restore();
        for _ in 0..1 + random.below(MOST_FILES) {
            let (file, content) = random.pick(&self.files);
            self.size -= std::fs::metadata(file).unwrap().len() as usize;
            let bent = mutate(content, others, random);
            self.write(file, &bent);
            self.size += bent.len();
        }
    }

    /// As those write who do: the kernel in place, udev by renaming.
    fn write(&self, file: &Path, content: &[u8]) {
        if file.starts_with(self.folder.path().join("udev")) {
            let new = self.folder.path().join("new");
            std::fs::write(&new, content).unwrap();
            std::fs::rename(new, file).unwrap();
        } else {
            overwrite(file, content);
        }
    }

    /// Puts something else where a file was: nothing, a folder, or a link that leads nowhere.
    fn exchange(&mut self, random: &mut Random) {
        let (file, _) = random.pick(&self.files);
        std::fs::remove_file(file).unwrap();
        match random.below(3) {
            0 => {}
            1 => std::fs::create_dir(file).unwrap(),
            _ => std::os::unix::fs::symlink(file, file).unwrap(),
        }
    }

    fn restore(&mut self) {
        for (file, content) in &self.files {
            let kind = std::fs::symlink_metadata(file).map(|facts| facts.file_type());
            match kind {
                Ok(kind) if kind.is_file() => self.write(file, content),
                Ok(kind) if kind.is_dir() => {
                    std::fs::remove_dir(file).unwrap();
                    std::fs::write(file, content).unwrap();
                }
                Ok(_) => {
                    std::fs::remove_file(file).unwrap();
                    std::fs::write(file, content).unwrap();
                }
                Err(_) => std::fs::write(file, content).unwrap(),
            }
        }
        self.size = self.files.iter().map(|(_, content)| content.len()).sum();
    }
}

/// A reader with the collector of a tree.
struct Subject {
    reader: HostReader,
    table: Arc<SeriesTable>,
}

impl Subject {
    fn new(folder: &Path, collector: &str) -> Self {
        let (mut reader, table) = fixtures::reader(folder, collector);
        reader.set_deadline(HANGS);
        Subject { reader, table }
    }

    /// One tick: what it gives, and how much it allocated at its peak.
    fn tick(&mut self) -> (Exposition, usize) {
        let mut batches: Vec<Batch> = Vec::new();
        let peak = peak_of(|| {
            self.reader.run(&Selection::All, 0, Default::default, |batch| batches.push(batch));
        });
        let mut exposition = Exposition::new();
        batches.iter().for_each(|batch| render::add(batch, &self.table, &mut exposition));
        (exposition, peak)
    }
}

fn samples(exposition: &Exposition) -> usize {
    exposition.values().map(|(_, samples)| samples.len()).sum()
}

/// The page without what moves.
fn settled(mut exposition: Exposition) -> Exposition {
    MOVING.iter().for_each(|name| drop(exposition.remove(*name)));
    exposition
}

/// Whether both are equal bit by bit: NaN is what it is.
fn is_same(a: &Exposition, b: &Exposition) -> bool {
    let bits = |page: &Exposition| -> Vec<(String, u64)> {
        let samples = page.values().flat_map(|(_, samples)| samples);
        samples.map(|(series, value)| (series.clone(), value.to_bits())).collect()
    };
    bits(a) == bits(b)
}

/// The largest that was met, for the report.
#[derive(Debug, Default)]
struct Extremes {
    memory_per_byte: (f64, String),
    memory_of_small: (usize, String),
    samples_per_byte: (f64, String),
    samples_of_small: (usize, String),
}

/// Below this an input is small: what a tick takes is not in proportion to it.
const SMALL: usize = 16 << 10;

impl Extremes {
    fn note(&mut self, name: &str, size: usize, memory: usize, samples: usize) {
        fn raise<T: PartialOrd>(extreme: &mut (T, String), value: T, name: &str) {
            if value > extreme.0 {
                *extreme = (value, name.to_owned());
            }
        }
        if size < SMALL {
            raise(&mut self.memory_of_small, memory, name);
            raise(&mut self.samples_of_small, samples, name);
        } else {
            raise(&mut self.memory_per_byte, memory as f64 / size as f64, name);
            raise(&mut self.samples_per_byte, samples as f64 / size as f64, name);
        }
    }
}

/// Holds one page against the rules; says which is broken.
fn check(exposition: &Exposition, peak: usize, size: usize) -> Result<(), String> {
    if PANICS.swap(0, Ordering::SeqCst) > 0 {
        return Err("the collector panicked".into());
    }
    let allowed = MEMORY + MEMORY_PER_BYTE * size;
    if peak > allowed {
        return Err(format!("{peak} bytes were allocated for {size} bytes of input, {allowed} are allowed"));
    }
    let (given, allowed) = (samples(exposition), SAMPLES + (SAMPLES_PER_BYTE * size as f64) as usize);
    if given > allowed {
        return Err(format!("{given} samples came of {size} bytes of input, {allowed} are allowed"));
    }
    for (family, (_, samples)) in exposition {
        let wrong = samples.keys().find(|series| !is_exposable(series));
        if let Some(series) = wrong {
            return Err(format!("{family}: {series:?} can't be exposed"));
        }
    }
    let took = exposition.get("node_scrape_collector_duration_seconds");
    let took = took.and_then(|(_, samples)| samples.values().next().copied()).unwrap_or_default();
    if took >= HANGS.as_secs_f64() {
        return Err("the collector hangs".into());
    }
    Ok(())
}

/// Whether the name is one, and those of the labels are.
fn is_exposable(series: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.as_bytes()[0].is_ascii_digit()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
    };
    let end = series.find('{').unwrap_or(series.len());
    if !is_name(&series[..end]) {
        return false;
    }
    let mut rest = series[end..].trim_start_matches('{');
    while !rest.is_empty() && rest != "}" {
        let Some((name, value)) = rest.split_once("=\"") else { return false };
        if !is_name(name) || name.contains(':') {
            return false;
        }
        let mut is_escaped = false;
        let end = value.bytes().position(|byte| {
            let ends = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            ends
        });
        let Some(end) = end else { return false };
        rest = value[end + 1..].trim_start_matches(',');
    }
    true
}

/// One seed: a tree, a reader, some ticks over bent files, and the right files again. Says how many inputs it took, or
/// which rule is broken.
fn round(
    tree: &mut Tree,
    others: &[Vec<u8>],
    random: &mut Random,
    extremes: &mut Extremes,
) -> Result<usize, String> {
    let mut largest = 0;
    let mut tick = |subject: &mut Subject, tree: &Tree| {
        let (page, peak) = subject.tick();
        // What seldom changes is not read again each time.
        largest = largest.max(tree.size);
        extremes.note(&tree.name, largest, peak, samples(&page));
        let open = std::fs::read_dir("/proc/self/fd").map_or(usize::MAX, Iterator::count);
        if open > MOST_OPEN {
            return Err(format!("{open} files are open for {largest} bytes of input"));
        }
        check(&page, peak, largest).map(|()| settled(page))
    };
    tree.restore();
    let new = |tree: &Tree| Subject::new(tree.folder.path(), &tree.collector);
    let mut subject = new(tree);
    let whole = tick(&mut subject, tree)?;
    let mut inputs = 0;
    let sees_it_whole_first = random.once_in(2);
    if !sees_it_whole_first {
        if random.once_in(4) {
            tree.exchange(random);
            tick(&mut new(tree), tree)?;
            tree.restore();
            inputs += 1;
        }
        subject = new(tree);
    }
    for _ in 0..1 + random.below(MOST_TICKS) {
        tree.bend(others, random);
        tick(&mut subject, tree)?;
        inputs += 1;
    }
    tree.restore();
    if !sees_it_whole_first || REMEMBERS.contains(&tree.collector.as_str()) {
        subject = new(tree);
    }
    let again = tick(&mut subject, tree)?;
    if !is_same(&again, &whole) {
        return Err(format!("the page is another one afterwards: {again:#?}\nbefore: {whole:#?}"));
    }
    Ok(inputs)
}

fn from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    }
}

/// Counts the panics of collectors, and says where each was.
fn count_panics() {
    let earlier = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() == Some("collect") {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        earlier(panic);
    }));
}

#[test]
fn bent_files_do_no_harm() {
    let _turn = turn();
    count_panics();
    let mut trees: Vec<Tree> = fixtures::cases().iter().map(Tree::new).collect();
    trees.retain(|tree| !tree.files.is_empty());
    let others: Vec<Vec<u8>> =
        trees.iter().flat_map(|tree| tree.files.iter().map(|(_, content)| content.clone())).collect();
    let limit = Duration::from_secs(from_environment("COLLECTOR_FUZZ_SECONDS", SECONDS));
    let first = from_environment("COLLECTOR_FUZZ_SEED", FIRST_SEED);
    let start = Instant::now();
    let (mut inputs, mut seed, mut extremes) = (0, first, Extremes::default());
    let mut failures = BTreeMap::new();
    while start.elapsed() < limit {
        let mut random = Random::new(seed);
        let at = random.below(trees.len());
        match round(&mut trees[at], &others, &mut random, &mut extremes) {
            Ok(taken) => inputs += taken,
            Err(what) => drop(failures.entry(trees[at].name.clone()).or_insert((seed, what))),
        }
        seed += 1;
    }
    let _ = std::panic::take_hook();
    eprintln!("{inputs} inputs, seeds {first} to {seed}, {} cases: {extremes:#?}", trees.len());
    let failures: String = failures
        .iter()
        .map(|(case, (seed, what))| format!("COLLECTOR_FUZZ_SEED={seed} {case}: {what}\n"))
        .collect();
    assert!(failures.is_empty(), "to be seen again with the seeds named:\n{failures}");
    assert!(inputs > 0);
}

/// What was found here once: a case, a file of it, what is exchanged in it and with what, and whether the
/// collector succeeds then. Afterwards the file is right
/// again, and the page must be.
const FOUND: &[(&str, &str, &str, &str, f64)] = &[
    // A number too many was taken for a word of the line, and still was when it had gone.
    ("interrupts/x86", "proc/interrupts", "0:         18", "0:     x     18", 0.0),
    ("sockstat/both", "proc/net/sockstat", "inuse", "in-use", 0.0),
    ("sockstat/both", "proc/net/sockstat", "TCP:", "T.CP:", 0.0),
    ("meminfo/modern", "proc/meminfo", "Active", "Ac=tive", 0.0),
    ("vmstat/defaults", "proc/vmstat", "pswpout", "pswpou\\", 0.0),
    ("netstat/defaults", "proc/net/netstat", "SyncookiesSent", "SyncookiesSe.t", 0.0),
    // A file was kept open for each name, as often as it stood there.
    ("bonding/two_bonds", "sys/class/net/bonding_masters", "bond0", "bond0 bond0", 0.0),
    // The sum of all threads overflowed.
    ("processes/threads", "proc/1/stat", "20 0 1 0", "20 0 18446744073709551615 0", 1.0),
];

#[test]
fn what_was_found_stays_mended() {
    let _turn = turn();
    let mut trees: Vec<Tree> = fixtures::cases().iter().map(Tree::new).collect();
    for (case, file, from, to, success) in FOUND {
        let tree = trees.iter_mut().find(|tree| tree.name == *case).unwrap();
        let path = tree.folder.path().join(file);
        let content = std::fs::read_to_string(&path).unwrap();
        let bent = content.replacen(from, to, 1);
        assert_ne!(bent, content, "{case}: {from}");
        let mut subject = Subject::new(tree.folder.path(), &tree.collector);
        let whole = settled(subject.tick().0);
        overwrite(&path, bent.as_bytes());
        let (page, peak) = subject.tick();
        check(&page, peak, tree.size).unwrap();
        let outcome: f64 = page["node_scrape_collector_success"].1.values().sum();
        assert_eq!(outcome, *success, "{case}: {to}");
        tree.restore();
        if REMEMBERS.contains(&tree.collector.as_str()) {
            continue;
        }
        assert!(is_same(&settled(subject.tick().0), &whole), "{case}: {to}");
    }
}

/// Ticks with other names each time, before and after which what is allocated is compared.
const RENAMED_FIRST: usize = 200;
const RENAMED_THEN: usize = 400;
/// What names that came and went may leave: the few shapes that a recorder can come back to.
const LEFT: usize = 32 << 10;
/// Those that decide by patterns: the decisions are remembered for a while, up to a limit of their own.
const DECIDE: &[&str] = &["arp", "diskstats", "filesystem", "interrupts", "slabinfo"];
const LEFT_BY_DECISIONS: usize = 64 << 10;

/// What is kept by name must go with its name: else a host on which containers come and go fills our memory.
#[test]
fn names_that_come_and_go_leave_nothing() {
    let _turn = turn();
    let mut kept = BTreeMap::new();
    for mut tree in fixtures::cases().iter().map(Tree::new) {
        let mut random = Random::new(FIRST_SEED);
        let mut subject = Subject::new(tree.folder.path(), &tree.collector);
        let mut rename_for = |tree: &mut Tree, ticks: usize| {
            for _ in 0..ticks {
                for (file, content) in &tree.files {
                    tree.write(file, &rename(content, &mut random));
                }
                subject.tick();
            }
            tree.restore();
            for _ in 0..8 {
                subject.tick();
            }
            in_use()
        };
        let before = rename_for(&mut tree, RENAMED_FIRST);
        let after = rename_for(&mut tree, RENAMED_THEN);
        let allowed = if DECIDE.contains(&tree.collector.as_str()) { LEFT_BY_DECISIONS } else { LEFT };
        if after > before + allowed {
            kept.insert(tree.name.clone(), after - before);
        }
    }
    assert!(kept.is_empty(), "bytes that {RENAMED_THEN} ticks left: {kept:?}");
}
