//! Files of one number: sysctls, and attributes of sysfs.

use super::CollectError;
use crate::sys::file::KeptFile;
use crate::sys::text;

/// Reads a file that holds one whole number.
///
/// # Errors
/// [`CollectError::Absent`] where there is no such file, any other for what went wrong.
pub(super) fn read_u64(file: &mut KeptFile, buffer: &mut Vec<u8>) -> Result<u64, CollectError> {
    read(file, buffer, text::parse_u64)
}

/// As [`read_u64`], for a number that may be negative.
pub(super) fn read_i64(file: &mut KeptFile, buffer: &mut Vec<u8>) -> Result<i64, CollectError> {
    read(file, buffer, text::parse_i64)
}

fn read<T>(
    file: &mut KeptFile,
    buffer: &mut Vec<u8>,
    parse: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<T, CollectError> {
    let text = file.read(buffer).map_err(CollectError::absent_is_no_data)?;
    parse(text::trim(text)).ok_or_else(|| CollectError::malformed(file.path(), 1, "expected a whole number"))
}
