//! A parser of the text format 0.0.4 (prometheus.io, "Exposition formats"), strict where a lenient one would
//! publish half-written values: a last line without an end, and time stamps, are refused.

use crate::model::Kind;
use crate::sys::text;

use super::Sample;

/// A family of one file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parsed {
    pub(super) name: String,
    pub(super) help: Option<String>,
    pub(super) kind: Kind,
    pub(super) samples: Vec<Sample>,
}

/// A family in the making.
struct Draft {
    family: Parsed,
    has_type: bool,
}

/// The families in the order of the file, those without samples left out. Error: line, and what is wrong.
pub(super) fn parse_families(text: &[u8], max_labels: usize) -> Result<Vec<Parsed>, (usize, String)> {
    let mut drafts: Vec<Draft> = Vec::new();
    if !text.is_empty() && !text.ends_with(b"\n") {
        return Err((
            text::lines(text).count(),
            "the last line has no end: is the file still being written?".into(),
        ));
    }
    for (number, line) in text::lines(text).enumerate() {
        take_in(line, max_labels, &mut drafts).map_err(|what| (number + 1, what))?;
    }
    drafts.retain(|draft| !draft.family.samples.is_empty());
    Ok(drafts.into_iter().map(|draft| finish(draft.family)).collect())
}

fn take_in(line: &[u8], max_labels: usize, drafts: &mut Vec<Draft>) -> Result<(), String> {
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    let line = line.trim_start_matches([' ', '\t']);
    if let Some(comment) = line.strip_prefix('#') {
        return take_in_comment(comment, drafts);
    }
    if line.is_empty() {
        return Ok(());
    }
    let (name, labels, value) = parse_sample(line, max_labels)?;
    let (at, suffix) = family_of(name, drafts);
    let draft = &mut drafts[at];
    let key = match draft.family.kind {
        Kind::Histogram if suffix == "_bucket" => Some("le"),
        Kind::Summary if suffix.is_empty() => Some("quantile"),
        _ => None,
    };
    if let Some(key) = key {
        let bound = labels.iter().find(|(name, _)| name == key).map(|(_, bound)| bound);
        let bound = bound.ok_or_else(|| format!("{name} lacks the label {key:?}"))?;
        parse_value(bound).ok_or_else(|| format!("{bound:?} is no number for {key:?}"))?;
    }
    if draft.family.kind == Kind::Histogram && suffix.is_empty() {
        return Err(format!("{name} is a histogram: expected {name}_bucket, {name}_sum or {name}_count"));
    }
    draft.family.samples.push(Sample { suffix, labels, value });
    Ok(())
}

/// `HELP name text`, `TYPE name kind`, or anything else, which is passed over.
fn take_in_comment(comment: &str, drafts: &mut Vec<Draft>) -> Result<(), String> {
    let mut parts = comment.trim_start_matches([' ', '\t']).splitn(2, [' ', '\t']);
    let keyword = parts.next().unwrap_or_default();
    if keyword != "HELP" && keyword != "TYPE" {
        return Ok(());
    }
    let rest = parts.next().unwrap_or_default().trim_start_matches([' ', '\t']);
    let name_end = rest.find([' ', '\t']).unwrap_or(rest.len());
    let (name, rest) = (&rest[..name_end], rest[name_end..].trim_start_matches([' ', '\t']));
    if name.is_empty() {
        return Ok(());
    }
    if !is_metric_name(name) {
        return Err(format!("invalid metric name {name:?}"));
    }
    let draft = draft_of(name, drafts);
    if keyword == "HELP" {
        if draft.family.help.is_some() {
            return Err(format!("second HELP line for metric name {name:?}"));
        }
        draft.family.help = Some(unescape(rest, false).ok_or("invalid escape sequence")?);
        return Ok(());
    }
    if draft.has_type || !draft.family.samples.is_empty() {
        return Err(format!("second TYPE line for metric name {name:?}, or TYPE reported after samples"));
    }
    draft.has_type = true;
    draft.family.kind = parse_kind(rest.trim_end()).ok_or_else(|| format!("unknown metric type {rest:?}"))?;
    Ok(())
}

fn parse_kind(word: &str) -> Option<Kind> {
    match word.to_ascii_lowercase().as_str() {
        "counter" => Some(Kind::Counter),
        "gauge" => Some(Kind::Gauge),
        "histogram" => Some(Kind::Histogram),
        "summary" => Some(Kind::Summary),
        "untyped" => Some(Kind::Untyped),
        _ => None,
    }
}

fn draft_of<'d>(name: &str, drafts: &'d mut Vec<Draft>) -> &'d mut Draft {
    // The families of a file come one after the other, mostly.
    let at = drafts.iter().rposition(|draft| draft.family.name == name).unwrap_or_else(|| {
        let family = Parsed { name: name.to_owned(), help: None, kind: Kind::Untyped, samples: Vec::new() };
        drafts.push(Draft { family, has_type: false });
        drafts.len() - 1
    });
    &mut drafts[at]
}

/// The family of a sample, made if there is none, and what of the name is a suffix.
fn family_of(name: &str, drafts: &mut Vec<Draft>) -> (usize, &'static str) {
    for suffix in ["_bucket", "_sum", "_count"] {
        let Some(base) = name.strip_suffix(suffix) else { continue };
        let found = drafts.iter().rposition(|draft| {
            draft.family.name == base
                && match draft.family.kind {
                    Kind::Histogram => true,
                    Kind::Summary => suffix != "_bucket",
                    _ => false,
                }
        });
        if let Some(at) = found {
            return (at, suffix);
        }
    }
    draft_of(name, drafts);
    let at = drafts.iter().rposition(|draft| draft.family.name == name);
    (at.unwrap_or_default(), "")
}

