//! The way into YAML: bounded before it is parsed.
//!
//! The parser looks, for each token inside brackets, at every bracket that is still open: 67 KB of `[` take it
//! seven seconds. So the depth of brackets is counted first, in one pass, and what is deeper than any
//! configuration is refused. Aliases that multiply are refused by the parser itself.

use serde::de::{DeserializeOwned, Error as _};
use serde_norway::Error;

/// Brackets open at the same time; a deeper file is refused.
pub const MAX_FLOW_DEPTH: usize = 64;

/// Parses a whole text, JSON among it.
///
/// # Errors
/// What is wrong with it, and where.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    if deepest(text) > MAX_FLOW_DEPTH {
        return Err(Error::custom(format!(
            "more than {MAX_FLOW_DEPTH} brackets are open at the same time: is one of them not closed?"
        )));
    }
    serde_norway::from_str(text)
}

/// How many brackets of flow collections are open at most. It may count more than there are (a bracket in a
/// block of text), never fewer.
fn deepest(text: &str) -> usize {
    let (mut depth, mut most) = (0usize, 0);
    let bytes = text.as_bytes();
    let mut at = 0;
    // Whether a node may begin here: where none may, a bracket or quote is part of a plain word.
    let mut begins = true;
    let mut closes = true;
    while let Some(&c) = bytes.get(at) {
        at += 1;
        match c {
            b'[' | b'{' if begins || depth > 0 => {
                depth += 1;
                most = most.max(depth);
                begins = true;
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                begins = false;
            }
            b'"' | b'\'' if begins && closes => match quoted_end(bytes, at, c) {
                Some(end) => {
                    at = end;
                    begins = false;
                }
                // The parser will complain; until then no bracket is missed, and none is looked at twice.
                None => closes = false,
            },
            b'#' if at == 1 || bytes[at - 2].is_ascii_whitespace() => {
                at += bytes[at..].iter().position(|c| *c == b'\n').unwrap_or(bytes.len() - at);
            }
            b'\n' | b',' | b':' | b'-' | b'?' => begins = true,
            b' ' | b'\t' | b'\r' => {}
            // A tag or an anchor stands before its node.
            b'!' | b'&' if begins => {
                let end = bytes[at..].iter().position(u8::is_ascii_whitespace);
                at += end.unwrap_or(bytes.len() - at);
            }
            _ => begins = false,
        }
    }
    most
}

/// Behind the quote that ends the text.
fn quoted_end(bytes: &[u8], from: usize, quote: u8) -> Option<usize> {
    let mut at = from;
    while let Some(&c) = bytes.get(at) {
        at += 1;
        if c == b'\\' && quote == b'"' {
            at += 1;
        } else if c == quote {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_counted_where_they_are_brackets() {
        for (text, depth) in [
            ("a: b\nc: [1, [2], {d: [3]}]\n", 3),
            ("regex: '[[[['\n", 0),
            ("regex: \"\\\"[[[[\"\n", 0),
            ("regex: a[[[[\n", 0),
            ("# [[[[\na: 1 # {{{{\n", 0),
            ("- [a]\n- {b: c}\n", 1),
            ("!tag [[1]]", 2),
            ("&x [*x]", 1),
            ("a: 'it''s [[['\nb: [c]", 1),
            ("a: '[[", 2),
        ] {
            assert_eq!(deepest(text), depth, "{text}");
        }
    }

    #[test]
    fn a_bent_file_costs_no_more_than_its_length() {
        for text in ["[".repeat(67_000), "{a: ".repeat(20_000), "- [".repeat(20_000), "[\n'".repeat(20_000)] {
            let error = parse::<serde_norway::Value>(&text).unwrap_err().to_string();
            assert!(error.contains("more than 64 brackets"), "{error}");
        }
        let deep = format!("{}{}", "[".repeat(MAX_FLOW_DEPTH), "]".repeat(MAX_FLOW_DEPTH));
        parse::<serde_norway::Value>(&deep).unwrap();
        let laughs = (1..12).fold("a0: &a0 [x, x]\n".to_owned(), |text, n| {
            let last = format!("*a{}, ", n - 1).repeat(10);
            format!("{text}a{n}: &a{n} [{last}]\n")
        });
        let error = parse::<serde_norway::Value>(&laughs).unwrap_err().to_string();
        assert!(error.contains("repetition limit"), "{error}");
    }
}
