//! Remote write 2.0 (`io.prometheus.write.v2.Request`): one table of strings for the request, and series that
//! refer to it.
//!
//! The numbers depend on all that is in the request, so its bytes are right as a whole only. Symbols that many
//! series use get the low numbers, which take one byte.

use hashbrown::HashMap;

use super::layout::{Frame, Layout, Ordered, Place, walk};
use super::protobuf::{encode_bytes, encode_double, encode_number, encode_varint};
use super::remote_write::Options;
use crate::model::Kind;

/// `Request.timeseries`, `TimeSeries.histograms`.
pub(super) const FRAME: Frame = Frame { series: 0x2a, histogram: 0x1a, starts: true };
/// Numbers below this take one byte.
const SHORT: usize = 128;

/// A series with the numbers of first sight.
struct Series {
    place: Place,
    kind: Kind,
    help: u32,
    unit: u32,
    labels_end: usize,
    /// How many exemplars its batch has for it.
    exemplars: usize,
}

/// The strings of a request, numbered as they were first seen, with their uses.
struct Strings {
    numbers: HashMap<Box<str>, u32>,
    uses: Vec<u32>,
}

impl Strings {
    fn number(&mut self, text: &str) -> u32 {
        let next = self.uses.len() as u32;
        let number = match self.numbers.get(text) {
            Some(&number) => number,
            None => *self.numbers.entry(text.into()).or_insert(next),
        };
        if number == next {
            self.uses.push(0);
        }
        self.uses[number as usize] += 1;
        number
    }

    /// Appends the strings in their final order; gives the final number of each.
    fn encode(&self, out: &mut Vec<u8>) -> Vec<u32> {
        let mut texts = vec![""; self.uses.len()];
        for (text, &number) in &self.numbers {
            texts[number as usize] = text;
        }
        let mut order: Vec<u32> = (0..self.uses.len() as u32).collect();
        if order.len() > SHORT {
            order[1..].sort_by_key(|&n| std::cmp::Reverse(self.uses[n as usize]));
            order[1..SHORT].sort_unstable();
            order[SHORT..].sort_unstable();
        }
        let mut finals = vec![0; order.len()];
        for (last, &number) in (0u32..).zip(&order) {
            finals[number as usize] = last;
            encode_bytes(0x22, texts[number as usize].as_bytes(), out);
        }
        finals
    }
}

pub(super) fn lay_out(options: &Options, batches: Ordered<'_>, layout: &mut Layout) {
    let mut strings = Strings { numbers: HashMap::new(), uses: Vec::new() };
    strings.number("");
    let (mut refs, mut all) = (Vec::new(), Vec::new());
    walk(options, batches, |place, view, labels| {
        for (name, value) in labels {
            refs.extend([strings.number(name), strings.number(value)]);
        }
        let (help, unit) = if options.help { (view.help(), view.unit()) } else { ("", "") };
        let (help, unit) = (strings.number(help), strings.number(unit));
        let labels_end = refs.len();
        let mut exemplars = 0;
        if options.exemplars {
            for exemplar in place.exemplars(batches) {
                exemplars += 1;
                for (name, value) in exemplar.labels() {
                    refs.extend([strings.number(name), strings.number(value)]);
                }
            }
        }
        all.push(Series { place, kind: view.kind(), help, unit, labels_end, exemplars });
    });
    let finals = strings.encode(&mut layout.bytes);
    let (mut packed, mut prefix, mut suffix) = (Vec::new(), Vec::new(), Vec::new());
    let mut start = 0;
    for series in &all {
        packed.clear();
        for &number in &refs[start..series.labels_end] {
            encode_varint(u64::from(finals[number as usize]), &mut packed);
        }
        start = series.labels_end;
        prefix.clear();
        encode_bytes(0x0a, &packed, &mut prefix);
        packed.clear();
        encode_number(0x08, series.kind as u64, &mut packed);
        encode_number(0x18, u64::from(finals[series.help as usize]), &mut packed);
        encode_number(0x20, u64::from(finals[series.unit as usize]), &mut packed);
        suffix.clear();
        if series.exemplars > 0 {
            start += encode_exemplars(series.place, batches, &refs[start..], &finals, &mut suffix);
            layout.exemplars += series.exemplars;
        }
        encode_bytes(0x2a, &packed, &mut suffix);
        layout.push(FRAME, (&prefix, &suffix), series.place, batches);
    }
}

/// Appends the exemplars of one series, whose labels have the first of `refs`; says how many of those they are.
fn encode_exemplars(
    place: Place,
    batches: Ordered<'_>,
    refs: &[u32],
    finals: &[u32],
    out: &mut Vec<u8>,
) -> usize {
    let (mut packed, mut message, mut taken) = (Vec::new(), Vec::new(), 0);
    for exemplar in place.exemplars(batches) {
        let count = exemplar.labels().len() * 2;
        packed.clear();
        for &number in &refs[taken..taken + count] {
            encode_varint(u64::from(finals[number as usize]), &mut packed);
        }
        taken += count;
        message.clear();
        if !packed.is_empty() {
            encode_bytes(0x0a, &packed, &mut message);
        }
        encode_double(0x11, exemplar.value(), &mut message);
        encode_number(0x18, exemplar.time_ms() as u64, &mut message);
        encode_bytes(0x22, &message, out);
    }
    taken
}
