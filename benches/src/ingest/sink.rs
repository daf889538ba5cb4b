//! A remote-write receiver that counts and checks, and costs little: a series is known by the hash of the bytes
//! of its labels, so only a new one is parsed; and what followed it last time is looked at first, so the table is
//! rarely asked, whose cold memory would cost more than all the rest.

use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use hashbrown::HashMap;

use super::load::Load;
use super::values::{self, Form};
use crate::request::{answer_all, chunk, varint};

/// The NaN that ends a series: Prometheus, `model/value/value.go`.
const STALE_MARKER: u64 = 0x7ff0_0000_0000_0002;

/// How many scrapes ahead a value is looked for before it is called wrong.
const MAX_GAP: u32 = 600;

/// What has come so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Samples of pages, each checked.
    pub samples: u64,
    /// Samples of the agents' own making: `up` and its like.
    pub others: u64,
    pub stale: u64,
    /// Not the double that was on the page, though near it.
    pub inexact: u64,
    /// No value that the page ever had, or will have soon.
    pub wrong: u64,
    /// Scrapes of a series that were left out.
    pub missing: u64,
    /// The same scrape again, or an older one.
    pub repeated: u64,
    pub requests: u64,
    /// Requests that could not be read.
    pub faults: u64,
    pub body_bytes: u64,
    pub head_bytes: u64,
    pub age_sum_ms: u64,
    pub age_max_ms: u64,
}

/// A series that has come.
struct Known {
    hash: u64,
    /// What came after it the last time, by its place among the known ones.
    after: u32,
    /// `None`: not of a page.
    series: Option<Series>,
}

/// What is known of a series of a page.
struct Series {
    target: u32,
    series: u32,
    /// The scrape that is to come.
    next: u32,
}

/// For keys that are hashes already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are numbers");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hash = bytes.len() as u64;
    let mut add = |word: u64| {
        hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    };
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().for_each(|word| add(u64::from_le_bytes(*word)));
    rest.iter().for_each(|&byte| add(u64::from(byte)));
    hash
}

#[derive(Default)]
struct State {
    counts: Counts,
    known: Vec<Known>,
    /// Places among the known ones, by the hash of the labels' bytes.
    places: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
    /// The place of what came last.
    last: u32,
}

impl State {
    /// The place of the series with these labels among the known ones.
    fn place(&mut self, labels: &[u8]) -> usize {
        let hash = hash(labels);
        let guess = self.known.get(self.last as usize).map_or(0, |last| last.after);
        let place = match self.known.get(guess as usize) {
            Some(known) if known.hash == hash => guess,
            _ => *self.places.entry(hash).or_insert_with(|| {
                self.known.push(Known { hash, after: 0, series: parse_labels(labels) });
                self.known.len() as u32 - 1
            }),
        };
        if let Some(last) = self.known.get_mut(self.last as usize) {
            last.after = place;
        }
        self.last = place;
        place as usize
    }
}

/// A receiver that listens.
pub struct Sink {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl Sink {
    /// # Errors
    /// When no port can be listened on.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let state: Arc<Mutex<State>> = Arc::default();
        let all = state.clone();
        let accept = move || {
            for stream in listener.incoming().flatten() {
                let state = all.clone();
                let serve = move || serve(&stream, &state).unwrap_or(());
                let _ = std::thread::Builder::new().name("sink".into()).stack_size(256 << 10).spawn(serve);
            }
        };
        std::thread::Builder::new().name("sink".into()).spawn(accept)?;
        Ok(Sink { port, state })
    }

    pub fn counts(&self) -> Counts {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).counts
    }

    /// Ages are measured from now on.
    pub fn forget_ages(&self) {
        let counts = &mut self.state.lock().unwrap_or_else(PoisonError::into_inner).counts;
        (counts.age_max_ms, counts.age_sum_ms) = (0, 0);
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    answer_all(stream, |head, body, plain| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_millis() as i64);
        if plain.and_then(|plain| take(plain, now, &mut state)).is_none() {
            state.counts.faults += 1;
        }
        state.counts.requests += 1;
        state.counts.body_bytes += body.len() as u64;
        state.counts.head_bytes += head.len() as u64;
        "HTTP/1.1 204 No Content\r\n\r\n".into()
    })
}

