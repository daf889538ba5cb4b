//! What objects come to, for each role.

use super::*;
use crate::config::{HttpSettings, KubernetesApi, Role};

const POD: &str = r#"{"metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"app.io/x": "1"},
  "ownerReferences": [{"kind": "Job", "name": "no"}, {"kind": "ReplicaSet", "name": "rs", "controller": true}]},
  "spec": {"nodeName": "k1", "containers": [
    {"name": "main", "image": "i:1", "ports": [{"name": "web", "containerPort": 80, "protocol": "TCP"},
                                                {"name": "admin", "containerPort": 81, "protocol": "TCP"}]}],
    "initContainers": [{"name": "init", "image": "i:0"}]},
  "status": {"podIP": "10.0.0.5", "hostIP": "192.168.0.1", "phase": "Running",
    "conditions": [{"type": "Ready", "status": "True"}],
    "containerStatuses": [{"name": "main", "containerID": "docker://c"}]}}"#;
const NODE: &str = r#"{"metadata": {"name": "k1", "labels": {"zone": "z"}}, "spec": {"providerID": "pr"},
  "status": {"addresses": [{"type": "Hostname", "address": "h"}, {"type": "InternalIP", "address": "192.168.0.1"}],
    "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}}"#;
const SERVICE: &str = r#"{"metadata": {"name": "s", "namespace": "n", "annotations": {"scrape": "yes"}},
  "spec": {"type": "LoadBalancer", "clusterIP": "10.1.0.1", "loadBalancerIP": "1.2.3.4",
    "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}]}}"#;
const ENDPOINTS: &str = r#"{"metadata": {"name": "s", "namespace": "n"}, "subsets": [
  {"addresses": [{"ip": "10.0.0.5", "nodeName": "k1", "targetRef": {"kind": "Pod", "namespace": "n", "name": "p"}}],
   "notReadyAddresses": [{"ip": "10.0.0.6"}], "ports": [{"name": "web", "port": 80, "protocol": "TCP"}]}]}"#;
const SLICE: &str = r#"{"metadata": {"name": "s-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "s"}},
  "addressType": "IPv4", "endpoints": [
  {"addresses": ["10.0.0.5"], "conditions": {"ready": true}, "nodeName": "k1", "zone": "z",
   "targetRef": {"kind": "Pod", "namespace": "n", "name": "p"}}],
  "ports": [{"name": "web", "port": 80, "protocol": "TCP"}]}"#;
const INGRESS: &str = r#"{"metadata": {"name": "i", "namespace": "n"}, "spec": {"ingressClassName": "nginx",
  "tls": [{"hosts": ["*.example.com"]}],
  "rules": [{"host": "a.example.com", "http": {"paths": [{"path": "/x"}, {}]}}, {"host": "b.org"}]}}"#;
const NAMESPACE: &str = r#"{"metadata": {"name": "n", "labels": {"team": "t"}}}"#;

fn config(role: Role) -> KubernetesSd {
    KubernetesSd {
        api: KubernetesApi::InCluster,
        role,
        http: HttpSettings::default(),
        own_namespace: false,
        namespaces: Vec::new(),
        selectors: Vec::new(),
        attach_node: true,
        attach_namespace: true,
    }
}

/// Each target with all its labels, without the common beginning of their names.
fn found(role: Role) -> Vec<String> {
    let mut store = Store::default();
    let objects = [
        (Kind::Pod, POD),
        (Kind::Node, NODE),
        (Kind::Service, SERVICE),
        (Kind::Endpoints, ENDPOINTS),
        (Kind::EndpointSlice, SLICE),
        (Kind::Ingress, INGRESS),
        (Kind::Namespace, NAMESPACE),
    ];
    for (number, (kind, text)) in objects.into_iter().enumerate() {
        let object: Object = serde_json::from_str(text).unwrap();
        store.apply(number, kind, Event::Listed(vec![object]));
    }
    let mut shown = Vec::new();
    for group in build::groups(&config(role), &store) {
        for target in &group.targets {
            let mut labels: Vec<String> = target
                .iter()
                .chain(&group.labels)
                .map(|(name, value)| format!("{}={value}", name.trim_start_matches("__meta_kubernetes_")))
                .collect();
            labels.sort();
            labels.dedup();
            shown.push(labels.join(" "));
        }
    }
    shown
}

const NAMESPACE_LABELS: &str = "namespace=n namespace_label_team=t namespace_labelpresent_team=true";
const NODE_LABELS: &str = "node_label_zone=z node_labelpresent_zone=true node_name=k1";

