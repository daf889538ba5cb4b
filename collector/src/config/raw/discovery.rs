//! The ways of discovery as typed.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::http::with_http;
use crate::config::duration::Span;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FileSd {
    pub files: Option<Vec<String>>,
    pub refresh_interval: Option<Span>,
}

with_http! {
    pub(in crate::config) struct HttpSd {
        url: Option<String>,
        refresh_interval: Option<Span>,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct DnsSd {
    pub names: Option<Vec<String>>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub port: Option<u16>,
    pub refresh_interval: Option<Span>,
}

/// A filter of an API: `name` and the values of which one must hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Filter {
    pub name: String,
    pub values: Option<Vec<String>>,
}

with_http! {
    pub(in crate::config) struct DockerSd {
        host: Option<String>,
        filters: Option<Vec<Filter>>,
        port: Option<u16>,
        host_networking_host: Option<String>,
        match_first_network: Option<bool>,
        refresh_interval: Option<Span>,
    }
}

with_http! {
    pub(in crate::config) struct ConsulSd {
        server: Option<String>,
        path_prefix: Option<String>,
        token: Option<String>,
        datacenter: Option<String>,
        namespace: Option<String>,
        partition: Option<String>,
        tag_separator: Option<String>,
        scheme: Option<String>,
        username: Option<String>,
        password: Option<String>,
        allow_stale: Option<bool>,
        services: Option<Vec<String>>,
        tags: Option<Vec<String>>,
        node_meta: Option<BTreeMap<String, String>>,
        filter: Option<String>,
        refresh_interval: Option<Span>,
    }
}

with_http! {
    pub(in crate::config) struct KubernetesSd {
        api_server: Option<String>,
        role: Option<String>,
        kubeconfig_file: Option<std::path::PathBuf>,
        namespaces: Option<Namespaces>,
        selectors: Option<Vec<Selector>>,
        attach_metadata: Option<AttachMetadata>,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Namespaces {
    pub own_namespace: Option<bool>,
    pub names: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Selector {
    pub role: Option<String>,
    pub label: Option<String>,
    pub field: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct AttachMetadata {
    pub node: Option<bool>,
    pub namespace: Option<bool>,
}
