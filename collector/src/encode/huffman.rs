//! Huffman codes of a deflate stream (RFC 1951, section 3.2): made once for a plan, looked up for each symbol.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Literals, the end of the block, and lengths (RFC 1951, section 3.2.5).
pub(super) const LITERALS: usize = 286;
pub(super) const END_OF_BLOCK: usize = 256;
pub(super) const DISTANCES: usize = 30;
/// The longest match, and the farthest back that it may lie.
pub(super) const MAX_LENGTH: usize = 258;
pub(super) const MAX_DISTANCE: usize = 32_768;

const MAX_CODE: u8 = 15;
const MAX_LENGTH_CODE: u8 = 7;
/// The order in which a header gives the lengths of the code for lengths (RFC 1951, section 3.2.7).
const LENGTH_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Bits in the order in which they are written, and how many.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    pub bits: u64,
    pub count: u32,
}

impl Bits {
    #[inline]
    pub(super) fn followed_by(self, next: Bits) -> Self {
        Bits { bits: self.bits | next.bits << self.count, count: self.count + next.count }
    }
}

/// How distances of one symbol are written.
#[derive(Clone, Copy, Default, Debug)]
struct Distance {
    code: u32,
    base: u32,
    /// Bits of the code, and of the code and what follows it.
    code_bits: u8,
    all_bits: u8,
}

/// The codes of a block.
pub(super) struct Codes {
    literals: Box<[Bits]>,
    distances: [Distance; DISTANCES],
    /// The symbol of each distance: up to 256 as they are, above that in steps of 128.
    near: [u8; 256],
    far: [u8; 256],
    header: Vec<Bits>,
}

impl Codes {
    /// Codes for symbols that come this often; a symbol that never comes has none.
    pub(super) fn new(literals: &[u32], distances: &[u32]) -> Self {
        debug_assert_eq!((literals.len(), distances.len()), (LITERALS, DISTANCES));
        let lengths = code_lengths(literals, MAX_CODE);
        let distance_lengths = code_lengths(distances, MAX_CODE);
        let mut codes = Codes {
            literals: canonical(&lengths),
            distances: [Distance::default(); DISTANCES],
            near: [0; 256],
            far: [0; 256],
            header: header(&lengths, &distance_lengths),
        };
        for (symbol, bits) in canonical(&distance_lengths).iter().enumerate() {
            let (base, extra) = distance_symbol(symbol);
            let (code_bits, all_bits) = (bits.count as u8, (bits.count + extra) as u8);
            codes.distances[symbol] = Distance { code: bits.bits as u32, base, code_bits, all_bits };
            for distance in base..base + (1 << extra) {
                match distance as usize - 1 {
                    near @ 0..256 => codes.near[near] = symbol as u8,
                    far => codes.far[far >> 7] = symbol as u8,
                }
            }
        }
        codes
    }

    /// What stands before the block's first symbol: a last block with codes of its own.
    pub(super) fn header(&self) -> &[Bits] {
        &self.header
    }

    #[inline]
    pub(super) fn literal(&self, symbol: usize) -> Bits {
        self.literals[symbol]
    }

    /// The length of a match, 3 to [`MAX_LENGTH`].
    pub(super) fn length(&self, length: usize) -> Bits {
        let (symbol, base, extra) = length_symbol(length);
        self.literals[symbol].followed_by(Bits { bits: (length - base) as u64, count: extra })
    }

    /// The distance of a match, 1 to [`MAX_DISTANCE`].
    #[inline]
    pub(super) fn distance(&self, distance: usize) -> Bits {
        let entry = &self.distances[self.distance_symbol(distance)];
        let rest = u64::from(distance as u32 - entry.base);
        Bits { bits: u64::from(entry.code) | rest << entry.code_bits, count: entry.all_bits.into() }
    }

    #[inline]
    fn distance_symbol(&self, distance: usize) -> usize {
        let at = distance - 1;
        usize::from(if at < 256 { self.near[at] } else { self.far[(at >> 7) & 255] })
    }
}

/// The symbol of a distance.
pub(super) fn symbol_of_distance(distance: usize) -> usize {
    (0..DISTANCES).rev().find(|&symbol| distance_symbol(symbol).0 as usize <= distance).unwrap_or(0)
}

/// The least distance of a symbol, and how many bits follow it.
fn distance_symbol(symbol: usize) -> (u32, u32) {
    let symbol = symbol as u32;
    match symbol {
        0..4 => (symbol + 1, 0),
        _ => {
            let extra = symbol / 2 - 1;
            (((2 + symbol % 2) << extra) + 1, extra)
        }
    }
}

/// The symbol of a length, the least length of that symbol, and how many bits follow it.
pub(super) fn length_symbol(length: usize) -> (usize, usize, u32) {
    if length == MAX_LENGTH {
        return (LITERALS - 1, MAX_LENGTH, 0);
    }
    let past = length - 3;
    if past < 8 {
        return (257 + past, length, 0);
    }
    let extra = past.ilog2() - 2;
    let step = past >> extra;
    (257 + 4 * extra as usize + step, (step << extra) + 3, extra)
}

