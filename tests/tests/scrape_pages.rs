//! Pages of targets, whole and bent, as the reader takes them: hot (it knows another page of the target), cold, and
//! as a plain parser takes them that was written from the formats alone and keeps nothing.
//!
//! `COLLECTOR_FUZZ_SECONDS` says for how long pages are bent, `COLLECTOR_FUZZ_SEED` where to begin.

mod plain_page;

use std::time::{Duration, Instant};

use collector::config::PageRules;
use collector::sources::scrape::page::Format;
use collector_tests::mutate::{Random, mutate};
use collector_tests::proto::client;
use collector_tests::scraped::{Made, Said, Target, rules};
use prost::Message;

const SECONDS: u64 = 3;

struct Page {
    name: String,
    format: Format,
    bytes: Vec<u8>,
}

fn folder() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/scrape")
}

/// The fixtures, and a page of messages.
fn pages() -> Vec<Page> {
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(folder()).expect("the fixtures") {
        let path = entry.expect("a file").path();
        let format = match path.extension().and_then(|end| end.to_str()) {
            Some("prom") => Format::Text,
            Some("om") => Format::OpenMetrics,
            _ => continue,
        };
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        pages.push(Page { name, format, bytes: std::fs::read(&path).expect("a fixture") });
    }
    pages.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(pages.len() >= 6, "{} fixtures", pages.len());
    pages.push(Page { name: "messages".into(), format: Format::Protobuf, bytes: messages() });
    pages
}

fn messages() -> Vec<u8> {
    use client::*;
    let label = |name: &str, value: &str| LabelPair { name: Some(name.into()), value: Some(value.into()) };
    let family = |name: &str, kind: MetricType, metric: Vec<Metric>| MetricFamily {
        name: Some(name.into()),
        help: Some("Help.".into()),
        r#type: Some(kind as i32),
        metric,
    };
    let counters = (0..5).map(|n| Metric {
        label: vec![label("n", &n.to_string()), label("empty", "")],
        counter: Some(Counter { value: Some(f64::from(n) + 0.5) }),
        ..Metric::default()
    });
    let span = |offset, length| BucketSpan { offset: Some(offset), length: Some(length) };
    let native = Histogram {
        sample_count: Some(6),
        sample_sum: Some(3.5),
        schema: Some(3),
        zero_threshold: Some(0.001),
        zero_count: Some(2),
        positive_span: vec![span(0, 2), span(3, 1)],
        positive_delta: vec![1, 1, -1],
        bucket: vec![Bucket { cumulative_count: Some(4), upper_bound: Some(1.0) }],
        ..Histogram::default()
    };
    let summary = Summary {
        sample_count: Some(4),
        sample_sum: Some(1.5),
        quantile: vec![Quantile { quantile: Some(0.5), value: Some(0.25) }],
    };
    let gauge = Gauge { value: Some(-1.5) };
    let timed = Metric { gauge: Some(gauge), timestamp_ms: Some(1_789_999_999_000), ..Metric::default() };
    let families = [
        family("counts_total", MetricType::Counter, counters.collect()),
        family(
            "wait_seconds",
            MetricType::Histogram,
            vec![Metric { histogram: Some(native), ..Metric::default() }],
        ),
        family(
            "size_bytes",
            MetricType::Summary,
            vec![Metric { summary: Some(summary), ..Metric::default() }],
        ),
        family("level", MetricType::Gauge, vec![timed]),
    ];
    families.iter().flat_map(Message::encode_length_delimited_to_vec).collect()
}

/// What a page gives, or that it is refused.
fn read(target: &mut Target, page: &[u8], format: Format) -> Option<Vec<Said>> {
    let outcome = match target.read(page, format) {
        Ok(outcome) => outcome,
        Err(error) => {
            assert!(!error.reason.is_empty());
            return None;
        }
    };
    let said = target.said();
    let batch = target.batch();
    let shape = batch.shape();
    assert_eq!(
        (shape.floats().len(), shape.histograms().len()),
        (batch.values.len(), batch.histograms().len())
    );
    assert!(batch.times.is_empty() || batch.times.len() == batch.values.len());
    assert_eq!(outcome.kept - outcome.duplicates - outcome.out_of_order - outcome.out_of_bounds, said.len());
    Some(said)
}

/// Rules under which a page says the same each time: times that come again would be left out.
fn timeless() -> PageRules {
    PageRules { honor_timestamps: false, ..rules() }
}

/// Rules that make native histograms of classic ones.
fn converting() -> PageRules {
    PageRules { convert_classic_histograms: true, ..timeless() }
}

/// What a page gives whose classic histograms become native ones, and since when its series count.
fn read_converting(target: &mut Target, page: &[u8], format: Format) -> Option<(Vec<Said>, usize)> {
    let outcome = target.read(page, format).ok()?;
    let shape = target.batch().shape();
    assert!(
        shape.starts().is_empty() || shape.starts().len() == shape.floats().len() + shape.histograms().len()
    );
    assert_eq!(shape.histograms().len(), target.batch().histograms().len());
    Some((target.said(), outcome.scraped))
}

