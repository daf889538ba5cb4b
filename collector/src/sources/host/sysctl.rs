//! Kernel parameters that the command line asks for, from /proc/sys. Cost a tick: one read a parameter.

use super::error::Faults;
use super::{CollectError, Collector, Flag, FlagDefault, Paths, Registration, SetupError, Tick};
use crate::model::{Dynamic, Family, Kind, Recorder};
use crate::sys::file::KeptFile;
use crate::sys::text;

const INCLUDE_FLAG: &str = "collector.sysctl.include";
const INFO_FLAG: &str = "collector.sysctl.include-info";

static INFO: Family = Family::gauge(
    "node_sysctl_info",
    "A word of a kernel parameter that was asked for as text; always 1.",
    &["name", "value", "index"],
);
static NUMBERS: Family =
    Family::untyped("node_sysctl_*", "A number of a kernel parameter that was asked for.", &["index"]);

pub(super) static COLLECTOR: Registration = Registration {
    name: "sysctl",
    default_enabled: false,
    flags: &[
        Flag::new(
            INCLUDE_FLAG,
            FlagDefault::List(&[]),
            "A kernel parameter to give as numbers, `name` or `name:key,key` to name each of them; repeatable.",
        ),
        Flag::new(
            INFO_FLAG,
            FlagDefault::List(&[]),
            "A kernel parameter to give as text, a word a series; repeatable.",
        ),
    ],
    families: &[&NUMBERS, &INFO],
    new: |setup| {
        let parse = |is_numeric| {
            move |include: &str| {
                Parameter::parse(include, is_numeric, setup.paths).map_err(SetupError::of("sysctl"))
            }
        };
        let numbers = setup.flags.list(INCLUDE_FLAG).into_iter().map(parse(true));
        let words = setup.flags.list(INFO_FLAG).into_iter().map(parse(false));
        Ok(Box::new(Sysctl { parameters: numbers.chain(words).collect::<Result<_, _>>()? }))
    },
};

struct Sysctl {
    parameters: Vec<Parameter>,
}

struct Parameter {
    /// As it was asked for: `fs.file-nr`.
    name: String,
    /// As part of a metric's name: `fs_file_nr`.
    metric: String,
    /// Names of its numbers; if there are none, they are numbered.
    keys: Vec<String>,
    is_numeric: bool,
    file: KeptFile,
}

impl Parameter {
    fn parse(include: &str, is_numeric: bool, paths: &Paths) -> Result<Self, String> {
        let (name, keys) = include.split_once(':').unwrap_or((include, ""));
        let keys: Vec<String> = keys.split(',').filter(|key| !key.is_empty()).map(str::to_owned).collect();
        if name.is_empty() {
            return Err(format!("no kernel parameter in {include:?}"));
        }
        if let Some(key) = keys.iter().find(|key| !text::is_name(key)) {
            return Err(format!("{key:?} in {include:?} can't be part of a metric's name"));
        }
        if !is_numeric && !keys.is_empty() {
            return Err(format!("{include:?} has keys, which --{INFO_FLAG} does not take"));
        }
        let metric = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let file = KeptFile::whole(paths.proc("sys").join(name.replace('.', "/")));
        Ok(Parameter { name: name.to_owned(), metric, keys, is_numeric, file })
    }

    fn put(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let text = self.file.read(&mut tick.buffer)?;
        let count = text::words(text).count();
        let fault = |expected: String| Err(CollectError::malformed(self.file.path(), 1, expected));
        if count == 0 {
            return fault("expected a value".into());
        }
        if !self.is_numeric {
            for (index, word) in text::words(text).enumerate() {
                let Some(word) = text::as_str(word) else { return fault("expected UTF-8".into()) };
                out.put(&INFO, &[&self.name, word, text::Decimal::new(index as u64).as_str()], 1.0);
            }
            return Ok(());
        }
        if !self.keys.is_empty() && count != self.keys.len() {
            return fault(format!("expected {} numbers, one for each key", self.keys.len()));
        }
        if text::words(text).any(|word| text::parse_i64(word).is_none()) {
            return fault("expected whole numbers".into());
        }
        for (index, word) in text::words(text).enumerate() {
            let Some(number) = text::parse_i64(word) else { continue };
            self.put_number(index, count, number as f64, out);
        }
        Ok(())
    }

    fn put_number(&self, index: usize, count: usize, number: f64, out: &mut Recorder) {
        let key = self.keys.get(index).map_or("", String::as_str);
        let joint = if key.is_empty() { "" } else { "_" };
        let position = text::Decimal::new(index as u64);
        let indexed = [("index", position.as_str())];
        let is_indexed = key.is_empty() && count > 1;
        let sample = Dynamic {
            name: &["node_sysctl_", &self.metric, joint, key],
            suffix: "",
            help: &["Kernel parameter ", &self.name, joint, key, "."],
            kind: Kind::Untyped,
            labels: if is_indexed { &indexed } else { &[] },
        };
        out.put_dynamic(&sample, number);
    }
}

impl Collector for Sysctl {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let mut faults = Faults::default();
        for parameter in &mut self.parameters {
            if let Err(error) = parameter.put(tick, out) {
                faults.note(|| error);
            }
        }
        faults.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_as_the_command_line_names_them() {
        let paths = Paths::default();
        let parse = |include: &str, is_numeric| Parameter::parse(include, is_numeric, &paths);
        let parameter = parse("fs.file-nr:total,current,max", true).unwrap();
        assert_eq!((parameter.metric.as_str(), parameter.keys.len()), ("fs_file_nr", 3));
        assert_eq!(parameter.file.path().to_str(), Some("/proc/sys/fs/file-nr"));
        for (wrong, is_numeric) in [("", true), (":a", true), ("a:b-c", true), ("a:b", false)] {
            assert!(parse(wrong, is_numeric).is_err(), "{wrong}");
        }
    }
}
