//! The first line of files with a column a CPU (`CPU0 CPU1 CPU3`): the numbers of the CPUs as label values, made
//! when the line changes.

use crate::sys::text;

/// The CPUs of the columns.
#[derive(Debug, Default)]
pub(super) struct CpuColumns {
    line: Vec<u8>,
    cpus: Vec<Box<str>>,
}

impl CpuColumns {
    /// Takes the first line of this tick. Returns whether it is another than before.
    pub(super) fn refresh(&mut self, line: &[u8]) -> bool {
        if self.line == line {
            return false;
        }
        self.line.clear();
        self.line.extend_from_slice(line);
        // Where CPUs are offline, columns are left out: the name of the column says which CPU it is.
        let number = |(position, word): (usize, &[u8])| {
            let named = word.strip_prefix(b"CPU").and_then(text::parse_u64);
            named.unwrap_or(position as u64).to_string().into()
        };
        self.cpus = text::words(line).enumerate().map(number).collect();
        true
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.cpus.iter().map(|cpu| &**cpu)
    }
}
