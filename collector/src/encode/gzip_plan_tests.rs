//! What the plan writes is read by another's decoder.

use libdeflater::{CompressionLvl, Compressor, Decompressor};
use proptest::prelude::*;

use super::*;

/// A page of these gaps and numbers, and where the numbers stand.
fn page(gaps: &[String], numbers: &[String]) -> (Vec<u8>, Vec<Number>) {
    let (mut page, mut places) = (gaps[0].clone().into_bytes(), Vec::new());
    for (gap, number) in gaps[1..].iter().zip(numbers) {
        let start = page.len() as u32;
        page.extend_from_slice(number.as_bytes());
        places.push(Number { start, end: page.len() as u32 });
        page.extend_from_slice(gap.as_bytes());
    }
    (page, places)
}

fn unpack(gzip: &[u8], length: usize) -> Vec<u8> {
    let mut plain = vec![0; length];
    let found = Decompressor::new().gzip_decompress(gzip, &mut plain).expect("a gzip member");
    plain.truncate(found);
    plain
}

/// Gaps as a page has them: names that repeat, with labels that differ in little.
fn series(count: usize) -> Vec<String> {
    let line = |n: usize| {
        let (cpu, mode) = (n / 8, ["idle", "user", "system", "iowait", "irq", "nice", "steal", "x"][n % 8]);
        match n % 40 {
            0 => format!("\n# HELP node_x_{n} Says {n}.\n# TYPE node_x_{n} gauge\nnode_x_{n} "),
            _ => format!("\nnode_cpu_seconds_total{{cpu=\"{cpu}\",mode=\"{mode}\"}} "),
        }
    };
    (0..count).map(line).chain(["\n".to_owned()]).collect()
}

fn numbers(count: usize, seed: u64) -> Vec<String> {
    let number = |n: u64| match (n ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 {
        n if n % 5 < 2 => "0".into(),
        n if n % 7 == 0 => "-1.7976931348623157e+308".into(),
        n if n % 11 == 0 => "NaN".into(),
        n => format!("{}", n as f64 / 100.0),
    };
    (0..count as u64).map(number).collect()
}

#[test]
fn a_page_is_hardly_larger_than_a_quick_search_makes_it() {
    let gaps = series(1000);
    let (first, places) = page(&gaps, &numbers(1000, 1));
    let plan = GzipPlan::new(&first, &places).unwrap();
    let mut searched = vec![0; first.len() + 100];
    let level = CompressionLvl::new(1).unwrap();
    let quick = Compressor::new(level).gzip_compress(&first, &mut searched).unwrap();
    for seed in 1..20 {
        let (page, places) = page(&gaps, &numbers(1000, seed));
        let mut gzip = b"before".to_vec();
        assert!(plan.encode(&page, &places, &mut Scratch::default(), &mut gzip));
        // Numbers that repeat each other, as these do and a host's do not, are what only a search finds.
        assert!(gzip.len() < quick * 11 / 10, "{} < {quick}", gzip.len());
        assert!(unpack(&gzip[6..], page.len()) == page, "seed {seed}");
    }
}

#[test]
fn numbers_may_push_a_repeat_to_the_farthest_that_there_is() {
    let gaps = series(3000);
    let (first, places) = page(&gaps, &vec!["0".to_owned(); 3000]);
    let plan = GzipPlan::new(&first, &places).unwrap();
    let (longest, places) = page(&gaps, &vec!["-1.7976931348623157e+308".to_owned(); 3000]);
    let mut gzip = Vec::new();
    assert!(plan.encode(&longest, &places, &mut Scratch::default(), &mut gzip));
    assert!(unpack(&gzip, longest.len()) == longest);
}

#[test]
fn another_page_is_left_to_others() {
    assert!(GzipPlan::new(b"no number", &[]).is_none());
    let gaps = series(10);
    let (first, places) = page(&gaps, &numbers(10, 1));
    let plan = GzipPlan::new(&first, &places).unwrap();
    let mut out = Vec::new();
    assert!(!plan.encode(&first, &places[1..], &mut Scratch::default(), &mut out));
    let (odd, places) = page(&gaps, &vec!["1234567890123456789012345".to_owned(); 10]);
    assert!(!plan.encode(&odd, &places, &mut Scratch::default(), &mut out) && out.is_empty());
}

proptest! {
    #[test]
    fn any_text_and_any_numbers_come_out_again(
        gaps in prop::collection::vec("[a-d \\n\\PC]{0,60}", 2..60),
        rounds in prop::collection::vec(prop::collection::vec(any::<f64>(), 60), 1..4),
    ) {
        let text = |round: &[f64]| round.iter().map(|&value| {
            let mut text = Vec::new();
            super::super::number::encode_number(value, &mut text);
            String::from_utf8(text).unwrap()
        }).collect::<Vec<_>>();
        let (first, places) = page(&gaps, &text(&rounds[0]));
        let plan = GzipPlan::new(&first, &places).unwrap();
        let mut scratch = Scratch::default();
        for round in &rounds {
            let (page, places) = page(&gaps, &text(round));
            let mut gzip = Vec::new();
            prop_assert!(plan.encode(&page, &places, &mut scratch, &mut gzip));
            prop_assert!(unpack(&gzip, page.len()) == page);
        }
    }
}
