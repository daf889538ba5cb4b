//! Why a page was refused, said to a person.

use std::fmt;

/// What kind of fault a page has: some are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is not what its format allows.
    Syntax,
    SampleLimit,
    LabelLimit,
    BucketLimit,
    /// More than the reader can number.
    Size,
}

/// Where the fault is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Page,
    /// Counted from 1.
    Line(usize),
    /// The message of a metric family, counted from 1.
    Family(usize),
}

/// A page that was refused as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageError {
    pub fault: Fault,
    pub place: Place,
    pub reason: String,
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Page => write!(f, "{}", self.reason),
            Place::Line(line) => write!(f, "line {line}: {}", self.reason),
            Place::Family(number) => write!(f, "metric family {number}: {}", self.reason),
        }
    }
}

impl std::error::Error for PageError {}

/// A fault whose place is not known yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Flaw {
    pub fault: Fault,
    pub reason: String,
}

impl Flaw {
    pub(super) fn syntax(reason: impl Into<String>) -> Self {
        Flaw { fault: Fault::Syntax, reason: reason.into() }
    }

    pub(super) fn at(self, place: Place) -> PageError {
        PageError { fault: self.fault, place, reason: self.reason }
    }

    /// The fault stands at byte `at` of a text.
    pub(super) fn in_text(self, body: &[u8], at: usize) -> PageError {
        let before = &body[..at.min(body.len())];
        self.at(Place::Line(memchr::memchr_iter(b'\n', before).count() + 1))
    }
}

/// What of a text is shown to a person: the first 50 bytes, where they are UTF-8.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    const MOST: usize = 50;
    let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    let cut = &bytes[..end.min(MOST)];
    let text = String::from_utf8_lossy(cut);
    if end > MOST { format!("{text:?}...") } else { format!("{text:?}") }
}
