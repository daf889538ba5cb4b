//! What receivers need of a request, and no more: where its body is, and the fields of a protobuf message.

use std::borrow::Cow;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

/// Where the body begins and how long it is, once the head is whole.
fn head_and_length(bytes: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    length.map(|length| Some((end + 4, length))).ok_or_else(|| io::Error::other("no length"))
}

/// Answers every request of a connection by what `answer` says of its head, its body, and the body without snappy,
/// if it is snappy.
pub(crate) fn answer_all(
    mut stream: &TcpStream,
    answer: impl Fn(&[u8], &[u8], Option<&[u8]>) -> Cow<'static, str>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut plain) = (vec![0; 256 << 10], Vec::new());
    let (mut have, mut decoder) = (0, snap::raw::Decoder::new());
    loop {
        let (head, length) = loop {
            if let Some(found) = head_and_length(&buffer[..have])? {
                break found;
            }
            match stream.read(&mut buffer[have..])? {
                0 => return Ok(()),
                read => have += read,
            }
        };
        let total = head + length;
        if buffer.len() < total {
            buffer.resize(total, 0);
        }
        while have < total {
            match stream.read(&mut buffer[have..])? {
                0 => return Ok(()),
                read => have += read,
            }
        }
        let body = &buffer[head..total];
        plain.resize(snap::raw::decompress_len(body).unwrap_or(0), 0);
        let is_snappy = decoder.decompress(body, &mut plain).is_ok();
        let answer = answer(&buffer[..head], body, is_snappy.then_some(&plain));
        stream.write_all(answer.as_bytes())?;
        buffer.copy_within(total..have, 0);
        have -= total;
    }
}

pub(crate) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

pub(crate) fn chunk<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(bytes)?).ok()?;
    let (chunk, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(chunk)
}
