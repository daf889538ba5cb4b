//! A remote-write receiver of the tests' own: keeps every sample it takes, and misbehaves on demand.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message as _;

use crate::proto::{v1, v2};

/// What the receiver answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Takes the samples; with the headers that 2.0 asks for.
    Accept,
    /// Takes the samples, and says nothing of what it wrote.
    AcceptSilently,
    /// This status with these headers and body; nothing is taken.
    Status(u16, Vec<(String, String)>, String),
    /// Bytes that are no HTTP.
    Garbage,
    /// Takes the samples and closes without an answer.
    TakeAndHangUp,
    /// Waits this long, then takes the samples.
    Slow(Duration),
}

/// One sample that was taken: time in milliseconds, and the bits of its value.
pub type Point = (i64, u64);

/// The numbers of the intervals in which these times lie. An interval begins where a host's ticks do: behind the
/// longest part of it in which there are none, for a tick on a busy machine may be late.
///
/// # Panics
/// Without a time.
pub fn slots(times: &[i64], interval_ms: i64) -> Vec<i64> {
    let mut places: Vec<i64> = times.iter().map(|time| time.rem_euclid(interval_ms)).collect();
    places.sort_unstable();
    let before = |at: usize| if at == 0 { places[places.len() - 1] - interval_ms } else { places[at - 1] };
    let first = (0..places.len()).max_by_key(|&at| places[at] - before(at)).expect("there are times");
    times.iter().map(|time| (time - places[first]).div_euclid(interval_ms)).collect()
}

/// What came.
#[derive(Default, Debug)]
pub struct Taken {
    /// Samples of each series in the order in which they came, under `name{labels}`.
    pub series: BTreeMap<String, Vec<Point>>,
    /// Native histograms of each series.
    pub histograms: BTreeMap<String, Vec<(i64, u64)>>,
    /// The schemas of those.
    pub schemas: BTreeMap<String, Vec<i32>>,
    /// Exemplars of each series: labels, time, bits of the value.
    pub exemplars: BTreeMap<String, Vec<(String, i64, u64)>>,
    /// When the counting of each series began, as its samples of 2.0 say it, the same ones once.
    pub starts: BTreeMap<String, Vec<i64>>,
    /// Request headers, one map a request, names in lower case.
    pub requests: Vec<BTreeMap<String, String>>,
    /// Requests that could not be decoded.
    pub faults: Vec<String>,
}

impl Taken {
    /// Samples and native histograms.
    fn counts(&self) -> (usize, usize) {
        let points = |all: &BTreeMap<String, Vec<Point>>| all.values().map(Vec::len).sum();
        (points(&self.series), points(&self.histograms))
    }
}

/// A receiver that listens.
pub struct Receiver {
    pub port: u16,
    answer: Arc<Mutex<Answer>>,
    taken: Arc<Mutex<Taken>>,
}

impl Receiver {
    /// # Panics
    /// When loopback can't be listened on.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let (answer, taken) = (Arc::new(Mutex::new(Answer::Accept)), Arc::default());
        let receiver = Receiver { port, answer: answer.clone(), taken: Arc::clone(&taken) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, taken) = (answer.clone(), taken.clone());
                std::thread::spawn(move || while serve(&stream, &answer, &taken).is_some() {});
            }
        });
        receiver
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/api/v1/write", self.port)
    }

    /// From now on it answers so.
    ///
    /// # Panics
    /// When a thread of the receiver has panicked.
    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().expect("no thread panicked") = answer;
    }

    /// Looks at what came.
    ///
    /// # Panics
    /// As [`Receiver::answer`].
    pub fn look<T>(&self, look: impl FnOnce(&Taken) -> T) -> T {
        look(&self.taken.lock().expect("no thread panicked"))
    }
}

/// One request of a connection. `None` when it is over.
fn serve(stream: &TcpStream, answer: &Mutex<Answer>, taken: &Mutex<Taken>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    if reader.read_line(&mut first).ok()? == 0 {
        return None;
    }
    let mut headers = BTreeMap::from([(":request".to_owned(), first.trim().to_owned())]);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let how = answer.lock().ok()?.clone();
    // Takes the samples, and gives the headers that say how many there were.
    let keep = |headers: BTreeMap<String, String>| {
        let mut taken = taken.lock().expect("no thread panicked");
        let (mut samples, mut histograms) = taken.counts();
        if let Err(fault) = take(&headers, &body, &mut taken) {
            taken.faults.push(fault);
        }
        taken.requests.push(headers);
        let (all_samples, all_histograms) = taken.counts();
        (samples, histograms) = (all_samples - samples, all_histograms - histograms);
        format!(
            "X-Prometheus-Remote-Write-Samples-Written: {samples}\r\n\
             X-Prometheus-Remote-Write-Histograms-Written: {histograms}\r\n\
             X-Prometheus-Remote-Write-Exemplars-Written: 0\r\n"
        )
    };
    let mut out = stream;
    let reply = match how {
        Answer::Accept => {
            let written = keep(headers);
            format!("HTTP/1.1 204 No Content\r\n{written}\r\n")
        }
        Answer::AcceptSilently => {
            keep(headers);
            "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
        }
        Answer::Slow(wait) => {
            std::thread::sleep(wait);
            let written = keep(headers);
            format!("HTTP/1.1 204 No Content\r\n{written}\r\n")
        }
        Answer::TakeAndHangUp => {
            keep(headers);
            return None;
        }
        Answer::Garbage => "\0\u{1}\u{2} this is no HTTP\r\n\r\n".to_owned(),
        Answer::Status(status, extra, text) => {
            taken.lock().ok()?.requests.push(headers);
            let extra: String = extra.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            format!("HTTP/1.1 {status} X\r\n{extra}Content-Length: {}\r\n\r\n{text}", text.len())
        }
    };
    out.write_all(reply.as_bytes()).ok()
}

