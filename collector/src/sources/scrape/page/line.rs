//! One line of a text page, read with care: what a position holds that was not known.
//!
//! Where the two formats differ, Prometheus' own reading is followed: text 0.0.4 takes blanks nearly everywhere
//! and goes without a last line feed, OpenMetrics takes single blanks in given places only. One thing is refused
//! that Prometheus takes: a value right behind a name, with nothing between them.

use std::borrow::Cow;

use super::error::{Flaw, excerpt};
use super::number::{parse_float, parse_millis, parse_seconds};
use crate::model::Kind;
use crate::relabel::Labels;

const NAME: &str = "__name__";

/// Reads along a text page.
pub(super) struct Scanner<'b> {
    pub bytes: &'b [u8],
    pub at: usize,
    /// OpenMetrics, else text 0.0.4.
    pub open: bool,
    /// That of the sample whose suffix was read last.
    pub exemplar: Option<RawExemplar<'b>>,
}

/// An exemplar as it stands behind a value.
pub(super) struct RawExemplar<'b> {
    /// Sorted by name.
    pub labels: Labels<'b>,
    pub value: f64,
    pub time: Option<i64>,
}

/// What a line of metadata says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Said<'b> {
    Type(Kind),
    Help(&'b str),
    Unit(&'b str),
}

/// A line that is no sample.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Remark<'b> {
    Metadata(Cow<'b, str>, Said<'b>),
    /// Blank lines, and comments that mean nothing.
    Nothing,
    /// `# EOF`.
    End,
}

