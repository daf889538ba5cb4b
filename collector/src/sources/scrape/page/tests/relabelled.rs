//! What a series ends up with.
use super::*;
use crate::relabel::{Rule, RuleSpec};

fn rule(action: &str, source: &[&str], regex: &str, target: &str, replacement: &str) -> Rule {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let spec = RuleSpec {
        source_labels: Some(source.iter().map(|&name| name.to_owned()).collect()),
        regex: given(regex),
        target_label: given(target),
        replacement: given(replacement),
        action: given(action),
        ..RuleSpec::default()
    };
    let spec = if source.is_empty() { RuleSpec { source_labels: None, ..spec } } else { spec };
    Rule::new(spec, false).unwrap()
}

fn with(rule: Rule) -> PageRules {
    PageRules { metric_relabel: vec![rule].into(), ..rules() }
}

#[test]
fn conflicts_are_exported_unless_labels_are_honored() {
    let mut target = Target::new(rules());
    for _ in 0..2 {
        assert_eq!(
            target.read("a{job=\"own\",exported_job=\"old\"} 1\nb{instance=\"\"} 2\n"),
            [sample("a", "exported_exported_job=\"own\",exported_job=\"old\"", "1"), sample("b", "", "2")]
        );
    }
    assert!(!target.reader.source.labels.is_empty());
    let mut target = Target::new(PageRules { honor_labels: true, ..rules() });
    assert_eq!(target.read("a 1\n"), [sample("a", "", "1")]);
    assert!(!target.reader.source.labels.is_empty(), "no conflict yet");
    for _ in 0..2 {
        assert_eq!(
            target.read("a 1\nb{job=\"own\"} 2\nc{instance=\"\"} 3\n"),
            [sample("a", "", "1"), "b{instance=\"a:1\",job=\"own\"} 2".into(), "c{job=\"x\"} 3".into()]
        );
    }
    assert!(target.reader.source.labels.is_empty());
    assert_eq!(target.report("up"), 1.0);
}

#[test]
fn rules_that_leave_the_target_alone_share() {
    let mut target = Target::new(with(rule("drop", &["__name__"], "b.*", "", "")));
    for _ in 0..2 {
        let outcome = target.try_read(b"a 1\nb 2\nb2 3\nc 4\n", Format::Text).unwrap();
        assert_eq!((outcome.scraped, outcome.kept), (4, 2));
        assert_eq!(target.said(), [sample("a", "", "1"), sample("c", "", "4")]);
    }
    assert!(!target.reader.labeler.is_bare());
    let mut target = Target::new(with(rule("replace", &["x"], "(.+)", "y", "<$1>")));
    assert_eq!(target.read("a{x=\"1\"} 1\n"), [sample("a", "x=\"1\",y=\"<1>\"", "1")]);
    let mut target = Target::new(with(rule("replace", &["x"], "(.+)", "__name__", "$1")));
    assert_eq!(target.read("a{x=\"new\"} 1\na 2\n"), [sample("new", "x=\"new\"", "1"), sample("a", "", "2")]);
    let mut target = Target::new(with(rule("labeldrop", &[], "x|__name__", "", "")));
    let outcome = target.try_read(b"a{x=\"1\"} 1\n", Format::Text).unwrap();
    assert_eq!((outcome.scraped, outcome.kept), (1, 0), "a nameless series is not kept");
}

#[test]
fn rules_that_touch_the_target_go_bare() {
    let mut target = Target::new(with(rule("replace", &["instance"], "(.+):.*", "host", "$1")));
    assert_eq!(target.read("a 1\n"), ["a{host=\"a\",instance=\"a:1\",job=\"x\"} 1"]);
    assert!(target.reader.source.labels.is_empty());
    let mut target = Target::new(with(rule("labeldrop", &[], "job", "", "")));
    assert_eq!(target.read("a 1\n"), ["a{instance=\"a:1\"} 1"]);
    let mut target = Target::new(with(rule("drop", &["job"], "x", "", "")));
    assert_eq!(target.read("a 1\n"), [""; 0]);
    assert_eq!(target.report("scrape_samples_scraped"), 1.0);
}

#[test]
fn labels_beyond_a_limit_refuse_the_page() {
    let limit = |rules: PageRules, page: &str| {
        let mut target = Target::new(rules);
        let error = target.try_read(page.as_bytes(), Format::Text).unwrap_err();
        assert_eq!((error.fault, error.place), (Fault::LabelLimit, Place::Line(2)));
        error.reason
    };
    let page = "\na{long_name=\"long value\"} 1\n";
    assert_eq!(limit(PageRules { label_limit: 3, ..rules() }, page), "a: 4 labels, label_limit is 3");
    assert_eq!(
        limit(PageRules { label_name_length_limit: 8, ..rules() }, page),
        "a: label name long_name is longer than label_name_length_limit, 8"
    );
    assert_eq!(
        limit(PageRules { label_value_length_limit: 9, ..rules() }, page),
        "a: the value of label long_name has 10 bytes, label_value_length_limit is 9"
    );
    let long = format!("a{{x=\"{}\"}} 1\n", "y".repeat(10 << 20));
    assert_eq!(limit(PageRules { label_value_length_limit: 100, ..rules() }, &format!("\n{long}")).len(), 75);
    let mut target = Target::new(rules());
    (0..2).for_each(|_| assert_eq!(target.try_read(long.as_bytes(), Format::Text).unwrap().kept, 1));
    assert!(target.try_read("a".repeat(10 << 20).as_bytes(), Format::Text).is_err());
}

#[test]
fn legacy_names_are_all_that_the_legacy_scheme_takes() {
    let legacy = || Target::new(PageRules { legacy_names: true, ..rules() });
    assert_eq!(legacy().read("a:b{_c=\"1\"} 1\n"), [sample("a:b", "_c=\"1\"", "1")]);
    for page in ["{\"a.b\"} 1\n", "a{\"b.c\"=\"1\"} 1\n", "a{\"1b\"=\"1\"} 1\n", "a{\"b:c\"=\"1\"} 1\n"] {
        let error = legacy().error(&format!("first 1\n{page}"), Format::Text);
        assert!(error.starts_with("line 2: ") && error.contains("legacy"), "{error}");
        assert_eq!(Target::new(rules()).read(page).len(), 1, "UTF-8 is the default");
    }
}
