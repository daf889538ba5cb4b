//! The protobuf format: `io.prometheus.client.MetricFamily`, one after the other, each behind its length.
//!
//! A position's key is the bytes that name it: family, labels as they stand in the message, and which part of a
//! summary or histogram. So a position that comes again is one compare here too.

use super::PageReader;
use super::draft::{Draft, Found, Payload};
use super::error::{Flaw, PageError, Place};
use super::layout::{Gives, Layout};
use super::native::{Parsed, max_schema, reduce};
use super::proto::{Field, Message, cut_short, fields};
use super::reading::{Reading, Step};
use super::times::Times;
use crate::config::PageRules;
use crate::model::{Batch, Kind, NORMAL_NAN, ResetHint};
use crate::relabel::Labels;

/// A family whose metrics are at hand.
#[derive(Clone, Copy)]
pub(super) struct Family<'b> {
    pub name: &'b str,
    pub help: &'b str,
    pub unit: &'b str,
    pub kind: Kind,
}

/// The part of a metric that is a series of its own.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Part {
    Whole,
    Native,
    Sum,
    Count,
    /// The label and its number.
    Bucket(f64),
    Quantile(f64),
}

/// One sample of a page.
struct Sample<'s, 'b> {
    family: Family<'b>,
    metric: &'b [u8],
    part: Part,
    key: &'s [u8],
    value: f64,
    time: Option<i64>,
    parsed: &'s Parsed,
}

/// What becomes of a walk through a page after a sample.
#[derive(PartialEq, Eq)]
enum Go {
    On,
    Stop,
}

/// Buffers of the walk, kept from page to page.
#[derive(Default)]
pub(super) struct Scratch {
    key: Vec<u8>,
    parsed: Parsed,
}

type Each<'e, 'b> = dyn FnMut(&Sample<'_, 'b>) -> Result<Go, Flaw> + 'e;

/// Calls `each` for every sample. A flaw comes with the number of its family.
fn walk<'b>(
    body: &'b [u8],
    rules: &PageRules,
    scratch: &mut Scratch,
    each: &mut Each<'_, 'b>,
) -> Result<Go, (Flaw, usize)> {
    let mut message = Message(body);
    let mut number = 0;
    while !message.0.is_empty() {
        number += 1;
        let mut family = || {
            let length = message.varint()?;
            walk_family(message.bytes(length)?, rules, scratch, each)
        };
        if family().map_err(|flaw| (flaw, number))? == Go::Stop {
            return Ok(Go::Stop);
        }
    }
    Ok(Go::On)
}

fn walk_family<'b>(
    bytes: &'b [u8],
    rules: &PageRules,
    scratch: &mut Scratch,
    each: &mut Each<'_, 'b>,
) -> Result<Go, Flaw> {
    let mut family = Family { name: "", help: "", unit: "", kind: Kind::Counter };
    fields(bytes, |number, field| {
        match number {
            1 => family.name = field.text()?,
            2 => family.help = field.text()?,
            3 => family.kind = parse_kind(field.number()?)?,
            5 => family.unit = field.text()?,
            _ => {}
        }
        Ok(())
    })?;
    if family.name.is_empty() {
        return Err(Flaw::syntax("a metric family without a name"));
    }
    let mut message = Message(bytes);
    while let Some((number, field)) = message.next()? {
        if number == 4 && walk_metric(family, field.message()?, rules, scratch, each)? == Go::Stop {
            return Ok(Go::Stop);
        }
    }
    Ok(Go::On)
}

fn parse_kind(number: u64) -> Result<Kind, Flaw> {
    Ok(match number {
        0 => Kind::Counter,
        1 => Kind::Gauge,
        2 => Kind::Summary,
        3 => Kind::Untyped,
        4 => Kind::Histogram,
        5 => Kind::GaugeHistogram,
        _ => return Err(Flaw::syntax(format!("{number} is no type of metric"))),
    })
}