fn take(headers: &BTreeMap<String, String>, body: &[u8], taken: &mut Taken) -> Result<(), String> {
    let plain = snap::raw::Decoder::new().decompress_vec(body).map_err(|error| error.to_string())?;
    let is_v2 = headers.get("x-prometheus-remote-write-version").is_some_and(|version| version == "2.0.0");
    if is_v2 { take_v2(&plain, taken) } else { take_v1(&plain, taken) }
}

fn take_v1(plain: &[u8], taken: &mut Taken) -> Result<(), String> {
    let request = v1::WriteRequest::decode(plain).map_err(|error| error.to_string())?;
    for series in request.timeseries {
        let pairs = series.labels.iter().map(|label| (label.name.as_str(), label.value.as_str()));
        let key = series_key(pairs)?;
        let points = series.samples.iter().map(|sample| (sample.timestamp, sample.value.to_bits()));
        taken.series.entry(key.clone()).or_default().extend(points);
        let histograms = series.histograms.iter().map(|h| (h.timestamp, h.sum.to_bits()));
        taken.histograms.entry(key.clone()).or_default().extend(histograms);
        for one in &series.exemplars {
            let labels: Vec<_> =
                one.labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect();
            let said = (labels.join(","), one.timestamp, one.value.to_bits());
            taken.exemplars.entry(key.clone()).or_default().push(said);
        }
    }
    taken.series.retain(|_, points| !points.is_empty());
    taken.histograms.retain(|_, points| !points.is_empty());
    Ok(())
}

fn take_v2(plain: &[u8], taken: &mut Taken) -> Result<(), String> {
    let request = v2::Request::decode(plain).map_err(|error| error.to_string())?;
    if request.symbols.first().is_none_or(|first| !first.is_empty()) {
        return Err("the first symbol is not empty".into());
    }
    let text = |reference: u32| {
        request.symbols.get(reference as usize).map(String::as_str).ok_or("a reference beyond the symbols")
    };
    for series in &request.timeseries {
        let mut pairs = Vec::new();
        for pair in series.labels_refs.chunks(2) {
            let [name, value] = pair else { return Err("an odd number of references".into()) };
            pairs.push((text(*name)?, text(*value)?));
        }
        let key = series_key(pairs.into_iter())?;
        let points = series.samples.iter().map(|sample| (sample.timestamp, sample.value.to_bits()));
        taken.series.entry(key.clone()).or_default().extend(points);
        let histograms = series.histograms.iter().map(|h| (h.timestamp, h.sum.to_bits()));
        taken.histograms.entry(key.clone()).or_default().extend(histograms);
        taken.schemas.entry(key.clone()).or_default().extend(series.histograms.iter().map(|h| h.schema));
        if series.samples.is_empty() && series.histograms.is_empty() {
            return Err(format!("{key} has neither a sample nor a histogram"));
        }
        for one in &series.exemplars {
            let mut labels = Vec::new();
            for pair in one.labels_refs.chunks(2) {
                let [name, value] = pair else { return Err("an odd number of references".into()) };
                labels.push(format!("{}={}", text(*name)?, text(*value)?));
            }
            let said = (labels.join(","), one.timestamp, one.value.to_bits());
            taken.exemplars.entry(key.clone()).or_default().push(said);
        }
        let starts = taken.starts.entry(key).or_default();
        let said = series.samples.iter().map(|sample| sample.start_timestamp);
        for start in said.chain(series.histograms.iter().map(|h| h.start_timestamp)) {
            if !starts.contains(&start) {
                starts.push(start);
            }
        }
    }
    taken.schemas.retain(|_, schemas| !schemas.is_empty());
    taken.series.retain(|_, points| !points.is_empty());
    taken.histograms.retain(|_, points| !points.is_empty());
    Ok(())
}

/// `name{a="1",b="2"}`; refuses labels that are unsorted, repeated or empty.
fn series_key<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> Result<String, String> {
    let (mut name, mut rest, mut last) = (String::new(), String::new(), String::new());
    for (label, value) in labels {
        if label.is_empty() || value.is_empty() || label <= last.as_str() {
            return Err(format!("label {label:?}={value:?} after {last:?}"));
        }
        last = label.to_owned();
        if label == "__name__" {
            name = value.to_owned();
        } else {
            rest += &format!("{}{label}={value:?}", if rest.is_empty() { "" } else { "," });
        }
    }
    if name.is_empty() {
        Err(format!("a series without a name: {rest}"))
    } else {
        Ok(format!("{name}{{{rest}}}"))
    }
}
