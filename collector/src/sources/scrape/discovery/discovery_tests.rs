//! Discovery as the daemon sees it, against servers that the tests play.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::config::parse_config;

const SOON: Duration = Duration::from_millis(20);

fn configs(text: &str) -> Vec<ScrapeConfig> {
    parse_config(text, Path::new("/c.yml")).unwrap_or_else(|error| panic!("{text}\n{error}")).scrape
}

async fn next(updates: &mut mpsc::Receiver<Update>) -> (String, Vec<String>) {
    let update = tokio::time::timeout(Duration::from_secs(20), updates.recv()).await;
    let update = update.expect("an update comes").expect("discovery runs");
    let mut urls: Vec<String> = update.targets.active.into_iter().map(|target| target.url).collect();
    urls.sort();
    (update.job, urls)
}

/// Waits until the job has these targets.
async fn until(updates: &mut mpsc::Receiver<Update>, expected: &[&str]) {
    let expected: Vec<String> = expected.iter().map(|address| format!("http://{address}/metrics")).collect();
    loop {
        if next(updates).await.1 == expected {
            return;
        }
    }
}

/// An answer that the server has ready: part of the path that it is for, headers, body. Where the body is to be
/// watched, the connection is closed after it; else it is the whole of it.
struct Reply {
    path: &'static str,
    head: String,
    body: String,
}

fn reply(path: &'static str, head: &str, body: &str) -> Reply {
    Reply { path, head: head.to_owned(), body: body.to_owned() }
}

/// Gives each reply once, to the first request whose path holds its own; requests without one wait.
struct Server {
    address: String,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let replies = Arc::new(Mutex::new(VecDeque::from(replies)));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (ready, seen) = (replies.clone(), requests.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, ready.clone(), seen.clone()));
            }
        });
        Server { address, replies, requests, task }
    }

    fn add(&self, reply: Reply) {
        self.replies.lock().unwrap().push_back(reply);
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn answer(
    mut stream: tokio::net::TcpStream,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    requests: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    requests.lock().unwrap().push(head.clone());
    let line = head.lines().next().unwrap().to_owned();
    loop {
        let found = {
            let mut replies = replies.lock().unwrap();
            let at = replies.iter().position(|reply| line.contains(reply.path));
            at.and_then(|at| replies.remove(at))
        };
        if let Some(Reply { head, body, .. }) = found {
            let text = format!(
                "HTTP/1.1 {head}\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n{body}"
            );
            let _ = stream.write_all(text.as_bytes()).await;
            return;
        }
        tokio::time::sleep(SOON).await;
    }
}

#[tokio::test]
async fn jobs_and_files_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.json");
    let list = |addresses: &str| std::fs::write(&file, format!("[{{\"targets\": [{addresses}]}}]")).unwrap();
    list("\"a:1\"");
    let found = format!(
        "  - job_name: found\n    file_sd_configs: [{{files: ['{}'], refresh_interval: 100ms}}]\n",
        file.display()
    );
    let fixed = "scrape_configs:\n  - job_name: fixed\n    static_configs: [{targets: ['s:1']}]\n";
    let stats = Arc::new(DiscoveryStats::default());
    let (mut discovery, mut updates) = Discovery::with_settle(None, stats.clone(), SOON);
    discovery.apply(&configs(&format!("{fixed}{found}"))).unwrap();
    assert_eq!(next(&mut updates).await, ("fixed".into(), vec!["http://s:1/metrics".into()]));
    until(&mut updates, &["a:1"]).await;
    list("\"a:1\", \"b:1\"");
    until(&mut updates, &["a:1", "b:1"]).await;
    // Bad content changes nothing.
    list("\"c:1");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(updates.try_recv().is_err());
    let jobs = stats.jobs();
    assert_eq!(
        jobs.iter().map(|job| (job.job.as_str(), job.discovered())).collect::<Vec<_>>(),
        [("fixed", 1), ("found", 2)]
    );
    assert!(jobs[1].providers[0].failures.get() > 0);
    // A reload that changes a job's rules keeps its provider, and so its targets.
    let changed = format!("{fixed}{found}    relabel_configs: [{{target_label: x, replacement: y}}]\n");
    discovery.apply(&configs(&changed)).unwrap();
    assert_eq!(next(&mut updates).await.1.len(), 2, "at once, though the file can't be read now");
    assert!(updates.try_recv().is_err(), "the other job goes on undisturbed");
    std::fs::remove_file(&file).unwrap();
    until(&mut updates, &[]).await;
}

#[tokio::test]
async fn targets_by_http() {
    let server = Server::start(vec![
        reply("/t", "200 OK", r#"[{"targets": ["a:1"], "labels": {"x": "y"}}]"#),
        reply("/t", "500 No", ""),
        reply("/t", "200 OK", "[]"),
    ])
    .await;
    let text = format!(
        "scrape_configs: [{{job_name: j, http_sd_configs: [{{url: 'http://{}/t', refresh_interval: 100ms, bearer_token: t}}]}}]",
        server.address
    );
    let stats = Arc::new(DiscoveryStats::default());
    let (mut discovery, mut updates) = Discovery::with_settle(None, stats.clone(), SOON);
    discovery.apply(&configs(&text)).unwrap();
    until(&mut updates, &["a:1"]).await;
    until(&mut updates, &[]).await;
    assert_eq!(stats.jobs()[0].providers[0].failures.get(), 1);
    assert!(
        server.requests()[0].to_lowercase().contains("authorization: bearer t"),
        "{:?}",
        server.requests()
    );
}

fn consul_entry(node: &str, port: u16) -> String {
    format!(
        r#"{{"Node": {{"Node": "{node}", "Address": "10.0.0.1", "Datacenter": "dc1", "Meta": {{"rack-no": "7"}}}},
            "Service": {{"ID": "web-1", "Service": "web", "Address": "", "Port": {port}, "Tags": ["a", "b"]}},
            "Checks": [{{"CheckID": "c", "Status": "passing"}}]}}"#
    )
}