/// A metric, and what gives its samples.
fn walk_metric<'b>(
    family: Family<'b>,
    metric: &'b [u8],
    rules: &PageRules,
    scratch: &mut Scratch,
    each: &mut Each<'_, 'b>,
) -> Result<Go, Flaw> {
    let (mut time, mut content) = (None, None);
    scratch.key.clear();
    push_part(&mut scratch.key, family.name.as_bytes());
    scratch.key.push(family.kind as u8);
    fields(metric, |number, field| {
        match (number, family.kind) {
            (1, _) => push_part(&mut scratch.key, field.message()?),
            (6, _) => time = Some(field.number()? as i64).filter(|&time| time != 0),
            (2, Kind::Gauge)
            | (3, Kind::Counter)
            | (4, Kind::Summary)
            | (5, Kind::Untyped)
            | (7, Kind::Histogram | Kind::GaugeHistogram) => content = Some(field.message()?),
            _ => {}
        }
        Ok(())
    })?;
    let content =
        content.ok_or_else(|| Flaw::syntax(format!("{}: a metric without its value", family.name)))?;
    let time = time.filter(|_| rules.honor_timestamps);
    let mut walker = Walker { family, metric, time, key_length: scratch.key.len() };
    match family.kind {
        Kind::Summary => walker.summary(content, scratch, each),
        Kind::Histogram | Kind::GaugeHistogram => {
            scratch.parsed.parse(content)?;
            walker.histogram(rules, scratch, each)
        }
        _ => {
            let mut value = 0.0;
            fields(content, |number, field| {
                if number == 1 {
                    value = field.double()?;
                }
                Ok(())
            })?;
            walker.sample(Part::Whole, value, scratch, each)
        }
    }
}

fn push_part(key: &mut Vec<u8>, part: &[u8]) {
    key.extend_from_slice(&(part.len() as u32).to_le_bytes());
    key.extend_from_slice(part);
}

struct Walker<'b> {
    family: Family<'b>,
    metric: &'b [u8],
    time: Option<i64>,
    key_length: usize,
}

