//! The text formats read plainly: an expression for each kind of line, one line after the other, nothing kept.

use std::sync::LazyLock;

use collector::sources::scrape::page::Format;
use collector_tests::scraped::Said;
use regex::bytes::{Captures, Regex};

const NAME: &str = "[a-zA-Z_:][a-zA-Z0-9_:]*";
const LABEL: &str = "[a-zA-Z_][a-zA-Z0-9_]*";

struct Grammar {
    series: Regex,
    item: Regex,
    behind: Regex,
    comment: Regex,
    metadata: Regex,
    exemplar: Option<Regex>,
}

fn compile(pattern: &str) -> Regex {
    Regex::new(&format!("^(?-u:{pattern})")).expect("an expression")
}

static TEXT: LazyLock<Grammar> = LazyLock::new(|| {
    let quoted = r#""(?:\\[^\n]|[^\\"])*""#;
    let blank = "[ \t]*";
    let item = format!("{blank}({LABEL}|{quoted}){blank}(?:={blank}({quoted}){blank})?(,|)");
    Grammar {
        series: compile(&format!(
            r"{blank}(?:({NAME})[ \t]+|({NAME})?{blank}\{{((?:{item})*){blank}\}}{blank})([^{{ \t\n]+)"
        )),
        item: compile(&item),
        behind: compile(r"(?:[ \t]+([0-9]+))?[ \t]*(?:\n|$)"),
        comment: compile(r"[ \t]*(?:#([^\n]*))?(?:\n|$)"),
        metadata: compile(&format!(
            r#"[ \t]+(HELP|TYPE)[ \t]+(?:({NAME}|"(?:\\[^\n]|[^\\"\n])*")([^\n]*))?"#
        )),
        exemplar: None,
    }
});

