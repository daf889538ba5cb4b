//! Bends what a person types: command line, configuration, listen addresses. It is taken or explained, and nothing
//! panics. `COLLECTOR_FUZZ_INPUTS` says how many inputs each test takes.

use std::path::Path;

use collector_tests::mutate::{Random, mutate};

const INPUTS: u64 = 3000;
/// Files that a person writes are small, and the reader of YAML takes time with the square of brackets left open.
const LONGEST: usize = 8 << 10;

/// Hands so many bent texts to `parse`, which gives what it said where it refused one.
fn each_bent(seeds: &[&str], parse: impl Fn(String) -> Option<String>) {
    let inputs = match std::env::var("COLLECTOR_FUZZ_INPUTS") {
        Ok(text) => text.parse().expect("COLLECTOR_FUZZ_INPUTS is a number"),
        Err(_) => INPUTS,
    };
    let others: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    let mut refused = 0;
    for seed in 0..inputs {
        let mut random = Random::new(seed);
        let chosen = random.pick(&others).clone();
        let mut bent = mutate(&chosen, &others, &mut random);
        bent.truncate(LONGEST);
        let bent = String::from_utf8_lossy(&bent).into_owned();
        if let Some(why) = parse(bent) {
            assert!(!why.is_empty(), "input {seed} is refused without a word");
            refused += 1;
        }
    }
    eprintln!("{inputs} inputs, {refused} of them refused");
    assert!(refused > 0, "nothing that was bent was refused");
}

#[test]
fn command_lines() {
    let seeds = [
        "--collector.disable-defaults --collector.cpu --no-collector.arp.netlink",
        "--web.listen-address=127.0.0.1:9100 --web.max-requests 40 --log.level=debug --log.format json",
        "--collector.filesystem.mount-timeout=5s --collector.netdev.device-exclude=^lo$",
        "--collector.sysctl.include=fs.file-nr:total,current,max --path.procfs /proc",
        "check collector.yaml",
        "health --web.listen-address=:9100",
    ];
    each_bent(&seeds, |text| {
        // A file of arguments would be read.
        let words = text.split(' ').filter(|word| !word.starts_with('@')).map(str::to_owned);
        collector::cli::parse(words.collect()).err()
    });
}

#[test]
fn configurations() {
    let seeds = [
        "global:\n  scrape_interval: 15s\n  external_labels:\n    cluster: a\nremote_write:\n  - url: \
         http://127.0.0.1:9090/api/v1/write\n    name: first\n    remote_timeout: 30s\n    \
         queue_config:\n      max_samples_per_send: 2000\n    basic_auth:\n      username: u\n      password: p\n",
        "remote_write:\n  - url: https://a.example/push\n    tls_config:\n      insecure_skip_verify: true\n    \
         headers:\n      X-Scope-OrgID: a\n    write_relabel_configs:\n      - source_labels: [__name__]\n        \
         regex: go_.*\n        action: drop\n",
    ];
    each_bent(&seeds, |text| {
        let parsed = collector::config::parse_config(&text, Path::new("/nowhere/collector.yaml"));
        parsed.err().map(|error| error.to_string())
    });
}
