//! What groups come to by the rules of a job.

use std::path::Path;

use super::*;
use crate::config::parse_config;

fn job(keys: &str) -> ScrapeConfig {
    let text =
        format!("scrape_configs:\n  - job_name: j\n{}", keys.replace("\n", "\n    ").replacen("", "    ", 1));
    parse_config(&format!("{text}\n"), Path::new("c.yml"))
        .unwrap_or_else(|error| panic!("{text}\n{error}"))
        .scrape
        .remove(0)
}

fn group(targets: &[&str], labels: &[(&str, &str)]) -> TargetGroup {
    TargetGroup {
        source: "0".into(),
        targets: targets.iter().map(|address| vec![("__address__".into(), (*address).into())]).collect(),
        labels: labels.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
        http: None,
    }
}

fn shown(labels: &[(String, String)]) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn defaults_and_the_url() {
    let config =
        job("scheme: https\nmetrics_path: /a b\nparams: {b: [x y, z], a: ['&']}\nscrape_interval: 90s");
    let found = build(&config, None, &[group(&["h"], &[("zone", "z"), ("__meta_x", "y"), ("empty", "")])]);
    let [target] = &found.active[..] else { panic!("one target: {found:?}") };
    assert_eq!(shown(&target.labels), "instance=h job=j zone=z");
    assert_eq!(target.url, "https://h/a%20b?a=%26&b=x+y&b=z");
    assert_eq!((target.interval, target.timeout), (Duration::from_secs(90), Duration::from_secs(10)));
    assert_eq!(
        shown(&target.discovered),
        "__address__=h __meta_x=y __metrics_path__=/a b __param_a=& __param_b=x y __scheme__=https \
         __scrape_interval__=1m30s __scrape_timeout__=10s job=j zone=z"
    );
}

#[test]
fn labels_of_discovery_win() {
    let config = job("params: {m: [a, b]}");
    let labels = [
        ("job", "other"),
        ("instance", "me"),
        ("__scheme__", "https"),
        ("__metrics_path__", "x"),
        ("__param_m", "c"),
        ("__param_n", "d"),
        ("__scrape_interval__", "5s"),
        ("__scrape_timeout__", "500ms"),
    ];
    let found = build(&config, None, &[group(&["h:1"], &labels)]);
    let target = &found.active[0];
    assert_eq!(shown(&target.labels), "instance=me job=other");
    assert_eq!(target.url, "https://h:1/x?m=c&m=b&n=d");
    assert_eq!((target.interval, target.timeout), (Duration::from_secs(5), Duration::from_millis(500)));
}

#[test]
fn rules_drop_and_rewrite() {
    let config = job(
        "keep_dropped_targets: 1\nrelabel_configs:\n- {source_labels: [__address__], target_label: __param_target}\n\
         - {target_label: __address__, replacement: 'proxy:1'}\n\
         - {source_labels: [__param_target], target_label: instance}\n\
         - {source_labels: [instance], regex: 'b|c', action: drop}",
    );
    let found = build(&config, None, &[group(&["a", "b", "c"], &[])]);
    assert_eq!(found.active[0].url, "http://proxy:1/metrics?target=a");
    assert_eq!(shown(&found.active[0].labels), "instance=a job=j");
    assert_eq!((found.dropped.len(), found.dropped_total), (1, 2));
    assert_eq!(found.dropped[0].rule, 3);
    assert!(shown(&found.dropped[0].discovered).starts_with("__address__=b "));
}

#[test]
fn targets_that_cannot_be_scraped_say_why() {
    for (labels, why) in [
        (vec![("__address__", "")], "no address"),
        (vec![("__address__", "a/b")], "not a valid hostname"),
        (vec![("__address__", "a b")], "not a valid hostname"),
        (vec![("__address__", "a"), ("__scheme__", "ftp")], "neither http nor https"),
        (vec![("__address__", "a"), ("__scrape_interval__", "x")], "is not a duration"),
        (vec![("__address__", "a"), ("__scrape_interval__", "0")], "may not be 0"),
        (
            vec![("__address__", "a"), ("__scrape_timeout__", "2m")],
            "greater than __scrape_interval__ (2m > 1m)",
        ),
    ] {
        let mut one = group(&[], &[]);
        one.targets.push(labels.iter().map(|&(name, value)| (name.into(), value.into())).collect());
        one.targets.push(vec![("__address__".into(), "good".into())]);
        let found = build(&job(""), None, &[one]);
        assert_eq!(found.active.len(), 1, "the others are not touched");
        assert!(found.faults[0].contains(why), "{:?}", found.faults);
    }
}

#[test]
fn equal_targets_are_one_and_the_hash_stands() {
    let found = build(&job(""), None, &[group(&["a", "b", "a"], &[]), group(&["b"], &[])]);
    assert_eq!(found.active.len(), 2);
    assert_eq!(found.active[0].hash, 0x2054_4158_058b_2f3f, "every release and every host gives the same");
}

#[test]
fn shards_share_the_targets() {
    let names: Vec<String> = (0..1000).map(|n| format!("host-{n}:9100")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let groups = [group(&names, &[])];
    let mut sum = 0;
    for index in 0..4 {
        let shard = Shard::parse(&format!("{index}/4"), 1, "").unwrap();
        let found = build(&job(""), Some(shard), &groups);
        assert!((200..300).contains(&found.active.len()), "{}", found.active.len());
        assert_eq!(found.active.len() + found.elsewhere, 1000);
        sum += found.active.len();
    }
    assert_eq!(sum, 1000);
}
