//! Devices that sysfs shows as folders with one attribute a file: what the collectors of such have in common.
//!
//! A class of devices is a listing that stays open; a device is made when the listing changes, and then reads
//! its labels once and keeps its numbers' descriptors. Which attributes there are is a const table.

use std::path::{Path, PathBuf};

use super::error::Faults;
use super::{CollectError, Tick};
use crate::model::{Family, Recorder};
use crate::sys::file::ReadError;
use crate::sys::sysfs::{Attribute, LOOK_AGAIN, Listing, Refusal};
use crate::sys::text;

/// Devices of one class that are looked at; no host has as many.
pub(super) const MOST_DEVICES: usize = 65_536;

/// What every device of a folder such as /sys/class/thermal is made into.
pub(super) struct Devices<D> {
    listing: Listing,
    known: Vec<D>,
    /// Calls of [`Devices::refresh_seldom`] until it looks again.
    rest: u8,
}

impl<D> Devices<D> {
    pub(super) fn new(folder: impl Into<PathBuf>) -> Self {
        Devices { listing: Listing::new(folder), known: Vec::new(), rest: 0 }
    }

    /// The devices as they are now. If the folder is other than last time, all are made anew: `make` gets the
    /// names in order, with their folders.
    ///
    /// # Errors
    /// When the folder can't be read, [`CollectError::Absent`] when there is none.
    pub(super) fn refresh(
        &mut self,
        make: impl FnMut(&str, &Path) -> Option<D>,
    ) -> Result<&mut [D], CollectError> {
        self.look(make)?;
        Ok(&mut self.known)
    }

    /// As [`Devices::refresh`], but a folder that is not there counts as an empty one.
    pub(super) fn refresh_if_any(
        &mut self,
        make: impl FnMut(&str, &Path) -> Option<D>,
    ) -> Result<&mut [D], CollectError> {
        match self.look(make) {
            Err(error) if !error.is_no_data() => Err(error),
            _ => Ok(&mut self.known),
        }
    }

    /// As [`Devices::refresh_if_any`], but looks only now and then: for the parts of a device, which hardly
    /// change while it is there.
    pub(super) fn refresh_seldom(
        &mut self,
        make: impl FnMut(&str, &Path) -> Option<D>,
    ) -> Result<&mut [D], CollectError> {
        if self.rest > 0 {
            self.rest -= 1;
            return Ok(&mut self.known);
        }
        match self.look(make) {
            Err(error) if !error.is_no_data() => return Err(error),
            _ => self.rest = LOOK_AGAIN,
        }
        Ok(&mut self.known)
    }

    fn look(&mut self, mut make: impl FnMut(&str, &Path) -> Option<D>) -> Result<(), CollectError> {
        match self.listing.refresh() {
            Ok(false) => {}
            Ok(true) => {
                self.known.clear();
                let path = self.listing.path();
                let names = self.listing.names().iter().take(MOST_DEVICES);
                self.known.extend(names.filter_map(|name| make(name, &path.join(name))));
            }
            Err(error) => {
                self.known.clear();
                return Err(CollectError::absent_is_no_data(error));
            }
        }
        Ok(())
    }
}

/// `mc0` with the prefix `mc` -> `0`: what follows, if it is a number.
pub(super) fn number_after<'n>(name: &'n str, prefix: &str) -> Option<&'n str> {
    let number = name.strip_prefix(prefix)?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

/// An attribute that is a number, and the family that it is given as.
pub(super) struct Row {
    pub(super) file: &'static str,
    pub(super) family: Family,
    pub(super) value: fn(&[u8]) -> Option<f64>,
}

/// Declares a const table of [`Row`]s that have the same labels.
macro_rules! rows {
    ($vis:vis $rows:ident $labels:expr; $($kind:ident $file:literal $name:literal $value:expr, $help:literal;)*) => {
        $vis static $rows: &[$crate::sources::host::devices::Row] = &[$($crate::sources::host::devices::Row {
            file: $file,
            family: $crate::model::Family::$kind($name, $help, $labels),
            value: $value,
        }),*];
    };
}
pub(super) use rows;

