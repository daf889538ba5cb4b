//! Targets in files (`file_sd_configs`): JSON and YAML, by globs.
//!
//! Files are looked at every few seconds by their stamps (one stat a file), and all are read again at the
//! refresh interval. Refuses files above [`MAX_FILE`]; one that is bad keeps its last good content.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::group::{Listed, groups};
use super::provider::Updates;
use crate::config::{FileSd, expand_glob, parse_yaml};
use crate::sources::scrape::target::TargetGroup;

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Bytes of a file.
const MAX_FILE: u64 = 64 << 20;

/// What tells one state of a file from another.
type Stamp = (SystemTime, u64, u64);

/// Files that are known, each with what it came to.
pub(super) struct Files<T> {
    known: BTreeMap<PathBuf, Known<T>>,
}

struct Known<T> {
    stamp: Option<Stamp>,
    content: Option<T>,
}

impl<T> Default for Files<T> {
    fn default() -> Self {
        Files { known: BTreeMap::new() }
    }
}

impl<T> Files<T> {
    /// Looks for files, and reads those that changed, or `all`. Calls `failed` for each that can't be used; its
    /// last content stays. `true` when anything changed.
    pub fn look(
        &mut self,
        globs: &[PathBuf],
        all: bool,
        parse: impl Fn(&Path, &str) -> Result<T, String>,
        mut failed: impl FnMut(&Path, &str),
    ) -> bool {
        let mut next = BTreeMap::new();
        let mut changed = false;
        for glob in globs {
            let found = expand_glob(glob).unwrap_or_else(|why| {
                failed(glob, &why);
                Vec::new()
            });
            for path in found {
                if next.contains_key(&path) {
                    continue;
                }
                let before = self.known.remove(&path);
                let stamp = stamp(&path);
                let known = match before {
                    Some(known) if !all && stamp.is_some() && known.stamp == stamp => known,
                    before => {
                        let content = read(&path).and_then(|text| parse(&path, &text));
                        changed |= content.is_ok();
                        let content = content.map_err(|why| failed(&path, &why)).ok();
                        Known { stamp, content: content.or(before.and_then(|known| known.content)) }
                    }
                };
                next.insert(path, known);
            }
        }
        changed |= !self.known.is_empty();
        self.known = next;
        changed
    }

    pub fn contents(&self) -> impl Iterator<Item = &T> {
        self.known.values().filter_map(|known| known.content.as_ref())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

fn read(path: &Path) -> Result<String, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > MAX_FILE {
        return Err(format!("is larger than {MAX_FILE} bytes"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// The groups of a file. JSON is YAML too, but is read faster as what it is.
fn parse(path: &Path, text: &str) -> Result<Vec<TargetGroup>, String> {
    let is_json = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("json"));
    let listed: Option<Vec<Listed>> = if is_json {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    } else if text.trim().is_empty() {
        None
    } else {
        parse_yaml(text).map_err(|error| error.to_string())?
    };
    let origin = path.to_string_lossy();
    groups(listed.unwrap_or_default(), &origin, ("__meta_filepath", &origin))
}

pub(super) async fn run(config: FileSd, out: Updates) {
    let mut files = Files::default();
    let mut read_all = Instant::now();
    loop {
        let started = Instant::now();
        let all = started >= read_all;
        if all {
            read_all = Instant::now() + config.refresh;
        }
        let (globs, failed) = (config.files.clone(), out.clone());
        // Files may lie where reading them takes its time.
        let looked = tokio::task::spawn_blocking(move || {
            let complain = |path: &Path, why: &str| failed.failed(&path.to_string_lossy(), why);
            let changed = files.look(&globs, all, parse, complain);
            (files, changed)
        });
        let Ok((back, changed)) = looked.await else { return };
        files = back;
        if changed || all {
            out.looked(started);
            out.replace_all(files.contents().flatten().cloned());
        }
        tokio::time::sleep(LOOK_EVERY.min(config.refresh)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_keeps_its_last_content() {
        let folder = tempfile::tempdir().unwrap();
        let globs = [folder.path().join("*.json"), folder.path().join("*.yml")];
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let mut files = Files::default();
        let mut faults = Vec::new();
        let mut look = |files: &mut Files<Vec<TargetGroup>>, all: bool| {
            faults.clear();
            let changed = files.look(&globs, all, parse, |_, why| faults.push(why.to_owned()));
            let mut shown: Vec<String> = files
                .contents()
                .flatten()
                .flat_map(|group| &group.targets)
                .map(|labels| labels[0].1.clone())
                .collect();
            shown.sort();
            (changed, shown.join(" "), faults.join("; "))
        };
        assert_eq!(look(&mut files, true), (false, String::new(), String::new()));
        write("a.json", r#"[{"targets": ["a", "b"], "labels": {"x": "y"}}]"#);
        write("b.yml", "- targets: [c]\n- targets: [d]\n");
        assert_eq!(look(&mut files, false), (true, "a b c d".into(), String::new()));
        assert!(!look(&mut files, false).0, "nothing changed, nothing is read");
        write("a.json", "[{\"targets\": [");
        let (changed, shown, fault) = look(&mut files, false);
        assert_eq!((changed, shown.as_str()), (false, "a b c d"));
        assert!(fault.contains("EOF"), "{fault}");
        write("a.json", "[]");
        write("b.yml", "- target: [c]\n");
        let (changed, shown, fault) = look(&mut files, false);
        assert_eq!((changed, shown.as_str()), (true, "c d"));
        assert!(fault.contains("unknown field"), "{fault}");
        std::fs::remove_file(folder.path().join("b.yml")).unwrap();
        assert_eq!(look(&mut files, false), (true, String::new(), String::new()));
    }
}
