//! Services of Consul (`consul_sd_configs`): one blocking query for the list of services, and one for each
//! service that is wanted, which Consul answers when something changed or after two minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::docker::join;
use super::group::label_name;
use super::provider::Updates;
use crate::client::{Client, read_secret};
use crate::config::ConsulSd;
use crate::sources::scrape::target::TargetGroup;

/// How long Consul may hold a query back.
const WAIT: Duration = Duration::from_secs(120);
/// Consul adds up to a sixteenth to that, and the network something of its own.
const TIMEOUT: Duration = Duration::from_secs(140);
const RETRY: Duration = Duration::from_secs(15);
/// Bytes of an answer.
const MAX_ANSWER: usize = 64 << 20;
/// Services watched at once; more are left out, said in the log.
const MAX_SERVICES: usize = 10_000;

pub(super) fn client(config: &ConsulSd) -> Result<Client, String> {
    Client::new(&config.http)
}

/// What asks Consul.
struct Consul {
    config: ConsulSd,
    client: Client,
}

/// A task that ends with its owner.
struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Node,
    service: Service,
    checks: Option<Vec<Check>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    node: String,
    address: String,
    datacenter: Option<String>,
    partition: Option<String>,
    meta: Option<BTreeMap<String, String>>,
    tagged_addresses: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    address: Option<String>,
    port: i64,
    tags: Option<Vec<String>>,
    meta: Option<BTreeMap<String, String>>,
    namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(rename = "CheckID")]
    id: Option<String>,
    status: Option<String>,
}

/// What the agent says of itself.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Agent {
    config: AgentConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AgentConfig {
    datacenter: String,
}

pub(super) async fn run(config: ConsulSd, client: Client, out: Updates) {
    let consul = Arc::new(Consul { config, client });
    let datacenter = loop {
        match consul.datacenter().await {
            Ok(datacenter) => break datacenter,
            Err(why) => out.failed(&consul.config.url, &why),
        }
        tokio::time::sleep(RETRY).await;
    };
    let mut watched: BTreeMap<String, Watch> = BTreeMap::new();
    let watch = |name: &str| {
        Watch(tokio::spawn(watch_service(consul.clone(), name.to_owned(), datacenter.clone(), out.clone())))
    };
    // Names alone need no list.
    let plain = &consul.config;
    if !plain.services.is_empty()
        && plain.tags.is_empty()
        && plain.node_meta.is_empty()
        && plain.filter.is_none()
    {
        for name in &plain.services {
            watched.insert(name.clone(), watch(name));
        }
        return std::future::pending().await;
    }
    let mut index = 0;
    loop {
        let next = Instant::now() + consul.config.refresh;
        match consul.services(&mut index).await {
            Ok(Some(services)) => {
                if services.len() > MAX_SERVICES {
                    log::error!(url = consul.config.url.as_str(); "more than {MAX_SERVICES} services; the rest is left out");
                }
                let wanted: BTreeSet<String> = services.into_iter().take(MAX_SERVICES).collect();
                watched.retain(|name, _| {
                    let stays = wanted.contains(name);
                    if !stays {
                        out.set(TargetGroup { source: name.clone(), ..TargetGroup::default() });
                    }
                    stays
                });
                for name in wanted {
                    watched.entry(name).or_insert_with_key(|name| watch(name));
                }
                if watched.is_empty() {
                    out.replace_all([]);
                }
            }
            Ok(None) => {}
            Err(why) => {
                out.failed(&consul.config.url, &why);
                tokio::time::sleep(RETRY).await;
            }
        }
        tokio::time::sleep_until(next).await;
    }
}

async fn watch_service(consul: Arc<Consul>, name: String, datacenter: String, out: Updates) {
    let mut index = 0;
    loop {
        let next = Instant::now() + consul.config.refresh;
        match consul.service(&name, &mut index).await {
            Ok(Some(entries)) => out.set(group(&consul.config, &name, &datacenter, &entries)),
            Ok(None) => {}
            Err(why) => {
                out.failed(&name, &why);
                tokio::time::sleep(RETRY).await;
            }
        }
        tokio::time::sleep_until(next).await;
    }
}

impl Consul {
    /// The datacentre that services are said to be in.
    async fn datacenter(&self) -> Result<String, String> {
        if let Some(given) = &self.config.datacenter {
            return Ok(given.clone());
        }
        let (agent, _): (Agent, _) = self.get("/v1/agent/self", &[]).await?;
        Ok(agent.config.datacenter)
    }

    /// The services that are wanted; `None` when nothing changed.
    async fn services(&self, index: &mut u64) -> Result<Option<Vec<String>>, String> {
        let mut query = self.blocking(*index);
        query.extend(self.config.filter.iter().map(|filter| ("filter", filter.clone())));
        let (services, now): (BTreeMap<String, Option<Vec<String>>>, u64) =
            self.get("/v1/catalog/services", &query).await?;
        if !moved(index, now) {
            return Ok(None);
        }
        let names = &self.config.services;
        let wanted = |name: &String, tags: &[String]| {
            (names.is_empty() || names.contains(name))
                && self.config.tags.iter().all(|tag| tags.contains(tag))
        };
        let named =
            services.into_iter().filter(|(name, tags)| wanted(name, tags.as_deref().unwrap_or_default()));
        Ok(Some(named.map(|(name, _)| name).collect()))
    }

