//! Runs the real reader over made-up trees of /proc, /sys and the like, tests/fixtures/host/COLLECTOR/CASE, and
//! compares what it gives with `expected.prom` there. `UPDATE_FIXTURES=1` writes these files anew.

mod render;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use collector::model::SeriesTable;
use collector::sources::host::{HostReader, Selection};
use collector_tests::fixtures::{self, Case, copy, files, overwrite};
use render::Exposition;

/// Panics of collectors, which the reader catches.
static PANICS: AtomicUsize = AtomicUsize::new(0);
/// A fresh reader for each so many cuts; the others see the file change under a kept descriptor.
const FRESH_EVERY: usize = 64;

struct Subject {
    reader: HostReader,
    table: Arc<SeriesTable>,
    folder: PathBuf,
}

impl Subject {
    /// A reader with that collector alone, over the tree in `folder`.
    fn new(folder: &Path, collector: &str) -> Self {
        let (reader, table) = fixtures::reader(folder, collector);
        Subject { reader, table, folder: folder.to_owned() }
    }

    /// What one tick gives, without what moves from one to the next.
    fn tick(&mut self) -> Exposition {
        let mut exposition = Exposition::new();
        self.reader.run(&Selection::All, 0, Default::default, |batch| {
            render::add(&batch, &self.table, &mut exposition);
        });
        exposition.remove("node_scrape_collector_duration_seconds");
        for moving in ["node_time_seconds", "node_time_zone_offset_seconds", "node_textfile_mtime_seconds"] {
            if let Some((_, samples)) = exposition.get_mut(moving) {
                samples.values_mut().for_each(|value| *value = 1.0);
            }
        }
        exposition.remove("node_time_zone_offset_seconds");
        exposition
    }

    fn text(&mut self) -> String {
        let exposition = self.tick();
        text_of(&exposition).replace(self.folder.to_str().unwrap(), "@")
    }
}

/// The text of the families.
fn text_of(exposition: &Exposition) -> String {
    let mut text = String::new();
    for (name, (kind, samples)) in exposition {
        text.push_str(&format!("# TYPE {name} {kind}\n"));
        for (series, value) in samples {
            text.push_str(&format!("{series} {}\n", number(*value)));
        }
    }
    text
}

/// As Go writes floats in their shortest form.
fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap();
    let exponent: i32 = exponent.parse().unwrap();
    if value == 0.0 || (-4..6).contains(&exponent) {
        return format!("{}", value + 0.0);
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn samples(exposition: &Exposition) -> usize {
    exposition.values().map(|(_, samples)| samples.len()).sum()
}

#[test]
fn every_case_gives_what_is_expected() {
    let update = std::env::var_os("UPDATE_FIXTURES").is_some();
    for Case { folder, collector } in fixtures::cases() {
        let mut subject = Subject::new(&folder, &collector);
        let first = subject.text();
        assert_eq!(first, subject.text(), "{}: the second tick differs", folder.display());
        let expected = folder.join("expected.prom");
        if update {
            std::fs::write(&expected, &first).unwrap();
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(first, expected, "{}: the left is what came", folder.display());
    }
}

/// Files of lines with one thing each: what is left of them when they are cut must be as it was.
fn is_strict(file: &Path) -> bool {
    let ends = ["stat", "meminfo", "vmstat", "diskstats", "schedstat", "mountinfo", "dev"];
    let also =
        ["netstat", "snmp", "snmp6", "sockstat", "sockstat6", "swaps", "softirqs", "interrupts", "zoneinfo"];
    let more = ["buddyinfo", "slabinfo", "drbd", "nfs", "nfsd", "mdstat", "arcstats", "zil", "arp_cache"];
    file.file_name().is_some_and(|name| ends.iter().chain(&also).chain(&more).any(|end| name == *end))
}

fn check_cut(cut: &Exposition, whole: &Exposition, file: &Path, end: usize) {
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "{} cut at {end}", file.display());
    let (given, all) = (samples(cut), samples(whole));
    // What was cut may be what was wrong.
    let are = |family: &str, good: f64| {
        whole.get(family).is_none_or(|(_, s)| s.values().all(|&value| value == good))
    };
    let was_right = are("node_scrape_collector_success", 1.0) && are("node_textfile_scrape_error", 0.0);
    // The number that stands for no limit becomes a limit when it is cut. The kernel makes such a file in one piece.
    let is_limit = file.ends_with("memory.limit_in_bytes");
    assert!(given <= all || !was_right || is_limit, "{} cut at {end}: {given} of {all}", file.display());
    if !is_strict(file) {
        return;
    }
    for (name, (_, samples)) in cut.iter().filter(|(name, _)| *name != "node_scrape_collector_success") {
        for (series, value) in samples {
            let before = whole.get(name).and_then(|(_, samples)| samples.get(series));
            assert_eq!(Some(value), before, "{} cut at {end}: {series}", file.display());
        }
    }
}

#[test]
fn files_cut_or_overwritten_never_panic_nor_give_more() {
    std::panic::set_hook(Box::new(|panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        eprintln!("{panic}");
    }));
    for Case { folder: case, collector } in fixtures::cases() {
        let tree = tempfile::tempdir().unwrap();
        copy(&case, tree.path());
        let whole = Subject::new(tree.path(), &collector).tick();
        for file in files(tree.path()) {
            if file.file_name().is_some_and(|name| name == "flags" || name == "expected.prom") {
                continue;
            }
            let content = std::fs::read(&file).unwrap();
            let mut subject = Subject::new(tree.path(), &collector);
            for end in (0..content.len()).rev() {
                overwrite(&file, &content[..end]);
                if end % FRESH_EVERY == 0 {
                    subject = Subject::new(tree.path(), &collector);
                }
                check_cut(&subject.tick(), &whole, &file, end);
            }
            for garbage in garbage(&content) {
                overwrite(&file, &garbage);
                subject.tick();
                assert_eq!(PANICS.load(Ordering::SeqCst), 0, "{} as garbage", file.display());
            }
            overwrite(&file, &content);
            let restored = text_of(&Subject::new(tree.path(), &collector).tick());
            assert_eq!(restored, text_of(&whole), "restored");
        }
    }
    let _ = std::panic::take_hook();
}

/// The content with some bytes of it exchanged, the same ones in every run.
fn garbage(content: &[u8]) -> Vec<Vec<u8>> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut variants =
        vec![vec![0xff; 100], b"\n\n\n".to_vec(), vec![b':'; 50], vec![b' '; 5000], vec![b'9'; 300]];
    for _ in 0..20 {
        let mut bent = content.to_vec();
        for _ in 0..1 + bent.len() / 20 {
            let at = random() as usize % bent.len().max(1);
            if let Some(byte) = bent.get_mut(at) {
                *byte = b"\n \t:-=,\"{}9xf\x00\xff\\"[random() as usize % 16];
            }
        }
        variants.push(bent);
    }
    variants
}
