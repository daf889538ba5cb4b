//! Anchored regular expressions and the templates that their groups fill, as Go's `regexp` has them.
//!
//! Most rules hold a plain word, a list of words, `.*` or `.+`: those are compared without a regex at all. The
//! rest is translated from Go's syntax ([`super::pattern`]'s `syntax`) and left to the crate `regex`.

mod syntax;

use regex::{Captures, Regex, RegexBuilder};

/// Bytes that a compiled expression may take; a list of tens of thousands of words fits.
const MAX_COMPILED: usize = 16 << 20;

/// A regular expression anchored at both ends, in which `.` matches line ends too.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    kind: Kind,
    /// Whether the whole of it is group 1; where `kind` is not a regex.
    grouped: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    /// `.*`
    Any,
    /// `.+`
    NotEmpty,
    /// Sorted.
    Words(Vec<String>),
    Regex(Regex),
}

impl Pattern {
    /// # Errors
    /// What is wrong with the expression.
    pub fn new(source: &str) -> Result<Self, String> {
        let inner = source.strip_prefix('(').and_then(|inner| inner.strip_suffix(')'));
        for (inner, grouped) in [(Some(source), false), (inner, true)] {
            if let Some(kind) = inner.and_then(plain) {
                return Ok(Pattern { source: source.to_owned(), kind, grouped });
            }
        }
        let translated =
            syntax::translate(source).map_err(|why| format!("invalid regex {source:?}: {why}"))?;
        let regex = RegexBuilder::new(&format!("^(?s:{translated})$"))
            .size_limit(MAX_COMPILED)
            .build()
            .map_err(|error| format!("invalid regex {source:?}: {}", short(&error)))?;
        Ok(Pattern { source: source.to_owned(), kind: Kind::Regex(regex), grouped: false })
    }

    /// As typed.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn is_match(&self, text: &str) -> bool {
        match &self.kind {
            Kind::Any => true,
            Kind::NotEmpty => !text.is_empty(),
            Kind::Words(words) => words.binary_search_by(|word| word.as_str().cmp(text)).is_ok(),
            Kind::Regex(regex) => regex.is_match(text),
        }
    }

    /// Where `text` matches, appends what the templates come to, each to its own buffer.
    pub fn expand(&self, text: &str, templates: &[&Template], out: &mut [&mut String]) -> bool {
        match &self.kind {
            Kind::Regex(regex) => {
                if templates.iter().all(|template| template.is_literal()) {
                    if !regex.is_match(text) {
                        return false;
                    }
                    fill(templates, out, |_| "");
                } else {
                    let Some(groups) = regex.captures(text) else { return false };
                    fill(templates, out, |number| group(&groups, number));
                }
            }
            _ => {
                if !self.is_match(text) {
                    return false;
                }
                let last = usize::from(self.grouped);
                fill(templates, out, |number| if number <= last { text } else { "" });
            }
        }
        true
    }

    /// The group of that name that Go would take.
    fn named_group(&self, name: &str) -> Option<usize> {
        match &self.kind {
            Kind::Regex(regex) => regex.capture_names().position(|known| known == Some(name)),
            _ => None,
        }
    }
}

fn group<'t>(groups: &Captures<'t>, number: usize) -> &'t str {
    groups.get(number).map_or("", |found| found.as_str())
}

fn fill<'t>(templates: &[&Template], out: &mut [&mut String], group: impl Fn(usize) -> &'t str) {
    for (template, out) in templates.iter().zip(out) {
        for part in &template.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Group(number) => out.push_str(group(*number)),
            }
        }
    }
}

/// What needs no regex.
fn plain(source: &str) -> Option<Kind> {
    match source {
        ".*" => return Some(Kind::Any),
        ".+" => return Some(Kind::NotEmpty),
        _ => {}
    }
    if source.contains(['\\', '.', '+', '*', '?', '(', ')', '[', ']', '{', '}', '^', '$']) {
        return None;
    }
    let mut words: Vec<String> = source.split('|').map(str::to_owned).collect();
    words.sort_unstable();
    Some(Kind::Words(words))
}

/// The last line of an error, which alone says what is wrong.
fn short(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => format!("compiled it is larger than {limit} bytes"),
        _ => {
            let text = error.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    }
}

/// A text in which `$1`, `${1}`, `${name}` stand for groups and `$$` for a dollar, by the rules of Go's
/// `Regexp.Expand`: a name is as long as letters, digits and underscores go (`$1x` is a group named `1x`), a
/// group that does not exist is empty, a dollar that begins nothing stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Group(usize),
}

impl Template {
    pub fn new(text: &str, pattern: &Pattern) -> Self {
        let mut parts = Vec::new();
        let (mut literal, mut rest) = (String::new(), text);
        while let Some(at) = rest.find('$') {
            literal.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                literal.push('$');
                rest = after;
                continue;
            }
            let Some((name, after)) = group_name(rest) else {
                literal.push('$');
                continue;
            };
            rest = after;
            let Some(number) = group_number(name).or_else(|| pattern.named_group(name)) else { continue };
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Group(number));
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Template(parts)
    }

    pub fn literal(text: &str) -> Self {
        Template(vec![Part::Text(text.to_owned())])
    }

    fn is_literal(&self) -> bool {
        !self.0.iter().any(|part| matches!(part, Part::Group(_)))
    }
}

impl std::ops::Deref for Template {
    type Target = str;

    /// The text of a template without groups; of another one its beginning.
    fn deref(&self) -> &str {
        match self.0.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }
}

/// The name after a dollar, and what follows it.
fn group_name(text: &str) -> Option<(&str, &str)> {
    let is_word = |c: char| c.is_alphabetic() || c.is_numeric() || c == '_';
    let (inner, braced) = text.strip_prefix('{').map_or((text, false), |inner| (inner, true));
    let end = inner.find(|c| !is_word(c)).unwrap_or(inner.len());
    let (name, after) = inner.split_at(end);
    if name.is_empty() {
        return None;
    }
    if braced { after.strip_prefix('}').map(|after| (name, after)) } else { Some((name, after)) }
}

/// `None` for what is a name. Go takes no leading zeros, and nothing from 10^8 on.
fn group_number(name: &str) -> Option<usize> {
    let is_number = name.bytes().all(|c| c.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    if !is_number || name.len() > 8 { None } else { name.parse().ok() }
}
