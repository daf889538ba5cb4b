//! From objects to groups of targets: labels and addresses as Prometheus names them.

use super::objects::{
    Container, ContainerPort, Endpoint, EndpointPort, Kind, Map, Metadata, Object, Reference,
};
use super::{Store, key};
use crate::config::{KubernetesSd, Role};
use crate::sources::scrape::discovery::docker::join;
use crate::sources::scrape::discovery::group::label_name;
use crate::sources::scrape::target::TargetGroup;

const META: &str = "__meta_kubernetes_";
/// Where a node is reached, the best first.
const NODE_ADDRESSES: [&str; 6] =
    ["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"];

/// Labels under way. The first of a name counts in what is made of a group.
#[derive(Clone, Default)]
struct Labels(Vec<(String, String)>);

impl Labels {
    fn plain(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_owned(), value.into()));
    }

    fn add(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((format!("{META}{name}"), value.into()));
    }

    fn add_some(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(name, value.to_string());
        }
    }

    /// `<prefix>_<name>` and `<prefix>present_<name>` for each.
    fn add_map(&mut self, prefix: &str, map: Option<&Map>) {
        for (name, value) in map.into_iter().flatten() {
            let name = label_name(name);
            self.add(&format!("{prefix}_{name}"), value.as_str());
            self.add(&format!("{prefix}present_{name}"), "true");
        }
    }

    fn add_metadata(&mut self, kind: Kind, metadata: &Metadata) {
        let kind = kind.name();
        self.add(&format!("{kind}_name"), metadata.name.as_str());
        self.add_map(&format!("{kind}_label"), metadata.labels.as_ref());
        self.add_map(&format!("{kind}_annotation"), metadata.annotations.as_ref());
    }
}

struct Builder<'a> {
    config: &'a KubernetesSd,
    store: &'a Store,
}

/// The groups of all objects of the role.
pub(super) fn groups(config: &KubernetesSd, store: &Store) -> Vec<TargetGroup> {
    let builder = Builder { config, store };
    let kind = Kind::of(config.role);
    store.all(kind).map(|object| builder.group(kind, object)).collect()
}

