//! What pages say beside their samples: exemplars, starts; and classic histograms that become native ones.
use super::*;
use crate::model::{CUSTOM_BUCKETS, NativeHistogram};

/// Exemplars of the last batch in words: series, labels, value, time after the scrape.
fn exemplars(target: &Target) -> Vec<String> {
    let batch = target.body_of_last.as_ref().unwrap();
    let table = target.table.lock();
    let name = |of| match of {
        Of::Float(at) => table.view(batch.shape().floats()[at as usize].0).name(),
        Of::Histogram(at) => table.view(batch.shape().histograms()[at as usize]).name(),
    };
    let say = |one: crate::model::Exemplar<'_>| {
        let labels: Vec<_> = one.labels().map(|(name, value)| format!("{name}={value}")).collect();
        let time = if one.time_ms() == batch.time_ms { "now".into() } else { one.time_ms().to_string() };
        format!("{} {{{}}} {} {time}", name(one.of()), labels.join(","), one.value())
    };
    batch.exemplars.iter().map(say).collect()
}

/// Series that have a start, and when.
fn starts(target: &Target) -> Vec<(String, i64)> {
    let shape = target.last.as_ref().unwrap();
    let table = target.table.lock();
    let name = |id| {
        let view = table.view(id);
        let labels: String = view.labels().map(|(_, value)| format!("/{value}")).collect();
        format!("{}{labels}", view.name())
    };
    let floats = shape.floats().iter().enumerate().map(|(at, &(id, _))| (name(id), shape.float_start(at)));
    let histograms = shape.histograms().iter().enumerate();
    let histograms = histograms.map(|(at, &id)| (name(id), shape.histogram_start(at)));
    floats.chain(histograms).filter(|(_, start)| *start != 0).collect()
}

fn open(target: &mut Target, page: &str) -> Outcome {
    target.try_read(page.as_bytes(), Format::OpenMetrics).unwrap_or_else(|error| panic!("{error}\n{page}"))
}

#[test]
fn exemplars_are_sent_once_and_in_order_and_keep_the_layout() {
    let mut target = Target::new(rules());
    let page = |exemplar: &str| {
        format!(
            "# TYPE a counter\na_total{{x=\"1\"}} 1{exemplar}\na_total{{x=\"2\"}} 2 # {{b=\"2\",a=\"1\"}} 0.5\n# EOF\n"
        )
    };
    open(&mut target, &page(" # {id=\"p\"} 1 1789999999.5"));
    assert_eq!(exemplars(&target), ["a_total {id=p} 1 1789999999500", "a_total {a=1,b=2} 0.5 now"]);
    let shape = target.last.clone().unwrap();
    open(&mut target, &page(" # {id=\"p\"} 1 1789999999.5"));
    assert_eq!(exemplars(&target), [""; 0], "both came before");
    open(&mut target, &page(" # {id=\"q\"} 1 1790000000"));
    assert_eq!(exemplars(&target), ["a_total {id=q} 1 1790000000000"]);
    assert!(Arc::ptr_eq(&shape, target.last.as_ref().unwrap()), "an exemplar is no other page");
    let outcome = open(&mut target, &page(" # {id=\"p\"} 1 1789999999.5"));
    assert_eq!((exemplars(&target).len(), outcome.exemplars_out_of_order), (0, 1));
    let outcome = open(&mut target, &page(&format!(" # {{id=\"{}\"}} 1", "ä".repeat(127))));
    assert_eq!((exemplars(&target).len(), outcome.exemplars_left_out), (0, 1));
    open(&mut target, &page(&format!(" # {{id=\"{}\"}} 1", "ä".repeat(126))));
    assert_eq!(exemplars(&target).len(), 1, "128 characters, not bytes");
    open(&mut target, &page(""));
    assert_eq!(exemplars(&target), [""; 0]);
    let bad = page(" # {id=\"z\"} 1 1790000009").replace("# EOF\n", "oops\n");
    assert!(target.try_read(bad.as_bytes(), Format::OpenMetrics).is_err());
    open(&mut target, &page(" # {id=\"z\"} 1 1790000009"));
    assert_eq!(exemplars(&target).len(), 1, "a page that was refused is forgotten");
}

#[test]
fn an_exemplar_of_a_histogram_that_comes_to_nothing_is_left_out() {
    let mut target = Target::new(PageRules { convert_classic_histograms: true, ..rules() });
    let page = "# TYPE h histogram\nh_bucket{le=\"0.1\"} 8 # {a=\"b\"} 0.05\nh_bucket{le=\"+Inf\"} 17\nh_count 17\n\
        h_sum 3.5\n# TYPE x unknown\nh 3\n# EOF\n";
    for _ in 0..2 {
        open(&mut target, page);
        assert_eq!(exemplars(&target), [""; 0]);
    }
}

