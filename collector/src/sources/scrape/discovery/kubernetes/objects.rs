//! The fields of objects that become labels, of all kinds in one: what a kind lacks is absent.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::key;
use crate::config::Role;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Node,
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
    Namespace,
}

impl Kind {
    pub fn of(role: Role) -> Self {
        match role {
            Role::Node => Kind::Node,
            Role::Pod => Kind::Pod,
            Role::Service => Kind::Service,
            Role::Endpoints => Kind::Endpoints,
            Role::EndpointSlice => Kind::EndpointSlice,
            Role::Ingress => Kind::Ingress,
        }
    }

    /// As labels name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Node => "node",
            Kind::Pod => "pod",
            Kind::Service => "service",
            Kind::Endpoints => "endpoints",
            Kind::EndpointSlice => "endpointslice",
            Kind::Ingress => "ingress",
            Kind::Namespace => "namespace",
        }
    }

    pub fn is_namespaced(self) -> bool {
        !matches!(self, Kind::Node | Kind::Namespace)
    }

    /// Group and plural in the paths of the API.
    pub fn path(self) -> (&'static str, &'static str) {
        match self {
            Kind::Node => ("/api/v1", "nodes"),
            Kind::Pod => ("/api/v1", "pods"),
            Kind::Service => ("/api/v1", "services"),
            Kind::Endpoints => ("/api/v1", "endpoints"),
            Kind::EndpointSlice => ("/apis/discovery.k8s.io/v1", "endpointslices"),
            Kind::Ingress => ("/apis/networking.k8s.io/v1", "ingresses"),
            Kind::Namespace => ("/api/v1", "namespaces"),
        }
    }
}

pub(super) type Map = BTreeMap<String, String>;

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Object {
    pub metadata: Metadata,
    pub spec: Spec,
    pub status: Status,
    /// Of Endpoints.
    pub subsets: Option<Vec<Subset>>,
    // Of EndpointSlices.
    pub address_type: Option<String>,
    pub endpoints: Option<Vec<Endpoint>>,
    pub ports: Option<Vec<EndpointPort>>,
    // Of the Status that a watch ends with.
    pub code: Option<u16>,
    pub message: Option<String>,
}

impl Object {
    pub fn key(&self) -> String {
        key(&self.metadata.namespace, &self.metadata.name)
    }
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub resource_version: String,
    pub labels: Option<Map>,
    pub annotations: Option<Map>,
    pub owner_references: Option<Vec<Owner>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Owner {
    pub kind: String,
    pub name: String,
    pub controller: Option<bool>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(rename = "providerID")]
    pub provider_id: String,
    pub node_name: String,
    pub containers: Vec<Container>,
    pub init_containers: Vec<Container>,
    pub ports: Vec<ServicePort>,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    pub external_name: String,
    #[serde(rename = "loadBalancerIP")]
    pub load_balancer_ip: String,
    pub ingress_class_name: Option<String>,
    pub rules: Vec<Rule>,
    pub tls: Vec<Tls>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Container {
    pub name: String,
    pub image: String,
    pub ports: Vec<ContainerPort>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ContainerPort {
    pub name: String,
    pub container_port: u16,
    pub protocol: String,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct ServicePort {
    pub name: String,
    pub port: u16,
    pub protocol: String,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Rule {
    pub host: String,
    pub http: Option<Paths>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Paths {
    pub paths: Vec<Path>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Path {
    pub path: String,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Tls {
    pub hosts: Vec<String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    pub phase: String,
    pub conditions: Option<Vec<Condition>>,
    pub container_statuses: Option<Vec<ContainerStatus>>,
    pub init_container_statuses: Option<Vec<ContainerStatus>>,
    pub addresses: Option<Vec<NodeAddress>>,
    pub daemon_endpoints: DaemonEndpoints,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct ContainerStatus {
    pub name: String,
    #[serde(rename = "containerID")]
    pub container_id: String,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct NodeAddress {
    #[serde(rename = "type")]
    pub kind: String,
    pub address: String,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct DaemonEndpoints {
    pub kubelet_endpoint: KubeletEndpoint,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct KubeletEndpoint {
    #[serde(rename = "Port")]
    pub port: u16,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Subset {
    pub addresses: Option<Vec<Address>>,
    pub not_ready_addresses: Option<Vec<Address>>,
    pub ports: Option<Vec<EndpointPort>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Address {
    pub ip: String,
    pub hostname: String,
    pub node_name: Option<String>,
    pub target_ref: Option<Reference>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Reference {
    pub kind: String,
    pub namespace: String,
    pub name: String,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct EndpointPort {
    pub name: Option<String>,
    pub port: Option<u16>,
    pub protocol: Option<String>,
    pub app_protocol: Option<String>,
}

/// Of an EndpointSlice.
#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Endpoint {
    pub addresses: Vec<String>,
    pub conditions: Conditions,
    pub hostname: Option<String>,
    pub node_name: Option<String>,
    pub zone: Option<String>,
    pub target_ref: Option<Reference>,
    pub deprecated_topology: Option<Map>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Conditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

/// A list, or a part of one.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct List {
    pub metadata: ListMetadata,
    pub items: Option<Vec<Object>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ListMetadata {
    pub resource_version: String,
    #[serde(rename = "continue")]
    pub next: Option<String>,
}

/// A line of a watch.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    #[serde(rename = "type")]
    pub kind: String,
    pub object: Object,
}