    async fn service(&self, name: &str, index: &mut u64) -> Result<Option<Vec<Entry>>, String> {
        let mut query = self.blocking(*index);
        query.extend(self.config.tags.iter().map(|tag| ("tag", tag.clone())));
        let name: String =
            form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20");
        let (entries, now) = self.get(&format!("/v1/health/service/{name}"), &query).await?;
        Ok(moved(index, now).then_some(entries))
    }

    /// Parameters of a query that is held back until the index moves.
    fn blocking(&self, index: u64) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        if index > 0 {
            query.push(("index", index.to_string()));
            query.push(("wait", format!("{}ms", WAIT.as_millis())));
        }
        if self.config.allow_stale {
            query.push(("stale", String::new()));
        }
        query.extend(
            self.config.node_meta.iter().map(|(name, value)| ("node-meta", format!("{name}:{value}"))),
        );
        query
    }

    fn url(&self, path: &str, query: &[(&str, String)]) -> String {
        let config = &self.config;
        let mut parameters = form_urlencoded::Serializer::new(String::new());
        let places =
            [("dc", &config.datacenter), ("ns", &config.namespace), ("partition", &config.partition)];
        for (name, value) in places {
            if let Some(value) = value {
                parameters.append_pair(name, value);
            }
        }
        parameters.extend_pairs(query);
        format!("{}{path}?{}", config.url, parameters.finish())
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<(T, u64), String> {
        let url = self.url(path, query);
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.config.token {
            let mut value =
                HeaderValue::from_str(&read_secret(token)?).map_err(|error| format!("token: {error}"))?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static("x-consul-token"), value);
        }
        let answer = self.client.get(&url, headers, MAX_ANSWER, TIMEOUT).await?;
        if answer.status != 200 {
            return Err(format!("{path}: {}", answer.refusal()));
        }
        let index = answer.headers.get("x-consul-index").and_then(|value| value.to_str().ok()?.parse().ok());
        let value = serde_json::from_slice(&answer.body).map_err(|error| format!("{path}: {error}"))?;
        Ok((value, index.unwrap_or(0)))
    }
}

/// Takes the new index; `false` where it is the one that was known. One that went back begins anew, as Consul
/// asks of who watches.
fn moved(index: &mut u64, now: u64) -> bool {
    if now == *index && now != 0 {
        return false;
    }
    *index = if now < *index { 0 } else { now };
    true
}

/// `critical` before `warning` before `passing`; what is in maintenance is that.
fn health(checks: &[Check]) -> &'static str {
    let is = |status: &str| checks.iter().any(|check| check.status.as_deref() == Some(status));
    let maintained = checks
        .iter()
        .filter_map(|check| check.id.as_deref())
        .any(|id| id == "_node_maintenance" || id.starts_with("_service_maintenance:"));
    match () {
        () if maintained => "maintenance",
        () if is("critical") => "critical",
        () if is("warning") => "warning",
        () => "passing",
    }
}

fn group(config: &ConsulSd, name: &str, datacenter: &str, entries: &[Entry]) -> TargetGroup {
    let mut targets: Vec<_> = entries.iter().map(|entry| target(config, datacenter, entry)).collect();
    targets.sort();
    TargetGroup {
        source: name.to_owned(),
        targets,
        labels: vec![("__meta_consul_service".to_owned(), name.to_owned())],
        http: None,
    }
}

fn target(config: &ConsulSd, datacenter: &str, entry: &Entry) -> Vec<(String, String)> {
    let Entry { node, service, .. } = entry;
    let separator = &config.tag_separator;
    let tags = service.tags.as_deref().unwrap_or_default().join(separator);
    let own = service.address.as_deref().unwrap_or_default();
    let address = if own.is_empty() { &node.address } else { own };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut labels: Vec<(String, String)> = [
        ("__address__", join(address, service.port)),
        ("__meta_consul_address", node.address.clone()),
        ("__meta_consul_dc", node.datacenter.clone().unwrap_or_else(|| datacenter.to_owned())),
        ("__meta_consul_health", health(entry.checks.as_deref().unwrap_or_default()).to_owned()),
        ("__meta_consul_namespace", text(&service.namespace)),
        ("__meta_consul_node", node.node.clone()),
        ("__meta_consul_partition", text(&node.partition)),
        ("__meta_consul_service_address", own.to_owned()),
        ("__meta_consul_service_id", service.id.clone()),
        ("__meta_consul_service_port", service.port.to_string()),
        // Separators all around, so that an expression need not care where a tag stands.
        ("__meta_consul_tags", format!("{separator}{tags}{separator}")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for (prefix, map) in [
        ("metadata", &node.meta),
        ("service_metadata", &service.meta),
        ("tagged_address", &node.tagged_addresses),
    ] {
        let more = map.iter().flatten();
        labels.extend(
            more.map(|(name, value)| (format!("__meta_consul_{prefix}_{}", label_name(name)), value.clone())),
        );
    }
    labels
}
