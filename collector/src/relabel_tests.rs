//! Every action and its corners, as rows: the rules as typed, the labels before, the labels after.

use super::*;

const DROPPED: &str = "dropped";

fn spec(yaml: &str) -> RuleSpec {
    serde_norway::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
}

fn rules(yaml: &str) -> Vec<Rule> {
    let specs: Vec<RuleSpec> = serde_norway::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
    specs
        .into_iter()
        .map(|spec| Rule::new(spec, false).unwrap_or_else(|fault| panic!("{yaml}: {fault:?}")))
        .collect()
}

fn labels<'a>(text: &'a str) -> Labels<'a> {
    let mut labels: Labels<'a> = text
        .split_whitespace()
        .map(|pair| pair.split_once('=').expect("name=value"))
        .map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value)))
        .collect();
    labels.sort();
    labels
}

fn shown(labels: &Labels<'_>) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn run_rules(yaml: &str, before: &str) -> String {
    let mut set = labels(before);
    match apply(&rules(yaml), &mut set) {
        Ok(()) => shown(&set),
        Err(_) => DROPPED.to_owned(),
    }
}

fn check(rows: &[(&str, &str, &str)]) {
    for (rules, before, after) in rows {
        assert_eq!(run_rules(rules, before), *after, "{rules} over {before}");
    }
}

#[test]
fn replace() {
    check(&[
        ("[{source_labels: [a], target_label: b}]", "a=foo", "a=foo b=foo"),
        (
            "[{source_labels: [a], regex: 'f(.*)', target_label: d, replacement: 'ch${1}-ch${1}'}]",
            "a=foo",
            "a=foo d=choo-choo",
        ),
        (
            "[{source_labels: [a, b], regex: 'f(.*);(.*)r', target_label: a, replacement: 'b${1}${2}m'}]",
            "a=foo b=bar c=baz",
            "a=boobam b=bar c=baz",
        ),
        // The expression is anchored at both ends.
        ("[{source_labels: [a], regex: o, target_label: b, replacement: x}]", "a=foo", "a=foo"),
        ("[{source_labels: [a], regex: 'foo|b', target_label: b, replacement: x}]", "a=foobar", "a=foobar"),
        // No match leaves everything; an empty result removes the label.
        ("[{source_labels: [a], regex: x, target_label: a, replacement: ''}]", "a=foo", "a=foo"),
        ("[{source_labels: [a], target_label: a, replacement: ''}]", "a=foo b=x", "b=x"),
        ("[{target_label: a, replacement: ''}]", "a=foo b=x", "b=x"),
        ("[{source_labels: [a], regex: 'f(x?)oo', target_label: b}]", "a=foo b=x", "a=foo"),
        // Missing labels are empty, without and with a separator.
        ("[{source_labels: [no], target_label: b, replacement: x}]", "a=1", "a=1 b=x"),
        ("[{source_labels: [no, gone], target_label: b}]", "a=1", "a=1 b=;"),
        ("[{source_labels: [no, a], separator: '', target_label: b}]", "a=1", "a=1 b=1"),
        ("[{source_labels: [a, a, a], separator: '-+-', target_label: b}]", "a=1", "a=1 b=1-+-1-+-1"),
        ("[{target_label: b, replacement: x}]", "", "b=x"),
        ("[{source_labels: [no], regex: '.+', target_label: b, replacement: x}]", "a=1", "a=1"),
        ("[{source_labels: [a], regex: '.+', target_label: b, replacement: x}]", "a=1", "a=1 b=x"),
        ("[{source_labels: [a], regex: '(.+)', target_label: b}]", "a=1", "a=1 b=1"),
        ("[{source_labels: [a], regex: '', target_label: b, replacement: x}]", "b=1", "b=x"),
        ("[{source_labels: [a], regex: '', target_label: b, replacement: x}]", "a=1 b=1", "a=1 b=1"),
        // Rules see what those before them wrote.
        (
            "[{target_label: t, replacement: x}, {source_labels: [t], target_label: u, replacement: '$1y'}, {source_labels: [t], target_label: v, replacement: '${1}y'}]",
            "",
            "t=x v=xy",
        ),
    ]);
}

