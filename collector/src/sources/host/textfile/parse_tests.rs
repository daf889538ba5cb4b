//! Tests of the parser of the text format.

use super::*;

fn parse(text: &str) -> Result<Vec<Parsed>, (usize, String)> {
    parse_families(text.as_bytes(), 8)
}

#[track_caller]
fn refused(text: &str, line: usize, what: &str) {
    let (at, message) = parse(text).unwrap_err();
    assert!(at == line && message.contains(what), "line {at}: {message}");
}

/// `name{labels} value` of every sample.
fn lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for family in parse(text).unwrap() {
        for sample in family.samples {
            let labels: Vec<_> =
                sample.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            lines.push(format!("{}{}{{{}}} {}", family.name, sample.suffix, labels.join(","), sample.value));
        }
    }
    lines
}

#[test]
fn samples_with_everything() {
    let text = "# HELP a_total What \\\\ it\\nis.\n# TYPE a_total COUNTER\n  a_total{ x = \"1\\\"\\\\\\n\" ,y=\"\",} +Inf\n\
        a_total 1e3 \n\n# a comment\n#TYPE\nb{} NaN\n";
    let families = parse(text).unwrap();
    assert_eq!(families[0].help.as_deref(), Some("What \\ it\nis."));
    assert_eq!((families[0].kind, families[1].kind), (Kind::Counter, Kind::Untyped));
    assert_eq!(families[1].help, None);
    assert_eq!(lines(text), ["a_total{x=\"1\\\"\\\\\\n\",y=\"\"} inf", "a_total{} 1000", "b{} NaN"]);
    assert_eq!(parse("# HELP nothing x\n").unwrap(), []);
    assert_eq!(parse("").unwrap(), []);
}

#[test]
fn what_is_refused() {
    refused("a 1\nb 2", 2, "no end");
    refused("a 1 1395066363000\n", 1, "timestamp");
    refused("a 1\nb 1 x\n", 2, "end of the line");
    refused("a\n", 1, "expected a value");
    refused("a one\n", 1, "expected float");
    refused("1a 1\n", 1, "invalid metric name");
    refused("a{b=1} 1\n", 1, "expected '\"'");
    refused("a{b=\"1} 1\n", 1, "has no end");
    refused("a{b=\"1\" c=\"2\"} 1\n", 1, "expected ',' or '}'");
    refused("a{b=\"1\",b=\"2\"} 1\n", 1, "duplicate label name");
    refused("a{__name__=\"b\"} 1\n", 1, "invalid label name");
    refused("a{b=\"\\x\"} 1\n", 1, "escape");
    refused("# TYPE a dial\n", 1, "unknown metric type");
    refused("a 1\n# TYPE a gauge\n", 2, "TYPE");
    refused("# HELP a x\n# HELP a x\n", 2, "second HELP");
    refused("# TYPE h histogram\nh_bucket 1\n", 2, "lacks the label");
    refused("# TYPE h histogram\nh_bucket{le=\"x\"} 1\n", 2, "no number");
    refused("# TYPE h histogram\nh 1\n", 2, "is a histogram");
    let many: Vec<_> = (0..9).map(|n| format!("l{n}=\"\"")).collect();
    refused(&format!("a{{{}}} 1\n", many.join(",")), 1, "9 labels, more than 8");
}

#[test]
fn histograms_and_summaries_are_completed() {
    let text = "# TYPE h histogram\nh_bucket{a=\"1\",le=\"2.50\"} 3\nh_sum{a=\"1\"} 4\nh_bucket{a=\"1\",le=\"1e-1\"} 1\nh_count{a=\"1\"} 5\n\
        # TYPE s summary\ns{quantile=\"0.50\"} 7\ns_count 9\ns_sum 8\nother_sum 1\n";
    assert_eq!(
        lines(text),
        [
            "h_bucket{a=\"1\",le=\"0.1\"} 1",
            "h_bucket{a=\"1\",le=\"2.5\"} 3",
            "h_bucket{a=\"1\",le=\"+Inf\"} 5",
            "h_sum{a=\"1\"} 4",
            "h_count{a=\"1\"} 5",
            "s{quantile=\"0.5\"} 7",
            "s_sum{} 8",
            "s_count{} 9",
            "other_sum{} 1",
        ]
    );
}

#[test]
fn bounds_are_written_as_go_writes_them() {
    for (bound, text) in [
        (0.005, "0.005"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (100_000.0, "100000"),
        (1e6, "1e+06"),
        (1.5e300, "1.5e+300"),
        (-2.5, "-2.5"),
        (f64::INFINITY, "+Inf"),
    ] {
        assert_eq!(format_bound(bound), text);
    }
}

#[test]
fn cut_anywhere_it_is_refused_or_says_less() {
    let text = "# TYPE h histogram\nh_bucket{a=\"1\",le=\"+Inf\"} 3\nh_sum{a=\"1\"} 4\nh_count{a=\"1\"} 3\nx{y=\"é\\\"\"} 1\n";
    let all = lines(text).len();
    for end in 0..text.len() {
        if let Ok(families) = parse_families(&text.as_bytes()[..end], 8) {
            assert!(families.iter().map(|family| family.samples.len()).sum::<usize>() < all);
        }
    }
}

/// Every kind of line.
const SEED: &str = "# HELP h Help \\\\ \\n.\n# TYPE h histogram\nh_bucket{a=\"1\",le=\"0.5\"} 1\n\
    h_bucket{a=\"1\",le=\"+Inf\"} 3\nh_sum{a=\"1\"} 4\nh_count{a=\"1\"} 3\n# TYPE s summary\n\
    s{quantile=\"0.9\"} 7\ns_sum 1e9\ns_count 2\n\n# a remark\nx{y=\"\u{e9}\\\"\"} NaN\nplain -Inf\n";

proptest::proptest! {
    #![proptest_config(crate::sys::bent::inputs())]

    #[test]
    fn bent_files_are_refused_or_give_names(bytes in crate::sys::bent::bent(vec![SEED.into()])) {
        match parse_families(&bytes, 4) {
            Err((line, what)) => proptest::prop_assert!(line <= bytes.len() + 1 && !what.is_empty()),
            Ok(families) => {
                let samples: usize = families.iter().map(|family| family.samples.len()).sum();
                proptest::prop_assert!(samples <= bytes.len());
                for family in &families {
                    let is_name = family.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:".contains(&b));
                    proptest::prop_assert!(is_name && !family.name.is_empty(), "{:?}", family.name);
                    let labels = family.samples.iter().flat_map(|sample| &sample.labels);
                    for (name, _) in labels {
                        proptest::prop_assert!(crate::sys::text::is_name(name), "{name:?}");
                    }
                }
            }
        }
    }
}
