//! Every target of a run: one listener, a page that is made once and patched for each scrape.
//!
//! Pages are like those of services in a cluster: some hundred text bytes a sample with `HELP` and `TYPE`, six labels (eight
//! on the wire, with `job` and `instance`).

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::load::Load;
use super::values::{self, Form};

const FAMILIES: &[(&str, &str, &str)] = &[
    ("http_requests_total", "counter", "Requests answered, by route and status."),
    ("http_request_seconds_total", "counter", "Time spent on requests."),
    ("queue_messages", "gauge", "Messages that wait to be taken."),
    ("db_pool_connections", "gauge", "Connections to the database, by state."),
    ("cache_lookups_total", "counter", "Look-ups in the cache, by result."),
    ("worker_busy_seconds_total", "counter", "Time in which workers were busy."),
    ("rpc_sent_bytes_total", "counter", "Bytes sent to other services."),
    ("heap_objects", "gauge", "Objects alive on the heap."),
];
/// Series of a family that stand together.
const RUN: usize = 25;
/// Of each [`RUN`], this many are replaced when pages churn: 8 %.
const CHURNING: usize = 2;
/// Scrapes between two replacements.
pub const GENERATION: u32 = 4;

/// Where the page must be patched.
struct Patch {
    offset: usize,
    form: Form,
    /// Where the number of the generation stands, in series that churn.
    generation: Option<usize>,
}

struct Page {
    text: Vec<u8>,
    patches: Vec<Patch>,
}

fn page(load: &Load) -> Page {
    let (mut text, mut patches) = (String::new(), Vec::new());
    for series in 0..load.series {
        let run = series / RUN;
        let (name, kind, help) = FAMILIES[run % FAMILIES.len()];
        let team = ["shop", "mail", "auth", "feed", "pay"][run / FAMILIES.len() % 5];
        // On long pages the teams have several services, for a family stands in one place.
        let name = match run / FAMILIES.len() / 5 {
            0 => format!("{team}_{name}"),
            service => format!("{team}{service}_{name}"),
        };
        if series % RUN == 0 {
            write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n").expect("a string takes all");
        }
        let route = ["api", "web", "ops", "img", "doc"][series % 5];
        write!(text, "{name}{{code=\"{}\",method=\"GET\",pod=\"", 200 + series % 7).expect("so");
        let generation = (load.churn && series % RUN < CHURNING).then_some(text.len());
        write!(text, "000000\",route=\"{route}\",shard=\"{series}\",zone=\"{}\"}} ", series % 3).expect("so");
        patches.push(Patch { offset: text.len(), form: values::form(series), generation });
        text.push_str(values::template(values::form(series)));
        text.push('\n');
    }
    Page { text: text.into_bytes(), patches }
}

struct Shared {
    page: Page,
    /// The number of the next scrape of each target.
    scrapes: Vec<AtomicU32>,
    /// Copies of the page that nobody writes just now: as few as are needed at once, so that they stay in the cache.
    spare: Mutex<Vec<Vec<u8>>>,
}

/// The targets of a load, while it lives.
pub struct Exposer {
    pub port: u16,
    shared: Arc<Shared>,
}

impl Exposer {
    /// # Errors
    /// When no port can be listened on.
    pub fn start(load: &Load) -> io::Result<Self> {
        let listener = TcpListener::bind("0.0.0.0:0")?;
        let port = listener.local_addr()?.port();
        let scrapes = (0..load.targets).map(|_| AtomicU32::new(0)).collect();
        let shared = Arc::new(Shared { page: page(load), scrapes, spare: Mutex::default() });
        let all = shared.clone();
        let accept = move || {
            for stream in listener.incoming().flatten() {
                let shared = all.clone();
                let serve = move || serve(&stream, &shared).unwrap_or(());
                // A target that can't be served is a gap, which the sink will count.
                let _ = std::thread::Builder::new().name("exposer".into()).stack_size(64 << 10).spawn(serve);
            }
        };
        std::thread::Builder::new().name("exposer".into()).spawn(accept)?;
        Ok(Exposer { port, shared })
    }

    /// Bytes of a page for each of its samples.
    pub fn bytes_per_sample(&self) -> f64 {
        self.shared.page.text.len() as f64 / self.shared.page.patches.len() as f64
    }
}

/// One connection, until it ends.
fn serve(mut stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let IpAddr::V4(address) = stream.local_addr()?.ip() else { return Ok(()) };
    let target = Load::target(address);
    let mut request = [0; 4096];
    let mut have = 0;
    loop {
        while !request[..have].ends_with(b"\r\n\r\n") {
            match stream.read(&mut request[have..])? {
                0 => return Ok(()),
                n => have += n,
            }
        }
        have = 0;
        let spare = shared.spare.lock().ok().and_then(|mut spare| spare.pop());
        let mut answer = spare.unwrap_or_else(|| first_answer(&shared.page));
        let begin = answer.len() - shared.page.text.len();
        let scrape = shared.scrapes[target].fetch_add(1, Ordering::Relaxed);
        patch(&shared.page, target, scrape, &mut answer[begin..]);
        let written = stream.write_all(&answer);
        if let Ok(mut spare) = shared.spare.lock() {
            spare.push(answer);
        }
        written?;
    }
}

fn first_answer(page: &Page) -> Vec<u8> {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", page.text.len());
    [head.as_bytes(), &page.text].concat()
}

fn patch(page: &Page, target: usize, scrape: u32, text: &mut [u8]) {
    let mut generation = *b"000000";
    let mut rest = scrape / GENERATION;
    for digit in generation.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    for (series, patch) in page.patches.iter().enumerate() {
        values::patch(patch.form, values::number(target, series, scrape), &mut text[patch.offset..]);
        if let Some(at) = patch.generation {
            text[at..at + generation.len()].copy_from_slice(&generation);
        }
    }
}
