//! Upper and lower case as Go's `strings` has them: one character for one (Unicode's simple mapping), where
//! Rust's own would write `SS` for `ß`.

/// Greek letters with an iota below: their only upper case in one character is the title case.
fn simple_upper(c: char) -> char {
    let shifted = |by: u32| char::from_u32(u32::from(c) + by).unwrap_or(c);
    match c {
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => shifted(8),
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => shifted(9),
        _ => c,
    }
}

pub(super) fn uppercase(text: &str) -> String {
    text.chars()
        .map(|c| {
            let mut upper = c.to_uppercase();
            match (upper.next(), upper.next()) {
                (Some(one), None) => one,
                _ => simple_upper(c),
            }
        })
        .collect()
}

pub(super) fn lowercase(text: &str) -> String {
    // The first character is the simple mapping: only İ has more than one, and its first is an i.
    text.chars().map(|c| c.to_lowercase().next().unwrap_or(c)).collect()
}
