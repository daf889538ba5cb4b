//! The folders and files as they were read last, and what of them was changed since.

use std::path::{Path, PathBuf};

use hashbrown::HashMap;

use super::glob::expand;
use super::parse::{self, Parsed};
use super::{Given, MAX_LABELS, Sample};
use crate::model::Kind;
use crate::sys::file::{Stamp, read_once};

/// Files read from all folders together; further ones are trouble.
const MAX_FILES: usize = 4096;
/// A file that is larger is trouble.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// What the folders hold.
pub(super) struct Shelf {
    patterns: Vec<String>,
    /// Every folder on the way to the files, as it was when it was listed; `None` if it is to be listed again.
    folders: Vec<(PathBuf, Option<Stamp>)>,
    listed: bool,
    /// A folder can't be read, or there are too many files.
    folder_trouble: bool,
    files: Vec<Entry>,
    families: Vec<Given>,
    family_trouble: bool,
}

/// A file `*.prom`.
pub(super) struct Entry {
    path: PathBuf,
    /// The path as a label value.
    pub(super) label: String,
    /// As it was when it was read.
    pub(super) stamp: Stamp,
    settled: bool,
    /// `None` if it can't be read or is not as it should be.
    parsed: Option<Vec<Parsed>>,
    /// What was logged last of it.
    complaint: String,
}

impl Shelf {
    pub(super) fn new(patterns: Vec<String>) -> Self {
        Shelf {
            patterns,
            folders: Vec::new(),
            listed: false,
            folder_trouble: false,
            files: Vec::new(),
            families: Vec::new(),
            family_trouble: false,
        }
    }

    pub(super) fn families(&self) -> &[Given] {
        &self.families
    }

    pub(super) fn good_files(&self) -> impl Iterator<Item = &Entry> {
        self.files.iter().filter(|entry| entry.parsed.is_some())
    }

    pub(super) fn has_trouble(&self) -> bool {
        self.folder_trouble || self.family_trouble || self.files.iter().any(|entry| entry.parsed.is_none())
    }

    /// Looks for changes, and reads what was changed.
    pub(super) fn refresh(&mut self, buffer: &mut Vec<u8>) {
        let is_unchanged =
            |(path, stamp): &(PathBuf, Option<Stamp>)| stamp.is_some() && Stamp::read(path).ok() == *stamp;
        let mut changed = false;
        if !self.listed || !self.folders.iter().all(is_unchanged) {
            changed = self.list(buffer);
            self.listed = true;
        }
        for entry in &mut self.files {
            changed |= entry.refresh(buffer);
        }
        if changed {
            self.gather();
        }
    }

    /// Lists the folders. Returns whether files came or went.
    fn list(&mut self, buffer: &mut Vec<u8>) -> bool {
        self.folders.clear();
        let mut trouble = false;
        let mut paths = Vec::new();
        for pattern in &self.patterns {
            let mut folders = expand(pattern, &mut self.folders);
            if folders.is_empty() {
                // Not a pattern, or one without a match: then it is taken as it is written.
                folders.push(PathBuf::from(pattern));
            }
            for folder in folders {
                self.folders.push((folder.clone(), Stamp::read(&folder).ok().filter(Stamp::is_settled)));
                match list_files(&folder) {
                    Ok(files) => paths.extend(files),
                    Err(error) => {
                        trouble = true;
                        if !self.folder_trouble {
                            let (folder, error) = (folder.display().to_string(), error.to_string());
                            log::error!(path = folder.as_str(), err = error.as_str(); "failed to read textfile collector directory");
                        }
                    }
                }
            }
        }
        if paths.len() > MAX_FILES {
            log::error!("more than {MAX_FILES} files for the textfile collector: the others are left out");
            paths.truncate(MAX_FILES);
            trouble = true;
        }
        self.folder_trouble = trouble;
        if self.files.iter().map(|entry| &entry.path).eq(&paths) {
            return false;
        }
        let mut before: HashMap<PathBuf, Entry> =
            std::mem::take(&mut self.files).into_iter().map(|entry| (entry.path.clone(), entry)).collect();
        for path in paths {
            let known = before.remove(&path);
            self.files.extend(known.or_else(|| Entry::read(path, buffer)));
        }
        true
    }

