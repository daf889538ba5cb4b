//! The protobuf format: families of metrics, one after the other, each behind its length.
//!
//! What is known is followed as in text. Where that ends, the page is walked once more to draft the rest.

use super::PageReader;
use super::draft::{Draft, Found, Payload};
use super::error::{Flaw, PageError, Place};
use super::families::{Exemplars, Go, Part, Sample, Scratch, labels_of, parse_exemplar, walk};
use super::layout::{Gives, Layout};
use super::reading::{Reading, Step};
use super::times::Times;
use crate::model::{Batch, Of};

/// Takes in a sample at a position that is known; whether it is what stands there.
fn take_known(
    layout: &Layout,
    slot: usize,
    sample: &Sample<'_, '_>,
    batch: &mut Batch,
    times: &mut Times,
) -> bool {
    let Some(entry) = layout.slots.get(slot) else { return false };
    if layout.key(slot) != sample.key {
        return false;
    }
    let gives = entry.gives();
    match (gives, sample.time) {
        (Gives::Float, None) => batch.values.push(sample.value),
        (Gives::Timed, Some(time)) => {
            let id = layout.list.floats()[batch.values.len()].0;
            batch.push_timed(sample.value, times.stamp(id, time));
        }
        (Gives::Histogram, None) => batch.push_histogram().clone_from(&sample.parsed.native),
        (Gives::TimedHistogram, Some(time)) => {
            let id = layout.list.histograms()[batch.histograms().len()];
            batch.push_histogram().clone_from(&sample.parsed.native);
            batch.time_last_histogram(times.stamp(id, time));
        }
        (Gives::Dropped | Gives::Limited, _) | (Gives::Duplicate, None) => {}
        _ => return false,
    }
    let of = match gives {
        Gives::Float | Gives::Timed => Of::Float(batch.values.len() as u32 - 1),
        Gives::Histogram | Gives::TimedHistogram => Of::Histogram(batch.histograms().len() as u32 - 1),
        _ => return true,
    };
    take_aside(sample, of, batch, times);
    true
}

/// Takes in what a sample has beside its value.
fn take_aside(sample: &Sample<'_, '_>, of: Of, batch: &mut Batch, times: &mut Times) {
    if sample.start != 0 {
        times.aside.starts.push((of, sample.start));
    }
    let sample_ms = sample.time.unwrap_or(batch.time_ms);
    let mut take = |bytes: &[u8], needs_time: bool| {
        // Not worth a page: what can't be read is left out.
        let Ok(exemplar) = parse_exemplar(bytes) else {
            times.aside.left_out += 1;
            return;
        };
        if exemplar.time.is_some() || !needs_time {
            times.aside.exemplar(of, &exemplar, sample_ms, batch);
        }
    };
    match sample.exemplars {
        Exemplars::None => {}
        Exemplars::One(bytes) => take(bytes, false),
        Exemplars::Native(whole, places) => {
            places.iter().filter_map(|place| place.of(whole)).for_each(|bytes| take(bytes, true));
        }
    }
}

impl PageReader {
    /// Reads a page of messages: along what is known, and, where that ends, once more to draft the rest.
    pub(super) fn read_messages(&mut self, body: &[u8], reading: &mut Reading) -> Result<Step, PageError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let step = self.try_messages(body, reading, &mut scratch);
        self.scratch = scratch;
        step.map_err(|(flaw, family)| flaw.at(Place::Family(family)))
    }

    fn try_messages(
        &mut self,
        body: &[u8],
        reading: &mut Reading,
        scratch: &mut Scratch,
    ) -> Result<Step, (Flaw, usize)> {
        let rules = self.rules.clone();
        reading.layout = self.layout.clone().or_else(|| self.class.newest());
        let (mut tries, mut missed) = (0, None);
        while let Some(layout) = reading.layout.clone() {
            let mut seen = 0;
            let (batch, times) = (&mut reading.batch, &mut self.times);
            let mut slot = reading.slot;
            let mut next = None;
            let went = walk(body, &rules, scratch, &mut |sample| {
                seen += 1;
                if seen <= slot {
                    return Ok(Go::On);
                }
                if take_known(&layout, slot, sample, batch, times) {
                    slot += 1;
                    return Ok(Go::On);
                }
                tries = if missed == Some(slot) { tries + 1 } else { 0 };
                missed = Some(slot);
                next = layout.successor(slot, sample.key, tries);
                Ok(Go::Stop)
            })?;
            reading.slot = slot;
            if went == Go::On && slot == layout.slots.len() && !self.has_room(&layout) {
                (reading.scraped, reading.kept) = (layout.scraped(), layout.kept);
                return Ok(Step::Layout(layout));
            }
            match next.filter(|_| tries < super::MAX_TRIES) {
                Some(next) => reading.layout = Some(next),
                None => break,
            }
        }
        if reading.layout.as_ref().is_some_and(|layout| self.has_room(layout)) {
            self.start_over(reading);
        }
        self.draft_messages(body, reading, scratch)
    }

    fn draft_messages(
        &mut self,
        body: &[u8],
        reading: &mut Reading,
        scratch: &mut Scratch,
    ) -> Result<Step, (Flaw, usize)> {
        let (rules, class, old) = (self.rules.clone(), self.class.clone(), reading.layout.clone());
        let mut draft = Draft::new(old.as_deref(), reading.slot, &class, &rules, &self.labeler);
        let (mut seen, mut bare) = (0, false);
        let (batch, times) = (&mut reading.batch, &mut self.times);
        let from = reading.slot;
        let result = walk(body, &rules, scratch, &mut |sample| {
            seen += 1;
            if seen <= from {
                return Ok(Go::On);
            }
            let found = match draft.find(sample.key) {
                Some(found) => found,
                None => {
                    let family = sample.family;
                    draft.context.set(family.name, family.kind, family.help, family.unit);
                    let labels = labels_of(sample)?;
                    draft.resolve(labels.iter().map(|(n, v)| ((**n).into(), (**v).into())).collect())?
                }
            };
            if found == Found::Bare {
                bare = true;
                return Ok(Go::Stop);
            }
            let line = draft.keys.len();
            draft.keys.extend_from_slice(sample.key);
            let fill = |batch: &mut Batch| batch.push_histogram().clone_from(&sample.parsed.native);
            let payload = match sample.part {
                Part::Native => Payload::Histogram { fill: &fill, time: sample.time },
                _ => Payload::Float { value: sample.value, time: sample.time },
            };
            if let Some(of) = draft.put(line, found, payload, batch, times)? {
                take_aside(sample, of, batch, times);
            }
            Ok(Go::On)
        });
        (reading.scraped, reading.kept) = draft.counts();
        result?;
        if bare {
            return Ok(Step::Bare);
        }
        let layout = draft.finish();
        self.enter(reading.layout.as_ref(), from, &layout);
        Ok(Step::Layout(layout))
    }
}
