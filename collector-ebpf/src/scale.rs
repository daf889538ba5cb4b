//! Histograms that are cut at the bounds of a native histogram *and* at those of a classic one.
//!
//! Both forms come out of the same counts without error: what is counted are whole numbers (of nanoseconds, of bytes),
//! and `value <= bound` is the same as `value <= floor(bound)`. A [`Spec`] names the bounds; the [`Tables`] made of it
//! when the crate is compiled find a value's bucket without a loop and without a branch.

/// Bounds of a histogram.
pub struct Spec {
    /// Schema of the native histogram, 0 to 3: 2^schema buckets an octave.
    pub schema: u32,
    /// Values up to 2^this lie in the zero bucket of the native histogram.
    pub zero_log2: i32,
    /// Values above 2^this lie in one overflow bucket.
    pub highest_log2: i32,
    /// Whole numbers in 1 of the unit that is shown: 10^9 where nanoseconds are shown as seconds.
    pub unit: u64,
    /// Upper bounds of the classic buckets, in whole numbers, and as they stand in `le`.
    pub classic: &'static [(u64, &'static str)],
}

/// What finds the bucket of a value.
#[repr(C)]
pub struct Tables {
    /// Upper bound of each bucket, the rest filled with a number that is larger than what is looked for.
    pub upper: [u64; 256],
    /// For each cell, the bucket in which its smallest value lies.
    pub first: [u8; CELLS],
}

/// Stands for a bound that there is not.
const NO_BOUND: u64 = i64::MAX as u64;

/// Cells, in levels of five octaves. The first level begins at 0; in each of the others the lowest part is not used: such
/// values belong to the level before. A cell is at most a sixteenth of an octave; no cell has two bounds, of none of the
/// histograms.
pub const CELLS: usize = LEVELS << CELL_BITS;
const CELL_BITS: u32 = 9;
const LEVELS: usize = 8;
/// Values below 2^14 are in the first level, below 2^39 in the sixth; above, they are all in one cell.
const FINEST_SHIFT: u32 = 5;
const OCTAVES: u32 = 5;
const HIGHEST: u64 = 1 << 39;
/// The schema in which bounds are computed: others are parts of it.
const FINEST: u32 = 3;

/// Which cell a value lies in, and the value; of those beyond the bounds of all histograms, the smallest.
///
/// Compares find the level, not the position of the highest bit: BPF has no instruction for that, and fifty do instead.
#[inline(always)]
pub const fn cell(value: u64) -> (usize, u64) {
    /// The cell of a value in that level.
    #[inline(always)]
    const fn at(value: u64, level: u32) -> (usize, u64) {
        ((value >> (FINEST_SHIFT + OCTAVES * level)) as usize + ((level as usize) << CELL_BITS), value)
    }
    // Small numbers are part of an instruction, large ones are one of their own: so what is large is made small first.
    let high = value >> 24;
    if high == 0 {
        if value < 1 << 14 {
            at(value, 0)
        } else if value < 1 << 19 {
            at(value, 1)
        } else {
            at(value, 2)
        }
    } else if high < 1 << 5 {
        at(value, 3)
    } else if high < 1 << 10 {
        at(value, 4)
    } else if high < HIGHEST >> 24 {
        at(value, 5)
    } else {
        (CELLS - 1, HIGHEST)
    }
}

impl Tables {
    /// # Panics
    /// When the program is compiled: where a cell has two bounds, or one is beyond the cells.
    pub const fn new(spec: &Spec) -> Self {
        let bounds = upper_bounds(spec);
        let first = first_buckets(&bounds);
        assert!(most_bounds_in_a_cell(&first) <= 1, "bucket() steps over one bound");
        let mut upper = [NO_BOUND; 256];
        let mut bucket = 0;
        while bounds[bucket] != u64::MAX {
            assert!(bounds[bucket] < HIGHEST, "no bound is beyond the cells");
            upper[bucket] = bounds[bucket];
            bucket += 1;
        }
        Tables { upper, first }
    }

    /// The bucket of a value: one look at the table of cells, and one at a bound.
    #[inline(always)]
    pub fn bucket(&self, value: u64) -> usize {
        let (cell, value) = cell(value);
        #[cfg(target_arch = "bpf")]
        let cell = crate::kernel::masked::<{ CELLS as i32 - 1 }>(cell);
        let first = self.first[cell] as usize;
        // Without a branch: the difference is negative, and has its highest bit set, where the value is above the bound.
        first + (self.upper[first].wrapping_sub(value) >> 63) as usize
    }
}

impl Spec {
    /// How many bounds there are; bucket number `bounds()` is the overflow.
    pub const fn bounds(&self) -> usize {
        let upper = upper_bounds(self);
        let mut used = 0;
        while upper[used] != u64::MAX {
            used += 1;
        }
        used
    }

    /// Index of the first native bucket above the zero bucket, and of the last below the overflow bucket.
    pub const fn native_range(&self) -> (i32, i32) {
        (self.zero_log2 * (1 << self.schema) + 1, self.highest_log2 * (1 << self.schema))
    }

