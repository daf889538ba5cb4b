//! Heads and chunks, whole and torn.

use super::*;

#[test]
fn heads_say_how_long_the_body_is() {
    let parse = |text: &str| {
        parse_head(text.as_bytes()).unwrap().map(|(head, length)| (head.length, head.keeps, length))
    };
    let known = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n";
    assert_eq!(parse(known), Some((Length::Known(12), true, known.len())));
    assert_eq!(parse(&known[..known.len() - 1]), None);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n";
    assert_eq!(parse(chunked).unwrap().0, Length::Chunked);
    let old = "HTTP/1.0 200 OK\r\n\r\n";
    assert_eq!(parse(old), Some((Length::UntilClosed, false, old.len())));
    let closing = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert!(!parse(closing).unwrap().1);
}

#[test]
fn heads_that_make_no_sense_are_refused() {
    for text in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    ] {
        assert!(parse_head(text.as_bytes()).is_err(), "{text}");
    }
}

/// Feeds the text in portions of `step` bytes.
fn join(text: &[u8], step: usize) -> Result<Option<Vec<u8>>, &'static str> {
    let mut bytes = b"head".to_vec();
    let mut chunks = Chunks::new(bytes.len());
    for portion in text.chunks(step) {
        bytes.extend_from_slice(portion);
        if chunks.advance(&mut bytes)? {
            return Ok(Some(bytes[4..chunks.end].to_vec()));
        }
    }
    Ok(None)
}

#[test]
fn chunks_are_joined_however_they_come() {
    let text = b"5\r\nhello\r\n1;ext=1\r\n \r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
    for step in 1..=text.len() {
        assert_eq!(join(text, step), Ok(Some(b"hello 0123456789".to_vec())), "{step}");
    }
    assert_eq!(join(&text[..text.len() - 2], 3), Ok(None));
}

#[test]
fn chunks_that_make_no_sense_are_refused() {
    for text in ["x\r\n", "5\r\nhelloXX\r\n", "-1\r\n", "\r\n"] {
        assert!(join(text.as_bytes(), 2).is_err(), "{text}");
    }
    assert!(join(&[b'1'; 2 * MAX_CHUNK_LINE], 100).is_err());
}
