//! The plain bytes of a request, and where in them the values stand: what a plan is made from, and what is
//! compressed the usual way when there is no plan.

use std::borrow::Borrow;
use std::ops::Range;

use super::histogram::{encode_histogram, encode_start};
use super::labels::{WireLabels, wire_labels};
use super::protobuf::{encode_number, encode_varint, varint_len};
use super::remote_write::{Options, Protocol};
use super::{remote_write_v1, remote_write_v2};
use crate::model::{Batch, CUSTOM_BUCKETS, Exemplar, NO_SAMPLE, Of, SeriesView};

/// The batches of a request, however the caller holds them.
pub(super) trait Batches {
    fn at(&self, index: usize) -> &Batch;
}

impl<B: Borrow<Batch>> Batches for &[B] {
    fn at(&self, index: usize) -> &Batch {
        self[index].borrow()
    }
}

/// The batches of a request in the order in which they are encoded.
#[derive(Clone, Copy)]
pub(super) struct Ordered<'a> {
    pub batches: &'a dyn Batches,
    pub order: &'a [u32],
}

impl<'a> Ordered<'a> {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn get(&self, at: u32) -> &'a Batch {
        self.batches.at(self.order[at as usize] as usize)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = &'a Batch> {
        self.order.iter().map(move |&at| self.batches.at(at as usize))
    }
}

/// Consecutive values of one batch that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub batch: u32,
    pub first: u32,
    pub length: u32,
}

/// The first of consecutive values that have the time of `batch`.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeGroup {
    pub value: u32,
    pub batch: u32,
}

/// A native histogram that is sent: its constant fields are `kept[start..middle]` before the histogram and
/// `kept[middle..end]` after it.
#[derive(Clone, Copy, Debug)]
struct HistogramSlot {
    batch: u32,
    index: u32,
    start: u32,
    middle: u32,
    end: u32,
}

/// The key bytes in which the protocols differ.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub series: u8,
    pub histogram: u8,
    /// Whether samples say when their counting began.
    pub starts: bool,
}

/// Everything of a request's native histograms that stays the same.
#[derive(Clone, Default, Debug)]
pub(super) struct Histograms {
    slots: Vec<HistogramSlot>,
    kept: Vec<u8>,
}

/// Bytes of a label of the source, which another source may have otherwise: `length` of them at `at` are those of label
/// `label` from its byte `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub at: u32,
    pub label: u16,
    pub first: u16,
    pub length: u16,
}

/// A request laid out. `values[i]` is where in `bytes` value `i` stands; its time follows one byte after it.
#[derive(Default)]
pub(super) struct Layout {
    pub bytes: Vec<u8>,
    pub values: Vec<u32>,
    pub times: Vec<TimeGroup>,
    pub runs: Vec<Run>,
    pub histograms: Histograms,
    /// Where labels of the source stand, in a layout that serves all sources of its list whose labels are as long.
    pub marks: Vec<Mark>,
    /// Then a number for each byte: 0, or which byte of which label of the source it is.
    pub origins: Vec<u16>,
    /// Exemplars that the series have with them.
    pub exemplars: usize,
}

/// The first number of [`Layout::origins`].
const FIRST_ORIGIN: u16 = 1;
/// With more bytes of labels than this, every source has a plan of its own.
pub(super) const MAX_ORIGINS: usize = 16 << 10;

/// Which value or histogram of which batch (counted in the order of encoding).
#[derive(Clone, Copy)]
pub(super) enum Place {
    Float { batch: u32, index: u32 },
    Histogram { batch: u32, index: u32 },
}

impl Place {
    /// The exemplars of that sample.
    pub(super) fn exemplars(self, batches: Ordered<'_>) -> impl Iterator<Item = Exemplar<'_>> {
        let (batch, of) = match self {
            Place::Float { batch, index } => (batch, Of::Float(index)),
            Place::Histogram { batch, index } => (batch, Of::Histogram(index)),
        };
        batches.get(batch).exemplars.of(of)
    }
}

impl Layout {
    /// Where the bytes before value `number` stand, after the value before it; for the number of values, those
    /// behind all.
    pub(super) fn gap(&self, number: usize) -> Range<usize> {
        let from = number.checked_sub(1).map_or(0, |last| self.values[last] as usize + 8);
        from..self.values.get(number).map_or(self.bytes.len(), |&at| at as usize)
    }

