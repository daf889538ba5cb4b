//! Protobuf pages, written here by hand.
use super::*;
use crate::model::{NativeHistogram, Span};

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A message in the making.
#[derive(Clone, Default)]
struct Made(Vec<u8>);

impl Made {
    fn number(mut self, field: u32, number: u64) -> Self {
        varint(u64::from(field) << 3, &mut self.0);
        varint(number, &mut self.0);
        self
    }

    fn signed(self, field: u32, number: i64) -> Self {
        self.number(field, ((number << 1) ^ (number >> 63)) as u64)
    }

    fn double(mut self, field: u32, value: f64) -> Self {
        varint(u64::from(field) << 3 | 1, &mut self.0);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        varint(u64::from(field) << 3 | 2, &mut self.0);
        varint(bytes.len() as u64, &mut self.0);
        self.0.extend_from_slice(bytes);
        self
    }

    fn message(self, field: u32, message: &Made) -> Self {
        self.bytes(field, &message.0)
    }

    fn labels(self, labels: &[(&str, &str)]) -> Self {
        labels.iter().fold(self, |made, (name, value)| {
            made.message(1, &Made::default().bytes(1, name.as_bytes()).bytes(2, value.as_bytes()))
        })
    }
}

fn family(name: &str, kind: u64, metrics: &[Made]) -> Vec<u8> {
    let head = Made::default().bytes(1, name.as_bytes()).bytes(2, b"Help.").number(3, kind);
    let made = metrics.iter().fold(head, |made, metric| made.message(4, metric));
    let mut page = Vec::new();
    varint(made.0.len() as u64, &mut page);
    page.extend_from_slice(&made.0);
    page
}

fn counter(labels: &[(&str, &str)], value: f64) -> Made {
    Made::default().labels(labels).message(3, &Made::default().double(1, value))
}

fn span(offset: i64, length: u64) -> Made {
    Made::default().signed(1, offset).number(2, length)
}

fn native() -> Made {
    let bucket = Made::default().number(1, 2).double(2, 1.0);
    Made::default()
        .number(1, 9)
        .double(2, 7.5)
        .message(3, &bucket)
        .signed(5, 2)
        .double(6, 0.001)
        .number(7, 1)
        .message(9, &span(-3, 1))
        .signed(10, 2)
        .message(12, &span(1, 2))
        .message(12, &span(4, 1))
        .bytes(13, &[2, 4, 1])
}

fn histogram(content: &Made) -> Vec<u8> {
    family("h", 4, &[Made::default().labels(&[("x", "y")]).message(7, content)])
}

fn page() -> Vec<u8> {
    let quantile = Made::default().double(1, 0.5).double(2, 3.0);
    let summary = Made::default().number(1, 4).double(2, 9.5).message(3, &quantile);
    let bucket = Made::default().number(1, 2).double(2, 1.0);
    let classic = Made::default().number(1, 3).double(2, 4.5).message(3, &bucket);
    let timed = Made::default().message(2, &Made::default().double(1, 6.0)).number(6, START as u64);
    [
        family("c_total", 0, &[counter(&[("b", "1"), ("a", "")], 1.5), counter(&[("b", "2")], 2.5)]),
        family("my.gauge", 1, &[timed]),
        family("s", 2, &[Made::default().message(4, &summary)]),
        family("u", 3, &[Made::default().message(5, &Made::default().double(1, f64::NAN))]),
        family("k", 4, &[Made::default().message(7, &classic)]),
    ]
    .concat()
}

