//! A shape spelled out, so that a segment stands alone: source, strings, and series that refer to the strings.
//!
//! The payload of its record is the shape's number in the segment, the numbers that are free again, and the
//! content, compressed (snappy). The content is the same for equal shapes, whatever the segment or the process.

use std::sync::Arc;

use hashbrown::HashMap;

use super::numbers::{Input, encode_number, encode_signed, encode_text};
use crate::model::{Form, Kind, SeriesId, SeriesList, SeriesSpec, SeriesTable, SeriesView, Shape, Source};

/// A definition is not unpacked to more than this.
const MAX_CONTENT: usize = 64 << 20;
/// Beside the kind of a series: its form.
const CLASSIC: u8 = 0x80;
const TIMED: u8 = 0x40;

/// The strings of a definition, numbered as they come.
#[derive(Default)]
struct Strings<'a> {
    numbers: HashMap<&'a str, u64>,
    texts: Vec<&'a str>,
}

impl<'a> Strings<'a> {
    fn number(&mut self, text: &'a str) -> u64 {
        let next = self.texts.len() as u64;
        let number = *self.numbers.entry(text).or_insert(next);
        if number == next {
            self.texts.push(text);
        }
        number
    }
}

/// Appends the content of a shape's definition. Locks the series table.
pub(super) fn encode_content(shape: &Shape, out: &mut Vec<u8>) {
    let table = shape.table().lock();
    let mut strings = Strings::default();
    let mut series = Vec::new();
    encode_number(shape.floats().len() as u64, &mut series);
    for &(id, form) in shape.floats() {
        encode_series(table.view(id), form, &mut strings, &mut series);
    }
    encode_number(shape.histograms().len() as u64, &mut series);
    for &id in shape.histograms() {
        encode_series(table.view(id), Form::Always, &mut strings, &mut series);
    }
    encode_text(&shape.source.name, out);
    encode_number(shape.source.labels.len() as u64, out);
    for (name, value) in &shape.source.labels {
        encode_text(name, out);
        encode_text(value, out);
    }
    encode_number(strings.texts.len() as u64, out);
    strings.texts.iter().for_each(|text| encode_text(text, out));
    out.extend_from_slice(&series);
    encode_starts(shape.starts(), out);
}

/// Appends when the counting of each series began, as the difference to the one before; nothing where none is known.
fn encode_starts(starts: &[i64], out: &mut Vec<u8>) {
    let mut last = 0;
    for &start in starts {
        encode_signed(start.wrapping_sub(last), out);
        last = start;
    }
}

/// What is left of a content: a log of an older version has nothing there.
fn parse_starts(input: &mut Input<'_>, series: usize) -> Option<Box<[i64]>> {
    if input.0.is_empty() {
        return Some(Box::default());
    }
    let mut last = 0i64;
    let mut next = || {
        last = last.wrapping_add(input.signed()?);
        Some(last)
    };
    (0..series).map(|_| next()).collect()
}

fn encode_series<'a>(view: SeriesView<'a>, form: Form, strings: &mut Strings<'a>, out: &mut Vec<u8>) {
    let flag = |bit: u8, set: bool| if set { bit } else { 0 };
    out.push(view.kind() as u8 | flag(CLASSIC, form.classic_only()) | flag(TIMED, form.timed()));
    for text in [view.name(), view.family(), view.help(), view.unit()] {
        encode_number(strings.number(text), out);
    }
    encode_number(view.labels().len() as u64, out);
    for (name, value) in view.labels() {
        encode_number(strings.number(name), out);
        encode_number(strings.number(value), out);
    }
}

/// A content as it stands in a record.
pub(super) fn pack_content(content: &[u8]) -> Box<[u8]> {
    snap::raw::Encoder::new().compress_vec(content).expect("content is below 4 GiB").into()
}

/// Appends the payload of a definition's record.
pub(super) fn encode_definition(number: u32, freed: &[u32], packed: &[u8], out: &mut Vec<u8>) {
    encode_number(number.into(), out);
    encode_number(freed.len() as u64, out);
    freed.iter().for_each(|&number| encode_number(number.into(), out));
    out.extend_from_slice(packed);
}

/// A definition read from a record.
pub(super) struct Definition {
    pub number: u32,
    pub freed: Vec<u32>,
    pub content: Vec<u8>,
}

/// The parts of a definition's record; `None` where they make no sense.
pub(super) fn parse_definition(payload: &[u8]) -> Option<Definition> {
    let mut input = Input(payload);
    let number = input.number()?.try_into().ok()?;
    let freed = (0..input.count()?).map(|_| input.number()?.try_into().ok()).collect::<Option<_>>()?;
    let length = snap::raw::decompress_len(input.0).ok()?;
    if length > MAX_CONTENT {
        return None;
    }
    let content = snap::raw::Decoder::new().decompress_vec(input.0).ok()?;
    Some(Definition { number, freed, content })
}

/// One series as it stands in a content.
struct Spelled<'a> {
    spec: [&'a str; 4],
    kind: Kind,
    form: Form,
    labels: Vec<(&'a str, &'a str)>,
}

/// The shape of a content, its series taken from the table or added to it; `None` where it makes no sense.
pub(super) fn parse_content(content: &[u8], table: &Arc<SeriesTable>) -> Option<Arc<Shape>> {
    let mut input = Input(content);
    let name = input.text()?.to_owned();
    let label = |input: &mut Input<'_>| Some((input.text()?.to_owned(), input.text()?.to_owned()));
    let labels = (0..input.count()?).map(|_| label(&mut input)).collect::<Option<Vec<_>>>()?;
    let texts = (0..input.count()?).map(|_| input.text()).collect::<Option<Vec<_>>>()?;
    let floats = (0..input.count()?).map(|_| parse_series(&mut input, &texts)).collect::<Option<Vec<_>>>()?;
    let histograms =
        (0..input.count()?).map(|_| parse_series(&mut input, &texts)).collect::<Option<Vec<_>>>()?;
    let starts = parse_starts(&mut input, floats.len() + histograms.len())?;
    let mut guard = table.lock();
    let mut acquire = |spelled: &Spelled<'_>| -> SeriesId {
        let [name, family, help, unit] = spelled.spec;
        guard.acquire(&SeriesSpec { name, family, kind: spelled.kind, help, unit, labels: &spelled.labels })
    };
    let floats: Vec<_> = floats.iter().map(|spelled| (acquire(spelled), spelled.form)).collect();
    let histograms = histograms.iter().map(acquire).collect();
    drop(guard);
    let list = SeriesList::new(table.clone(), floats, histograms);
    Some(Shape::started(Arc::new(Source { name, labels }), list, starts))
}

fn parse_series<'a>(input: &mut Input<'a>, texts: &[&'a str]) -> Option<Spelled<'a>> {
    let text = |input: &mut Input<'a>| texts.get(usize::try_from(input.number()?).ok()?).copied();
    let byte = input.byte()?;
    let mut spec = [""; 4];
    for part in &mut spec {
        *part = text(input)?;
    }
    let labels =
        (0..input.count()?).map(|_| Some((text(input)?, text(input)?))).collect::<Option<Vec<_>>>()?;
    let form = Form::new(byte & CLASSIC != 0, byte & TIMED != 0);
    Some(Spelled { spec, kind: Kind::from_number(byte & !(CLASSIC | TIMED)), form, labels })
}
