//! The frame of a record, and how the next sound one is found where one is not.
//!
//! 14 bytes: a mark (2), the checksum of all that follows (4, CRC-32), the length of the payload with the kind of
//! the record in its top byte (4), and the low half of a sequence number (4); then the payload. A batch has a
//! number of its own; a shape and a list that of the batch after them.

use super::MAX_RECORD;
use super::numbers::Input;

/// Bytes before the payload.
pub(super) const HEAD: usize = 14;
/// Begins every record: rare in packed numbers, and no text.
const MARK: [u8; 2] = [0xc3, 0x96];
/// Opens every segment: what it is, and the version of the format. The reader goes on without it.
pub(super) const OPENING: [u8; 8] = *b"batches\x02";

/// What a record holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Batch = 1,
    /// A shape.
    Definition = 2,
    /// The series of shapes.
    List = 3,
}

impl Kind {
    fn from_number(number: u32) -> Option<Self> {
        [Kind::Batch, Kind::Definition, Kind::List].into_iter().find(|&kind| kind as u32 == number)
    }
}

/// A sound record, somewhere in a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Record<'a> {
    pub kind: Kind,
    pub sequence: u32,
    pub payload: &'a [u8],
}

/// Begins a record: appends room for its head, and says where that is.
pub(super) fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    start
}

/// Ends the record that began at `start`; its length, if that is more than [`MAX_RECORD`].
pub(super) fn end(kind: Kind, sequence: u64, start: usize, out: &mut [u8]) -> Result<(), usize> {
    let record = &mut out[start..];
    let length = record.len() - HEAD;
    if length > MAX_RECORD {
        return Err(length);
    }
    record[..2].copy_from_slice(&MARK);
    record[6..10].copy_from_slice(&(length as u32 | (kind as u32) << 24).to_le_bytes());
    record[10..14].copy_from_slice(&(sequence as u32).to_le_bytes());
    let checksum = crc32fast::hash(&record[6..]);
    record[2..6].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

/// The record that [`parse`] found at the start of `bytes`, whose checksum is not worked out again.
///
/// # Panics
/// If there is none.
pub(super) fn known(bytes: &[u8], length: usize) -> Record<'_> {
    let kind = Kind::from_number(bytes[9].into()).expect("a sound record");
    let sequence = u32::from_le_bytes([bytes[10], bytes[11], bytes[12], bytes[13]]);
    Record { kind, sequence, payload: &bytes[HEAD..length] }
}

/// How many samples the batch of this payload has: the third of the numbers with which it opens.
pub(super) fn samples(payload: &[u8]) -> u64 {
    let mut input = Input(payload);
    let count = input.number().and_then(|_| input.number()).and_then(|_| input.number());
    count.unwrap_or(0)
}

/// What begins at the start of `bytes`.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Found<'a> {
    Record(Record<'a>),
    /// So many bytes are needed to tell.
    Needs(usize),
    Nothing,
}

/// Looks at the start of `bytes`, of which at most `room` bytes could belong to a record in all.
pub(super) fn parse(bytes: &[u8], room: u64) -> Found<'_> {
    if room < HEAD as u64 || bytes.iter().zip(MARK).any(|(&byte, mark)| byte != mark) {
        return Found::Nothing;
    }
    let Some(head) = bytes.first_chunk::<HEAD>() else { return Found::Needs(HEAD) };
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (checksum, length, sequence) = (word(2), word(6) & 0xff_ffff, word(10));
    let Some(kind) = Kind::from_number(word(6) >> 24) else { return Found::Nothing };
    let whole = HEAD + length as usize;
    if whole as u64 > room {
        return Found::Nothing;
    }
    let Some(record) = bytes.get(..whole) else { return Found::Needs(whole) };
    if crc32fast::hash(&record[6..]) != checksum {
        return Found::Nothing;
    }
    Found::Record(Record { kind, sequence, payload: &record[HEAD..] })
}

/// Where in `bytes`, not at its start, a record may begin; the length of `bytes` where none does, less a last
/// byte that could be the first of one.
pub(super) fn next_mark(bytes: &[u8]) -> usize {
    let found = bytes.windows(2).skip(1).position(|pair| pair == MARK);
    let open = usize::from(bytes.len() > 1 && bytes.ends_with(&MARK[..1]));
    found.map_or(bytes.len() - open, |at| at + 1)
}

/// The sequence number whose low half is `low`, in a segment that begins with `first`.
pub(super) fn sequence(first: u64, low: u32) -> u64 {
    first + u64::from(low.wrapping_sub(first as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let mut out = vec![];
        let start = begin(&mut out);
        out.extend_from_slice(b"payload");
        end(Kind::Batch, 0x1_0000_0007, start, &mut out).unwrap();
        let room = out.len() as u64;
        let Found::Record(record) = parse(&out, room) else { panic!("a record") };
        assert_eq!((record.kind, record.payload), (Kind::Batch, &b"payload"[..]));
        assert_eq!(known(&out, out.len()), record);
        assert_eq!(sequence(0xffff_fff0, record.sequence), 0x1_0000_0007);
        for bit in 0..out.len() * 8 {
            out[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(parse(&out, room), Found::Record(_)), "bit {bit}");
            out[bit / 8] ^= 1 << (bit % 8);
        }
        for length in 0..out.len() {
            assert!(matches!(parse(&out[..length], room), Found::Needs(_)));
            assert_eq!(parse(&out[..length], length as u64), Found::Nothing);
        }
    }

    #[test]
    fn the_next_mark_is_found_also_across_a_cut() {
        assert_eq!(next_mark(&[0xc3, 0x96, 1, 0xc3, 0x96]), 3);
        assert_eq!(next_mark(&[0xc3, 0x96, 1, 2, 0xc3]), 4);
        assert_eq!(next_mark(&[0xc3]), 1);
        assert_eq!(next_mark(&[]), 0);
        assert_eq!(next_mark(&[1, 2, 3]), 3);
    }
}