impl<'b> Scanner<'b> {
    pub(super) fn new(bytes: &'b [u8], at: usize, open: bool) -> Self {
        Scanner { bytes, at, open, exemplar: None }
    }

    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(b'\n')
    }

    /// Passes over blanks, where the format has them.
    pub(super) fn blanks(&mut self) {
        while !self.open && matches!(self.peek(), b' ' | b'\t') {
            self.at += 1;
        }
    }

    fn rest(&self) -> &'b [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn flaw(&self, what: &str) -> Flaw {
        Flaw::syntax(format!("{what}, at {}", excerpt(self.rest())))
    }

    fn take(&mut self, byte: u8, what: &str) -> Result<(), Flaw> {
        if self.bytes.get(self.at) != Some(&byte) {
            return Err(self.flaw(what));
        }
        self.at += 1;
        Ok(())
    }

    /// A name without quotes; `None` where none begins here.
    fn plain_name(&mut self, colon: bool) -> Option<&'b str> {
        let rest = self.rest();
        let belongs = |&byte: &u8| byte.is_ascii_alphanumeric() || byte == b'_' || (colon && byte == b':');
        let length = rest.iter().take_while(|byte| belongs(byte)).count();
        if length == 0 || rest[0].is_ascii_digit() {
            return None;
        }
        self.at += length;
        std::str::from_utf8(&rest[..length]).ok()
    }

    /// What stands in quotes here, without its escapes.
    fn quoted(&mut self, what: &str) -> Result<Cow<'b, str>, Flaw> {
        let start = self.at + 1;
        let mut end = start;
        loop {
            let Some(found) = memchr::memchr2(b'"', b'\\', self.bytes.get(end..).unwrap_or_default()) else {
                return Err(self.flaw("a quote is not closed"));
            };
            end += found;
            if self.bytes[end] == b'"' {
                break;
            }
            if self.bytes.get(end + 1).is_none_or(|&byte| byte == b'\n') {
                return Err(self.flaw("a backslash ends a line"));
            }
            end += 2;
        }
        let raw = &self.bytes[start..end];
        if self.open && memchr::memchr(b'\n', raw).is_some() {
            return Err(self.flaw("a quote is not closed"));
        }
        let text = std::str::from_utf8(raw).map_err(|_| self.flaw(&format!("{what} is not UTF-8")))?;
        self.at = end + 1;
        Ok(unescape(text, true))
    }

    /// A name and labels up to the first byte of the value; `labels` gets them, `__name__` first, the others as
    /// they come, empty ones too.
    pub(super) fn series(&mut self, labels: &mut Labels<'b>) -> Result<(), Flaw> {
        labels.clear();
        let plain = self.plain_name(true);
        labels.push((NAME.into(), plain.unwrap_or_default().into()));
        let after = self.at;
        self.blanks();
        if self.peek() == b'{' {
            self.at += 1;
            self.labels(labels, plain.is_none())?;
        } else if plain.is_none() {
            return Err(self.flaw("no metric name where a line begins"));
        } else if !self.open && after == self.at {
            return Err(self.flaw("no blank between name and value"));
        }
        if labels[0].1.is_empty() {
            return Err(self.flaw("a series without a name"));
        }
        check_names(labels)?;
        self.blanks();
        if self.open { self.take(b' ', "no blank before the value") } else { Ok(()) }
    }

    /// What follows an opening brace. `nameless` says that a quoted name may stand inside.
    fn labels(&mut self, labels: &mut Labels<'b>, nameless: bool) -> Result<(), Flaw> {
        let mut named = !nameless;
        loop {
            self.blanks();
            if self.peek() == b'}' {
                self.at += 1;
                return Ok(());
            }
            let quoted = self.peek() == b'"';
            let name = if quoted {
                self.quoted("a name")?
            } else {
                self.plain_name(false).ok_or_else(|| self.flaw("no label name"))?.into()
            };
            self.blanks();
            if quoted && matches!(self.peek(), b',' | b'}') {
                if std::mem::replace(&mut named, true) {
                    return Err(self.flaw("a second metric name"));
                }
                labels[0].1 = name;
            } else {
                self.take(b'=', "no = behind a label name")?;
                self.blanks();
                if self.peek() != b'"' {
                    return Err(self.flaw("a label value without quotes"));
                }
                labels.push((name, self.quoted("a label value")?));
            }
            self.blanks();
            match self.peek() {
                b',' => self.at += 1,
                b'}' => {}
                // Text 0.0.4 goes without the comma.
                _ if !self.open => {}
                _ => return Err(self.flaw("neither comma nor brace behind a label")),
            }
        }
    }

    /// What stands behind a value, up to the end of the line or the blanks before it: the time, if there is one.
    pub(super) fn suffix(&mut self) -> Result<Option<i64>, Flaw> {
        if self.open {
            return self.open_suffix();
        }
        let value_end = self.at;
        self.blanks();
        if self.peek() == b'\n' {
            self.at = value_end;
            return Ok(None);
        }
        let token = self.token();
        let time = parse_millis(token)
            .ok_or_else(|| Flaw::syntax(format!("{} is no time in milliseconds", excerpt(token))))?;
        let end = self.at;
        self.blanks();
        if self.peek() != b'\n' {
            return Err(self.flaw("something follows the time"));
        }
        self.at = end;
        Ok(Some(time))
    }

    fn open_suffix(&mut self) -> Result<Option<i64>, Flaw> {
        let mut time = None;
        if self.peek() == b' ' && !self.rest().starts_with(b" # {") {
            self.at += 1;
            let token = self.token();
            let millis = parse_seconds(token);
            time = Some(millis.ok_or_else(|| Flaw::syntax(format!("{} is no time", excerpt(token))))?);
        }
        if self.rest().starts_with(b" # {") {
            self.at += 4;
            self.exemplar()?;
        }
        if self.bytes.get(self.at) != Some(&b'\n') {
            return Err(self.flaw("no line feed behind a sample"));
        }
        Ok(time)
    }

    /// An exemplar behind its opening brace.
    fn exemplar(&mut self) -> Result<(), Flaw> {
        let mut labels = vec![(Cow::Borrowed(NAME), Cow::Borrowed(""))];
        self.labels(&mut labels, false)?;
        check_names(&labels)?;
        labels.swap_remove(0);
        labels.sort_unstable();
        self.take(b' ', "an exemplar without a value")?;
        let token = self.token();
        let value =
            parse_float(token).ok_or_else(|| Flaw::syntax(format!("{} is no number", excerpt(token))))?;
        let mut time = None;
        if self.peek() == b' ' {
            self.at += 1;
            let token = self.token();
            let millis = parse_seconds(token);
            time = Some(millis.ok_or_else(|| Flaw::syntax(format!("{} is no time", excerpt(token))))?);
        }
        self.exemplar = Some(RawExemplar { labels, value, time });
        Ok(())
    }

    fn token(&mut self) -> &'b [u8] {
        let rest = self.rest();
        let ends = |&byte: &u8| byte == b'\n' || byte == b' ' || (byte == b'\t' && !self.open);
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// A line that begins with `#`, or has nothing, without its line feed. `at` is behind that.
    pub(super) fn remark(&mut self) -> Result<Remark<'b>, Flaw> {
        let rest = self.rest();
        let feed = memchr::memchr(b'\n', rest);
        let line = &rest[..feed.unwrap_or(rest.len())];
        self.at += line.len() + usize::from(feed.is_some());
        if self.open {
            let Some(words) = line.strip_prefix(b"# ") else { return Err(unknown(line)) };
            if words == b"EOF" {
                return Ok(Remark::End);
            }
            let word = |name: &[u8]| words.strip_prefix(name).and_then(|rest| rest.strip_prefix(b" "));
            return match (word(b"HELP"), word(b"TYPE"), word(b"UNIT")) {
                _ if feed.is_none() => Err(Flaw::syntax("the page does not end with # EOF")),
                (Some(rest), _, _) => metadata(rest, self.open, parse_help),
                (_, Some(rest), _) => metadata(rest, self.open, |_, text| parse_type(text, true)),
                (_, _, Some(rest)) => metadata(rest, self.open, parse_unit),
                _ => Err(unknown(line)),
            };
        }
        let Some(words) = line.strip_prefix(b"#").filter(|rest| rest.first().is_some_and(is_blank)) else {
            return Ok(Remark::Nothing);
        };
        let words = trim_start(words);
        let word = |name: &[u8]| words.strip_prefix(name).filter(|rest| rest.first().is_some_and(is_blank));
        match (word(b"HELP"), word(b"TYPE")) {
            (Some(rest), _) => metadata(trim_start(rest), self.open, parse_help),
            (_, Some(rest)) => metadata(trim_start(rest), self.open, |_, text| parse_type(text, false)),
            _ => Ok(Remark::Nothing),
        }
    }
}

