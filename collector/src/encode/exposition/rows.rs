//! The samples of a page, sorted, without those that contradict what came before them.

use std::cmp::Ordering;

use hashbrown::{HashMap, HashSet};

use crate::model::{Batch, Kind, SeriesId, SeriesView, TableGuard};

/// What was left out because it contradicts what came first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conflicts {
    /// Samples whose name and labels another source had given already.
    pub duplicates: u64,
    /// Samples of families whose type another source had given otherwise.
    pub types: u64,
}

/// Where a value of a page stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) batch: u32,
    pub(super) position: u32,
}

impl Place {
    fn new(batch: usize, position: usize) -> Self {
        let number = |n: usize| u32::try_from(n).expect("a page has fewer than 2^32 samples");
        Place { batch: number(batch), position: number(position) }
    }

    pub(super) fn value(self, batches: &[Batch]) -> f64 {
        batches[self.batch as usize].values[self.position as usize]
    }
}

/// One sample on its way into a layout.
pub(super) struct Row<'a> {
    pub(super) series: SeriesView<'a>,
    pub(super) place: Place,
    /// Whether the place is one among the native histograms.
    pub(super) is_native: bool,
}

/// The rows of a page, in its order.
pub(super) fn collect_rows<'a>(
    batches: &[Batch],
    table: &'a TableGuard<'_>,
    only: &[String],
    conflicts: &mut Conflicts,
) -> Vec<Row<'a>> {
    let mut seen: HashSet<SeriesId> = HashSet::new();
    let mut kinds: HashMap<&str, Kind> = HashMap::new();
    let mut rows = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        let floats = batch.shape().floats().iter().map(|&(id, _)| (id, false));
        let histograms = batch.shape().histograms().iter().map(|&id| (id, true));
        for (position, (id, is_native)) in floats.enumerate().chain(histograms.enumerate()) {
            let series = table.view(id);
            if !seen.insert(id) {
                conflicts.duplicates += 1;
            } else if *kinds.entry(series.family()).or_insert(series.kind()) != series.kind() {
                conflicts.types += 1;
            } else if only.is_empty() || only.iter().any(|name| name == series.family()) {
                rows.push(Row { series, place: Place::new(number, position), is_native });
            }
        }
    }
    rows.sort_by(|a, b| compare(&a.series, &b.series));
    rows
}

/// Families by name; within one, fewer labels first, then label values in the order of their names. The parts
/// of a histogram stay together, in the order in which they were given (the sort is stable).
fn compare(a: &SeriesView<'_>, b: &SeriesView<'_>) -> Ordering {
    a.family().cmp(b.family()).then_with(|| {
        let values = |series| own_labels(series).map(|(_, value)| value);
        let by_count = values(*a).count().cmp(&values(*b).count());
        by_count.then_with(|| values(*a).cmp(values(*b)))
    })
}

/// The labels of a sample, without that which only tells the parts of a histogram or summary apart.
pub(super) fn own_labels<'a>(series: SeriesView<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
    let part = part_label(series.kind());
    series.labels().filter(move |&(name, _)| name != part)
}

/// The label that tells the parts of a histogram or summary apart, "" for other types.
pub(super) fn part_label(kind: Kind) -> &'static str {
    match kind {
        Kind::Histogram | Kind::GaugeHistogram => "le",
        Kind::Summary => "quantile",
        _ => "",
    }
}