/// A `WriteRequest` of remote write 1.0.
fn take(mut request: &[u8], now: i64, state: &mut State) -> Option<()> {
    while !request.is_empty() {
        let key = varint(&mut request)?;
        let message = chunk(&mut request)?;
        if key == 0x0a {
            take_series(message, now, state)?;
        }
    }
    Some(())
}

fn take_series(message: &[u8], now: i64, state: &mut State) -> Option<()> {
    let mut rest = message;
    while rest.first() == Some(&0x0a) {
        rest = &rest[1..];
        chunk(&mut rest)?;
    }
    let labels = &message[..message.len() - rest.len()];
    let place = state.place(labels);
    let entry = &mut state.known[place].series;
    let counts = &mut state.counts;
    while !rest.is_empty() {
        if varint(&mut rest)? != 0x12 {
            chunk(&mut rest)?;
            continue;
        }
        let mut sample = chunk(&mut rest)?;
        let (mut value, mut time) = (0.0, 0);
        while let Some((&key, after)) = sample.split_first() {
            sample = after;
            match key {
                0x09 => {
                    let (bytes, after) = sample.split_first_chunk()?;
                    (value, sample) = (f64::from_le_bytes(*bytes), after);
                }
                0x10 => time = varint(&mut sample)? as i64,
                _ => return None,
            }
        }
        if value.to_bits() == STALE_MARKER {
            counts.stale += 1;
            continue;
        }
        let Some(series) = entry.as_mut() else {
            counts.others += 1;
            continue;
        };
        let age = u64::try_from(now - time).unwrap_or(0);
        counts.age_sum_ms += age;
        counts.age_max_ms = counts.age_max_ms.max(age);
        counts.samples += 1;
        check(series, value, counts);
    }
    Some(())
}

fn check(series: &mut Series, value: f64, counts: &mut Counts) {
    let (target, number) = (series.target as usize, series.series as usize);
    let form: Form = values::form(number);
    let found = values::nearest(form, value);
    if values::value(form, found).to_bits() != value.to_bits() {
        counts.inexact += 1;
    }
    if values::number(target, number, series.next) == found {
        series.next += 1;
        return;
    }
    let ahead =
        (1..MAX_GAP).find(|gap| values::number(target, number, series.next.wrapping_add(*gap)) == found);
    let behind = || {
        (1..=series.next.min(MAX_GAP)).any(|back| values::number(target, number, series.next - back) == found)
    };
    match ahead {
        Some(gap) => {
            counts.missing += u64::from(gap);
            series.next = series.next.wrapping_add(gap + 1);
        }
        None if behind() => counts.repeated += 1,
        None => counts.wrong += 1,
    }
}

/// What series this is, and where its scrapes begin: with its generation, if it has one.
fn parse_labels(mut labels: &[u8]) -> Option<Series> {
    let (mut target, mut series, mut generation) = (None, None, 0);
    while !labels.is_empty() {
        labels = &labels[1..];
        let mut pair = chunk(&mut labels)?;
        pair = &pair[1..];
        let name = chunk(&mut pair)?;
        pair = pair.get(1..)?;
        let value = std::str::from_utf8(chunk(&mut pair)?).ok()?;
        match name {
            b"instance" => target = Some(Load::target(value.split(':').next()?.parse().ok()?)),
            b"shard" => series = value.parse().ok(),
            b"pod" => generation = value.parse().ok()?,
            _ => {}
        }
    }
    let next = generation * super::exposer::GENERATION;
    Some(Series { target: u32::try_from(target?).ok()?, series: series?, next })
}
