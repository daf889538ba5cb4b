//! Lines, odd ones above all.
use super::*;
use crate::model::Kind;

/// What a page with this one line gives; `None` where it is refused. Cold, hot, and behind a line that is known.
fn one(line: &str) -> Option<String> {
    let mut target = Target::new(rules());
    let cold = target.try_read(line.as_bytes(), Format::Text).ok().map(|_| target.said());
    let hot = target.try_read(line.as_bytes(), Format::Text).ok().map(|_| target.said());
    let page = format!("first 1\n{line}\nlast 2\n");
    let mut mended = Target::new(rules());
    mended.read("first 1\nlast 2\n");
    let inside = mended.try_read(page.as_bytes(), Format::Text).ok().map(|_| mended.said());
    let again = mended.try_read(page.as_bytes(), Format::Text).ok().map(|_| mended.said());
    assert_eq!(cold, hot, "{line:?}");
    assert_eq!(inside, again, "{line:?}");
    let middle = inside.map(|said| said[1..said.len() - 1].to_vec());
    assert_eq!(cold, middle, "{line:?}");
    cold.map(|said| said.join(" | "))
}

#[test]
fn lines_of_text() {
    let good = [
        ("a 1", "a", "", "1"),
        ("a\t1\t", "a", "", "1"),
        ("  a   1  ", "a", "", "1"),
        ("a{} 1", "a", "", "1"),
        ("a{}1", "a", "", "1"),
        ("a { } 1", "a", "", "1"),
        ("a{b=\"c\"} 1", "a", "b=\"c\"", "1"),
        ("a{b=\"c\",} 1", "a", "b=\"c\"", "1"),
        ("a{ b = \"c\" , d=\"e\" } 1", "a", "b=\"c\",d=\"e\"", "1"),
        ("a{b=\"c\" d=\"e\"} 1", "a", "b=\"c\",d=\"e\"", "1"),
        ("a{b=\"}\"} 1", "a", "b=\"}\"", "1"),
        ("a{b=\"#,=\"} 1", "a", "b=\"#,=\"", "1"),
        ("a{b=\"\"} 1", "a", "", "1"),
        ("a{b=\"x\\\\y\\\"z\\nw\\q\"} 1", "a", "b=\"x\\\\y\\\"z\\nw\\\\q\"", "1"),
        ("a{b=\"ä\u{1f600}\"} 1", "a", "b=\"ä\u{1f600}\"", "1"),
        ("{\"my.name\"} 1", "my.name", "", "1"),
        ("{\"my.name\",\"b.c\"=\"d\"} 1", "my.name", "b.c=\"d\"", "1"),
        ("{b=\"d\",\"my.name\"} 1", "my.name", "b=\"d\"", "1"),
        ("a:b_c9{_d=\"e\"} -0", "a:b_c9", "_d=\"e\"", "-0"),
        ("a +Inf", "a", "", "inf"),
        ("a NaN", "a", "", "NaN"),
        ("a 1e3 ", "a", "", "1000"),
    ];
    for (line, name, labels, value) in good {
        // The commas inside of a value are no separators here.
        let expected = if line.contains("#,=") {
            "a{b=\"#,=\",instance=\"a:1\",job=\"x\"} 1".to_owned()
        } else {
            sample(name, labels, value)
        };
        let got = one(line);
        assert_eq!(got.as_deref(), Some(&*expected), "{line:?}");
    }
    for line in
        ["", "   ", "#", "# x", "# HELP", "# HELPX a", "#HELP a b", "# TYPE", "\t# TYPE a gauge", "# HELP a"]
    {
        assert_eq!(one(line).as_deref(), Some(""), "{line:?}");
    }
}

#[test]
fn lines_that_are_refused() {
    let bad = [
        "a",
        "a ",
        "a{",
        "a{b",
        "a{b=",
        "a{b=\"c",
        "a{b=\"c\"",
        "a{b=\"c\"}",
        "a{b=c} 1",
        "a{,} 1",
        "a{b=\"c\",,} 1",
        "a{b=\"c\"} x",
        "a 1 x",
        "a 1 1.5",
        "a 1 -1",
        "a 1 1 1",
        "a 1 9223372036854775808",
        "1a 1",
        "a-b 1",
        "a+1",
        "a{1b=\"c\"} 1",
        "a{b:c=\"d\"} 1",
        "a{\"b\"} 1",
        "{} 1",
        "{b=\"c\"} 1",
        "{\"\"} 1",
        "{\"a\",\"b\"} 1",
        "a{\"\"=\"c\"} 1",
        "a{b=\"c\",b=\"d\"} 1",
        "a{__name__=\"b\"} 1",
        "a{b=\"c\\",
        "a{b=\"c\\\n\"} 1",
        "a 0x1p-2",
        "a 1_0",
        "a 1e999",
        "a 1,5",
        "a {b=\"c\"} {} 1",
        "a 1\r",
        "\0a 1",
        "a\0 1",
        "ä 1",
        "a 1{",
        "{\"a\" b=\"c\"} 1",
        "# TYPE a gaug",
        "# TYPE a",
        "# TYPE a gauge ",
        "# TYPE 1 gauge",
        "# HELP 1 x",
        "# TYPE a unknown",
    ];
    for line in bad {
        assert_eq!(one(line), None, "{line:?}");
    }
    let mut target = Target::new(rules());
    for (page, at) in [
        (&b"a{b=\"\xff\"} 1\n"[..], 1),
        (b"a 1\n\n# HELP a \xff\n", 3),
        (b"a 1\nb 2\nc{\"\xc3\"=\"x\"} 3\n", 3),
        (b"a 1\nb\n", 2),
    ] {
        let error = target.try_read(page, Format::Text).unwrap_err();
        assert_eq!((error.fault, error.place), (Fault::Syntax, Place::Line(at)));
    }
    assert_eq!(target.error("a 1\nb 0x1\n", Format::Text), "line 2: \"0x1\" is no number");
}