impl<'b> Walker<'b> {
    fn sample(
        &mut self,
        part: Part,
        value: f64,
        scratch: &mut Scratch,
        each: &mut Each<'_, 'b>,
    ) -> Result<Go, Flaw> {
        let key = &mut scratch.key;
        key.truncate(self.key_length);
        let (code, bits) = match part {
            Part::Whole => (0, 0),
            Part::Native => (1, 0),
            Part::Sum => (2, 0),
            Part::Count => (3, 0),
            Part::Bucket(bound) => (4, bound.to_bits()),
            Part::Quantile(quantile) => (5, quantile.to_bits()),
        };
        key.push(code);
        key.extend_from_slice(&bits.to_le_bytes());
        each(&Sample {
            family: self.family,
            metric: self.metric,
            part,
            key,
            value: if value.is_nan() { NORMAL_NAN } else { value },
            time: self.time,
            parsed: &scratch.parsed,
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "counts above 2^53 lose precision in every protocol")]
    fn summary(
        &mut self,
        content: &'b [u8],
        scratch: &mut Scratch,
        each: &mut Each<'_, 'b>,
    ) -> Result<Go, Flaw> {
        let (mut count, mut sum) = (0.0, 0.0);
        fields(content, |number, field| {
            match number {
                1 => count = field.number()? as f64,
                2 => sum = field.double()?,
                _ => {}
            }
            Ok(())
        })?;
        for (part, value) in [(Part::Count, count), (Part::Sum, sum)] {
            if self.sample(part, value, scratch, each)? == Go::Stop {
                return Ok(Go::Stop);
            }
        }
        let mut message = Message(content);
        while let Some((number, field)) = message.next()? {
            if number != 3 {
                continue;
            }
            let (mut quantile, mut value) = (0.0, 0.0);
            fields(field.message()?, |number, field| {
                match number {
                    1 => quantile = field.double()?,
                    2 => value = field.double()?,
                    _ => {}
                }
                Ok(())
            })?;
            if self.sample(Part::Quantile(quantile), value, scratch, each)? == Go::Stop {
                return Ok(Go::Stop);
            }
        }
        Ok(Go::On)
    }

    /// The native form where it is wanted and there is one, the classic series where there is none or they are
    /// wanted too.
    fn histogram(
        &mut self,
        rules: &PageRules,
        scratch: &mut Scratch,
        each: &mut Each<'_, 'b>,
    ) -> Result<Go, Flaw> {
        let native = rules.native_histograms && scratch.parsed.has_native;
        if native {
            let finest = max_schema(rules.native_histogram_min_bucket_factor);
            let histogram = &mut scratch.parsed.native;
            reduce(histogram, rules.native_histogram_bucket_limit, finest)?;
            if self.family.kind == Kind::GaugeHistogram {
                histogram.reset_hint = ResetHint::Gauge;
            }
            if self.sample(Part::Native, 0.0, scratch, each)? == Go::Stop {
                return Ok(Go::Stop);
            }
            if !rules.always_classic_histograms || scratch.parsed.buckets.is_empty() {
                return Ok(Go::On);
            }
        }
        let (count, sum) = (scratch.parsed.count, scratch.parsed.sum);
        for (part, value) in [(Part::Count, count), (Part::Sum, sum)] {
            if self.sample(part, value, scratch, each)? == Go::Stop {
                return Ok(Go::Stop);
            }
        }
        let mut infinite = false;
        for at in 0..scratch.parsed.buckets.len() {
            let bucket = scratch.parsed.buckets[at];
            infinite |= bucket.bound == f64::INFINITY;
            if self.sample(Part::Bucket(bucket.bound), bucket.count, scratch, each)? == Go::Stop {
                return Ok(Go::Stop);
            }
        }
        if infinite { Ok(Go::On) } else { self.sample(Part::Bucket(f64::INFINITY), count, scratch, each) }
    }
}

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
    match (entry.gives(), sample.time) {
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
    true
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
                (reading.scraped, reading.kept) = (layout.slots.len(), layout.kept);
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
            draft.put(line, found, payload, batch, times)?;
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

/// The labels of a sample, its name first.
fn labels_of<'b>(sample: &Sample<'_, 'b>) -> Result<Labels<'b>, Flaw> {
    let family = sample.family.name;
    let suffixed = |suffix: &str| format!("{family}{suffix}").into();
    let name = match sample.part {
        Part::Whole | Part::Native | Part::Quantile(_) => family.into(),
        Part::Sum => suffixed("_sum"),
        Part::Count => suffixed("_count"),
        Part::Bucket(_) => suffixed("_bucket"),
    };
    let mut labels: Labels<'b> = vec![("__name__".into(), name)];
    fields(sample.metric, |number, field| {
        if number == 1 {
            let (mut name, mut value) = ("", "");
            fields(field.message()?, |number, field: Field<'b>| {
                match number {
                    1 => name = field.text()?,
                    2 => value = field.text()?,
                    _ => {}
                }
                Ok(())
            })?;
            labels.push((name.into(), value.into()));
        }
        Ok(())
    })?;
    match sample.part {
        Part::Bucket(bound) => labels.push(("le".into(), open_number(bound).into())),
        Part::Quantile(quantile) => labels.push(("quantile".into(), open_number(quantile).into())),
        _ => {}
    }
    super::line::check_names(&labels)?;
    if labels.len() > 1 << 16 {
        return Err(cut_short());
    }
    Ok(labels)
}

/// A number as OpenMetrics writes it in labels: shortest, with an exponent below 1e-4 and from 1e+06 on, and always
/// with a point or an exponent.
fn open_number(value: f64) -> String {
    if !value.is_finite() {
        let word = if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        };
        return word.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..6).contains(&power) {
        let sign = if power < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", power.abs());
    }
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::open_number;

    #[test]
    fn bounds_are_written_as_go_does() {
        let texts = [0.0, 1.0, -1.0, 0.5, 0.0001, 0.00001, 100_000.0, 999_999.5, 1e6, 2.5e6, 1e21, -2e-7];
        assert_eq!(
            texts.map(open_number),
            [
                "0.0", "1.0", "-1.0", "0.5", "0.0001", "1e-05", "100000.0", "999999.5", "1e+06", "2.5e+06",
                "1e+21", "-2e-07"
            ]
        );
        assert_eq!([f64::INFINITY, f64::NEG_INFINITY, f64::NAN].map(open_number), ["+Inf", "-Inf", "NaN"]);
    }
}
