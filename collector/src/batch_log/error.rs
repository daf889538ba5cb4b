//! Why the log could not do what it should.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the log. None of them leaves it unusable: the next call tries again.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another process has the folder.
    #[error("{} is in use by another process{}", folder.display(), holder.as_ref().map(|h| format!(" ({h})")).unwrap_or_default())]
    Locked { folder: PathBuf, holder: Option<String> },
    /// No room on the disk, or in the quota. What is appended must be kept elsewhere until there is room.
    #[error("no room for {}: {source}", path.display())]
    Full { path: PathBuf, source: io::Error },
    /// Any other failure of the file system; also that it is mounted read-only.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// A batch that would not fit into a record, whatever the disk.
    #[error("a batch of {bytes} bytes is larger than a record may be")]
    TooLarge { bytes: usize },
}

impl LogError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                LogError::Full { path, source }
            }
            _ => LogError::Io { path, source },
        }
    }

    /// Whether the same append may succeed later.
    pub fn is_passing(&self) -> bool {
        !matches!(self, LogError::TooLarge { .. })
    }
}