type Labels = Vec<(String, String)>;

/// `name{a="b"} 1`.
fn parse_sample(line: &str, max_labels: usize) -> Result<(&str, Labels, f64), String> {
    let name_end = line.find(['{', ' ', '\t']).unwrap_or(line.len());
    let (name, rest) = line.split_at(name_end);
    if !is_metric_name(name) {
        return Err(format!("invalid metric name {name:?}"));
    }
    let rest = rest.trim_start_matches([' ', '\t']);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (Vec::new(), rest),
    };
    if labels.len() > max_labels {
        return Err(format!("{} labels, more than {max_labels}", labels.len()));
    }
    let mut words = rest.split([' ', '\t']).filter(|word| !word.is_empty());
    let value = words.next().ok_or("expected a value")?;
    let value = parse_value(value).ok_or_else(|| format!("expected float as value, got {value:?}"))?;
    match (words.next(), words.next()) {
        (None, _) => Ok((name, labels, value)),
        (Some(stamp), None) if stamp.parse::<i64>().is_ok() => {
            Err("unsupported client-side timestamp: the whole file is left out".into())
        }
        (Some(junk), _) => Err(format!("expected the end of the line after the value, got {junk:?}")),
    }
}

/// What follows the opening brace: the labels, and the rest of the line after the closing one.
fn parse_labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut labels: Labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let equals = rest.find('=').ok_or("expected '=' after a label name")?;
        let name = rest[..equals].trim_end_matches([' ', '\t']);
        if !is_label_name(name) || name == "__name__" {
            return Err(format!("invalid label name {name:?}"));
        }
        if labels.iter().any(|(present, _)| present == name) {
            return Err(format!("duplicate label name {name:?}"));
        }
        rest = rest[equals + 1..].trim_start_matches([' ', '\t']);
        rest = rest.strip_prefix('"').ok_or("expected '\"' at start of label value")?;
        let end = closing_quote(rest).ok_or("label value contains unescaped new-line, or has no end")?;
        let value = unescape(&rest[..end], true).ok_or("invalid escape sequence")?;
        labels.push((name.to_owned(), value));
        rest = rest[end + 1..].trim_start_matches([' ', '\t']);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return Err("expected ',' or '}' after a label value".into()),
        }
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let found = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        found
    })
}

/// `\\` and `\n`, and `\"` in label values.
fn unescape(text: &str, quotes: bool) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        plain.push(match char {
            '\\' => match chars.next()? {
                '\\' => '\\',
                'n' => '\n',
                '"' if quotes => '"',
                _ => return None,
            },
            _ => char,
        });
    }
    Some(plain)
}

fn is_metric_name(name: &str) -> bool {
    let is_start = |b: u8| b.is_ascii_alphabetic() || b == b'_' || b == b':';
    name.bytes().next().is_some_and(is_start) && name.bytes().all(|b| is_start(b) || b.is_ascii_digit())
}

fn is_label_name(name: &str) -> bool {
    is_metric_name(name) && !name.contains(':')
}

/// As Go reads floats, but for hexadecimal ones.
fn parse_value(word: &str) -> Option<f64> {
    word.parse().ok()
}

/// One histogram or summary of a family.
struct Member {
    /// Those that distinguish it: all but the bound.
    labels: Labels,
    /// Bounds and what stands at them.
    bounds: Vec<(f64, f64)>,
    sum: f64,
    count: f64,
}

/// Puts the samples of histograms and summaries in order: by labels, and within them by bound; the bound as
/// the format writes numbers, and no histogram without its last bucket.
fn finish(mut family: Parsed) -> Parsed {
    let (key, suffix) = match family.kind {
        Kind::Histogram => ("le", "_bucket"),
        Kind::Summary => ("quantile", ""),
        _ => return family,
    };
    let mut members: Vec<Member> = Vec::new();
    for Sample { suffix: of, mut labels, value } in std::mem::take(&mut family.samples) {
        let bound = labels.iter().position(|(name, _)| name == key).filter(|_| of == suffix);
        let bound = bound.map(|at| parse_value(&labels.remove(at).1).unwrap_or(f64::NAN));
        labels.sort_unstable();
        let at = members.iter().rposition(|member| member.labels == labels).unwrap_or_else(|| {
            members.push(Member { labels, bounds: Vec::new(), sum: 0.0, count: 0.0 });
            members.len() - 1
        });
        match (bound, of) {
            (Some(bound), _) => members[at].bounds.push((bound, value)),
            (None, "_sum") => members[at].sum = value,
            (None, _) => members[at].count = value,
        }
    }
    for Member { labels, mut bounds, sum, count } in members {
        bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        bounds.dedup_by(|later, first| later.0 == first.0);
        if family.kind == Kind::Histogram && bounds.last().is_none_or(|&(bound, _)| bound != f64::INFINITY) {
            bounds.push((f64::INFINITY, count));
        }
        for (bound, value) in bounds {
            let mut labels = labels.clone();
            labels.push((key.to_owned(), format_bound(bound)));
            family.samples.push(Sample { suffix, labels, value });
        }
        family.samples.push(Sample { suffix: "_sum", labels: labels.clone(), value: sum });
        family.samples.push(Sample { suffix: "_count", labels, value: count });
    }
    family
}

/// A number as the format writes it: Go's shortest form, with an exponent below 1e-4 and from 1e6 on.
fn format_bound(bound: f64) -> String {
    if bound.is_nan() {
        return "NaN".into();
    }
    if bound.is_infinite() {
        return if bound > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let scientific = format!("{bound:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return format!("{bound}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