    /// Value `number` as it stands in the bytes.
    pub(super) fn value(&self, number: usize) -> u64 {
        let at = self.values[number] as usize;
        u64::from_le_bytes(*self.bytes[at..].first_chunk().expect("eight bytes"))
    }

    /// Lays out a request anew. Locks the series table.
    pub(super) fn lay_out(&mut self, options: &Options, batches: Ordered<'_>) {
        self.bytes.clear();
        self.values.clear();
        self.times.clear();
        self.runs.clear();
        self.histograms.slots.clear();
        self.histograms.kept.clear();
        self.marks.clear();
        self.origins.clear();
        self.exemplars = 0;
        match options.protocol {
            Protocol::V1 => remote_write_v1::lay_out(options, batches, self),
            Protocol::V2 => remote_write_v2::lay_out(options, batches, self),
        }
    }

    /// Makes the layout one for all sources whose labels have these lengths.
    pub(super) fn share(&mut self, labels: &[(String, String)]) {
        let mut next = usize::from(FIRST_ORIGIN);
        let first_of = |(_, value): &(String, String)| {
            next += value.len();
            next - value.len()
        };
        let firsts: Vec<usize> = labels.iter().map(first_of).collect();
        self.origins.resize(self.bytes.len(), 0);
        for mark in &self.marks {
            let number = firsts[usize::from(mark.label)];
            let bytes = &mut self.origins[mark.at as usize..][..usize::from(mark.length)];
            bytes.iter_mut().zip(number as u16..).for_each(|(origin, number)| *origin = number);
        }
    }

    /// Appends to `fills` what of `range` belongs to the source, as it stands in constants of which the range begins at
    /// `at`.
    pub(super) fn fills(&self, range: &Range<usize>, at: usize, fills: &mut Vec<Mark>) {
        let from =
            self.marks.partition_point(|mark| mark.at as usize + usize::from(mark.length) <= range.start);
        for mark in self.marks[from..].iter().take_while(|mark| (mark.at as usize) < range.end) {
            let begin = mark.at as usize;
            let (first, end) = (begin.max(range.start), (begin + usize::from(mark.length)).min(range.end));
            fills.push(Mark {
                at: (at + first - range.start) as u32,
                label: mark.label,
                first: (first - begin) as u16,
                length: (end - first) as u16,
            });
        }
    }

    /// Adds one series of one batch: `prefix` and `suffix` are the fields before and after its sample. Gives where the
    /// prefix stands in the bytes; that of a histogram stands elsewhere.
    pub(super) fn push(
        &mut self,
        frame: Frame,
        (prefix, suffix): (&[u8], &[u8]),
        place: Place,
        batches: Ordered<'_>,
    ) -> Option<usize> {
        match place {
            Place::Float { batch, index } => {
                Some(self.push_float(frame, prefix, suffix, (batch, index), batches))
            }
            Place::Histogram { batch, index } => {
                let kept = &mut self.histograms.kept;
                let start = kept.len() as u32;
                kept.extend_from_slice(prefix);
                let middle = kept.len() as u32;
                kept.extend_from_slice(suffix);
                let end = kept.len() as u32;
                self.histograms.slots.push(HistogramSlot { batch, index, start, middle, end });
                None
            }
        }
    }

