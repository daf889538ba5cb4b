//! The ways of discovery: what `*_sd_configs` come to, by the rules of Prometheus.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::duration::Span;
use super::fault::{Fault, Resolved, each, fault, fault_at};
use super::http::resolve_http;
use super::jobs::some_of;
use super::prom_scraper::PromScraper;
use super::raw;
use super::resolved::{Authorization, Secret, TlsSettings, check_url};
use super::scrape::{HttpSettings, Proxy};

/// Sooner than this nothing is looked for again.
const MIN_REFRESH: Duration = Duration::from_millis(100);

/// One entry of an `*_sd_configs` list. Equal ones need one provider.
#[derive(Clone, Debug, PartialEq)]
pub enum ProviderConfig {
    File(FileSd),
    Http(HttpSd),
    Dns(DnsSd),
    Docker(DockerSd),
    Consul(ConsulSd),
    Kubernetes(KubernetesSd),
    PromScraper(PromScraper),
    /// What others post. The timeout is that of the job; a target that is scraped more often has its interval for one.
    Posted {
        timeout: Duration,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct FileSd {
    /// Globs.
    pub files: Vec<PathBuf>,
    pub refresh: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpSd {
    pub url: String,
    pub refresh: Duration,
    pub http: HttpSettings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsKind {
    A,
    Aaaa,
    Srv,
    Mx,
    Ns,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DnsSd {
    pub names: Vec<String>,
    pub kind: DnsKind,
    pub port: u16,
    pub refresh: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DockerSd {
    /// `unix:///run/docker.sock`, `tcp://`, `http://` or `https://`.
    pub host: String,
    pub filters: Vec<(String, Vec<String>)>,
    /// Of containers without exposed ports.
    pub port: u16,
    pub host_networking_host: String,
    pub match_first_network: bool,
    pub refresh: Duration,
    pub http: HttpSettings,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ConsulSd {
    /// With scheme and prefix.
    pub url: String,
    pub token: Option<Secret>,
    pub datacenter: Option<String>,
    pub namespace: Option<String>,
    pub partition: Option<String>,
    pub tag_separator: String,
    pub allow_stale: bool,
    /// Empty for all.
    pub services: Vec<String>,
    pub tags: Vec<String>,
    pub node_meta: Vec<(String, String)>,
    pub filter: Option<String>,
    pub refresh: Duration,
    pub http: HttpSettings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Node,
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
}

const ROLES: [(&str, Role); 6] = [
    ("node", Role::Node),
    ("pod", Role::Pod),
    ("service", Role::Service),
    ("endpoints", Role::Endpoints),
    ("endpointslice", Role::EndpointSlice),
    ("ingress", Role::Ingress),
];

impl Role {
    pub fn name(self) -> &'static str {
        ROLES.iter().find(|(_, role)| *role == self).map_or("", |(name, _)| name)
    }

    /// Kinds of objects that the role reads.
    pub fn reads(self) -> &'static [Role] {
        match self {
            Role::Node => &[Role::Node],
            Role::Pod => &[Role::Pod],
            Role::Service => &[Role::Service],
            Role::Endpoints => &[Role::Endpoints, Role::Service, Role::Pod],
            Role::EndpointSlice => &[Role::EndpointSlice, Role::Service, Role::Pod],
            Role::Ingress => &[Role::Ingress],
        }
    }
}

/// Where the API of Kubernetes is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KubernetesApi {
    Server(String),
    Kubeconfig(PathBuf),
    /// The service account of the pod that this program runs in.
    InCluster,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    pub role: Role,
    pub label: String,
    pub field: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KubernetesSd {
    pub api: KubernetesApi,
    pub role: Role,
    pub http: HttpSettings,
    pub own_namespace: bool,
    /// Empty for all.
    pub namespaces: Vec<String>,
    pub selectors: Vec<Selector>,
    pub attach_node: bool,
    pub attach_namespace: bool,
}

/// Takes the lists out of a job.
pub(super) fn resolve_providers(raw: &mut raw::ScrapeConfig, folder: &Path) -> Resolved<Vec<ProviderConfig>> {
    let mut providers = Vec::new();
    providers.extend(each("file_sd_configs", raw.file_sd_configs.take(), |raw| resolve_file(raw, folder))?);
    providers.extend(each("http_sd_configs", raw.http_sd_configs.take(), |raw| resolve_url(raw, folder))?);
    providers.extend(each("dns_sd_configs", raw.dns_sd_configs.take(), resolve_dns)?);
    providers
        .extend(each("docker_sd_configs", raw.docker_sd_configs.take(), |raw| resolve_docker(raw, folder))?);
    providers
        .extend(each("consul_sd_configs", raw.consul_sd_configs.take(), |raw| resolve_consul(raw, folder))?);
    providers.extend(each("kubernetes_sd_configs", raw.kubernetes_sd_configs.take(), |raw| {
        resolve_kubernetes(raw, folder)
    })?);
    Ok(providers)
}

fn refresh(typed: Option<Span>, default: u64) -> Resolved<Duration> {
    match typed.map_or(Duration::from_secs(default), |span| span.0) {
        short if short < MIN_REFRESH => {
            fault_at("refresh_interval", format!("must be at least {MIN_REFRESH:?}"))
        }
        span => Ok(span),
    }
}

fn resolve_file(raw: raw::FileSd, folder: &Path) -> Resolved<ProviderConfig> {
    let files = some_of("files", raw.files)?;
    let is_right = |file: &String| {
        let ending =
            [".json", ".yml", ".yaml", ".JSON", ".YML", ".YAML"].iter().any(|end| file.ends_with(end));
        ending && file.split_once('*').is_none_or(|(_, after)| !after.contains('/'))
    };
    if let Some(bad) = files.iter().find(|file| !is_right(file)) {
        let why =
            format!("{bad:?} must end in .json, .yml or .yaml, and may have a * in its last part alone");
        return fault_at("files", why);
    }
    let files = files.iter().map(|file| folder.join(file)).collect();
    Ok(ProviderConfig::File(FileSd { files, refresh: refresh(raw.refresh_interval, 300)? }))
}

fn resolve_url(mut raw: raw::HttpSd, folder: &Path) -> Resolved<ProviderConfig> {
    let Some(url) = raw.url.take() else { return fault_at("url", "must be given") };
    check_url("url", &url)?;
    let refresh = refresh(raw.refresh_interval, 60)?;
    Ok(ProviderConfig::Http(HttpSd { url, refresh, http: resolve_http(raw.take_http(), folder)? }))
}

fn resolve_dns(raw: raw::DnsSd) -> Resolved<ProviderConfig> {
    let names = some_of("names", raw.names)?;
    let kind = match raw.kind.as_deref().unwrap_or("SRV").to_uppercase().as_str() {
        "A" => DnsKind::A,
        "AAAA" => DnsKind::Aaaa,
        "SRV" => DnsKind::Srv,
        "MX" => DnsKind::Mx,
        "NS" => DnsKind::Ns,
        other => return fault_at("type", format!("{other:?} is none of A, AAAA, MX, NS, SRV")),
    };
    let port = raw.port.unwrap_or(0);
    if kind != DnsKind::Srv && port == 0 {
        return fault_at("port", "must be given for every type but SRV");
    }
    Ok(ProviderConfig::Dns(DnsSd { names, kind, port, refresh: refresh(raw.refresh_interval, 30)? }))
}

fn resolve_docker(mut raw: raw::DockerSd, folder: &Path) -> Resolved<ProviderConfig> {
    let Some(host) = raw.host.take().filter(|host| !host.is_empty()) else {
        return fault_at("host", "must be given, such as unix:///var/run/docker.sock");
    };
    let known = ["unix://", "tcp://", "http://", "https://"].iter().any(|scheme| host.starts_with(scheme));
    if !known {
        return fault_at("host", format!("{host:?} must begin with unix://, tcp://, http:// or https://"));
    }
    let filters = raw.filters.take().unwrap_or_default();
    Ok(ProviderConfig::Docker(DockerSd {
        host,
        filters: filters.into_iter().map(|filter| (filter.name, filter.values.unwrap_or_default())).collect(),
        port: raw.port.unwrap_or(80),
        host_networking_host: raw.host_networking_host.take().unwrap_or_else(|| "localhost".to_owned()),
        match_first_network: raw.match_first_network.unwrap_or(true),
        refresh: refresh(raw.refresh_interval, 60)?,
        http: resolve_http(raw.take_http(), folder)?,
    }))
}

fn resolve_consul(mut raw: raw::ConsulSd, folder: &Path) -> Resolved<ProviderConfig> {
    let mut http = resolve_http(raw.take_http(), folder)?;
    let server = raw.server.unwrap_or_else(|| "localhost:8500".to_owned());
    if server.trim().is_empty() {
        return fault_at("server", "must be given, such as localhost:8500");
    }
    let scheme = raw.scheme.as_deref().unwrap_or("http");
    let prefix = raw.path_prefix.as_deref().unwrap_or_default().trim_matches('/');
    let url = if server.contains("://") { server } else { format!("{scheme}://{server}") };
    let url = if prefix.is_empty() { url } else { format!("{url}/{prefix}") };
    check_url("server", &url)?;
    if raw.username.is_some() || raw.password.is_some() {
        if http.authorization.is_some() {
            return fault("at most one of username, basic_auth and authorization may be given");
        }
        let text = |text: Option<String>| Secret::Inline(text.unwrap_or_default());
        http.authorization =
            Some(Authorization::Basic { username: text(raw.username), password: text(raw.password) });
    }
    if raw.token.is_some() && (http.authorization.is_some() || http.oauth2.is_some()) {
        return fault_at("token", "may not be given beside basic_auth, authorization or oauth2");
    }
    Ok(ProviderConfig::Consul(ConsulSd {
        url,
        token: raw.token.map(Secret::Inline),
        datacenter: raw.datacenter.filter(|text| !text.is_empty()),
        namespace: raw.namespace.filter(|text| !text.is_empty()),
        partition: raw.partition.filter(|text| !text.is_empty()),
        tag_separator: raw.tag_separator.unwrap_or_else(|| ",".to_owned()),
        allow_stale: raw.allow_stale.unwrap_or(true),
        services: raw.services.unwrap_or_default(),
        tags: raw.tags.unwrap_or_default(),
        node_meta: raw.node_meta.unwrap_or_default().into_iter().collect(),
        filter: raw.filter.filter(|text| !text.is_empty()),
        refresh: refresh(raw.refresh_interval, 30)?,
        http,
    }))
}

fn resolve_role(key: &str, typed: Option<&str>) -> Resolved<Role> {
    let known = ROLES.iter().find(|(name, _)| Some(*name) == typed).map(|(_, role)| *role);
    known.ok_or_else(|| {
        let names = ROLES.map(|(name, _)| name).join(", ");
        Fault::new(key, format!("must be one of {names}; it is {}", typed.unwrap_or("missing")))
    })
}

fn resolve_kubernetes(mut raw: raw::KubernetesSd, folder: &Path) -> Resolved<ProviderConfig> {
    let http = resolve_http(raw.take_http(), folder)?;
    let role = resolve_role("role", raw.role.as_deref())?;
    let custom = http.authorization.is_some()
        || http.oauth2.is_some()
        || http.tls != TlsSettings::default()
        || http.proxy != Proxy::None;
    let server = raw.api_server.filter(|url| !url.is_empty());
    let api = match (server, raw.kubeconfig_file) {
        (Some(_), Some(_)) => return fault_at("kubeconfig_file", "may not be given beside api_server"),
        (None, Some(_)) if custom => {
            return fault_at(
                "kubeconfig_file",
                "says itself how to connect: remove the keys of HTTP beside it",
            );
        }
        (Some(url), None) => {
            check_url("api_server", &url)?;
            KubernetesApi::Server(url.trim_end_matches('/').to_owned())
        }
        (None, Some(file)) => KubernetesApi::Kubeconfig(folder.join(file)),
        (None, None) if custom => {
            return fault_at("api_server", "must be given where the connection is described");
        }
        (None, None) => KubernetesApi::InCluster,
    };
    let spaces = raw.namespaces.unwrap_or(raw::Namespaces { own_namespace: None, names: None });
    let own_namespace = spaces.own_namespace.unwrap_or(false);
    if own_namespace && api != KubernetesApi::InCluster {
        return fault_at("namespaces.own_namespace", "is known only inside of a cluster: name it in `names`");
    }
    let attach = raw.attach_metadata.unwrap_or(raw::AttachMetadata { node: None, namespace: None });
    Ok(ProviderConfig::Kubernetes(KubernetesSd {
        api,
        role,
        http,
        own_namespace,
        namespaces: spaces.names.unwrap_or_default(),
        selectors: resolve_selectors(raw.selectors, role)?,
        attach_node: attach.node.unwrap_or(false),
        attach_namespace: attach.namespace.unwrap_or(false),
    }))
}

fn resolve_selectors(raw: Option<Vec<raw::Selector>>, role: Role) -> Resolved<Vec<Selector>> {
    let mut seen = Vec::new();
    each("selectors", raw, |selector| {
        let of = resolve_role("role", selector.role.as_deref())?;
        if !role.reads().contains(&of) {
            let known = role.reads().iter().map(|role| role.name()).collect::<Vec<_>>().join(", ");
            let why = format!("the role {} reads {known} alone", role.name());
            return fault_at("role", why);
        }
        if seen.contains(&of) {
            return fault_at("role", format!("a second selector of {}: join them by a comma", of.name()));
        }
        seen.push(of);
        let (label, field) = (selector.label.unwrap_or_default(), selector.field.unwrap_or_default());
        Ok(Selector { role: of, label, field })
    })
}