fn unknown(line: &[u8]) -> Flaw {
    Flaw::syntax(format!("{} is neither a sample nor metadata", excerpt(line)))
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|byte| is_blank(byte)).count()..]
}

/// The name, the byte that parts it from the text, and the text.
fn metadata<'b>(
    bytes: &'b [u8],
    open: bool,
    parse: impl Fn(&str, &'b [u8]) -> Result<Said<'b>, Flaw>,
) -> Result<Remark<'b>, Flaw> {
    let mut scanner = Scanner::new(bytes, 0, open);
    let name = if scanner.peek() == b'"' {
        scanner.quoted("a name")?
    } else {
        let missing = || Flaw::syntax(format!("no metric name in metadata, at {}", excerpt(bytes)));
        scanner.plain_name(true).ok_or_else(missing)?.into()
    };
    if open && scanner.bytes.get(scanner.at) != Some(&b' ') {
        return Err(scanner.flaw("metadata without a text"));
    }
    let text = scanner.rest().get(1..).unwrap_or_default();
    let said = parse(&name, text)?;
    Ok(Remark::Metadata(name, said))
}

fn parse_help<'b>(_: &str, text: &'b [u8]) -> Result<Said<'b>, Flaw> {
    let text = std::str::from_utf8(text).map_err(|_| Flaw::syntax("a help text is not UTF-8"))?;
    Ok(Said::Help(text))
}

/// The words of types: which kind each is, and whether text 0.0.4 and OpenMetrics have it.
const TYPES: [(&str, Kind, bool, bool); 9] = [
    ("counter", Kind::Counter, true, true),
    ("gauge", Kind::Gauge, true, true),
    ("histogram", Kind::Histogram, true, true),
    ("summary", Kind::Summary, true, true),
    ("untyped", Kind::Untyped, true, false),
    ("unknown", Kind::Untyped, false, true),
    ("gaugehistogram", Kind::GaugeHistogram, false, true),
    ("info", Kind::Info, false, true),
    ("stateset", Kind::StateSet, false, true),
];

fn parse_type(text: &[u8], open: bool) -> Result<Said<'_>, Flaw> {
    let known = TYPES
        .iter()
        .find(|(word, _, plain, strict)| word.as_bytes() == text && if open { *strict } else { *plain });
    match known {
        Some((_, kind, ..)) => Ok(Said::Type(*kind)),
        None => Err(Flaw::syntax(format!("{} is no type of metric", excerpt(text)))),
    }
}

fn parse_unit<'b>(name: &str, text: &'b [u8]) -> Result<Said<'b>, Flaw> {
    let unit = std::str::from_utf8(text).map_err(|_| Flaw::syntax("a unit is not UTF-8"))?;
    let ends = name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'));
    if unit.is_empty() || ends {
        return Ok(Said::Unit(unit));
    }
    Err(Flaw::syntax(format!("unit {unit:?} does not end the name {name:?}")))
}

/// Whether every label has a name of its own.
pub(super) fn check_names(labels: &Labels<'_>) -> Result<(), Flaw> {
    for (at, (name, _)) in labels.iter().enumerate() {
        if name.is_empty() {
            return Err(Flaw::syntax("a label without a name"));
        }
        if at < LONG && labels[..at].iter().any(|other| other.0 == *name) {
            return Err(Flaw::syntax(format!("label name {name:?} is not unique")));
        }
    }
    if labels.len() > LONG {
        let mut names: Vec<&str> = labels.iter().map(|label| &*label.0).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Flaw::syntax(format!("label name {:?} is not unique", pair[0])));
        }
    }
    Ok(())
}

/// Labels beyond which they are sorted to find equal ones.
const LONG: usize = 32;

/// Text without escapes: `\\`, `\n` and, where quotes are escaped, `\"`. What else follows a backslash stays as it stands.
pub(super) fn unescape(text: &str, quotes: bool) -> Cow<'_, str> {
    if !text.contains('\\') {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let (replaced, length) = match after.as_bytes().first() {
            Some(b'n') => ("\n", 1),
            Some(b'"') if quotes => ("\"", 1),
            Some(b'\\') => ("\\", 1),
            _ => ("\\", 0),
        };
        plain.push_str(replaced);
        rest = &after[length..];
    }
    plain.push_str(rest);
    plain.into()
}
