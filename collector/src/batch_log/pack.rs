//! A batch packed against the one before it of the same shape.
//!
//! First the time, as the difference to the last; then a bit for each value that says whether its bits changed;
//! then, for each that did, either of
//!
//! - the difference of two whole numbers, where the value is a whole number of units, hundredths, thousandths,
//!   by the scale of its position (a counter of hundredths of seconds moves by small whole numbers, though no
//!   double shows it): a varint whose lowest bit is 0;
//! - a byte whose low bits are 01 and the others a new scale, and the whole number itself;
//! - a byte whose low bits are 11, and the bits that differ from the last value's, without the zero bytes at both
//!   ends: the byte's next three bits say how many those are at the low end, its high three bits how many bytes
//!   follow, less one.
//!
//! Where samples have times of their own, these follow behind all else, each as the difference to the one before
//! it in the batch; a record that ends before them has none. Exemplars follow them (`pack_exemplars.rs`).
//!
//! Numbers come back bit for bit: a scale is used for a value only where it gives back the same bits.

use super::numbers::{Input, encode_number, encode_signed, unzigzag, varint, zigzag};
use super::pack_exemplars::{decode_exemplars, encode_exemplars};
use super::pack_histogram::HistogramState;
use crate::model::{Batch, NO_SAMPLE};

/// How many whole numbers make one unit.
static SCALES: [f64; 6] = [1.0, 100.0, 1000.0, 1e6, 1e9, 10.0];
/// The position's last value was a whole number by no scale.
const NO_SCALE: u8 = 0xff;
/// Bytes for a group of eight values, none of which takes or is written as more than nine.
const GROUP_ROOM: usize = 8 * 9;
/// Up to here a sum of doubles has room for a half.
const SHIFTED: f64 = 2_251_799_813_685_248.0;
/// Whole numbers beyond this are not all doubles.
const MAX_WHOLE: i64 = 1 << 53;

/// One position of a shape: its last value, and the scale by which that is a whole number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    bits: u64,
    scale: u8,
}

impl Default for Last {
    fn default() -> Self {
        Last { bits: 0, scale: NO_SCALE }
    }
}

impl Last {
    pub(super) fn value(self) -> f64 {
        f64::from_bits(self.bits)
    }
}

/// The last batch of a shape, as the writer and every reader know it.
#[derive(Default)]
pub(super) struct State {
    time_ms: i64,
    bits: Vec<u64>,
    scales: Vec<u8>,
    histograms: Vec<HistogramState>,
}

impl State {
    /// Forgets the last batch: the next stands alone.
    pub(super) fn reset(&mut self, floats: usize, histograms: usize) {
        self.time_ms = 0;
        self.bits.clear();
        self.bits.resize(floats, 0);
        self.scales.clear();
        self.scales.resize(floats, NO_SCALE);
        self.histograms.truncate(histograms);
        self.histograms.iter_mut().for_each(HistogramState::reset);
        self.histograms.resize_with(histograms, HistogramState::default);
    }

    /// Appends `batch`, which has the shape that this state was reset for.
    pub(super) fn encode(&mut self, batch: &Batch, out: &mut Vec<u8>) {
        encode_signed(batch.time_ms.wrapping_sub(self.time_ms), out);
        self.time_ms = batch.time_ms;
        assert_eq!(batch.values.len(), self.bits.len(), "a batch has a value for each position of its shape");
        let bitmap = out.len();
        out.resize(bitmap + self.bits.len().div_ceil(8), 0);
        for (group, values) in batch.values.chunks(8).enumerate() {
            let base = group * 8;
            let last = &self.bits[base..base + values.len()];
            let mut changed = 0u8;
            for (n, (value, last)) in values.iter().zip(last).enumerate() {
                changed |= u8::from(value.to_bits() != *last) << n;
            }
            out[bitmap + group] = changed;
            let (bits, scales) = (&mut self.bits[base..], &mut self.scales[base..]);
            encode_group(changed, values, &mut bits[..values.len()], &mut scales[..values.len()], out);
        }
        assert_eq!(batch.histograms().len(), self.histograms.len(), "and a histogram for each of those");
        for (state, histogram) in self.histograms.iter_mut().zip(batch.histograms()) {
            state.encode(histogram, out);
        }
        if !batch.one_time() || !batch.exemplars.is_empty() {
            encode_times(batch.time_ms, &batch.times, out);
            encode_times(batch.time_ms, &batch.histogram_times, out);
            encode_exemplars(batch.time_ms, &batch.exemplars, out);
        }
    }

