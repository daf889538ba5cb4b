//! Values that change at every scrape, and that a receiver can tell from any others: a function of the target,
//! the series and the number of the scrape.
//!
//! A value is a number of eight digits, written in one of four ways. Each way is a quotient of two integers that a double
//! holds exactly, so the division gives the double that a right parser reads from the text.

/// Decimal digits of a value.
pub const DIGITS: usize = 8;
const LEAST: u64 = 10_000_000;
const SPAN: u64 = 90_000_000;

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `12345678`
    Whole,
    /// `12345.678`
    Decimal,
    /// `1.2345678e+07`
    Large,
    /// `0.012345678`
    Small,
}

/// The way in which a series writes its values.
pub fn form(series: usize) -> Form {
    [Form::Whole, Form::Decimal, Form::Whole, Form::Large, Form::Decimal, Form::Small][series % 6]
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The number that a series shows at a scrape.
pub fn number(target: usize, series: usize, scrape: u32) -> u64 {
    let seed = mix(((target as u64) << 32) | series as u64);
    let step = 1 + (seed >> 40) % 100_000;
    LEAST + (seed % SPAN + u64::from(scrape) * step) % SPAN
}

/// The double that a right parser reads.
pub fn value(form: Form, number: u64) -> f64 {
    let number = number as f64;
    match form {
        Form::Whole | Form::Large => number,
        Form::Decimal => number / 1e3,
        Form::Small => number / 1e9,
    }
}

/// The number nearest to a double, as a receiver sees it.
pub fn nearest(form: Form, value: f64) -> u64 {
    let scaled = match form {
        Form::Whole | Form::Large => value,
        Form::Decimal => value * 1e3,
        Form::Small => value * 1e9,
    };
    scaled.round() as u64
}

/// The text of a value, with any digits: they are patched later.
pub fn template(form: Form) -> &'static str {
    match form {
        Form::Whole => "00000000",
        Form::Decimal => "00000.000",
        Form::Large => "0.0000000e+07",
        Form::Small => "0.000000000",
    }
}

/// Writes the digits of `number` into the text of a value.
pub fn patch(form: Form, number: u64, text: &mut [u8]) {
    let mut digits = [0; DIGITS];
    let mut rest = number as u32;
    for pair in digits.chunks_exact_mut(2).rev() {
        let (low, high) = (rest % 10, rest / 10 % 10);
        pair.copy_from_slice(&[b'0' + high as u8, b'0' + low as u8]);
        rest /= 100;
    }
    match form {
        Form::Whole => text[..8].copy_from_slice(&digits),
        Form::Decimal => {
            text[..5].copy_from_slice(&digits[..5]);
            text[6..9].copy_from_slice(&digits[5..]);
        }
        Form::Large => {
            text[0] = digits[0];
            text[2..9].copy_from_slice(&digits[1..]);
        }
        Form::Small => text[3..11].copy_from_slice(&digits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_value_is_read_as_the_value() {
        for series in 0..6 {
            let form = form(series);
            for scrape in 0..2000 {
                let number = number(7, series, scrape);
                let mut text = template(form).as_bytes().to_vec();
                patch(form, number, &mut text);
                let read: f64 = std::str::from_utf8(&text).unwrap().parse().unwrap();
                assert_eq!(read.to_bits(), value(form, number).to_bits(), "{form:?} {number}");
                assert_eq!(nearest(form, read), number);
            }
        }
    }
}