impl Builder<'_> {
    fn group(&self, kind: Kind, object: &Object) -> TargetGroup {
        let mut common = Labels::default();
        if kind.is_namespaced() {
            common.add("namespace", object.metadata.namespace.as_str());
            if self.config.attach_namespace {
                self.add_namespace(&mut common, &object.metadata.namespace);
            }
        }
        let targets = match self.config.role {
            Role::Node => node(object, &mut common),
            Role::Pod => self.pod(object, &mut common),
            Role::Service => service(object, &mut common),
            Role::Endpoints => self.endpoints(object, &mut common),
            Role::EndpointSlice => self.slice(object, &mut common),
            Role::Ingress => ingress(object, &mut common),
        };
        let mut targets: Vec<_> = targets.into_iter().map(|labels| labels.0).collect();
        targets.sort();
        TargetGroup {
            source: format!("{}/{}", kind.name(), object.key()),
            targets,
            labels: common.0,
            http: None,
        }
    }

    fn add_namespace(&self, labels: &mut Labels, name: &str) {
        if let Some(found) = self.store.get(Kind::Namespace, "", name) {
            labels.add_map("namespace_label", found.metadata.labels.as_ref());
            labels.add_map("namespace_annotation", found.metadata.annotations.as_ref());
        }
    }

    fn add_node(&self, labels: &mut Labels, name: Option<&str>) {
        let Some(name) = name.filter(|_| self.config.attach_node) else { return };
        if let Some(node) = self.store.get(Kind::Node, "", name) {
            labels.add("node_name", name);
            labels.add_map("node_label", node.metadata.labels.as_ref());
            labels.add_map("node_annotation", node.metadata.annotations.as_ref());
        }
    }

    fn pod(&self, pod: &Object, common: &mut Labels) -> Vec<Labels> {
        // It is starting, or was evicted.
        if pod.status.pod_ip.is_empty() {
            return Vec::new();
        }
        add_pod(common, pod);
        self.add_node(common, Some(&pod.spec.node_name));
        let mut targets = Vec::new();
        let containers = pod.spec.containers.iter().map(|container| (container, false));
        for (container, init) in
            containers.chain(pod.spec.init_containers.iter().map(|container| (container, true)))
        {
            let statuses =
                if init { &pod.status.init_container_statuses } else { &pod.status.container_statuses };
            let status = statuses.iter().flatten().find(|status| status.name == container.name);
            let mut labels = Labels::default();
            labels.add("pod_container_name", container.name.as_str());
            labels.add("pod_container_id", status.map_or("", |status| &status.container_id));
            labels.add("pod_container_image", container.image.as_str());
            labels.add("pod_container_init", init.to_string());
            if container.ports.is_empty() {
                labels.plain("__address__", pod.status.pod_ip.as_str());
                targets.push(labels);
                continue;
            }
            for port in &container.ports {
                let mut labels = labels.clone();
                labels.plain("__address__", join(&pod.status.pod_ip, port.container_port));
                add_port(&mut labels, port);
                targets.push(labels);
            }
        }
        targets
    }

    /// The pod that an address names.
    fn pod_of(&self, reference: Option<&Reference>) -> Option<&Object> {
        let reference = reference.filter(|reference| reference.kind == "Pod")?;
        self.store.get(Kind::Pod, &reference.namespace, &reference.name)
    }

    fn add_service(&self, labels: &mut Labels, namespace: &str, name: &str) {
        if let Some(service) = self.store.get(Kind::Service, namespace, name) {
            labels.add_metadata(Kind::Service, &service.metadata);
        }
    }

    /// Adds what the pod behind an address and port is, and remembers the pair.
    fn add_backend<'p>(
        &'p self,
        labels: &mut Labels,
        reference: Option<&Reference>,
        port: Option<u16>,
        seen: &mut Vec<(&'p Object, Option<u16>)>,
    ) {
        let Some(pod) = self.pod_of(reference) else { return };
        add_pod(labels, pod);
        seen.push((pod, port));
        let all = pod
            .spec
            .containers
            .iter()
            .flat_map(|container| container.ports.iter().map(move |p| (container, p)));
        if let Some((container, found)) = all.into_iter().find(|(_, p)| Some(p.container_port) == port) {
            add_container(labels, container, found);
        }
    }

    fn endpoints(&self, object: &Object, common: &mut Labels) -> Vec<Labels> {
        let metadata = &object.metadata;
        self.add_service(common, &metadata.namespace, &metadata.name);
        common.add_metadata(Kind::Endpoints, metadata);
        let (mut targets, mut seen) = (Vec::new(), Vec::new());
        for subset in object.subsets.iter().flatten() {
            for port in subset.ports.iter().flatten() {
                let ready = subset.addresses.iter().flatten().map(|address| (address, true));
                let other = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
                for (address, ready) in ready.chain(other) {
                    let number = port.port.unwrap_or(0);
                    let mut labels = Labels::default();
                    labels.plain("__address__", join(&address.ip, number));
                    labels.add("endpoint_port_name", port.name.as_deref().unwrap_or_default());
                    labels.add("endpoint_port_protocol", port.protocol.as_deref().unwrap_or_default());
                    labels.add("endpoint_ready", ready.to_string());
                    if let Some(reference) = &address.target_ref {
                        labels.add("endpoint_address_target_kind", reference.kind.as_str());
                        labels.add("endpoint_address_target_name", reference.name.as_str());
                    }
                    labels.add_some("endpoint_node_name", address.node_name.as_ref());
                    labels.add_some(
                        "endpoint_hostname",
                        Some(&address.hostname).filter(|name| !name.is_empty()),
                    );
                    let reference = address.target_ref.as_ref();
                    self.add_node(&mut labels, node_name(reference, address.node_name.as_deref()));
                    self.add_backend(&mut labels, reference, Some(number), &mut seen);
                    targets.push(labels);
                }
            }
        }
        add_other_ports(&seen, &mut targets);
        targets
    }

    fn slice(&self, object: &Object, common: &mut Labels) -> Vec<Labels> {
        let metadata = &object.metadata;
        common.add_some("endpointslice_address_type", object.address_type.as_ref());
        common.add_metadata(Kind::EndpointSlice, metadata);
        if let Some(service) =
            metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/service-name"))
        {
            self.add_service(common, &metadata.namespace, service);
        }
        let (mut targets, mut seen) = (Vec::new(), Vec::new());
        for endpoint in object.endpoints.iter().flatten() {
            for port in object.ports.iter().flatten() {
                for address in &endpoint.addresses {
                    let mut labels = slice_labels(endpoint, port, address);
                    let reference = endpoint.target_ref.as_ref();
                    self.add_node(&mut labels, node_name(reference, endpoint.node_name.as_deref()));
                    self.add_backend(&mut labels, reference, port.port, &mut seen);
                    targets.push(labels);
                }
            }
        }
        add_other_ports(&seen, &mut targets);
        targets
    }
}

