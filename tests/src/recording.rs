//! What went over the wire between the collector and a receiver that answers by a script.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prost::Message as _;

use crate::proto::{v1, v2};

/// A version of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    One,
    Two,
}

impl Version {
    /// The value of `protobuf_message`.
    pub fn message(self) -> &'static str {
        match self {
            Version::One => "prometheus.WriteRequest",
            Version::Two => "io.prometheus.write.v2.Request",
        }
    }
}

/// What the receiver answers.
#[derive(Clone, Debug)]
pub struct Reply {
    /// 0 stands for bytes that are no HTTP.
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub after: Duration,
    /// Takes the request, and closes without the answer.
    pub hangs_up: bool,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Reply { status, headers: Vec::new(), body: Vec::new(), after: Duration::ZERO, hangs_up: false }
    }

    /// Taken, with the headers that say what was written of `request`.
    pub fn accepted(request: &Exchange) -> Self {
        let wire = request.wire().unwrap_or_default();
        let samples = wire.series.iter().map(|series| series.samples.len()).sum::<usize>();
        let histograms = wire.series.iter().map(|series| series.histograms.len()).sum::<usize>();
        let exemplars = wire.series.iter().map(|series| series.exemplars.len()).sum::<usize>();
        let mut reply = Reply::status(204).written(samples, histograms);
        reply.headers.last_mut().expect("three").1 = exemplars.to_string();
        reply
    }

    pub fn written(mut self, samples: usize, histograms: usize) -> Self {
        self.headers.push(("X-Prometheus-Remote-Write-Samples-Written", samples.to_string()));
        self.headers.push(("X-Prometheus-Remote-Write-Histograms-Written", histograms.to_string()));
        self.headers.push(("X-Prometheus-Remote-Write-Exemplars-Written", "0".into()));
        self
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    #[must_use]
    pub fn hangs_up(mut self) -> Self {
        self.hangs_up = true;
        self
    }

    pub fn after(mut self, after: Duration) -> Self {
        self.after = after;
        self
    }
}

/// One request and its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Since the receiver listens.
    pub came: Duration,
    pub answered: Duration,
    pub first_line: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    pub status: u16,
    /// Whether the answer said what was written.
    pub said_written: bool,
    /// Whether the answer was kept back.
    pub is_unanswered: bool,
}

/// An exemplar of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    pub labels: Vec<(String, String)>,
    pub bits: u64,
    pub time_ms: i64,
}

/// One series of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    pub labels: Vec<(String, String)>,
    pub samples: Vec<(i64, u64)>,
    /// In the form of 2.0, which has all fields of 1.0.
    pub histograms: Vec<v2::Histogram>,
    pub exemplars: Vec<Exemplar>,
    /// 2.0: since when its first sample counts, 0 where that is not said.
    pub start: i64,
    /// 2.0: the number of its type.
    pub kind: Option<i32>,
    /// 2.0: what its metadata says beside the type.
    pub help: String,
    pub unit: String,
    /// 2.0: as many as there are references.
    pub references: usize,
}

impl Series {
    pub fn name(&self) -> &str {
        self.label("__name__")
    }

    pub fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|label| label.0 == name).map_or("", |label| label.1.as_str())
    }

    /// The labels as text: what makes it the series that it is.
    pub fn key(&self) -> String {
        self.labels.iter().map(|(name, value)| format!("{name}={value:?},")).collect()
    }
}

/// A request, unpacked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wire {
    pub symbols: Vec<String>,
    pub series: Vec<Series>,
    /// 1.0: what was said of families.
    pub metadata: Vec<Metadata>,
}

/// What a request of 1.0 says of a family.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    pub family: String,
    pub kind: i32,
    pub help: String,
    pub unit: String,
}

impl Exchange {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn is_two(&self) -> bool {
        self.header("x-prometheus-remote-write-version").starts_with('2')
    }

    pub fn is_accepted(&self) -> bool {
        (200..300).contains(&self.status) && (self.said_written || !self.is_two())
    }

    /// The request as it says itself to be.
    pub fn wire(&self) -> Result<Wire, String> {
        let plain = snap::raw::Decoder::new().decompress_vec(&self.body).map_err(|e| e.to_string())?;
        if self.is_two() { wire_two(&plain) } else { wire_one(&plain) }
    }

    /// Puts another request in the place of this one.
    pub fn replace(&mut self, wire: &Wire) {
        let plain = if self.is_two() { bytes_two(wire) } else { bytes_one(wire) };
        self.body = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    }
}

