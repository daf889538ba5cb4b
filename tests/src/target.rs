//! Targets of the tests' own: each gives a page, and misbehaves on demand.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a target does when it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Gives this page of the text format.
    Page(String),
    /// Gives these bytes as a page.
    Bytes(Vec<u8>),
    /// These bytes with this `Content-Type`.
    Typed(String, Vec<u8>),
    /// Closes the connection without a word.
    Dead,
    /// Never answers.
    Hangs,
    /// Gives a byte of the page now and then.
    Drips,
    /// Gives a page without end.
    Endless,
    /// This page, packed by gzip.
    Gzip(Vec<u8>),
    /// This status, without a page.
    Status(u16),
}

/// A target that listens, as long as the process lives.
pub struct Target {
    pub port: u16,
    manner: Arc<Mutex<Manner>>,
}

impl Target {
    /// # Panics
    /// When loopback can't be listened on.
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let manner = Arc::new(Mutex::new(manner));
        let target = Target { port, manner: manner.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let manner = manner.clone();
                std::thread::spawn(move || while serve(&stream, &manner).is_some() {});
            }
        });
        target
    }

    pub fn page(text: &str) -> Self {
        Self::start(Manner::Page(text.to_owned()))
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on it does this.
    pub fn become_so(&self, manner: Manner) {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
    }

    pub fn show(&self, text: &str) {
        self.become_so(Manner::Page(text.to_owned()));
    }
}

/// One request of a connection. `None` when it is over.
fn serve(mut stream: &TcpStream, manner: &Mutex<Manner>) -> Option<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let manner = manner.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let text = "text/plain; version=0.0.4; charset=utf-8";
    let answer = |kind: &str, extra: &str, body: &[u8]| {
        let length = body.len();
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{extra}Content-Length: {length}\r\n\r\n");
        [head.as_bytes(), body].concat()
    };
    match manner {
        Manner::Page(page) => stream.write_all(&answer(text, "", page.as_bytes())).ok(),
        Manner::Bytes(page) => stream.write_all(&answer(text, "", &page)).ok(),
        Manner::Typed(kind, page) => stream.write_all(&answer(&kind, "", &page)).ok(),
        Manner::Gzip(page) => stream.write_all(&answer(text, "Content-Encoding: gzip\r\n", &page)).ok(),
        Manner::Status(status) => {
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).ok()
        }
        Manner::Dead => None,
        Manner::Hangs => {
            // Until the other side has had enough.
            let _ = stream.read(&mut byte);
            None
        }
        Manner::Drips => {
            let page = answer(text, "", &[b'\n'; 100_000]);
            for byte in page {
                stream.write_all(&[byte]).ok()?;
                std::thread::sleep(Duration::from_millis(5));
            }
            None
        }
        Manner::Endless => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {text}\r\n\r\n");
            stream.write_all(head.as_bytes()).ok()?;
            loop {
                stream.write_all(&[b'\n'; 4096]).ok()?;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}