/// Lengths of a prefix code, none longer than `longest`; 0 for what never comes. At least two symbols get a code,
/// as some readers want it.
fn code_lengths(counts: &[u32], longest: u8) -> Vec<u8> {
    let mut counts = counts.to_vec();
    for symbol in 0..2 {
        if counts.iter().filter(|&&count| count > 0).count() < 2 {
            counts[symbol] = counts[symbol].max(1);
        }
    }
    loop {
        let lengths = huffman_lengths(&counts);
        if lengths.iter().all(|&length| length <= longest) {
            return lengths;
        }
        // Flatter counts give shorter codes.
        counts.iter_mut().filter(|count| **count > 0).for_each(|count| *count = *count / 2 + 1);
    }
}

fn huffman_lengths(counts: &[u32]) -> Vec<u8> {
    let mut parents = vec![usize::MAX; counts.len()];
    let present = counts.iter().enumerate().filter(|&(_, &count)| count > 0);
    let mut heap: BinaryHeap<_> =
        present.map(|(symbol, &count)| Reverse((u64::from(count), symbol))).collect();
    while heap.len() > 1 {
        let (Some(Reverse(first)), Some(Reverse(second))) = (heap.pop(), heap.pop()) else { break };
        let node = parents.len();
        parents.push(usize::MAX);
        parents[first.1] = node;
        parents[second.1] = node;
        heap.push(Reverse((first.0 + second.0, node)));
    }
    let depth = |symbol: usize| std::iter::successors(Some(parents[symbol]), |&at| parents.get(at).copied());
    (0..counts.len()).map(|symbol| depth(symbol).take_while(|&at| at != usize::MAX).count() as u8).collect()
}

/// The codes of these lengths (RFC 1951, section 3.2.2), each turned round: a stream begins with the highest bit.
fn canonical(lengths: &[u8]) -> Box<[Bits]> {
    let mut next = 0u32;
    let mut codes = vec![Bits::default(); lengths.len()];
    for length in 1..=MAX_CODE {
        next <<= 1;
        for (code, _) in codes.iter_mut().zip(lengths).filter(|&(_, &other)| other == length) {
            let bits = next.reverse_bits() >> (32 - u32::from(length));
            *code = Bits { bits: bits.into(), count: length.into() };
            next += 1;
        }
    }
    codes.into()
}

fn header(literals: &[u8], distances: &[u8]) -> Vec<Bits> {
    let mut counts = [0; LENGTH_ORDER.len()];
    let lengths = || literals.iter().chain(distances);
    lengths().for_each(|&length| counts[usize::from(length)] += 1);
    let own_lengths = code_lengths(&counts, MAX_LENGTH_CODE);
    let own_codes = canonical(&own_lengths);
    let field = |bits: usize, count| Bits { bits: bits as u64, count };
    let mut header = vec![
        field(0b101, 3),
        field(literals.len() - 257, 5),
        field(distances.len() - 1, 5),
        field(LENGTH_ORDER.len() - 4, 4),
    ];
    header.extend(LENGTH_ORDER.iter().map(|&symbol| field(own_lengths[symbol].into(), 3)));
    header.extend(lengths().map(|&length| own_codes[usize::from(length)]));
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_those_of_the_specification() {
        // RFC 1951, section 3.2.5: the first and the last length and distance of some symbols.
        for (length, expected) in [
            (3, (257, 3, 0)),
            (10, (264, 10, 0)),
            (11, (265, 11, 1)),
            (12, (265, 11, 1)),
            (18, (268, 17, 1)),
            (19, (269, 19, 2)),
            (257, (284, 227, 5)),
            (258, (285, 258, 0)),
        ] {
            assert_eq!(length_symbol(length), expected, "{length}");
        }
        for (symbol, expected) in
            [(0, (1, 0)), (3, (4, 0)), (4, (5, 1)), (5, (7, 1)), (6, (9, 2)), (29, (24_577, 13))]
        {
            assert_eq!(distance_symbol(symbol), expected, "{symbol}");
        }
        let codes = Codes::new(&[1; LITERALS], &[1; DISTANCES]);
        for distance in 1..=MAX_DISTANCE {
            assert_eq!(codes.distance_symbol(distance), symbol_of_distance(distance), "{distance}");
        }
    }

    #[test]
    fn codes_are_whole_and_short_enough() {
        // Counts that grow like Fibonacci's numbers would make codes as long as there are symbols.
        let mut counts = vec![1u32, 1];
        while counts.len() < 40 {
            counts.push(counts[counts.len() - 1] + counts[counts.len() - 2]);
        }
        for longest in [MAX_LENGTH_CODE, MAX_CODE] {
            let lengths = code_lengths(&counts, longest);
            let kraft: f64 = lengths.iter().map(|&length| 0.5f64.powi(length.into())).sum();
            assert!((kraft - 1.0).abs() < 1e-9 && lengths.iter().all(|l| (1..=longest).contains(l)));
        }
        assert_eq!(code_lengths(&[0, 0, 7], 15), [1, 0, 1], "one symbol alone gets another beside it");
    }
}