    /// Fills `batch` with what [`State::encode`] appended; `None` where the bytes make no sense.
    pub(super) fn decode(&mut self, input: &mut Input<'_>, batch: &mut Batch) -> Option<()> {
        self.time_ms = self.time_ms.wrapping_add(input.signed()?);
        batch.time_ms = self.time_ms;
        let bitmap = input.bytes(self.bits.len().div_ceil(8))?;
        for (group, &changed) in bitmap.iter().enumerate() {
            let mut changed = changed;
            while changed != 0 {
                let at = group * 8 + changed.trailing_zeros() as usize;
                changed &= changed - 1;
                let mut last = Last { bits: *self.bits.get(at)?, scale: self.scales[at] };
                decode_changed(&mut last, input)?;
                (self.bits[at], self.scales[at]) = (last.bits, last.scale);
            }
        }
        batch.values.extend(self.bits.iter().map(|&bits| f64::from_bits(bits)));
        for state in &mut self.histograms {
            state.decode(input, batch.push_histogram())?;
        }
        if !input.0.is_empty() {
            decode_times(batch.time_ms, self.bits.len(), input, &mut batch.times)?;
            decode_times(batch.time_ms, self.histograms.len(), input, &mut batch.histogram_times)?;
            let series = (self.bits.len(), self.histograms.len());
            decode_exemplars(batch.time_ms, series, input, &mut batch.exemplars)?;
        }
        Some(())
    }
}

/// Appends how many times there are, and each: 0 for no sample, else the difference and one.
fn encode_times(time_ms: i64, times: &[i64], out: &mut Vec<u8>) {
    encode_number(times.len() as u64, out);
    let mut last = time_ms;
    for &time in times {
        if time == NO_SAMPLE {
            out.push(0);
            continue;
        }
        encode_number(zigzag(time.wrapping_sub(last)).wrapping_add(1), out);
        last = time;
    }
}

fn decode_times(time_ms: i64, most: usize, input: &mut Input<'_>, times: &mut Vec<i64>) -> Option<()> {
    let mut last = time_ms;
    let count = input.count().filter(|&count| count == 0 || count == most)?;
    for _ in 0..count {
        times.push(match input.number()? {
            0 => NO_SAMPLE,
            number => {
                last = last.wrapping_add(unzigzag(number - 1));
                last
            }
        });
    }
    Some(())
}

/// Appends the changed ones of up to eight values.
fn encode_group(mut changed: u8, values: &[f64], bits: &mut [u64], scales: &mut [u8], out: &mut Vec<u8>) {
    let mut at = out.len();
    out.resize(at + GROUP_ROOM, 0);
    while changed != 0 {
        let n = changed.trailing_zeros() as usize;
        changed &= changed - 1;
        if let Some(moved) = moved(bits[n], values[n], scales[n]) {
            let (word, length) = varint(zigzag(moved) << 1);
            out[at..at + 8].copy_from_slice(&word.to_le_bytes());
            at += length;
            bits[n] = values[n].to_bits();
            continue;
        }
        if !may_be_exact(values[n]) {
            let (first, word, length) = difference(values[n].to_bits() ^ bits[n]);
            out[at] = first;
            out[at + 1..at + 9].copy_from_slice(&word.to_le_bytes());
            at += 1 + length;
            (bits[n], scales[n]) = (values[n].to_bits(), NO_SCALE);
            continue;
        }
        out.truncate(at);
        let mut last = Last { bits: bits[n], scale: scales[n] };
        encode_changed(&mut last, values[n], out);
        (bits[n], scales[n]) = (last.bits, last.scale);
        at = out.len();
        out.resize(at + GROUP_ROOM, 0);
    }
    out.truncate(at);
}

/// By how much a value has moved from one whole number of its scale to another: what [`encode_changed`] finds out
/// about most values, with no branch that may guess wrong. `None` says only that it is not so easy to tell.
fn moved(last: u64, value: f64, scale: u8) -> Option<i64> {
    // To add this leaves the nearest whole number in the low bits of the sum.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    let scale = SCALES.get(usize::from(scale))?;
    let (now, before) = (value * scale, f64::from_bits(last) * scale);
    if !(now.abs() < SHIFTED && before.abs() < SHIFTED) {
        return None;
    }
    let (now, before) = (now + SHIFT, before + SHIFT);
    let comes_back = ((now - SHIFT) / scale).to_bits() == value.to_bits();
    comes_back.then(|| now.to_bits().wrapping_sub(before.to_bits()).cast_signed())
}

