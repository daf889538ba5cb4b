//! Why a collector could not read what it should.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::sys::file::ReadError;

/// Ends one collector's part of one tick. What it had handed over before stays.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// This host has no such thing: logged at debug level only.
    #[error("no data: {0}")]
    NoData(Cow<'static, str>),
    /// As above, because the file in which it would be is absent.
    #[error("no data: {0}")]
    Absent(ReadError),
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file does not say what its documentation says it should.
    #[error("{}:{line}: {what}", path.display())]
    Malformed { path: PathBuf, line: usize, what: String },
    #[error("did not end before the deadline of the tick: it is left out until it has ended")]
    Late,
    #[error("{0}")]
    Other(String),
}

impl CollectError {
    /// `line` counts from 1.
    pub fn malformed(path: &Path, line: usize, what: impl Into<String>) -> Self {
        CollectError::Malformed { path: path.to_owned(), line, what: what.into() }
    }

    /// What went wrong with a system call, and which.
    pub fn call(name: &str, error: &std::io::Error) -> Self {
        CollectError::Other(format!("{name}: {error}"))
    }

    /// Turns "no such file" into [`CollectError::NoData`], for hardware or features that a host may lack.
    pub fn absent_is_no_data(error: ReadError) -> Self {
        match error.source.kind() {
            std::io::ErrorKind::NotFound => CollectError::Absent(error),
            _ => CollectError::Read(error),
        }
    }

    /// Whether it only says that this host has no such thing.
    pub fn is_no_data(&self) -> bool {
        matches!(self, CollectError::NoData(_) | CollectError::Absent(_))
    }

    /// Whether both say the same. Unlike a comparison of their texts, this needs no memory.
    pub(super) fn is_same(&self, other: &CollectError) -> bool {
        use CollectError::{Absent, Late, Malformed, NoData, Other, Read};
        let are_same = |a: &ReadError, b: &ReadError| {
            a.path == b.path
                && a.source.kind() == b.source.kind()
                && a.source.raw_os_error() == b.source.raw_os_error()
        };
        match (self, other) {
            (NoData(a), NoData(b)) => a == b,
            (Absent(a), Absent(b)) | (Read(a), Read(b)) => are_same(a, b),
            (Malformed { path, line, what }, Malformed { path: path2, line: line2, what: what2 }) => {
                (path, line, what) == (path2, line2, what2)
            }
            (Other(a), Other(b)) => a == b,
            (Late, Late) => true,
            _ => false,
        }
    }
}

/// Lets a collector go on after a fault, and end with the first one that it met.
#[derive(Debug, Default)]
pub(super) struct Faults(Option<CollectError>);

impl Faults {
    /// The error is made only if it is the first.
    pub(super) fn note(&mut self, error: impl FnOnce() -> CollectError) {
        if self.0.is_none() {
            self.0 = Some(error());
        }
    }

    pub(super) fn finish(self) -> Result<(), CollectError> {
        self.0.map_or(Ok(()), Err)
    }
}