#[test]
fn groups_in_names_and_replacements() {
    check(&[
        (
            "[{source_labels: [a], regex: '(a)(b)?(c)', target_label: r, replacement: '[$1$2$3]'}]",
            "a=ac",
            "a=ac r=[ac]",
        ),
        (
            "[{source_labels: [a], regex: '(?P<one>f)(?<two>.*)', target_label: r, replacement: '${two}$one'}]",
            "a=foo",
            "a=foo r=oof",
        ),
        (
            "[{source_labels: [a], target_label: r, replacement: '$0.$00.$2.$none.${none}.$01'}]",
            "a=foo",
            "a=foo r=foo.....",
        ),
        ("[{source_labels: [a], target_label: r, replacement: '$$1 $$$1 $$'}]", "a=foo", "a=foo r=$1 $foo $"),
        (
            "[{source_labels: [a], target_label: r, replacement: '$ $- ${1 ${} ${1-} 5$'}]",
            "a=foo",
            "a=foo r=$ $- ${1 ${} ${1-} 5$",
        ),
        ("[{source_labels: [a], target_label: r, replacement: '$1é-$1-ü'}]", "a=foo", "a=foo r=-foo-ü"),
        ("[{source_labels: [a], regex: 'x|y|(z)', target_label: r, replacement: '<$1>'}]", "a=y", "a=y r=<>"),
        (
            "[{source_labels: [a], regex: '(x|y|z)', target_label: r, replacement: '<$1>'}]",
            "a=y",
            "a=y r=<y>",
        ),
        (
            "[{source_labels: [a], regex: 'x|y|z', target_label: r, replacement: '<$1$0>'}]",
            "a=y",
            "a=y r=<y>",
        ),
        (
            "[{source_labels: [a], regex: 'some-([^-]+)-(.*)', target_label: '${1}', replacement: '${2}'}]",
            "a=some-name-value",
            "a=some-name-value name=value",
        ),
        (
            "[{source_labels: [a], regex: 'some-([^-]+)-(.*)', target_label: 'pre_${1}_$2', replacement: 'x'}]",
            "a=some-name-value",
            "a=some-name-value pre_name_value=x",
        ),
        // A name that comes to nothing is none, and the rule does nothing.
        ("[{source_labels: [a], regex: '(x)?foo', target_label: '${1}', replacement: x}]", "a=foo", "a=foo"),
        ("[{source_labels: [a], target_label: '$1', replacement: x}]", "a=ü.b", "a=ü.b ü.b=x"),
    ]);
}

#[test]
fn keep_and_drop() {
    check(&[
        ("[{source_labels: [a], regex: foo, action: keep}]", "a=foo", "a=foo"),
        ("[{source_labels: [a], regex: fo, action: keep}]", "a=foo", DROPPED),
        ("[{source_labels: [a], regex: '.*o.*', action: drop}]", "a=foo", DROPPED),
        ("[{source_labels: [a], regex: 'o', action: drop}]", "a=foo", "a=foo"),
        ("[{source_labels: [no], regex: '', action: drop}]", "a=foo", DROPPED),
        ("[{source_labels: [no], regex: '.+', action: keep}]", "a=foo", DROPPED),
        ("[{regex: '', action: keep}]", "a=foo", "a=foo"),
        ("[{source_labels: [a, b], regex: 'foo;bar|x', action: KEEP}]", "a=foo b=bar", "a=foo b=bar"),
        ("[{source_labels: [a], action: drop}]", "", DROPPED),
    ]);
    let rules = rules("[{target_label: x, replacement: y}, {source_labels: [x], regex: y, action: drop}]");
    assert_eq!(apply(&rules, &mut labels("a=1")), Err(1), "the rule that dropped is named");
}

