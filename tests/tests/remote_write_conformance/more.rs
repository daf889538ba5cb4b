//! What is more than floats: exemplars, the starts of counting, and native histograms of whole numbers, of fractions,
//! and with listed bounds: the target that gives them, and what must show.

use collector_tests::proto::client::{BucketSpan, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use collector_tests::proto::v2;
use collector_tests::recording::{Recording, Series, Version};
use prost::Message as _;

use crate::checks::{Verdict, ensure};

pub const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub const MESSAGES: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

const STARTED: i64 = 1_789_990_000_123;
const EXEMPLAR_TIME: i64 = 1_789_999_999_250;
const CUSTOM: i32 = -53;
const HELP: &str = "How long it took.";
/// Of a gauge.
const GAUGE: i32 = 2;

/// The page with exemplars and starts. Its histogram is made a native one by the job.
pub fn open_page(number: usize) -> Vec<u8> {
    let more = number + 1;
    format!(
        "# TYPE hits counter\nhits_total{{path=\"/\"}} {more} # {{trace_id=\"abc\",user=\"x\"}} 0.5 1789999999.25\n\
         hits_created{{path=\"/\"}} 1789990000.123\n\
         # TYPE latency histogram\nlatency_bucket{{le=\"0.5\"}} {more}\nlatency_bucket{{le=\"2.0\"}} {}\n\
         latency_bucket{{le=\"+Inf\"}} {}\nlatency_count {}\nlatency_sum 7.5\nlatency_created 1789990000.123\n\
         # TYPE level gauge\nlevel {number}\n# TYPE bare counter\nbare {more}\n\
         # TYPE took_seconds gauge\n# UNIT took_seconds seconds\n# HELP took_seconds {HELP}\ntook_seconds 0.25\n# EOF\n",
        more + 2,
        more + 3,
        more + 3,
    )
    .into_bytes()
}

/// The page with native histograms.
pub fn messages() -> Vec<u8> {
    let span = |offset, length| BucketSpan { offset: Some(offset), length: Some(length) };
    let spans = vec![span(0, 2), span(3, 1)];
    let whole = Histogram {
        sample_count: Some(6),
        sample_sum: Some(3.5),
        schema: Some(3),
        zero_threshold: Some(0.001),
        zero_count: Some(2),
        positive_span: spans.clone(),
        positive_delta: vec![1, 1, -1],
        ..Histogram::default()
    };
    let fractions = Histogram {
        sample_count_float: Some(4.75),
        sample_sum: Some(2.5),
        schema: Some(-1),
        zero_threshold: Some(0.001),
        zero_count_float: Some(0.25),
        positive_span: spans,
        positive_count: vec![1.5, 2.5, 0.5],
        ..Histogram::default()
    };
    let family = |name: &str, histogram: Histogram| MetricFamily {
        name: Some(name.into()),
        help: Some("Help.".into()),
        r#type: Some(MetricType::Histogram as i32),
        metric: vec![Metric {
            label: vec![LabelPair { name: Some("path".into()), value: Some("/".into()) }],
            histogram: Some(histogram),
            ..Metric::default()
        }],
    };
    let families = [family("whole", whole), family("fractions", fractions)];
    families.iter().flat_map(MetricFamily::encode_length_delimited_to_vec).collect()
}

/// Every series of that name in what was accepted.
fn all_of(recording: &Recording, name: &str) -> Result<Vec<Series>, String> {
    let mut all = Vec::new();
    for exchange in recording.iter().filter(|exchange| exchange.is_accepted()) {
        all.extend(exchange.wire()?.series.into_iter().filter(|series| series.name() == name));
    }
    ensure(!all.is_empty(), || format!("{name} did not arrive"))?;
    Ok(all)
}

/// Every histogram of that name that arrived: one an entry.
fn histograms_of(recording: &Recording, name: &str) -> Result<Vec<v2::Histogram>, String> {
    let all = all_of(recording, name)?;
    all.into_iter()
        .map(|series| series.histograms.into_iter().next().ok_or(format!("{name} has none")))
        .collect()
}

pub fn exemplars_arrive(recording: &Recording, _: Version) -> Verdict {
    let all = all_of(recording, "hits_total")?;
    let with: Vec<&Series> = all.iter().filter(|series| !series.exemplars.is_empty()).collect();
    // The page repeats it; it has a time, by which it is known.
    ensure(with.len() == 1 && with[0].exemplars.len() == 1, || format!("{with:?}"))?;
    let one = &with[0].exemplars[0];
    let labels: Vec<(&str, &str)> = one.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    ensure(labels == [("trace_id", "abc"), ("user", "x")], || format!("{labels:?}"))?;
    ensure(one.bits == 0.5f64.to_bits() && one.time_ms == EXEMPLAR_TIME, || format!("{one:?}"))?;
    ensure(with[0].label("path") == "/" && with[0].label("job") == "open", || with[0].key())
}

pub fn starts_are_said(recording: &Recording, _: Version) -> Verdict {
    for name in ["hits_total", "latency"] {
        let all = all_of(recording, name)?;
        let starts: Vec<i64> = all.iter().map(|series| series.start).collect();
        ensure(starts.iter().all(|&start| start == STARTED), || format!("{name}: {starts:?}"))?;
    }
    for name in ["level", "up", "whole"] {
        let all = all_of(recording, name)?;
        let starts: Vec<i64> = all.iter().map(|series| series.start).collect();
        ensure(starts.iter().all(|&start| start == 0), || format!("{name}: {starts:?}"))?;
    }
    Ok(())
}

pub fn integer_histograms_arrive(recording: &Recording, _: Version) -> Verdict {
    for one in histograms_of(recording, "whole")? {
        let spans: Vec<(i32, u32)> =
            one.positive_spans.iter().map(|span| (span.offset, span.length)).collect();
        let is_right = one.count == Some(v2::histogram::Count::CountInt(6))
            && one.zero_count == Some(v2::histogram::ZeroCount::ZeroCountInt(2))
            && (one.sum, one.schema, one.zero_threshold) == (3.5, 3, 0.001)
            && spans == [(0, 2), (3, 1)]
            && one.positive_deltas == [1, 1, -1]
            && one.positive_counts.is_empty()
            && one.custom_values.is_empty()
            && one.timestamp > 1_600_000_000_000;
        ensure(is_right, || format!("{one:?}"))?;
    }
    Ok(())
}

pub fn float_histograms_arrive(recording: &Recording, _: Version) -> Verdict {
    for one in histograms_of(recording, "fractions")? {
        let is_right = one.count == Some(v2::histogram::Count::CountFloat(4.75))
            && one.zero_count == Some(v2::histogram::ZeroCount::ZeroCountFloat(0.25))
            && (one.sum, one.schema) == (2.5, -1)
            && one.positive_counts == [1.5, 2.5, 0.5]
            && one.positive_deltas.is_empty();
        ensure(is_right, || format!("{one:?}"))?;
    }
    Ok(())
}

pub fn custom_buckets_arrive(recording: &Recording, _: Version) -> Verdict {
    for one in histograms_of(recording, "latency")? {
        let Some(v2::histogram::Count::CountInt(count)) = one.count else { return Err(format!("{one:?}")) };
        let first = count as i64 - 3;
        let is_right = one.schema == CUSTOM
            && one.custom_values == [0.5, 2.0]
            && one.sum == 7.5
            && one.positive_deltas.first() == Some(&first)
            && one.negative_deltas.is_empty();
        ensure(is_right, || format!("{one:?}"))?;
    }
    Ok(())
}

pub fn custom_buckets_stay_away(recording: &Recording, _: Version) -> Verdict {
    ensure(!histograms_of(recording, "whole")?.is_empty(), || "nothing came".into())?;
    for exchange in recording {
        let series = exchange.wire()?.series;
        let one = series.iter().flat_map(|series| &series.histograms);
        let custom = one.clone().find(|one| one.schema == CUSTOM || !one.custom_values.is_empty());
        ensure(custom.is_none(), || format!("{custom:?}"))?;
    }
    Ok(())
}

pub fn samples_and_histograms_are_apart(recording: &Recording, version: Version) -> Verdict {
    for exchange in recording {
        for series in exchange.wire()?.series {
            let points = series.samples.len() + series.histograms.len();
            // 1.0 sends exemplars in entries of their own.
            let apart = version == Version::One && points == 0 && !series.exemplars.is_empty();
            ensure(points == 1 || apart, || format!("{series:?}"))?;
        }
    }
    Ok(())
}

pub fn histograms_rise(recording: &Recording, _: Version) -> Verdict {
    for name in ["whole", "fractions"] {
        let times: Vec<i64> = histograms_of(recording, name)?.iter().map(|one| one.timestamp).collect();
        ensure(times.len() > 2 && times.windows(2).all(|pair| pair[0] < pair[1]), || {
            format!("{name}: {times:?}")
        })?;
    }
    Ok(())
}

/// A counter of `OpenMetrics` may lack `_total`: its name stays what the target says.
pub fn bare_counters_arrive(recording: &Recording, _: Version) -> Verdict {
    let mut found = 0;
    for exchange in recording {
        for series in exchange.wire()?.series {
            ensure(series.name() != "bare_total", || "it got another name".into())?;
            found += usize::from(series.name() == "bare" && series.samples.len() == 1);
        }
    }
    ensure(found > 2, || format!("{found} came"))
}

pub fn metadata_says_what_families_are(recording: &Recording, _: Version) -> Verdict {
    let mut found = None;
    for exchange in recording {
        found = exchange.wire()?.metadata.into_iter().find(|one| one.family == "took_seconds").or(found);
    }
    let found = found.ok_or("nothing was said of it")?;
    ensure((found.kind, &*found.help, &*found.unit) == (GAUGE, HELP, "seconds"), || format!("{found:?}"))
}

/// The type each time, the rest now and then, and never anything else.
pub fn help_and_unit_are_said(recording: &Recording, _: Version) -> Verdict {
    let mut whole = 0;
    for exchange in recording {
        for series in exchange.wire()?.series.iter().filter(|series| series.name() == "took_seconds") {
            let said = (series.kind, &*series.help, &*series.unit);
            let is_whole = said == (Some(GAUGE), HELP, "seconds");
            whole += usize::from(is_whole);
            ensure(is_whole || said == (Some(GAUGE), "", ""), || format!("{said:?}"))?;
        }
    }
    ensure(whole > 0, || "help and unit were never said".into())
}
