//! Targets by DNS (`dns_sd_configs`): the records of each name, asked for at the refresh interval. A name that
//! is known not to exist has no targets; one that can't be asked for keeps those it had.

use std::time::Instant;

use super::provider::Updates;
use super::resolver::{Record, Resolver};
use crate::config::{DnsKind, DnsSd};
use crate::sources::scrape::target::TargetGroup;

pub(super) async fn run(config: DnsSd, out: Updates) {
    loop {
        let resolver = Resolver::from_system();
        for name in &config.names {
            let started = Instant::now();
            let answer = resolver.lookup(name, config.kind).await;
            out.looked(started);
            match answer {
                Ok(records) => out.set(group(&config, name, &records)),
                Err(why) => out.failed(name, &why),
            }
        }
        tokio::time::sleep(config.refresh).await;
    }
}

fn group(config: &DnsSd, name: &str, records: &[Record]) -> TargetGroup {
    let mut targets: Vec<Vec<(String, String)>> =
        records.iter().map(|record| target(config, name, record)).collect();
    // Servers turn the order of records.
    targets.sort();
    targets.dedup();
    TargetGroup { source: name.to_owned(), targets, labels: Vec::new(), http: None }
}

fn target(config: &DnsSd, name: &str, record: &Record) -> Vec<(String, String)> {
    let (address, special) = match record {
        Record::Address(address) if address.is_ipv6() => (format!("[{address}]:{}", config.port), None),
        Record::Address(address) => (format!("{address}:{}", config.port), None),
        Record::Service { host, port } => {
            let own = ("__meta_dns_srv_record_port", port.to_string());
            (
                format!("{}:{port}", host.trim_end_matches('.')),
                Some([("__meta_dns_srv_record_target", host.clone()), own]),
            )
        }
        Record::Host(host) => {
            let label = if config.kind == DnsKind::Mx {
                "__meta_dns_mx_record_target"
            } else {
                "__meta_dns_ns_record_target"
            };
            let address = format!("{}:{}", host.trim_end_matches('.'), config.port);
            (address, Some([(label, host.clone()), ("", String::new())]))
        }
    };
    let mut labels =
        vec![("__address__".to_owned(), address), ("__meta_dns_name".to_owned(), name.to_owned())];
    let special = special.into_iter().flatten().filter(|(name, _)| !name.is_empty());
    labels.extend(special.map(|(name, value)| (name.to_owned(), value)));
    labels
}