#[test]
fn keepequal_and_dropequal() {
    check(&[
        ("[{source_labels: [a], target_label: b, action: keepequal}]", "a=1 b=1", "a=1 b=1"),
        ("[{source_labels: [a], target_label: b, action: keepequal}]", "a=1 b=2", DROPPED),
        ("[{source_labels: [a], target_label: b, action: keepequal}]", "", ""),
        ("[{source_labels: [a], target_label: b, action: dropequal}]", "a=1 b=1", DROPPED),
        ("[{source_labels: [a], target_label: b, action: dropequal}]", "a=1", "a=1"),
        ("[{source_labels: [a], target_label: b, action: dropequal}]", "c=1", DROPPED),
        ("[{source_labels: [a, b], target_label: c, action: keepequal}]", "a=1 b=2 c=1;2", "a=1 b=2 c=1;2"),
    ]);
}

#[test]
fn hashmod_is_the_lower_half_of_the_md5() {
    check(&[
        (
            "[{source_labels: [c], target_label: d, action: hashmod, modulus: 1000}]",
            "a=foo b=bar c=baz",
            "a=foo b=bar c=baz d=976",
        ),
        (
            "[{source_labels: [a, b], target_label: d, action: hashmod, modulus: 1000}]",
            "a=foo b=bar",
            "a=foo b=bar d=750",
        ),
        ("[{source_labels: [a], target_label: d, action: hashmod, modulus: 1000}]", "", "d=958"),
        ("[{source_labels: [a], target_label: d, action: hashmod, modulus: 1000}]", "a=ä", "a=ä d=381"),
        ("[{source_labels: [a], target_label: d, action: hashmod, modulus: 1}]", "a=b", "a=b d=0"),
    ]);
    assert_eq!(hash_modulo("foo\nbar", 1000), 734);
}

#[test]
fn labelmap() {
    check(&[
        (
            "[{regex: '(b.*)', action: labelmap, replacement: 'bar_${1}'}]",
            "a=foo b1=bar b2=baz",
            "a=foo b1=bar b2=baz bar_b1=bar bar_b2=baz",
        ),
        ("[{regex: 'meta_(my_.*)', action: labelmap}]", "meta_my_a=x", "meta_my_a=x my_a=x"),
        ("[{regex: 'a|b', action: labelmap, replacement: c}]", "a=1 b=2", "a=1 b=2 c=2"),
        // What a rule wrote comes after what was there.
        (
            "[{target_label: a, replacement: new}, {regex: 'a|b', action: labelmap, replacement: c}]",
            "a=1 b=2",
            "a=new b=2 c=new",
        ),
        ("[{regex: '(.)', action: labelmap, replacement: '${1}${1}'}]", "a=1", "a=1 aa=1"),
        ("[{regex: 'x(.*)', action: labelmap}]", "x=1 xy=2", "x=1 xy=2 y=2"),
        ("[{regex: '(.+)', action: labelmap, replacement: 'ü.$1'}]", "a=1", "a=1 ü.a=1"),
    ]);
}

#[test]
fn labeldrop_and_labelkeep() {
    check(&[
        ("[{regex: '(b.*)', action: labeldrop}]", "a=foo b1=bar b2=baz", "a=foo"),
        ("[{regex: '(b.*)', action: labelkeep}]", "a=foo b1=bar b2=baz", "b1=bar b2=baz"),
        ("[{regex: 'b', action: labeldrop}]", "a=foo b1=bar", "a=foo b1=bar"),
        ("[{regex: '.*', action: labeldrop}]", "a=foo b1=bar", ""),
        (
            "[{target_label: b, replacement: x}, {regex: a, action: labeldrop}, {target_label: a, replacement: y}]",
            "a=1 c=2",
            "a=y b=x c=2",
        ),
        ("[{regex: 'dotted\\.näme', action: labelkeep}]", "a=foo dotted.näme=x", "dotted.näme=x"),
    ]);
}

