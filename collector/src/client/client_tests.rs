//! The client against servers of a few lines.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::config::{OAuth2, Proxy};

const LONG: Duration = Duration::from_secs(20);

/// Answers one request a connection by `answer`, and hands on what it was asked.
fn serve_one<S: Read + Write>(mut stream: S, answer: &dyn Fn(&str) -> String, seen: &Sender<String>) {
    let mut head = String::new();
    let mut reader = BufReader::new(&mut stream);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let length = head
        .to_ascii_lowercase()
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap_or_default().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    head.push_str(std::str::from_utf8(&body).unwrap());
    let reply = answer(&head);
    // The test may have ended, or may not care for what it sent.
    let _ = seen.send(head);
    let _ = stream.write_all(reply.as_bytes());
}

pub(crate) fn server(answer: impl Fn(&str) -> String + Send + 'static) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, seen) = channel();
    std::thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| serve_one(stream, &answer, &sender));
    });
    (address, seen)
}

pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn found(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

pub(super) async fn get(client: &Client, url: &str) -> Result<(u16, String), String> {
    let answer = client.get(url, HeaderMap::new(), 1000, LONG).await?;
    Ok((answer.status.as_u16(), String::from_utf8(answer.body).unwrap()))
}

fn inline(text: &str) -> Secret {
    Secret::Inline(text.to_owned())
}

#[tokio::test]
async fn secrets_in_files_are_read_for_each_request() {
    let (address, seen) = server(|_| ok("x"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "one\n").unwrap();
    let settings = HttpSettings {
        authorization: Some(Authorization::Basic {
            username: inline("me"),
            password: Secret::File(file.clone()),
        }),
        headers: vec![("X-Scope".into(), vec![inline("a"), inline("b")])],
        ..HttpSettings::default()
    };
    let client = Client::new(&settings).unwrap();
    assert_eq!(get(&client, &format!("http://{address}/a?b=c")).await, Ok((200, "x".into())));
    let head = seen.recv().unwrap();
    assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: Basic bWU6b25l\r\n"), "{head}");
    assert!(head.contains("x-scope: a\r\nx-scope: b\r\n"), "{head}");
    std::fs::write(&file, "two").unwrap();
    get(&client, &format!("http://{address}/")).await.unwrap();
    assert!(seen.recv().unwrap().contains("authorization: Basic bWU6dHdv\r\n"));
    std::fs::remove_file(&file).unwrap();
    let error = get(&client, &format!("http://{address}/")).await.unwrap_err();
    assert!(error.contains("password: No such file"), "{error}");
}

#[tokio::test]
async fn redirects_are_followed_on_demand_and_credentials_stay_behind() {
    let (other, seen_by_other) = server(|_| ok("there"));
    let target = other.clone();
    let (address, seen) = server(move |head| match head.split(' ').nth(1).unwrap() {
        "/away" => found(&format!("http://{target}/there")),
        "/near" => found("here?x=1"),
        "/circle" => found("/circle"),
        "/ftp" => found("ftp://127.0.0.1/"),
        _ => ok("here"),
    });
    let authorization = Some(Authorization::Header { scheme: "Bearer".into(), credentials: inline("token") });
    let mut settings = HttpSettings { authorization, follow_redirects: true, ..HttpSettings::default() };
    settings.headers.push(("X-Key".into(), vec![inline("secret")]));
    let client = Client::new(&settings).unwrap();
    assert_eq!(get(&client, &format!("http://{address}/near")).await, Ok((200, "here".into())));
    let (first, second) = (seen.recv().unwrap(), seen.recv().unwrap());
    assert!(first.contains("authorization: Bearer token\r\n"), "{first}");
    assert!(second.starts_with("GET /here?x=1 "), "{second}");
    assert!(second.contains("authorization: Bearer token\r\n"), "{second}");
    assert_eq!(get(&client, &format!("http://{address}/away")).await, Ok((200, "there".into())));
    let head = seen_by_other.recv().unwrap();
    assert!(!head.contains("token") && !head.contains("secret"), "{head}");
    let error = get(&client, &format!("http://{address}/circle")).await.unwrap_err();
    assert_eq!(error, "stopped after 10 redirects");
    let error = get(&client, &format!("http://{address}/ftp")).await.unwrap_err();
    assert!(error.ends_with("neither http nor https"), "{error}");
    settings.follow_redirects = false;
    let client = Client::new(&settings).unwrap();
    assert_eq!(get(&client, &format!("http://{address}/away")).await, Ok((302, String::new())));
}

#[tokio::test]
async fn a_proxy_gets_the_whole_url_and_for_https_a_connect() {
    let (address, seen) = server(|head| match head.split(' ').next() {
        Some("CONNECT") => "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n".into(),
        _ => ok("by proxy"),
    });
    let settings = HttpSettings {
        proxy: Proxy::Url {
            url: format!("http://u:p@{address}"),
            no_proxy: String::new(),
            connect_headers: vec![("X-Tunnel".into(), vec![inline("yes")])],
        },
        ..HttpSettings::default()
    };
    let client = Client::new(&settings).unwrap();
    let got = get(&client, "http://metrics.example:9100/metrics?a=b").await;
    assert_eq!(got, Ok((200, "by proxy".into())));
    let head = seen.recv().unwrap();
    assert!(head.starts_with("GET http://metrics.example:9100/metrics?a=b HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("proxy-authorization: Basic dTpw\r\n"), "{head}");
    let error = get(&client, "https://metrics.example/metrics").await.unwrap_err();
    assert!(error.contains("407"), "{error}");
    let head = seen.recv().unwrap();
    assert!(head.starts_with("CONNECT metrics.example:443 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic dTpw\r\nx-tunnel: yes\r\n"), "{head}");
}

#[tokio::test]
async fn a_token_is_fetched_once_and_anew_with_a_new_secret() {
    // This server wants the credentials in the body.
    let (tokens, asked) = server(|head| {
        if head.contains("client_id=") {
            ok(r#"{"access_token": "abc", "token_type": "bearer", "expires_in": 3600}"#)
        } else {
            "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".into()
        }
    });
    let (address, seen) = server(|_| ok("x"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "s/1").unwrap();
    let oauth2 = OAuth2 {
        client_id: "me".into(),
        client_secret: Secret::File(file.clone()),
        is_assertion: false,
        scopes: vec!["read".into(), "more".into()],
        token_url: format!("http://{tokens}/token"),
        endpoint_params: vec![("audience".into(), "all".into())],
        tls: TlsSettings::default(),
        proxy: Proxy::None,
    };
    let settings = HttpSettings { oauth2: Some(Box::new(oauth2)), ..HttpSettings::default() };
    let client = Client::new(&settings).unwrap();
    for _ in 0..2 {
        get(&client, &format!("http://{address}/")).await.unwrap();
        assert!(seen.recv().unwrap().contains("authorization: Bearer abc\r\n"));
    }
    let first = asked.recv().unwrap();
    assert!(first.contains("authorization: Basic bWU6cyUyRjE=\r\n"), "{first}");
    let second = asked.recv().unwrap();
    let form = "grant_type=client_credentials&scope=read+more&client_id=me&client_secret=s%2F1&audience=all";
    assert!(second.ends_with(form), "{second}");
    assert!(asked.try_recv().is_err(), "the token is kept");
    std::fs::write(&file, "s2").unwrap();
    get(&client, &format!("http://{address}/")).await.unwrap();
    assert!(asked.recv().is_ok());
    assert!(asked.recv().unwrap().contains("client_secret=s2"));
}

#[tokio::test]
async fn a_unix_socket_is_asked_whatever_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (sender, seen) = channel();
    std::thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| serve_one(stream, &|_| ok("{}"), &sender));
    });
    let client = Client::unix(&HttpSettings::default(), &path).unwrap();
    assert_eq!(get(&client, "http://localhost/containers/json").await, Ok((200, "{}".into())));
    let head = seen.recv().unwrap();
    assert!(head.starts_with("GET /containers/json HTTP/1.1\r\n"), "{head}");
}

#[tokio::test]
async fn bodies_are_bounded_and_so_is_waiting() {
    let (address, _seen) = server(|head| match head.split(' ').nth(1).unwrap() {
        "/long" => ok(&"x".repeat(1001)),
        "/endless" => {
            let chunks = "400\r\n".to_owned() + &"y".repeat(1024) + "\r\n";
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
        }
        _ => {
            std::thread::sleep(Duration::from_millis(500));
            ok("late")
        }
    });
    let client = Client::new(&HttpSettings::default()).unwrap();
    for path in ["long", "endless"] {
        let error = get(&client, &format!("http://{address}/{path}")).await.unwrap_err();
        assert_eq!(error, "the body is larger than 1000 bytes");
    }
    let short = Duration::from_millis(50);
    let late = client.get(&format!("http://{address}/late"), HeaderMap::new(), 1000, short).await;
    assert_eq!(late.unwrap_err(), "no answer within 50ms");
}

#[test]
fn references_are_resolved_against_where_they_came_from() {
    let base: Uri = "http://host:1/a/b?c".parse().unwrap();
    for (reference, expected) in [
        ("x", "http://host:1/a/x"),
        ("/x?y#z", "http://host:1/x?y"),
        ("?y", "http://host:1/a/b?y"),
        ("//other/x", "http://other/x"),
        ("https://other/x", "https://other/x"),
    ] {
        assert_eq!(resolve(reference, &base).unwrap().to_string(), expected, "{reference}");
    }
}

#[tokio::test]
async fn connections_go_to_any_address_of_the_name() {
    // The C library knows this name without asking anybody, mostly by two addresses.
    let first = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = first.local_addr().unwrap().port();
    let second = TcpListener::bind(("::1", port)).ok();
    let known = tokio::net::lookup_host(("localhost", port)).await.unwrap();
    let mut known: Vec<_> = known.filter(|address| address.is_ipv4() || second.is_some()).collect();
    known.sort_unstable();
    known.dedup();
    let (sender, seen) = channel();
    for listener in [Some(first), second].into_iter().flatten() {
        let sender = sender.clone();
        let is_v6 = listener.local_addr().unwrap().is_ipv6();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve_one(stream, &|_| ok(if is_v6 { "6" } else { "4" }), &sender);
            }
        });
    }
    let client = Client::new(&HttpSettings { round_robin_dns: true, ..HttpSettings::default() }).unwrap();
    let mut met = std::collections::BTreeSet::new();
    for _ in 0..60 {
        met.extend(get(&client, &format!("http://localhost:{port}/")).await.ok());
    }
    assert_eq!(met.len(), known.len(), "{met:?} of {known:?}");
    drop(seen);
}