    /// The largest whole number not above the upper bound of that native bucket.
    pub const fn native_upper(&self, index: i32) -> u64 {
        // 2^(1/2), 2^(1/4) and 2^(1/8) with 63 bits after the point; a test proves every floor with whole numbers.
        const HALF: u128 = (2u128 << 126).isqrt();
        const QUARTER: u128 = (HALF << 63).isqrt();
        const EIGHTH: u128 = (QUARTER << 63).isqrt();
        let index = index << (FINEST - self.schema);
        let part = index.rem_euclid(1 << FINEST);
        let mut fraction = 1u128 << 63;
        if part & 4 != 0 {
            fraction = (fraction * HALF) >> 63;
        }
        if part & 2 != 0 {
            fraction = (fraction * QUARTER) >> 63;
        }
        if part & 1 != 0 {
            fraction = (fraction * EIGHTH) >> 63;
        }
        let shift = 63 - index.div_euclid(1 << FINEST);
        ((fraction * self.unit as u128) >> shift) as u64
    }

    /// Index of the native bucket in which the bucket with that upper bound lies.
    pub const fn native_index(&self, upper: u64) -> i32 {
        let (first, last) = self.native_range();
        let mut index = first;
        while index <= last && self.native_upper(index) < upper {
            index += 1;
        }
        index
    }

    /// Index of the smallest classic bound that is not below the bucket with that upper bound; their number for +Inf.
    pub const fn classic_index(&self, upper: u64) -> usize {
        let mut index = 0;
        while index < self.classic.len() && self.classic[index].0 < upper {
            index += 1;
        }
        index
    }
}

/// The smallest bound above `below`.
const fn next_bound(spec: &Spec, below: u64) -> Option<u64> {
    let mut best = u64::MAX;
    let (first, last) = spec.native_range();
    let mut index = first - 1;
    while index <= last {
        let bound = spec.native_upper(index);
        if bound > below && bound < best {
            best = bound;
        }
        index += 1;
    }
    let mut classic = 0;
    while classic < spec.classic.len() {
        if spec.classic[classic].0 > below && spec.classic[classic].0 < best {
            best = spec.classic[classic].0;
        }
        classic += 1;
    }
    if best == u64::MAX { None } else { Some(best) }
}

const fn upper_bounds(spec: &Spec) -> [u64; 256] {
    let mut bounds = [u64::MAX; 256];
    let (mut used, mut last) = (0, 0);
    while let Some(bound) = next_bound(spec, last) {
        bounds[used] = bound;
        last = bound;
        used += 1;
    }
    bounds
}

/// The smallest value of a cell; of one that is not used, as if it were.
const fn cell_start(cell: usize) -> u64 {
    let level = (cell >> CELL_BITS) as u32;
    ((cell & ((1 << CELL_BITS) - 1)) as u64) << (FINEST_SHIFT + OCTAVES * level)
}

const fn first_buckets(bounds: &[u64; 256]) -> [u8; CELLS] {
    let mut table = [0; CELLS];
    let (mut cell, mut bucket) = (0, 0);
    while cell < CELLS {
        while bounds[bucket] < cell_start(cell) {
            bucket += 1;
        }
        table[cell] = bucket as u8;
        cell += 1;
    }
    table
}

const fn most_bounds_in_a_cell(table: &[u8; CELLS]) -> usize {
    let (mut most, mut cell) = (0, 1);
    while cell < CELLS {
        let bounds = (table[cell] - table[cell - 1]) as usize;
        most = if bounds > most { bounds } else { most };
        cell += 1;
    }
    most
}

/// Bounds of classic buckets for times, in nanoseconds and as `le` says them.
pub const CLASSIC_TIMES: [(u64, &str); 22] = [
    (1_000, "1e-06"),
    (2_500, "2.5e-06"),
    (5_000, "5e-06"),
    (10_000, "1e-05"),
    (25_000, "2.5e-05"),
    (50_000, "5e-05"),
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
];

/// Times of all probes but the run queue's: four buckets an octave from 2^-20 s (953 ns) to 2^6 s.
pub const TIME: Spec = Spec {
    schema: 2,
    zero_log2: -20,
    highest_log2: 6,
    unit: 1_000_000_000,
    classic: CLASSIC_TIMES.split_at(3).1,
};
pub static TIME_TABLES: Tables = Tables::new(&TIME);
/// Buckets that a histogram by [`TIME`] has room for.
pub const TIME_BUCKETS: usize = 127;

/// Sizes of requests, which are whole sectors or nothing: one bucket an octave from 256 bytes to 64 MiB.
pub const SIZE: Spec = Spec {
    schema: 0,
    zero_log2: 8,
    highest_log2: 26,
    unit: 1,
    classic: &[
        (512, "512"),
        (4_096, "4096"),
        (16_384, "16384"),
        (65_536, "65536"),
        (131_072, "131072"),
        (262_144, "262144"),
        (524_288, "524288"),
        (1_048_576, "1.048576e+06"),
        (4_194_304, "4.194304e+06"),
    ],
};
pub static SIZE_TABLES: Tables = Tables::new(&SIZE);

/// A histogram by [`TIME`].
#[repr(C, align(64))]
pub struct TimeHistogram {
    pub sum_ns: u64,
    pub buckets: [u64; TIME_BUCKETS],
}

/// A histogram by [`SIZE`].
#[repr(C, align(64))]
pub struct SizeHistogram {
    pub sum_bytes: u64,
    pub buckets: [u64; 31],
}

const _: () = assert!(
    TIME.bounds() < TIME_BUCKETS && SIZE.bounds() < 31,
    "a histogram holds every bucket and the overflow"
);
const _: () = assert!(size_of::<TimeHistogram>() == 1024 && size_of::<SizeHistogram>() == 256);

#[cfg(test)]
#[path = "scale_tests.rs"]
mod tests;
