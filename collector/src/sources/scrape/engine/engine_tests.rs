//! The engine against targets of a few lines, and what comes out of the ring.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::config::{Escaping, HttpSettings, PageRules, ScrapeProtocol};
use crate::model::Batch;

const INTERVAL: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(20);

fn config(job: &str) -> ScrapeConfig {
    ScrapeConfig {
        job_name: job.into(),
        scrape_interval: INTERVAL,
        scrape_timeout: INTERVAL,
        metrics_path: "/metrics".into(),
        scheme: "http".into(),
        params: Vec::new(),
        page: Arc::new(PageRules::default()),
        http: HttpSettings { follow_redirects: true, ..HttpSettings::default() },
        enable_compression: true,
        escaping: Escaping::default(),
        discovery: Vec::new(),
        protocols: vec![ScrapeProtocol::PrometheusText0_0_4],
        relabel: Arc::new([]),
        target_limit: None,
        keep_dropped_targets: None,
        static_configs: Vec::new(),
    }
}

fn target(address: &str, hash: u64) -> Target {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Target {
        labels: vec![label("instance", address), label("job", "test")],
        discovered: vec![label("__address__", address)],
        url: format!("http://{address}/metrics"),
        interval: INTERVAL,
        timeout: INTERVAL,
        http: None,
        hash,
    }
}

/// A target whose connections are answered by `answer`, which gets their number, from 0; and how many there were.
fn server(answer: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let (answer, counted) = (Arc::new(answer), count.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answer, number) = (answer.clone(), counted.fetch_add(1, Ordering::SeqCst));
            std::thread::spawn(move || answer(number, stream));
        }
    });
    (address, count)
}

