//! Numbers as pages write them: always the double next to what stands there, never one beside it.
//!
//! Most numbers take a short way: up to 19 digits and a small power of ten, where one multiplication or division
//! rounds once. What is longer goes to the standard library. What Go's parser takes and nobody writes
//! (hexadecimal, underscores) is refused, as Prometheus does.

use crate::model::NORMAL_NAN;

/// Whole numbers up to this are doubles.
const MAX_WHOLE: u64 = 1 << 53;
/// Powers of ten up to 10^22 are doubles.
static TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];
/// Up to 10^19 they fit 64 bits.
const MAX_WIDE: u32 = 19;
static WHOLE_TENS: [u64; MAX_WIDE as usize + 1] = {
    let mut tens = [1; MAX_WIDE as usize + 1];
    let mut power = 1;
    while power < tens.len() {
        tens[power] = tens[power - 1] * 10;
        power += 1;
    }
    tens
};

/// The number at the start of `bytes` and how many bytes it takes: all up to white space or the end.
#[inline(always)]
pub(super) fn parse_value(bytes: &[u8]) -> Option<(f64, usize)> {
    match parse_common(bytes) {
        Some(found) => Some(found),
        None => parse_any(bytes),
    }
}

/// Up to 19 digits with a point and an exponent, as nearly all values are; `None` where it is anything else.
#[inline(always)]
fn parse_common(bytes: &[u8]) -> Option<(f64, usize)> {
    let negative = *bytes.first()? == b'-';
    let mut at = usize::from(negative);
    let start = at;
    let mut mantissa = parse_digits(bytes, &mut at, 0);
    let mut digits = at - start;
    let mut exponent = 0;
    let mut next = bytes.get(at).copied().unwrap_or(b'\n');
    if next == b'.' {
        at += 1;
        let point = at;
        mantissa = parse_digits(bytes, &mut at, mantissa);
        exponent = point as i32 - at as i32;
        digits += at - point;
        next = bytes.get(at).copied().unwrap_or(b'\n');
    }
    // More digits than 19 may have overflowed.
    if digits == 0 || digits > 19 {
        return None;
    }
    if next | 0x20 == b'e' {
        at += 1;
        exponent += parse_exponent(bytes, &mut at)?;
        next = bytes.get(at).copied().unwrap_or(b'\n');
    }
    if !matches!(next, b'\n' | b' ' | b'\t') {
        return None;
    }
    let value = scale(mantissa, exponent)?;
    Some((if negative { -value } else { value }, at))
}

/// The digits from `at` on, behind those of `number`: eight at a time, and what is left over of them at once too.
#[inline(always)]
fn parse_digits(bytes: &[u8], at: &mut usize, mut number: u64) -> u64 {
    const SIX: u64 = 0x0606_0606_0606_0606;
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    while let Some(chunk) = bytes.get(*at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        // Not 0 in the first byte that is no digit; what a carry makes of later ones does not count.
        let odd = ((word & HIGH) ^ ZEROS) | ((word.wrapping_add(SIX) & HIGH) ^ ZEROS);
        if odd == 0 {
            number = number.wrapping_mul(100_000_000).wrapping_add(eight_digits(word));
            *at += 8;
            continue;
        }
        let count = odd.trailing_zeros() / 8;
        if count > 0 {
            // The digits move to the end, zeros come before them.
            let digits = eight_digits(word << (64 - 8 * count));
            number = number.wrapping_mul(WHOLE_TENS[count as usize]).wrapping_add(digits);
            *at += count as usize;
        }
        return number;
    }
    while let Some(digit) = bytes.get(*at).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit < 10) {
        number = number.wrapping_mul(10).wrapping_add(digit.into());
        *at += 1;
    }
    number
}

/// Eight digits at once, the first in the lowest byte.
#[inline(always)]
fn eight_digits(word: u64) -> u64 {
    let word = word & 0x0f0f_0f0f_0f0f_0f0f;
    let word = word.wrapping_mul(10).wrapping_add(word >> 8);
    let low = (word & 0x0000_00ff_0000_00ff).wrapping_mul(100 + (1_000_000 << 32));
    let high = ((word >> 16) & 0x0000_00ff_0000_00ff).wrapping_mul(1 + (10_000 << 32));
    low.wrapping_add(high) >> 32
}

