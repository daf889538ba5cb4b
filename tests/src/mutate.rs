//! Bends bytes as a fuzzer does: the same ones for the same seed.

/// SplitMix64: small, and good enough to choose by.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }

    /// # Panics
    /// When there is nothing to choose from.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// The ends of some part of `length` bytes, which may be empty; short ones more often.
    fn part(&mut self, length: usize) -> (usize, usize) {
        let start = self.below(length + 1);
        let longest = if self.once_in(4) { length } else { 16 };
        (start, start + self.below(longest.min(length - start) + 1))
    }
}

/// Bytes that mean something to one parser or another.
const BYTES: &[u8] =
    b"\n\n\t  :;-=,.+/\\\"'#{}[]()<>@~%0123456789eExXafnNkB_\0\x01\x0b\r\x7f\x80\xc3\xe2\xff";

/// Words that numbers and names are exchanged with.
const WORDS: &[&str] = &[
    "0",
    "-0",
    "-1",
    "+1",
    "1",
    "00000000000000000000000000001",
    "127",
    "255",
    "256",
    "4095",
    "4096",
    "65535",
    "65536",
    "1000000",
    "2147483647",
    "2147483648",
    "-2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999999999999999",
    "1e9",
    "1e308",
    "1e999",
    "-1e-999",
    "NaN",
    "inf",
    "-Infinity",
    "0x",
    "0xffffffffffffffff",
    "0x10000000000000000",
    "ffffffff",
    "0-4294967295",
    "0-18446744073709551615",
    "1.5",
    ".",
    "...",
    "1.",
    "1_000",
    "\u{663}",
    "max",
    "unlimited",
    "N/A",
    "(deleted)",
    "[",
    "]",
    "\u{fffd}",
    "\u{202e}",
];

type Mutation = fn(&mut Vec<u8>, &mut Random, &[Vec<u8>]);

const MUTATIONS: &[Mutation] = &[
    flip_bits,
    exchange_bytes,
    exchange_bytes,
    exchange_word,
    exchange_word,
    exchange_word,
    cut,
    cut,
    copy_part,
    delete_part,
    delete_line,
    repeat_line,
    swap_words,
    splice,
    insert_part,
    drop_last_newline,
];

/// Seldom chosen: their results take long to read.
const LARGE: &[Mutation] = &[lengthen_line, lengthen_word, repeat_lines, repeat_all];
const LARGE_ONCE_IN: usize = 24;
/// Nothing grows beyond this.
pub const LARGEST: usize = 1 << 20;

/// Bends `content` in one to four ways; parts of `others` may come into it.
pub fn mutate(content: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = content.to_vec();
    for _ in 0..1 + random.below(4) {
        random.pick(MUTATIONS)(&mut bytes, random, others);
    }
    if random.once_in(LARGE_ONCE_IN) {
        random.pick(LARGE)(&mut bytes, random, others);
    }
    bytes.truncate(LARGEST);
    bytes
}

/// Changes letters and digits to others, and nothing else: other names, other numbers, the same structure.
pub fn rename(content: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = content.to_vec();
    let names: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at].is_ascii_alphanumeric()).collect();
    if names.is_empty() {
        return bytes;
    }
    for _ in 0..1 + random.below(6) {
        let byte = &mut bytes[*random.pick(&names)];
        *byte =
            if byte.is_ascii_digit() { b'0' + random.below(10) as u8 } else { b'a' + random.below(26) as u8 };
    }
    bytes
}

#[expect(clippy::ptr_arg, reason = "one of a table of functions")]
fn flip_bits(bytes: &mut Vec<u8>, random: &mut Random, _: &[Vec<u8>]) {
    for _ in 0..1 + random.below(4) {
        if !bytes.is_empty() {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
    }
}

#[expect(clippy::ptr_arg, reason = "one of a table of functions")]
fn exchange_bytes(bytes: &mut Vec<u8>, random: &mut Random, _: &[Vec<u8>]) {
    for _ in 0..1 + random.below(4) {
        if !bytes.is_empty() {
            let at = random.below(bytes.len());
            bytes[at] = *random.pick(BYTES);
        }
    }
}

/// Where each word begins and ends.
fn words(bytes: &[u8]) -> Vec<(usize, usize)> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let mut found = Vec::new();
    let mut at = 0;
    for part in bytes.chunk_by(|a, b| is_word(a) == is_word(b)) {
        if is_word(&part[0]) {
            found.push((at, at + part.len()));
        }
        at += part.len();
    }
    found
}

fn exchange_word(bytes: &mut Vec<u8>, random: &mut Random, _: &[Vec<u8>]) {
    let words = words(bytes);
    if !words.is_empty() {
        let &(start, end) = random.pick(&words);
        bytes.splice(start..end, random.pick(WORDS).bytes());
    }
}

fn swap_words(bytes: &mut Vec<u8>, random: &mut Random, _: &[Vec<u8>]) {
    let words = words(bytes);
    if !words.is_empty() {
        let (&(start, end), &(from, to)) = (random.pick(&words), random.pick(&words));
        let other = bytes[from..to].to_vec();
        bytes.splice(start..end, other);
    }
}

