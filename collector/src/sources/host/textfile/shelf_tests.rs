//! Tests of what the folders give together, and of reading again what was changed.

use super::*;

struct Folder {
    dir: tempfile::TempDir,
    shelf: Shelf,
}

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(vec![dir.path().display().to_string()]);
        let mut folder = Folder { dir, shelf };
        files.iter().for_each(|(name, text)| folder.write(name, text));
        folder.shelf.refresh(&mut Vec::new());
        folder
    }

    fn write(&mut self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn names(&self) -> Vec<&str> {
        self.shelf.families().iter().map(|family| family.name.as_str()).collect()
    }
}

#[test]
fn a_bad_file_loses_only_itself() {
    let mut folder = Folder::new(&[("a.prom", "a 1\n"), ("b.prom", "b one\n"), ("c.txt", "c 1\n")]);
    assert_eq!(folder.names(), ["a"]);
    assert!(folder.shelf.has_trouble());
    assert_eq!(folder.shelf.good_files().count(), 1);
    folder.write("b.prom", "b 1\n");
    folder.shelf.refresh(&mut Vec::new());
    assert_eq!(folder.names(), ["a", "b"]);
    assert!(!folder.shelf.has_trouble());
    std::fs::remove_file(folder.dir.path().join("a.prom")).unwrap();
    folder.shelf.refresh(&mut Vec::new());
    assert_eq!(folder.names(), ["b"]);
}

#[test]
fn a_value_written_in_place_is_seen_at_once() {
    let mut folder = Folder::new(&[("a.prom", "a 1\n")]);
    for value in 2..6 {
        folder.write("a.prom", &format!("a {value}\n"));
        folder.shelf.refresh(&mut Vec::new());
        assert_eq!(folder.shelf.families()[0].samples[0].value, f64::from(value));
    }
}

#[test]
fn helps_are_taken_from_the_first_that_has_one() {
    let folder = Folder::new(&[
        ("a.prom", "m{f=\"a\"} 1\nn 1\n"),
        ("b.prom", "# HELP m One.\nm{f=\"b\"} 1\n"),
        ("c.prom", "# HELP m Two.\nm{f=\"c\"} 1\nn{x=\"\"} 2\n"),
    ]);
    assert_eq!(folder.names(), ["m", "n", "m", "n"], "the third m says otherwise");
    assert!(folder.shelf.has_trouble());
    assert_eq!(folder.shelf.good_files().count(), 3);
    let help = &folder.shelf.families()[1].help;
    assert!(
        help.starts_with("Metric read from /") && help.contains("a.prom, /") && help.ends_with("c.prom"),
        "{help}"
    );
}

#[test]
fn labels_are_made_alike() {
    let folder = Folder::new(&[("a.prom", "m{b=\"1\"} 1\nm{a=\"2\"} 2\nm 3\n")]);
    for sample in &folder.shelf.families()[0].samples {
        let mut names: Vec<_> = sample.labels.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["a", "b"]);
    }
}

#[test]
fn a_folder_that_is_not_there_is_trouble_until_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("later");
    let mut shelf = Shelf::new(vec![path.display().to_string()]);
    shelf.refresh(&mut Vec::new());
    assert!(shelf.has_trouble());
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("a.prom"), "a 1\n").unwrap();
    shelf.refresh(&mut Vec::new());
    assert!(!shelf.has_trouble());
    assert_eq!(shelf.families().len(), 1);
}
