//! A kernel probe under test: started in this process, read as a tick would.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use collector::model::{Batch, NativeHistogram, SeriesTable};
use collector::sources::ebpf::{EbpfOptions, EbpfReader, Probe as Row};

use crate::skip::skip;

/// Loads disturb each other.
pub fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a probe stands on functions that are traced, which a kernel that is locked down lets nobody do.
#[must_use]
pub fn traces_functions(probe: &Row) -> bool {
    probe.needs.starts_with("fentry")
}

/// Whether the kernel is locked down, and so refuses this probe.
#[must_use]
pub fn is_locked_out(probe: &Row) -> bool {
    let options = EbpfOptions { probes: vec![probe.name.to_owned()], ..EbpfOptions::default() };
    traces_functions(probe)
        && Probe::start(&options).failure().is_some_and(|(_, text)| text.contains("locked down"))
}

pub struct Probe {
    pub reader: EbpfReader,
    pub table: Arc<SeriesTable>,
    /// Of the last tick.
    pub batches: Vec<Batch>,
    pub time_ms: i64,
}

impl Probe {
    pub fn start(options: &EbpfOptions) -> Self {
        let table = Arc::<SeriesTable>::default();
        let reader = EbpfReader::start(options, &[], &table);
        Probe { reader, table, batches: Vec::new(), time_ms: 0 }
    }

    /// The probe of that name alone, or `None` after saying why this test is skipped.
    pub fn named_or_skip(test: &str, name: &str) -> Option<Self> {
        let options = EbpfOptions { probes: vec![name.to_owned()], ..EbpfOptions::default() };
        Self::start_or_skip(test, &options)
    }

    /// A probe that traces functions; `None` where the kernel is locked down, or has no BTF: then the reason must be seen.
    ///
    /// # Panics
    /// Where it can't be seen, or is another one.
    pub fn tracing_or_seen(test: &str, name: &str) -> Option<Self> {
        let mut probe = Self::start(&EbpfOptions { probes: vec![name.to_owned()], ..EbpfOptions::default() });
        let Some((reason, text)) = probe.failure() else { return Some(probe) };
        probe.tick();
        let up = [("probe", name), ("reason", reason)];
        assert_eq!(probe.value("collector_ebpf_probe_up", &up), 0.0);
        assert_eq!(probe.value("collector_ebpf_probe_up", &[]), 0.0);
        assert!(matches!(reason, "not_permitted" | "no_btf"), "{reason}: {text}");
        eprintln!("{test}: {text}");
        None
    }

    /// The probe, or `None` after saying why this test is skipped.
    ///
    /// # Panics
    /// Where it does not run for a reason that is not the machine's.
    pub fn start_or_skip(test: &str, options: &EbpfOptions) -> Option<Self> {
        let probe = Self::start(options);
        match probe.failure() {
            Some((reason @ ("not_permitted" | "no_btf" | "not_supported"), text)) => {
                skip(test, &format!("{reason}: {text}"));
                None
            }
            Some((reason, text)) => panic!("{reason}: {text}"),
            None => Some(probe),
        }
    }

    /// Why the first probe that does not run does not.
    pub fn failure(&self) -> Option<(&'static str, String)> {
        self.reader.failures().next().map(|(_, reason, text)| (reason, text))
    }

    pub fn tick(&mut self) {
        self.time_ms += 1_000;
        let batches = &mut self.batches;
        batches.clear();
        self.reader.read(self.time_ms, Batch::default, |batch| batches.push(batch));
    }

    /// The sum over the series of that name whose labels hold all of `labels`.
    ///
    /// # Panics
    /// Before the first tick.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let guard = self.table.lock();
        let mut sum = 0.0;
        for batch in &self.batches {
            for ((id, _), value) in batch.shape().floats().iter().zip(&batch.values) {
                let view = guard.view(*id);
                if view.name() == name && labels.iter().all(|label| view.labels().any(|own| own == *label)) {
                    sum += value;
                }
            }
        }
        sum
    }

    /// A tick, and by how much that value has grown since `before`.
    pub fn grown(&mut self, before: &Before<'_>) -> Vec<f64> {
        self.tick();
        before.iter().map(|(name, labels, value)| self.value(name, labels) - value).collect()
    }

    /// A tick, and those values.
    pub fn before<'a>(&mut self, wanted: &[Series<'a>]) -> Before<'a> {
        self.tick();
        wanted.iter().map(|(name, labels)| (*name, labels.clone(), self.value(name, labels))).collect()
    }

    /// The native histograms of the last tick.
    pub fn natives(&self) -> impl Iterator<Item = &NativeHistogram> {
        self.batches.iter().flat_map(Batch::histograms)
    }

    pub fn lost(&self) -> f64 {
        self.value("collector_ebpf_lost_total", &[])
    }
}

/// A name, and labels that hold.
pub type Series<'a> = (&'a str, Vec<(&'a str, &'a str)>);
/// What series had.
pub type Before<'a> = Vec<(&'a str, Vec<(&'a str, &'a str)>, f64)>;
