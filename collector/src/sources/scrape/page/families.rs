//! Families of metrics as they stand in a protobuf page (`io.prometheus.client.MetricFamily`), walked sample by
//! sample.
//!
//! Each sample comes with a key, the bytes that name it: family, labels as they stand in the message, and which part
//! of a summary or histogram.

use super::error::Flaw;
use super::line::RawExemplar;
use super::native::{Parsed, Place, max_schema, parse_time, reduce};
use super::proto::{Field, Message, fields};
use crate::config::PageRules;
use crate::model::{Kind, NORMAL_NAN, ResetHint};
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
pub(super) enum Part {
    Whole,
    Native,
    Sum,
    Count,
    /// The label and its number.
    Bucket(f64),
    Quantile(f64),
}

/// One sample of a page.
pub(super) struct Sample<'s, 'b> {
    pub family: Family<'b>,
    pub metric: &'b [u8],
    pub part: Part,
    pub key: &'s [u8],
    pub value: f64,
    pub time: Option<i64>,
    pub parsed: &'s Parsed,
    /// When its counting began, in milliseconds; 0 where that is not said.
    pub start: i64,
    pub exemplars: Exemplars<'s, 'b>,
}

/// The messages of a sample's exemplars.
#[derive(Clone, Copy)]
pub(super) enum Exemplars<'s, 'b> {
    None,
    One(&'b [u8]),
    /// Those of a native histogram, by their places in its message.
    Native(&'b [u8], &'s [Place]),
}

/// What becomes of a walk through a page after a sample.
#[derive(PartialEq, Eq)]
pub(super) enum Go {
    On,
    Stop,
}

/// Buffers of the walk, kept from page to page.
#[derive(Default)]
pub(super) struct Scratch {
    key: Vec<u8>,
    parsed: Parsed,
}

pub(super) type Each<'e, 'b> = dyn FnMut(&Sample<'_, 'b>) -> Result<Go, Flaw> + 'e;

/// Calls `each` for every sample. A flaw comes with the number of its family.
pub(super) fn walk<'b>(
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
    let key_length = scratch.key.len();
    let mut walker = Walker { family, metric, time, start: 0, exemplar: None, content, key_length };
    match family.kind {
        Kind::Summary => walker.summary(content, scratch, each),
        Kind::Histogram | Kind::GaugeHistogram => {
            scratch.parsed.parse(content)?;
            walker.start = scratch.parsed.start;
            walker.histogram(rules, scratch, each)
        }
        _ => {
            let mut value = 0.0;
            fields(content, |number, field| {
                match number {
                    1 => value = field.double()?,
                    2 if family.kind == Kind::Counter => walker.exemplar = Some(field.message()?),
                    3 if family.kind == Kind::Counter => walker.start = parse_time(field.message()?)?,
                    _ => {}
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
    start: i64,
    exemplar: Option<&'b [u8]>,
    content: &'b [u8],
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
        let native = part == Part::Native && !scratch.parsed.exemplars.is_empty();
        let exemplars = match self.exemplar {
            Some(exemplar) => Exemplars::One(exemplar),
            None if native => Exemplars::Native(self.content, &scratch.parsed.exemplars),
            None => Exemplars::None,
        };
        each(&Sample {
            family: self.family,
            metric: self.metric,
            part,
            key,
            value: if value.is_nan() { NORMAL_NAN } else { value },
            time: self.time,
            parsed: &scratch.parsed,
            start: self.start,
            exemplars,
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
                4 => self.start = parse_time(field.message()?)?,
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
        if !native && rules.convert_classic_histograms && self.family.kind == Kind::Histogram {
            if scratch.parsed.convert() && self.sample(Part::Native, 0.0, scratch, each)? == Go::Stop {
                return Ok(Go::Stop);
            }
            if !rules.always_classic_histograms {
                return Ok(Go::On);
            }
        }
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
            self.exemplar = bucket.exemplar.and_then(|place| place.of(self.content));
            if self.sample(Part::Bucket(bucket.bound), bucket.count, scratch, each)? == Go::Stop {
                return Ok(Go::Stop);
            }
        }
        self.exemplar = None;
        if infinite { Ok(Go::On) } else { self.sample(Part::Bucket(f64::INFINITY), count, scratch, each) }
    }
}

/// An exemplar as its message says it.
pub(super) fn parse_exemplar(bytes: &[u8]) -> Result<RawExemplar<'_>, Flaw> {
    let mut exemplar = RawExemplar { labels: Vec::new(), value: 0.0, time: None };
    fields(bytes, |number, field| {
        match number {
            1 => {
                let (name, value) = parse_label(field)?;
                exemplar.labels.push((name.into(), value.into()));
            }
            2 => exemplar.value = field.double()?,
            3 => exemplar.time = Some(parse_time(field.message()?)?),
            _ => {}
        }
        Ok(())
    })?;
    exemplar.labels.sort_unstable();
    if exemplar.value.is_nan() {
        exemplar.value = NORMAL_NAN;
    }
    Ok(exemplar)
}

fn parse_label(field: Field<'_>) -> Result<(&str, &str), Flaw> {
    let (mut name, mut value) = ("", "");
    fields(field.message()?, |number, field| {
        match number {
            1 => name = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((name, value))
}

/// The labels of a sample, its name first.
pub(super) fn labels_of<'b>(sample: &Sample<'_, 'b>) -> Result<Labels<'b>, Flaw> {
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
            let (name, value) = parse_label(field)?;
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
