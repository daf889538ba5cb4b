//! Gzip that is written from a plan, not searched for (RFC 1951, RFC 1952).
//!
//! A page is constant text with numbers in between. Where the text repeats itself is found once; from then on a
//! page costs, for each repeat, the distance by which it lies back, which the numbers in between have moved, and
//! for each digit a look at a table.
//!
//! Cost: a quarter of what it takes to search a page quickly; the result is about as long. Memory: some 30 bytes for
//! each repeat, about as much as half the page.

use super::huffman::{
    Bits, Codes, DISTANCES, END_OF_BLOCK, LITERALS, MAX_DISTANCE, MAX_LENGTH, length_symbol,
    symbol_of_distance,
};

/// A number is not longer than this when it is written, in bytes.
const MAX_NUMBER: usize = 24;
/// What numbers are written in.
const DIGITS: &[u8] = b"0123456789+-.eEINafn";
/// Bytes that must repeat at least.
const MIN_MATCH: usize = 4;
/// Places that are looked at for the longest repeat.
const MAX_TRIES: usize = 64;
/// A repeat of this length is long enough: no better one is looked for at the next byte.
const GOOD_MATCH: usize = 32;
const HASH_BITS: u32 = 14;
/// A larger page is not worth the time that its plan takes.
const MAX_PAGE: usize = 1 << 20;
const NONE: u32 = u32::MAX;
/// No time, no name, unknown system (RFC 1952, section 2.3).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// Bits that are moved at once.
const WORD: u32 = 32;

/// Where in a page a number stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub start: u32,
    pub end: u32,
}

impl Number {
    fn of(self, page: &[u8]) -> &[u8] {
        &page[self.start as usize..self.end as usize]
    }
}

/// Constant bits, and then a match: or none, where `distance` is 0.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Where its bits begin, in bytes, and how many they are.
    at: u32,
    bits: u32,
    /// The gap in which the repeated text stands.
    source: u32,
    /// How far back it lies, without the numbers in between.
    distance: u32,
}

/// How pages of one layout are written.
pub(super) struct GzipPlan {
    codes: Codes,
    steps: Box<[Step]>,
    /// Where the steps of each gap end.
    gap_ends: Box<[u32]>,
    bits: Box<[u8]>,
}

/// Memory of the writer.
#[derive(Default)]
pub(super) struct Scratch {
    /// For each gap the bytes of all numbers before it.
    before: Vec<u32>,
}

impl GzipPlan {
    /// The plan of pages whose text between the numbers is that of `page`. `None` for a page without numbers, or of
    /// more than [`MAX_PAGE`] bytes.
    pub(super) fn new(page: &[u8], numbers: &[Number]) -> Option<Self> {
        if numbers.is_empty() || page.len() > MAX_PAGE {
            return None;
        }
        let mut search = Search::new(page, numbers);
        let mut tokens = Vec::new();
        let mut gap_ends = Vec::new();
        for gap in 0..search.gaps.len() {
            search.parse(gap, &mut tokens);
            gap_ends.push(tokens.len());
        }
        let codes = codes(&tokens, page, numbers);
        Some(Self::encode_steps(codes, &tokens, &gap_ends))
    }

    fn encode_steps(codes: Codes, tokens: &[Token], gap_ends: &[usize]) -> Self {
        // A code has at most 15 bits, and a length 5 more; each match ends with a whole byte.
        let mut bits = vec![0; tokens.len() * 4 + gap_ends.len() + 8];
        let mut writer = Writer::new(&mut bits);
        let (mut steps, mut ends) = (Vec::new(), Vec::new());
        let mut start = 0;
        for &end in gap_ends {
            let mut begun = (writer.at, 0);
            for token in &tokens[start..end] {
                let bits = match token {
                    Token::Literal(byte) => codes.literal(usize::from(*byte)),
                    Token::Match { length, .. } => codes.length(*length),
                };
                writer.put(bits);
                begun.1 += bits.count;
                if let Token::Match { source, distance, .. } = *token {
                    let end = writer.pad();
                    let (at, distance) = (begun.0 as u32, distance as u32);
                    steps.push(Step { at, bits: begun.1, source, distance });
                    begun = (end, 0);
                }
            }
            writer.pad();
            if begun.1 > 0 {
                steps.push(Step { at: begun.0 as u32, bits: begun.1, source: 0, distance: 0 });
            }
            ends.push(steps.len() as u32);
            start = end;
        }
        // The reader of bits looks at whole words.
        let length = writer.at + 8;
        bits.truncate(length);
        GzipPlan { codes, steps: steps.into(), gap_ends: ends.into(), bits: bits.into() }
    }

