//! A receiver of remote write 1.0 and 2.0 that counts samples and adds up their fingerprints, so that one that is
//! missing, or comes twice, or is another, shows.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::fingerprint;
use crate::request::{answer_all, chunk, varint};

/// What has come so far.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    pub samples: u64,
    /// The sum of their fingerprints.
    pub sum: u64,
    pub requests: u64,
    pub body_bytes: u64,
    /// Requests that could not be read.
    pub faults: u64,
    /// Of samples of after [`Receiver::live_from`]: how many, and their ages when they came.
    pub live: u64,
    pub live_age_ms: u64,
    pub live_age_max_ms: u64,
}

#[derive(Default)]
struct State {
    counts: Counts,
    live_from: i64,
}

/// A receiver that listens.
pub struct Receiver {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl Receiver {
    /// # Errors
    /// When no port can be listened on.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let state: Arc<Mutex<State>> = Arc::default();
        let all = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = all.clone();
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
        Ok(Receiver { port, state })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// What is newer counts as live.
    pub fn live_from(&self, time_ms: i64) {
        self.state().live_from = time_ms;
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_millis() as i64)
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    answer_all(stream, |head, body, plain| {
        let is_second = head.windows(9).any(|bytes| bytes == b"v2.Reques");
        let live_from = state.lock().unwrap_or_else(PoisonError::into_inner).live_from;
        let found = plain.and_then(|plain| take(plain, is_second, live_from));
        let found = found.unwrap_or(Counts { faults: 1, ..Counts::default() });
        let counts = &mut state.lock().unwrap_or_else(PoisonError::into_inner).counts;
        counts.requests += 1;
        counts.body_bytes += body.len() as u64;
        counts.faults += found.faults;
        counts.samples += found.samples;
        counts.sum = counts.sum.wrapping_add(found.sum);
        counts.live += found.live;
        counts.live_age_ms += found.live_age_ms;
        counts.live_age_max_ms = counts.live_age_max_ms.max(found.live_age_max_ms);
        format!(
            "HTTP/1.1 204 No Content\r\nX-Prometheus-Remote-Write-Samples-Written: {}\r\n\
             X-Prometheus-Remote-Write-Histograms-Written: 0\r\n\
             X-Prometheus-Remote-Write-Exemplars-Written: 0\r\n\r\n",
            found.samples
        )
        .into()
    })
}

/// The samples of a request, of which each series has one.
fn take(mut request: &[u8], is_second: bool, live_from: i64) -> Option<Counts> {
    let series_key = if is_second { 0x2a } else { 0x0a };
    let (mut counts, now) = (Counts::default(), now_ms());
    while !request.is_empty() {
        let key = varint(&mut request)?;
        let mut series = chunk(&mut request)?;
        while key == series_key && !series.is_empty() {
            let field = varint(&mut series)?;
            let sample = chunk(&mut series)?;
            if field != 0x12 {
                continue;
            }
            let (value, mut rest) = sample.get(1..)?.split_first_chunk()?;
            rest = rest.get(1..)?;
            let time = varint(&mut rest)?;
            counts.samples += 1;
            counts.sum = counts.sum.wrapping_add(fingerprint(u64::from_le_bytes(*value), time));
            if time as i64 > live_from {
                let age = u64::try_from(now - time as i64).unwrap_or(0);
                counts.live += 1;
                counts.live_age_ms += age;
                counts.live_age_max_ms = counts.live_age_max_ms.max(age);
            }
        }
    }
    Some(counts)
}
