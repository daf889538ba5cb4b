//! What a request should say, worked out the slow and obvious way, and a plain encoder to compare bytes with.

use std::collections::BTreeMap;

use collector::encode::{Options, Protocol, legacy_name};
use collector::model::{Batch, CUSTOM_BUCKETS, NO_SAMPLE, NativeHistogram, Of, SeriesId};
use prost::Message as _;

use crate::proto::{v1, v2};

/// One series of a request with its one sample.
#[derive(Debug, Clone)]
pub struct Sent {
    pub labels: BTreeMap<String, String>,
    pub kind: u8,
    pub help: String,
    pub unit: String,
    pub time_ms: i64,
    /// When the counting began, 0 where that is not said.
    pub start_ms: i64,
    pub exemplars: Vec<Said>,
    /// The place of its batch in the order of encoding.
    pub batch: usize,
    pub what: What,
}

/// An exemplar.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub labels: Vec<(String, String)>,
    pub bits: u64,
    pub time_ms: i64,
}

#[derive(Debug, Clone)]
pub enum What {
    Float(f64),
    Histogram(NativeHistogram),
    /// Nothing but its exemplars: how 1.0 sends those.
    Exemplars,
}

/// Everything that `batches` should give, in order: floats first, batches of one time in the order of shapes.
pub fn expected(batches: &[&Batch], options: &Options) -> Vec<Sent> {
    let mut ordered: Vec<&Batch> = Vec::new();
    for run in batches.chunk_by(|a, b| a.time_ms == b.time_ms) {
        let mut run = run.to_vec();
        run.sort_by_key(|batch| batch.shape().id());
        ordered.extend(run);
    }
    let (mut floats, mut histograms) = (Vec::new(), Vec::new());
    for (place, batch) in ordered.into_iter().enumerate() {
        for (at, (&(id, form), &value)) in batch.shape().floats().iter().zip(&batch.values).enumerate() {
            if !(form.classic_only() && options.native_histograms) {
                let plain = sent(batch, id, options, What::Float(value));
                let (time_ms, start_ms) = (batch.time(at), batch.shape().float_start(at));
                let sent = Sent { time_ms, start_ms, batch: place, ..plain };
                floats.push(with_exemplars(sent, batch, Of::Float(at as u32), options));
            }
        }
        if options.native_histograms {
            let all = batch.shape().histograms().iter().zip(batch.histograms()).enumerate();
            for (at, (&id, histogram)) in all {
                let what = What::Histogram(histogram.clone());
                let custom = histogram.schema == CUSTOM_BUCKETS && options.protocol == Protocol::V1;
                let time_ms = if custom { NO_SAMPLE } else { batch.histogram_time(at) };
                let start_ms = batch.shape().histogram_start(at);
                let sent = Sent { time_ms, start_ms, batch: place, ..sent(batch, id, options, what) };
                histograms.push(with_exemplars(sent, batch, Of::Histogram(at as u32), options));
            }
        }
    }
    floats.append(&mut histograms);
    floats.retain(|sent| sent.time_ms != NO_SAMPLE);
    if options.protocol == Protocol::V1 {
        // Those of one batch stand in the order of its samples, and the batches in theirs.
        let mut apart: Vec<Sent> = Vec::new();
        for sent in &mut floats {
            sent.start_ms = 0;
            if !sent.exemplars.is_empty() {
                let exemplars = std::mem::take(&mut sent.exemplars);
                apart.push(Sent { what: What::Exemplars, exemplars, ..sent.clone() });
            }
        }
        apart.sort_by_key(|sent| sent.batch);
        floats.append(&mut apart);
    }
    floats
}

fn with_exemplars(sent: Sent, batch: &Batch, of: Of, options: &Options) -> Sent {
    if !options.exemplars {
        return sent;
    }
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let exemplars = batch.exemplars.of(of).map(|one| Said {
        labels: one.labels().map(owned).collect(),
        bits: one.value().to_bits(),
        time_ms: one.time_ms(),
    });
    Sent { exemplars: exemplars.collect(), ..sent }
}