static OPEN: LazyLock<Grammar> = LazyLock::new(|| {
    let quoted = r#""(?:\\[^\n]|[^\\"\n])*""#;
    let item = format!("({LABEL}|{quoted})(?:=({quoted}))?(,|)");
    let labels = format!(r"\{{((?:{item})*)\}}");
    Grammar {
        series: compile(&format!(r"(?:({NAME})|({NAME})?{labels}) ([^ \n]+)")),
        item: compile(&item),
        behind: compile(r"(?: ([^ #\n][^ \n]*|#[^ \n]+))?(?: # )?"),
        comment: compile(r"#([^\n]*)(?:\n|$)"),
        metadata: compile(&format!(r#" (HELP|TYPE|UNIT) (?:({NAME}|"(?:\\[^\n]|[^\\"\n])*") ([^\n]*))?"#)),
        exemplar: Some(compile(&format!(r"(?: # {labels} ([^ \n]+)(?: ([^ \n]+))?)?\n"))),
    }
});

type Parsed = Result<Vec<Said>, String>;

/// Every sample of a page, repeated series too; `None` for a format that is not text.
pub fn parse(page: &[u8], format: Format) -> Option<Parsed> {
    match format {
        Format::Text => Some(lines(page, &TEXT, false)),
        Format::OpenMetrics => Some(lines(page, &OPEN, true)),
        Format::Protobuf => None,
    }
}

/// What is left where no time counts: the first sample of each series.
pub fn first_of_each(said: &[Said]) -> Vec<Said> {
    let mut seen = std::collections::HashSet::new();
    let first = said.iter().filter(|said| seen.insert(said.labels.clone()));
    first.map(|said| Said { time: None, ..said.clone() }).collect()
}

fn lines(mut page: &[u8], grammar: &Grammar, open: bool) -> Parsed {
    let mut all = Vec::new();
    while !page.is_empty() {
        if let Some(found) = grammar.comment.captures(page) {
            let text = found.get(1).map_or(&b""[..], |text| text.as_bytes());
            let ends = found[0].ends_with(b"\n");
            page = &page[found[0].len()..];
            if open && text == b" EOF" {
                return if page.is_empty() { Ok(all) } else { Err("behind the end".into()) };
            }
            check_comment(text, grammar, open, ends)?;
            continue;
        }
        let found = grammar.series.captures(page).ok_or("no series")?;
        let labels = labels(&found, grammar)?;
        let value = number(&found[found.len() - 1]).ok_or("no number")?;
        page = &page[found[0].len()..];
        let time = behind(&mut page, grammar, open)?;
        all.push(Said { labels, value: Ok(value.to_bits()), time });
    }
    if open { Err("no end".into()) } else { Ok(all) }
}

/// What stands behind a value, up to the next line.
fn behind(page: &mut &[u8], grammar: &Grammar, open: bool) -> Result<Option<i64>, String> {
    if !open {
        let found = grammar.behind.captures(page).ok_or("no end of the line")?;
        *page = &page[found[0].len()..];
        let digits = found.get(1).map(|digits| String::from_utf8_lossy(digits.as_bytes()).into_owned());
        return digits.map(|digits| digits.parse().map_err(|_| digits)).transpose();
    }
    let mut time = None;
    if page.starts_with(b" ") && !page.starts_with(b" # {") {
        let end = page[1..].iter().position(|byte| matches!(byte, b' ' | b'\n')).ok_or("cut")? + 1;
        time = Some(seconds(&page[1..end]).ok_or("no time")?);
        *page = &page[end..];
    }
    let exemplar =
        grammar.exemplar.as_ref().and_then(|exemplar| exemplar.captures(page)).ok_or("no exemplar")?;
    if let Some(value) = exemplar.get(exemplar.len() - 2) {
        number(value.as_bytes()).ok_or("an exemplar without a number")?;
        let labels = exemplar.get(1).map_or(&b""[..], |labels| labels.as_bytes());
        let mut named = vec![("__name__".to_owned(), String::new())];
        items(labels, grammar, &mut named, true)?;
    }
    if let Some(time) = exemplar.get(exemplar.len() - 1) {
        seconds(time.as_bytes()).ok_or("an exemplar without a time")?;
    }
    *page = &page[exemplar[0].len()..];
    Ok(time)
}

fn check_comment(text: &[u8], grammar: &Grammar, open: bool, ends: bool) -> Result<(), String> {
    let Some(found) = grammar.metadata.captures(text) else {
        return if open { Err("no comments here".into()) } else { Ok(()) };
    };
    if open && !ends {
        return Err("no end".into());
    }
    let name = found.get(2).ok_or("metadata without a name")?.as_bytes();
    let name = std::str::from_utf8(name).map_err(|_| "a name")?;
    let rest = found.get(3).map_or(&b""[..], |rest| rest.as_bytes());
    let text = if open { rest } else { rest.get(1..).unwrap_or_default() };
    let types: &[&[u8]] = match open {
        false => &[b"counter", b"gauge", b"histogram", b"summary", b"untyped"],
        true => &[
            b"counter",
            b"gauge",
            b"histogram",
            b"gaugehistogram",
            b"summary",
            b"info",
            b"stateset",
            b"unknown",
        ],
    };
    let utf8 = std::str::from_utf8(text);
    match &found[1] {
        b"TYPE" if types.contains(&text) => Ok(()),
        b"TYPE" => Err("no type".into()),
        b"HELP" => utf8.map(|_| ()).map_err(|_| "no UTF-8".into()),
        _ => {
            let unit = utf8.map_err(|_| "no UTF-8")?;
            let name = if name.starts_with('"') { unquoted(name) } else { name.to_owned() };
            let fits = unit.is_empty() || name.ends_with(&format!("_{unit}"));
            if fits { Ok(()) } else { Err("another unit".into()) }
        }
    }
}

/// The labels of a series, with those that its target has.
fn labels(found: &Captures<'_>, grammar: &Grammar) -> Result<Vec<(String, String)>, String> {
    let name = found.get(1).or(found.get(2)).map_or(&b""[..], |name| name.as_bytes());
    let name = String::from_utf8_lossy(name).into_owned();
    let has_name = !name.is_empty();
    let mut labels = vec![("__name__".to_owned(), name)];
    items(found.get(3).map_or(&b""[..], |labels| labels.as_bytes()), grammar, &mut labels, has_name)?;
    if labels[0].1.is_empty() {
        return Err("no name".into());
    }
    labels.retain(|(_, value)| !value.is_empty());
    for (name, value) in [("instance", "host-1:9100"), ("job", "node")] {
        while let Some(at) = labels.iter().position(|label| label.0 == name) {
            let mut renamed = format!("exported_{name}");
            while labels.iter().any(|label| label.0 == renamed) {
                renamed = format!("exported_{renamed}");
            }
            labels[at].0 = renamed;
        }
        labels.push((name.into(), value.into()));
    }
    labels.sort();
    Ok(labels)
}

fn items(
    mut bytes: &[u8],
    grammar: &Grammar,
    labels: &mut Vec<(String, String)>,
    mut has_name: bool,
) -> Result<(), String> {
    while let Some(found) = grammar.item.captures(bytes) {
        let name = std::str::from_utf8(&found[1]).map_err(|_| "a name is not UTF-8")?;
        let quoted = name.starts_with('"');
        let plain = if quoted { unquoted(name) } else { name.to_owned() };
        let rest = &bytes[found[0].len()..];
        if let Some(value) = found.get(2) {
            let value = std::str::from_utf8(value.as_bytes()).map_err(|_| "a value is not UTF-8")?;
            let comma = !found[3].is_empty();
            // Without the comma a label may follow in text only.
            let blank = rest.iter().all(|byte| matches!(byte, b' ' | b'\t'));
            if grammar.exemplar.is_some() && !comma && !blank {
                return Err("no comma".into());
            }
            if plain.is_empty() || labels.iter().any(|label| label.0 == plain) {
                return Err("a label name".into());
            }
            labels.push((plain, unquoted(value)));
        } else {
            let last = rest.iter().all(|byte| matches!(byte, b' ' | b'\t'));
            if !quoted || has_name || (found[3].is_empty() && !last) {
                return Err("a name in braces".into());
            }
            has_name = true;
            labels[0].1 = plain;
        }
        bytes = rest;
    }
    Ok(())
}

fn unquoted(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text[1..text.len() - 1].chars();
    while let Some(char) = chars.next() {
        let next = chars.clone().next();
        match (char, next) {
            ('\\', Some('n')) => plain.push('\n'),
            ('\\', Some('\\' | '"')) => plain.extend(next),
            _ => {
                plain.push(char);
                continue;
            }
        }
        chars.next();
    }
    plain
}

fn number(token: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(token).ok()?.to_lowercase();
    match text.as_str() {
        "nan" => return Some(f64::from_bits(0x7ff8_0000_0000_0001)),
        "inf" | "+inf" | "infinity" | "+infinity" => return Some(f64::INFINITY),
        "-inf" | "-infinity" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let value: f64 = text.parse().ok()?;
    (value.is_finite() && text.bytes().all(|byte| b"0123456789+-.e".contains(&byte))).then_some(value)
}

fn seconds(token: &[u8]) -> Option<i64> {
    number(token).filter(|seconds| seconds.is_finite()).map(|seconds| (seconds * 1000.0) as i64)
}