#[test]
fn every_type_gives_its_series_cold_and_hot() {
    let mut target = Target::new(rules());
    for round in 0..3 {
        let outcome = target.try_read(&page(), Format::Protobuf).unwrap();
        let time = if round == 0 { format!("6 @{START}") } else { "6 none".into() };
        assert_eq!(
            target.said(),
            [
                sample("c_total", "b=\"1\"", "1.5"),
                sample("c_total", "b=\"2\"", "2.5"),
                sample("my.gauge", "", &time),
                sample("s_count", "", "4"),
                sample("s_sum", "", "9.5"),
                sample("s", "quantile=\"0.5\"", "3"),
                sample("u", "", "NaN"),
                sample("k_count", "", "3"),
                sample("k_sum", "", "4.5"),
                sample("k_bucket", "le=\"1.0\"", "2"),
                sample("k_bucket", "le=\"+Inf\"", "3"),
            ]
        );
        assert_eq!((outcome.scraped, outcome.added), (11, if round == 0 { 11 } else { 0 }));
    }
    let more = [family("new", 0, &[counter(&[], 1.0)]), page()].concat();
    for _ in 0..2 {
        target.try_read(&more, Format::Protobuf).unwrap();
        assert_eq!(target.said().len(), 12);
        target.try_read(&page(), Format::Protobuf).unwrap();
        assert_eq!(target.said().len(), 11);
    }
}

#[test]
fn native_histograms_keep_every_part() {
    let mut target = Target::new(rules());
    for _ in 0..2 {
        target.try_read(&histogram(&native()), Format::Protobuf).unwrap();
        let batch = target.body_of_last.as_ref().unwrap();
        let expected = NativeHistogram {
            schema: 2,
            zero_threshold: 0.001,
            zero_count: 1,
            count: 9,
            sum: 7.5,
            spans: vec![Span { offset: 1, length: 2 }, Span { offset: 4, length: 1 }],
            buckets: vec![1, 3, 2],
            negative_spans: vec![Span { offset: -3, length: 1 }],
            negative_buckets: vec![2],
            ..NativeHistogram::default()
        };
        assert_eq!(batch.histograms(), [expected]);
        assert_eq!(target.said(), [""; 0]);
    }
    let mut target = Target::new(PageRules { always_classic_histograms: true, ..rules() });
    target.try_read(&histogram(&native()), Format::Protobuf).unwrap();
    assert_eq!((target.said().len(), target.body_of_last.as_ref().unwrap().histograms().len()), (4, 1));
    let mut target = Target::new(PageRules { native_histograms: false, ..rules() });
    target.try_read(&histogram(&native()), Format::Protobuf).unwrap();
    assert_eq!((target.said().len(), target.body_of_last.as_ref().unwrap().histograms().len()), (4, 0));
    let mut target = Target::new(PageRules { native_histogram_bucket_limit: 3, ..rules() });
    target.try_read(&histogram(&native()), Format::Protobuf).unwrap();
    let reduced = &target.body_of_last.as_ref().unwrap().histograms()[0];
    assert_eq!((reduced.schema, &*reduced.buckets, &*reduced.negative_buckets), (1, &[4, 2][..], &[2][..]));
}

