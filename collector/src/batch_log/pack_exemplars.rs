//! The exemplars of a batch: they close its record, which has nothing of them where there are none.
//!
//! Each is its position (the difference to the one before, above two bits: whether it is a histogram's, and whether
//! its time is its own), its time as the difference to the batch's, its value as any value that comes first, and
//! its labels. Names that stand where they stood in the one before take one byte.

use super::numbers::{Input, encode_number, encode_signed, encode_text};
use super::pack::{Last, decode_changed, encode_changed};
use crate::model::{Exemplars, MAX_EXEMPLARS, Of};

const HISTOGRAM: u64 = 1;
const OWN_TIME: u64 = 2;
/// No exemplar has more labels: OpenMetrics' limit of characters leaves room for fewer.
const MAX_LABELS: usize = 128;

pub(super) fn encode_exemplars(time_ms: i64, exemplars: &Exemplars, out: &mut Vec<u8>) {
    if exemplars.is_empty() {
        return;
    }
    encode_number(exemplars.len() as u64, out);
    let (mut names, mut before) = (Vec::new(), Of::Float(0));
    for exemplar in exemplars.iter() {
        let of = exemplar.of();
        let (position, flag) = match of {
            Of::Float(position) => (position, 0),
            Of::Histogram(position) => (position, HISTOGRAM),
        };
        let moved = position.wrapping_sub(place(before, of));
        let flags = flag | if exemplar.has_time() { OWN_TIME } else { 0 };
        encode_number(u64::from(moved) << 2 | flags, out);
        before = of;
        encode_signed(exemplar.time_ms().wrapping_sub(time_ms), out);
        encode_changed(&mut Last::default(), exemplar.value(), out);
        encode_number(exemplar.labels().len() as u64, out);
        for (at, (name, text)) in exemplar.labels().enumerate() {
            if names.get(at) == Some(&name) {
                out.push(0);
            } else {
                encode_number(name.len() as u64 + 1, out);
                out.extend_from_slice(name.as_bytes());
                names.truncate(at);
                names.push(name);
            }
            encode_text(text, out);
        }
    }
}

/// What of the last position counts for the next: that of a series of the same kind.
fn place(before: Of, of: Of) -> u32 {
    match (before, of) {
        (Of::Float(place), Of::Float(_)) | (Of::Histogram(place), Of::Histogram(_)) => place,
        _ => 0,
    }
}

/// Fills `exemplars` with what [`encode_exemplars`] appended for a batch of so many floats and histograms.
pub(super) fn decode_exemplars(
    time_ms: i64,
    (floats, histograms): (usize, usize),
    input: &mut Input<'_>,
    exemplars: &mut Exemplars,
) -> Option<()> {
    if input.0.is_empty() {
        return Some(());
    }
    let count = input.count().filter(|&count| count <= MAX_EXEMPLARS)?;
    let (mut names, mut before) = (Vec::<&str>::new(), Of::Float(0));
    for _ in 0..count {
        let number = input.number()?;
        let moved = u32::try_from(number >> 2).ok()?;
        let (kind, most) = match number & HISTOGRAM {
            0 => (Of::Float as fn(u32) -> Of, floats),
            _ => (Of::Histogram as fn(u32) -> Of, histograms),
        };
        let position = place(before, kind(0)).checked_add(moved).filter(|&at| (at as usize) < most)?;
        before = kind(position);
        let time = time_ms.wrapping_add(input.signed()?);
        let mut last = Last::default();
        decode_changed(&mut last, input)?;
        exemplars.push(before, last.value(), time, number & OWN_TIME != 0);
        for at in 0..input.count().filter(|&count| count <= MAX_LABELS)? {
            let length = usize::try_from(input.number()?).ok()?;
            if length > 0 {
                names.truncate(at);
                names.push(std::str::from_utf8(input.bytes(length - 1)?).ok()?);
            }
            exemplars.push_label(names.get(at)?, input.text()?);
        }
    }
    Some(())
}