    /// Appends `page`, whose text between its numbers is that of the plan, as one gzip member. `false` where it is
    /// not, and nothing was appended.
    pub(super) fn encode(
        &self,
        page: &[u8],
        numbers: &[Number],
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> bool {
        let is_short = |number: &Number| (number.end - number.start) as usize <= MAX_NUMBER;
        if numbers.len() + 1 != self.gap_ends.len() || !numbers.iter().all(is_short) {
            return false;
        }
        out.extend_from_slice(&GZIP_HEADER);
        let start = out.len();
        let digits: usize = numbers.iter().map(|number| (number.end - number.start) as usize).sum();
        out.resize(
            start + self.bits.len() + self.steps.len() * 4 + digits * 2 + self.codes.header().len() * 2 + 16,
            0,
        );
        let mut writer = Writer::new(&mut out[start..]);
        self.codes.header().iter().for_each(|&bits| writer.put(bits));
        let before = &mut scratch.before;
        before.clear();
        before.push(0);
        let mut first = 0;
        for (gap, &end) in self.gap_ends.iter().enumerate() {
            for step in &self.steps[first..end as usize] {
                writer.run(&self.bits[step.at as usize..], step.bits);
                if step.distance > 0 {
                    let moved = before[gap] - before[step.source as usize];
                    writer.put(self.codes.distance((step.distance + moved) as usize));
                }
            }
            first = end as usize;
            if let Some(number) = numbers.get(gap) {
                before.push(before[gap] + number.end - number.start);
                writer.digits(number.of(page), &self.codes);
            }
        }
        writer.put(self.codes.literal(END_OF_BLOCK));
        let length = writer.pad();
        out.truncate(start + length);
        out.extend_from_slice(&crc32fast::hash(page).to_le_bytes());
        out.extend_from_slice(&(page.len() as u32).to_le_bytes());
        true
    }
}

/// What the text between two numbers comes to.
enum Token {
    Literal(u8),
    /// `distance` does not count the numbers between this gap and the gap `source`; `now` counts them.
    Match {
        length: usize,
        source: u32,
        distance: usize,
        now: usize,
    },
}

fn codes(tokens: &[Token], page: &[u8], numbers: &[Number]) -> Codes {
    let mut literals = [0; LITERALS];
    // Any distance may come when the numbers change.
    let mut distances = [1; DISTANCES];
    literals[END_OF_BLOCK] = 1;
    let digits = numbers.iter().flat_map(|number| number.of(page)).chain(DIGITS);
    digits.for_each(|&byte| literals[usize::from(byte)] += 1);
    for token in tokens {
        match token {
            Token::Literal(byte) => literals[usize::from(*byte)] += 1,
            Token::Match { length, now, .. } => {
                literals[length_symbol(*length).0] += 1;
                distances[symbol_of_distance(*now)] += 1;
            }
        }
    }
    Codes::new(&literals, &distances)
}

/// Looks for repeats within the text between the numbers: a repeat lies within one gap, and so does what it
/// repeats.
struct Search<'a> {
    page: &'a [u8],
    /// Start and end of each gap.
    gaps: Vec<(usize, usize)>,
    /// For each byte the gap in which it is.
    gap_of: Vec<u32>,
    /// The bytes of all numbers before each gap.
    before: Vec<usize>,
    heads: Vec<u32>,
    /// For each byte the last place before it that has the same hash.
    chain: Vec<u32>,
}

impl<'a> Search<'a> {
    fn new(page: &'a [u8], numbers: &[Number]) -> Self {
        let starts = std::iter::once(0).chain(numbers.iter().map(|number| number.end as usize));
        let ends = numbers.iter().map(|number| number.start as usize).chain([page.len()]);
        let gaps: Vec<_> = starts.zip(ends).collect();
        let mut gap_of = vec![0; page.len()];
        for (number, &(start, end)) in gaps.iter().enumerate() {
            gap_of[start..end].fill(number as u32);
        }
        let mut before = vec![0];
        before.extend(numbers.iter().scan(0, |sum, number| {
            *sum += (number.end - number.start) as usize;
            Some(*sum)
        }));
        let (heads, chain) = (vec![NONE; 1 << HASH_BITS], vec![NONE; page.len()]);
        Search { page, gaps, gap_of, before, heads, chain }
    }

