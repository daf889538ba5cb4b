//! Exemplars, starts and converted histograms on the whole way from a target's page to a receiver, in both versions
//! of remote write, with the real binary that is killed in between: what arrives comes out of the batch log.

use std::path::Path;
use std::time::Duration;

use collector_tests::process::{Collector, free_port, wait_for};
use collector_tests::receiver::{Answer, Receiver, Taken};
use collector_tests::target::{Manner, Target};

const LONG: Duration = Duration::from_secs(30);
const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn page(ids: &[&str]) -> Manner {
    let [first, second] = ids else { panic!("two exemplars") };
    let text = format!(
        "# TYPE a counter\na_total{{x=\"1\"}} 1 # {{id=\"{first}\"}} 0.5 1789999999.25\na_created{{x=\"1\"}} 1789990000.123\n\
         # TYPE h histogram\nh_bucket{{le=\"1.0\"}} 1 # {{id=\"{second}\",z=\"\"}} 0.75\nh_bucket{{le=\"+Inf\"}} 2\n\
         h_count 2\nh_sum 1.5\nh_created 1789990001\n# TYPE g gauge\ng 1\n# EOF\n"
    );
    Manner::Typed(OPEN.into(), text.into_bytes())
}

fn start(folder: &Path, targets: &str, receivers: [&Receiver; 2], job: &str) -> Collector {
    let config = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nhost: {{scrape_interval: 1h}}\nremote_write:\n\
         - {{url: '{}', name: one, send_exemplars: true}}\n\
         - {{url: '{}', name: two, send_exemplars: true, protobuf_message: io.prometheus.write.v2.Request}}\n\
         scrape_configs:\n- {{job_name: test, {job}static_configs: [{{targets: ['{targets}']}}]}}\n",
        receivers[0].url(),
        receivers[1].url(),
    );
    std::fs::write(folder.join("c.yml"), config).unwrap();
    let file = format!("--config.file={}", folder.join("c.yml").display());
    let flags = ["--collector.disable-defaults", "--web.disable-exporter-metrics", "--no-ebpf.runqueue"];
    Collector::start(free_port(), folder, &[&[file.as_str()], &flags[..]].concat())
}

fn of<'t, T>(map: &'t std::collections::BTreeMap<String, Vec<T>>, name: &str) -> Vec<&'t T> {
    map.iter().filter(|(key, _)| key.split('{').next() == Some(name)).flat_map(|(_, all)| all).collect()
}

fn ids(taken: &Taken, name: &str) -> Vec<String> {
    of(&taken.exemplars, name).into_iter().map(|one| one.0.clone()).collect()
}

#[test]
fn exemplars_and_starts_outlive_a_kill_and_come_once() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start(page(&["early", "bucket"])));
    let (one, two) = (Receiver::start(), Receiver::start());
    for receiver in [&one, &two] {
        receiver.answer(Answer::Status(503, Vec::new(), String::new()));
    }
    let mut collector = start(folder.path(), &target.address(), [&one, &two], "");
    // The page was taken when a request with it was refused.
    for receiver in [&one, &two] {
        assert!(
            wait_for(LONG, || receiver.look(|taken| taken.requests.len() > 1)),
            "{}",
            collector.process.log()
        );
    }
    collector.process.kill();
    for receiver in [&one, &two] {
        receiver.answer(Answer::Accept);
    }
    target.become_so(page(&["late", "bucket"]));
    let collector = start(folder.path(), &target.address(), [&one, &two], "");
    for receiver in [&one, &two] {
        let all = || receiver.look(|taken| ids(taken, "a_total").contains(&"id=late".to_owned()));
        assert!(wait_for(LONG, all), "{}", collector.process.log());
        receiver.look(|taken| {
            assert_eq!(taken.faults, [""; 0]);
            assert_eq!(ids(taken, "a_total"), ["id=early", "id=late"], "each once, in order");
            let first = of(&taken.exemplars, "a_total")[0];
            assert_eq!((first.1, first.2), (1_789_999_999_250, 0.5_f64.to_bits()));
            let buckets = of(&taken.exemplars, "h_bucket");
            assert!(buckets.iter().all(|one| one.0.starts_with("id=bucket") && one.2 == 0.75_f64.to_bits()));
            // It has no time of its own, so a process that starts anew can't know that it was sent.
            assert_eq!(buckets.len(), 2);
            assert!(!of(&taken.series, "a_created").is_empty(), "which stays a series");
        });
    }
    two.look(|taken| {
        assert_eq!(of(&taken.starts, "a_total"), [&1_789_990_000_123]);
        for part in ["h_bucket", "h_count", "h_sum"] {
            assert!(of(&taken.starts, part).iter().all(|&&start| start == 1_789_990_001_000), "{part}");
        }
        for part in ["g", "up", "a_created"] {
            assert_eq!(of(&taken.starts, part), [&0], "{part}");
        }
    });
}

#[test]
fn classic_histograms_go_native_in_2_0_and_not_at_all_in_1_0() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start(page(&["a", "bucket"])));
    let (one, two) = (Receiver::start(), Receiver::start());
    let job = "convert_classic_histograms_to_nhcb: true, ";
    let collector = start(folder.path(), &target.address(), [&one, &two], job);
    assert!(
        wait_for(LONG, || two.look(|taken| of(&taken.histograms, "h").len() > 2)),
        "{}",
        collector.process.log()
    );
    two.look(|taken| {
        assert_eq!(taken.faults, [""; 0]);
        assert!(of(&taken.schemas, "h").iter().all(|&&schema| schema == -53));
        assert!(of(&taken.histograms, "h").iter().all(|point| point.1 == 1.5_f64.to_bits()));
        assert_eq!(of(&taken.starts, "h"), [&1_789_990_001_000]);
        assert!(ids(taken, "h")[0].starts_with("id=bucket"));
        assert_eq!(of(&taken.series, "h_bucket").len() + of(&taken.series, "h_sum").len(), 0);
    });
    assert!(wait_for(LONG, || one.look(|taken| of(&taken.series, "g").len() > 2)));
    one.look(|taken| assert!(taken.histograms.is_empty() && of(&taken.series, "h_bucket").is_empty()));
}
