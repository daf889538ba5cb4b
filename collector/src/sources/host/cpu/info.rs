//! /proc/cpuinfo: blocks of `key : value`, one a CPU. Cost a tick: the kernel asks every CPU for its frequency,
//! so the whole is off by default.

use std::path::PathBuf;

use super::super::{CollectError, OrderedFilter, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

pub(super) static INFO: Family = Family::gauge(
    "node_cpu_info",
    "What /proc/cpuinfo says of a CPU; always 1.",
    &[
        "package",
        "core",
        "cpu",
        "vendor",
        "family",
        "model",
        "model_name",
        "microcode",
        "stepping",
        "cachesize",
    ],
);
pub(super) static FREQUENCY: Family = Family::gauge(
    "node_cpu_frequency_hertz",
    "Frequency of a CPU, as /proc/cpuinfo has it.",
    &["package", "core", "cpu"],
);
pub(super) static FLAG_INFO: Family =
    Family::gauge("node_cpu_flag_info", "A flag of the first CPU; always 1.", &["flag"]);
pub(super) static BUG_INFO: Family =
    Family::gauge("node_cpu_bug_info", "A bug of the first CPU; always 1.", &["bug"]);

/// Keys in the order of the labels of [`INFO`], in the words of x86; other architectures have some of them.
const KEYS: [&str; 10] = [
    "physical id",
    "core id",
    "processor",
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "microcode",
    "stepping",
    "cache size",
];
const PROCESSOR: usize = 2;

/// The reader of the file.
pub(super) struct CpuInfo {
    file: KeptFile,
    flags: Option<OrderedFilter>,
    bugs: Option<OrderedFilter>,
}

impl CpuInfo {
    /// Patterns of flags and bugs to give; "" for none.
    pub(super) fn new(file: PathBuf, flags: &str, bugs: &str) -> Result<Self, String> {
        let compile = |pattern: &str| match pattern {
            "" => Ok(None),
            _ => OrderedFilter::new(pattern).map(Some),
        };
        Ok(CpuInfo { file: KeptFile::new(file), flags: compile(flags)?, bugs: compile(bugs)? })
    }

    pub(super) fn put(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let text = self.file.read(&mut tick.buffer)?;
        let mut block = Block::default();
        let mut blocks = 0;
        for line in text::ended_lines(text).chain([&b""[..]]) {
            if !line.is_empty() {
                block.take_in(line);
                continue;
            }
            if block.fields[PROCESSOR].is_empty() {
                continue;
            }
            block.put(out);
            if blocks == 0 {
                put_words(block.flags, &mut self.flags, &FLAG_INFO, out);
                put_words(block.bugs, &mut self.bugs, &BUG_INFO, out);
            }
            blocks += 1;
            block = Block::default();
        }
        if blocks == 0 {
            return Err(CollectError::malformed(
                self.file.path(),
                1,
                "expected a block that begins with `processor : N`",
            ));
        }
        Ok(())
    }
}

#[derive(Default)]
struct Block<'a> {
    fields: [&'a str; 10],
    megahertz: Option<f64>,
    flags: &'a [u8],
    bugs: &'a [u8],
}

impl<'a> Block<'a> {
    fn take_in(&mut self, line: &'a [u8]) {
        let Some(colon) = line.iter().position(|&b| b == b':') else { return };
        let (key, value) = (text::trim(&line[..colon]), text::trim(&line[colon + 1..]));
        match key {
            b"cpu MHz" => self.megahertz = text::parse_f64(value),
            b"flags" | b"Features" => self.flags = value,
            b"bugs" => self.bugs = value,
            _ => {
                if let Some(field) = KEYS.iter().position(|name| name.as_bytes() == key) {
                    self.fields[field] = text::as_str(value).unwrap_or_default();
                }
            }
        }
    }

    fn put(&self, out: &mut Recorder) {
        out.put(&INFO, &self.fields, 1.0);
        if let Some(megahertz) = self.megahertz {
            out.put(&FREQUENCY, &self.fields[..3], megahertz * 1e6);
        }
    }
}

fn put_words(words: &[u8], filter: &mut Option<OrderedFilter>, family: &'static Family, out: &mut Recorder) {
    let Some(filter) = filter else { return };
    filter.begin();
    for word in text::words(words) {
        if filter.passes(&[word]) {
            out.put(family, &[text::as_str(word).unwrap_or_default()], 1.0);
        }
    }
}
