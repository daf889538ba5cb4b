//! The client against servers that misbehave, in this process.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;
use std::time::Duration;

use super::*;

/// Long enough for a machine that is busy, where an answer is expected.
const PATIENT: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(50);

/// Reads a whole question.
fn read_question(stream: &mut impl Read) -> String {
    let mut question = Vec::new();
    let mut bytes = [0; 1024];
    while !question.ends_with(b"</methodCall>") {
        let n = stream.read(&mut bytes).unwrap();
        assert!(n > 0, "the question ends early");
        question.extend_from_slice(&bytes[..n]);
    }
    String::from_utf8(question).unwrap()
}

/// A server that answers one question so, and closes the connection. Gives the question.
fn serve(answer: Vec<u8>) -> (Endpoint, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let question = read_question(&mut stream);
        // A client that has seen enough goes away.
        let _ = stream.write_all(&answer);
        question
    });
    (Endpoint::parse(&format!("http://me:p%40ss@127.0.0.1:{port}/RPC2")).unwrap(), server)
}

fn ask(answer: impl Into<Vec<u8>>) -> (Result<Vec<u8>, String>, String) {
    let (endpoint, server) = serve(answer.into());
    let result = endpoint.ask(PATIENT, &mut Vec::new()).map(<[u8]>::to_vec);
    (result, server.join().unwrap())
}

#[test]
fn a_question_and_its_answer() {
    let (result, question) = ask("HTTP/1.0 200 OK\r\nServer: x\r\n\r\n<methodResponse/>");
    assert_eq!(result.unwrap(), b"<methodResponse/>");
    assert!(question.starts_with("POST /RPC2 HTTP/1.0\r\nHost: 127.0.0.1:"), "{question}");
    assert!(question.contains("\r\nAuthorization: Basic bWU6cEBzcw==\r\n"), "{question}");
    let length = question.split_once("\r\n\r\n").unwrap().1.len();
    assert!(question.contains(&format!("\r\nContent-Length: {length}\r\n")), "{question}");
    assert!(question.contains("<methodName>supervisor.getAllProcessInfo</methodName>"));
    let (result, _) = ask("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcdef");
    assert_eq!(result.unwrap(), b"abc");
}

#[test]
fn answers_that_are_none() {
    for (answer, why) in [
        ("HTTP/1.0 401 Unauthorized\r\n\r\n", "HTTP status 401"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nabc", "an answer that ends early"),
        ("HTTP/1.0 200 OK\r\n", "an answer that is not HTTP"),
        ("SSH-2.0-OpenSSH_10.0\r\n\r\n", "an answer that is not HTTP"),
        ("", "an answer that is not HTTP"),
    ] {
        assert_eq!(ask(answer).0.unwrap_err(), why, "{answer:?}");
    }
}

#[test]
fn a_huge_answer_is_given_up() {
    let mut answer = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
    answer.resize(MAX_ANSWER * 4, b' ');
    let (endpoint, server) = serve(answer);
    let mut buffer = Vec::new();
    assert!(endpoint.ask(PATIENT, &mut buffer).unwrap_err().contains("more than 4194304 bytes"));
    assert!(buffer.len() <= MAX_ANSWER + READ_BYTES);
    server.join().unwrap();
}

#[test]
fn a_server_that_hangs_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let endpoint = Endpoint::parse(&format!("http://127.0.0.1:{port}/RPC2")).unwrap();
    assert_eq!(endpoint.ask(SHORT, &mut Vec::new()).unwrap_err(), "no whole answer within 50ms");
    drop(listener);
    assert!(endpoint.ask(PATIENT, &mut Vec::new()).unwrap_err().contains("refused"));
}

#[test]
fn a_server_that_trickles_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // Ends when the client is gone.
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let endpoint = Endpoint::parse(&format!("http://127.0.0.1:{port}/RPC2")).unwrap();
    assert_eq!(endpoint.ask(SHORT, &mut Vec::new()).unwrap_err(), "no whole answer within 50ms");
    server.join().unwrap();
}

#[test]
fn a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("supervisor.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let question = read_question(&mut stream);
        stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        // The connection stays open until the client has gone.
        let _ = stream.read(&mut [0]);
        question
    });
    let endpoint = Endpoint::parse(&format!("unix://{}", path.display())).unwrap();
    assert_eq!(endpoint.ask(PATIENT, &mut Vec::new()).unwrap(), b"ok");
    assert!(server.join().unwrap().starts_with("POST /RPC2 HTTP/1.0\r\nHost: unix\r\n"));
}

#[test]
fn addresses() {
    let shown = |url: &str| Endpoint::parse(url).map(|endpoint| endpoint.to_string());
    for (url, expected) in [
        ("http://localhost:9001/RPC2", "http://localhost:9001/RPC2"),
        ("http://[::1]:9001/RPC2", "http://[::1]:9001/RPC2"),
        ("http://[::1]", "http://[::1]:80/"),
        ("http://u:secret@host/x", "http://host:80/x"),
        ("unix:///run/supervisor.sock", "unix:///run/supervisor.sock"),
    ] {
        assert_eq!(shown(url).as_deref(), Ok(expected), "{url}");
    }
    for wrong in ["", "https://host", "http://", "http://host:x", "http://host:70000", "http://host/a b"] {
        assert!(shown(wrong).is_err(), "{wrong}");
    }
}
