//! Places over restarts, torn writes, and older forms of the file.

use super::*;

#[test]
fn a_torn_write_leaves_the_places_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut position = Position::open(folder.path(), "a", 1, 100).unwrap();
    (1..=20).for_each(|sequence| position.acknowledge(sequence).unwrap());
    position.acknowledge(7).unwrap();
    let mut ahead = *position.places();
    ahead[5] = 50;
    ahead[63] = 60;
    let standing = Standing { places: ahead, fetched: 70, unsettled: 9 };
    position.settle(Part::First, &standing).unwrap();
    assert_eq!((position.next(), position.places()[5], position.places()[63]), (21, 50, 60));
    let path = folder.path().join("a.position");
    let bytes = std::fs::read(&path).unwrap();
    let newest = (1 - position.slot) * SLOT;
    for at in 0..bytes.len() {
        let mut torn = bytes.clone();
        torn[at] ^= 0x40;
        std::fs::write(&path, &torn).unwrap();
        let opened = Position::open(folder.path(), "a", 1, 100).unwrap();
        let is_spoilt = (newest..newest + SLOT).contains(&at);
        assert_eq!((opened.next(), opened.places()[5]), (21, if is_spoilt { 21 } else { 50 }), "byte {at}");
    }
    std::fs::write(&path, b"").unwrap();
    assert_eq!(Position::open(folder.path(), "a", 5, 100).unwrap().next(), 5);
    assert_eq!(largest(folder.path()).unwrap(), 5);
}

#[test]
fn a_file_of_the_time_before_lanes_is_read_and_spared_until_the_new_one_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.position");
    let mut bytes = Vec::new();
    for (next, writes) in [(70u64, 8u64), (60, 7)] {
        let slot = [next.to_le_bytes(), writes.to_le_bytes()].concat();
        bytes.extend_from_slice(&slot);
        bytes.extend_from_slice(&crc32fast::hash(&slot).to_le_bytes());
    }
    std::fs::write(&path, &bytes).unwrap();
    let mut position = Position::open(folder.path(), "a", 1, 100).unwrap();
    assert_eq!((position.next(), position.places()), (70, &[70; LANES]));
    position.acknowledge(80).unwrap();
    assert_eq!(Position::open(folder.path(), "a", 1, 100).unwrap().next(), 81);
    let mut torn = std::fs::read(&path).unwrap();
    assert_eq!(torn[..40], bytes);
    *torn.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &torn).unwrap();
    assert_eq!(Position::open(folder.path(), "a", 1, 100).unwrap().next(), 70);
    position.acknowledge(90).unwrap();
    assert_eq!(Position::open(folder.path(), "a", 1, 100).unwrap().next(), 91);
}

#[test]
fn any_name_gives_a_file_of_its_own_in_the_folder() {
    let names =
        ["a", "a/b", "../a", "a%2fb", "https://x:1/y?z", &"n".repeat(300), &"n".repeat(301), "", ".."];
    let files: std::collections::HashSet<String> = names.iter().map(|name| file_name(name)).collect();
    assert_eq!(files.len(), names.len());
    assert!(files.iter().all(|file| !file.contains('/') && file.len() < 200));
}

#[test]
fn what_is_kept_beside_the_places_goes_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let position = Position::open(folder.path(), "a.b", 1, 100).unwrap();
    assert_eq!(position.beside(), None);
    position.keep_beside(b"first, and longer").unwrap();
    position.keep_beside(b"second").unwrap();
    let again = Position::open(folder.path(), "a.b", 1, 100).unwrap();
    assert_eq!(again.beside().as_deref(), Some(&b"second"[..]));
    assert_eq!(Position::open(folder.path(), "a.c", 1, 100).unwrap().beside(), None);
    remove_forgotten(folder.path(), &["a.b"], i64::MAX).unwrap();
    assert!(again.beside().is_some());
    remove_forgotten(folder.path(), &[], i64::MAX).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
