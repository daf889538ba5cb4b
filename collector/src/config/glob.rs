//! Paths with `*`, `?` and `[...]` in their names, as Go's `filepath.Glob` reads them: none of them matches a
//! slash, and what can't be read is not there.

use std::path::{Component, Path, PathBuf};

/// Files of one pattern; more are refused.
const MAX_FILES: usize = 100_000;

/// The files that are there, sorted. A pattern without any of those characters names its file if it exists.
///
/// # Errors
/// A pattern that is none, or that matches too much.
pub fn expand(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let Component::Normal(name) = component else {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        let name = name.to_str().ok_or("the pattern is not UTF-8")?;
        if !name.contains(['*', '?', '[', '\\']) {
            found.iter_mut().for_each(|path| path.push(name));
            found.retain(|path| std::fs::symlink_metadata(path).is_ok());
            continue;
        }
        let name: Vec<char> = name.chars().collect();
        check(&name)?;
        let mut next = Vec::new();
        for folder in &found {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            for entry in entries.flatten() {
                let file = entry.file_name();
                let text: Vec<char> = file.to_string_lossy().chars().collect();
                if matches(&name, &text) {
                    next.push(folder.join(file));
                }
                if next.len() > MAX_FILES {
                    return Err(format!("more than {MAX_FILES} files match"));
                }
            }
        }
        found = next;
    }
    found.sort();
    Ok(found)
}

fn check(pattern: &[char]) -> Result<(), String> {
    let mut rest = pattern;
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            '[' => class(after, 'x').ok_or("syntax error in pattern: a [ without its ]")?.1,
            '\\' => after.get(1..).ok_or("syntax error in pattern: a backslash at its end")?,
            _ => after,
        };
    }
    Ok(())
}

/// Whether `c` is in the class that begins after its bracket, and what follows the class.
fn class(pattern: &[char], c: char) -> Option<(bool, &[char])> {
    let (inverted, mut rest) = match pattern.split_first()? {
        ('^', rest) => (true, rest),
        _ => (false, pattern),
    };
    let mut found = false;
    let mut first = true;
    loop {
        let (&low, after) = rest.split_first()?;
        if low == ']' && !first {
            return Some((found != inverted, after));
        }
        first = false;
        let (low, after) =
            if low == '\\' { after.split_first().map(|(c, rest)| (*c, rest))? } else { (low, after) };
        let (high, after) = match after {
            ['-', '\\', high, after @ ..] => (*high, after),
            ['-', high, after @ ..] if *high != ']' => (*high, after),
            _ => (low, after),
        };
        found |= (low..=high).contains(&c);
        rest = after;
    }
}

/// One star may be tried again: the last one seen, at the next character of the text.
fn matches(pattern: &[char], text: &[char]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    let mut again: Option<(&[char], &[char])> = None;
    loop {
        let step = match (pattern.split_first(), text.split_first()) {
            (None, None) => return true,
            (Some(('*', rest)), _) => {
                again = Some((rest, text));
                pattern = rest;
                continue;
            }
            (Some(('?', rest)), Some((_, after))) => Some((rest, after)),
            (Some(('[', rest)), Some((c, after))) => {
                class(rest, *c).filter(|(found, _)| *found).map(|(_, rest)| (rest, after))
            }
            (Some(('\\', rest)), Some((c, after))) => {
                rest.split_first().filter(|(escaped, _)| *escaped == c).map(|(_, rest)| (rest, after))
            }
            (Some((p, rest)), Some((c, after))) if p == c => Some((rest, after)),
            _ => None,
        };
        match (step, &mut again) {
            (Some(next), _) => (pattern, text) = next,
            (None, Some((after_star, from))) if !from.is_empty() => {
                *from = &from[1..];
                (pattern, text) = (after_star, from);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_a_shell_has_them() {
        for (pattern, text, expected) in [
            ("*.yml", "a.yml", true),
            ("*.yml", ".yml", true),
            ("*.yml", "a.yaml", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]*[^0-9]", "bx", true),
            ("[a-c]*[^0-9]", "b1", false),
            ("*a*b*c", "xaxbxc", true),
            ("*a*b*c", "xaxbx", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("[\\]]", "]", true),
            ("", "", true),
            ("*", "", true),
        ] {
            let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            assert_eq!(matches(&pattern, &text), expected, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn files_are_found_in_every_folder() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["x/one.yml", "y/two.yml", "y/three.txt"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = expand(&folder.path().join("*/*.yml")).unwrap();
        assert_eq!(found, [folder.path().join("x/one.yml"), folder.path().join("y/two.yml")]);
        assert_eq!(expand(&folder.path().join("x/one.yml")).unwrap().len(), 1);
        assert!(expand(&folder.path().join("z/*.yml")).unwrap().is_empty());
        assert!(expand(Path::new("/tmp/[a")).unwrap_err().contains("without its ]"));
    }
}