/// The families of tables, and others, in one list. Fails to compile where it is not `N` of them.
pub(super) const fn families<const N: usize>(
    tables: &[&'static [Row]],
    others: &[&'static Family],
) -> [&'static Family; N] {
    static NONE: Family = Family::gauge("", "", &[]);
    let (mut all, mut count) = ([&NONE; N], 0);
    let mut table = 0;
    while table < tables.len() {
        let mut row = 0;
        while row < tables[table].len() {
            all[count] = &tables[table][row].family;
            (count, row) = (count + 1, row + 1);
        }
        table += 1;
    }
    let mut other = 0;
    while other < others.len() {
        all[count] = others[other];
        (count, other) = (count + 1, other + 1);
    }
    assert!(count == N, "as many families as were said");
    all
}

#[expect(clippy::cast_precision_loss, reason = "a double is what the protocol has")]
pub(super) fn unsigned(word: &[u8]) -> Option<f64> {
    text::parse_any_u64(word).map(|number| number as f64)
}

#[expect(clippy::cast_precision_loss, reason = "a double is what the protocol has")]
pub(super) fn signed(word: &[u8]) -> Option<f64> {
    text::parse_i64(word).map(|number| number as f64)
}

/// Millionths, such as microvolts.
pub(super) fn signed_millionths(word: &[u8]) -> Option<f64> {
    signed(word).map(|number| number / 1e6)
}

/// How the attributes of a class say that they have no value.
pub(super) struct Normal {
    pub(super) refusals: &'static [Refusal],
    pub(super) texts: &'static [&'static str],
}

impl Normal {
    /// Every attribute that there is has a value.
    pub(super) const NEVER: Normal = Normal { refusals: &[], texts: &[] };
}

/// The numbers of a device: one attribute for each row of a table.
pub(super) struct Numbers {
    rows: &'static [Row],
    attributes: Vec<Attribute>,
}

impl Numbers {
    pub(super) fn new(rows: &'static [Row], folder: &Path) -> Self {
        Numbers::of(rows, |file| folder.join(file))
    }

    /// `path` makes the path of an attribute from its row's `file`.
    pub(super) fn of(rows: &'static [Row], path: impl Fn(&str) -> PathBuf) -> Self {
        Numbers { rows, attributes: rows.iter().map(|row| Attribute::new(path(row.file))).collect() }
    }

    /// Gives what there is under `labels`. Attributes that are absent, or have no value in one of the ways that
    /// are `normal`, are passed over; what else goes wrong is noted.
    pub(super) fn put(
        &mut self,
        labels: &[&str],
        normal: &Normal,
        tick: &mut Tick,
        out: &mut Recorder,
        faults: &mut Faults,
    ) {
        for (row, attribute) in self.rows.iter().zip(&mut self.attributes) {
            if let Some(value) = read_number(attribute, row.value, normal, tick, faults) {
                out.put(&row.family, labels, value);
            }
        }
    }
}

/// The number that an attribute holds, as [`Numbers::put`] does for each row.
pub(super) fn read_number(
    attribute: &mut Attribute,
    parse: fn(&[u8]) -> Option<f64>,
    normal: &Normal,
    tick: &mut Tick,
    faults: &mut Faults,
) -> Option<f64> {
    match attribute.read(&mut tick.buffer) {
        Ok(None) => None,
        Ok(Some(text)) if normal.texts.iter().any(|normal| normal.as_bytes() == text) => None,
        Ok(Some(text)) => {
            let value = parse(text);
            if value.is_none() {
                faults.note(|| CollectError::malformed(attribute.path(), 1, "expected a number"));
            }
            value
        }
        Err(error) => {
            if !normal.refusals.contains(&Refusal::of(&error.source)) {
                faults.note(|| error.into());
            }
            None
        }
    }
}

/// An attribute whose text is a label: decoded when it is other than before.
pub(super) struct Label {
    attribute: Attribute,
    /// Read until it was found once: it stays as long as its device does.
    is_fixed: bool,
    is_found: bool,
    /// Blanks at its ends are part of it.
    is_line: bool,
    raw: Vec<u8>,
    text: String,
}

impl Label {
    /// A text that never changes.
    pub(super) fn fixed(path: impl Into<PathBuf>) -> Self {
        Label::new(path, true)
    }

    pub(super) fn changing(path: impl Into<PathBuf>) -> Self {
        Label::new(path, false)
    }

    pub(super) fn new(path: impl Into<PathBuf>, is_fixed: bool) -> Self {
        let attribute = Attribute::new(path);
        Label { attribute, is_fixed, is_found: false, is_line: false, raw: Vec::new(), text: String::new() }
    }

    /// A line that never changes, of which nothing but its end is left away.
    pub(super) fn line(path: impl Into<PathBuf>) -> Self {
        Label { is_line: true, ..Label::new(path, true) }
    }

    /// The text as it is now; `None` where the attribute is absent.
    pub(super) fn read(&mut self, tick: &mut Tick) -> Result<Option<&str>, ReadError> {
        if self.is_fixed && self.is_found {
            return Ok(Some(&self.text));
        }
        let result = match self.is_line {
            true => self.attribute.read_line(&mut tick.buffer),
            false => self.attribute.read(&mut tick.buffer),
        };
        self.is_found = matches!(result, Ok(Some(_)));
        let raw = result.as_ref().ok().copied().flatten().unwrap_or_default();
        if self.raw != raw {
            self.raw.clear();
            self.raw.extend_from_slice(raw);
            self.text.clear();
            text::push_lossy(&mut self.text, raw);
        }
        result?;
        if self.is_fixed && self.is_found {
            self.attribute.close();
        }
        Ok(self.is_found.then_some(&self.text))
    }

    /// As it was when it was last read; empty where the attribute is absent or could not be read.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn path(&self) -> &Path {
        self.attribute.path()
    }
}

