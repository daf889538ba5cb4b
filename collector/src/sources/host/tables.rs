//! Tables of families as `Registration::families` wants them, put together by the compiler.

use crate::model::Family;

/// The families of a table whose rows are a key and a family.
pub(super) const fn families<K, const N: usize>(table: &'static [(K, Family); N]) -> [&'static Family; N] {
    let mut families = [&table[0].1; N];
    let mut row = 0;
    while row < N {
        families[row] = &table[row].1;
        row += 1;
    }
    families
}

/// All of `lists`, one after the other; `N` is their length in sum.
pub(super) const fn join<const N: usize>(lists: &[&[&'static Family]]) -> [&'static Family; N] {
    let mut joined = [lists[0][0]; N];
    let (mut list, mut count) = (0, 0);
    while list < lists.len() {
        let mut at = 0;
        while at < lists[list].len() {
            joined[count] = lists[list][at];
            at += 1;
            count += 1;
        }
        list += 1;
    }
    assert!(count == N, "N is the length of all lists in sum");
    joined
}