#[test]
fn case() {
    check(&[
        ("[{source_labels: [a], target_label: b, action: lowercase}]", "a=FoO", "a=FoO b=foo"),
        ("[{source_labels: [a], target_label: a, action: Uppercase}]", "a=FoO", "a=FOO"),
        ("[{source_labels: [no], target_label: a, action: uppercase}]", "a=FoO", ""),
        // One character for one, as Go has it: ß has no upper case, the final sigma is a sigma.
        ("[{source_labels: [a], target_label: a, action: uppercase}]", "a=straßeŉﬁᾳ", "a=STRAßEŉﬁᾼ"),
        ("[{source_labels: [a], target_label: a, action: lowercase}]", "a=İÄΣ", "a=iäσ"),
        ("[{source_labels: [a, b], target_label: c, action: uppercase}]", "a=x b=y", "a=x b=y c=X;Y"),
    ]);
}

#[test]
fn a_dot_matches_a_line_end() {
    let rules = rules("[{source_labels: [a], regex: 'foo.*', target_label: b, replacement: x}]");
    let mut set: Labels<'_> = vec![("a".into(), "foo\nbar".into())];
    assert_eq!(apply(&rules, &mut set), Ok(()));
    assert_eq!(set[1], ("b".into(), "x".into()));
}

#[test]
fn empty_values_are_gone_and_names_sorted() {
    let mut set: Labels<'_> = vec![("a".into(), "".into()), ("b".into(), "1".into())];
    assert_eq!(apply(&[], &mut set), Ok(()));
    assert_eq!(shown(&set), "b=1");
    assert_eq!(
        run_rules("[{target_label: a, replacement: x}, {target_label: c, replacement: y}]", "b=1"),
        "a=x b=1 c=y"
    );
}

#[test]
fn every_step_is_told() {
    let rules = rules(
        "[{target_label: b, replacement: x}, {regex: b, action: labeldrop}, {source_labels: [a], action: drop}]",
    );
    let mut steps = Vec::new();
    let result = apply_recording(&rules, &mut labels("a=1 c=2"), |number, labels, kept| {
        steps.push(format!("{number} {} {kept}", shown(labels)));
    });
    assert_eq!(result, Err(2));
    assert_eq!(steps, ["0 a=1 b=x c=2 true", "1 a=1 c=2 true", "2 a=1 c=2 false"]);
}

