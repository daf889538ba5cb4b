//! What is wrong with a value, and under which keys it stands: `scrape_configs[3].relabel_configs[0].regex`.

use std::fmt::{self, Display};

#[derive(Debug)]
pub(super) struct Fault {
    path: String,
    why: String,
}

pub(super) type Resolved<T> = Result<T, Fault>;

impl Fault {
    pub(super) fn new(key: impl Into<String>, why: impl Into<String>) -> Self {
        Fault { path: key.into(), why: why.into() }
    }

    /// The same fault, seen from the section that holds it.
    pub(super) fn under(mut self, section: impl Display) -> Self {
        let separator = if self.path.is_empty() { "" } else { "." };
        self.path = format!("{section}{separator}{}", self.path);
        self
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.why)
    }
}

/// A fault that concerns no single key.
pub(super) fn fault<T>(why: impl Into<String>) -> Resolved<T> {
    Err(Fault::new("", why))
}

/// A fault at a key.
pub(super) fn fault_at<T>(key: &str, why: impl Into<String>) -> Resolved<T> {
    Err(Fault::new(key, why))
}

/// Resolves the entries of a list; a fault names the number of its entry.
pub(super) fn each<T, U>(
    section: &str,
    entries: Option<Vec<T>>,
    mut resolve: impl FnMut(T) -> Resolved<U>,
) -> Resolved<Vec<U>> {
    let entries = entries.unwrap_or_default().into_iter().enumerate();
    entries
        .map(|(number, entry)| {
            resolve(entry).map_err(|fault| fault.under(format_args!("{section}[{number}]")))
        })
        .collect()
}
