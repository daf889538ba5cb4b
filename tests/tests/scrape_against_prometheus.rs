//! The same targets scraped by Debian's Prometheus in agent mode and by us: the same series, the same values, the same
//! ends arrive in a receiver. Besides pages that are made here, these are the awkward ones of the fixtures, and those of
//! node_exporter, of an SNMP agent by snmp_exporter, and of Prometheus itself: taken once a stage, and shown to both.
//!
//! The two never scrape at the same moment, so the pages go through stages, each of which both have seen before the
//! next begins; what is compared is the course of each series: its values, repeats left out. `COLLECTOR_SCRAPE_STAGES` says
//! how many stages there are; three hundred take some five minutes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use collector_tests::process::{Collector, Process, free_port, get, wait_for};
use collector_tests::receiver::Receiver;
use collector_tests::skip::program_or_skip;
use collector_tests::target::{Manner, Target};

const LONG: Duration = Duration::from_secs(60);
const STALE: u64 = 0x7ff0_0000_0000_0002;
/// When what is stamped by its page begins: after the start of Prometheus, which sends nothing that is older.
static STAMPS_MS: LazyLock<i64> = LazyLock::new(|| {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_millis()).expect("before the year 292,000,000") + 10_000
});
/// What takes its value from the moment, not from the page.
const OF_THE_MOMENT: &[&str] = &["scrape_duration_seconds", "scrape_series_added"];

/// A page like one that an exporter gives, awkward in places; it says itself which stage it is.
fn page(stage: usize) -> String {
    let mut page = format!(
        "# HELP stage Which page this is.\n# TYPE stage gauge\nstage {stage}\n\
         # TYPE requests_total counter\nrequests_total{{code=\"200\",path=\"/a\\\"b\\\\c\\n\"}} {}\n\
         requests_total{{code=\"500\",job=\"own\",instance=\"mine\"}} {}.5\n\
         # TYPE latency histogram\nlatency_bucket{{le=\"0.1\"}} {stage}\nlatency_bucket{{le=\"+Inf\"}} {}\n\
         latency_sum 1.25e-3\nlatency_count {}\n\
         # TYPE size summary\nsize{{quantile=\"0.5\"}} NaN\nsize_sum +Inf\nsize_count 0\n\
         empty{{a=\"\",b=\"x\"}} -0\nspaced{{a=\"b\",}}   7\nno_type 5.0229008e+07\n",
        stage * 3,
        stage,
        stage + 1,
        stage + 1,
    );
    // Series that come and go, and labels that change.
    if stage.is_multiple_of(2) {
        page += "even 1\n";
    }
    page += &format!("turns{{at=\"{}\"}} 1\n", stage % 3);
    // Times of their own, which stand still for a stage.
    let stamp = stage / 2;
    page += &format!("stamped{{at=\"own\"}} {stamp} {}\n", *STAMPS_MS + (stamp * 1000) as i64);
    page
}