/// Rows of expression, text, whether it matches: where Go's syntax and the crate's differ.
#[test]
fn expressions_mean_what_they_mean_in_go() {
    for (source, text, matches) in [
        (r"\d+", "12", true),
        (r"\d", "٣", false),
        (r"\D", "٣", true),
        (r"\w", "ä", false),
        (r"[\w-]+", "a-b", true),
        (r"[^\W]", "ä", false),
        (r"\s", "\u{b}", false),
        (r"\S", "\u{a0}", true),
        (r"ä\bx", "äx", true),
        (r"\Qa.b\E+", "a.bb", true),
        (r"\Qa.b", "axb", false),
        (r"a{,2}", "a{,2}", true),
        (r"a{1,2}", "aa", true),
        (r"a{x}", "a{x}", true),
        (r"{{a}}", "{{a}}", true),
        (r"[[a]", "[", true),
        (r"[a&&b]", "&", true),
        (r"[+--b]+", "-,b", true),
        (r"[a~~]+", "~a", true),
        (r"[]a]+", "]a", true),
        (r"[^]a]", "b", true),
        (r"[a-]", "-", true),
        (r"[[:alpha:]-]+", "a-", true),
        (r"[[:^digit:]]", "x", true),
        (r"[\]\\]+", r"]\", true),
        (r"\x41\x{42}\103\0", "ABC\0", true),
        (r"a\_b\-\ \<", "a_b- <", true),
        (r"\p{Greek}\pL\p{^Greek}\P{^Greek}", "αaaα", true),
        (r"(?i)ÄB", "äb", true),
        (r"(?i:a)B", "Ab", false),
        (r"(?-s:a.b)", "a\nb", false),
        (r"(?U)a+", "aaa", true),
        (r"a|b", "ab", false),
        (r"a)|(b", "b", true),
        (r"^a$", "a", true),
        (r"(?m)a$\n^b", "a\nb", true),
        (r"]}", "]}", true),
        (r"#x y", "#x y", true),
    ] {
        let pattern = Pattern::new(source).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(pattern.is_match(text), matches, "{source} over {text:?}");
    }
}

#[test]
fn expressions_that_cannot_be_had_are_refused() {
    for source in [
        "(",
        "a)",
        "[a",
        "[b-a]",
        "*",
        "a**",
        "a{2}{3}",
        "a{1001}",
        r"\",
        r"\B",
        r"\C",
        r"\1",
        r"\Z",
        r"\x4",
        r"\p{Nope}",
        "(?=a)",
        "(?<!a)",
        "(?x)a",
        "(?P<1>a)",
        "(?P<a>b)(?P<a>c)",
        "(?<a",
        "[[:nope:]]",
        r"\u0041",
        "(a{1000}){1000}",
    ] {
        let error = Pattern::new(source).expect_err(source);
        assert!(error.starts_with(&format!("invalid regex {source:?}: ")), "{error}");
    }
}

#[test]
fn faults_name_the_key() {
    for (yaml, key, why) in [
        ("{action: zap}", "action", "unknown relabel action \"zap\""),
        ("{target_label: a, regex: '['}", "regex", "missing closing ]"),
        ("{}", "target_label", "the action replace needs one"),
        ("{action: hashmod, target_label: a}", "modulus", "above 0"),
        ("{action: hashmod, modulus: 8}", "target_label", "needs one"),
        ("{action: replace, target_label: '${'}", "target_label", "can't be a label name"),
        ("{action: lowercase}", "target_label", "needs one"),
        ("{action: lowercase, target_label: a, replacement: b}", "replacement", "has no place beside"),
        ("{action: labelmap, replacement: '${}'}", "replacement", "can't be a label name"),
        ("{action: keepequal, target_label: a, regex: b}", "regex", "has no place beside"),
        ("{action: dropequal, target_label: a, separator: b}", "separator", "has no place beside"),
        ("{action: labeldrop, source_labels: [a]}", "source_labels", "has no place beside"),
        ("{action: labelkeep, modulus: 1}", "modulus", "has no place beside"),
        ("{source_labels: [''], target_label: a}", "source_labels", "\"\" is not a valid label name"),
    ] {
        let fault = Rule::new(spec(yaml), false).expect_err(yaml);
        assert_eq!(fault.key, key, "{yaml}: {}", fault.why);
        assert!(fault.why.contains(why), "{yaml}: {}", fault.why);
    }
}

#[test]
fn legacy_names() {
    for (yaml, valid) in [
        ("{target_label: a.b}", false),
        ("{target_label: 'a_${1}_$2x'}", true),
        ("{target_label: '${1}'}", true),
        ("{target_label: '1${1}'}", false),
        ("{target_label: 'a.${1}'}", false),
        ("{source_labels: [a-b], target_label: a}", false),
        ("{action: labelmap, replacement: 'a.$1'}", false),
    ] {
        assert_eq!(Rule::new(spec(yaml), true).is_ok(), valid, "{yaml}");
        assert!(Rule::new(spec(yaml), false).is_ok(), "{yaml}");
    }
    let rule = Rule::new(spec("{source_labels: [a], target_label: '$1', replacement: x}"), true).unwrap();
    let mut set = labels("a=b.c");
    assert_eq!(apply(&[rule], &mut set), Ok(()));
    assert_eq!(shown(&set), "a=b.c", "a name that the scheme refuses is not written");
}
