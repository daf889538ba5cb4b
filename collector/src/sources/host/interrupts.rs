//! Interrupts by line and CPU, from /proc/interrupts (proc_interrupts(5)): a line an interrupt, a column a CPU.
//! Cost a tick: one read a page, and one pass over the numbers; what stands around them is compared with what stood
//! there last time. Lines without a number for each CPU and words after them (ERR, MIS) are left out.

use super::cpu_columns::CpuColumns;
use super::error::Faults;
use super::{CollectError, Collector, Filter, Flag, FlagDefault, Registration, SetupError, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

const INCLUDE_FLAG: &str = "collector.interrupts.name-include";
const EXCLUDE_FLAG: &str = "collector.interrupts.name-exclude";
const ZEROS_FLAG: &str = "collector.interrupts.include-zeros";

static INTERRUPTS: Family = Family::counter(
    "node_interrupts_total",
    "Interrupts that a CPU served, by interrupt line.",
    &["cpu", "type", "info", "devices"],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "interrupts",
    default_enabled: false,
    flags: &[
        Flag::new(
            INCLUDE_FLAG,
            FlagDefault::Text(""),
            "Pattern of the interrupts to take, written as `type;info;devices` (not with name-exclude).",
        ),
        Flag::new(
            EXCLUDE_FLAG,
            FlagDefault::Text(""),
            "Pattern of the interrupts to leave out, written as `type;info;devices` (not with name-include).",
        ),
        Flag::new(ZEROS_FLAG, FlagDefault::Switch(true), "Give also the interrupts that a CPU never served."),
    ],
    families: &[&INTERRUPTS],
    new: |setup| {
        let filter = Filter::from_flags(setup.flags, (INCLUDE_FLAG, ""), (EXCLUDE_FLAG, ""));
        Ok(Box::new(Interrupts {
            // A line may be longer than a page: the end of the file is proved by one more read.
            file: KeptFile::new(setup.paths.proc("interrupts")),
            filter: filter.map_err(SetupError::of("interrupts"))?,
            zeros: setup.flags.switch(ZEROS_FLAG),
            cpus: CpuColumns::default(),
            lines: Vec::new(),
            numbers: Vec::new(),
        }))
    },
};

struct Interrupts {
    file: KeptFile,
    filter: Filter,
    zeros: bool,
    cpus: CpuColumns,
    /// What the words of each line were last time, by position.
    lines: Vec<Line>,
    /// Of the line at hand.
    numbers: Vec<u64>,
}

/// The words of a line, before and after its numbers.
struct Line {
    before: Vec<u8>,
    after: Vec<u8>,
    name: String,
    info: String,
    devices: String,
    ignored: bool,
}

impl Collector for Interrupts {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let Interrupts { file, filter, zeros, cpus, lines, numbers } = self;
        let text = file.read(&mut tick.buffer)?;
        let mut faults = Faults::default();
        let mut rows = text::ended_lines(text).enumerate();
        let Some((_, header)) = rows.next() else {
            return Err(CollectError::malformed(file.path(), 1, "expected a line of CPUs"));
        };
        if cpus.refresh(header) {
            lines.clear();
        }
        let mut count = 0;
        for (number, row) in rows {
            let Some(colon) = row.iter().position(|&b| b == b':') else {
                let expected = "expected a name and a colon";
                faults.note(|| CollectError::malformed(file.path(), number + 1, expected));
                continue;
            };
            let (before, mut after) = (&row[..colon], &row[colon + 1..]);
            numbers.clear();
            numbers.extend(std::iter::from_fn(|| text::take_u64(&mut after)).take(cpus.iter().len()));
            let is_whole = numbers.len() == cpus.iter().len();
            if !is_whole {
                let Some(rest) = skip_words(&row[colon + 1..], cpus.iter().len()) else { continue };
                after = rest;
            }
            let is_same = |line: &&Line| line.before == before && line.after == after;
            if lines.get(count).filter(is_same).is_none() {
                if text::words(after).next().is_none() {
                    continue;
                }
                lines.truncate(count);
                lines.push(Line::parse(before, after, filter));
            }
            let line = &lines[count];
            count += 1;
            if line.ignored {
                continue;
            }
            line.put(numbers, cpus, *zeros, out);
            if !is_whole {
                let expected = "expected a whole number for each CPU";
                faults.note(|| CollectError::malformed(file.path(), number + 1, expected));
            }
        }
        lines.truncate(count);
        faults.finish()
    }
}

/// What comes after so many words; `None` if no word does.
fn skip_words(line: &[u8], count: usize) -> Option<&[u8]> {
    let mut words = text::words(line);
    if count > 0 {
        words.nth(count - 1)?;
    }
    let rest = words.rest();
    words.next().map(|_| rest)
}

impl Line {
    fn parse(before: &[u8], after: &[u8], filter: &mut Filter) -> Self {
        let join = |words: text::Words<'_>| {
            let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
            words.join(" ")
        };
        let name = String::from_utf8_lossy(text::trim(before)).into_owned();
        let mut words = text::words(after);
        // A numbered interrupt says what serves it first, and then which devices have it.
        let (info, devices) = if text::parse_i64(name.as_bytes()).is_some() {
            let info = words.next().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
            (info, join(words))
        } else {
            (join(words), String::new())
        };
        let ignored = filter.ignores(&format!("{name};{info};{devices}"));
        Line { before: before.to_vec(), after: after.to_vec(), name, info, devices, ignored }
    }

    fn put(&self, numbers: &[u64], cpus: &CpuColumns, zeros: bool, out: &mut Recorder) {
        for (cpu, &number) in cpus.iter().zip(numbers) {
            if zeros || number != 0 {
                out.put(&INTERRUPTS, &[cpu, &self.name, &self.info, &self.devices], number as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_after_the_numbers() {
        assert_eq!(skip_words(b"  1   2  IO-APIC  timer", 2), Some(&b"  IO-APIC  timer"[..]));
        assert_eq!(skip_words(b" 0", 2), None, "ERR");
        assert_eq!(skip_words(b" 0 1 ", 2), None);
        let line = Line::parse(b"  9", b"  IR-IO-APIC    9-fasteoi   acpi, mmc0", &mut Filter::default());
        assert_eq!((&*line.name, &*line.info, &*line.devices), ("9", "IR-IO-APIC", "9-fasteoi acpi, mmc0"));
        let line = Line::parse(b" LOC", b"   Local timer interrupts", &mut Filter::default());
        assert_eq!((&*line.name, &*line.info, &*line.devices), ("LOC", "Local timer interrupts", ""));
    }
}
