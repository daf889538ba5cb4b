//! Containers of a Docker daemon (`docker_sd_configs`): its API over a Unix socket (reading is enough) or HTTP,
//! two requests a refresh, and one that asks for the version of the API as long as it is unknown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use hyper::header::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::group::label_name;
use super::provider::Updates;
use crate::client::Client;
use crate::config::DockerSd;
use crate::sources::scrape::target::TargetGroup;

/// Bytes of an answer.
const MAX_ANSWER: usize = 64 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);
/// The newest version of the API that this was written for, and what an old daemon is asked with.
const NEWEST: (u32, u32) = (1, 45);
const OLDEST: (u32, u32) = (1, 24);
/// Networks that containers share, one behind another.
const MAX_SHARED: usize = 16;

pub(super) struct Docker {
    config: DockerSd,
    client: Client,
    /// Scheme and host.
    base: String,
    version: Option<(u32, u32)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    names: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    ports: Option<Vec<Port>>,
    host_config: Option<HostConfig>,
    network_settings: Option<NetworkSettings>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Port {
    #[serde(rename = "IP")]
    ip: Option<String>,
    private_port: u16,
    public_port: Option<u16>,
    #[serde(rename = "Type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    network_mode: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    networks: Option<BTreeMap<String, Option<Attachment>>>,
}

#[derive(Deserialize)]
struct Attachment {
    #[serde(rename = "NetworkID")]
    network: Option<String>,
    #[serde(rename = "IPAddress")]
    address: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    id: String,
    name: Option<String>,
    scope: Option<String>,
    internal: Option<bool>,
    ingress: Option<bool>,
    labels: Option<BTreeMap<String, String>>,
}

impl Container {
    fn mode(&self) -> &str {
        self.host_config.as_ref().and_then(|config| config.network_mode.as_deref()).unwrap_or_default()
    }

    fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        let networks = self.network_settings.iter().filter_map(|settings| settings.networks.as_ref());
        networks.flat_map(|networks| networks.values().flatten())
    }
}

impl Docker {
    pub(super) fn new(config: &DockerSd) -> Result<Self, String> {
        let (client, base) = match config.host.strip_prefix("unix://") {
            Some(path) => (Client::unix(&config.http, Path::new(path))?, "http://docker".to_owned()),
            None => {
                let base = config.host.trim_end_matches('/').replacen("tcp://", "http://", 1);
                (Client::new(&config.http)?, base)
            }
        };
        Ok(Docker { config: config.clone(), client, base, version: None })
    }

    pub(super) async fn run(mut self, out: Updates) {
        loop {
            let started = Instant::now();
            let looked = self.look().await;
            out.looked(started);
            match looked {
                Ok(group) => out.replace_all([group]),
                Err(why) => {
                    // It may be another daemon that answers next.
                    self.version = None;
                    out.failed(&self.config.host, &why);
                }
            }
            tokio::time::sleep(self.config.refresh).await;
        }
    }

    async fn look(&mut self) -> Result<TargetGroup, String> {
        let (major, minor) = match self.version {
            Some(version) => version,
            None => *self.version.insert(self.negotiate().await?),
        };
        let mut list = format!("/v{major}.{minor}/containers/json");
        let mut filters: BTreeMap<&str, BTreeMap<&str, bool>> = BTreeMap::new();
        for (name, values) in &self.config.filters {
            filters.entry(name).or_default().extend(values.iter().map(|value| (value.as_str(), true)));
        }
        filters.retain(|_, values| !values.is_empty());
        if !filters.is_empty() {
            let text = serde_json::to_string(&filters).map_err(|error| error.to_string())?;
            list.push_str("?filters=");
            list.extend(form_urlencoded::byte_serialize(text.as_bytes()));
        }
        let containers: Vec<Container> = self.get(&list).await?;
        let networks: Vec<Network> = self.get(&format!("/v{major}.{minor}/networks")).await?;
        let networks =
            networks.iter().map(|network| (network.id.as_str(), network_labels(network))).collect();
        Ok(targets(&self.config, &containers, &networks))
    }

    /// The newest version that both know. Daemons older than the question answer it with nothing.
    async fn negotiate(&self) -> Result<(u32, u32), String> {
        let answer =
            self.client.get(&format!("{}/_ping", self.base), HeaderMap::new(), 4096, TIMEOUT).await?;
        if !answer.status.is_success() {
            return Err(format!("/_ping: server returned HTTP status {}", answer.status));
        }
        let theirs = answer.headers.get("api-version").and_then(|value| value.to_str().ok());
        let parsed = theirs.and_then(|text| text.split_once('.'));
        let parsed = parsed.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        Ok(parsed.unwrap_or(OLDEST).min(NEWEST))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let url = format!("{}{path}", self.base);
        let answer = self.client.get(&url, HeaderMap::new(), MAX_ANSWER, TIMEOUT).await?;
        if answer.status != 200 {
            return Err(format!("{path}: {}", answer.refusal()));
        }
        serde_json::from_slice(&answer.body).map_err(|error| format!("{path}: {error}"))
    }
}

