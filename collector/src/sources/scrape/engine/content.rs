//! What a body is: by `Content-Type` which format, by `Content-Encoding` how it is packed; and which of them
//! are asked for.

use std::fmt::Write as _;
use std::io::Read as _;

use crate::config::{Escaping, ScrapeProtocol};
use crate::sources::scrape::page::Format;
use crate::sys::gzip::{Gunzip, GunzipError};

/// How a body is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Encoding {
    #[default]
    Identity,
    Gzip,
    Zstd,
}

/// Why a body could not be unpacked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum UnpackError {
    TooLong,
    Malformed(String),
}

/// A window larger than this is refused, as every reader of zstd on the web does (RFC 8878, section 3.1.1.1.2).
const ZSTD_WINDOW_LOG: u32 = 23;

/// The header `Accept`, weighed as Prometheus weighs it.
pub(super) fn accept(protocols: &[ScrapeProtocol], escaping: Escaping) -> String {
    let mut header = String::new();
    let mut weight = 6;
    for protocol in protocols {
        header.push_str(protocol.media_type());
        if matches!(protocol, ScrapeProtocol::PrometheusText1_0_0 | ScrapeProtocol::OpenMetricsText1_0_0) {
            write!(header, ";escaping={}", escaping.text()).expect("a string takes all");
        }
        write!(header, ";q=0.{weight},").expect("a string takes all");
        weight -= 1;
    }
    write!(header, "*/*;q=0.{weight}").expect("a string takes all");
    header
}

/// The format of a page.
///
/// # Errors
/// What is said instead of one, where the configuration names none for that case.
pub(super) fn format(content_type: &str, fallback: Option<ScrapeProtocol>) -> Result<Format, String> {
    let mut parts = content_type.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    if kind.eq_ignore_ascii_case("text/plain") {
        return Ok(Format::Text);
    }
    if kind.eq_ignore_ascii_case("application/openmetrics-text") {
        return Ok(Format::OpenMetrics);
    }
    if kind.eq_ignore_ascii_case("application/vnd.google.protobuf") {
        let mut is_known = false;
        for part in parts {
            match part.split_once('=') {
                Some(("proto", name)) => is_known = name == "io.prometheus.client.MetricFamily",
                Some(("encoding", encoding)) if encoding != "delimited" => {
                    return Err(format!("protobuf with the encoding {encoding:?} is not supported"));
                }
                _ => {}
            }
        }
        if is_known {
            return Ok(Format::Protobuf);
        }
    }
    match fallback {
        Some(ScrapeProtocol::PrometheusProto) => Ok(Format::Protobuf),
        Some(ScrapeProtocol::OpenMetricsText0_0_1 | ScrapeProtocol::OpenMetricsText1_0_0) => {
            Ok(Format::OpenMetrics)
        }
        Some(_) => Ok(Format::Text),
        None if content_type.is_empty() => {
            Err("the answer has no Content-Type, and no fallback_scrape_protocol is configured".into())
        }
        None => Err(format!(
            "the answer has the unsupported Content-Type {content_type:?}, and no fallback_scrape_protocol is \
             configured"
        )),
    }
}

/// # Errors
/// The encoding that is not known.
pub(super) fn encoding(header: &str) -> Result<Encoding, String> {
    let header = header.trim();
    for (name, encoding) in [
        ("", Encoding::Identity),
        ("identity", Encoding::Identity),
        ("gzip", Encoding::Gzip),
        ("x-gzip", Encoding::Gzip),
        ("zstd", Encoding::Zstd),
    ] {
        if header.eq_ignore_ascii_case(name) {
            return Ok(encoding);
        }
    }
    Err(format!("the answer has the Content-Encoding {header:?}, which was not asked for"))
}

/// Appends what `input` unpacks to, at most `limit` bytes.
///
/// # Errors
/// The limit, or that the input is no such thing.
pub(super) fn unpack(
    encoding: Encoding,
    input: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), UnpackError> {
    match encoding {
        Encoding::Identity => {
            if input.len() > limit {
                return Err(UnpackError::TooLong);
            }
            out.extend_from_slice(input);
            Ok(())
        }
        Encoding::Gzip => GUNZIP.with_borrow_mut(|gunzip| {
            gunzip.unpack(input, limit, out).map_err(|error| match error {
                GunzipError::TooLong => UnpackError::TooLong,
                GunzipError::Malformed => UnpackError::Malformed("the body is no gzip".into()),
            })
        }),
        Encoding::Zstd => {
            let malformed =
                |error: std::io::Error| UnpackError::Malformed(format!("the body is no zstd: {error}"));
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(malformed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(malformed)?;
            let begin = out.len();
            decoder.take(limit as u64 + 1).read_to_end(out).map_err(malformed)?;
            if out.len() - begin > limit { Err(UnpackError::TooLong) } else { Ok(()) }
        }
    }
}

thread_local! {
    static GUNZIP: std::cell::RefCell<Gunzip> = std::cell::RefCell::default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_weighed_in_their_order() {
        let all = [ScrapeProtocol::OpenMetricsText1_0_0, ScrapeProtocol::PrometheusText0_0_4];
        let expected = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                        text/plain;version=0.0.4;q=0.5,*/*;q=0.4";
        assert_eq!(accept(&all, Escaping::default()), expected);
    }

    #[test]
    fn a_page_is_what_it_says_or_what_the_configuration_says() {
        let fallback = Some(ScrapeProtocol::PrometheusText0_0_4);
        let proto =
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
        for (header, expected) in [
            ("text/plain; version=0.0.4", Ok(Format::Text)),
            ("Text/Plain", Ok(Format::Text)),
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", Ok(Format::OpenMetrics)),
            (proto, Ok(Format::Protobuf)),
        ] {
            assert_eq!(format(header, None), expected);
        }
        for header in ["", "text/html; charset=utf-8", "application/vnd.google.protobuf; proto=x", "nonsense"]
        {
            assert!(format(header, None).is_err(), "{header}");
            assert_eq!(format(header, fallback), Ok(Format::Text), "{header}");
        }
    }

    #[test]
    fn bombs_of_both_kinds_are_bounded() {
        let text = vec![b'#'; 30 << 20];
        let zstd = zstd::bulk::compress(&text, 3).unwrap();
        let mut out = Vec::new();
        assert_eq!(unpack(Encoding::Zstd, &zstd, 1 << 20, &mut out), Err(UnpackError::TooLong));
        assert!(out.len() <= (1 << 20) + 1);
        out.clear();
        assert_eq!(unpack(Encoding::Zstd, &zstd, 30 << 20, &mut out), Ok(()));
        assert!(out == text);
        let broken = unpack(Encoding::Zstd, b"plain", 100, &mut Vec::new());
        assert!(matches!(broken, Err(UnpackError::Malformed(_))));
        let broken = unpack(Encoding::Gzip, b"plain", 100, &mut Vec::new());
        assert!(matches!(broken, Err(UnpackError::Malformed(_))));
    }
}