#[test]
fn a_raw_line_feed_in_a_value_is_part_of_it() {
    let mut target = Target::new(rules());
    let page = "a{b=\"c\nd 1\n\"} 2\ne 3\n";
    for _ in 0..2 {
        assert_eq!(
            target.read(page),
            ["a{b=\"c\\nd 1\\n\",instance=\"a:1\",job=\"x\"} 2", &sample("e", "", "3")]
        );
    }
    assert_eq!(
        target.error("x 1\nd 1\n\"} 2\ne 3\n", Format::Text),
        "line 3: no metric name where a line begins, at \"\\\"} 2\""
    );
}

#[test]
fn open_metrics_is_strict() {
    let mut target = Target::new(rules());
    let page = "# HELP a_seconds A \\\"b\\\".\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
        a_seconds_total{x=\"y\"} 1 # {trace=\"1\"} 0.5 1520879607.789\na_seconds_created{x=\"y\"} 1520430000.123\n\
        # TYPE i info\ni_info{v=\"1\"} 1\n# TYPE s stateset\ns{s=\"on\"} 1\n# TYPE u unknown\nu 1 1789999999.5\n\
        # TYPE g gaugehistogram\ng_bucket{le=\"+Inf\"} 1 # {} 2\ng_gcount 1\ng_gsum 1\n# TYPE c counter\nc 4\n# EOF";
    for (round, end) in ["\n", "", "\n"].iter().enumerate() {
        let said = target.read_as(&format!("{page}{end}"), Format::OpenMetrics);
        assert_eq!(said.len(), 9);
        assert_eq!(said[0], sample("a_seconds_total", "x=\"y\"", "1"));
        assert_eq!(said[1], sample("a_seconds_created", "x=\"y\"", "1520430000.123"));
        assert_eq!(said[4], sample("u", "", if round == 0 { "1 @1789999999500" } else { "1 none" }));
    }
    let table = target.table.clone();
    let guard = table.lock();
    let view = guard.view(target.last.as_ref().unwrap().floats()[0].0);
    assert_eq!(
        (view.family(), view.kind(), view.help(), view.unit()),
        ("a_seconds", Kind::Counter, "A \"b\".", "seconds")
    );
    drop(guard);
    let bad = [
        "a 1\n",
        "# EOF\na 1\n",
        "a 1\n# EOF\n\n",
        "a  1\n# EOF\n",
        "\na 1\n# EOF\n",
        "# x\n# EOF\n",
        "a 1 1x\n# EOF\n",
        "a 1 # {b=\"c\"\n# EOF\n",
        "a 1 # {b=\"c\"} x\n# EOF\n",
        "a 1 # {b=\"c\",b=\"c\"} 1\n# EOF\n",
        "a 1 # {\"c\"} 1\n# EOF\n",
        "a 1 # {} 1 NaN\n# EOF\n",
        "a 1 NaN\n# EOF\n",
        "# TYPE a untyped\n# EOF\n",
        "# UNIT a seconds\n# EOF\n",
        "a\t1\n# EOF\n",
        "a{b=\"c\" d=\"e\"} 1\n# EOF\n",
        "a{b=\"c\nd\"} 1\n# EOF\n",
        "# TYPE a\n# EOF\n",
        "a 1 \n# EOF\n",
        "a 1\n# EOF x",
        "",
    ];
    for page in bad {
        assert!(target.try_read(page.as_bytes(), Format::OpenMetrics).is_err(), "{page:?}");
    }
    assert_eq!(target.error("a 1\n", Format::OpenMetrics), "line 2: the page does not end with # EOF");
}

#[test]
fn metadata_goes_to_the_family_that_it_names() {
    let page = "# TYPE h histogram\n# HELP h H\\\\ \\n \\\".\nh_bucket{le=\"1\"} 1\nh_sum 2\nh_count 1\nother 5\n\
        # TYPE c counter\nc 1\n# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_bucket 3\n";
    let mut target = Target::new(rules());
    target.read("other 5\n");
    target.read(page);
    let table = target.table.lock();
    let kinds: Vec<_> = target.last.as_ref().unwrap().floats()[..7]
        .iter()
        .map(|&(id, _)| (table.view(id).name(), table.view(id).family(), table.view(id).kind()))
        .collect();
    assert_eq!(
        kinds,
        [
            ("h_bucket", "h", Kind::Histogram),
            ("h_sum", "h", Kind::Histogram),
            ("h_count", "h", Kind::Histogram),
            ("other", "other", Kind::Untyped),
            ("c", "c", Kind::Counter),
            ("s", "s", Kind::Summary),
            ("s_bucket", "s_bucket", Kind::Untyped),
        ]
    );
    assert_eq!(table.view(target.last.as_ref().unwrap().floats()[0].0).help(), "H\\ \n \\\".");
}
