//! A shape: the ordered list of series that a source sends, tick after tick.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashSet;

use super::series::{SeriesId, SeriesTable};

/// Whose batches these are, and the labels that every one of its series carries when it leaves this host.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// `host/cpu`, `ebpf/runqueue`: for logs and for the lane.
    pub name: String,
    /// `job`, `instance` and the like. /metrics does not show them.
    pub labels: Vec<(String, String)>,
}

/// Which protocols want a float series, and whose times it has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Form {
    /// All of them.
    Always = 0,
    /// Those that do not take the native histogram of which it is a part.
    ClassicOnly = 1,
    /// All of them; its samples carry times of their own, so it ends without a stale marker.
    Timed = 2,
    /// Both of these.
    ClassicTimed = 3,
}

impl Form {
    /// The form that says this.
    pub const fn new(classic_only: bool, timed: bool) -> Self {
        match (classic_only, timed) {
            (false, false) => Form::Always,
            (true, false) => Form::ClassicOnly,
            (false, true) => Form::Timed,
            (true, true) => Form::ClassicTimed,
        }
    }

    /// Whether only those want it that do not take native histograms.
    pub const fn classic_only(self) -> bool {
        self as u8 & 1 != 0
    }

    /// Whether its samples carry times of their own.
    pub const fn timed(self) -> bool {
        self as u8 & 2 != 0
    }
}

/// An ordered list of series, which sources that say the same share. Two lists are the same if their `id` is.
pub struct SeriesList {
    id: u64,
    table: Arc<SeriesTable>,
    floats: Box<[(SeriesId, Form)]>,
    histograms: Box<[SeriesId]>,
}

/// The ordered series of a source. Two shapes are the same if and only if their `id` is.
pub struct Shape {
    id: u64,
    pub source: Arc<Source>,
    list: Arc<SeriesList>,
    starts: Box<[i64]>,
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl SeriesList {
    /// Takes over one use of each series, which it gives back when it is dropped.
    pub fn new(
        table: Arc<SeriesTable>,
        floats: Vec<(SeriesId, Form)>,
        histograms: Vec<SeriesId>,
    ) -> Arc<Self> {
        let (floats, histograms) = (floats.into(), histograms.into());
        Arc::new(SeriesList { id: next_id(), table, floats, histograms })
    }

    /// Unique while the process lives.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn floats(&self) -> &[(SeriesId, Form)] {
        &self.floats
    }

    pub fn histograms(&self) -> &[SeriesId] {
        &self.histograms
    }

    /// All of its series: those of the floats, then those of the histograms.
    pub fn series(&self) -> impl Iterator<Item = SeriesId> {
        self.floats.iter().map(|&(id, _)| id).chain(self.histograms.iter().copied())
    }

    pub fn table(&self) -> &Arc<SeriesTable> {
        &self.table
    }

    /// Whether it has no series at all.
    pub fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    /// What this list has and `other` lacks: floats, histograms. Each series stands there once.
    pub fn missing_from(&self, other: &SeriesList) -> (Vec<(SeriesId, Form)>, Vec<SeriesId>) {
        let floats = missing(&self.floats, &other.floats, |entry| entry.0);
        (floats, missing(&self.histograms, &other.histograms, |&id| id))
    }
}

/// The entries of `list` whose series `other` lacks. What both begin and end with is passed over cheaply.
fn missing<T: Copy>(list: &[T], other: &[T], id: impl Fn(&T) -> SeriesId) -> Vec<T> {
    let same = |a: &T, b: &T| id(a) == id(b);
    let head = list.iter().zip(other).take_while(|(a, b)| same(a, b)).count();
    let (rest, others) = (&list[head..], &other[head..]);
    let tail = rest.iter().rev().zip(others.iter().rev()).take_while(|(a, b)| same(a, b)).count();
    let (rest, others) = (&rest[..rest.len() - tail], &others[..others.len() - tail]);
    if rest.is_empty() {
        return Vec::new();
    }
    let mut known: HashSet<SeriesId> = others.iter().map(&id).collect();
    let mut found: Vec<T> = rest.iter().filter(|entry| known.insert(id(entry))).copied().collect();
    // A series may stand twice in a list, so also where both are the same.
    if found.len() > FEW {
        let both: HashSet<SeriesId> =
            list[..head].iter().chain(&list[list.len() - tail..]).map(&id).collect();
        found.retain(|entry| !both.contains(&id(entry)));
    } else {
        let both = || list[..head].iter().chain(&list[list.len() - tail..]);
        found.retain(|entry| !both().any(|other| same(entry, other)));
    }
    found
}

/// Series that are looked for one by one.
const FEW: usize = 8;

impl Drop for SeriesList {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        for id in self.floats.iter().map(|&(id, _)| id).chain(self.histograms.iter().copied()) {
            table.release(id);
        }
    }
}

impl Shape {
    /// Takes over one use of each series, which it gives back when it is dropped.
    pub fn new(
        source: Arc<Source>,
        table: Arc<SeriesTable>,
        floats: Vec<(SeriesId, Form)>,
        histograms: Vec<SeriesId>,
    ) -> Arc<Self> {
        Shape::of_list(source, SeriesList::new(table, floats, histograms))
    }

    /// The shape of a source whose series are those of `list`.
    pub fn of_list(source: Arc<Source>, list: Arc<SeriesList>) -> Arc<Self> {
        Shape::started(source, list, Box::default())
    }

    /// The same where it is known when the counting of its series began: milliseconds since 1970-01-01 UTC, or 0,
    /// of each float and then of each histogram. Starts change so seldom that they belong to the shape: neither
    /// the log nor an encoder looks at them again while it stays the same.
    ///
    /// # Panics
    /// Where `starts` is neither empty nor has one for each series.
    pub fn started(source: Arc<Source>, list: Arc<SeriesList>, starts: Box<[i64]>) -> Arc<Self> {
        assert!(starts.is_empty() || starts.len() == list.floats.len() + list.histograms.len());
        Arc::new(Shape { id: next_id(), source, list, starts })
    }

    /// Unique while the process lives.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The list that this source may share with others.
    pub fn list(&self) -> &Arc<SeriesList> {
        &self.list
    }

    /// Empty where none is known.
    pub fn starts(&self) -> &[i64] {
        &self.starts
    }

    /// When the counting of a float began, 0 where that is not known.
    pub fn float_start(&self, index: usize) -> i64 {
        self.starts.get(index).copied().unwrap_or(0)
    }

    /// The same for a histogram.
    pub fn histogram_start(&self, index: usize) -> i64 {
        self.starts.get(self.list.floats.len() + index).copied().unwrap_or(0)
    }

    /// The series of the float values, in the order of [`super::Batch::values`].
    pub fn floats(&self) -> &[(SeriesId, Form)] {
        &self.list.floats
    }

    /// The series of the native histograms, in the order of [`super::Batch::histograms`].
    pub fn histograms(&self) -> &[SeriesId] {
        &self.list.histograms
    }

    pub fn table(&self) -> &Arc<SeriesTable> {
        &self.list.table
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shape {} of {} ({} series)", self.id, self.source.name, self.floats().len())
    }
}
