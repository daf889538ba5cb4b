//! `MetricFamily` messages as protobuf text, for people: made from the encoded messages, by a table of their fields.

use super::super::number::encode_number as encode_double;

/// What a field holds.
#[derive(Clone, Copy)]
enum Holds {
    Text,
    Double,
    Unsigned,
    Signed,
    Type,
    Message(&'static [Field]),
}

/// Its number, its name, and what it holds.
type Field = (u64, &'static str, Holds);

const TYPES: &[&str] = &["COUNTER", "GAUGE", "SUMMARY", "UNTYPED", "HISTOGRAM", "GAUGE_HISTOGRAM"];
const LABEL: &[Field] = &[(1, "name", Holds::Text), (2, "value", Holds::Text)];
const VALUE: &[Field] = &[(1, "value", Holds::Double)];
const GAUGE: &[Field] = VALUE;
const QUANTILE: &[Field] = &[(1, "quantile", Holds::Double), (2, "value", Holds::Double)];
const SUMMARY: &[Field] = &[
    (1, "sample_count", Holds::Unsigned),
    (2, "sample_sum", Holds::Double),
    (3, "quantile", Holds::Message(QUANTILE)),
];
const BUCKET: &[Field] = &[(1, "cumulative_count", Holds::Unsigned), (2, "upper_bound", Holds::Double)];
const SPAN: &[Field] = &[(1, "offset", Holds::Signed), (2, "length", Holds::Unsigned)];
const HISTOGRAM: &[Field] = &[
    (1, "sample_count", Holds::Unsigned),
    (2, "sample_sum", Holds::Double),
    (3, "bucket", Holds::Message(BUCKET)),
    (5, "schema", Holds::Signed),
    (6, "zero_threshold", Holds::Double),
    (7, "zero_count", Holds::Unsigned),
    (12, "positive_span", Holds::Message(SPAN)),
    (13, "positive_delta", Holds::Signed),
];
const METRIC: &[Field] = &[
    (1, "label", Holds::Message(LABEL)),
    (2, "gauge", Holds::Message(GAUGE)),
    (3, "counter", Holds::Message(VALUE)),
    (4, "summary", Holds::Message(SUMMARY)),
    (5, "untyped", Holds::Message(VALUE)),
    (7, "histogram", Holds::Message(HISTOGRAM)),
];
const FAMILY: &[Field] = &[
    (1, "name", Holds::Text),
    (2, "help", Holds::Text),
    (3, "type", Holds::Type),
    (4, "metric", Holds::Message(METRIC)),
];

/// Appends the text of delimited `MetricFamily` messages: each on a line of its own where `compact`, else each field on
/// a line of its own and an empty line after each message.
pub(super) fn encode_text(mut messages: &[u8], compact: bool, out: &mut Vec<u8>) {
    while let Some(message) = take_bytes(&mut messages) {
        encode_message(message, FAMILY, if compact { None } else { Some(0) }, out);
        if compact && out.last() == Some(&b' ') {
            out.pop();
        }
        out.push(b'\n');
    }
}

/// `indent` is the depth of the lines; `None` for no lines.
fn encode_message(mut message: &[u8], fields: &[Field], indent: Option<usize>, out: &mut Vec<u8>) {
    while let Some(key) = take_varint(&mut message) {
        let Some((_, name, holds)) = fields.iter().find(|(number, ..)| *number == key >> 3) else { return };
        if let Some(depth) = indent {
            out.extend(std::iter::repeat_n(b' ', 2 * depth));
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(if indent.is_some() { b": " } else { b":" });
        match holds {
            Holds::Message(inner) => {
                out.extend_from_slice(if indent.is_some() { b"{\n" } else { b"{" });
                let content = take_bytes(&mut message).unwrap_or_default();
                encode_message(content, inner, indent.map(|depth| depth + 1), out);
                match indent {
                    Some(depth) => out.extend(std::iter::repeat_n(b' ', 2 * depth)),
                    None if out.last() == Some(&b' ') => drop(out.pop()),
                    None => {}
                }
                out.push(b'}');
            }
            Holds::Text => encode_quoted(take_bytes(&mut message).unwrap_or_default(), out),
            Holds::Double => {
                let bytes = message.split_first_chunk::<8>();
                let Some((bytes, rest)) = bytes else { return };
                message = rest;
                encode_float(f64::from_le_bytes(*bytes), out);
            }
            Holds::Unsigned => append(take_varint(&mut message).unwrap_or_default(), out),
            Holds::Signed => {
                let raw = take_varint(&mut message).unwrap_or_default();
                append((raw >> 1) as i64 ^ -((raw & 1) as i64), out);
            }
            Holds::Type => {
                let number = take_varint(&mut message).unwrap_or_default() as usize;
                out.extend_from_slice(TYPES.get(number).copied().unwrap_or("UNTYPED").as_bytes());
            }
        }
        out.push(if indent.is_some() { b'\n' } else { b' ' });
    }
}

/// Protobuf text writes infinities in lower case.
fn encode_float(number: f64, out: &mut Vec<u8>) {
    if number.is_nan() {
        out.extend_from_slice(b"nan");
    } else if number.is_infinite() {
        out.extend_from_slice(if number > 0.0 { b"inf" } else { b"-inf" });
    } else {
        encode_double(number, out);
    }
}

fn append(number: impl std::fmt::Display, out: &mut Vec<u8>) {
    out.extend_from_slice(number.to_string().as_bytes());
}

fn encode_quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let end = from.iter().position(|byte| byte & 0x80 == 0)?;
    let (bytes, rest) = from.split_at(end + 1);
    *from = rest;
    Some(bytes.iter().rev().fold(0, |sum, byte| sum << 7 | u64::from(byte & 0x7f)))
}

fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_varint(from)?).ok()?;
    let bytes = from.get(..length)?;
    *from = &from[length..];
    Some(bytes)
}