/// Reads a request; `false` when the connection has ended.
fn request(stream: &mut TcpStream) -> bool {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// Answers each request of a connection with what `page` gives.
fn serve(mut stream: TcpStream, page: impl Fn() -> Vec<u8>) {
    while request(&mut stream) && stream.write_all(&page()).is_ok() {}
}

fn page(body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

struct Rig {
    engine: Arc<Engine>,
    receiver: ring::Receiver,
    table: Arc<SeriesTable>,
}

impl Rig {
    fn new(configs: &[ScrapeConfig]) -> Self {
        let (sender, receiver) = ring::ring(1024);
        let table = Arc::new(SeriesTable::default());
        let engine = Engine::new(1, sender, table.clone(), Arc::default());
        engine.set_jobs(engine.prepare(configs).unwrap()).unwrap();
        Rig { engine, receiver, table }
    }

    fn set_jobs(&self, configs: &[ScrapeConfig]) {
        self.engine.set_jobs(self.engine.prepare(configs).unwrap()).unwrap();
    }

    /// The next batch of the target at `address`, as series and values; empty where everything ends.
    fn next(&self, address: &str) -> Vec<(String, f64)> {
        let end = Instant::now() + LONG;
        while Instant::now() < end {
            let Some(batch) = self.receiver.try_recv() else {
                self.receiver.wait(Duration::from_millis(50));
                continue;
            };
            let is_it = batch.shape().source.name.ends_with(address);
            let samples = self.samples(&batch);
            self.receiver.give_back(batch);
            if is_it {
                return samples;
            }
        }
        panic!("nothing came of {address}");
    }

    fn samples(&self, batch: &Batch) -> Vec<(String, f64)> {
        let table = self.table.lock();
        let floats = batch.shape().floats().iter().zip(&batch.values);
        floats.map(|(&(id, _), &value)| (table.view(id).name().to_owned(), value)).collect()
    }

    fn status(&self, address: &str) -> Status {
        let pools = self.engine.view();
        let mut entries = pools.iter().flat_map(|pool| &pool.active);
        entries.find(|entry| entry.target.url.contains(address)).unwrap().status()
    }

    /// Waits until the target is down for this reason. On a busy machine it may be too slow a few times before.
    fn wait_error(&self, address: &str, expected: &str) {
        let end = Instant::now() + LONG;
        loop {
            let status = self.status(address);
            if status.health == Health::Down && status.last_error.contains(expected) {
                return;
            }
            assert!(Instant::now() < end, "{address}: {:?} does not say {expected:?}", status.last_error);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn value(samples: &[(String, f64)], name: &str) -> Option<f64> {
    samples.iter().find(|(found, _)| found == name).map(|&(_, value)| value)
}

#[test]
fn a_connection_is_kept_and_one_that_was_closed_is_made_anew() {
    let (address, connections) = server(|_, mut stream| {
        for _ in 0..3 {
            if !request(&mut stream) || stream.write_all(&page("x 1.5\n")).is_err() {
                return;
            }
        }
    });
    let rig = Rig::new(&[config("test")]);
    rig.engine.set_targets("test", vec![target(&address, 7)], Vec::new(), 0);
    for _ in 0..8 {
        let samples = rig.next(&address);
        assert_eq!(value(&samples, "x"), Some(1.5), "{}", rig.status(&address).last_error);
        assert_eq!(value(&samples, "up"), Some(1.0));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3);
    let status = rig.status(&address);
    assert_eq!((status.health, status.samples, status.body_size), (Health::Up, 1, 6));
    rig.engine.stop();
}

#[test]
fn targets_that_misbehave_are_down_and_delay_nobody() {
    let good = server(|_, stream| serve(stream, || page("x 1\n"))).0;
    let hangs = server(|_, stream| {
        std::thread::sleep(LONG);
        drop(stream);
    })
    .0;
    let drips = server(|_, mut stream| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10000\r\n\r\n";
        let mut more = request(&mut stream) && stream.write_all(head).is_ok();
        while more {
            std::thread::sleep(Duration::from_millis(10));
            more = stream.write_all(b"#").is_ok();
        }
    })
    .0;
    let endless = server(|_, mut stream| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";
        let mut more = request(&mut stream) && stream.write_all(head).is_ok();
        while more {
            more = stream.write_all(&[b'#'; 1024]).is_ok();
        }
    })
    .0;
    let lost =
        server(|_, stream| serve(stream, || b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into())).0;
    let strange = server(|_, stream| serve(stream, || b"\0\x01\x02\r\n\r\n".into())).0;
    let bad = server(|_, stream| serve(stream, || page("x one\n"))).0;
    let packed = gzip_bomb();
    let bomb = server(move |_, stream| serve(stream, || packed.clone())).0;
    let closed = "127.0.0.1:1".to_owned();
    let mut limited = config("test");
    limited.page = Arc::new(PageRules { body_size_limit: 1 << 16, ..PageRules::default() });
    let rig = Rig::new(&[limited]);
    let all = [&good, &hangs, &drips, &endless, &lost, &strange, &bad, &bomb, &closed];
    let targets = all.iter().enumerate().map(|(hash, address)| target(address, hash as u64)).collect();
    rig.engine.set_targets("test", targets, Vec::new(), 0);
    for (address, expected) in [
        (&hangs, "no whole answer within 100ms"),
        (&drips, "no whole answer within 100ms"),
        (&endless, "body size limit exceeded"),
        (&lost, "server returned HTTP status 404 Not Found"),
        (&strange, "no HTTP"),
        (&bad, "one"),
        (&bomb, "body size limit exceeded"),
        (&closed, "refused"),
    ] {
        rig.wait_error(address, expected);
        assert_eq!(value(&rig.next(address), "up"), Some(0.0), "{expected}");
    }
    for _ in 0..3 {
        assert_eq!(value(&rig.next(&good), "up"), Some(1.0));
    }
    rig.engine.stop();
}

/// 10 MiB in little.
fn gzip_bomb() -> Vec<u8> {
    let mut packer = libdeflater::Compressor::new(libdeflater::CompressionLvl::fastest());
    let text = vec![b'#'; 10 << 20];
    let mut body = vec![0; packer.gzip_compress_bound(text.len())];
    let length = packer.gzip_compress(&text, &mut body).unwrap();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), &body[..length]].concat()
}

#[test]
fn targets_that_stay_are_left_alone_and_those_that_go_end() {
    let (stays, connections) = server(|_, stream| serve(stream, || page("x 1\n")));
    let goes = server(|_, stream| serve(stream, || page("y 1\n"))).0;
    let rig = Rig::new(&[config("test"), config("other")]);
    let both = vec![target(&stays, 1), target(&goes, 2)];
    rig.engine.set_targets("test", both, Vec::new(), 0);
    assert_eq!(value(&rig.next(&goes), "y"), Some(1.0));
    assert_eq!(value(&rig.next(&stays), "x"), Some(1.0));
    rig.engine.set_targets("test", vec![target(&stays, 1)], Vec::new(), 0);
    let mut last = rig.next(&goes);
    while value(&last, "y").is_some() {
        last = rig.next(&goes);
    }
    assert_eq!(last, Vec::new(), "everything of it ends");
    // Another URL under the same labels is the same series: nothing ends, though all else is new.
    let mut moved = target(&stays, 3);
    moved.url.push_str("?x=1");
    rig.engine.set_targets("test", vec![moved], Vec::new(), 0);
    for _ in 0..3 {
        assert_eq!(value(&rig.next(&stays), "x"), Some(1.0));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
    rig.set_jobs(&[config("other")]);
    let mut last = rig.next(&stays);
    while value(&last, "x").is_some() {
        last = rig.next(&stays);
    }
    assert_eq!(last, Vec::new());
    assert_eq!(rig.engine.view().len(), 1);
    rig.engine.stop();
}

#[test]
fn what_is_not_plain_is_fetched_by_the_client() {
    let other = server(|_, stream| serve(stream, || page("x 3\n"))).0;
    let location =
        format!("HTTP/1.1 302 Found\r\nLocation: http://{other}/there\r\nContent-Length: 0\r\n\r\n");
    let redirects = server(move |_, stream| serve(stream, || location.clone().into_bytes())).0;
    let rig = Rig::new(&[config("test")]);
    rig.engine.set_targets("test", vec![target(&redirects, 1)], Vec::new(), 0);
    assert_eq!(value(&rig.next(&redirects), "x"), Some(3.0), "{}", rig.status(&redirects).last_error);
    let mut stern = config("test");
    stern.http.follow_redirects = false;
    rig.set_jobs(&[stern]);
    rig.wait_error(&redirects, "302");
    rig.engine.stop();
}

#[test]
fn a_job_beyond_its_limit_is_not_scraped() {
    let mut limited = config("test");
    limited.target_limit = Some(1);
    let rig = Rig::new(&[limited]);
    rig.engine.set_targets("test", vec![target("127.0.0.1:1", 1), target("127.0.0.1:2", 2)], Vec::new(), 0);
    assert_eq!(rig.engine.view()[0].active.len(), 0);
    rig.engine.set_targets("test", vec![target("127.0.0.1:1", 1)], Vec::new(), 0);
    assert_eq!(rig.engine.view()[0].active.len(), 1);
    rig.engine.stop();
}