fn wire_one(plain: &[u8]) -> Result<Wire, String> {
    let request = v1::WriteRequest::decode(plain).map_err(|error| error.to_string())?;
    let series = |series: v1::TimeSeries| Series {
        labels: series.labels.into_iter().map(|label| (label.name, label.value)).collect(),
        samples: series.samples.iter().map(|sample| (sample.timestamp, sample.value.to_bits())).collect(),
        histograms: series.histograms.iter().map(in_two).collect(),
        exemplars: series
            .exemplars
            .into_iter()
            .map(|one| Exemplar {
                labels: one.labels.into_iter().map(|label| (label.name, label.value)).collect(),
                bits: one.value.to_bits(),
                time_ms: one.timestamp,
            })
            .collect(),
        ..Series::default()
    };
    let metadata = request.metadata.iter().map(|one| Metadata {
        family: one.metric_family_name.clone(),
        kind: one.r#type,
        help: one.help.clone(),
        unit: one.unit.clone(),
    });
    let metadata = metadata.collect();
    Ok(Wire { symbols: Vec::new(), series: request.timeseries.into_iter().map(series).collect(), metadata })
}

fn wire_two(plain: &[u8]) -> Result<Wire, String> {
    let request = v2::Request::decode(plain).map_err(|error| error.to_string())?;
    let text = |at: u32| {
        let found = request.symbols.get(at as usize).cloned();
        found.ok_or(format!("reference {at} of {} symbols", request.symbols.len()))
    };
    let mut all = Vec::new();
    for series in &request.timeseries {
        let pairs = |refs: &[u32]| -> Result<Vec<(String, String)>, String> {
            refs.chunks_exact(2).map(|pair| Ok((text(pair[0])?, text(pair[1])?))).collect()
        };
        let mut exemplars = Vec::new();
        for one in &series.exemplars {
            let labels = pairs(&one.labels_refs)?;
            exemplars.push(Exemplar { labels, bits: one.value.to_bits(), time_ms: one.timestamp });
        }
        let starts = series.samples.iter().map(|sample| sample.start_timestamp);
        let starts = starts.chain(series.histograms.iter().map(|histogram| histogram.start_timestamp));
        let said = |at: fn(&v2::Metadata) -> u32| {
            series.metadata.as_ref().map_or(Ok(String::new()), |one| text(at(one)))
        };
        all.push(Series {
            labels: pairs(&series.labels_refs)?,
            samples: series.samples.iter().map(|sample| (sample.timestamp, sample.value.to_bits())).collect(),
            histograms: series.histograms.clone(),
            exemplars,
            start: starts.min().unwrap_or(0),
            kind: series.metadata.as_ref().map(|metadata| metadata.r#type),
            help: said(|metadata| metadata.help_ref)?,
            unit: said(|metadata| metadata.unit_ref)?,
            references: series.labels_refs.len(),
        });
    }
    Ok(Wire { symbols: request.symbols, series: all, metadata: Vec::new() })
}

/// The messages of both versions have the same fields, but for the start.
fn in_two(histogram: &v1::Histogram) -> v2::Histogram {
    v2::Histogram::decode(&*histogram.encode_to_vec()).expect("the fields are the same")
}

fn in_one(histogram: &v2::Histogram) -> v1::Histogram {
    let plain = v2::Histogram { start_timestamp: 0, ..histogram.clone() };
    v1::Histogram::decode(&*plain.encode_to_vec()).expect("the fields are the same")
}

fn bytes_one(wire: &Wire) -> Vec<u8> {
    let series = wire.series.iter().map(|series| v1::TimeSeries {
        labels: series
            .labels
            .iter()
            .map(|(name, value)| v1::Label { name: name.clone(), value: value.clone() })
            .collect(),
        samples: series
            .samples
            .iter()
            .map(|&(timestamp, bits)| v1::Sample { timestamp, value: f64::from_bits(bits) })
            .collect(),
        histograms: series.histograms.iter().map(in_one).collect(),
        exemplars: series
            .exemplars
            .iter()
            .map(|one| v1::Exemplar {
                labels: one
                    .labels
                    .iter()
                    .map(|(name, value)| v1::Label { name: name.clone(), value: value.clone() })
                    .collect(),
                value: f64::from_bits(one.bits),
                timestamp: one.time_ms,
            })
            .collect(),
    });
    let metadata = wire.metadata.iter().map(|one| v1::MetricMetadata {
        r#type: one.kind,
        metric_family_name: one.family.clone(),
        help: one.help.clone(),
        unit: one.unit.clone(),
    });
    v1::WriteRequest { timeseries: series.collect(), metadata: metadata.collect() }.encode_to_vec()
}

/// Takes the symbols as they are, adding at the end what is missing.
fn bytes_two(wire: &Wire) -> Vec<u8> {
    let mut symbols = wire.symbols.clone();
    let mut number = |text: &str| {
        let at = symbols.iter().position(|symbol| symbol == text);
        at.unwrap_or_else(|| {
            symbols.push(text.to_owned());
            symbols.len() - 1
        }) as u32
    };
    let timeseries = wire.series.iter().map(|series| {
        let pairs = series.labels.iter().flat_map(|(name, value)| [number(name), number(value)]);
        let mut labels_refs: Vec<u32> = pairs.collect();
        labels_refs.truncate(series.references.max(labels_refs.len() - 1));
        let exemplars = series.exemplars.iter().map(|one| v2::Exemplar {
            labels_refs: one.labels.iter().flat_map(|(name, value)| [number(name), number(value)]).collect(),
            value: f64::from_bits(one.bits),
            timestamp: one.time_ms,
        });
        let exemplars = exemplars.collect();
        v2::TimeSeries {
            labels_refs,
            samples: series
                .samples
                .iter()
                .map(|&(timestamp, bits)| v2::Sample {
                    timestamp,
                    value: f64::from_bits(bits),
                    start_timestamp: series.start,
                })
                .collect(),
            histograms: series
                .histograms
                .iter()
                .map(|one| v2::Histogram { start_timestamp: series.start, ..one.clone() })
                .collect(),
            exemplars,
            metadata: series.kind.map(|kind| v2::Metadata {
                r#type: kind,
                help_ref: number(&series.help),
                unit_ref: number(&series.unit),
            }),
        }
    });
    let timeseries = timeseries.collect();
    v2::Request { symbols, timeseries }.encode_to_vec()
}

/// Everything that went to one receiver, in the order in which it came.
pub type Recording = Vec<Exchange>;

type Script = dyn Fn(usize, &Exchange) -> Reply + Send + Sync;

/// A receiver that answers by a script, and records.
pub struct Recorder {
    pub port: u16,
    all: Arc<Mutex<Recording>>,
}

impl Recorder {
    /// `script` gets the number of the request and the request.
    pub fn start(script: impl Fn(usize, &Exchange) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let all = Arc::new(Mutex::new(Recording::new()));
        let (script, kept): (Arc<Script>, _) = (Arc::new(script), all.clone());
        let start = Instant::now();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, all) = (script.clone(), kept.clone());
                std::thread::spawn(move || while serve(&stream, start, &*script, &all).is_some() {});
            }
        });
        Recorder { port, all }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/api/v1/write", self.port)
    }

    pub fn recording(&self) -> Recording {
        self.all.lock().unwrap().clone()
    }

    pub fn look<T>(&self, look: impl FnOnce(&Recording) -> T) -> T {
        look(&self.all.lock().unwrap())
    }
}

