//! A shape spelled out, so that a segment stands alone: the list of its series, which other sources may share, and
//! whose it is.
//!
//! The payload of a list's record is its number in the segment and its content, compressed (snappy): strings, and
//! series that refer to the strings. The content is the same for equal lists, whatever the segment or the process.
//! The payload of a shape's record is its number in the segment, the numbers that are free again, the number of its
//! list, the source, and the starts.

use std::sync::Arc;

use hashbrown::HashMap;

use super::numbers::{Input, encode_number, encode_signed, encode_text};
use crate::model::{Form, Kind, SeriesId, SeriesList, SeriesSpec, SeriesTable, SeriesView, Shape, Source};

/// A list is not unpacked to more than this.
const MAX_CONTENT: usize = 64 << 20;
/// Beside the kind of a series: its form.
const CLASSIC: u8 = 0x80;
const TIMED: u8 = 0x40;

/// The strings of a list, numbered as they come.
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

/// Appends the content of a list. Locks the series table.
pub(super) fn encode_content(list: &SeriesList, out: &mut Vec<u8>) {
    let table = list.table().lock();
    let mut strings = Strings::default();
    let mut series = Vec::new();
    encode_number(list.floats().len() as u64, &mut series);
    for &(id, form) in list.floats() {
        encode_series(table.view(id), form, &mut strings, &mut series);
    }
    encode_number(list.histograms().len() as u64, &mut series);
    for &id in list.histograms() {
        encode_series(table.view(id), Form::Always, &mut strings, &mut series);
    }
    encode_number(strings.texts.len() as u64, out);
    strings.texts.iter().for_each(|text| encode_text(text, out));
    out.extend_from_slice(&series);
}

/// Appends when the counting of each series began, as the difference to the one before; nothing where none is known.
fn encode_starts(starts: &[i64], out: &mut Vec<u8>) {
    let mut last = 0;
    for &start in starts {
        encode_signed(start.wrapping_sub(last), out);
        last = start;
    }
}

/// What is left of an owner: nothing where no start is known.
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

/// Appends the payload of a list's record.
pub(super) fn encode_list(number: u32, packed: &[u8], out: &mut Vec<u8>) {
    encode_number(number.into(), out);
    out.extend_from_slice(packed);
}

/// The number of a list's record, and its content, packed.
pub(super) fn parse_list(payload: &[u8]) -> Option<(u64, &[u8])> {
    let mut input = Input(payload);
    Some((input.number()?, input.0))
}

/// Unpacks the content of a list; `None` where it makes no sense.
pub(super) fn unpack_content(packed: &[u8]) -> Option<Vec<u8>> {
    let length = snap::raw::decompress_len(packed).ok()?;
    (length <= MAX_CONTENT).then(|| snap::raw::Decoder::new().decompress_vec(packed).ok())?
}

/// Appends the payload of a shape's record.
pub(super) fn encode_definition(number: u32, freed: &[u32], list: u32, shape: &Shape, out: &mut Vec<u8>) {
    encode_number(number.into(), out);
    encode_number(freed.len() as u64, out);
    freed.iter().for_each(|&number| encode_number(number.into(), out));
    encode_number(list.into(), out);
    encode_owner(shape, out);
}

/// Appends what a shape has beside its list: its source, and when the counting of its series began.
pub(super) fn encode_owner(shape: &Shape, out: &mut Vec<u8>) {
    let source = &shape.source;
    encode_text(&source.name, out);
    encode_number(source.labels.len() as u64, out);
    for (name, value) in &source.labels {
        encode_text(name, out);
        encode_text(value, out);
    }
    encode_starts(shape.starts(), out);
}

/// A shape read from its record.
pub(super) struct Definition<'a> {
    pub number: u64,
    pub freed: Vec<u64>,
    pub list: u64,
    /// What [`encode_owner`] wrote.
    pub owner: &'a [u8],
}

/// The parts of a shape's record; `None` where they make no sense.
pub(super) fn parse_definition(payload: &[u8]) -> Option<Definition<'_>> {
    let mut input = Input(payload);
    let number = input.number()?;
    let freed = (0..input.count()?).map(|_| input.number()).collect::<Option<_>>()?;
    Some(Definition { number, freed, list: input.number()?, owner: input.0 })
}

/// The shape of a list whose owner [`encode_owner`] wrote; `None` where that makes no sense.
pub(super) fn parse_owner(owner: &[u8], list: &Arc<SeriesList>) -> Option<Arc<Shape>> {
    let mut input = Input(owner);
    let name = input.text()?.to_owned();
    let label = |input: &mut Input<'_>| Some((input.text()?.to_owned(), input.text()?.to_owned()));
    let labels = (0..input.count()?).map(|_| label(&mut input)).collect::<Option<Vec<_>>>()?;
    let starts = parse_starts(&mut input, list.floats().len() + list.histograms().len())?;
    Some(Shape::started(Arc::new(Source { name, labels }), list.clone(), starts))
}

/// One series as it stands in a content.
struct Spelled<'a> {
    spec: [&'a str; 4],
    kind: Kind,
    form: Form,
    labels: Vec<(&'a str, &'a str)>,
}

/// The list of a content, its series taken from the table or added to it; `None` where it makes no sense.
pub(super) fn parse_content(content: &[u8], table: &Arc<SeriesTable>) -> Option<Arc<SeriesList>> {
    let mut input = Input(content);
    let texts = (0..input.count()?).map(|_| input.text()).collect::<Option<Vec<_>>>()?;
    let floats = (0..input.count()?).map(|_| parse_series(&mut input, &texts)).collect::<Option<Vec<_>>>()?;
    let histograms =
        (0..input.count()?).map(|_| parse_series(&mut input, &texts)).collect::<Option<Vec<_>>>()?;
    let mut guard = table.lock();
    let mut acquire = |spelled: &Spelled<'_>| -> SeriesId {
        let [name, family, help, unit] = spelled.spec;
        guard.acquire(&SeriesSpec { name, family, kind: spelled.kind, help, unit, labels: &spelled.labels })
    };
    let floats = floats.iter().map(|spelled| (acquire(spelled), spelled.form)).collect();
    let histograms = histograms.iter().map(acquire).collect();
    drop(guard);
    Some(SeriesList::new(table.clone(), floats, histograms))
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
