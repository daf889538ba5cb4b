//! Name and version of the operating system, from /etc/os-release or /usr/lib/os-release (os-release(5)).
//! Cost a tick: one `stat`; the file is read again when it was changed.

use std::path::PathBuf;

use super::{CollectError, Collector, Registration, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::{self, ReadError, Stamp};
use crate::sys::text;

/// Fields of the file, in the order of the labels of `node_os_info`.
const FIELDS: [&str; 12] = [
    "BUILD_ID",
    "ID",
    "ID_LIKE",
    "IMAGE_ID",
    "IMAGE_VERSION",
    "NAME",
    "PRETTY_NAME",
    "VARIANT",
    "VARIANT_ID",
    "VERSION",
    "VERSION_CODENAME",
    "VERSION_ID",
];
const ID: usize = 1;
const ID_LIKE: usize = 2;
const NAME: usize = 5;
const VERSION_ID: usize = 11;

static INFO: Family = Family::gauge(
    "node_os_info",
    "What os-release says of the operating system; always 1.",
    &[
        "build_id",
        "id",
        "id_like",
        "image_id",
        "image_version",
        "name",
        "pretty_name",
        "variant",
        "variant_id",
        "version",
        "version_codename",
        "version_id",
    ],
);
static VERSION: Family = Family::gauge(
    "node_os_version",
    "Version of the operating system: its first two parts as a number.",
    &["id", "id_like", "name"],
);
static SUPPORT_END: Family = Family::gauge(
    "node_os_support_end_timestamp_seconds",
    "When the support of the operating system ends, in seconds since 1970.",
    &[],
);

pub(super) static COLLECTOR: Registration = Registration {
    name: "os",
    default_enabled: true,
    flags: &[],
    families: &[&INFO, &VERSION, &SUPPORT_END],
    new: |setup| {
        let files = ["/etc/os-release", "/usr/lib/os-release"].map(|file| setup.paths.root(file));
        Ok(Box::new(Os { files, known: None }))
    },
};

struct Os {
    files: [PathBuf; 2],
    known: Option<Known>,
}

struct Known {
    /// Which of the files, as it was when it was read; `None` while it may still be under change.
    source: Option<(usize, Stamp)>,
    release: Release,
    /// The first line that is not as it should be.
    bad_line: Option<usize>,
}

#[derive(Debug, Default, PartialEq)]
struct Release {
    fields: [String; 12],
    version: Option<f64>,
    support_end: Option<f64>,
}

impl Collector for Os {
    fn update(&mut self, tick: &mut Tick, out: &mut Recorder) -> Result<(), CollectError> {
        let (which, stamp) = self.find()?;
        if !self.known.as_ref().is_some_and(|known| known.source == Some((which, stamp))) {
            let text = file::read_once(&self.files[which], &mut tick.buffer)?;
            let (release, bad_line) = parse_release(text);
            let source = stamp.is_settled().then_some((which, stamp));
            self.known = Some(Known { source, release, bad_line });
        }
        let Some(Known { release, bad_line, .. }) = &self.known else { return Ok(()) };
        let fields = release.fields.each_ref().map(String::as_str);
        out.put(&INFO, &fields, 1.0);
        if let Some(version) = release.version {
            out.put(&VERSION, &[fields[ID], fields[ID_LIKE], fields[NAME]], version);
        }
        if let Some(end) = release.support_end {
            out.put(&SUPPORT_END, &[], end);
        }
        bad_line.map_or(Ok(()), |line| {
            Err(CollectError::malformed(
                &self.files[which],
                line,
                "expected `NAME=value`, quoted where it has blanks",
            ))
        })
    }
}

impl Os {
    /// The first of the files that there is.
    fn find(&self) -> Result<(usize, Stamp), CollectError> {
        for (which, path) in self.files.iter().enumerate() {
            match Stamp::read(path) {
                Ok(stamp) => return Ok((which, stamp)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(ReadError { path: path.as_path().into(), source }.into()),
            }
        }
        Err(CollectError::NoData("no os-release".into()))
    }
}

/// What the file says, and the number of the first line that says nothing.
fn parse_release(text: &[u8]) -> (Release, Option<usize>) {
    let (mut release, mut bad_line) = (Release::default(), None);
    for (number, line) in text::lines(text).enumerate() {
        let line = text::trim(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let assignment = text::as_str(line).and_then(|line| line.split_once('='));
        let Some((name, value)) = assignment.and_then(|(name, value)| Some((name, unquote(value)?))) else {
            bad_line = bad_line.or(Some(number + 1));
            continue;
        };
        if let Some(field) = FIELDS.iter().position(|&field| field == name) {
            release.fields[field] = value;
        } else if name == "SUPPORT_END" && !value.is_empty() {
            release.support_end = parse_day(&value);
            bad_line = bad_line.or(release.support_end.is_none().then_some(number + 1));
        }
    }
    release.version = major_minor(&release.fields[VERSION_ID]).filter(|&version| version > 0.0);
    (release, bad_line)
}

/// A value as a shell would read it: bare, or within one kind of quotes. `None` where a quote is left open.
fn unquote(value: &str) -> Option<String> {
    let Some(quote @ ('"' | '\'')) = value.chars().next() else {
        return Some(value.to_owned());
    };
    let mut text = String::new();
    let mut chars = value[1..].chars();
    while let Some(char) = chars.next() {
        match char {
            _ if char == quote => return Some(text),
            '\\' if quote == '"' => match chars.next()? {
                escaped @ ('"' | '\\' | '$' | '`') => text.push(escaped),
                other => text.extend(['\\', other]),
            },
            _ => text.push(char),
        }
    }
    None
}

/// `20.04.2` -> 20.04.
fn major_minor(version: &str) -> Option<f64> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let major = digits(version);
    if major == 0 {
        return None;
    }
    let minor = version[major..].strip_prefix('.').map_or(0, |rest| 1 + digits(rest));
    version[..major + minor].trim_end_matches('.').parse().ok()
}

/// `2027-05-13`, the midnight with which it begins in UTC, in seconds since 1970.
fn parse_day(day: &str) -> Option<f64> {
    let mut parts = day.split('-').map(|part| text::parse_u64(part.as_bytes()));
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = 28 + u64::from(leap);
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    if parts.next().is_some() || !(1970..=9999).contains(&year) || !(1..=length).contains(&day) {
        return None;
    }
    // Leap days of the years before this one, less those before 1970.
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    let months: u64 = lengths[..month as usize - 1].iter().sum();
    Some(((years + months + day - 1) * 86_400) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_as_a_shell_reads_it() {
        let text = b"# of ours\nNAME=\"Our \\\"own\\\" Linux\"\nID=our\n\nVERSION_ID='12.04.1'\nHOME_URL=x\nSUPPORT_END=2027-05-13\n";
        let (release, bad_line) = parse_release(text);
        assert_eq!(bad_line, None);
        assert_eq!(release.fields[NAME], "Our \"own\" Linux");
        assert_eq!(release.fields[ID], "our");
        assert_eq!(release.version, Some(12.04));
        assert_eq!(release.support_end, Some(1_810_166_400.0));
    }

    #[test]
    fn a_bad_line_loses_itself() {
        let (release, bad_line) = parse_release(b"ID=our\nNAME=\"open\nnothing\nVERSION_ID=rolling\n");
        assert_eq!((release.fields[ID].as_str(), bad_line, release.version), ("our", Some(2), None));
        assert_eq!(parse_release(b"SUPPORT_END=soon").1, Some(1));
    }

    #[test]
    fn days_and_versions() {
        for (day, seconds) in
            [("1970-01-01", 0.0), ("2000-03-01", 951_868_800.0), ("2024-02-29", 1_709_164_800.0)]
        {
            assert_eq!(parse_day(day), Some(seconds), "{day}");
        }
        for wrong in ["2023-02-29", "2023-13-01", "2023-00-01", "2023-01", "1969-01-01", "2023-01-01-01"] {
            assert_eq!(parse_day(wrong), None, "{wrong}");
        }
        for (text, version) in [("12", Some(12.0)), ("20.04", Some(20.04)), ("12.", Some(12.0)), ("x", None)]
        {
            assert_eq!(major_minor(text), version, "{text}");
        }
    }
}