    /// Puts the families of all files together.
    fn gather(&mut self) {
        self.families.clear();
        self.family_trouble = false;
        let mut files_of: HashMap<&str, Vec<&str>> = HashMap::new();
        let mut helps: HashMap<&str, &str> = HashMap::new();
        let mut taken: Vec<&Parsed> = Vec::new();
        for entry in &self.files {
            for family in entry.parsed.iter().flatten() {
                let first = family.help.as_deref().map(|help| *helps.entry(&family.name).or_insert(help));
                if first != family.help.as_deref() {
                    self.family_trouble = true;
                    log::error!(metric = family.name.as_str(), file = entry.label.as_str(); "inconsistent metric help text");
                    continue;
                }
                files_of.entry(&family.name).or_default().push(&entry.label);
                taken.push(family);
            }
        }
        self.families = taken
            .into_iter()
            .map(|family| {
                // A file that does not explain a metric may leave that to another.
                let help = match helps.get(family.name.as_str()) {
                    Some(help) => (*help).to_owned(),
                    None => format!("Metric read from {}", files_of[family.name.as_str()].join(", ")),
                };
                complete(family, help)
            })
            .collect();
    }
}

/// Files `*.prom` of a folder, by name.
fn list_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.as_os_str().as_encoded_bytes().ends_with(b".prom") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Gives every sample the labels of all others, empty where it has them not.
fn complete(family: &Parsed, help: String) -> Given {
    let mut names: Vec<&str> = Vec::new();
    for sample in &family.samples {
        names.extend(sample.labels.iter().map(|(name, _)| name.as_str()));
        names.sort_unstable();
        names.dedup();
    }
    // `le` and `quantile` are of the kind, not of the samples.
    names.retain(|name| {
        !(family.kind == Kind::Histogram && *name == "le"
            || family.kind == Kind::Summary && *name == "quantile")
    });
    let samples = family.samples.iter().map(|sample| {
        let mut labels = sample.labels.clone();
        for name in &names {
            if !labels.iter().any(|(present, _)| present == name) {
                labels.push(((*name).to_owned(), String::new()));
            }
        }
        Sample { labels, ..sample.clone() }
    });
    Given { name: family.name.clone(), help, kind: family.kind, samples: samples.collect() }
}

impl Entry {
    /// `None` when the file went in between.
    fn read(path: PathBuf, buffer: &mut Vec<u8>) -> Option<Self> {
        let stamp = Stamp::read(&path).ok()?;
        let label = path.to_string_lossy().into_owned();
        let mut entry = Entry { path, label, stamp, settled: false, parsed: None, complaint: String::new() };
        entry.load(buffer);
        Some(entry)
    }

    /// Reads the file again if it may have been changed. Returns whether it was.
    fn refresh(&mut self, buffer: &mut Vec<u8>) -> bool {
        match Stamp::read(&self.path) {
            Ok(stamp) if stamp == self.stamp && self.settled => false,
            Ok(stamp) => {
                self.stamp = stamp;
                self.load(buffer)
            }
            Err(error) => {
                self.settled = false;
                self.complain(format!("{}: {error}", self.label));
                self.parsed.take().is_some()
            }
        }
    }

    fn load(&mut self, buffer: &mut Vec<u8>) -> bool {
        self.settled = self.stamp.is_settled();
        let parsed = if self.stamp.size > MAX_FILE_BYTES {
            Err(format!("{}: larger than {MAX_FILE_BYTES} bytes", self.label))
        } else {
            read_once(&self.path, buffer).map_err(|error| error.to_string()).and_then(|text| {
                parse::parse_families(text, MAX_LABELS)
                    .map_err(|(line, what)| format!("{}:{line}: {what}", self.label))
            })
        };
        let parsed = match parsed {
            Ok(families) => {
                self.complaint.clear();
                Some(families)
            }
            Err(complaint) => {
                self.complain(complaint);
                None
            }
        };
        let changed = parsed != self.parsed;
        self.parsed = parsed;
        changed
    }

    /// Logs what is wrong with the file, once.
    fn complain(&mut self, complaint: String) {
        if self.complaint != complaint {
            log::error!(file = self.label.as_str(), err = complaint.as_str(); "failed to collect textfile data");
            self.complaint = complaint;
        }
    }
}

#[cfg(test)]
#[path = "shelf_tests.rs"]
mod tests;
