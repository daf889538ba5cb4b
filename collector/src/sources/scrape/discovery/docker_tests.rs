//! What a daemon's answers come to.

use super::*;
use crate::config::HttpSettings;

const CONTAINERS: &str = r#"[
  {"Id": "a", "Names": ["/web"], "Labels": {"com.example/x": "1"}, "HostConfig": {"NetworkMode": "front"},
   "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
             {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
             {"PrivatePort": 53, "Type": "udp"}],
   "NetworkSettings": {"Networks": {"front": {"NetworkID": "n1", "IPAddress": "10.0.0.2"},
                                    "back": {"NetworkID": "n2", "IPAddress": "10.0.1.2"}, "a": null}}},
  {"Id": "b", "Names": ["/host"], "Labels": null, "HostConfig": {"NetworkMode": "host"}, "Ports": [],
   "NetworkSettings": {"Networks": {"host": {"NetworkID": "n3", "IPAddress": ""}}}},
  {"Id": "c", "Names": ["/shared"], "HostConfig": {"NetworkMode": "container:a"}, "Ports": [],
   "NetworkSettings": {"Networks": {}}},
  {"Id": "d", "Names": ["/alone"], "HostConfig": {"NetworkMode": "none"}, "NetworkSettings": {"Networks": {}}},
  {"Id": "e", "Names": [], "HostConfig": {"NetworkMode": "none"}},
  {"Id": "f", "Names": ["/loop"], "HostConfig": {"NetworkMode": "container:f"}}
]"#;

fn found(match_first_network: bool) -> Vec<String> {
    let config = DockerSd {
        host: "unix:///x".into(),
        filters: Vec::new(),
        port: 9999,
        host_networking_host: "here".into(),
        match_first_network,
        refresh: Duration::from_secs(1),
        http: HttpSettings::default(),
    };
    let containers: Vec<Container> = serde_json::from_str(CONTAINERS).unwrap();
    let network = r#"{"Id": "n2", "Name": "back", "Scope": "local", "Internal": true, "Labels": {"k": "v"}}"#;
    let network: Network = serde_json::from_str(network).unwrap();
    let networks = [("n2", network_labels(&network))].into_iter().collect();
    let mut group = targets(&config, &containers, &networks);
    let mut shown = Vec::new();
    for labels in &mut group.targets {
        labels.sort();
        let text: Vec<_> =
            labels.iter().map(|(n, v)| format!("{}={v}", n.trim_start_matches("__meta_docker_"))).collect();
        shown.push(text.join(" "));
    }
    shown.sort();
    shown
}

#[test]
fn a_target_for_each_port() {
    let network = "network_id=n2 network_ingress=false network_internal=true network_ip=10.0.1.2 network_label_k=v \
                   network_name=back network_scope=local";
    assert_eq!(
        found(true),
        [
            format!(
                "__address__=10.0.1.2:80 container_id=a container_label_com_example_x=1 container_name=/web container_network_mode=front {network} port_private=80 port_public=8080 port_public_ip=0.0.0.0"
            ),
            format!(
                "__address__=10.0.1.2:80 container_id=a container_label_com_example_x=1 container_name=/web container_network_mode=front {network} port_private=80 port_public=8080 port_public_ip=::"
            ),
            format!(
                "__address__=10.0.1.2:9999 container_id=c container_name=/shared container_network_mode=container:a {network}"
            ),
            "__address__=here container_id=b container_name=/host container_network_mode=host network_ip="
                .to_owned(),
        ]
    );
    assert_eq!(found(false).len(), 7, "two networks of a, of which c shares both");
}