/// An address of a node names it itself.
fn node_name<'n>(reference: Option<&'n Reference>, name: Option<&'n str>) -> Option<&'n str> {
    reference.filter(|reference| reference.kind == "Node").map(|reference| reference.name.as_str()).or(name)
}

fn slice_labels(endpoint: &Endpoint, port: &EndpointPort, address: &str) -> Labels {
    let mut labels = Labels::default();
    labels.plain("__address__", port.port.map_or_else(|| address.to_owned(), |port| join(address, port)));
    labels.add_some("endpointslice_port_name", port.name.as_ref());
    labels.add_some("endpointslice_port_protocol", port.protocol.as_ref());
    labels.add_some("endpointslice_port", port.port);
    labels.add_some("endpointslice_port_app_protocol", port.app_protocol.as_ref());
    labels.add_some("endpointslice_endpoint_conditions_ready", endpoint.conditions.ready);
    labels.add_some("endpointslice_endpoint_conditions_serving", endpoint.conditions.serving);
    labels.add_some("endpointslice_endpoint_conditions_terminating", endpoint.conditions.terminating);
    labels.add_some("endpointslice_endpoint_hostname", endpoint.hostname.as_ref());
    labels.add_some("endpointslice_endpoint_node_name", endpoint.node_name.as_ref());
    labels.add_some("endpointslice_endpoint_zone", endpoint.zone.as_ref());
    if let Some(reference) = &endpoint.target_ref {
        labels.add("endpointslice_address_target_kind", reference.kind.as_str());
        labels.add("endpointslice_address_target_name", reference.name.as_str());
    }
    for (name, value) in endpoint.deprecated_topology.iter().flatten() {
        let name = label_name(name);
        labels.add(&format!("endpointslice_endpoint_topology_{name}"), value.as_str());
        labels.add(&format!("endpointslice_endpoint_topology_present_{name}"), "true");
    }
    labels
}

/// Ports of the pods behind a service that the service does not lead to.
fn add_other_ports(seen: &[(&Object, Option<u16>)], targets: &mut Vec<Labels>) {
    let mut done: Vec<String> = Vec::new();
    for (pod, _) in seen {
        let name = key(&pod.metadata.namespace, &pod.metadata.name);
        if pod.status.pod_ip.is_empty() || done.contains(&name) {
            continue;
        }
        let is_served = |port: u16| {
            seen.iter().any(|(other, served)| std::ptr::eq(*other, *pod) && *served == Some(port))
        };
        for container in &pod.spec.containers {
            for port in container.ports.iter().filter(|port| !is_served(port.container_port)) {
                let mut labels = Labels::default();
                labels.plain("__address__", join(&pod.status.pod_ip, port.container_port));
                add_container(&mut labels, container, port);
                add_pod(&mut labels, pod);
                targets.push(labels);
            }
        }
        done.push(name);
    }
}

fn add_port(labels: &mut Labels, port: &ContainerPort) {
    labels.add("pod_container_port_name", port.name.as_str());
    labels.add("pod_container_port_number", port.container_port.to_string());
    labels.add("pod_container_port_protocol", port.protocol.as_str());
}

fn add_container(labels: &mut Labels, container: &Container, port: &ContainerPort) {
    labels.add("pod_container_name", container.name.as_str());
    labels.add("pod_container_image", container.image.as_str());
    add_port(labels, port);
}

