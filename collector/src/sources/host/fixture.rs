//! JSON files in the place of the kernel, for the `fixtures` flags of node_exporter: parsed again when they change.

use std::path::PathBuf;

use serde::de::DeserializeOwned;

use super::CollectError;
use crate::sys::file::KeptFile;

/// A file, and what it said.
pub(super) struct Fixture<T> {
    file: KeptFile,
    text: Vec<u8>,
    value: Option<T>,
}

impl<T: DeserializeOwned> Fixture<T> {
    pub(super) fn new(path: PathBuf) -> Self {
        Fixture { file: KeptFile::new(path), text: Vec::new(), value: None }
    }

    /// # Errors
    /// [`CollectError::Absent`] where there is no such file.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>) -> Result<&T, CollectError> {
        let Fixture { file, text, value } = self;
        let read = file.read(buffer).map_err(CollectError::absent_is_no_data)?;
        if value.is_none() || text != read {
            *value = None;
            text.clear();
            text.extend_from_slice(read);
            // JSON is YAML as well, and a reader of that is here.
            let parsed = serde_norway::from_slice(text).map_err(|error| {
                let line = error.location().map_or(1, |place| place.line());
                CollectError::malformed(file.path(), line, error.to_string())
            })?;
            return Ok(value.insert(parsed));
        }
        value.as_ref().ok_or_else(|| CollectError::Other("a fixture that says nothing".into()))
    }
}
