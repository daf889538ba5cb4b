//! Exemplars: single observations, each with labels of its own, that ride with the samples of a batch.

/// OpenMetrics' limit: characters of all label names and values together.
pub const MAX_EXEMPLAR_CHARACTERS: usize = 128;

/// Exemplars of one batch; what a page has beyond is left out.
pub const MAX_EXEMPLARS: usize = 10_000;

/// Whose exemplar it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Of {
    /// The float at this position of the batch.
    Float(u32),
    /// The native histogram at this position.
    Histogram(u32),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    of: Of,
    value: f64,
    time_ms: i64,
    /// The target said no time: it is that of the sample.
    has_time: bool,
    /// Its labels are `ends[first..last]`.
    first: u32,
    last: u32,
}

/// The exemplars of a batch: by position once they are settled. They take no memory where there are none.
#[derive(Default, Debug)]
pub struct Exemplars {
    entries: Vec<Entry>,
    /// Where each label's name and value end in `text`.
    ends: Vec<(u32, u32)>,
    text: String,
}

/// One exemplar of a batch.
#[derive(Clone, Copy)]
pub struct Exemplar<'a> {
    all: &'a Exemplars,
    entry: &'a Entry,
}

impl Exemplars {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.ends.clear();
        self.text.clear();
    }

    /// Adds one at `time_ms`; without a time of its own where `has_time` is false. Its labels follow with
    /// [`Exemplars::push_label`].
    pub fn push(&mut self, of: Of, value: f64, time_ms: i64, has_time: bool) {
        let end = self.ends.len() as u32;
        self.entries.push(Entry { of, value, time_ms, has_time, first: end, last: end });
    }

    /// Adds a label to the one that was pushed last.
    pub fn push_label(&mut self, name: &str, value: &str) {
        let Some(entry) = self.entries.last_mut() else { return };
        self.text.push_str(name);
        let middle = self.text.len() as u32;
        self.text.push_str(value);
        self.ends.push((middle, self.text.len() as u32));
        entry.last += 1;
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Exemplar<'_>> {
        self.entries.iter().map(|entry| Exemplar { all: self, entry })
    }

    /// Those of one series, once all are settled.
    pub fn of(&self, of: Of) -> impl Iterator<Item = Exemplar<'_>> {
        let first = self.entries.partition_point(|entry| entry.of < of);
        self.entries[first..]
            .iter()
            .take_while(move |entry| entry.of == of)
            .map(|entry| Exemplar { all: self, entry })
    }

    /// Gives each to the series that `rename` says, or takes it out.
    pub fn rename(&mut self, rename: impl Fn(Of) -> Option<Of>) {
        self.entries.retain_mut(|entry| rename(entry.of).map(|of| entry.of = of).is_some());
    }

    /// Orders them by position and time, and keeps those of which `keep` says so.
    pub fn settle(&mut self, mut keep: impl FnMut(Exemplar<'_>) -> bool) {
        self.entries.sort_by_key(|entry| (entry.of, entry.time_ms));
        let mut entries = std::mem::take(&mut self.entries);
        entries.retain(|entry| keep(Exemplar { all: self, entry }));
        self.entries = entries;
    }

    /// Makes it a copy of `other` in the memory that is there.
    pub fn copy_from(&mut self, other: &Exemplars) {
        self.entries.clone_from(&other.entries);
        self.ends.clone_from(&other.ends);
        self.text.clone_from(&other.text);
    }
}

impl<'a> Exemplar<'a> {
    pub fn of(&self) -> Of {
        self.entry.of
    }

    pub fn value(&self) -> f64 {
        self.entry.value
    }

    pub fn time_ms(&self) -> i64 {
        self.entry.time_ms
    }

    /// Whether the time is one that the target said.
    pub fn has_time(&self) -> bool {
        self.entry.has_time
    }

    /// Names and values, in the order of the page.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + use<'a> {
        let Exemplars { ends, text, .. } = self.all;
        (self.entry.first as usize..self.entry.last as usize).map(move |at| {
            let start = at.checked_sub(1).map_or(0, |before| ends[before].1) as usize;
            let (middle, end) = (ends[at].0 as usize, ends[at].1 as usize);
            (&text[start..middle], &text[middle..end])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_ones_are_found_by_their_series() {
        let mut all = Exemplars::default();
        for (of, time, id) in [
            (Of::Histogram(0), 5, "c"),
            (Of::Float(7), 9, "b"),
            (Of::Float(7), 3, "a"),
            (Of::Float(2), 1, "gone"),
        ] {
            all.push(of, 1.5, time, true);
            all.push_label("trace_id", id);
            all.push_label("span", "");
        }
        all.settle(|exemplar| exemplar.labels().all(|label| label.1 != "gone"));
        let ids = |of| all.of(of).map(|one| one.labels().next().unwrap().1).collect::<String>();
        assert_eq!([ids(Of::Float(7)), ids(Of::Histogram(0)), ids(Of::Float(2))], ["ab", "c", ""]);
        let mut copy = Exemplars::default();
        copy.copy_from(&all);
        assert_eq!((copy.len(), copy.iter().next().unwrap().labels().len()), (3, 2));
        copy.clear();
        assert!(copy.is_empty());
    }
}
