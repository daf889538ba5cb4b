//! The log's folder: names of segments, the lock, and where the last segment ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::LogError;
use super::record::{self, Found, OPENING};

const SUFFIX: &str = ".batches";
/// How much is read at once where a segment is looked through.
pub(super) const CHUNK: usize = 64 << 10;

/// Where the segment that begins with batch `first` is.
pub(super) fn segment_path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}{SUFFIX}"))
}

/// What a folder's listing says of a segment.
pub(super) struct Listed {
    pub first: u64,
    pub bytes: u64,
    /// When it was last written to, in milliseconds since 1970.
    pub newest_ms: i64,
}

/// The segments of a folder, oldest first.
pub(super) fn list_segments(folder: &Path) -> Result<Vec<Listed>, LogError> {
    let fail = |error| LogError::io(folder, error);
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).filter(|number| number.len() == 20);
        let Some(first) = number.and_then(|number| number.parse().ok()) else { continue };
        let metadata = entry.metadata().map_err(fail)?;
        let written =
            metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let newest_ms = written.map_or(0, |since| since.as_millis() as i64);
        segments.push(Listed { first, bytes: metadata.len(), newest_ms });
    }
    segments.sort_unstable_by_key(|segment| segment.first);
    Ok(segments)
}

/// Makes the folder if need be, and takes it for this process until the file is closed.
pub(super) fn lock_folder(folder: &Path) -> Result<File, LogError> {
    fs::create_dir_all(folder).map_err(|error| LogError::io(folder, error))?;
    let path = folder.join("lock");
    let fail = |error| LogError::io(&path, error);
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(false).mode(0o640).open(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).ok().filter(|text| !text.is_empty());
            return Err(LogError::Locked { folder: folder.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(fail(error)),
    }
    // Only for the message above; a full disk must not keep us from starting.
    let text = format!("pid {}", std::process::id());
    if file.set_len(0).and_then(|()| file.write_all_at(text.as_bytes(), 0)).is_err() {
        log::debug!("could not write the process id to {}", path.display());
    }
    Ok(file)
}

/// Reads a segment piece by piece.
pub(super) struct Window {
    file: File,
    pub bytes: Vec<u8>,
    /// Where in the file the bytes begin.
    start: u64,
    /// Where in the file the reader stands, which is in the bytes or at their end.
    pub at: u64,
}

impl Window {
    pub(super) fn open(path: &Path, memory: Vec<u8>) -> io::Result<Self> {
        let mut bytes = memory;
        bytes.clear();
        Ok(Window { file: File::open(path)?, bytes, start: 0, at: 0 })
    }

    /// What is known from `at` on.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[(self.at - self.start) as usize..]
    }

    /// Reads on until `wanted` bytes from `at` on are there, or all up to `limit`. Nothing beyond `limit` is read.
    pub(super) fn fill(&mut self, wanted: usize, limit: u64) -> io::Result<()> {
        let kept = (self.at - self.start) as usize;
        self.bytes.drain(..kept);
        self.start = self.at;
        let end = limit.min(self.at + wanted.max(CHUNK) as u64);
        let mut filled = self.bytes.len();
        let total = end.saturating_sub(self.start) as usize;
        if total <= filled {
            return Ok(());
        }
        self.bytes.resize(total, 0);
        let result = loop {
            if filled == total {
                break Ok(());
            }
            match self.file.read_at(&mut self.bytes[filled..], self.start + filled as u64) {
                Ok(0) => break Ok(()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.bytes.truncate(filled);
        result
    }

    /// Goes to the next sound record before `limit`, and gives its length, `None` at the end, and how many bytes
    /// were skipped on the way. The caller takes the record with [`record::known`], and goes on behind it.
    pub(super) fn next_record(&mut self, limit: u64) -> io::Result<(Option<usize>, u64)> {
        let mut skipped = 0;
        if self.at == 0 {
            self.fill(OPENING.len(), limit)?;
            self.at = if self.rest().starts_with(&OPENING) { OPENING.len() as u64 } else { 0 };
        }
        while self.at < limit {
            let step = match record::parse(self.rest(), limit - self.at) {
                Found::Record(found) => return Ok((Some(record::HEAD + found.payload.len()), skipped)),
                Found::Needs(wanted) => {
                    let had = self.rest().len();
                    self.fill(wanted, limit)?;
                    if self.rest().len() > had {
                        continue;
                    }
                    1
                }
                Found::Nothing if self.rest().len() < 2 => {
                    let had = self.rest().len();
                    self.fill(CHUNK, limit)?;
                    if self.rest().len() > had {
                        continue;
                    }
                    1
                }
                Found::Nothing => record::next_mark(self.rest()).max(1) as u64,
            };
            let step = step.min(limit - self.at);
            self.at += step;
            skipped += step;
        }
        Ok((None, skipped))
    }
}

/// The end of the last sound record of a segment, and the number and samples of its last batch.
pub(super) struct End {
    pub bytes: u64,
    pub last: Option<(u64, u64)>,
}

/// Looks through a segment for its end: what a killed process left half written is after it.
pub(super) fn find_end(path: &Path, first: u64, bytes: u64) -> io::Result<End> {
    let mut window = Window::open(path, Vec::new())?;
    let mut end = End { bytes: 0, last: None };
    while let (Some(length), _) = window.next_record(bytes)? {
        let found = record::known(window.rest(), length);
        if found.kind == record::Kind::Batch {
            end.last = Some((record::sequence(first, found.sequence), record::samples(found.payload)));
        }
        window.at += length as u64;
        end.bytes = window.at;
    }
    Ok(end)
}
