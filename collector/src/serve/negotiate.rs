//! Which format and which compression a client takes (RFC 9110, sections 12.5.1 and 12.5.3).

use hyper::header::{self, HeaderMap};

use crate::encode::exposition::Format;

/// Ranges of one `Accept` header that are looked at.
const MOST_RANGES: usize = 64;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
    Zstd,
}

/// The value of `Content-Type` for a page in that format.
pub(super) fn content_type(format: Format) -> &'static str {
    match format {
        Format::Text => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        Format::OpenMetrics => {
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
        }
        Format::Protobuf => {
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores"
        }
        Format::ProtobufText => {
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text; escaping=underscores"
        }
        Format::ProtobufCompact => {
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=compact-text; escaping=underscores"
        }
    }
}

/// The format that the client likes best; the text format where it names none that is spoken.
///
/// Prometheus likes OpenMetrics better than text, and would then call counters by other names in its metadata than it
/// does with node_exporter, which does not speak it. So OpenMetrics is given only if `open_metrics` is, or to a client
/// that takes nothing else.
pub(super) fn format(headers: &HeaderMap, open_metrics: bool) -> Format {
    let mut best: Option<(f64, Format)> = None;
    let mut only_open_metrics = false;
    for range in values(headers, header::ACCEPT).take(MOST_RANGES) {
        let Some((weight, format)) = media_range(&range) else { continue };
        if weight <= 0.0 {
            continue;
        }
        if format == Format::OpenMetrics && !open_metrics {
            only_open_metrics |= best.is_none();
            continue;
        }
        only_open_metrics = false;
        if best.is_none_or(|(heaviest, _)| weight > heaviest) {
            best = Some((weight, format));
        }
    }
    match best {
        Some((_, format)) => format,
        None if only_open_metrics => Format::OpenMetrics,
        None => Format::Text,
    }
}

/// The weight and format of one media range, if it is one of ours.
fn media_range(range: &str) -> Option<(f64, Format)> {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next()?.to_ascii_lowercase();
    let (mut weight, mut version, mut proto, mut encoding) = (1.0, "", "", "");
    for part in parts {
        let (key, value) = part.split_once('=')?;
        let value = value.trim().trim_matches('"');
        match key.trim() {
            "q" => weight = value.parse().unwrap_or(0.0),
            "version" => version = value,
            "proto" => proto = value,
            "encoding" => encoding = value,
            _ => {}
        }
    }
    let format = match kind.as_str() {
        "text/plain" if matches!(version, "" | "0.0.4") => Format::Text,
        "text/*" | "*/*" => Format::Text,
        "application/openmetrics-text" if matches!(version, "" | "0.0.1" | "1.0.0") => Format::OpenMetrics,
        "application/vnd.google.protobuf" if proto == "io.prometheus.client.MetricFamily" => match encoding {
            "delimited" => Format::Protobuf,
            "text" => Format::ProtobufText,
            "compact-text" => Format::ProtobufCompact,
            _ => return None,
        },
        _ => return None,
    };
    Some((weight, format))
}

/// The compression that the client weighs most; of equals the first that it names.
pub(super) fn coding(headers: &HeaderMap) -> Coding {
    let mut best = (0.0, Coding::Identity);
    for coding in values(headers, header::ACCEPT_ENCODING).take(MOST_RANGES) {
        let mut parts = coding.split(';').map(str::trim);
        let known = match parts.next() {
            Some("gzip" | "x-gzip") => Coding::Gzip,
            Some("zstd") => Coding::Zstd,
            _ => continue,
        };
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        if weight > best.0 {
            best = (weight, known);
        }
    }
    best.1
}

/// The parts of a header that is a list.
fn values(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = String> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let parts: Vec<String> =
        lines.flat_map(|line| line.split(',').map(|part| part.trim().to_owned())).collect();
    parts.into_iter()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn with(name: header::HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn prometheus_gets_what_node_exporter_gives() {
        let accept = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                      application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (value, plain, open) in [
            (accept, Format::Text, Format::OpenMetrics),
            (native, Format::Protobuf, Format::Protobuf),
            ("", Format::Text, Format::Text),
            ("*/*", Format::Text, Format::Text),
            ("text/html, image/png;q=0.8", Format::Text, Format::Text),
            ("application/openmetrics-text", Format::OpenMetrics, Format::OpenMetrics),
            ("application/openmetrics-text;version=2.0.0", Format::Text, Format::Text),
            ("text/plain;q=0.1, application/openmetrics-text;q=0.2", Format::Text, Format::OpenMetrics),
            (
                "text/plain;version=0.0.4;q=0, application/openmetrics-text",
                Format::OpenMetrics,
                Format::OpenMetrics,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
                Format::ProtobufText,
                Format::ProtobufText,
            ),
            ("application/vnd.google.protobuf;proto=other;encoding=delimited", Format::Text, Format::Text),
        ] {
            let headers = with(header::ACCEPT, value);
            assert_eq!((format(&headers, false), format(&headers, true)), (plain, open), "{value}");
        }
        assert_eq!(format(&HeaderMap::new(), true), Format::Text);
    }

    #[test]
    fn compression_is_negotiated() {
        for (value, expected) in [
            ("gzip", Coding::Gzip),
            ("deflate, gzip;q=0.5", Coding::Gzip),
            ("gzip;q=0", Coding::Identity),
            ("identity", Coding::Identity),
            ("zstd, gzip", Coding::Zstd),
            ("gzip, zstd", Coding::Gzip),
            ("gzip;q=0.5, zstd;q=0.9", Coding::Zstd),
        ] {
            assert_eq!(coding(&with(header::ACCEPT_ENCODING, value)), expected, "{value}");
        }
        assert_eq!(coding(&HeaderMap::new()), Coding::Identity);
    }
}