fn sent(batch: &Batch, id: SeriesId, options: &Options, what: What) -> Sent {
    let table = batch.shape().table().lock();
    let view = table.view(id);
    let source = &batch.shape().source.labels;
    let own: BTreeMap<&str, &str> = view.labels().filter(|label| !label.1.is_empty()).collect();
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    labels.insert("__name__".into(), view.name().into());
    for (name, value) in &own {
        let mut name = (*name).to_owned();
        if source.iter().any(|label| label.0 == name) {
            name.insert_str(0, "exported_");
            while own.contains_key(name.as_str()) || source.iter().any(|label| label.0 == name) {
                name.insert_str(0, "exported_");
            }
        }
        labels.insert(name, (*value).into());
    }
    labels.extend(source.iter().cloned());
    for (name, value) in &options.external_labels {
        labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    if options.protocol == Protocol::V1 {
        // What 1.0 does not know in names is escaped; how, the encoder's own tests say.
        let legacy = |(name, value): (String, String)| match name.as_str() {
            "__name__" => (name, legacy_name(&value, true).into_owned()),
            _ => (legacy_name(&name, false).into_owned(), value),
        };
        labels = labels.into_iter().map(legacy).collect();
    }
    let (help, unit) =
        if options.help { (view.help().into(), view.unit().into()) } else { Default::default() };
    Sent {
        labels,
        kind: view.kind() as u8,
        help,
        unit,
        time_ms: batch.time_ms,
        start_ms: 0,
        exemplars: Vec::new(),
        batch: 0,
        what,
    }
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number > 127 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}

fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn sample(value: f64, time_ms: i64, start_ms: i64) -> Vec<u8> {
    let mut out = vec![0x09];
    out.extend_from_slice(&value.to_le_bytes());
    out.push(0x10);
    varint(time_ms as u64, &mut out);
    if start_ms != 0 {
        out.push(0x18);
        varint(start_ms as u64, &mut out);
    }
    out
}

/// The message of a native histogram, by the generated type.
pub fn histogram(histogram: &NativeHistogram, time_ms: i64) -> v1::Histogram {
    let deltas = |buckets: &[u64]| {
        let before = std::iter::once(0).chain(buckets.iter().copied());
        buckets.iter().zip(before).map(|(&count, last)| count.wrapping_sub(last) as i64).collect::<Vec<_>>()
    };
    let doubles = |buckets: &[u64]| buckets.iter().map(|&bits| f64::from_bits(bits)).collect::<Vec<_>>();
    let span = |span: &collector::model::Span| v1::BucketSpan { offset: span.offset, length: span.length };
    let mut message = v1::Histogram {
        count: Some(v1::histogram::Count::CountInt(histogram.count)),
        sum: histogram.sum,
        schema: histogram.schema.into(),
        zero_threshold: histogram.zero_threshold,
        zero_count: Some(v1::histogram::ZeroCount::ZeroCountInt(histogram.zero_count)),
        negative_spans: histogram.negative_spans.iter().map(span).collect(),
        positive_spans: histogram.spans.iter().map(span).collect(),
        reset_hint: histogram.reset_hint as i32,
        timestamp: time_ms,
        custom_values: histogram.bounds.clone(),
        ..v1::Histogram::default()
    };
    if histogram.float {
        message.count = Some(v1::histogram::Count::CountFloat(f64::from_bits(histogram.count)));
        let zero = f64::from_bits(histogram.zero_count);
        message.zero_count = Some(v1::histogram::ZeroCount::ZeroCountFloat(zero));
        message.negative_counts = doubles(&histogram.negative_buckets);
        message.positive_counts = doubles(&histogram.buckets);
    } else {
        message.negative_deltas = deltas(&histogram.negative_buckets);
        message.positive_deltas = deltas(&histogram.buckets);
    }
    message
}

/// The request's plain bytes. `symbols` are those of the request at hand: their order is the encoder's choice.
pub fn plain(sent: &[Sent], protocol: Protocol, symbols: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    let number = |text: &str| symbols.iter().position(|symbol| symbol == text).expect("a symbol") as u64;
    if protocol == Protocol::V2 {
        symbols.iter().for_each(|symbol| field(4, symbol.as_bytes(), &mut out));
    }
    for one in sent {
        let mut series = Vec::new();
        let mut refs = Vec::new();
        for (name, value) in &one.labels {
            if protocol == Protocol::V2 {
                varint(number(name), &mut refs);
                varint(number(value), &mut refs);
                continue;
            }
            let mut label = Vec::new();
            field(1, name.as_bytes(), &mut label);
            field(2, value.as_bytes(), &mut label);
            field(1, &label, &mut series);
        }
        if protocol == Protocol::V2 {
            field(1, &refs, &mut series);
        }
        match (&one.what, protocol) {
            (What::Float(value), _) => field(2, &sample(*value, one.time_ms, one.start_ms), &mut series),
            (What::Histogram(native), protocol) => {
                let mut message = histogram(native, one.time_ms).encode_to_vec();
                if one.start_ms != 0 {
                    message.extend([0x88, 0x01]);
                    varint(one.start_ms as u64, &mut message);
                }
                field(if protocol == Protocol::V1 { 4 } else { 3 }, &message, &mut series);
            }
            (What::Exemplars, _) => {
                for said in &one.exemplars {
                    let label = |(name, value): &(String, String)| v1::Label {
                        name: name.clone(),
                        value: value.clone(),
                    };
                    let (value, timestamp) = (f64::from_bits(said.bits), said.time_ms);
                    let labels = said.labels.iter().map(label).collect();
                    field(3, &v1::Exemplar { labels, value, timestamp }.encode_to_vec(), &mut series);
                }
            }
        }
        if protocol == Protocol::V2 {
            for said in &one.exemplars {
                let refs = |(name, value): &(String, String)| [number(name) as u32, number(value) as u32];
                let (value, timestamp) = (f64::from_bits(said.bits), said.time_ms);
                let labels_refs = said.labels.iter().flat_map(refs).collect();
                field(4, &v2::Exemplar { labels_refs, value, timestamp }.encode_to_vec(), &mut series);
            }
            let (help_ref, unit_ref) = (number(&one.help) as u32, number(&one.unit) as u32);
            let metadata = v2::Metadata { r#type: one.kind.into(), help_ref, unit_ref };
            field(5, &metadata.encode_to_vec(), &mut series);
        }
        field(if protocol == Protocol::V1 { 1 } else { 5 }, &series, &mut out);
    }
    out
}

/// Decompresses a request as a receiver does.
///
/// # Panics
/// If it is not a snappy block.
pub fn decompress(body: &[u8]) -> Vec<u8> {
    snap::raw::Decoder::new().decompress_vec(body).expect("a snappy block")
}

/// Compares a request with what it should say, field by field and then byte by byte.
///
/// # Panics
/// Where they differ.
pub fn check(body: &[u8], batches: &[&Batch], options: &Options) {
    let bytes = decompress(body);
    let wanted = expected(batches, options);
    let symbols = match options.protocol {
        Protocol::V1 => {
            check_v1(&v1::WriteRequest::decode(&*bytes).expect("a WriteRequest"), &wanted);
            Vec::new()
        }
        Protocol::V2 => {
            let request = v2::Request::decode(&*bytes).expect("a Request");
            check_v2(&request, &wanted);
            request.symbols
        }
    };
    let plain = plain(&wanted, options.protocol, &symbols);
    assert!(bytes == plain, "the bytes are not those of a plain encoder");
}

fn check_v1(request: &v1::WriteRequest, wanted: &[Sent]) {
    assert!(request.metadata.is_empty());
    assert_eq!(request.timeseries.len(), wanted.len());
    for (series, wanted) in request.timeseries.iter().zip(wanted) {
        let labels: Vec<_> = series.labels.iter().map(|label| (&label.name, &label.value)).collect();
        assert_eq!(labels, wanted.labels.iter().collect::<Vec<_>>());
        let exemplars = series.exemplars.iter().map(|one| Said {
            labels: one.labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect(),
            bits: one.value.to_bits(),
            time_ms: one.timestamp,
        });
        assert_eq!(exemplars.collect::<Vec<_>>(), wanted.exemplars);
        match &wanted.what {
            What::Exemplars => assert!(series.samples.is_empty() && series.histograms.is_empty()),
            What::Float(value) => {
                let [sample] = &series.samples[..] else { panic!("one sample, not {series:?}") };
                assert_eq!((sample.value.to_bits(), sample.timestamp), (value.to_bits(), wanted.time_ms));
                assert!(series.histograms.is_empty());
            }
            What::Histogram(native) => {
                let [found] = &series.histograms[..] else { panic!("one histogram, not {series:?}") };
                let native = histogram(native, wanted.time_ms);
                assert_eq!(found.encode_to_vec(), native.encode_to_vec());
                assert_eq!(found.sum.to_bits(), native.sum.to_bits());
                assert!(series.samples.is_empty());
            }
        }
    }
}

fn check_v2(request: &v2::Request, wanted: &[Sent]) {
    let symbols = &request.symbols;
    assert_eq!(symbols[0], "");
    let distinct: std::collections::HashSet<_> = symbols.iter().collect();
    assert_eq!(distinct.len(), symbols.len(), "symbols are not repeated");
    assert_eq!(request.timeseries.len(), wanted.len());
    for (series, wanted) in request.timeseries.iter().zip(wanted) {
        let text = |&number: &u32| &symbols[number as usize];
        let labels: Vec<_> =
            series.labels_refs.chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
        assert_eq!(labels, wanted.labels.iter().collect::<Vec<_>>());
        assert_eq!(series.labels_refs.len() % 2, 0);
        let metadata = series.metadata.as_ref().expect("metadata is always there");
        assert_eq!(metadata.r#type, i32::from(wanted.kind));
        assert_eq!((text(&metadata.help_ref), text(&metadata.unit_ref)), (&wanted.help, &wanted.unit));
        let exemplars = series.exemplars.iter().map(|one| Said {
            labels: (one.labels_refs.chunks_exact(2))
                .map(|pair| (text(&pair[0]).clone(), text(&pair[1]).clone()))
                .collect(),
            bits: one.value.to_bits(),
            time_ms: one.timestamp,
        });
        assert_eq!(exemplars.collect::<Vec<_>>(), wanted.exemplars);
        match &wanted.what {
            What::Exemplars => panic!("2.0 has no series of exemplars alone"),
            What::Float(value) => {
                let [sample] = &series.samples[..] else { panic!("one sample, not {series:?}") };
                assert_eq!((sample.value.to_bits(), sample.timestamp), (value.to_bits(), wanted.time_ms));
                assert!(series.histograms.is_empty() && sample.start_timestamp == wanted.start_ms);
            }
            What::Histogram(native) => {
                let [found] = &series.histograms[..] else { panic!("one histogram, not {series:?}") };
                // The messages of both versions have the same fields, but for the start.
                let native = histogram(native, wanted.time_ms);
                assert_eq!(found.start_timestamp, wanted.start_ms);
                let found = v2::Histogram { start_timestamp: 0, ..found.clone() };
                assert_eq!(found.encode_to_vec(), native.encode_to_vec());
                assert_eq!(found.sum.to_bits(), native.sum.to_bits());
                assert!(series.samples.is_empty());
            }
        }
    }
}
