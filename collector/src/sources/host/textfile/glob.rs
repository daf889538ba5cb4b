//! Patterns of folders: `*`, `?`, `[a-z]`, `[^a-z]` and `\` within a part of the path, as Go's filepath.Glob has
//! them.

use std::path::{Path, PathBuf};

use crate::sys::file::Stamp;

/// Folders that one pattern may name.
const MAX_MATCHES: usize = 1024;

/// The folders that `pattern` names, in order; none if it is no pattern. Every folder that was listed on the
/// way goes into `listed`.
pub(super) fn expand(pattern: &str, listed: &mut Vec<(PathBuf, Option<Stamp>)>) -> Vec<PathBuf> {
    if !is_pattern(pattern) {
        return Vec::new();
    }
    let start = if pattern.starts_with('/') { "/" } else { "." };
    let mut found = vec![PathBuf::from(start)];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for folder in found {
            if !is_pattern(part) {
                next.push(folder.join(part));
                continue;
            }
            listed.push((folder.clone(), Stamp::read(&folder).ok().filter(Stamp::is_settled)));
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let mut names: Vec<_> =
                entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
            names.retain(|name| matches(part.as_bytes(), name.as_bytes()));
            names.sort_unstable();
            next.extend(names.iter().map(|name| folder.join(name)));
        }
        next.truncate(MAX_MATCHES);
        found = next;
    }
    found.retain(|path| Path::exists(path));
    found
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// Whether the whole name is as the pattern says. A pattern that makes no sense matches nothing.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let Some((&first, rest)) = pattern.split_first() else { return name.is_empty() };
    match (first, name.split_first()) {
        (b'*', _) => (0..=name.len()).any(|taken| matches(rest, &name[taken..])),
        (_, None) => false,
        (b'?', Some((_, name))) => matches(rest, name),
        (b'[', Some((&byte, name))) => {
            matches_class(rest, byte).is_some_and(|(hit, rest)| hit && matches(rest, name))
        }
        (b'\\', Some((&byte, name))) => {
            rest.split_first().is_some_and(|(&escaped, rest)| escaped == byte && matches(rest, name))
        }
        (_, Some((&byte, name))) => first == byte && matches(rest, name),
    }
}

/// What follows `[`: whether the byte is in the class, and the pattern after it.
fn matches_class(mut class: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let negated = class.first() == Some(&b'^');
    if negated {
        class = &class[1..];
    }
    let mut hit = false;
    let mut empty = true;
    loop {
        match class {
            [b']', rest @ ..] if !empty => return Some((hit != negated, rest)),
            [low, b'-', high, rest @ ..] if *high != b']' => {
                hit |= (*low..=*high).contains(&byte);
                class = rest;
            }
            [one, rest @ ..] => {
                hit |= *one == byte;
                class = rest;
            }
            [] => return None,
        }
        empty = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, hit) in [
            ("a*", "abc", true),
            ("a*c", "abc", true),
            ("a*c", "abd", false),
            ("*", "", true),
            ("?b", "ab", true),
            ("?b", "b", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[ab", "a", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), hit, "{pattern} {name}");
        }
    }

    #[test]
    fn folders_of_a_tree() {
        let tree = tempfile::tempdir().unwrap();
        for folder in ["a1/prom", "a2/prom", "b/prom", "a3"] {
            std::fs::create_dir_all(tree.path().join(folder)).unwrap();
        }
        let mut listed = Vec::new();
        let pattern = format!("{}/a*/prom", tree.path().display());
        let found = expand(&pattern, &mut listed);
        assert_eq!(found, ["a1/prom", "a2/prom"].map(|folder| tree.path().join(folder)));
        assert_eq!(listed.len(), 1);
        assert!(expand("/no/pattern", &mut listed).is_empty());
    }
}
