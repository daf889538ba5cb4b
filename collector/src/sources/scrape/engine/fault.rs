//! Why a scrape failed.

use std::fmt;

/// Why there is no page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The limit that was passed, in bytes.
    BodyTooLong(usize),
    /// Not of the short way: another request must be made.
    Redirected,
    Other(String),
}

impl Fault {
    pub(super) fn other(text: impl Into<String>) -> Self {
        Fault::Other(text.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::BodyTooLong(limit) => write!(f, "body size limit exceeded: more than {limit} bytes"),
            Fault::Redirected => f.write_str("redirected"),
            Fault::Other(text) => f.write_str(text),
        }
    }
}