/// The whole number that `value` is by this scale. That it is one, the caller knows or finds out.
fn whole(value: f64, scale: u8) -> i64 {
    let scaled = value * SCALES[usize::from(scale)];
    (scaled + if scaled < 0.0 { -0.5 } else { 0.5 }) as i64
}

fn unit(whole: i64, scale: u8) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "at most 2^53, or the value would not have come back")]
    let number = whole as f64;
    number / SCALES[usize::from(scale)]
}

/// The whole number that `value` is by this scale, if it comes back from it bit for bit.
fn exact(value: f64, scale: u8) -> Option<i64> {
    if scale == 0 {
        // The most frequent one needs no division, which takes longer than all the rest.
        let number = value as i64;
        #[expect(clippy::cast_precision_loss, reason = "then it does not come back")]
        let comes_back = (number as f64).to_bits() == value.to_bits();
        return (comes_back && (-MAX_WHOLE..=MAX_WHOLE).contains(&number)).then_some(number);
    }
    let number = whole(value, scale);
    let comes_back =
        (-MAX_WHOLE..=MAX_WHOLE).contains(&number) && unit(number, scale).to_bits() == value.to_bits();
    comes_back.then_some(number)
}

/// Whether a value may be a whole number by some scale. What is one by a coarse scale is one by the finest, as long
/// as that makes no number too large of it: so most that are none are found out at once.
fn may_be_exact(value: f64) -> bool {
    const FINEST: u8 = 4;
    let scaled = value * SCALES[usize::from(FINEST)];
    scaled.abs() >= SHIFTED || exact(value, FINEST).is_some()
}

/// Appends a value that differs from the last.
pub(super) fn encode_changed(last: &mut Last, value: f64, out: &mut Vec<u8>) {
    if last.scale != NO_SCALE
        && let Some(number) = exact(value, last.scale)
    {
        let moved = number - whole(f64::from_bits(last.bits), last.scale);
        encode_number(zigzag(moved) << 1, out);
        last.bits = value.to_bits();
        return;
    }
    let scaled = may_be_exact(value)
        .then(|| (0..SCALES.len() as u8).find_map(|scale| exact(value, scale).map(|number| (scale, number))));
    if let Some((scale, number)) = scaled.flatten() {
        out.push(0b01 | scale << 2);
        encode_signed(number, out);
        *last = Last { bits: value.to_bits(), scale };
        return;
    }
    let (first, word, length) = difference(value.to_bits() ^ last.bits);
    out.push(first);
    out.extend_from_slice(&word.to_le_bytes()[..length]);
    *last = Last { bits: value.to_bits(), scale: NO_SCALE };
}

/// The byte that says which of the bits that differ follow, those bits, and how many bytes they are.
fn difference(differs: u64) -> (u8, u64, usize) {
    let low = (differs.trailing_zeros() / 8).min(7);
    let length = 8 - low - differs.leading_zeros() / 8;
    (0b11 | (low as u8) << 2 | (length as u8 - 1) << 5, differs >> (low * 8), length as usize)
}

/// Makes of the last value the one that comes next.
pub(super) fn decode_changed(last: &mut Last, input: &mut Input<'_>) -> Option<()> {
    let first = *input.0.first()?;
    if first & 1 == 0 {
        let moved = unzigzag(input.number()? >> 1);
        let before = (last.scale != NO_SCALE).then(|| whole(f64::from_bits(last.bits), last.scale))?;
        last.bits = unit(before.wrapping_add(moved), last.scale).to_bits();
        return Some(());
    }
    input.byte();
    if first & 2 == 0 {
        let scale = first >> 2;
        if usize::from(scale) >= SCALES.len() {
            return None;
        }
        *last = Last { bits: unit(input.signed()?, scale).to_bits(), scale };
        return Some(());
    }
    let (low, length) = (first >> 2 & 7, usize::from(first >> 5) + 1);
    let mut bytes = [0; 8];
    bytes[..length].copy_from_slice(input.bytes(length)?);
    *last = Last { bits: last.bits ^ u64::from_le_bytes(bytes) << (low * 8), scale: NO_SCALE };
    Some(())
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
