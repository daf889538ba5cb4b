//! Every number must be the one that the standard library reads, bit for bit.
use proptest::prelude::*;

use super::*;

fn agrees(text: &str) {
    let expected: f64 = text.parse().unwrap();
    for end in ["", "\n", " 1\n", "\t"] {
        let line = format!("{text}{end}");
        let (value, length) = parse_value(line.as_bytes()).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(length, text.len(), "{text}");
        assert_eq!(value.to_bits(), expected.to_bits(), "{text}");
    }
}

#[test]
fn common_numbers_are_exact() {
    let texts = [
        "0",
        "-0",
        "1",
        "-1",
        "5.0229008e+07",
        "9007199254740993",
        "9007199254740992",
        "18446744073709551615",
        "9999999999999999999",
        "0.1",
        "0.30000000000000004",
        "1.7976931348623157e308",
        "5e-324",
        "2.2250738585072014e-308",
        "1e23",
        "8.5e22",
        "123456789012345678",
        "1.234567890123456789",
        "0.000001234567890123456",
        "1e22",
        "1e-22",
        "1.6094379124341003e9",
        "99999999999999999999999",
        "00000000000000000001",
        "1.",
        ".5",
        "1e0001",
        "4.35",
        "17.6",
    ];
    texts.iter().for_each(|text| agrees(text));
}

#[test]
fn words_and_what_is_no_number() {
    let parse = |text: &str| parse_value(text.as_bytes()).map(|found| found.0);
    for text in ["Inf", "+Inf", "inf", "+infinity", "INFINITY"] {
        assert_eq!(parse(text), Some(f64::INFINITY), "{text}");
    }
    assert_eq!(parse("-iNf"), Some(f64::NEG_INFINITY));
    for text in ["NaN", "nan", "NAN"] {
        assert_eq!(parse(text).map(f64::to_bits), Some(NORMAL_NAN.to_bits()));
    }
    let bad = [
        "",
        " ",
        "+nan",
        "-NaN",
        "0x10",
        "0x1p-2",
        "1_000",
        "1e400",
        "-1e400",
        ".",
        "-",
        "+",
        "e5",
        "1e",
        "1e+",
        "1.2.3",
        "--1",
        "1-",
        "infinit",
        "1f",
        "1,5",
        "\u{0661}",
        "1\r",
        "{1}",
        "99999999999999999999999e999",
    ];
    for text in bad {
        assert_eq!(parse(text), None, "{text}");
    }
}

#[test]
fn times() {
    assert_eq!(parse_millis(b"1395066363000"), Some(1_395_066_363_000));
    for bad in ["", "-1", "+1", "1.5", "9223372036854775808", "1e3"] {
        assert_eq!(parse_millis(bad.as_bytes()), None, "{bad}");
    }
    assert_eq!(parse_seconds(b"1520879607.789"), Some(1_520_879_607_789));
    assert_eq!(parse_seconds(b"-1.5"), Some(-1500));
    assert_eq!(parse_seconds(b"NaN"), None);
    assert_eq!(parse_seconds(b"+Inf"), None);
}

proptest! {
    #[test]
    fn any_double_written_any_way_is_exact(bits: u64, digits in 0usize..25) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        agrees(&format!("{value:?}"));
        agrees(&format!("{value:.digits$e}"));
        if value.abs() < 1e30 {
            agrees(&format!("{value:.digits$}"));
        }
    }

    #[test]
    fn decimals_are_exact(mantissa: u64, exponent in -30i32..30, point in 0usize..19) {
        agrees(&format!("{mantissa}e{exponent}"));
        let mut text = format!("{mantissa:020}");
        text.insert(20 - point, '.');
        agrees(&text);
    }
}