    fn push_float(
        &mut self,
        frame: Frame,
        prefix: &[u8],
        suffix: &[u8],
        (batch, index): (u32, u32),
        batches: Ordered<'_>,
    ) -> usize {
        let (source, out) = (batches.get(batch), &mut self.bytes);
        let time = source.time(index as usize) as u64;
        let start = if frame.starts { source.shape().float_start(index as usize) as u64 } else { 0 };
        let sample = 10 + varint_len(time) + if start == 0 { 0 } else { 1 + varint_len(start) };
        out.push(frame.series);
        encode_varint((prefix.len() + 2 + sample + suffix.len()) as u64, out);
        let at = out.len();
        out.extend_from_slice(prefix);
        out.extend_from_slice(&[0x12, sample as u8, 0x09]);
        let number = self.values.len() as u32;
        self.values.push(out.len() as u32);
        out.extend_from_slice(&source.values[index as usize].to_le_bytes());
        out.push(0x10);
        encode_varint(time, out);
        encode_number(0x18, start, out);
        out.extend_from_slice(suffix);
        // Batches without a value in between count: what has a plan is the order of times, not the times.
        let differs = |at: u32| batches.get(at).time_ms != batches.get(at - 1).time_ms;
        if self.times.last().is_none_or(|last| (last.batch + 1..=batch).any(differs)) {
            self.times.push(TimeGroup { value: number, batch });
        }
        match self.runs.last_mut() {
            Some(run) if run.batch == batch && run.first + run.length == index => run.length += 1,
            _ => self.runs.push(Run { batch, first: index, length: 1 }),
        }
        at
    }
}

impl Histograms {
    pub(super) fn memory(&self) -> usize {
        self.slots.len() * size_of::<HistogramSlot>() + self.kept.len()
    }

    pub(super) fn shrink(&mut self) {
        self.slots.shrink_to_fit();
        self.kept.shrink_to_fit();
    }

    /// Appends each histogram's series, plain; says how many.
    pub(super) fn encode(
        &self,
        frame: Frame,
        batches: Ordered<'_>,
        message: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> usize {
        let mut count = 0;
        for slot in &self.slots {
            let batch = batches.get(slot.batch);
            message.clear();
            let histogram = &batch.histograms()[slot.index as usize];
            // Version 1.0 has no field for listed bounds.
            if frame.series == super::remote_write_v1::FRAME.series && histogram.schema == CUSTOM_BUCKETS {
                continue;
            }
            encode_histogram(histogram, batch.histogram_time(slot.index as usize), message);
            if frame.starts {
                encode_start(batch.shape().histogram_start(slot.index as usize), message);
            }
            let constant = (slot.end - slot.start) as usize;
            let length = constant + 1 + varint_len(message.len() as u64) + message.len();
            out.push(frame.series);
            encode_varint(length as u64, out);
            out.extend_from_slice(&self.kept[slot.start as usize..slot.middle as usize]);
            super::protobuf::encode_bytes(frame.histogram, message, out);
            out.extend_from_slice(&self.kept[slot.middle as usize..slot.end as usize]);
            count += 1;
        }
        count
    }
}

/// Calls `each` for every series that is to be sent, in order: the floats of a batch, then its histograms.
pub(super) fn walk(
    options: &Options,
    batches: Ordered<'_>,
    mut each: impl FnMut(Place, SeriesView<'_>, &WireLabels<'_>),
) {
    for (batch, source) in (0u32..).zip(batches.iter()) {
        let shape = source.shape();
        let table = shape.table().lock();
        let mut labels = Vec::new();
        for (index, &(id, form)) in (0u32..).zip(shape.floats()) {
            let wanted = !(form.classic_only() && options.native_histograms);
            let wanted = wanted && source.time(index as usize) != NO_SAMPLE;
            let view = table.view(id);
            if wanted && wire_labels(view, &shape.source, options, &mut labels) {
                each(Place::Float { batch, index }, view, &labels);
            }
        }
        if options.native_histograms {
            for (index, &id) in (0u32..).zip(shape.histograms()) {
                let view = table.view(id);
                let wanted = source.histogram_time(index as usize) != NO_SAMPLE;
                if wanted && wire_labels(view, &shape.source, options, &mut labels) {
                    each(Place::Histogram { batch, index }, view, &labels);
                }
            }
        }
    }
}