#[test]
fn fixtures_are_read_as_the_formats_say() {
    for page in pages() {
        let expected = plain_page::parse(&page.bytes, page.format);
        let mut target = Target::new(timeless());
        for round in 0..3 {
            let said = read(&mut target, &page.bytes, page.format).unwrap_or_else(|| {
                panic!("{}: {}", page.name, target.read(&page.bytes, page.format).unwrap_err())
            });
            assert!(said.len() > 1, "{}", page.name);
            if let Some(expected) = &expected {
                let expected = expected.as_ref().unwrap_or_else(|why| panic!("{}: {why}", page.name));
                assert_eq!(said, plain_page::first_of_each(expected), "{} in round {round}", page.name);
            }
        }
    }
}

#[test]
fn own_times_come_once_each() {
    let page = std::fs::read(folder().join("times.prom")).expect("a fixture");
    let expected = plain_page::parse(&page, Format::Text).expect("text").expect("a sound page");
    let mut target = Target::new(rules());
    let said = read(&mut target, &page, Format::Text).expect("a sound page");
    let taken: Vec<Said> = expected.into_iter().filter(|said| said.labels[0].1 != "ahead").collect();
    assert_eq!(said, taken);
    let again = read(&mut target, &page, Format::Text).expect("a sound page");
    assert_eq!(again.len(), 1, "only the one without a time");
    assert_eq!(target.read(&page, Format::Text).expect("a sound page").out_of_bounds, 1, "the one ahead");
}

#[test]
fn a_page_that_has_a_series_of_the_report_is_taken_at_its_word() {
    let mut target = Target::new(timeless());
    let page = b"up 0.25\nlevel 2\nscrape_series_added 7\n";
    let expected = plain_page::parse(page, Format::Text).expect("text").expect("a sound page");
    for _ in 0..2 {
        assert_eq!(read(&mut target, page, Format::Text).expect("a sound page"), expected);
        assert_eq!(target.batch().values.len(), 3 + 3, "the rest of the report");
    }
}

/// Says what was being read when the test fails within.
struct Names<'a> {
    seed: u64,
    page: &'a str,
}

impl Drop for Names<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}, {}", self.seed, self.page);
        }
    }
}

#[test]
fn bent_pages_are_read_alike_hot_and_cold_and_plainly() {
    let number = |name: &str, default| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => default,
    };
    let pages = pages();
    let others: Vec<Vec<u8>> = pages.iter().map(|page| page.bytes.clone()).collect();
    let mut hot: Vec<Target> = pages.iter().map(|_| Target::new(timeless())).collect();
    let mut native: Vec<Target> = pages.iter().map(|_| Target::new(converting())).collect();
    let limit = Duration::from_secs(number("COLLECTOR_FUZZ_SECONDS", SECONDS));
    let start = Instant::now();
    let (mut seed, mut taken, mut refused) = (number("COLLECTOR_FUZZ_SEED", 1), 0u64, 0u64);
    while start.elapsed() < limit {
        let mut random = Random::new(seed);
        let at = random.below(pages.len());
        let page = &pages[at];
        let _guard = Names { seed, page: &page.name };
        if random.once_in(3) {
            assert!(read(&mut hot[at], &page.bytes, page.format).is_some(), "seed {seed}: the page itself");
        }
        let mut bent = page.bytes.clone();
        for _ in 0..=random.below(2) {
            bent = mutate(&bent, &others, &mut random);
        }
        bent.truncate(64 << 10);
        let cold = read(&mut Target::new(timeless()), &bent, page.format);
        let warm = read(&mut hot[at], &bent, page.format);
        assert!(warm == cold, "seed {seed}, {}: {warm:?}\ncold: {cold:?}", page.name);
        let cold_native = read_converting(&mut Target::new(converting()), &bent, page.format);
        let warm_native = read_converting(&mut native[at], &bent, page.format);
        assert!(
            warm_native == cold_native,
            "seed {seed}, {}: {warm_native:?}\ncold: {cold_native:?}",
            page.name
        );
        if let Some(plain) = plain_page::parse(&bent, page.format) {
            let plain = plain.ok().map(|said| plain_page::first_of_each(&said));
            assert!(plain == cold, "seed {seed}, {}: {cold:?}\nplain: {plain:?}", page.name);
        }
        taken += u64::from(cold.is_some());
        refused += u64::from(cold.is_none());
        seed += 1;
    }
    eprintln!("seeds up to {seed}: {taken} bent pages taken, {refused} refused");
    assert!(taken > 10 && refused > 10);
}

#[test]
fn pages_that_change_are_read_alike_hot_and_cold() {
    let mut made = Made::new(300);
    let mut random = Random::new(3);
    let mut hot = Target::new(rules());
    let mut page = String::new();
    for round in 0..60 {
        match random.below(4) {
            0 => made.insert(),
            1 => made.replace(1 + random.below(60)),
            _ => {}
        }
        made.write(&mut page);
        let cold = read(&mut Target::new(rules()), page.as_bytes(), Format::Text);
        assert!(read(&mut hot, page.as_bytes(), Format::Text) == cold, "round {round}");
        assert_eq!(plain_page::parse(page.as_bytes(), Format::Text).and_then(Result::ok), cold);
    }
}