    /// Appends the tokens of a gap.
    fn parse(&mut self, gap: usize, tokens: &mut Vec<Token>) {
        let (mut at, end) = self.gaps[gap];
        let mut ahead = None;
        while at < end {
            let found = ahead.take().unwrap_or_else(|| self.find(at, gap));
            self.remember(at, end);
            let Some((length, place)) = found else {
                tokens.push(Token::Literal(self.page[at]));
                at += 1;
                continue;
            };
            if length < GOOD_MATCH && at + 1 < end {
                let next = self.find(at + 1, gap);
                if next.is_some_and(|(longer, _)| longer > length) {
                    tokens.push(Token::Literal(self.page[at]));
                    at += 1;
                    ahead = Some(next);
                    continue;
                }
            }
            let source = self.gap_of[place] as usize;
            let (now, moved) = (at - place, self.before[gap] - self.before[source]);
            tokens.push(Token::Match { length, source: source as u32, distance: now - moved, now });
            (at + 1..at + length).for_each(|at| self.remember(at, end));
            at += length;
        }
    }

    /// The longest repeat at `at`, the nearest of equals, and where what it repeats begins.
    fn find(&self, at: usize, gap: usize) -> Option<(usize, usize)> {
        let end = self.gaps[gap].1;
        let mut place = self.heads[self.hash(at, end)?];
        let (mut best, mut tries) = (None, 0);
        while place != NONE && tries < MAX_TRIES {
            let from = place as usize;
            let source = self.gap_of[from] as usize;
            let numbers = self.before[gap] - self.before[source];
            // The numbers in between may all grow as long as numbers can be.
            if at - from - numbers + MAX_NUMBER * (gap - source) > MAX_DISTANCE {
                break;
            }
            let limit = (end - at).min(MAX_LENGTH);
            let limit = if source == gap { limit } else { limit.min(self.gaps[source].1 - from) };
            let pairs = self.page[from..].iter().zip(&self.page[at..at + limit]);
            let length = pairs.take_while(|(a, b)| a == b).count();
            if length >= MIN_MATCH && best.is_none_or(|(longest, _)| length > longest) {
                best = Some((length, from));
            }
            place = self.chain[from];
            tries += 1;
        }
        best
    }

    fn remember(&mut self, at: usize, end: usize) {
        if let Some(hash) = self.hash(at, end) {
            self.chain[at] = self.heads[hash];
            self.heads[hash] = at as u32;
        }
    }

    fn hash(&self, at: usize, end: usize) -> Option<usize> {
        let bytes = self.page[at..end].first_chunk::<MIN_MATCH>()?;
        Some((u32::from_le_bytes(*bytes).wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize)
    }
}

/// Writes bits into room that was made for all of them.
struct Writer<'a> {
    room: &'a mut [u8],
    at: usize,
    held: u64,
    count: u32,
}

impl<'a> Writer<'a> {
    fn new(room: &'a mut [u8]) -> Self {
        Writer { room, at: 0, held: 0, count: 0 }
    }

    /// Up to [`WORD`] bits. Fewer than 8 are held back: no branch depends on how many there are.
    #[inline]
    fn put(&mut self, Bits { bits, count }: Bits) {
        debug_assert!(count <= WORD && bits >> count == 0);
        self.held |= bits << self.count;
        self.count += count;
        self.room[self.at..self.at + 8].copy_from_slice(&self.held.to_le_bytes());
        self.at += (self.count >> 3) as usize;
        self.held >>= self.count & !7;
        self.count &= 7;
    }

    /// The first `count` bits of `bytes`, behind which eight more bytes can be read.
    #[inline]
    fn run(&mut self, mut bytes: &[u8], mut count: u32) {
        while count > WORD {
            self.put(Bits { bits: word(bytes), count: WORD });
            bytes = &bytes[4..];
            count -= WORD;
        }
        self.put(Bits { bits: word(bytes) & ((1 << count) - 1), count });
    }

    /// Two at a time: a code has at most 15 bits.
    #[inline]
    fn digits(&mut self, digits: &[u8], codes: &Codes) {
        let code = |byte: u8| codes.literal(usize::from(byte));
        let pairs = digits.chunks_exact(2);
        let last = pairs.remainder();
        pairs.for_each(|pair| self.put(code(pair[0]).followed_by(code(pair[1]))));
        last.iter().for_each(|&byte| self.put(code(byte)));
    }

    /// Fills up to a whole byte, and says how many bytes there are.
    fn pad(&mut self) -> usize {
        self.at += usize::from(self.count > 0);
        (self.held, self.count) = (0, 0);
        self.at
    }
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    u32::from_le_bytes(*bytes.first_chunk().expect("words can be read to the end")).into()
}

#[cfg(test)]
#[path = "gzip_plan_tests.rs"]
mod tests;