fn cut(bytes: &mut Vec<u8>, random: &mut Random, _: &[Vec<u8>]) {
    let at = random.below(bytes.len() + 1);
    if random.once_in(4) {
        bytes.drain(..at);
    } else {
        bytes.truncate(at);
    }
}

fn copy_part(bytes: &mut Vec<u8>, random: &mut Random, _: &[Vec<u8>]) {
    let (start, end) = random.part(bytes.len());
    let part = bytes[start..end].to_vec();
    let at = random.below(bytes.len() + 1);
    bytes.splice(at..at, part);
}

fn delete_part(bytes: &mut Vec<u8>, random: &mut Random, _: &[Vec<u8>]) {
    let (start, end) = random.part(bytes.len());
    bytes.drain(start..end);
}

fn insert_part(bytes: &mut Vec<u8>, random: &mut Random, _: &[Vec<u8>]) {
    let part: Vec<u8> = (0..random.below(12)).map(|_| *random.pick(BYTES)).collect();
    let at = random.below(bytes.len() + 1);
    bytes.splice(at..at, part);
}

/// Puts a part of another file in.
fn splice(bytes: &mut Vec<u8>, random: &mut Random, others: &[Vec<u8>]) {
    if others.is_empty() {
        return;
    }
    let other = random.pick(others);
    let (start, end) = random.part(other.len());
    let (from, to) = random.part(bytes.len());
    bytes.splice(from..to, other[start..end].iter().copied());
}

/// The ends of a line, with its newline.
fn line(bytes: &[u8], random: &mut Random) -> (usize, usize) {
    let at = random.below(bytes.len() + 1);
    let start = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let end = bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |end| at + end + 1);
    (start, end)
}

fn delete_line(bytes: &mut Vec<u8>, random: &mut Random, _: &[Vec<u8>]) {
    let (start, end) = line(bytes, random);
    bytes.drain(start..end);
}

fn repeat_line(bytes: &mut Vec<u8>, random: &mut Random, _: &[Vec<u8>]) {
    let (start, end) = line(bytes, random);
    let part = bytes[start..end].to_vec();
    let at = if random.once_in(2) { end } else { line(bytes, random).0 };
    bytes.splice(at..at, part);
}

fn drop_last_newline(bytes: &mut Vec<u8>, _: &mut Random, _: &[Vec<u8>]) {
    while bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
}

fn lengthen_line(bytes: &mut Vec<u8>, random: &mut Random, _: &[Vec<u8>]) {
    let (start, end) = line(bytes, random);
    let part = bytes[start..end].to_vec().repeat(1 + random.below(2000));
    let part: Vec<u8> = part.into_iter().map(|byte| if byte == b'\n' { b' ' } else { byte }).collect();
    bytes.splice(start..start, part);
}

fn lengthen_word(bytes: &mut Vec<u8>, random: &mut Random, _: &[Vec<u8>]) {
    let at = random.below(bytes.len() + 1);
    let part = vec![*random.pick(BYTES); random.below(100_000)];
    bytes.splice(at..at, part);
}

/// One line thousands of times, with a number in it that counts.
fn repeat_lines(bytes: &mut Vec<u8>, random: &mut Random, _: &[Vec<u8>]) {
    let (start, end) = line(bytes, random);
    let part = bytes[start..end].to_vec();
    let words = words(&part);
    let Some(&(from, to)) = words.get(random.below(words.len().max(1))) else { return };
    let mut lines = Vec::new();
    for n in 0..random.below(5000) {
        lines.extend_from_slice(&part[..if random.once_in(2) { from } else { to }]);
        lines.extend_from_slice(n.to_string().as_bytes());
        lines.extend_from_slice(&part[to..]);
    }
    bytes.splice(end..end, lines);
}

fn repeat_all(bytes: &mut Vec<u8>, random: &mut Random, _: &[Vec<u8>]) {
    *bytes = bytes.repeat(1 + random.below(200));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_bends_the_same_way() {
        let others = [b"other lines\nof a file\n".to_vec()];
        let bend = |seed| mutate(b"cpu0 1 2 3\ncpu1 4 5 6\n", &others, &mut Random::new(seed));
        for seed in 0..200 {
            assert_eq!(bend(seed), bend(seed));
        }
        let different: std::collections::BTreeSet<Vec<u8>> = (0..200).map(bend).collect();
        assert!(different.len() > 150, "{}", different.len());
    }

    #[test]
    fn every_mutation_takes_what_is_empty() {
        for mutation in MUTATIONS.iter().chain(LARGE) {
            for seed in 0..20 {
                mutation(&mut Vec::new(), &mut Random::new(seed), &[]);
                mutation(&mut b"\n".to_vec(), &mut Random::new(seed), &[Vec::new()]);
            }
        }
        assert!(rename(b"  \n", &mut Random::new(1)) == b"  \n");
    }
}