fn add_pod(labels: &mut Labels, pod: &Object) {
    let ready = pod.status.conditions.iter().flatten().find(|condition| condition.kind == "Ready");
    labels.add("pod_ip", pod.status.pod_ip.as_str());
    labels.add("pod_ready", ready.map_or("unknown".to_owned(), |condition| condition.status.to_lowercase()));
    labels.add("pod_phase", pod.status.phase.as_str());
    labels.add("pod_node_name", pod.spec.node_name.as_str());
    labels.add("pod_host_ip", pod.status.host_ip.as_str());
    labels.add("pod_uid", pod.metadata.uid.as_str());
    labels.add_metadata(Kind::Pod, &pod.metadata);
    let owners = pod.metadata.owner_references.iter().flatten();
    if let Some(owner) = owners.into_iter().find(|owner| owner.controller == Some(true)) {
        labels.add("pod_controller_kind", owner.kind.as_str());
        labels.add("pod_controller_name", owner.name.as_str());
    }
}

fn node(node: &Object, common: &mut Labels) -> Vec<Labels> {
    common.add("node_provider_id", node.spec.provider_id.as_str());
    common.add_metadata(Kind::Node, &node.metadata);
    let addresses = node.status.addresses.as_deref().unwrap_or_default();
    let of = |kind: &str| addresses.iter().find(|address| address.kind == kind);
    let Some(best) = NODE_ADDRESSES.iter().find_map(|kind| of(kind)) else { return Vec::new() };
    let mut labels = Labels::default();
    labels.plain("__address__", join(&best.address, node.status.daemon_endpoints.kubelet_endpoint.port));
    labels.plain("instance", node.metadata.name.as_str());
    for (number, address) in addresses.iter().enumerate() {
        // The first of a kind.
        if !addresses[..number].iter().any(|other| other.kind == address.kind) {
            labels.add(&format!("node_address_{}", label_name(&address.kind)), address.address.as_str());
        }
    }
    vec![labels]
}

fn service(service: &Object, common: &mut Labels) -> Vec<Labels> {
    let (metadata, spec) = (&service.metadata, &service.spec);
    common.add_metadata(Kind::Service, metadata);
    let host = format!("{}.{}.svc", metadata.name, metadata.namespace);
    let target = |port: &super::objects::ServicePort| {
        let mut labels = Labels::default();
        labels.plain("__address__", join(&host, port.port));
        labels.add("service_port_name", port.name.as_str());
        labels.add("service_port_number", port.port.to_string());
        labels.add("service_port_protocol", port.protocol.as_str());
        labels.add("service_type", spec.kind.as_str());
        match spec.kind.as_str() {
            "ExternalName" => labels.add("service_external_name", spec.external_name.as_str()),
            _ => labels.add("service_cluster_ip", spec.cluster_ip.as_str()),
        }
        if spec.kind == "LoadBalancer" {
            labels.add("service_loadbalancer_ip", spec.load_balancer_ip.as_str());
        }
        labels
    };
    spec.ports.iter().map(target).collect()
}

fn ingress(ingress: &Object, common: &mut Labels) -> Vec<Labels> {
    let spec = &ingress.spec;
    common.add_metadata(Kind::Ingress, &ingress.metadata);
    common.add_some("ingress_class_name", spec.ingress_class_name.as_ref());
    let mut targets = Vec::new();
    for rule in &spec.rules {
        let secure = spec.tls.iter().flat_map(|tls| &tls.hosts).any(|pattern| covers(pattern, &rule.host));
        let paths: Vec<&str> = match &rule.http {
            Some(http) => http.paths.iter().map(|path| path.path.as_str()).collect(),
            None => vec![""],
        };
        for path in paths {
            let mut labels = Labels::default();
            labels.plain("__address__", rule.host.as_str());
            labels.add("ingress_scheme", if secure { "https" } else { "http" });
            labels.add("ingress_host", rule.host.as_str());
            labels.add("ingress_path", if path.is_empty() { "/" } else { path });
            targets.push(labels);
        }
    }
    targets
}

/// `*` at the beginning stands for one part of the name.
fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(rest) => host.split_once('.').is_some_and(|(first, after)| !first.is_empty() && after == rest),
        None => pattern == host,
    }
}
