//! `docker_sd_configs` against a Docker daemon: its containers come, change and go, over a Unix socket that is only
//! read.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use collector_tests::process::{Collector, Process, free_port, get, wait_for};
use collector_tests::receiver::Receiver;
use collector_tests::skip::{program_or_skip, root_or_skip};
use serde_json::{Value, json};

const NAME: &str = "containers_of_a_daemon_come_and_go";
const LONG: Duration = Duration::from_secs(60);

/// A daemon in mount and network namespaces of its own, so that nothing of it stays.
struct Daemon {
    process: Process,
    socket: PathBuf,
}

impl Daemon {
    fn start(folder: &Path) -> Self {
        let path = |name: &str| folder.join(name).display().to_string();
        let socket = folder.join("docker.sock");
        let mut arguments: Vec<String> = ["--mount", "--net", "dockerd", "--host"].map(String::from).to_vec();
        arguments.push(format!("unix://{}", socket.display()));
        for (flag, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            arguments.extend([flag.to_owned(), path(name)]);
        }
        let rest = ["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"];
        arguments.extend(rest.map(String::from));
        let process = Process::start(Path::new("unshare"), &arguments, &folder.join("dockerd.log"));
        let daemon = Daemon { process, socket };
        assert!(
            wait_for(LONG, || daemon.try_ask("GET", "/_ping", None).is_some()),
            "{}",
            daemon.process.log()
        );
        daemon
    }

    /// The answer to a request; `None` where it was refused.
    fn try_ask(&self, method: &str, path: &str, body: Option<&Path>) -> Option<String> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--request", method, "--unix-socket"]).arg(&self.socket);
        if let Some(body) = body {
            let kind = if body.extension().is_some_and(|e| e == "tar") { "x-tar" } else { "json" };
            curl.args(["--header", &format!("Content-Type: application/{kind}"), "--data-binary"]);
            curl.arg(format!("@{}", body.display()));
        }
        let output = curl.arg(format!("http://docker{path}")).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn post(&self, path: &str, body: &Value) {
        let file = self.socket.with_file_name("request.json");
        std::fs::write(&file, body.to_string()).unwrap();
        assert!(self.try_ask("POST", path, Some(&file)).is_some(), "{path}: {}", self.process.log());
    }

    fn run(&self, name: &str, network: &str, labels: &Value) {
        let container = json!({
            "Image": "made:1", "Cmd": ["/bin/busybox", "sleep", "600"], "Labels": labels,
            "StopTimeout": 0, "HostConfig": {"NetworkMode": network},
        });
        self.post(&format!("/containers/create?name={name}"), &container);
        self.post(&format!("/containers/{name}/start"), &json!({}));
    }

    /// An image of one program, and a network that leads nowhere.
    fn prepare(&self, folder: &Path, busybox: &Path) {
        let root = folder.join("root");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
        let image = folder.join("image.tar");
        let made = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&image).arg(".").status().unwrap();
        assert!(made.success());
        let path = "/images/create?fromSrc=-&repo=made&tag=1";
        assert!(self.try_ask("POST", path, Some(&image)).is_some(), "{}", self.process.log());
        let network =
            json!({"Name": "inner", "Driver": "bridge", "Internal": true, "Labels": {"net": "yes"}});
        self.post("/networks/create", &network);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It ends its containers first.
        self.process.terminate(LONG);
    }
}

/// What the collector has found: the labels before relabelling, and those of the series.
fn found(collector: &Collector) -> Vec<(Value, Value)> {
    let (_, body) = get(&collector.url("/api/v1/targets?state=active")).unwrap();
    let answer: Value = serde_json::from_str(&body).unwrap();
    let targets = answer["data"]["activeTargets"].as_array().unwrap();
    targets.iter().map(|target| (target["discoveredLabels"].clone(), target["labels"].clone())).collect()
}

fn names(collector: &Collector) -> Vec<String> {
    let mut names: Vec<String> =
        found(collector).iter().map(|(_, labels)| labels["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn containers_of_a_daemon_come_and_go() {
    if !root_or_skip(NAME) {
        return;
    }
    let Some(busybox) = program_or_skip(NAME, &["busybox"]) else { return };
    if program_or_skip(NAME, &["dockerd"]).is_none() || program_or_skip(NAME, &["unshare"]).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (daemon, receiver) = (Daemon::start(folder.path()), Receiver::start());
    daemon.prepare(folder.path(), &busybox);
    daemon.run("web", "inner", &json!({"example.com/role": "front"}));
    let config = folder.path().join("prometheus.yml");
    let text = format!(
        "remote_write: [{{url: '{}'}}]\nscrape_configs:\n- job_name: docker\n  docker_sd_configs:\n  - host: unix://{}\n    \
         refresh_interval: 1s\n  relabel_configs:\n  - {{source_labels: [__meta_docker_container_name], regex: '/(.*)', \
         target_label: name}}\n  - {{source_labels: [__meta_docker_container_label_example_com_role], target_label: role}}\n",
        receiver.url(),
        daemon.socket.display()
    );
    std::fs::write(&config, text).unwrap();
    let flags = ["--collector.disable-defaults", "--no-ebpf"];
    let config = format!("--config.file={}", config.display());
    let collector = Collector::start(free_port(), folder.path(), &[&[config.as_str()], &flags[..]].concat());

    assert!(wait_for(LONG, || names(&collector) == ["web"]), "{}", collector.process.log());
    let (before, labels) = found(&collector).remove(0);
    assert_eq!((&labels["role"], &labels["job"]), (&json!("front"), &json!("docker")));
    for (label, value) in [
        ("container_name", "/web"),
        ("container_label_example_com_role", "front"),
        ("network_name", "inner"),
        ("network_internal", "true"),
        ("network_ingress", "false"),
        ("network_scope", "local"),
        ("network_label_net", "yes"),
    ] {
        assert_eq!(before[format!("__meta_docker_{label}")], json!(value), "{label}: {before}");
    }
    let ip = before["__meta_docker_network_ip"].as_str().unwrap();
    assert!(ip.parse::<std::net::IpAddr>().is_ok(), "{before}");
    assert_eq!(before["__address__"], json!(format!("{ip}:80")), "no port is exposed");

    daemon.run("shared", "host", &json!({}));
    assert!(wait_for(LONG, || names(&collector) == ["shared", "web"]), "{:?}", found(&collector));
    daemon.post("/containers/web/stop", &json!({}));
    assert!(wait_for(LONG, || names(&collector) == ["shared"]), "{:?}", found(&collector));
    let (before, _) = found(&collector).remove(0);
    assert_eq!(before["__meta_docker_container_network_mode"], json!("host"));
    assert_eq!(before["__address__"], json!("localhost"), "as host_networking_host has it");
}