const CREATED: &str = "# TYPE c counter\nc_total{x=\"1\"} 1\nc_created{x=\"1\"} 1789990000.123\nc_total{x=\"2\"} 2\n\
    # TYPE h histogram\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 1.5\nh_created 1789990001\n\
    # TYPE s summary\ns{quantile=\"0.5\"} 1\ns_count 2\ns_sum 3\ns_created 1.78999E9\n\
    # TYPE g gauge\ng_created 5\n# EOF\n";

#[test]
fn created_lines_date_their_metric_and_stay_series() {
    let expected = [
        ("c_total/1", 1_789_990_000_123),
        ("h_bucket/1.0", 1_789_990_001_000),
        ("h_bucket/+Inf", 1_789_990_001_000),
        ("h_count", 1_789_990_001_000),
        ("h_sum", 1_789_990_001_000),
        ("s/0.5", 1_789_990_000_000),
        ("s_count", 1_789_990_000_000),
        ("s_sum", 1_789_990_000_000),
    ]
    .map(|(name, start)| (name.to_owned(), start));
    let mut target = Target::new(rules());
    let outcome = open(&mut target, CREATED);
    assert_eq!(starts(&target), expected);
    assert_eq!((outcome.scraped, outcome.kept, target.said().len()), (13, 13, 13));
    let shape = target.last.clone().unwrap();
    open(&mut target, CREATED);
    assert!(Arc::ptr_eq(&shape, target.last.as_ref().unwrap()));
    // One counter begins anew: the same list, another shape, and no series ends.
    open(&mut target, &CREATED.replace("1789990000.123", "1789995000.001"));
    let next = target.last.clone().unwrap();
    assert!(next.id() != shape.id() && Arc::ptr_eq(next.list(), shape.list()));
    assert_eq!(starts(&target)[0].1, 1_789_995_000_001);
    // Text 0.0.4 has no such lines, only series of that name.
    let mut plain = Target::new(rules());
    plain.read(CREATED.trim_end_matches("# EOF\n"));
    assert_eq!(starts(&plain), []);
}

#[test]
fn created_lines_that_relabelling_drops_still_date() {
    let spec = "- source_labels: [__name__]\n  regex: .*_created\n  action: drop\n";
    let specs: Vec<crate::relabel::RuleSpec> = crate::config::parse_yaml(spec).unwrap();
    let rule = |spec| crate::relabel::Rule::new(spec, false).unwrap();
    let dropped = PageRules { metric_relabel: specs.into_iter().map(rule).collect(), ..rules() };
    let mut target = Target::new(dropped);
    for _ in 0..3 {
        let outcome = open(&mut target, CREATED);
        assert_eq!((outcome.scraped, outcome.kept, starts(&target).len()), (13, 9, 8));
    }
    open(&mut target, &CREATED.replace("c_total{x=\"2\"} 2", "c_total{x=\"3\"} 2\nc_created{x=\"3\"} 7"));
    assert_eq!(starts(&target)[..2], [("c_total/1".into(), 1_789_990_000_123), ("c_total/3".into(), 7000)]);
}

#[test]
fn starts_that_never_rest_are_withheld_until_they_do() {
    let mut target = Target::new(rules());
    let page = |n: u32| CREATED.replace("1789990001", &(1_789_990_001 + n).to_string());
    let mut shapes = std::collections::HashSet::new();
    for n in 0..50 {
        open(&mut target, &page(n));
        shapes.insert(target.last.as_ref().unwrap().id());
    }
    assert!(shapes.len() < 10, "{} shapes", shapes.len());
    assert_eq!(starts(&target), []);
    for _ in 0..200 {
        open(&mut target, &page(50));
    }
    assert_eq!(starts(&target).len(), 8);
}

fn converting(always: bool) -> PageRules {
    PageRules { convert_classic_histograms: true, always_classic_histograms: always, ..rules() }
}

/// Counts of the buckets, and the rest in words.
fn said(native: &NativeHistogram) -> String {
    let number = |bits: &u64| if native.float { f64::from_bits(*bits) } else { *bits as f64 };
    let buckets: Vec<f64> = native.buckets.iter().map(number).collect();
    assert_eq!((native.schema, native.spans.len()), (CUSTOM_BUCKETS, 1));
    format!("{:?} {buckets:?} {} {}", native.bounds, number(&native.count), native.sum)
}

const CLASSIC: &str = "# TYPE h histogram\nh_bucket{p=\"a\",le=\"0.5\"} 1\nh_bucket{le=\"2\",p=\"a\"} 4\n\
    h_bucket{p=\"a\",le=\"+Inf\"} 4\nh_sum{p=\"a\"} 3.5\nh_count{p=\"a\"} 4\n\
    h_bucket{p=\"b\",le=\"1\"} 2.5\nh_count{p=\"b\"} 3\n# TYPE g gauge\ng 1\nh_bucket{p=\"a\",le=\"7\"} 9\n";