/// Where the pages of a target come from.
enum Origin {
    /// What is there at that moment.
    Url(String),
    Fixture(&'static str),
}

impl Origin {
    /// The page of a stage, which it says at its end.
    fn page(&self, stage: usize) -> Manner {
        let end = format!("# TYPE stage gauge\nstage {stage}\n");
        match self {
            Origin::Url(url) => {
                let (status, page) = get(url).unwrap_or_else(|| panic!("{url} answers"));
                assert_eq!(status, 200, "{url}: {page}");
                assert!(page.lines().filter(|line| !line.starts_with('#')).count() > 4, "{url}: {page}");
                Manner::Page(page + &end)
            }
            Origin::Fixture(name) => {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/scrape").join(name);
                let page = std::fs::read_to_string(path).expect("a fixture");
                // What Prometheus 2.42 refuses and newer ones take: blanks before a series, exemplars without labels, and in
                // OpenMetrics a comma behind the last label. And times before its start, of which it sends nothing.
                // Of a series that stands on a page twice it sends both.
                let second = ["duplicate{b=\"2\",a=\"1\"} 2", "no_type 2"];
                let is_taken = |line: &&str| !line.starts_with("  ") && !second.contains(line);
                let lines: Vec<&str> = page.lines().filter(is_taken).collect();
                let page = lines.join("\n");
                match page.trim_end().strip_suffix("# EOF") {
                    Some(page) => {
                        let page = page
                            .replace(" # {} 0.054", "")
                            .replace(",}", "}")
                            .replace(" 1520879607.789", "")
                            .replace(" 1520879607", "");
                        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                        Manner::Typed(kind.to_owned(), format!("{page}{end}# EOF\n").into_bytes())
                    }
                    None => Manner::Page(format!("{page}\n{end}")),
                }
            }
        }
    }
}

/// What snmp_exporter is to ask for: the table of interfaces and the time since the start, as RFC 1213 numbers them.
const SNMP_MODULE: &str = "if_mib:
  walk: [1.3.6.1.2.1.2.2.1]
  get: [1.3.6.1.2.1.1.3.0]
  metrics:
  - {name: sysUpTime, oid: 1.3.6.1.2.1.1.3, type: gauge, help: Hundredths of a second since the start.}
  - name: ifMtu
    oid: 1.3.6.1.2.1.2.2.1.4
    type: gauge
    help: Largest packet in bytes.
    indexes: &indexes [{labelname: ifIndex, type: gauge}]
    lookups: &lookups [{labels: [ifIndex], labelname: ifDescr, oid: 1.3.6.1.2.1.2.2.1.2, type: DisplayString}]
  - {name: ifInOctets, oid: 1.3.6.1.2.1.2.2.1.10, type: counter, help: Bytes in., indexes: *indexes, lookups: *lookups}
  - {name: ifOutOctets, oid: 1.3.6.1.2.1.2.2.1.16, type: counter, help: Bytes out., indexes: *indexes, lookups: *lookups}
";

/// Exporters that run as long as the test does, and where their pages are.
fn exporters(test: &str, folder: &Path) -> (Vec<Process>, Vec<Origin>) {
    let (mut running, mut origins) = (Vec::new(), Vec::new());
    let mut start = |program: &Path, arguments: &[String]| {
        running.push(Process::start(program, arguments, &folder.join(format!("exporter-{}", running.len()))));
    };
    if let Some(program) = program_or_skip(test, &["prometheus-node-exporter"]) {
        let port = free_port();
        start(&program, &[format!("--web.listen-address=127.0.0.1:{port}")]);
        origins.push(Origin::Url(format!("http://127.0.0.1:{port}/metrics")));
    }
    if let Some(program) = program_or_skip(test, &["prometheus-snmp-exporter"])
        && let Some(agent) = program_or_skip(test, &["snmpd"])
    {
        let (port, agent_port) = (free_port(), free_port());
        let file = folder.join("snmpd.conf");
        std::fs::write(&file, "rocommunity public 127.0.0.1\n").unwrap();
        let address = format!("udp:127.0.0.1:{agent_port}");
        start(&agent, &["-f", "-C", "-c", &file.display().to_string(), "-Lo", &address].map(str::to_owned));
        let file = folder.join("snmp.yml");
        std::fs::write(&file, SNMP_MODULE).unwrap();
        let file = format!("--config.file={}", file.display());
        start(&program, &[file, format!("--web.listen-address=127.0.0.1:{port}")]);
        let walk = format!("module=if_mib&target=127.0.0.1:{agent_port}");
        origins.push(Origin::Url(format!("http://127.0.0.1:{port}/snmp?{walk}")));
    }
    (running, origins)
}

fn answers(origin: &Origin) -> bool {
    let Origin::Url(url) = origin else { return true };
    get(url).is_some_and(|(status, _)| status == 200)
}

/// The course of every series: its values in order, without repeats.
fn courses(receiver: &Receiver) -> BTreeMap<String, Vec<u64>> {
    receiver.look(|taken| {
        assert_eq!(taken.faults, Vec::<String>::new());
        let mut all = BTreeMap::new();
        for (key, points) in &taken.series {
            let name = key.split('{').next().unwrap_or_default();
            if OF_THE_MOMENT.contains(&name) || !key.contains("zone=\"z\"") {
                continue;
            }
            let mut points = points.clone();
            points.sort_by_key(|point| point.0);
            // Prometheus' protobuf leaves out what equals zero, and with it the sign of a negative one.
            let plain = |bits: u64| if f64::from_bits(bits) == 0.0 { 0 } else { bits };
            let mut values: Vec<u64> = points.iter().map(|point| plain(point.1)).collect();
            values.dedup();
            all.insert(key.clone(), values);
        }
        all
    })
}

/// Whether the newest sample of a series of the target is this one.
fn shows(receiver: &Receiver, target: &Target, name: &str, value: f64) -> bool {
    let instance = format!("instance={:?}", target.address());
    receiver.look(|taken| {
        let mut of_it = taken
            .series
            .iter()
            .filter(|(key, _)| key.split('{').next() == Some(name) && key.contains(&instance));
        of_it.any(|(_, points)| points.iter().max_by_key(|p| p.0).is_some_and(|p| p.1 == value.to_bits()))
    })
}

fn config(path: &Path, receiver: &Receiver, targets: &[&Target]) -> String {
    let addresses: Vec<String> = targets.iter().map(|target| format!("'{}'", target.address())).collect();
    let text = format!(
        "global: {{scrape_interval: 250ms, scrape_timeout: 250ms}}\n\
         remote_write: [{{url: '{}', queue_config: {{batch_send_deadline: 100ms}}}}]\n\
         scrape_configs:\n- job_name: test\n  static_configs: [{{targets: [{}], labels: {{zone: z}}}}]\n  \
         metric_relabel_configs: [{{source_labels: [code], regex: '(.)..', target_label: class, \
         replacement: '${{1}}xx'}}]\n",
        receiver.url(),
        addresses.join(", ")
    );
    std::fs::write(path, text).unwrap();
    path.display().to_string()
}

#[test]
fn what_prometheus_sends_we_send() {
    let test = "what_prometheus_sends_we_send";
    let Some(program) = program_or_skip(test, &["prometheus"]) else { return };
    let stages =
        std::env::var("COLLECTOR_SCRAPE_STAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Receiver::start(), Receiver::start());
    let (steady, dies) = (Target::page(&page(0)), Target::page(&page(0)));
    let (_exporters, mut origins) = exporters(test, folder.path());
    origins.extend(["awkward.prom", "server.prom", "server.om"].map(Origin::Fixture));
    let port = free_port();
    origins.push(Origin::Url(format!("http://127.0.0.1:{port}/metrics")));
    let others: Vec<Target> =
        origins.iter().map(|_| Target::page("# TYPE stage gauge\nstage -1\n")).collect();
    let targets: Vec<&Target> = [&steady, &dies].into_iter().chain(&others).collect();
    let file = config(&folder.path().join("theirs.yml"), &theirs, &targets);
    let arguments = [
        "--enable-feature=agent".to_owned(),
        format!("--config.file={file}"),
        format!("--storage.agent.path={}", folder.path().join("agent").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let peer = Process::start(&program, &arguments, &folder.path().join("theirs.log"));
    let file = config(&folder.path().join("ours.yml"), &ours, &targets);
    let config = format!("--config.file={file}");
    let flags = [config.as_str(), "--collector.disable-defaults", "--no-ebpf"];
    let collector = Collector::start(free_port(), folder.path(), &flags);
    let both = |target: &Target, name: &str, value: f64| {
        let is_so = || shows(&ours, target, name, value) && shows(&theirs, target, name, value);
        let logs = || format!("{}\n{}", collector.process.log(), peer.log());
        assert!(wait_for(LONG, is_so), "{name} is not {value} on both sides\n{}", logs());
    };
    assert!(wait_for(LONG, || origins.iter().all(answers)), "exporters answer");
    others.iter().for_each(|target| both(target, "stage", -1.0));
    for stage in 0..stages {
        steady.show(&page(stage));
        others.iter().zip(&origins).for_each(|(target, origin)| target.become_so(origin.page(stage)));
        if stage % 4 == 2 {
            dies.become_so(Manner::Dead);
            both(&dies, "up", 0.0);
            both(&dies, "stage", f64::from_bits(STALE));
        } else {
            dies.show(&page(stage));
            both(&dies, "stage", stage as f64);
        }
        both(&steady, "stage", stage as f64);
        others.iter().for_each(|target| both(target, "stage", stage as f64));
        // What ends with a stage has its marker before the next one brings it back.
        let ended = format!("turns of stage {}", stage % 3);
        let markers = || marked(&ours) && marked(&theirs);
        assert!(wait_for(LONG, markers), "{ended}");
    }
    let (our_stamps, mut their_stamps) = (stamps(&ours), stamps(&theirs));
    // The agent of Prometheus 2.42 sends a time again as often as the page says it.
    their_stamps.values_mut().for_each(Vec::dedup);
    assert_eq!(our_stamps.len(), 2, "{our_stamps:?}");
    assert_eq!(our_stamps, their_stamps);
    let (ours, theirs) = (courses(&ours), courses(&theirs));
    assert!(ours.len() > 500, "{} series", ours.len());
    let keys = |of: &BTreeMap<String, Vec<u64>>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&ours), keys(&theirs));
    for (key, values) in &ours {
        assert_eq!(values, &theirs[key], "{key}");
    }
}

/// When the samples are from that say so themselves.
fn stamps(receiver: &Receiver) -> BTreeMap<String, Vec<i64>> {
    receiver.look(|taken| {
        let stamped = taken.series.iter().filter(|(key, _)| key.starts_with("stamped{"));
        stamped.map(|(key, points)| (key.clone(), points.iter().map(|point| point.0).collect())).collect()
    })
}

/// Whether, of each target, at most one of the series that take turns goes on.
fn marked(receiver: &Receiver) -> bool {
    receiver.look(|taken| {
        let mut alive: BTreeMap<&str, usize> = BTreeMap::new();
        for (key, points) in taken.series.iter().filter(|(key, _)| key.starts_with("turns{")) {
            let newest = points.iter().max_by_key(|point| point.0);
            let instance = key.split("instance=").nth(1).and_then(|rest| rest.split(',').next());
            if newest.is_some_and(|point| point.1 != STALE) {
                *alive.entry(instance.unwrap_or_default()).or_default() += 1;
            }
        }
        alive.values().all(|&count| count <= 1)
    })
}