#[inline]
fn parse_exponent(bytes: &[u8], at: &mut usize) -> Option<i32> {
    let sign = *bytes.get(*at)?;
    *at += usize::from(sign == b'-' || sign == b'+');
    let start = *at;
    let mut exponent = 0;
    while let Some(digit) = bytes.get(*at).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit < 10) {
        exponent = exponent * 10 + i32::from(digit);
        *at += 1;
        if *at - start > 4 {
            return None;
        }
    }
    (*at > start).then_some(if sign == b'-' { -exponent } else { exponent })
}

/// `mantissa` times ten to `exponent`, rounded once; `None` where that takes more.
#[inline]
fn scale(mantissa: u64, exponent: i32) -> Option<f64> {
    let power = exponent.unsigned_abs();
    if mantissa <= MAX_WHOLE && power <= 22 {
        #[expect(clippy::cast_precision_loss, reason = "at most 2^53")]
        let whole = mantissa as f64;
        let ten = TENS[power as usize];
        return Some(if exponent < 0 { whole / ten } else { whole * ten });
    }
    if power > MAX_WIDE || mantissa == 0 {
        return None;
    }
    let ten = WHOLE_TENS[power as usize];
    #[expect(clippy::cast_precision_loss, reason = "rounds to the nearest, which is what is asked for")]
    if exponent >= 0 {
        return Some((u128::from(mantissa) * u128::from(ten)) as f64);
    }
    // Both with their highest bit set: the quotient has 63 or 64 bits, and one of them may say that there is a rest.
    let (lift, lower) = (mantissa.leading_zeros(), ten.leading_zeros());
    let (above, below) = (u128::from(mantissa << lift) << 63, u128::from(ten << lower));
    let (quotient, rest) = ((above / below) as u64, above % below);
    #[expect(clippy::cast_precision_loss, reason = "rounds to the nearest, the rest counted in")]
    let rounded = (quotient | u64::from(rest != 0)) as f64;
    Some(rounded * two_to(lower as i32 - lift as i32 - 63))
}

fn two_to(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// Everything that Prometheus takes for a number.
#[cold]
#[inline(never)]
fn parse_any(bytes: &[u8]) -> Option<(f64, usize)> {
    let length = memchr::memchr3(b'\n', b' ', b'\t', bytes).unwrap_or(bytes.len());
    parse_float(&bytes[..length]).map(|value| (value, length))
}

/// A whole token as a number. Every NaN is [`NORMAL_NAN`].
pub(super) fn parse_float(token: &[u8]) -> Option<f64> {
    let unsigned = token.strip_prefix(b"-").or_else(|| token.strip_prefix(b"+")).unwrap_or(token);
    if unsigned.first().is_some_and(u8::is_ascii_alphabetic) {
        let is = |word: &str| unsigned.eq_ignore_ascii_case(word.as_bytes());
        return match () {
            () if (is("inf") || is("infinity")) && token[0] == b'-' => Some(f64::NEG_INFINITY),
            () if is("inf") || is("infinity") => Some(f64::INFINITY),
            () if is("nan") && token.len() == 3 => Some(NORMAL_NAN),
            () => None,
        };
    }
    let plain = |&byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
    if !token.iter().all(plain) {
        return None;
    }
    let value: f64 = std::str::from_utf8(token).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// Milliseconds as the text format writes them.
pub(super) fn parse_millis(token: &[u8]) -> Option<i64> {
    if token.is_empty() || !token.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(token).ok()?.parse().ok()
}

/// Seconds as OpenMetrics writes them, in milliseconds.
pub(super) fn parse_seconds(token: &[u8]) -> Option<i64> {
    let seconds = parse_float(token).filter(|seconds| seconds.is_finite())?;
    Some((seconds * 1000.0) as i64)
}

#[cfg(test)]
#[path = "number_tests.rs"]
mod tests;