type Labels = Vec<(String, String)>;

fn network_labels(network: &Network) -> Labels {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut labels = vec![
        ("__meta_docker_network_id".to_owned(), network.id.clone()),
        ("__meta_docker_network_name".to_owned(), text(&network.name)),
        ("__meta_docker_network_scope".to_owned(), text(&network.scope)),
        ("__meta_docker_network_internal".to_owned(), network.internal.unwrap_or(false).to_string()),
        ("__meta_docker_network_ingress".to_owned(), network.ingress.unwrap_or(false).to_string()),
    ];
    for (name, value) in network.labels.iter().flatten() {
        labels.push((format!("__meta_docker_network_label_{}", label_name(name)), value.clone()));
    }
    labels
}

/// The networks of a container, or those of the one whose network it shares.
fn attachments<'c>(container: &'c Container, all: &BTreeMap<&str, &'c Container>) -> Vec<&'c Attachment> {
    let mut at = container;
    for _ in 0..MAX_SHARED {
        let found: Vec<_> = at.attachments().collect();
        if !found.is_empty() {
            return found;
        }
        let Some(next) = at.mode().strip_prefix("container:").and_then(|id| all.get(id)) else { break };
        at = next;
    }
    Vec::new()
}

fn targets(config: &DockerSd, containers: &[Container], networks: &BTreeMap<&str, Labels>) -> TargetGroup {
    let all: BTreeMap<&str, &Container> = containers.iter().map(|c| (c.id.as_str(), c)).collect();
    let mut targets = Vec::new();
    for container in containers {
        let Some(name) = container.names.as_ref().and_then(|names| names.first()) else { continue };
        let mut own = vec![
            ("__meta_docker_container_id".to_owned(), container.id.clone()),
            ("__meta_docker_container_name".to_owned(), name.clone()),
            ("__meta_docker_container_network_mode".to_owned(), container.mode().to_owned()),
        ];
        for (name, value) in container.labels.iter().flatten() {
            own.push((format!("__meta_docker_container_label_{}", label_name(name)), value.clone()));
        }
        // Networks come sorted by name.
        let most = if config.match_first_network { 1 } else { usize::MAX };
        for attachment in attachments(container, &all).into_iter().take(most) {
            let ip = attachment.address.as_deref().unwrap_or_default();
            let mut common = own.clone();
            common.push(("__meta_docker_network_ip".to_owned(), ip.to_owned()));
            let network = attachment.network.as_deref().and_then(|id| networks.get(id));
            common.extend(network.into_iter().flatten().cloned());
            add_ports(config, container, ip, &common, &mut targets);
        }
    }
    targets.sort();
    targets.dedup();
    TargetGroup { source: "Docker".to_owned(), targets, labels: Vec::new(), http: None }
}

/// A target for each TCP port, or one where there is none.
fn add_ports(config: &DockerSd, container: &Container, ip: &str, common: &Labels, targets: &mut Vec<Labels>) {
    let before = targets.len();
    let tcp = container.ports.iter().flatten().filter(|port| port.kind.as_deref() == Some("tcp"));
    for port in tcp {
        let mut labels = common.clone();
        labels.push(("__address__".to_owned(), join(ip, port.private_port)));
        labels.push(("__meta_docker_port_private".to_owned(), port.private_port.to_string()));
        if let Some(public) = port.public_port.filter(|public| *public > 0) {
            labels.push(("__meta_docker_port_public".to_owned(), public.to_string()));
            labels.push(("__meta_docker_port_public_ip".to_owned(), port.ip.clone().unwrap_or_default()));
        }
        targets.push(labels);
    }
    if targets.len() == before {
        let address = match container.mode() {
            "host" => config.host_networking_host.clone(),
            _ => join(ip, config.port),
        };
        let mut labels = common.clone();
        labels.push(("__address__".to_owned(), address));
        targets.push(labels);
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub(super) fn join(host: &str, port: impl std::fmt::Display) -> String {
    let mut address = String::new();
    let _ = if host.contains(':') {
        write!(address, "[{host}]:{port}")
    } else {
        write!(address, "{host}:{port}")
    };
    address
}

#[cfg(test)]
#[path = "docker_tests.rs"]
mod tests;