#[tokio::test]
async fn services_of_consul() {
    let services = r#"{"web": ["a"], "other": []}"#;
    let server = Server::start(vec![
        reply("/v1/catalog/services", "200 OK\r\nX-Consul-Index: 5", services),
        reply(
            "/v1/health/service/web?",
            "200 OK\r\nX-Consul-Index: 7",
            &format!("[{}]", consul_entry("n", 80)),
        ),
    ])
    .await;
    let sd = format!(
        "{{server: '{}', token: s3, tags: [a], refresh_interval: 100ms, datacenter: dc1}}",
        server.address
    );
    let stats = Arc::new(DiscoveryStats::default());
    let (mut discovery, mut updates) = Discovery::with_settle(None, stats.clone(), SOON);
    let rules = "relabel_configs: [{action: labelmap, regex: __meta_consul_(.+)}]";
    discovery
        .apply(&configs(&format!("scrape_configs: [{{job_name: j, consul_sd_configs: [{sd}], {rules}}}]")))
        .unwrap();
    let target = loop {
        let update = tokio::time::timeout(Duration::from_secs(20), updates.recv()).await.unwrap().unwrap();
        if let [target] = &update.targets.active[..] {
            break target.clone();
        }
    };
    let labels: Vec<String> = target.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        labels.join(" "),
        "address=10.0.0.1 dc=dc1 health=passing instance=10.0.0.1:80 job=j metadata_rack_no=7 node=n service=web \
         service_id=web-1 service_port=80 tags=,a,b,"
    );
    // The list is held back until its index moves; then the service is gone.
    server.add(reply("index=5", "200 OK\r\nX-Consul-Index: 6", r#"{"web": []}"#));
    until(&mut updates, &[]).await;
    let requests = server.requests();
    assert!(requests.iter().all(|head| head.to_lowercase().contains("x-consul-token: s3")), "{requests:?}");
    assert!(requests.iter().any(|head| head.contains("dc=dc1&index=5&wait=120000ms&stale=")), "{requests:?}");
    assert!(!requests.iter().any(|head| head.contains("/service/other")), "it lacks the tag");
}

fn pod(name: &str, ip: &str, version: u32) -> String {
    format!(
        r#"{{"metadata": {{"name": "{name}", "namespace": "n", "resourceVersion": "{version}"}},
            "spec": {{"containers": [{{"name": "c"}}]}}, "status": {{"podIP": "{ip}"}}}}"#
    )
    .replace('\n', " ")
}

fn line(kind: &str, object: &str) -> String {
    format!("{{\"type\": \"{kind}\", \"object\": {object}}}\n")
}

fn list(version: u32, next: &str, items: &[String]) -> String {
    let items = items.join(",");
    format!(r#"{{"metadata": {{"resourceVersion": "{version}", "continue": "{next}"}}, "items": [{items}]}}"#)
}

#[tokio::test]
async fn pods_of_kubernetes() {
    let bookmark = r#"{"metadata": {"resourceVersion": "30"}}"#;
    let gone = r#"{"code": 410, "message": "too old resource version"}"#;
    let server = Server::start(vec![
        reply(
            "limit=500&labelSelector=app%3Dx HTTP",
            "200 OK",
            &list(10, "more", &[pod("a", "10.0.0.1", 1)]),
        ),
        reply("&continue=more", "200 OK", &list(10, "", &[pod("b", "10.0.0.2", 2)])),
        reply(
            "resourceVersion=10&",
            "200 OK",
            &(line("ADDED", &pod("c", "10.0.0.3", 11)) + &line("DELETED", &pod("a", "10.0.0.1", 12))),
        ),
        // The watch goes on from what came last.
        reply(
            "resourceVersion=12&",
            "200 OK",
            &(line("MODIFIED", &pod("b", "10.0.0.4", 13)) + &line("BOOKMARK", bookmark)),
        ),
    ])
    .await;
    let sd = format!(
        "{{role: pod, api_server: 'http://{}', bearer_token: t, namespaces: {{names: [n]}}, selectors: [{{role: pod, label: app=x}}]}}",
        server.address
    );
    let stats = Arc::new(DiscoveryStats::default());
    let (mut discovery, mut updates) = Discovery::with_settle(None, stats.clone(), SOON);
    discovery
        .apply(&configs(&format!("scrape_configs: [{{job_name: j, kubernetes_sd_configs: [{sd}]}}]")))
        .unwrap();
    until(&mut updates, &["10.0.0.3", "10.0.0.4"]).await;
    // Too old: the list is asked for anew, and says what is there.
    server.add(reply(
        "limit=500&labelSelector=app%3Dx HTTP",
        "200 OK",
        &list(40, "", &[pod("d", "10.0.0.9", 31)]),
    ));
    server.add(reply("resourceVersion=30&", "200 OK", &line("ERROR", gone)));
    until(&mut updates, &["10.0.0.9"]).await;
    server.add(reply("resourceVersion=40&", "410 Gone", ""));
    server.add(reply("limit=500&labelSelector=app%3Dx HTTP", "200 OK", &list(50, "", &[])));
    until(&mut updates, &[]).await;
    let requests = server.requests();
    assert!(requests.iter().all(|head| head.to_lowercase().contains("authorization: bearer t")));
    assert!(requests.iter().all(|head| head.starts_with("GET /api/v1/namespaces/n/pods?")), "{requests:?}");
}
