//! What the suites that test senders of remote write ask of a scrape, case by case.
use super::*;

#[test]
fn the_duties_of_a_scrape() {
    let (text, open) = (Format::Text, Format::OpenMetrics);
    let taken = [
        (
            "a body without its last line feed",
            text,
            "a 1\nb 2",
            vec![sample("a", "", "1"), sample("b", "", "2")],
        ),
        ("a counter without _total", open, "# TYPE c counter\nc 4\n# EOF\n", vec![sample("c", "", "4")]),
        ("an old exemplar", open, "a_total 4 # {id=\"x\"} 1 1\n# EOF", vec![sample("a_total", "", "4")]),
        ("an empty label", text, "a{x=\"\",y=\"z\"} 1\n", vec![sample("a", "y=\"z\"", "1")]),
        ("a label of the target", text, "a{job=\"own\"} 1\n", vec![sample("a", "exported_job=\"own\"", "1")]),
        (
            "a label of the target, exported before",
            text,
            "a{job=\"own\",exported_job=\"older\"} 1\n",
            vec![sample("a", "exported_exported_job=\"own\",exported_job=\"older\"", "1")],
        ),
        ("an empty label of the target", text, "a{job=\"\"} 1\n", vec![sample("a", "", "1")]),
    ];
    for (case, format, page, expected) in taken {
        let mut target = Target::new(rules());
        for _ in 0..2 {
            assert_eq!(target.read_as(page, format), expected, "{case}");
            assert_eq!(target.report("up"), 1.0, "{case}");
        }
    }
    for (case, page) in [
        ("a repeated label", "a 1\nb{x=\"1\",x=\"2\"} 1\n"),
        ("a repeated label, the same value", "b{x=\"1\",y=\"2\",x=\"1\"} 1\n"),
        ("a series without a name", "{x=\"1\"} 1\n"),
        ("a name that is empty", "{\"\",x=\"1\"} 1\n"),
        ("a label without a name", "a{\"\"=\"1\"} 1\n"),
    ] {
        let mut target = Target::new(rules());
        assert!(target.try_read(page.as_bytes(), text).is_err(), "{case}");
        let mut given = None;
        target.reader.fail(Instant::now(), START, &mut Batch::default, &mut |batch| given = Some(batch));
        assert_eq!(given.unwrap().values[0], 0.0, "{case}: up is 0, and nothing else goes out");
    }
    let spec = "- target_label: __name__\n  replacement: ''\n";
    let specs: Vec<crate::relabel::RuleSpec> = crate::config::parse_yaml(spec).unwrap();
    let rule = |spec| crate::relabel::Rule::new(spec, false).unwrap();
    let nameless = PageRules { metric_relabel: specs.into_iter().map(rule).collect(), ..rules() };
    let mut target = Target::new(nameless);
    assert_eq!(target.read("a 1\n"), [""; 0], "one that relabelling left without a name");
    assert_eq!(target.report("scrape_samples_scraped"), 1.0);
}