/// As [`read_labels`], for those that a device never lacks: whether all are there.
pub(super) fn read_required<'l>(
    labels: impl IntoIterator<Item = &'l mut Label>,
    tick: &mut Tick,
    faults: &mut Faults,
) -> bool {
    labels.into_iter().fold(true, |are_read, label| match label.read(tick) {
        Ok(Some(_)) => are_read,
        Ok(None) => {
            faults.note(|| label.attribute.absent().into());
            false
        }
        Err(error) => {
            faults.note(|| error.into());
            false
        }
    })
}

/// Reads them all; whether each of them could be read, is absent or has no value. What goes wrong is noted.
pub(super) fn read_labels<'l>(
    labels: impl IntoIterator<Item = &'l mut Label>,
    normal: &Normal,
    tick: &mut Tick,
    faults: &mut Faults,
) -> bool {
    labels.into_iter().fold(true, |are_read, label| match label.read(tick) {
        Ok(_) => are_read,
        Err(error) if normal.refusals.contains(&Refusal::of(&error.source)) => are_read,
        Err(error) => {
            faults.note(|| error.into());
            false
        }
    })
}

/// The text of an attribute that decides what a device is; `None` where there is none.
pub(super) fn read_text(path: PathBuf) -> Result<Option<String>, ReadError> {
    let mut buffer = Vec::new();
    Ok(Attribute::new(path).read(&mut buffer)?.map(text::lossy))
}

/// In lower case, with `_` for what a metric's name can't hold, and none at the ends.
pub(super) fn clean_name(name: &str) -> String {
    let clean = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | ':' | '_') => c,
        _ => '_',
    };
    let cleaned: String = name.chars().map(clean).collect();
    cleaned.trim_matches('_').to_owned()
}

/// A name for a chip from where its device is, links followed: the last two parts of the path, such as
/// `platform_coretemp_0`.
pub(super) fn chip_name(device: &Path) -> Option<String> {
    let device = std::fs::canonicalize(device).ok()?;
    let part = |path: &Path| clean_name(&path.file_name().unwrap_or_default().to_string_lossy());
    let (kind, name) = (device.parent().map(part).unwrap_or_default(), part(&device));
    match (kind.is_empty(), name.is_empty()) {
        (false, false) => Some(format!("{kind}_{name}")),
        (true, false) => Some(name),
        (_, true) => None,
    }
}

/// With `_` for each run of what a metric's name can't hold, and for the `_` around it.
pub(super) fn sanitize(name: &str) -> String {
    let mut clean = String::with_capacity(name.len());
    let mut in_run = false;
    for c in name.chars() {
        let is_fit = c.is_ascii_alphanumeric() || (c == '_' && !in_run);
        if !is_fit && !in_run {
            clean.truncate(clean.trim_end_matches('_').len());
            clean.push('_');
        }
        if is_fit {
            clean.push(c);
        }
        in_run = !is_fit;
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned() {
        for (name, cleaned) in [
            ("Core 0\n", "core_0"),
            ("applesmc.768", "applesmc_768"),
            ("0000:00:18.3", "0000:00:18_3"),
            ("__", ""),
        ] {
            assert_eq!(clean_name(name), cleaned, "{name:?}");
        }
        for (name, sane) in
            [("package", "package"), ("psys-0", "psys_0"), ("a_-_b__c", "a_b__c"), ("x.:", "x_"), ("_", "_")]
        {
            assert_eq!(sanitize(name), sane, "{name:?}");
        }
        assert_eq!(number_after("mc12", "mc"), Some("12"));
        assert_eq!((number_after("mc", "mc"), number_after("mc1a", "mc")), (None, None));
    }
}