#[test]
fn classic_histograms_of_text_become_native_ones() {
    let mut target = Target::new(converting(false));
    for round in 0..3 {
        let outcome = target.try_read(CLASSIC.as_bytes(), Format::Text).unwrap();
        assert_eq!(target.said(), [sample("g", "", "1"), sample("h_bucket", "le=\"7\",p=\"a\"", "9")]);
        let batch = target.body_of_last.as_ref().unwrap();
        let natives: Vec<_> = batch.histograms().iter().map(said).collect();
        assert_eq!(natives, ["[0.5, 2.0] [1.0, 3.0, 0.0] 4 3.5", "[1.0] [2.5, 0.5] 3 0"]);
        let guard = target.table.lock();
        let view = guard.view(batch.shape().histograms()[1]);
        assert_eq!((view.name(), view.labels().collect::<Vec<_>>()), ("h", vec![("p", "b")]));
        drop(guard);
        assert_eq!((outcome.scraped, outcome.kept, outcome.added), (4, 4, if round == 0 { 4 } else { 0 }));
        assert!(batch.one_time());
    }
    let shape = target.last.clone().unwrap();
    target.read(&CLASSIC.replace("} 4\n", "} 8\n").replace("0.5\"} 1", "0.5\"} 3"));
    assert!(Arc::ptr_eq(&shape, target.last.as_ref().unwrap()));
    assert_eq!(
        said(&target.body_of_last.as_ref().unwrap().histograms()[0]),
        "[0.5, 2.0] [3.0, 5.0, 0.0] 8 3.5"
    );
    // Counts that fall make no histogram: it has no sample in this scrape.
    target.read(&CLASSIC.replace("} 4\n", "} 0\n"));
    let batch = target.body_of_last.as_ref().unwrap();
    assert_eq!((batch.histogram_time(0), batch.histogram_time(1)), (NO_SAMPLE, batch.time_ms));
    // A page that loses a bucket, and one that is read by a target that knows nothing.
    let less = CLASSIC.replace("h_bucket{le=\"2\",p=\"a\"} 4\n", "");
    target.read(&less);
    let mut cold = Target::new(converting(false));
    cold.read(&less);
    assert_eq!(
        target.body_of_last.as_ref().unwrap().histograms(),
        cold.body_of_last.as_ref().unwrap().histograms()
    );
}

#[test]
fn classic_series_stay_beside_where_they_are_asked_for() {
    let mut target = Target::new(converting(true));
    for _ in 0..2 {
        let outcome = target.try_read(CLASSIC.as_bytes(), Format::Text).unwrap();
        assert_eq!((target.said().len(), outcome.scraped), (9, 11));
        assert_eq!(target.body_of_last.as_ref().unwrap().histograms().len(), 2);
    }
}

#[test]
fn converted_histograms_have_the_start_and_the_exemplars_of_their_parts() {
    let mut target = Target::new(converting(false));
    let page = "# TYPE h histogram\nh_bucket{le=\"1.0\"} 1 # {id=\"p\"} 0.5\nh_bucket{le=\"+Inf\"} 2 # {id=\"q\"} 7\n\
        h_count 2\nh_sum 1.5\nh_created 1789990001\n# EOF\n";
    open(&mut target, page);
    assert_eq!(starts(&target), [("h".to_owned(), 1_789_990_001_000)]);
    assert_eq!(exemplars(&target), ["h {id=p} 0.5 now", "h {id=q} 7 now"]);
    assert_eq!(target.said(), [sample("h_created", "", "1789990001")]);
}

#[test]
fn a_series_of_the_report_that_the_page_has_too_goes_out_once_and_the_pages_counts() {
    let mut target = Target::new(rules());
    let mut values = |page: &str| {
        target.try_read(page.as_bytes(), Format::Text).unwrap();
        let batch = target.body_of_last.as_ref().unwrap();
        let table = target.table.lock();
        let named = |name: &str| -> Vec<f64> {
            let all = batch.shape().floats().iter().zip(&batch.values);
            all.filter(|((id, _), _)| table.view(*id).name() == name).map(|(_, value)| *value).collect()
        };
        (named("up"), named("scrape_samples_scraped"))
    };
    for _ in 0..3 {
        assert_eq!(values("up 7\na 1\n"), (vec![7.0], vec![2.0]));
    }
    assert_eq!(values("a 1\n"), (vec![1.0], vec![1.0]));
    assert_eq!(values("a 1\nup{x=\"y\"} 7\n"), (vec![7.0, 1.0], vec![2.0]), "another series");
    assert_eq!(values("up 0\nscrape_samples_scraped 5\n"), (vec![0.0], vec![5.0]));
    assert_eq!(values("a 1\nup 7 1790000000000\n").0, [7.0, 1.0], "at another time");
}