/// One request of a connection. `None` when it is over.
fn serve(stream: &TcpStream, start: Instant, script: &Script, all: &Mutex<Recording>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first_line = String::new();
    if reader.read_line(&mut first_line).ok()? == 0 {
        return None;
    }
    let came = start.elapsed();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    // A request without a body need not say so.
    let mut body = vec![0; headers.get("content-length").map_or(Ok(0), |text| text.parse()).ok()?];
    reader.read_exact(&mut body).ok()?;
    let first_line = first_line.trim().to_owned();
    let exchange = Exchange {
        came,
        answered: came,
        first_line,
        headers,
        body,
        status: 0,
        said_written: false,
        is_unanswered: false,
    };
    // The place in the recording is taken at once: requests overlap.
    let at = {
        let mut all = all.lock().unwrap();
        all.push(exchange.clone());
        all.len() - 1
    };
    let reply = script(at, &exchange);
    std::thread::sleep(reply.after);
    let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
    if reply.status == 204 {
        head = "HTTP/1.1 204 No Content\r\n".into();
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    {
        let exchange = &mut all.lock().unwrap()[at];
        exchange.answered = start.elapsed();
        exchange.status = reply.status;
        exchange.is_unanswered = reply.hangs_up;
        exchange.said_written = reply.headers.iter().any(|(name, _)| name.ends_with("-Written"));
    }
    if reply.hangs_up {
        return None;
    }
    let mut out = stream;
    if reply.status == 0 {
        out.write_all(b"\0\x01\x02 this is no HTTP\r\n\r\n").ok()?;
        return None;
    }
    out.write_all(head.as_bytes()).ok()?;
    out.write_all(b"\r\n").ok()?;
    out.write_all(&reply.body).ok()
}
