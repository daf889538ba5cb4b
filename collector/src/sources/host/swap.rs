//! Swap areas, from /proc/swaps (proc_swaps(5)): a line each. Cost a tick: one read.

use super::error::Faults;
use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

const AREA: &[&str] = &["device", "swap_type"];
/// The unit of the sizes in the file.
const KIBIBYTE: f64 = 1024.0;

static SIZE: Family = Family::gauge("node_swap_size_bytes", "Size of a swap area in bytes.", AREA);
static USED: Family = Family::gauge("node_swap_used_bytes", "Bytes of a swap area that are in use.", AREA);
static PRIORITY: Family = Family::gauge(
    "node_swap_priority",
    "Priority of a swap area: the area with the highest is used first.",
    AREA,
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "swap",
    default_enabled: false,
    flags: &[],
    families: &[&PRIORITY, &SIZE, &USED],
    // A path may be as long as a page: the end of the file is proved by a second read.
    new: |setup| Ok(Box::new(Swap { file: KeptFile::new(setup.paths.proc("swaps")) })),
};

struct Swap {
    file: KeptFile,
}

impl Collector for Swap {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let text = self.file.read(&mut tick.buffer)?;
        let mut faults = Faults::default();
        for (number, line) in text::ended_lines(text).enumerate().skip(1) {
            let Some((labels, [size, used, priority])) = parse_line(line) else {
                let expected = "expected a path, a type, and three whole numbers";
                faults.note(|| CollectError::malformed(self.file.path(), number + 1, expected));
                continue;
            };
            out.put(&SIZE, &labels, size as f64 * KIBIBYTE);
            out.put(&USED, &labels, used as f64 * KIBIBYTE);
            out.put(&PRIORITY, &labels, priority as f64);
        }
        faults.finish()
    }
}

/// `/dev/sda2  partition  8388604  76  -2`. The path is as the kernel writes it, with `\040` for a space.
fn parse_line(line: &[u8]) -> Option<([&str; 2], [i64; 3])> {
    let mut words = text::words(line);
    let labels = [text::as_str(words.next()?)?, text::as_str(words.next()?)?];
    let mut number = || text::parse_i64(words.next()?);
    Some((labels, [number()?, number()?, number()?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_with_a_priority_below_zero() {
        let line = b"/swap\\040file                           file\t\t1048572\t\t512\t\t-2";
        assert_eq!(parse_line(line), Some((["/swap\\040file", "file"], [1_048_572, 512, -2])));
        assert_eq!(parse_line(b"/dev/sda2 partition 8 0"), None);
        assert_eq!(parse_line(b"/dev/sda2 partition 8 x 1"), None);
    }
}
