//! Numbers as Go writes them with `strconv.AppendFloat(b, v, 'g', -1, 64)`, which is what readers of the text
//! format 0.0.4 have seen for years: the shortest digits that round-trip; an exponent, of at least two digits,
//! below 1e-04 and from 1e+06 on (so 1234567 is `1.234567e+06`).

/// From here on, and below 10 to the [`MIN_PLAIN`], there is an exponent.
const MAX_PLAIN: i32 = 6;
const MIN_PLAIN: i32 = -4;
/// Integers below it have no shorter form than their own digits (2^53).
const EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

/// Appends `value`. Both zeros are `0`; the others that are no numbers are `NaN`, `+Inf`, `-Inf`.
pub fn encode_number(value: f64, out: &mut Vec<u8>) {
    if value == 0.0 {
        out.push(b'0');
    } else if !value.is_finite() {
        out.extend_from_slice(special(value));
    } else {
        if value < 0.0 {
            out.push(b'-');
        }
        encode_positive(value.abs(), out);
    }
}

fn special(value: f64) -> &'static [u8] {
    if value.is_nan() {
        b"NaN"
    } else if value > 0.0 {
        b"+Inf"
    } else {
        b"-Inf"
    }
}

fn encode_positive(value: f64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 32];
    if value < EXACT_INTEGER && value.fract() == 0.0 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and below 2^53")]
        let whole = value as u64;
        if whole < 1_000_000 {
            let start = write_whole(whole, &mut digits);
            out.extend_from_slice(&digits[start..]);
            return;
        }
        let start = write_whole(whole, &mut digits);
        let exponent = i32::try_from(digits.len() - start).expect("at most 16 digits") - 1;
        encode_digits(trim_zeros(&digits[start..]), exponent, out);
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let (count, exponent) = split(buffer.format_finite(value).as_bytes(), &mut digits);
    encode_digits(trim_zeros(&digits[..count]), exponent, out);
}

/// Writes the digits to the end of `digits` and returns where they begin.
fn write_whole(mut whole: u64, digits: &mut [u8; 32]) -> usize {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(whole % 10).expect("a digit");
        whole /= 10;
        if whole == 0 {
            return start;
        }
    }
}

fn trim_zeros(digits: &[u8]) -> &[u8] {
    let end = digits.iter().rposition(|&d| d != b'0').map_or(1, |last| last + 1);
    &digits[..end]
}

/// Takes `123.45`, `0.0012` or `1.2345e-7` apart: the digits without leading zeros, and the power of ten of
/// the first of them.
fn split(text: &[u8], digits: &mut [u8; 32]) -> (usize, i32) {
    let (mantissa, power) = match text.iter().position(|&b| b == b'e') {
        Some(at) => {
            let power = std::str::from_utf8(&text[at + 1..]).ok().and_then(|p| p.parse().ok());
            (&text[..at], power.expect("a formatted exponent is a number"))
        }
        None => (text, 0),
    };
    let (mut count, mut exponent, mut seen_point) = (0, power - 1, false);
    for &byte in mantissa {
        if byte == b'.' {
            seen_point = true;
            continue;
        }
        let leading_zero = count == 0 && byte == b'0';
        if !leading_zero {
            digits[count] = byte;
            count += 1;
        }
        match (seen_point, leading_zero) {
            (false, false) => exponent += 1,
            (true, true) => exponent -= 1,
            _ => {}
        }
    }
    (count, exponent)
}

/// `digits` have no zeros at their end; the first stands for 10 to the `exponent`.
fn encode_digits(digits: &[u8], exponent: i32, out: &mut Vec<u8>) {
    if !(MIN_PLAIN..MAX_PLAIN).contains(&exponent) {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        let power = exponent.unsigned_abs();
        if power < 10 {
            out.push(b'0');
        }
        let mut buffer = [0u8; 32];
        let start = write_whole(u64::from(power), &mut buffer);
        out.extend_from_slice(&buffer[start..]);
        return;
    }
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', usize::try_from(-exponent - 1).expect("positive")));
        out.extend_from_slice(digits);
        return;
    }
    let whole = usize::try_from(exponent).expect("not negative") + 1;
    let known = digits.len().min(whole);
    out.extend_from_slice(&digits[..known]);
    out.extend(std::iter::repeat_n(b'0', whole - known));
    if digits.len() > whole {
        out.push(b'.');
        out.extend_from_slice(&digits[whole..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        encode_number(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn as_go_writes_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-42.0, "-42"),
            (100.0, "100"),
            (999_999.0, "999999"),
            (1_000_000.0, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (123_456.5, "123456.5"),
            (1_234_567.5, "1.2345675e+06"),
            (0.05, "0.05"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (0.000_001_305, "1.305e-06"),
            (60.730_000_000_000_004, "60.730000000000004"),
            (14.036_781_000_000_001, "14.036781000000001"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (18_446_744_073_709_551_615.0, "1.8446744073709552e+19"),
            (9_007_199_254_740_993.0, "9.007199254740992e+15"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn every_double_comes_back(bits: u64) {
            let value = f64::from_bits(bits);
            proptest::prop_assume!(value.is_finite());
            let parsed: f64 = text(value).parse().unwrap();
            proptest::prop_assert!(parsed == value);
        }

        #[test]
        fn whole_numbers_take_the_same_road(whole in 0u64..1 << 54) {
            #[expect(clippy::cast_precision_loss, reason = "the point of the test")]
            let value = whole as f64;
            let mut digits = [0u8; 32];
            let mut buffer = zmij::Buffer::new();
            let mut expected = Vec::new();
            if value != 0.0 {
                let (count, exponent) = split(buffer.format_finite(value).as_bytes(), &mut digits);
                encode_digits(trim_zeros(&digits[..count]), exponent, &mut expected);
                proptest::prop_assert_eq!(text(value).into_bytes(), expected);
            }
        }
    }
}