fn pod_labels(container: &str, rest: &str) -> String {
    let mut labels: Vec<String> = format!(
        "{container} pod_controller_kind=ReplicaSet pod_controller_name=rs pod_host_ip=192.168.0.1 pod_ip=10.0.0.5 \
         pod_label_app_io_x=1 pod_labelpresent_app_io_x=true pod_name=p pod_node_name=k1 pod_phase=Running \
         pod_ready=true pod_uid=u {rest} {NAMESPACE_LABELS}"
    )
    .split_whitespace()
    .map(str::to_owned)
    .collect();
    labels.sort();
    labels.join(" ")
}

#[test]
fn pods() {
    let port = |number: u16, name: &str| {
        pod_labels(
            &format!(
                "__address__=10.0.0.5:{number} pod_container_id=docker://c pod_container_image=i:1 pod_container_init=false \
                 pod_container_name=main pod_container_port_name={name} pod_container_port_number={number} \
                 pod_container_port_protocol=TCP"
            ),
            NODE_LABELS,
        )
    };
    let init = "__address__=10.0.0.5 pod_container_id= pod_container_image=i:0 pod_container_init=true pod_container_name=init";
    assert_eq!(found(Role::Pod), [pod_labels(init, NODE_LABELS), port(80, "web"), port(81, "admin")]);
}

#[test]
fn nodes_services_and_ingresses() {
    assert_eq!(
        found(Role::Node),
        [
            "__address__=192.168.0.1:10250 instance=k1 node_address_Hostname=h node_address_InternalIP=192.168.0.1 \
          node_label_zone=z node_labelpresent_zone=true node_name=k1 node_provider_id=pr"
        ]
    );
    assert_eq!(
        found(Role::Service),
        [format!(
            "__address__=s.n.svc:8080 {NAMESPACE_LABELS} service_annotation_scrape=yes service_annotationpresent_scrape=true \
             service_cluster_ip=10.1.0.1 service_loadbalancer_ip=1.2.3.4 service_name=s service_port_name=web \
             service_port_number=8080 service_port_protocol=TCP service_type=LoadBalancer"
        )]
    );
    let of = |host: &str, path: &str, scheme: &str| {
        format!(
            "__address__={host} ingress_class_name=nginx ingress_host={host} ingress_name=i ingress_path={path} \
             ingress_scheme={scheme} {NAMESPACE_LABELS}"
        )
    };
    assert_eq!(
        found(Role::Ingress),
        [of("a.example.com", "/", "https"), of("a.example.com", "/x", "https"), of("b.org", "/", "http")]
    );
}

const SERVICE_LABELS: &str =
    "service_annotation_scrape=yes service_annotationpresent_scrape=true service_name=s";
const CONTAINER: &str = "pod_container_image=i:1 pod_container_name=main pod_container_port_protocol=TCP";

#[test]
fn endpoints_and_slices_with_their_pods() {
    let served =
        format!("{CONTAINER} pod_container_port_name=web pod_container_port_number=80 {NODE_LABELS}");
    let other = format!(
        "__address__=10.0.0.5:81 {CONTAINER} pod_container_port_name=admin pod_container_port_number=81"
    );
    let common = format!("endpoints_name=s {SERVICE_LABELS}");
    let address = "__address__=10.0.0.5:80 endpoint_address_target_kind=Pod endpoint_address_target_name=p \
                   endpoint_node_name=k1 endpoint_port_name=web endpoint_port_protocol=TCP endpoint_ready=true";
    let mut unready: Vec<String> = format!(
        "__address__=10.0.0.6:80 endpoint_port_name=web endpoint_port_protocol=TCP endpoint_ready=false {common} {NAMESPACE_LABELS}"
    )
    .split_whitespace()
    .map(str::to_owned)
    .collect();
    unready.sort();
    assert_eq!(
        found(Role::Endpoints),
        [pod_labels(address, &format!("{served} {common}")), pod_labels(&other, &common), unready.join(" ")]
    );
    let common = format!(
        "endpointslice_address_type=IPv4 endpointslice_label_kubernetes_io_service_name=s \
         endpointslice_labelpresent_kubernetes_io_service_name=true endpointslice_name=s-1 {SERVICE_LABELS}"
    );
    let address = "__address__=10.0.0.5:80 endpointslice_address_target_kind=Pod endpointslice_address_target_name=p \
                   endpointslice_endpoint_conditions_ready=true endpointslice_endpoint_node_name=k1 \
                   endpointslice_endpoint_zone=z endpointslice_port=80 endpointslice_port_name=web endpointslice_port_protocol=TCP";
    assert_eq!(
        found(Role::EndpointSlice),
        [pod_labels(address, &format!("{served} {common}")), pod_labels(&other, &common)]
    );
}
