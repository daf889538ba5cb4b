//! For property tests of parsers: what they should read, bent in some places.

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Bytes that mean something to one parser or another.
const BYTES: &[u8] = b"\n\t :;-=,.#{}[]<>&\"'\\!|*0189eExaZ_\0\x01\x04\x08\x7f\x80\xc3\xff";

#[derive(Clone, Debug)]
enum Edit {
    Set(u8),
    Flip(u8),
    Insert(u8, usize),
    /// Removes so many bytes.
    Remove(usize),
    /// Copies so many bytes from another place.
    Copy(Index, usize),
    Cut,
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        select(BYTES).prop_map(Edit::Set),
        (0u8..8).prop_map(Edit::Flip),
        (select(BYTES), 1usize..40).prop_map(|(byte, times)| Edit::Insert(byte, times)),
        (1usize..24).prop_map(Edit::Remove),
        (any::<Index>(), 1usize..64).prop_map(|(from, length)| Edit::Copy(from, length)),
        Just(Edit::Cut),
    ]
}

impl Edit {
    fn apply(&self, place: Index, bytes: &mut Vec<u8>) {
        let at = place.index(bytes.len() + 1);
        let upto = |length: usize| (at + length).min(bytes.len());
        match *self {
            Edit::Set(byte) => bytes.splice(at..upto(1), [byte]).for_each(drop),
            Edit::Flip(bit) => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit),
            Edit::Insert(byte, times) => {
                bytes.splice(at..at, std::iter::repeat_n(byte, times)).for_each(drop);
            }
            Edit::Remove(length) => drop(bytes.drain(at..upto(length))),
            Edit::Copy(from, length) => {
                let from = from.index(bytes.len() + 1);
                let part = bytes[from..(from + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
            Edit::Cut => bytes.truncate(at),
        }
    }
}

/// One of `seeds`, with up to eight edits.
pub(crate) fn bent(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edits = proptest::collection::vec((any::<Index>(), edit()), 0..8);
    (select(seeds), edits).prop_map(|(mut bytes, edits)| {
        edits.iter().for_each(|(place, edit)| edit.apply(*place, &mut bytes));
        bytes
    })
}

/// How many inputs a test takes. `PROPTEST_CASES` says another number.
pub(crate) fn inputs() -> ProptestConfig {
    let usual = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { usual.cases } else { 10_000 };
    ProptestConfig { cases, failure_persistence: None, ..usual }
}