#[test]
fn histograms_of_doubles() {
    let content = Made::default()
        .double(4, 3.5)
        .double(2, 1.0)
        .signed(5, 0)
        .double(8, 0.5)
        .message(12, &span(0, 2))
        .double(14, 1.0)
        .double(14, 2.0);
    let mut target = Target::new(rules());
    target.try_read(&histogram(&content), Format::Protobuf).unwrap();
    let got = &target.body_of_last.as_ref().unwrap().histograms()[0];
    let doubles = |bits: &[u64]| bits.iter().map(|&bits| f64::from_bits(bits)).collect::<Vec<_>>();
    assert!(got.float);
    assert_eq!(doubles(&[got.count, got.zero_count]), [3.5, 0.5]);
    assert_eq!(doubles(&got.buckets), [1.0, 2.0]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut target = Target::new(rules());
    let whole = page();
    for cut in 1..whole.len() {
        // A cut between two families leaves a page.
        if let Err(error) = target.try_read(&whole[..cut], Format::Protobuf) {
            assert!(matches!(error.place, Place::Family(1..=5)), "{error}");
        }
    }
    let bad = [
        native().number(1, 10),
        native().signed(5, 9),
        native().message(12, &span(0, 1)),
        native().message(12, &span(-1, 0)),
        native().message(12, &span(i64::from(i32::MAX), 0)),
        native().double(14, 1.0),
    ];
    for content in bad {
        assert!(target.try_read(&histogram(&content), Format::Protobuf).is_err(), "{:?}", content.0);
    }
    let repeated = family("c", 0, &[counter(&[("a", "1"), ("a", "2")], 1.0)]);
    for page in [family("", 0, &[]), family("c", 9, &[]), family("c", 1, &[counter(&[], 1.0)]), repeated] {
        assert!(target.try_read(&page, Format::Protobuf).is_err());
    }
    let mut twice = family("c", 0, &[counter(&[], 1.0), counter(&[], 2.0)]);
    assert_eq!(target.try_read(&twice, Format::Protobuf).unwrap().duplicates, 1);
    twice.push(0xff);
    assert!(target.try_read(&twice, Format::Protobuf).is_err());
}

fn time(seconds: u64, nanos: u64) -> Made {
    Made::default().number(1, seconds).number(2, nanos)
}

fn exemplar(id: &str, value: f64, at: Option<&Made>) -> Made {
    let made = Made::default().labels(&[("id", id)]).double(2, value);
    at.into_iter().fold(made, |made, time| made.message(3, time))
}

#[test]
fn messages_carry_starts_and_exemplars() {
    let mut target = Target::new(rules());
    let counted = Made::default()
        .double(1, 4.0)
        .message(2, &exemplar("c", 1.5, None))
        .message(3, &time(1_789_990_000, 123_456_789));
    let bucket = Made::default().number(1, 2).double(2, 1.0).message(3, &exemplar("b", 0.5, None));
    let classic = Made::default().number(1, 3).double(2, 4.5).message(3, &bucket).message(15, &time(7, 0));
    let with = native()
        .message(16, &exemplar("late", 3.0, Some(&time(1_790_000_000, 0))))
        .message(16, &exemplar("early", 2.0, Some(&time(1_789_999_999, 0))))
        .message(16, &exemplar("timeless", 1.0, None));
    let page = [
        family("c_total", 0, &[Made::default().message(3, &counted)]),
        family("k", 4, &[Made::default().message(7, &classic)]),
        family("n", 4, &[Made::default().message(7, &with)]),
    ]
    .concat();
    for round in 0..3 {
        target.try_read(&page, Format::Protobuf).unwrap();
        let batch = target.body_of_last.as_ref().unwrap();
        let shape = batch.shape();
        let ids: Vec<_> =
            batch.exemplars.iter().map(|one| (one.of(), one.labels().next().unwrap().1)).collect();
        let expected = [
            (Of::Float(0), "c"),
            (Of::Float(3), "b"),
            (Of::Histogram(0), "early"),
            (Of::Histogram(0), "late"),
        ];
        // What came before does not come again, but for the one that is older than the last of its series.
        assert_eq!(ids, if round == 0 { expected.to_vec() } else { Vec::new() });
        let starts: Vec<i64> = (0..5).map(|at| shape.float_start(at)).collect();
        assert_eq!(starts, [1_789_990_000_123, 7000, 7000, 7000, 7000]);
        assert_eq!(shape.histogram_start(0), 0);
    }
}

#[test]
fn classic_histograms_of_messages_become_native_ones() {
    let bucket = |count, bound| Made::default().number(1, count).double(2, bound);
    let classic =
        Made::default().number(1, 5).double(2, 4.5).message(3, &bucket(1, 0.5)).message(3, &bucket(3, 2.0));
    let rules = PageRules { convert_classic_histograms: true, ..rules() };
    let mut target = Target::new(rules.clone());
    for _ in 0..2 {
        target.try_read(&histogram(&classic), Format::Protobuf).unwrap();
        let got = &target.body_of_last.as_ref().unwrap().histograms()[0];
        assert_eq!((&*got.bounds, &*got.buckets, got.count), (&[0.5, 2.0][..], &[1, 2, 2][..], 5));
        assert_eq!(target.said(), [""; 0]);
        target.try_read(&histogram(&native()), Format::Protobuf).unwrap();
        assert_eq!(
            target.body_of_last.as_ref().unwrap().histograms()[0].schema,
            2,
            "one that is native stays"
        );
    }
    let mut both = Target::new(PageRules { always_classic_histograms: true, ..rules });
    both.try_read(&histogram(&classic), Format::Protobuf).unwrap();
    assert_eq!((both.said().len(), both.body_of_last.as_ref().unwrap().histograms().len()), (5, 1));
}
